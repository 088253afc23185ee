// Front header of the layer `vmalloc`: memory that is contiguous only as addresses, with guard pages around it.
//
// Anonymous machine: an area is a mapping of its own, charged page by page to NORMAL or HIGHMEM (a private anonymous page cannot have a
// second address). memfd machine: an area maps frames of the arena, as the kernel does.
#pragma once
#include "kmalloc/kmalloc.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

struct vmap_area {
  char* begin;            // usable bytes start here; a guard page lies before and behind
  uint64_t nr_pages;
  int zone;               // charged zone; -1: frames of the arena
  page** frames;          // memfd machines: [nr_pages]
  vmap_area *left, *right;  // tree by address
  uint32_t priority;
  const void* caller;
  uint64_t size;          // bytes asked for
};

struct vmalloc_allocator : kmalloc_allocator {
  ranked_lock vmalloc_lock{lock_rank::vmalloc};
  vmap_area* areas KMEM_GUARDED_BY(vmalloc_lock) = nullptr;
  kmem_cache vmap_cache;
  atomic<uint64_t> vmalloc_pages{0};
};

err vmalloc_init(vmalloc_allocator& va) noexcept;
void vmalloc_destroy(vmalloc_allocator& va) noexcept;

/// Context: may sleep; atomic context is reported whatever `gfp` says, as in the kernel. Return: page-aligned memory, nullptr for 0 (with a warning) or when exhausted.
void* vmalloc(vmalloc_allocator& va, size_t size, gfp_t gfp, const void* caller) noexcept;
/// Context: may sleep; in a context that may not, the area is queued and freed by the next call that may. nullptr is fine.
void vfree(vmalloc_allocator& va, const void* p) noexcept;
bool is_vmalloc_addr(vmalloc_allocator& va, const void* p) noexcept;
size_t vmalloc_size(vmalloc_allocator& va, const void* p) noexcept;

/// kmalloc first (without its last efforts for large sizes), then vmalloc if `gfp` may block.
void* kvmalloc(vmalloc_allocator& va, size_t size, gfp_t gfp, const void* caller) noexcept;
void* kvrealloc(vmalloc_allocator& va, const void* old, size_t size, gfp_t gfp, const void* caller) noexcept;
void kvfree(vmalloc_allocator& va, const void* p) noexcept;
size_t kvsize(vmalloc_allocator& va, const void* p) noexcept;

const char* vmalloc_is_valid(vmalloc_allocator& va) noexcept;
void vmalloc_fork_prepare(vmalloc_allocator& va) noexcept;
void vmalloc_fork_parent(vmalloc_allocator& va) noexcept;
void vmalloc_fork_child(vmalloc_allocator& va) noexcept;

}  // inline namespace
}  // namespace kmem
