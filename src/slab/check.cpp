// Looking at the whole layer at once: the validity walk, figures of the caches, and the fork handlers.
//
// What for. slab_is_valid proves "each object is in exactly one place": every pointer in an array, a barn or a deferred list is marked
//          free in its slab's bitmap for the time of the walk, so that one found twice, or found free already, shows. The marks are taken
//          off again.
// Locks.   The walk and a fork hold every lock of the layer, in rank order, and among equals by CPU number and cache id. Two walks
//          exclude each other by the first lock. The walk takes a zone's lock inside, to learn which blocks are open.
// Ordering. pairs: deferred_objects, unlisted_slabs - the walk reads both lists where they are.
// Kernel.  validate_slab walks one cache and cannot see per-CPU objects; here everything stands still.
// Tests.   tests/unit/slab/check_test.cpp; every test of the layer ends with the walk
#include <bit>

#include "slab/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

/// More locks of one rank than a thread may hold otherwise, each taken by rank and number, so that the rank check has nothing to say.
void hold(ranked_lock& lock) noexcept KMEM_NO_ANALYSIS {
  const uint64_t held = current().held_ranks;
  current().held_ranks = 0;
  lock.lock();
  current().held_ranks = held;
}
void let_go(ranked_lock& lock) noexcept KMEM_NO_ANALYSIS {
  const uint64_t held = current().held_ranks;
  current().held_ranks = uint64_t{1} << (static_cast<unsigned>(lock.rank()) * held_bits);
  lock.unlock();
  current().held_ranks = held;
}

template <class Visit>
void for_each_lock(slab_allocator& sa, Visit visit) noexcept KMEM_NO_ANALYSIS {
  visit(sa.cache_list_lock);
  for (uint32_t cpu = 0; cpu < sa.nr_cpus && sa.cpu_slots != nullptr; ++cpu) visit(sa.cpu_slots[cpu].lock);
  for (ranked_lock kmem_cache::*each : {&kmem_cache::barn_lock, &kmem_cache::lock})
    for (uint32_t id = 1; id < max_caches; ++id)
      if (kmem_cache* const cache = sa.caches[id].load_relaxed()) visit(cache->*each);
}

/// The locks that were visited, but the list's last: while it is held the same caches are there, and in the same order.
template <class Release>
void release_each_lock(slab_allocator& sa, Release release) noexcept KMEM_NO_ANALYSIS {
  uint32_t number = 0;
  for_each_lock(sa, [&](ranked_lock& lock) KMEM_NO_ANALYSIS {
    if (number++ != 0) release(lock, number - 1);
  });
  release(sa.cache_list_lock, 0u);
}

kmem_cache* cache_by_id(slab_allocator& sa, uint32_t id) noexcept { return id < max_caches ? sa.caches[id].load_relaxed() : nullptr; }

const char* check_slab(slab_allocator& sa, const kmem_cache& cache, page& head) noexcept {
  if (head.kind != page_kind::slab) return "slab: a page on a cache's list is no slab";
  if (head.slab.cache != cache.id) return "slab: a slab is on the list of another cache";
  if (head.slab.capacity != cache.capacity && (head.slab.capacity != bitmap_objects || cache.capacity <= bitmap_objects))
    return "slab: wrong capacity";
  if ((head.slab.capacity > bitmap_objects) != (head.word != 0)) return "slab: the second half of a bitmap is missing or superfluous";
  unsigned nr_free = 0;
  for (unsigned w = 0; w < 4 || w * 64 < head.slab.capacity; ++w) {
    const uint64_t bits = bitmap_word(head, w);
    const unsigned left = head.slab.capacity > w * 64 ? head.slab.capacity - w * 64 : 0;
    if (left < 64 && bits >> left != 0) return "slab: a bit beyond the capacity is set";
    if (w < head.slab.hint && bits != 0) return "slab: a free object lies below the hint";
    nr_free += static_cast<unsigned>(std::popcount(bits));
  }
  if (nr_free != head.slab.nr_free) return "slab: count of free objects and bitmap differ";
  const pfn_t pfn = sa.pfn_of(&head);
  for (uint32_t i = 0; i < 1u << cache.slab_order; ++i) {
    if (sa.class_map[pfn.raw() + i] != cache.class_byte) return "slab: wrong byte in the class map";
    if (i != 0 && ((&head)[i].kind != page_kind::slab_tail || (&head)[i].head != pfn)) return "slab: a tail page does not know its head";
  }
  return nullptr;
}

const char* check_lists(slab_allocator& sa, kmem_cache& cache) noexcept KMEM_REQUIRES(cache.lock) {
  cache.walk = {};
  uint64_t nr_empty = 0;
  for (unsigned bucket = 0; bucket <= nr_slab_buckets; ++bucket) {
    pfn_t before;
    for (pfn_t pfn = cache.partial[bucket]; !pfn.is_none(); pfn = sa.page_of(pfn).next) {
      page& head = sa.page_of(pfn);
      if (const char* wrong = check_slab(sa, cache, head)) return wrong;
      if (head.prev != before) return "slab: a list's links disagree";
      if (head.slab.nr_free == 0) return "slab: a full slab is on a list";
      if (head.slab.bucket != bucket + 1 || slab_bucket(head) != bucket) return "slab: a slab is on the wrong list";
      before = pfn;
      if (bucket == nr_slab_buckets) ++nr_empty;
      if (++cache.walk.listed > cache.nr_listed) return "slab: more slabs on the lists than counted";
    }
  }
  if (nr_empty != cache.nr_empty) return "slab: wholly free slabs are counted wrong";
  return cache.walk.listed == cache.nr_listed ? nullptr : "slab: fewer slabs on the lists than counted";
}

/// Adds one slab of the arena to its cache's sums. Slabs that no list and no count knows are on their way, wholly free.
const char* sum_slab(slab_allocator& sa, page& head) noexcept KMEM_NO_ANALYSIS {
  kmem_cache* const cache = cache_by_id(sa, head.slab.cache);
  if (cache == nullptr) return "slab: a slab's cache does not exist";
  if (const char* wrong = check_slab(sa, *cache, head)) return wrong;
  if (head.slab.bucket == 0 && head.slab.nr_free == head.slab.capacity) return nullptr;
  ++cache->walk.slabs;
  cache->walk.objects += head.slab.capacity;
  cache->walk.free += head.slab.nr_free;
  return nullptr;
}

const char* scan_zone(slab_allocator& sa, zone& z) noexcept {
  lock_guard guard(z.lock);
  const uint32_t first = z.first_block * pages_per_block, end = first + z.opened_blocks * pages_per_block;
  for (uint32_t pfn = first; pfn < end; ++pfn) {
    const uint8_t byte = sa.class_map[pfn];
    if (byte == 0) continue;  // and the descriptor stays untouched
    page& p = sa.page_of(pfn_t(pfn));
    const bool is_slab = p.kind == page_kind::slab || p.kind == page_kind::slab_tail;
    if (!is_slab && byte != nr_array_headers - 1) return "slab: class map and descriptors disagree";
    if (p.kind != page_kind::slab) continue;
    if (const char* wrong = sum_slab(sa, p)) return wrong;
  }
  return nullptr;
}

/// Unlisted slabs are in the arena but in no count of their cache.
void subtract_unlisted(slab_allocator& sa, kmem_cache& cache) noexcept KMEM_REQUIRES(cache.lock) {
  pfn_t pfn(static_cast<uint32_t>(cache.unlisted.load_acquire()));  // pairs: unlisted_slabs
  for (; !pfn.is_none(); pfn = sa.page_of(pfn).next) {
    const page& head = sa.page_of(pfn);
    if (head.slab.nr_free == head.slab.capacity) continue;
    --cache.walk.slabs;
    cache.walk.objects -= head.slab.capacity;
    cache.walk.free -= head.slab.nr_free;
  }
}

/// A pass over every object that waits somewhere outside its slab; marks it in the bitmap, or takes the mark off.
class marker {
 public:
  marker(slab_allocator& sa, uint64_t limit) noexcept : sa_(sa), limit_(limit), unmark_(limit != ~uint64_t{0}) {}

  /// Return: what is wrong, or nullptr; "stop" when the pass that takes marks off has come to its end.
  const char* visit(kmem_cache& cache, void* object) noexcept {
    if (done_ == limit_) return stop;
    if (!sa_.contains(object) || sa_.class_map[sa_.pfn_of(object).raw()] != cache.class_byte)
      return "slab: an array or barn holds a foreign pointer";
    page& head = sa_.page_of(slab_head(sa_, cache, object));
    const auto offset = static_cast<uint64_t>(static_cast<char*>(object) - sa_.address_of(sa_.pfn_of(&head)));
    const auto index = static_cast<uint32_t>((offset * cache.magic) >> 32);
    if (head.kind != page_kind::slab || head.slab.cache != cache.id) return "slab: an array or barn holds an object of another cache";
    if (uint64_t{index} * cache.size != offset || index >= head.slab.capacity)
      return "slab: an array or barn holds a pointer into an object";
    uint64_t& word = bitmap_word(head, index / 64);
    const uint64_t bit = uint64_t{1} << (index & 63);
    if (((word & bit) != 0) != unmark_) return "slab: an object is in two places";
    word ^= bit;
    ++done_;
    return nullptr;
  }
  uint64_t done() const noexcept { return done_; }
  static constexpr char stop[] = "stop";

 private:
  slab_allocator& sa_;
  uint64_t limit_;
  bool unmark_;
  uint64_t done_ = 0;
};

const char* visit_array(slab_allocator& sa, uint32_t cpu, uint32_t id, marker& pass) noexcept KMEM_NO_ANALYSIS {
  char* const region = cpu_region(sa, cpu);
  const array_header& header = array_headers(region)[id];
  const uint32_t hot = header.hot.load_relaxed(), cur = hot & 0xffff, room = hot >> 16;
  const uint32_t begin = header.bounds & 0xffff, cap = header.bounds >> 16;
  if (header.bounds != 0 && (begin <= first_array_slot || begin + cap > sa.cpu_slots[cpu].next_free_slot))
    return "slab: an array lies outside its region";
  if (hot == 0) return nullptr;
  kmem_cache* const cache = cache_by_id(sa, id);
  if (cache == nullptr || cache->class_byte != id) return "slab: an array without a cache is open";
  if (cur < begin || cur - begin + room != cap) return "slab: an array's header does not add up";
  if (array_slots(region)[begin - 1] != nullptr) return "slab: the null below an array was overwritten";
  for (uint32_t i = begin; i < cur; ++i)
    if (const char* wrong = pass.visit(*cache, array_slots(region)[i])) return wrong;
  return nullptr;
}

const char* visit_cache(kmem_cache& cache, marker& pass) noexcept KMEM_NO_ANALYSIS {
  uint64_t nr_sheaves = 0, nr_objects = 0;
  for (sheaf* s = cache.barn; s != nullptr; s = s->next, ++nr_sheaves) {
    if (s->nr_objects == 0 || s->nr_objects > sheaf_objects) return "slab: a sheaf of the barn is empty or overfull";
    if (s != cache.barn && s->nr_objects != sheaf_objects) return "slab: a sheaf below the first is not full";
    nr_objects += s->nr_objects;
    for (uint32_t i = 0; i < s->nr_objects; ++i)
      if (const char* wrong = pass.visit(cache, s->objects[i])) return wrong;
  }
  for (sheaf* s = cache.spare_sheaves; s != nullptr; s = s->next) ++nr_sheaves;
  if (nr_objects != cache.barn_objects || nr_sheaves != cache.nr_barn) return "slab: a barn is counted wrong";
  auto* object = reinterpret_cast<void*>(cache.deferred.load_acquire());  // pairs: deferred_objects
  for (; object != nullptr; object = reinterpret_cast<void*>(deferred_link(cache, object)))
    if (const char* wrong = pass.visit(cache, object)) return wrong;
  return nullptr;
}

const char* visit_all(slab_allocator& sa, marker& pass) noexcept {
  for (uint32_t cpu = 0; cpu < sa.nr_cpus; ++cpu) {
    const uint32_t populated = sa.cpu_slots[cpu].populated.load_relaxed();
    if (populated == 0) continue;
    if (array_slots(cpu_region(sa, cpu))[-1] != nullptr) return "slab: the null above a region was overwritten";
    for (uint32_t id = 0; id < nr_array_headers; ++id)
      if (const char* wrong = visit_array(sa, cpu, id, pass)) return wrong;
  }
  for (uint32_t id = 1; id < max_caches; ++id)
    if (kmem_cache* const cache = cache_by_id(sa, id))
      if (const char* wrong = visit_cache(*cache, pass)) return wrong;
  return nullptr;
}

const char* walk(slab_allocator& sa) noexcept KMEM_NO_ANALYSIS {
  for (uint32_t id = 1; id < max_caches; ++id)
    if (kmem_cache* const cache = cache_by_id(sa, id))
      if (const char* wrong = check_lists(sa, *cache)) return wrong;
  for (zone& z : sa.zones)
    if (const char* wrong = scan_zone(sa, z)) return wrong;
  for (uint32_t id = 1; id < max_caches; ++id) {
    kmem_cache* const cache = cache_by_id(sa, id);
    if (cache == nullptr) continue;
    subtract_unlisted(sa, *cache);
    // Wholly free slabs on the lists were not summed when the arena was walked unless they are listed; listed ones have a bucket.
    if (cache->walk.slabs != cache->nr_slabs) return "slab: slabs are counted wrong";
    if (cache->walk.objects != cache->nr_objects) return "slab: objects are counted wrong";
    if (cache->walk.free != cache->nr_free) return "slab: free objects are counted wrong";
  }
  marker marking(sa, ~uint64_t{0});
  const char* const wrong = visit_all(sa, marking);
  marker unmarking(sa, marking.done());
  visit_all(sa, unmarking);
  KMEM_CHECK(unmarking.done() == marking.done());
  return wrong;
}

}  // namespace

const char* slab_is_valid(slab_allocator& sa) noexcept {
  if (sa.cpu_slots == nullptr) return nullptr;
  nest_guard guard;
  const held_arrays held(sa);
  for_each_lock(sa, hold);
  const char* const wrong = walk(sa);
  release_each_lock(sa, [](ranked_lock& lock, uint32_t) KMEM_NO_ANALYSIS { let_go(lock); });
  return wrong;
}

bool read_cache_info(slab_allocator& sa, unsigned index, cache_info& result) noexcept {
  nest_guard guard;
  if (!sa.cache_list_lock.lock_unless_nested()) return false;
  kmem_cache* cache = nullptr;
  for (uint32_t id = 1; id < sa.caches_end; ++id) {
    kmem_cache* const candidate = sa.caches[id].load_relaxed();
    if (candidate == nullptr || index-- != 0) continue;
    cache = candidate;
    break;
  }
  bool complete = cache != nullptr;
  if (complete) {
    for (size_t i = 0; i < sizeof result.name; ++i) result.name[i] = cache->name[i];
    result.object_size = cache->object_size;
    result.size = cache->size;
    result.align = cache->align;
    result.objects_per_slab = cache->capacity;
    result.pages_per_slab = 1u << cache->slab_order;
    result.in_arrays = result.in_barn = result.active = result.total = result.slabs = result.partial_slabs = 0;
    for (uint32_t cpu = 0; cpu < sa.nr_cpus && cache->class_byte != nr_array_headers - 1; ++cpu) {
      cpu_slot& slot = sa.cpu_slots[cpu];
      if (slot.populated.load_relaxed() == 0 || !slot.lock.lock_unless_nested()) continue;
      result.in_arrays += array_count(sa, cpu, cache->class_byte);
      slot.lock.unlock();
    }
    result.refills = cache->stats.refills.load_relaxed();
    result.flushes = cache->stats.flushes.load_relaxed();
    if (cache->barn_lock.lock_unless_nested()) {
      result.in_barn = cache->barn_objects;
      cache->barn_lock.unlock();
    }
    complete = cache->lock.lock_unless_nested();
    if (complete) {
      const uint64_t not_out = cache->nr_free + result.in_arrays + result.in_barn;
      result.total = cache->nr_objects;
      result.active = cache->nr_objects > not_out ? cache->nr_objects - not_out : 0;  // the parts were read one after another
      result.slabs = cache->nr_slabs;
      result.partial_slabs = cache->nr_listed - cache->nr_empty;
      cache->lock.unlock();
    }
  }
  sa.cache_list_lock.unlock();
  return complete;
}

// A handler that interrupted this thread's own slow path can only try. What it does not get is held by the frame below it, which goes on
// in parent and child alike, or by a thread that is gone in the child (safe only in a process with one thread, as documented for the
// page allocator).
void slab_fork_prepare(slab_allocator& sa) noexcept KMEM_NO_ANALYSIS {
  for (uint64_t& word : sa.fork_locks) word = 0;
  const uint64_t held = current().held_ranks;
  const nest_guard guard;
  // The pages of an array and of its header are copied one after the other: no sequence may commit in between.
  hold_arrays(sa);
  uint32_t number = 0;
  for_each_lock(sa, [&](ranked_lock& lock) KMEM_NO_ANALYSIS {
    const uint32_t n = number++;
    current().held_ranks = 0;
    if (lock.lock_for_fork()) sa.fork_locks[n / 64] |= uint64_t{1} << (n % 64);
    current().held_ranks = held;
  });
}

void slab_fork_parent(slab_allocator& sa) noexcept KMEM_NO_ANALYSIS {
  release_each_lock(sa, [&](ranked_lock& lock, uint32_t n) KMEM_NO_ANALYSIS {
    if ((sa.fork_locks[n / 64] >> (n % 64) & 1) != 0) let_go(lock);
  });
  release_arrays(sa);
}

void slab_fork_child(slab_allocator& sa) noexcept {
  const bool shared = sa.config.kind == backing::memfd;
  uint32_t number = 0;
  for_each_lock(sa, [&](ranked_lock& lock) noexcept {
    const uint32_t n = number++;
    if (shared && sa.contains(&lock)) return;  // in a cache that lies in the arena: it is the parent's
    if ((sa.fork_locks[n / 64] >> (n % 64) & 1) != 0 || current().depth == current().fork_levels) lock.reinit_after_fork();
  });
  // Those who held the arrays are gone, or find them unheld; nobody else is there before the frame that forked goes on.
  sa.regions.store_relaxed(sa.has_sections ? sa.arrays_base : sa.stop_base + 1);
}

}  // inline namespace
}  // namespace kmem
