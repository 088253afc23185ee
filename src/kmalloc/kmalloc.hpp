// Front header of the layer `kmalloc`: size classes and the kmalloc family over slabs and page runs.
#pragma once
#include "kmalloc/size_class.hpp"
#include "slab/slab.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

/// Kinds of kmalloc caches, as in the kernel: ordinary, reclaimable, DMA. The latter two are made at first use.
enum class kmalloc_type : uint8_t { normal, reclaimable, dma };
inline constexpr unsigned nr_kmalloc_types = 3;

struct kmalloc_allocator : slab_allocator {
  kmem_cache kmalloc_caches[nr_size_classes];                       // ids 1 .. nr_size_classes
  atomic<kmem_cache*> other_caches[nr_kmalloc_types - 1][nr_size_classes];
  uint64_t kmalloc_max_bytes = 0;                                   // kmalloc fails beyond this (kmalloc_max=)
  uint64_t class_max_bytes = 0;                                     // what a class may serve: the smaller of size_class_max and that
  uint64_t at_once_max_bytes = 0;                                   // likewise of small_class_max
};

/// An object of the class for `size` from this CPU's array: the whole of an allocation in most cases. The caller answers for what the mask
/// asks of the context. Context: any. Return: nullptr when it is not that easy, which says nothing about the request.
KMEM_ALWAYS_INLINE void* alloc_at_once(kmalloc_allocator& ka, size_t size) noexcept {
  if (KMEM_UNLIKELY(size > ka.at_once_max_bytes)) return nullptr;
  return array_pop(ka.regions, detail::small_class_table[(size + 7) >> 3]);  // class 0, for no bytes, has no objects
}

err kmalloc_init(kmalloc_allocator& ka) noexcept;   // after slab_init
void kmalloc_destroy(kmalloc_allocator& ka) noexcept;

/// What kmalloc(0) returns: a pointer that kfree takes and that must not be read.
inline void* const zero_size_ptr = reinterpret_cast<void*>(16);
inline bool is_zero_or_null(const void* p) noexcept { return reinterpret_cast<uintptr_t>(p) <= 16; }

/// `size` bytes, naturally aligned when `size` is a power of two, else to 16 (8 up to 8 bytes). Context: any, if `gfp` does not block.
/// Return: memory, zero_size_ptr for 0, nullptr when too large or exhausted.
void* kmalloc(kmalloc_allocator& ka, size_t size, gfp_t gfp) noexcept;
/// What kmalloc does when alloc_at_once() has nothing, all checks included.
void* kmalloc_beyond_arrays(kmalloc_allocator& ka, size_t size, gfp_t gfp) noexcept;
/// The same with an alignment (a power of two). Return: as kmalloc, but aligned memory for 0 where zero_size_ptr is not aligned enough;
/// nullptr, with a warning, for alignments above span_step_bytes.
void* kmalloc_aligned(kmalloc_allocator& ka, size_t size, size_t align, gfp_t gfp) noexcept;
/// The same for who has something else to try: a failure leaves no record and no report.
void* kmalloc_quietly(kmalloc_allocator& ka, size_t size, size_t align, gfp_t gfp) noexcept;
/// The same as kmalloc_aligned without the limit of kmalloc_max: any size that the machine has room for. For the malloc face.
void* kmalloc_huge(kmalloc_allocator& ka, size_t size, size_t align, gfp_t gfp) noexcept;
/// A new size. In place when it fits and wastes no more than half, or when the pages behind a run are free; else a copy. Context: as
/// kmalloc. Return: as kmalloc; on nullptr `old` is as before. Shrinking never fails. 0 frees and gives zero_size_ptr.
void* krealloc(kmalloc_allocator& ka, const void* old, size_t size, gfp_t gfp) noexcept;
/// The same for who has something else to try: a failure leaves no record and no report.
void* krealloc_quietly(kmalloc_allocator& ka, const void* old, size_t size, gfp_t gfp) noexcept;
/// krealloc without the limit of kmalloc_max.
void* krealloc_huge(kmalloc_allocator& ka, const void* old, size_t size, gfp_t gfp) noexcept;
/// Frees what kmalloc, krealloc or kmem_cache_alloc gave. nullptr and zero_size_ptr are fine. Anything else: a report, and nothing is
/// freed. Context: any.
void kfree(kmalloc_allocator& ka, const void* p) noexcept;
/// What kfree does when free_at_once() did not, all checks included.
void kfree_beyond_arrays(kmalloc_allocator& ka, const void* p) noexcept;
/// The bytes that may be used: the class size or whole pages. 0 for NULL, zero_size_ptr, and where no allocation begins.
size_t ksize(kmalloc_allocator& ka, const void* p) noexcept;
/// Clears the whole object first, in a way that is not optimised away.
void kfree_sensitive(kmalloc_allocator& ka, const void* p) noexcept;

/// Bytes that an allocation of `size` really takes (kmalloc_size_roundup).
size_t kmalloc_size_roundup(size_t size) noexcept;

}  // inline namespace
}  // namespace kmem
