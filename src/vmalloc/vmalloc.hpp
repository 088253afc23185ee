// Front header of the layer `vmalloc`: memory that is contiguous only as addresses, with guard pages around it.
//
// Anonymous machine: an area is a mapping of its own, charged page by page to NORMAL or HIGHMEM (a private anonymous page cannot have a
// second address). memfd machine: an area maps frames of the arena, as the kernel does.
#pragma once
#include "kmalloc/kmalloc.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
struct vmap_area {
  char* begin;  // usable bytes start here; a guard page lies before and behind
  uint64_t nr_pages;
  uint64_t table_pages;     // page tables
  int table_zone;           // charged to this zone; -1: as metadata
  int zone;                 // charged zone; -1: frames of the arena
  page** frames;            // memfd machines: [nr_pages]
  vmap_area *left, *right;  // tree by address
  uint32_t priority;        // of the treap: no child has a higher one
  const void* caller;
  uint64_t size;  // bytes asked for
};

/// A lock over fork(): taken by prepare, unless a handler forks that interrupted its holder on this thread; released by parent; free in
/// the
/// child. Debug builds do not count it as held in between, since fork takes the locks of the layers one after the other.
struct fork_lock {
  bool held = false;
};
void fork_prepare(ranked_lock& lock, fork_lock& state) noexcept;
void fork_parent(ranked_lock& lock, fork_lock& state) noexcept;
void fork_child(ranked_lock& lock, fork_lock& state) noexcept;

struct vmalloc_allocator : kmalloc_allocator {
  ranked_lock vmalloc_lock{lock_rank::vmalloc};
  fork_lock vmalloc_fork;
  vmap_area* areas KMEM_GUARDED_BY(vmalloc_lock) = nullptr;
  uint64_t area_numbers KMEM_GUARDED_BY(vmalloc_lock) = 0;  // areas made so far: the source of their priorities
  kmem_cache vmap_cache;
  atomic<uint64_t> vmalloc_pages{0};
  atomic<char*> vfree_deferred{nullptr};          // areas freed where nobody may sleep; linked through their first bytes
  rate_limit vmalloc_reports{5'000'000'000, 10};  // the kernel's default: 10 in 5 s
};

err vmalloc_init(vmalloc_allocator& va) noexcept;
void vmalloc_destroy(vmalloc_allocator& va) noexcept;

/// Page-aligned memory of `size` bytes, contiguous as addresses. `caller`: shown by reports.
/// Context: may sleep; atomic context is reported whatever `gfp` says, as in the kernel.
/// Return: the memory, nullptr for 0 (with a warning) or when exhausted.
[[nodiscard]] void* vmalloc(vmalloc_allocator& va, size_t size, gfp_t gfp, const void* caller) noexcept;
/// Frees what vmalloc returned; nullptr is fine, any other address a report.
/// Context: may sleep; in a context that may not, the area is queued and freed by the next call that may.
void vfree(vmalloc_allocator& va, const void* p) noexcept;
/// Does `p` point into a vmalloc area? Context: any; a handler that interrupted another vmalloc call is told "not in the arena", which is
/// the same for every pointer of this library.
[[nodiscard]] bool is_vmalloc_addr(vmalloc_allocator& va, const void* p) noexcept;
/// Usable bytes of the area that begins at `p`. Return: 0 if there is none.
[[nodiscard]] size_t vmalloc_size(vmalloc_allocator& va, const void* p) noexcept;
/// Frees the queued areas. Context: may sleep. Return: pages freed.
uint64_t drain_deferred_vfree(vmalloc_allocator& va) noexcept;

/// kmalloc first (without its last efforts for more than a page), then vmalloc if `gfp` may block. Context: as kmalloc.
[[nodiscard]] void* kvmalloc(vmalloc_allocator& va, size_t size, gfp_t gfp, const void* caller) noexcept;
/// Keeps the contents up to the smaller size. Return: nullptr, and `old` untouched, when exhausted; zero_size_ptr for 0.
[[nodiscard]] void* kvrealloc(vmalloc_allocator& va, const void* old, size_t size, gfp_t gfp, const void* caller) noexcept;
void kvfree(vmalloc_allocator& va, const void* p) noexcept;
[[nodiscard]] size_t kvsize(vmalloc_allocator& va, const void* p) noexcept;

struct vmap_info {
  const void* begin;
  uint64_t size_bytes;  // asked for
  uint64_t nr_pages;
  bool frames;  // frames of the arena
  const void* caller;
};
/// The first area at or above an address. Return: false when there is none.
bool read_vmap_info(vmalloc_allocator& va, const void* from, vmap_info& result) noexcept;

const char* vmalloc_is_valid(vmalloc_allocator& va) noexcept;
void vmalloc_fork_prepare(vmalloc_allocator& va) noexcept;
void vmalloc_fork_parent(vmalloc_allocator& va) noexcept;
void vmalloc_fork_child(vmalloc_allocator& va) noexcept;

}  // inline namespace
}  // namespace kmem
