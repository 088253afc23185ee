// Front header of the layer `slab`: kmem_caches, their slabs and barns, and the per-CPU object arrays in front of them.
//
// An object is in exactly one place: handed out, in a CPU's array, in a sheaf of the barn, on the deferred list, or free in its slab
// (its bit of the bitmap in the head page's descriptor is set). Slabs are power-of-two pages and naturally aligned, so
//     head = pfn & ~(pages_per_slab - 1),  index = ((offset * magic) >> 32)
// and a free object is never read or written.
#pragma once
#include "slab/cpu_array.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

/// Flags of kmem_cache_create; values of Linux 6.1 where it has them.
enum class slab_flags_t : uint32_t {
  none = 0,
  hwcache_align = 0x2000,      // SLAB_HWCACHE_ALIGN: objects start on cache lines
  cache_dma = 0x4000,          // SLAB_CACHE_DMA: slabs from the DMA zone
  cache_dma32 = 0x8000,        // SLAB_CACHE_DMA32
  reclaim_account = 0x20000,   // SLAB_RECLAIM_ACCOUNT: objects are reclaimable
  panic = 0x40000,             // SLAB_PANIC: failing to create the cache is fatal
  no_merge = 0x1000000,        // SLAB_NO_MERGE: a cache of its own
};
constexpr slab_flags_t operator|(slab_flags_t a, slab_flags_t b) { return slab_flags_t(uint32_t(a) | uint32_t(b)); }
constexpr bool has(slab_flags_t set, slab_flags_t any_of) { return (uint32_t(set) & uint32_t(any_of)) != 0; }

using constructor_t = void (*)(void* object) noexcept;

inline constexpr unsigned nr_slab_buckets = 8;       // partial slabs by how full they are, fullest first
inline constexpr unsigned barn_sheaves = 8;          // measured: slabs.md section 2
inline constexpr unsigned sheaf_objects_max = 64;
inline constexpr size_t batch_bytes_max = 16 * 1024; // a batch is 64 objects, or this many bytes
inline constexpr unsigned max_caches = 4096;

/// A batch of objects on its way between arrays and slabs.
struct sheaf {
  sheaf* next;
  uint32_t nr_objects;
  uint32_t unused_;
  void* objects[sheaf_objects_max - 2];
};
static_assert(sizeof(sheaf) == 512);

struct cache_stats {
  atomic<uint64_t> refills{0}, flushes{0}, barn_hits{0}, slabs_made{0}, slabs_freed{0}, failures{0};
};

struct kmem_cache {
  // Read on every call; written at creation.
  uint32_t size = 0;              // bytes from one object to the next
  uint32_t magic = 0;             // ceil(2^32 / size)
  uint16_t id = 0;                // 0: slot unused
  uint16_t capacity = 0;          // objects a slab
  uint8_t slab_order = 0;
  uint8_t class_byte = 0;         // in the class map: id, or 255 when the cache has no arrays
  uint16_t batch = 0;             // objects a refill or flush moves
  uint32_t object_size = 0;       // bytes the user asked for
  uint32_t align = 0;
  slab_flags_t flags = slab_flags_t::none;
  gfp_t slab_gfp = gfp::none;     // added to every slab's allocation (DMA, RECLAIMABLE)
  constructor_t constructor = nullptr;
  char name[32] = {};
  uint32_t references = 0;        // aliases by merging; under the cache list lock

  ranked_lock barn_lock{lock_rank::barn};
  sheaf* barn KMEM_GUARDED_BY(barn_lock) = nullptr;
  uint32_t nr_barn KMEM_GUARDED_BY(barn_lock) = 0;

  alignas(arch::cache_line_bytes) ranked_lock lock{lock_rank::cache};
  pfn_t partial[nr_slab_buckets + 1] KMEM_GUARDED_BY(lock) = {};  // heads of slabs with free objects; last: wholly free
  uint64_t nr_slabs KMEM_GUARDED_BY(lock) = 0;
  uint64_t nr_free KMEM_GUARDED_BY(lock) = 0;                     // free objects in slabs
  uint32_t nr_empty KMEM_GUARDED_BY(lock) = 0;                    // wholly free slabs kept
  atomic<uint64_t> deferred{0};                                   // objects freed where no lock could be taken; a list through the objects
  cache_stats stats;
};

struct slab_allocator : page_allocator {
  char* arrays_base = nullptr;     // region of CPU 0
  cpu_slot* cpu_slots = nullptr;   // [nr_cpus]
  kmem_cache* caches[max_caches] = {};   // by id; written under cache_list_lock, entries live until destroyed
  uint32_t nr_caches = 0;
  ranked_lock cache_list_lock{lock_rank::cache_list};
  kmem_cache cache_cache;          // kmem_caches of users come from here
  kmem_cache sheaf_cache;          // sheaves of the barns
};

err slab_init(slab_allocator& sa) noexcept;   // after page_alloc_init
void slab_destroy(slab_allocator& sa) noexcept;

struct cache_args {
  const char* name = "";
  size_t object_size = 0;
  size_t align = 0;
  slab_flags_t flags = slab_flags_t::none;
  constructor_t constructor = nullptr;
  gfp_t slab_gfp = gfp::none;
  bool exact_class = false;     // a kmalloc class: slab order and id are given
  uint8_t slab_order = 0;
  uint16_t id = 0;
};
/// Makes a cache, or finds one to merge with (same size, alignment and flags, no constructor, no NO_MERGE). Context: may sleep. Return:
/// nullptr when the arguments are wrong (a message says why) or memory is short; fatal with SLAB_PANIC.
kmem_cache* cache_create(slab_allocator& sa, const cache_args& args) noexcept;
/// The same in storage of the caller's (kmalloc classes, boot caches).
err cache_init(slab_allocator& sa, kmem_cache& cache, const cache_args& args) noexcept;
/// Drops a reference; the last one frees the cache. Objects still out: a report "objects remaining", and the cache is kept. Context: may sleep.
err cache_destroy(slab_allocator& sa, kmem_cache* cache) noexcept;
/// Gives back every slab that can be emptied. Context: may sleep. Return: pages freed.
uint64_t cache_shrink(slab_allocator& sa, kmem_cache& cache) noexcept;

/// One object. `gfp` with the chain's rights. Context: any, if `gfp` does not block. Return: the object, or nullptr.
void* cache_alloc(slab_allocator& sa, kmem_cache& cache, gfp_t gfp) noexcept;
/// Gives an object back. Wrong cache, foreign or doubly freed pointers: a report, and nothing is freed. Context: any.
void cache_free(slab_allocator& sa, kmem_cache& cache, void* object) noexcept;
/// All or nothing (kmem_cache_alloc_bulk). Return: n, or 0.
size_t cache_alloc_bulk(slab_allocator& sa, kmem_cache& cache, gfp_t gfp, size_t n, void** objects) noexcept;
void cache_free_bulk(slab_allocator& sa, kmem_cache& cache, size_t n, void** objects) noexcept;
/// A free object that is at hand (arrays of this CPU, barn, partial slabs) without asking for pages. Context: any. For "a larger class".
void* cache_alloc_at_hand(slab_allocator& sa, kmem_cache& cache) noexcept;

/// The cache of the slab that `object` lies in, or nullptr. Context: any.
kmem_cache* cache_of(slab_allocator& sa, const void* object) noexcept;
/// Is `object` the start of an object of its slab, and handed out as far as the bitmap knows?
bool object_is_valid(slab_allocator& sa, const kmem_cache& cache, const void* object) noexcept;

/// Empties arrays (every CPU's; may_wait false: those whose lock is free), barns and deferred lists into the slabs and frees empty slabs.
/// Return: pages freed.
uint64_t drain_caches(slab_allocator& sa, bool may_wait) noexcept;

struct cache_info {
  char name[32];
  uint32_t object_size, size, align, objects_per_slab, pages_per_slab;
  uint64_t active, total, slabs, partial_slabs, in_arrays, in_barn;   // active: handed out
};
/// The i-th living cache. Return: false past the last.
bool read_cache_info(slab_allocator& sa, unsigned index, cache_info& result) noexcept;

/// Walks all caches, slabs, arrays and barns under their locks. Return: nullptr, or what is wrong.
const char* slab_is_valid(slab_allocator& sa) noexcept;
void slab_fork_prepare(slab_allocator& sa) noexcept;
void slab_fork_parent(slab_allocator& sa) noexcept;
void slab_fork_child(slab_allocator& sa) noexcept;

}  // inline namespace
}  // namespace kmem
