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
inline constexpr unsigned barn_sheaves = 8;          // measured: docs/decisions/0022-barn-of-copied-batches.md
inline constexpr unsigned sheaf_objects_max = 64;
inline constexpr unsigned batch_objects_max = 64;
inline constexpr size_t batch_bytes_max = 16 * 1024; // a batch is 64 objects, or this many bytes
inline constexpr size_t barn_bytes_max = 64 * 1024;  // objects in a barn are worth at most this
inline constexpr unsigned max_caches = 4096;
inline constexpr uint16_t first_cache_id = 96;       // ids below are for kmalloc's classes, whose id is their class
inline constexpr unsigned slab_objects_max = 512;       // only 8-byte objects come to more than 256
inline constexpr unsigned bitmap_objects = 256;         // what the bitmap in the descriptor can tell
inline constexpr unsigned slab_order_max = 6;           // of slabs with several objects: the largest of the size-class table

/// A batch of objects on its way between arrays and slabs.
struct sheaf {
  sheaf* next;
  uint32_t nr_objects;
  uint32_t unused_;
  void* objects[sheaf_objects_max - 2];
};
static_assert(sizeof(sheaf) == 512);
inline constexpr unsigned sheaf_objects = sheaf_objects_max - 2;

struct cache_stats {
  atomic<uint64_t> refills{0}, flushes{0}, barn_hits{0}, slabs_made{0}, slabs_freed{0}, failures{0};
};

/// Where objects begin in a slab.
struct object_shape {
  uint64_t start_magic = 0;  // ceil(2^64 / size)
  uint32_t offset_mask = 0;  // bytes of a slab, less 1
  uint32_t objects_end = 0;  // offset behind the last object
};

struct kmem_cache {
  // Read on every call; written at creation.
  uint32_t size = 0;              // bytes from one object to the next
  uint32_t magic = 0;             // ceil(2^32 / size)
  uint16_t id = 0;                // 0: slot unused
  uint16_t capacity = 0;          // objects a slab
  uint8_t slab_order = 0;
  uint8_t class_byte = 0;         // in the class map: id, or 255 when the cache has no arrays
  uint16_t batch = 0;             // objects a refill or flush moves at most
  uint32_t object_size = 0;       // bytes the user asked for
  uint32_t align = 0;
  slab_flags_t flags = slab_flags_t::none;
  gfp_t slab_gfp = gfp::none;     // added to every slab's allocation (DMA, RECLAIMABLE)
  constructor_t constructor = nullptr;
  object_shape shape;
  char name[32] = {};
  uint32_t references = 0;        // aliases by merging; under the cache list lock
  uint32_t link_offset = 0;       // where a deferred object carries its link: behind what a constructor made, else at the start
  uint16_t array_first = 0, array_max = 0;  // capacity of a CPU's array at the start and when hot
  uint8_t empty_max = 0;          // wholly free slabs kept
  bool built_in = false;          // storage of the library's: never destroyed, never merged with
  bool uses_barn = false;
  uint32_t barn_objects_max = 0;

  ranked_lock barn_lock{lock_rank::barn};
  sheaf* barn KMEM_GUARDED_BY(barn_lock) = nullptr;     // only the first one may be partly filled
  uint32_t nr_barn KMEM_GUARDED_BY(barn_lock) = 0;      // sheaves, empty ones included
  uint32_t barn_objects KMEM_GUARDED_BY(barn_lock) = 0;
  sheaf* spare_sheaves KMEM_GUARDED_BY(barn_lock) = nullptr;  // empty

  alignas(arch::cache_line_bytes) ranked_lock lock{lock_rank::cache};
  pfn_t partial[nr_slab_buckets + 1] KMEM_GUARDED_BY(lock) = {};  // heads of slabs with free objects; last: wholly free
  uint64_t nr_slabs KMEM_GUARDED_BY(lock) = 0;
  uint64_t nr_objects KMEM_GUARDED_BY(lock) = 0;                  // objects of those slabs
  uint64_t nr_free KMEM_GUARDED_BY(lock) = 0;                     // free objects in slabs
  uint32_t nr_empty KMEM_GUARDED_BY(lock) = 0;                    // wholly free slabs kept
  uint64_t nr_listed KMEM_GUARDED_BY(lock) = 0;                   // slabs with free objects, the wholly free ones included
  atomic<uint64_t> deferred{0};    // objects freed where no lock could be taken; a list through the objects
  atomic<uint64_t> unlisted{0};    // pfn of slabs made where no lock could be taken; a list through the descriptors
  cache_stats stats;
  struct {
    uint64_t slabs, objects, free, listed;
  } walk KMEM_GUARDED_BY(lock) = {};   // slab_is_valid's sums
};

struct slab_allocator : page_allocator {
  object_shape shapes[nr_array_headers];  // by class byte: of the caches that have arrays
  atomic<char*> regions{nullptr};  // what sequences use: arrays_base, or stop_base plus how often the arrays are held
  bool has_sections = false;
  char* arrays_base = nullptr;     // region of CPU 0
  char* stop_base = nullptr;       // that of the twin: read only, zeroes
  cpu_slot* cpu_slots = nullptr;   // [nr_cpus]
  atomic<kmem_cache*> caches[max_caches] = {};   // by id; written under cache_list_lock, entries live until destroyed
  uint32_t nr_caches KMEM_GUARDED_BY(cache_list_lock) = 0;   // living ones
  uint32_t caches_end KMEM_GUARDED_BY(cache_list_lock) = 0;  // ids in use are below this
  ranked_lock cache_list_lock{lock_rank::cache_list};
  kmem_cache cache_cache;          // kmem_caches of users come from here
  kmem_cache sheaf_cache;          // sheaves of the barns
  kmem_cache bitmap_cache;         // the second half of the bitmap of slabs with more than 256 objects
  atomic<uint32_t> sheaf_pause{0}; // flushes that do without a new sheaf, since there was no page for one
  atomic<uint64_t> bad_frees{0};   // frees that were refused
  uint64_t fork_locks[(1 + max_cpus + 2 * max_caches + 63) / 64] = {};  // which locks fork's handler holds, in rank order
  rate_limit bad_free_reports{5'000'000'000, 10};   // the kernel's default: 10 in 5 s
  rate_limit failure_reports{5'000'000'000, 10};
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
/// Drops a reference; the last one frees the cache. Objects still out: a report "objects remaining", and the cache is kept. Context: may
/// sleep.
err cache_destroy(slab_allocator& sa, kmem_cache* cache) noexcept;
/// Gives back every slab that can be emptied and forgets the cache, whose storage is as new afterwards: for built-in caches. Objects
/// still out become invalid. Context: nobody uses the cache any more.
void cache_retire(slab_allocator& sa, kmem_cache& cache) noexcept;
/// Gives back every slab that can be emptied. Context: may sleep. Return: pages freed.
uint64_t cache_shrink(slab_allocator& sa, kmem_cache& cache) noexcept;

/// One object. `gfp` with the chain's rights. Context: any, if `gfp` does not block. Return: the object, or nullptr.
void* cache_alloc(slab_allocator& sa, kmem_cache& cache, gfp_t gfp) noexcept;
/// The same without might_sleep check, fail point, clearing and slab report: for a caller who does these himself. `quiet`: the page
/// allocator does not report either, as the caller has something else to try. `instead`: what else would do; it is returned when it has
/// been taken.
struct object_at_hand;
void* cache_alloc_unchecked(slab_allocator& sa, kmem_cache& cache, gfp_t gfp, bool quiet, object_at_hand* instead = nullptr) noexcept;
/// The report of a NULL from `cache`, in the kernel's form, unless NOWARN. Context: any.
void report_slab_failure(slab_allocator& sa, kmem_cache& cache, gfp_t gfp) noexcept;
/// The mask without the bits that a slab's pages cannot have (HIGHMEM, DMA32, unknown ones), said in a message, as the kernel does.
gfp_t fix_slab_gfp(gfp_t gfp) noexcept;
inline constexpr gfp_t bad_slab_gfp = gfp::dma32 | gfp::highmem_bit | ~gfp::known_bits;
/// Gives an object back. Wrong cache, foreign or doubly freed pointers: a report, and nothing is freed. Context: any.
void cache_free(slab_allocator& sa, kmem_cache& cache, void* object) noexcept;
/// The same for an object whose cache was looked up with cache_of.
void cache_free_unchecked(slab_allocator& sa, kmem_cache& cache, void* object) noexcept;
/// All or nothing (kmem_cache_alloc_bulk). Return: n, or 0.
size_t cache_alloc_bulk(slab_allocator& sa, kmem_cache& cache, gfp_t gfp, size_t n, void** objects) noexcept;
void cache_free_bulk(slab_allocator& sa, kmem_cache& cache, size_t n, void** objects) noexcept;
/// A free object that is at hand (arrays, this CPU's first, barn, partial slabs) without asking for pages. Context: any. For "a larger
/// class".
void* cache_alloc_at_hand(slab_allocator& sa, kmem_cache& cache) noexcept;
/// The same for a request for pages that waits.
struct object_at_hand : alternative {
  object_at_hand(slab_allocator& allocator, kmem_cache& wanted) noexcept;
  slab_allocator& sa;
  kmem_cache& cache;
  void* object = nullptr;
};

/// The cache of the slab that `object` lies in, or nullptr. Context: any.
kmem_cache* cache_of(slab_allocator& sa, const void* object) noexcept;
/// Is `object`, which lies in a slab of `cache`, the start of an object, as far as its address tells? Context: any.
KMEM_ALWAYS_INLINE bool is_object_start(const slab_allocator& sa, const object_shape& shape, const void* object) noexcept;
/// Has an allocation with `gfp` nothing to ask of its context or of fail points, and may any object serve it just as it is?
KMEM_ALWAYS_INLINE bool asks_nothing(gfp_t gfp) noexcept;
/// Frees an object of whatever cache if this CPU's array takes it: the whole of a free in most cases. Context: any. Return: false with
/// nothing done, which says nothing about the pointer.
KMEM_ALWAYS_INLINE bool free_at_once(slab_allocator& sa, void* object) noexcept;
/// The same, and is it handed out as far as the bitmap knows?
bool object_is_valid(slab_allocator& sa, const kmem_cache& cache, const void* object) noexcept;

/// Empties arrays (every CPU's), barns and deferred lists into the slabs and frees empty slabs. Locks are waited for, as they are held
/// for moments only, but not in a nested call. may_wait: hot arrays become small again too. Return: pages freed.
uint64_t drain_caches(slab_allocator& sa, bool may_wait) noexcept;

struct cache_info {
  char name[32];
  uint32_t object_size, size, align, objects_per_slab, pages_per_slab;
  uint64_t active, total, slabs, partial_slabs, in_arrays, in_barn;   // active: handed out
  uint64_t refills, flushes;
};
/// The i-th living cache. Return: false past the last.
bool read_cache_info(slab_allocator& sa, unsigned index, cache_info& result) noexcept;

/// The order of the slabs of a cache: the smallest with at least 4 objects and a tail of at most 3.2 %, else of at most 1/8, else the
/// one with the least tail. Objects above 32 KiB: one is enough.
constexpr unsigned choose_slab_order(size_t size, unsigned order_limit = slab_order_max) noexcept {
  const unsigned first = order_for(size).raw(), last = first > order_limit ? first : order_limit;
  const size_t least_objects = size > (page_size << 3) ? 1 : 4;
  unsigned best = first, eighth = last + 1;
  for (unsigned order = first; order <= last; ++order) {
    const size_t bytes = page_size << order, tail = bytes % size;
    if (bytes / size >= least_objects && tail * 1000 <= bytes * 32) return order;
    if (eighth > last && bytes / size >= least_objects && tail * 8 <= bytes) eighth = order;
    if (tail * (page_size << best) < ((page_size << best) % size) * bytes) best = order;
  }
  return eighth <= last ? eighth : best;
}
/// ceil(2^32 / size): (offset * magic) >> 32 is the index of the object that starts at `offset`, for every slab below 4 GiB.
constexpr uint32_t index_magic(uint32_t size) noexcept {
  return static_cast<uint32_t>(((uint64_t{1} << 32) + size - 1) / size);
}

/// ceil(2^64 / size): offset * magic, modulo 2^64, is less than magic exactly if size divides offset, for sizes and offsets below 2^32.
constexpr uint64_t start_magic(uint32_t size) noexcept { return ~uint64_t{0} / size + 1; }

KMEM_ALWAYS_INLINE bool is_object_start(const slab_allocator& sa, const object_shape& shape, const void* object) noexcept {
  // A slab is aligned in the arena as a block of pages is.
  const uint64_t offset = static_cast<uint64_t>(static_cast<const char*>(object) - sa.base) & shape.offset_mask;
  return offset < shape.objects_end && offset * shape.start_magic < shape.start_magic;
}

KMEM_ALWAYS_INLINE bool asks_nothing(gfp_t gfp) noexcept {
  const task_context& task = current();
  return !has(gfp, gfp::zero | gfp::dma | gfp::reclaimable) && !fail_points_armed() &&
         (!may_block(gfp) || (task.preempt_count | task.irqs_off) == 0);
}

KMEM_ALWAYS_INLINE bool free_at_once(slab_allocator& sa, void* object) noexcept {
#if defined(KMEM_DEBUG)
  (void)sa, (void)object;
  return false;  // the way behind it checks more
#else
  if (KMEM_UNLIKELY(!sa.contains(object))) return false;
  const uint32_t id = sa.class_map[sa.pfn_of(object).raw()];
  return KMEM_LIKELY(is_object_start(sa, sa.shapes[id], object)) && array_push(sa.regions, id, object);
#endif
}

/// Walks all caches, slabs, arrays and barns under their locks. Return: nullptr, or what is wrong.
const char* slab_is_valid(slab_allocator& sa) noexcept;
void slab_fork_prepare(slab_allocator& sa) noexcept;
void slab_fork_parent(slab_allocator& sa) noexcept;
void slab_fork_child(slab_allocator& sa) noexcept;

}  // inline namespace
}  // namespace kmem
