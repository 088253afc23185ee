// What a program may ask about one block and for the whole heap: usable sizes, trimming, mallopt.
//
// Contexts. As malloc; malloc_trim does system calls and waits for locks.
// Kernel.   malloc_usable_size is ksize: all of it may be used.
// Tests.    tests/unit/face_malloc/malloc_test.cpp, tuning_test.cpp
#include <malloc.h>

#include "face_malloc/face_malloc.hpp"

extern "C" {

KMEM_EXPORT size_t malloc_usable_size(void* p) noexcept {
  if (p == nullptr) return 0;
  kmem::machine* const m = kmem::serving();
  return m != nullptr ? kmem::ksize(*m, p) : 0;
}

/// Gives free pages that the system has backed back to it, all but `keep` bytes of them, less at most a page block. Return: 1 if something
/// was given back.
KMEM_EXPORT int malloc_trim(size_t keep) noexcept {
  kmem::machine* const m = kmem::serving();
  if (m == nullptr) return 0;
  (void)kmem::drain_caches(*m, true);
  (void)kmem::drain_cpu_pages(*m, true);
  uint64_t backed = 0;
  for (const kmem::zone& z : m->zones) backed += z.present_free.load_relaxed();
  const uint64_t kept = kmem::pages_for(keep).raw();
  return backed > kept && kmem::give_back(*m, backed - kept, true) != 0 ? 1 : 0;
}

/// Nothing of the C library's heap that could be set exists here. Return: 1 if what is asked for is what happens anyway, else 0.
KMEM_EXPORT int mallopt(int parameter, int value) noexcept {
  switch (parameter) {
    case M_MMAP_MAX:
      return value == 0;  // no block is a mapping of its own
    case M_ARENA_MAX:
      return value == 1;  // all threads share one heap
    case M_PERTURB:
      return value == 0;  // memory is not filled when it is handed out or freed
    default:
      return 0;
  }
}

}  // extern "C"
