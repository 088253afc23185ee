// What the files of the slab layer share with each other.
#pragma once
#include "slab/slab.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

// Refill writes whole bitmap words four objects at a time, so its buffers have room for three more.
inline constexpr unsigned take_spare = 3;
using object_batch = void* [batch_objects_max + take_spare];

/// What the allocator itself asks for: failing is harmless, nobody is told, no reserve is touched.
inline constexpr gfp_t internal_gfp = gfp::nowarn | gfp::noretry | gfp::nomemalloc;

// ---- cpu arrays (arrays.cpp) ----------------------------------------------------------------------------------------------------

inline uint32_t this_cpu(const slab_allocator& sa) noexcept {
  const auto cpu = static_cast<uint32_t>(plat::cpu());
  return KMEM_LIKELY(cpu < sa.nr_cpus) ? cpu : cpu % sa.nr_cpus;
}
inline char* cpu_region(const slab_allocator& sa, uint32_t cpu) noexcept { return sa.arrays_base + size_t{cpu} * cpu_region_bytes; }

/// One object of this CPU's array, under its lock: where there are no sequences. Return: nullptr when it is empty or busy.
void* pop_locked(slab_allocator& sa, const kmem_cache& cache) noexcept;
/// Gives one object to this CPU's array, likewise. Return: false when it is full or busy, or somebody waits.
bool push_locked(slab_allocator& sa, const kmem_cache& cache, void* object) noexcept;

/// One object of this CPU's array. Return: nullptr when there is none to be had.
KMEM_ALWAYS_INLINE void* pop_local(slab_allocator& sa, const kmem_cache& cache) noexcept {
  void* const object = array_pop(sa.regions, cache.class_byte);
  return KMEM_LIKELY(object != nullptr) || sa.has_sections ? object : pop_locked(sa, cache);
}

/// Gives one object to this CPU's array. Return: false when it does not take it. While somebody waits it never does: objects go where he is
/// told of them.
KMEM_ALWAYS_INLINE bool push_local(slab_allocator& sa, const kmem_cache& cache, void* object) noexcept {
  return KMEM_LIKELY(array_push(sa.regions, cache.class_byte, object)) || (!sa.has_sections && push_locked(sa, cache, object));
}

/// Keeps every sequence off every array until release_arrays(): they belong to who holds the slot's lock. Nests. Context: any.
void hold_arrays(slab_allocator& sa) noexcept;
void release_arrays(slab_allocator& sa) noexcept;
/// Both, for a scope.
class held_arrays {
 public:
  [[nodiscard]] explicit held_arrays(slab_allocator& sa) noexcept : sa_(sa) { hold_arrays(sa); }
  ~held_arrays() { release_arrays(sa_); }
  held_arrays(const held_arrays&) = delete;
  held_arrays& operator=(const held_arrays&) = delete;

 private:
  slab_allocator& sa_;
};

/// Is `object` in this CPU's array? (false when it is busy)
bool is_in_local_array(slab_allocator& sa, const kmem_cache& cache, const void* object) noexcept;
/// Sets up or grows this CPU's array after a miss. Context: no lock and no nest_guard held. Return: how many objects a refill should
/// bring: half of the array's capacity, at least 1; 1 as well when there is no array to be had.
unsigned prepare_refill(slab_allocator& sa, const kmem_cache& cache) noexcept;
/// The same for a free that found the array full: pushes `object`, or takes half of the array's objects and then pushes it.
/// Return: objects taken out, in `out`; `pushed` tells whether `object` is in the array now.
unsigned prepare_flush(slab_allocator& sa, const kmem_cache& cache, void* object, void** out, bool& pushed) noexcept;
/// Pops up to `n` objects. Return: how many.
unsigned pop_local_batch(slab_allocator& sa, const kmem_cache& cache, void** out, size_t n) noexcept;
/// Pushes objects[n - 1] down to objects[0], so that objects[0] is popped first. Return: how many were not pushed; they are the first
/// ones.
unsigned push_local_batch(slab_allocator& sa, const kmem_cache& cache, void* const* objects, unsigned n) noexcept;
/// Takes up to `n` objects out of the array on `cpu`, waiting for its lock unless nested. Context: inside a nest_guard; the arrays are
/// held.
unsigned take_from_cpu(slab_allocator& sa, uint32_t cpu, uint32_t array_id, void** out, unsigned n) noexcept;
/// Could there be any in the array on `cpu`? True also while somebody owns it. Context: any.
bool array_may_have_objects(const slab_allocator& sa, uint32_t cpu, uint32_t array_id) noexcept;
/// Objects in the array on `cpu`. Context: its lock is held; exact while the arrays are held.
uint32_t array_count(const slab_allocator& sa, uint32_t cpu, uint32_t array_id) noexcept;
/// Forgets all (empty) arrays of a region, so that they start small again. Context: inside a nest_guard; the arrays are held. Return: false
/// if one was in use.
bool reset_region(slab_allocator& sa, uint32_t cpu) noexcept;
/// Closes the array of a dying cache on every CPU; its slots serve the next cache of that id. Context: the arrays are empty.
void close_arrays(slab_allocator& sa, uint32_t array_id) noexcept;

// ---- slabs (store.cpp) ----------------------------------------------------------------------------------------------------------

/// What is left to do after a cache's lock is released: slabs to give back, bad frees to report.
struct aftermath {
  pfn_t slabs;                     // a list through page::next
  bool wakes = false;              // objects have come free while somebody waited
  unsigned nr_bad = 0;             // how many of `bad` are set; more are counted only
  struct bad_free {
    void* object;
    const char* what;
  } bad[4];
};

inline pfn_t slab_head(const slab_allocator& sa, const kmem_cache& cache, const void* object) noexcept {
  return pfn_t(sa.pfn_of(object).raw() & ~((1u << cache.slab_order) - 1));
}

/// Makes a slab that is on no list, all objects free and constructed. Context: no lock, no nest_guard held. Return: nullptr when there
/// are no pages, or `instead` came first.
page* make_slab(slab_allocator& sa, kmem_cache& cache, gfp_t gfp, bool quiet, alternative& instead) noexcept;
/// Adopts unlisted slabs and takes deferred objects back. To be called whenever the lock was taken, before anything else.
void settle_locked(slab_allocator& sa, kmem_cache& cache, aftermath& after) noexcept KMEM_REQUIRES(cache.lock);
/// An object that cannot be put back now. A pointer that is no object's start is not written through.
void defer_object(slab_allocator& sa, kmem_cache& cache, void* object, aftermath& after) noexcept;
/// Puts a slab on its list and counts it.
void add_slab_locked(slab_allocator& sa, kmem_cache& cache, page& head) noexcept KMEM_REQUIRES(cache.lock);
/// Free objects, fullest slab first, each slab in address order. `out` has room for `n` + take_spare. Return: how many.
unsigned take_objects_locked(slab_allocator& sa, kmem_cache& cache, void** out, unsigned n) noexcept KMEM_REQUIRES(cache.lock);
/// Marks objects free in their slabs; at most `empty_max` wholly free slabs stay.
void put_objects_locked(slab_allocator& sa, kmem_cache& cache, void* const* objects, const pfn_t* heads, unsigned n, unsigned empty_max,
                        aftermath& after) noexcept KMEM_REQUIRES(cache.lock);
/// Takes all but `empty_max` wholly free slabs off the cache.
void trim_empty_locked(slab_allocator& sa, kmem_cache& cache, unsigned empty_max, aftermath& after) noexcept KMEM_REQUIRES(cache.lock);
/// Gives slabs back to the page allocator and reports bad frees. Context: no lock, no nest_guard held. Return: pages freed.
uint64_t finish(slab_allocator& sa, kmem_cache* cache, aftermath& after) noexcept;

/// settle, then up to `n` objects from the slabs; waits for the lock unless nested. Return: how many.
unsigned take_from_slabs(slab_allocator& sa, kmem_cache& cache, void** out, unsigned n) noexcept;
/// Objects back to their slabs, or on the deferred list where the lock cannot be had. n <= batch_objects_max.
void put_to_slabs(slab_allocator& sa, kmem_cache& cache, void* const* objects, unsigned n) noexcept;
/// Adds a new slab and takes up to `n` objects; where the lock cannot be had one object, and the slab waits on the unlisted list.
unsigned add_slab_and_take(slab_allocator& sa, kmem_cache& cache, page& head, void** out, unsigned n) noexcept;
/// Word `w` of a slab's bitmap.
inline uint64_t& bitmap_word(page& head, unsigned w) noexcept {
  return w < 4 ? head.free_objects[w] : reinterpret_cast<uint64_t*>(head.word)[w - 4];
}
inline unsigned slab_bucket(const page& head) noexcept {
  return head.slab.nr_free == head.slab.capacity ? nr_slab_buckets : unsigned{head.slab.nr_free} * nr_slab_buckets / head.slab.capacity;
}
/// The link of an object on the deferred list.
inline uint64_t& deferred_link(const kmem_cache& cache, void* object) noexcept {
  return *reinterpret_cast<uint64_t*>(static_cast<char*>(object) + cache.link_offset);
}

// ---- barn (barn.cpp) ------------------------------------------------------------------------------------------------------------

/// Up to `n` objects from the barn; waits for its lock unless nested. Return: how many.
unsigned take_from_barn(slab_allocator& sa, kmem_cache& cache, void** out, unsigned n) noexcept;
/// Gives objects to the barn, the last ones first. Context: no lock, no nest_guard held. Return: how many are left over; they are the
/// first ones.
unsigned put_to_barn(slab_allocator& sa, kmem_cache& cache, void* const* objects, unsigned n) noexcept;
/// Takes the whole barn apart: its sheaves, with their objects, in one list. Context: inside a nest_guard.
sheaf* empty_barn(slab_allocator& sa, kmem_cache& cache) noexcept;

// ---- allocation, caches, reports --------------------------------------------------------------------------------------------------

/// Objects out of an array to the barn, and to the slabs what does not fit. Context: no lock, no nest_guard held. n <= batch_objects_max.
void flush_objects(slab_allocator& sa, kmem_cache& cache, void* const* objects, unsigned n) noexcept;
/// Moves what the cache holds back to its slabs and takes the empty ones off. Context: inside a nest_guard; sheaves go to `sheaves`.
void drain_cache_nested(slab_allocator& sa, kmem_cache& cache, unsigned empty_max, aftermath& after, sheaf*& sheaves) noexcept;
/// Gives drained sheaves back. Context: inside a nest_guard.
void free_sheaves_nested(slab_allocator& sa, sheaf* sheaves, aftermath& after) noexcept;

/// A free that was refused. `cache`: as far as known.
KMEM_COLD void report_bad_free(slab_allocator& sa, const kmem_cache* cache, const void* object, const char* what) noexcept;
KMEM_COLD void report_wrong_cache(slab_allocator& sa, const kmem_cache& cache, const void* object) noexcept;
KMEM_COLD void report_objects_remaining(kmem_cache& cache, uint64_t nr_out) noexcept;
KMEM_COLD void report_cache_create(const char* name, const char* what) noexcept;
/// reclaim_ops.report: the caches that hold most.
void report_slabs(void* context, gfp_t gfp) noexcept;

}  // inline namespace
}  // namespace kmem
