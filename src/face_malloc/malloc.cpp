// malloc, free and what is called as often, for programs that know nothing of kmem.
//
// Rights.   Every call allocates with GFP_KERNEL | __GFP_NOWARN: it may reclaim and wait, and says nothing when it returns NULL with
//           ENOMEM; the C library's callers know what that means. A thread that was told so gets small blocks of the reserve, to unwind.
// States.   Requests above kmalloc's limit are runs of pages; what kind a pointer is, its page says, so free needs no size and a sized
//           free is a free.
// Contexts. Any thread, before constructors, inside ld.so's start-up, in destructors and after fork. free keeps errno.
// C++.      operator new and delete stay those of the program's run time, which stand on these: docs/decisions/0040-*.md
// Kernel.   malloc(0) is a unique pointer, as programs expect, not ZERO_SIZE_PTR.
// Tests.    tests/unit/face_malloc/, tests/programs/preload_*
#include "face_malloc/face_malloc.hpp"

namespace kmem {
namespace {

/// Programs under this face have no contexts of the library's in which a request that may block would be wrong: nothing is to be asked.
KMEM_ALWAYS_INLINE void* obtain_at_once(size_t size) noexcept {
  return KMEM_LIKELY(is_serving() && !fail_points_armed()) ? alloc_at_once(process.object, size) : nullptr;
}

__attribute__((noinline)) void* obtain_otherwise(size_t size, gfp_t gfp) noexcept { return allocate(size, 1, gfp); }

__attribute__((noinline)) void release_otherwise(void* p) noexcept {
  machine* const m = p != nullptr ? serving() : nullptr;
  if (m != nullptr) kfree_beyond_arrays(*m, p);
}

KMEM_ALWAYS_INLINE void release(void* p) noexcept {
  if (KMEM_UNLIKELY(!is_serving() || !free_at_once(process.object, p))) release_otherwise(p);
}

void* reallocate(void* old, size_t size) noexcept {
  if (old == nullptr) return allocate(size, 1, malloc_gfp);
  machine* const m = serving();
  if (m == nullptr || size > largest_request) return out_of_memory();
  if (size == 0) {  // as the C library does: free, and no new memory
    kfree(*m, old);
    return nullptr;
  }
  return or_for_unwinding(size, krealloc_huge(*m, old, size, malloc_gfp),
                          [=] { return krealloc_huge(*m, old, size, malloc_gfp | gfp::high); });
}

}  // namespace
}  // namespace kmem

extern "C" {

// What no header of the C library declares.
KMEM_EXPORT void free_sized(void* p, size_t size) noexcept;
KMEM_EXPORT void free_aligned_sized(void* p, size_t align, size_t size) noexcept;
KMEM_EXPORT void cfree(void* p) noexcept;

KMEM_EXPORT void* malloc(size_t size) noexcept {
  void* const object = kmem::obtain_at_once(size);
  return KMEM_LIKELY(object != nullptr) ? object : kmem::obtain_otherwise(size, kmem::malloc_gfp);
}

KMEM_EXPORT void free(void* p) noexcept { kmem::release(p); }

KMEM_EXPORT void* calloc(size_t n, size_t size) noexcept {
  size_t total = 0;
  if (KMEM_UNLIKELY(__builtin_mul_overflow(n, size, &total))) return kmem::out_of_memory();
  void* const object = kmem::obtain_at_once(total);
  if (KMEM_LIKELY(object != nullptr)) return __builtin_memset(object, 0, total);
  return kmem::obtain_otherwise(total, kmem::malloc_gfp | kmem::gfp::zero);
}

KMEM_EXPORT void* realloc(void* old, size_t size) noexcept { return kmem::reallocate(old, size); }

KMEM_EXPORT void* reallocarray(void* old, size_t n, size_t size) noexcept {
  size_t total = 0;
  if (__builtin_mul_overflow(n, size, &total)) return kmem::out_of_memory();
  return kmem::reallocate(old, total);
}

/// C23. The sizes are what the caller asked for, and are not needed.
void free_sized(void* p, size_t) noexcept { kmem::release(p); }
void free_aligned_sized(void* p, size_t, size_t) noexcept { kmem::release(p); }

/// For programs from before glibc 2.26, which has kept it for them.
void cfree(void* p) noexcept { kmem::release(p); }

}  // extern "C"
