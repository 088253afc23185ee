// Memory with an alignment: the functions of POSIX, C and older systems.
//
// Limits.   Alignments above 4 MiB, the arena's own, are refused with ENOMEM.
// Contexts. As malloc.
// Kernel.   None of these.
// Tests.    tests/unit/face_malloc/malloc_test.cpp, tests/programs/preload_interface.py
#include "face_malloc/face_malloc.hpp"

extern "C" {

KMEM_EXPORT int posix_memalign(void** result, size_t align, size_t size) noexcept {
  if (!kmem::is_power_of_two(align) || align % sizeof(void*) != 0) return EINVAL;
  const int before = errno;
  void* const p = kmem::allocate(size, align, kmem::malloc_gfp);
  errno = before;  // the result says it, not errno
  if (p == nullptr) return ENOMEM;
  *result = p;
  return 0;
}

/// As C17 has it: any size, alignments that the implementation does not support are refused.
KMEM_EXPORT void* aligned_alloc(size_t align, size_t size) noexcept {
  return kmem::is_power_of_two(align) ? kmem::allocate(size, align, kmem::malloc_gfp) : kmem::invalid();
}

/// As the C library has it: any alignment, rounded up to a power of two.
KMEM_EXPORT void* memalign(size_t align, size_t size) noexcept {
  size_t power = 1;
  while (power < align && power <= kmem::largest_request) power *= 2;
  return power < align ? kmem::invalid() : kmem::allocate(size, power, kmem::malloc_gfp);
}

KMEM_EXPORT void* valloc(size_t size) noexcept { return kmem::allocate(size, kmem::page_size, kmem::malloc_gfp); }

KMEM_EXPORT void* pvalloc(size_t size) noexcept {
  if (size > kmem::largest_request) return kmem::out_of_memory();
  return kmem::allocate(size == 0 ? kmem::page_size : kmem::round_up(size, kmem::page_size), kmem::page_size, kmem::malloc_gfp);
}

}  // extern "C"
