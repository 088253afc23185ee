// The C++ API: the Linux kernel's allocator for an ordinary process.
//
//     void* p = kmem::kmalloc(100, kmem::gfp::kernel);     // may sleep and reclaim; nullptr when the budget is exhausted
//     void* q = kmem::kmalloc<kmem::gfp::atomic>(100);     // the mask is checked when this is compiled
//     kmem::kfree(p);
//
// Everything that a mask may do is decided by the mask: "Context: as the mask" below means any context if the mask does not block
// (may_block), and process context otherwise: in atomic context a blocking mask is reported as "BUG: sleeping function called from
// invalid context". Nothing here throws. Sizes are in bytes unless a name says otherwise.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <kmem/context.hpp>
#include <kmem/gfp.hpp>

namespace kmem {

// Types that are only handled by pointer. The inline namespace names the build of the core that they belong to.
inline namespace real {
struct kmem_cache;
struct page;
}  // namespace real

// ---- start ------------------------------------------------------------------------------------------------------------------

/// Starts the allocator with parameters in the form "mem=64M vm.min_free_kbytes=512" (nullptr: the defaults), instead of KMEM_CMDLINE,
/// which is read at the first use otherwise. Context: process, before the first allocation. Return: false, with the reason as text in
/// `error` (truncated to `error_capacity`, NUL-terminated; may be nullptr with 0), when a parameter is wrong, the system gives no memory,
/// or it is serving already. In the child of a fork with backing=memfd, where allocations fail since the memory is the parent's as well, it
/// makes a machine of the child's own; nothing from before may be given to it.
[[nodiscard]] KMEM_EXPORT bool init(const char* cmdline, char* error, size_t error_capacity) noexcept;

// ---- masks that are checked when they are compiled ----------------------------------------------------------------------------

namespace detail {
template <gfp_t G>
consteval bool check_mask() noexcept {
  static_assert((G & ~gfp::known_bits) == gfp::none, "this mask has bits that are no GFP flags");
  static_assert(!has(G, gfp::nofail) || has(G, gfp::direct_reclaim), "gfp::nofail needs gfp::direct_reclaim: who may not wait may fail");
  static_assert(!has(G, gfp::nofail) || !has(G, gfp::noretry), "gfp::nofail with gfp::noretry: never give up, and give up at once");
  static_assert(!has(G, gfp::dma) || !has(G, gfp::highmem_bit), "gfp::dma with gfp::highmem_bit: no page is in both zones");
  static_assert(!has(G, gfp::dma) || !has(G, gfp::dma32), "gfp::dma with gfp::dma32: name one zone");
  static_assert(!has(G, gfp::dma32) || !has(G, gfp::highmem_bit), "gfp::dma32 with gfp::highmem_bit: no page is in both zones");
  return true;
}
}  // namespace detail

// ---- kmalloc ------------------------------------------------------------------------------------------------------------------

/// `size` bytes that are contiguous, not cleared, aligned to `size` if that is a power of two and to 16 (8 up to 8 bytes) otherwise.
/// Context: as the mask. Return: the memory; a pointer that only kfree takes for 0 bytes; nullptr when exhausted or beyond kmalloc_max=.
[[nodiscard]] KMEM_EXPORT void* kmalloc(size_t size, gfp_t gfp) noexcept;
/// The same with a mask that is checked at compile time: one that may sleep is refused by clang in atomic context (-Wthread-safety).
template <gfp_t G>
requires(may_block(G)) [[nodiscard]] inline void* kmalloc(size_t size) noexcept KMEM_EXCLUDES(atomic_context) {
  static_assert(detail::check_mask<G>());
  return kmalloc(size, G);
}
template <gfp_t G>
requires(!may_block(G)) [[nodiscard]] inline void* kmalloc(size_t size) noexcept {
  static_assert(detail::check_mask<G>());
  return kmalloc(size, G);
}
/// With an alignment of your own, a power of two of at most 4 MiB, in bytes. Context: as the mask. Return: as kmalloc, but memory of its
/// own for no bytes if the alignment is more than 16; nullptr for another alignment.
[[nodiscard]] KMEM_EXPORT void* kmalloc_aligned(size_t size, size_t align, gfp_t gfp) noexcept;
/// Cleared memory. Context: as the mask. Return: as kmalloc.
[[nodiscard]] inline void* kzalloc(size_t size, gfp_t gfp) noexcept { return kmalloc(size, gfp | gfp::zero); }
/// An array of `n` elements of `size` bytes. Context: as the mask. Return: as kmalloc; nullptr when n * size overflows.
[[nodiscard]] KMEM_EXPORT void* kmalloc_array(size_t n, size_t size, gfp_t gfp) noexcept;
/// The same, cleared. Context: as the mask. Return: as kmalloc_array.
[[nodiscard]] inline void* kcalloc(size_t n, size_t size, gfp_t gfp) noexcept { return kmalloc_array(n, size, gfp | gfp::zero); }
/// Changes the size of an allocation, which may move; the contents are kept up to the smaller size. Context: as the mask.
/// Return: the memory, to be used instead of `old`; nullptr, and `old` as it was, when exhausted; for size 0 `old` is freed.
[[nodiscard]] KMEM_EXPORT void* krealloc(const void* old, size_t size, gfp_t gfp) noexcept;
/// krealloc to an array. Context: as the mask. Return: as krealloc; nullptr, and `old` as it was, when n * size overflows.
[[nodiscard]] KMEM_EXPORT void* krealloc_array(const void* old, size_t n, size_t size, gfp_t gfp) noexcept;
/// Frees what the functions above and below returned; nullptr is fine. A pointer that is none of them is reported and nothing is freed.
/// Context: any. errno stays.
KMEM_EXPORT void kfree(const void* p) noexcept;
/// Clears the memory first, for keys and passwords. Context: any.
KMEM_EXPORT void kfree_sensitive(const void* p) noexcept;
/// Bytes that may be used at `p`, at least what was asked for. Context: any. Return: 0 for nullptr, and where no allocation begins.
[[nodiscard]] KMEM_EXPORT size_t ksize(const void* p) noexcept;
/// Bytes that kmalloc(size) really takes. Context: any.
[[nodiscard]] KMEM_EXPORT size_t kmalloc_size_roundup(size_t size) noexcept;
/// A copy of `size` bytes. Context: as the mask. Return: nullptr when exhausted.
[[nodiscard]] KMEM_EXPORT void* kmemdup(const void* source, size_t size, gfp_t gfp) noexcept;
/// A copy of a string. Context: as the mask. Return: nullptr when exhausted, and for nullptr.
[[nodiscard]] KMEM_EXPORT char* kstrdup(const char* text, gfp_t gfp) noexcept;
/// A copy of at most `max` characters of a string, NUL-terminated. Context: as the mask. Return: as kstrdup.
[[nodiscard]] KMEM_EXPORT char* kstrndup(const char* text, size_t max, gfp_t gfp) noexcept;

// ---- caches of equal objects ----------------------------------------------------------------------------------------------------

/// Values of Linux 6.1.
enum class cache_flags : uint32_t {
  none = 0,
  hwcache_align = 0x2000,     // SLAB_HWCACHE_ALIGN: objects start on cache lines
  cache_dma = 0x4000,         // SLAB_CACHE_DMA: slabs from the DMA zone
  cache_dma32 = 0x8000,       // SLAB_CACHE_DMA32
  reclaim_account = 0x20000,  // SLAB_RECLAIM_ACCOUNT: a shrinker can free the objects
  panic = 0x40000,            // SLAB_PANIC: it is fatal if the cache cannot be made
  no_merge = 0x1000000,       // SLAB_NO_MERGE: no slabs shared with a cache of the same shape
};
constexpr cache_flags operator|(cache_flags a, cache_flags b) noexcept {
  return cache_flags(static_cast<uint32_t>(a) | static_cast<uint32_t>(b));
}
constexpr cache_flags operator&(cache_flags a, cache_flags b) noexcept {
  return cache_flags(static_cast<uint32_t>(a) & static_cast<uint32_t>(b));
}

/// A cache of objects of `size` bytes. `align`: a power of two, or 0. `constructor` runs once for each object when its slab is made, so
/// objects must be freed in the state it leaves them in. Context: process. Return: nullptr when an argument is wrong (reported) or memory
/// is short.
[[nodiscard]] KMEM_EXPORT kmem_cache* kmem_cache_create(const char* name, size_t size, size_t align, cache_flags flags,
                                                        void (*constructor)(void* object) noexcept = nullptr) noexcept;
/// Ends a cache; nullptr is fine. Objects that are still out are reported, and the cache is kept. Context: process.
KMEM_EXPORT void kmem_cache_destroy(kmem_cache* cache) noexcept KMEM_EXCLUDES(atomic_context);
/// One object. Context: as the mask. Return: nullptr when exhausted.
[[nodiscard]] KMEM_EXPORT void* kmem_cache_alloc(kmem_cache* cache, gfp_t gfp) noexcept;
/// The same with the mask checked at compile time.
template <gfp_t G>
requires(may_block(G)) [[nodiscard]] inline void* kmem_cache_alloc(kmem_cache* cache) noexcept KMEM_EXCLUDES(atomic_context) {
  static_assert(detail::check_mask<G>());
  return kmem_cache_alloc(cache, G);
}
template <gfp_t G>
requires(!may_block(G)) [[nodiscard]] inline void* kmem_cache_alloc(kmem_cache* cache) noexcept {
  static_assert(detail::check_mask<G>());
  return kmem_cache_alloc(cache, G);
}
/// A cleared object; not for caches with a constructor. Context: as the mask. Return: nullptr when exhausted.
[[nodiscard]] inline void* kmem_cache_zalloc(kmem_cache* cache, gfp_t gfp) noexcept { return kmem_cache_alloc(cache, gfp | gfp::zero); }
/// Gives an object back to its cache; nullptr is fine. Context: any.
KMEM_EXPORT void kmem_cache_free(kmem_cache* cache, void* object) noexcept;
/// `n` objects at once, all or nothing. Context: as the mask. Return: n, or 0.
[[nodiscard]] KMEM_EXPORT size_t kmem_cache_alloc_bulk(kmem_cache* cache, gfp_t gfp, size_t n, void** objects) noexcept;
/// Gives `n` objects back. Context: any.
KMEM_EXPORT void kmem_cache_free_bulk(kmem_cache* cache, size_t n, void** objects) noexcept;
/// Gives the slabs back that hold no object. Context: process. Return: pages freed.
KMEM_EXPORT uint64_t kmem_cache_shrink(kmem_cache* cache) noexcept KMEM_EXCLUDES(atomic_context);
/// The size of an object as it was asked for, in bytes. Context: any.
[[nodiscard]] KMEM_EXPORT size_t kmem_cache_size(const kmem_cache* cache) noexcept;

// ---- pages ----------------------------------------------------------------------------------------------------------------------

inline constexpr size_t page_bytes = 4096;

/// 2^order contiguous pages, naturally aligned, with one reference. Context: as the mask. Return: the first page; nullptr when exhausted
/// or for an order of max_order= or more.
[[nodiscard]] KMEM_EXPORT page* alloc_pages(gfp_t gfp, unsigned order) noexcept;
/// Drops a reference; the last one frees. `order` as it was allocated with; nullptr is fine. Context: any.
KMEM_EXPORT void free_pages(page* p, unsigned order) noexcept;
/// Fills the null entries of `pages` with single pages. Context: as the mask. Return: entries that are filled now, from the first on.
[[nodiscard]] KMEM_EXPORT unsigned alloc_pages_bulk(gfp_t gfp, unsigned n, page** pages) noexcept;
/// One more reference. Context: any.
KMEM_EXPORT void get_page(page* p) noexcept;
/// One less; the last one frees the block. Context: any.
KMEM_EXPORT void put_page(page* p) noexcept;
/// References of the block that `p` belongs to. Context: any.
[[nodiscard]] KMEM_EXPORT unsigned page_count(page* p) noexcept;
/// Makes a block of order > 0, not compound, into single pages with a reference each. Context: any.
KMEM_EXPORT void split_page(page* p, unsigned order) noexcept;
/// Where the page is. Context: any.
[[nodiscard]] KMEM_EXPORT void* page_address(const page* p) noexcept;
/// The page that an address is in. Context: any. Return: nullptr for an address that no page of the allocator's has.
[[nodiscard]] KMEM_EXPORT page* virt_to_page(const void* address) noexcept;
/// Its page frame number. Context: any.
[[nodiscard]] KMEM_EXPORT uint64_t page_to_pfn(const page* p) noexcept;
/// The page with a frame number: the pages of a block have consecutive ones. Context: any. Return: nullptr for a number beyond all pages.
[[nodiscard]] KMEM_EXPORT page* pfn_to_page(uint64_t pfn) noexcept;
/// The name of its zone: "DMA", "DMA32", "Normal", "HighMem" or "Movable". Context: any.
[[nodiscard]] KMEM_EXPORT const char* page_zone(const page* p) noexcept;

/// 2^order pages by their address. Context: as the mask. Return: nullptr when exhausted.
[[nodiscard]] KMEM_EXPORT void* get_free_pages(gfp_t gfp, unsigned order) noexcept;
/// One cleared page. Context: as the mask. Return: nullptr when exhausted.
[[nodiscard]] KMEM_EXPORT void* get_zeroed_page(gfp_t gfp) noexcept;
/// Frees what get_free_pages returned; nullptr is fine. Context: any.
KMEM_EXPORT void free_pages_at(void* address, unsigned order) noexcept;
/// As many contiguous pages as `size` bytes need, and no more. Context: as the mask. Return: nullptr when exhausted.
[[nodiscard]] KMEM_EXPORT void* alloc_pages_exact(size_t size, gfp_t gfp) noexcept;
/// `size` as it was allocated with; nullptr is fine. Context: any.
KMEM_EXPORT void free_pages_exact(void* address, size_t size) noexcept;

// ---- memory that is contiguous only as addresses ----------------------------------------------------------------------------------

/// Page-aligned memory between two guard pages, not cleared. Context: process. Return: nullptr when exhausted, and for 0 (with a warning).
[[nodiscard]] KMEM_EXPORT void* vmalloc(size_t size, gfp_t gfp = gfp::kernel) noexcept KMEM_EXCLUDES(atomic_context);
/// The same, cleared.
[[nodiscard]] inline void* vzalloc(size_t size, gfp_t gfp = gfp::kernel) noexcept KMEM_EXCLUDES(atomic_context) {
  return vmalloc(size, gfp | gfp::zero);
}
/// Frees it; nullptr is fine. Context: process; in an interrupt it is queued. Elsewhere in atomic context it is reported, and queued.
KMEM_EXPORT void vfree(const void* p) noexcept;
/// Does `p` point into vmalloc memory? Context: any.
[[nodiscard]] KMEM_EXPORT bool is_vmalloc_addr(const void* p) noexcept;

/// kmalloc if that is easy, else vmalloc if the mask may block. Context: as the mask. Return: nullptr when exhausted.
[[nodiscard]] KMEM_EXPORT void* kvmalloc(size_t size, gfp_t gfp) noexcept;
/// The same, cleared.
[[nodiscard]] inline void* kvzalloc(size_t size, gfp_t gfp) noexcept { return kvmalloc(size, gfp | gfp::zero); }
/// An array. Context: as the mask. Return: as kvmalloc; nullptr when n * size overflows.
[[nodiscard]] KMEM_EXPORT void* kvmalloc_array(size_t n, size_t size, gfp_t gfp) noexcept;
/// The same, cleared.
[[nodiscard]] inline void* kvcalloc(size_t n, size_t size, gfp_t gfp) noexcept { return kvmalloc_array(n, size, gfp | gfp::zero); }
/// As krealloc for kvmalloc memory. Context: as the mask. Return: nullptr, and `old` as it was, when exhausted.
[[nodiscard]] KMEM_EXPORT void* kvrealloc(const void* old, size_t size, gfp_t gfp) noexcept;
/// Frees kmalloc and vmalloc memory alike; nullptr is fine. Context: as kfree or vfree.
KMEM_EXPORT void kvfree(const void* p) noexcept;
/// Bytes that may be used at `p`, of kmalloc or vmalloc memory. Context: any.
[[nodiscard]] KMEM_EXPORT size_t kvsize(const void* p) noexcept;

// ---- the budget -------------------------------------------------------------------------------------------------------------------

/// Bytes of the budget that are neither charged nor metadata: what can still be handed out, give or take rounding and zones. Context: any.
[[nodiscard]] KMEM_EXPORT uint64_t remaining_bytes() noexcept;

}  // namespace kmem
