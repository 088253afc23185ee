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

/// Gives what is free back to the system, all but `keep` bytes of it. Return: 1 if something was given back.
KMEM_EXPORT int malloc_trim(size_t keep) noexcept {
  kmem::machine* const m = kmem::serving();
  if (m == nullptr) return 0;
  const uint64_t free_pages = kmem::free_pages_total(*m), kept = keep >> kmem::page_shift;
  if (free_pages <= kept) return 0;
  (void)kmem::drain_caches(*m, true);
  (void)kmem::drain_cpu_pages(*m, true);
  return kmem::give_back(*m, free_pages - kept, true) != 0 ? 1 : 0;
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
    case M_CHECK_ACTION:
      return value == 1;  // a wrong free is reported and ignored, and the program goes on
    default:
      return 0;
  }
}

}  // extern "C"
