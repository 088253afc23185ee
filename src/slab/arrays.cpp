// The per-CPU arrays of object pointers: setting them up, growing them, moving batches in and out.
//
// What for. A hit is one pop or push of this CPU's array; a miss comes here. Each miss moves half an array, so that neither an allocation
//          nor a free right after it misses again.
// States.  Of an array: closed (hot word 0: every call misses), open small, grown. Bounds stay when a cache dies, so that creating and
//          destroying caches does not use a region up. Of a page of a region: untouched, or counted as metadata (populated) and usable.
// Equations. cur - begin + room == cap; slot[begin - 1] == null; begin + cap <= next_free_slot <= 8191;
//          next_free_slot * 8 <= populated * 4096.
// Locks.   cpu_slot::lock. Batches only try it; drains wait for it. No other lock is taken under it, and no page is asked for: a page of
//          a region is charged before the lock is taken (`wanted` tells the next miss to do so). Sequences take no lock: cpu_array.hpp
//          says how they are kept off.
// Ordering. The slot's lock orders the arrays; `populated` and `wanted` are hints and counts, relaxed. Pairs: owned_array, held_arrays.
// Kernel.  Sheaves of a fixed size a cache and CPU there; here one region a CPU, packed, in which a hot cache's array moves to a larger
//          place. A place that was left is not used again until the region is reset: with these steps less than half of it is lost.
// Tests.   tests/unit/slab/array_test.cpp
#include "slab/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint32_t slots_per_page = page_size / sizeof(void*);
constexpr uint32_t usable_slots = cpu_region_slots - 1;  // the last one stays null
constexpr uint32_t growth = 4;                           // 8, 32, 128, 256

constexpr uint32_t begin_of(uint32_t bounds) { return bounds & 0xffff; }
constexpr uint32_t cap_of(uint32_t bounds) { return bounds >> 16; }
constexpr uint32_t cur_of(uint32_t hot) { return hot & 0xffff; }
constexpr uint32_t room_of(uint32_t hot) { return hot >> 16; }
constexpr uint32_t pack(uint32_t low, uint32_t high) { return low | high << 16; }

/// Arrays are a convenience: their pages are not to be the ones that somebody else's last allocation wants.
bool memory_is_plentiful(const slab_allocator& sa) noexcept {
  const zone& normal = sa.zones[static_cast<unsigned>(zone_idx::normal)];
  const uint64_t needed = normal.taken.load_relaxed() + normal.watermarks[static_cast<unsigned>(watermark::high)];
  return needed + cpu_region_bytes / page_size < normal.managed.load_relaxed();
}

/// Counts the pages of a region that the arrays want. Context: no lock held.
void charge_region(slab_allocator& sa, cpu_slot& slot) noexcept {
  uint32_t have = slot.populated.load_relaxed();
  const uint32_t want = slot.wanted.load_relaxed();
  if (KMEM_LIKELY(want <= have)) return;
  if (!memory_is_plentiful(sa) || !charge_metadata(sa, want - have)) {
    if (have != 0) slot.wanted.store_relaxed(have);  // asked for again when an array is hot again
    return;
  }
  const uint32_t charged = want - have;
  if (!slot.populated.try_cmpxchg_relaxed(have, want)) uncharge_metadata(sa, charged);  // somebody else was faster
}

/// Takes `n` slots at the end of the used part. Return: false when the region or its counted pages do not reach.
bool take_slots(cpu_slot& slot, uint32_t n) noexcept KMEM_REQUIRES(slot.lock) {
  const uint32_t end = slot.next_free_slot + n;
  if (end > usable_slots) return false;
  const uint32_t pages = (end + slots_per_page - 1) / slots_per_page;
  if (pages > slot.populated.load_relaxed()) {
    if (pages > slot.wanted.load_relaxed()) slot.wanted.store_relaxed(pages);
    return false;
  }
  slot.next_free_slot = end;
  return true;
}

/// An array that is the caller's: its slot's lock is held, and it is stopped or all are held. Its hot word is here until put_back().
struct owned_array {
  cpu_slot& slot;
  char* region;
  uint32_t id;
  uint32_t hot = 0;
  bool usable = false;

  array_header& header() const noexcept { return array_headers(region)[id]; }
  uint32_t begin() const noexcept { return begin_of(header().bounds); }
  uint32_t count() const noexcept { return hot == 0 ? 0 : cur_of(hot) - begin(); }
  void put_back() noexcept {
    if (usable) header().hot.store_release(hot);  // pairs: owned_array
  }
};

/// The array of this CPU, stopped. Context: the slot's lock is held. Return: one that is not usable when there is none, or the thread has
/// moved.
owned_array own_local(slab_allocator& sa, uint32_t cpu, uint32_t id) noexcept {
  owned_array a{sa.cpu_slots[cpu], cpu_region(sa, cpu), id};
  // The page of the headers may not be counted yet: nothing is written there.
  if (id == nr_array_headers - 1 || a.slot.populated.load_relaxed() == 0) return a;
  if (sa.has_sections) {
    a.usable = array_stop(a.region, cpu, id, a.hot);
  } else {
    a.hot = a.header().hot.load_relaxed();
    a.usable = true;
  }
  return a;
}

/// Any array. Context: the slot's lock is held, and the arrays are.
owned_array own_held(slab_allocator& sa, uint32_t cpu, uint32_t id) noexcept {
  owned_array a{sa.cpu_slots[cpu], cpu_region(sa, cpu), id};
  if (a.slot.populated.load_relaxed() == 0) return a;
  a.hot = a.header().hot.load_relaxed();
  a.usable = true;
  return a;
}

/// Opens a closed array. Return: false when there is no room for it.
bool open_array(owned_array& a, const kmem_cache& cache) noexcept KMEM_REQUIRES(a.slot.lock) {
  array_header& header = a.header();
  cpu_slot& slot = a.slot;
  if (header.bounds == 0) {
    const uint32_t sentinel = slot.next_free_slot;
    if (!take_slots(slot, cache.array_first + 1u)) return false;
    array_slots(a.region)[sentinel] = nullptr;
    header.bounds = pack(sentinel + 1, cache.array_first);
  }
  const uint32_t cap = cap_of(header.bounds) < cache.array_max ? cap_of(header.bounds) : cache.array_max;
  header.bounds = pack(begin_of(header.bounds), cap);
  a.hot = pack(begin_of(header.bounds), cap);
  return true;
}

/// Makes a hot array larger: in place when it is the last one, else by moving it up.
void grow_array(owned_array& a, const kmem_cache& cache) noexcept KMEM_REQUIRES(a.slot.lock) {
  array_header& header = a.header();
  cpu_slot& slot = a.slot;
  const uint32_t begin = begin_of(header.bounds), cap = cap_of(header.bounds);
  if (cap >= cache.array_max) return;
  const uint32_t target = cap * growth < cache.array_max ? cap * growth : cache.array_max;
  const uint32_t count = a.count();
  uint32_t new_begin = begin;
  if (begin + cap == slot.next_free_slot) {
    if (!take_slots(slot, target - cap)) return;
  } else {
    const uint32_t sentinel = slot.next_free_slot;
    if (!take_slots(slot, target + 1)) return;
    void** const slots = array_slots(a.region);
    slots[sentinel] = nullptr;
    new_begin = sentinel + 1;
    for (uint32_t i = 0; i < count; ++i) slots[new_begin + i] = slots[begin + i];
  }
  header.bounds = pack(new_begin, target);
  a.hot = pack(new_begin + count, target - count);
}

/// Notes a miss and opens or grows the array. Return: its capacity, 0 if it has none.
uint32_t note_miss(owned_array& a, const kmem_cache& cache, unsigned kind) noexcept KMEM_REQUIRES(a.slot.lock) {
  if (!a.usable) return 0;
  ++a.slot.refills[kind];
  if (a.hot == 0) {
    if (!open_array(a, cache)) return 0;
  } else if (++a.slot.heat[a.id] >= array_heat_to_grow) {
    a.slot.heat[a.id] = 0;
    grow_array(a, cache);
  }
  return cap_of(a.header().bounds);
}

unsigned batch_of(uint32_t capacity, const kmem_cache& cache) noexcept {
  const uint32_t half = capacity / 2;
  if (half <= 1) return 1;
  return half < cache.batch ? half : cache.batch;
}

unsigned pop_batch(owned_array& a, void** out, size_t n) noexcept {
  const uint32_t count = a.count();
  const auto k = static_cast<uint32_t>(n < count ? n : count);
  if (k == 0) return 0;
  void** const top = array_slots(a.region) + cur_of(a.hot);
  for (uint32_t i = 0; i < k; ++i) out[i] = *(top - 1 - i);
  a.hot = pack(cur_of(a.hot) - k, room_of(a.hot) + k);
  return k;
}

/// Return: how many were not pushed.
unsigned push_batch(owned_array& a, void* const* objects, unsigned n) noexcept {
  const uint32_t k = n < room_of(a.hot) ? n : room_of(a.hot);
  if (k == 0) return n;
  void** const top = array_slots(a.region) + cur_of(a.hot);
  for (uint32_t i = 0; i < k; ++i) top[i] = objects[n - 1 - i];
  a.hot = pack(cur_of(a.hot) + k, room_of(a.hot) - k);
  return n - k;
}

}  // namespace

void hold_arrays(slab_allocator& sa) noexcept {
  char* now = sa.regions.load_relaxed();
  // The twin's address carries the count of holders: from there, too, all that is read is zero.
  do {
    if (KMEM_UNLIKELY(now == sa.stop_base + cpu_region_bytes - 1)) bug("more than 65 534 holders of the arrays", __FILE__, __LINE__);
  } while (!sa.regions.try_cmpxchg_acq_rel(now, now == sa.arrays_base ? sa.stop_base + 1 : now + 1));  // pairs: held_arrays
  // A single thread is in no sequence here, nor is what it interrupted as a handler: that begins anew.
  if (sa.has_sections && !plat::single_threaded() && KMEM_UNLIKELY(!plat::fence_sections()))
    bug("membarrier() is refused, which was permitted at the start: a filter of system calls has to let it pass", __FILE__, __LINE__);
}

void release_arrays(slab_allocator& sa) noexcept {
  char* now = sa.regions.load_relaxed();
  do {
    // In the child of a fork nobody holds them any more.
    if (now == sa.arrays_base || (!sa.has_sections && now == sa.stop_base + 1)) return;
  } while (!sa.regions.try_cmpxchg_acq_rel(now, now == sa.stop_base + 1 ? sa.arrays_base : now - 1));  // pairs: held_arrays
}

void* pop_locked(slab_allocator& sa, const kmem_cache& cache) noexcept {
  void* object = nullptr;
  return pop_local_batch(sa, cache, &object, 1) != 0 ? object : nullptr;
}

bool push_locked(slab_allocator& sa, const kmem_cache& cache, void* object) noexcept {
  return push_local_batch(sa, cache, &object, 1) == 0;
}

bool is_in_local_array(slab_allocator& sa, const kmem_cache& cache, const void* object) noexcept {
  const uint32_t cpu = this_cpu(sa);
  cpu_slot& slot = sa.cpu_slots[cpu];
  nest_guard guard;
  if (!slot.lock.try_lock()) return false;
  owned_array a = own_local(sa, cpu, cache.class_byte);
  bool found = false;
  for (uint32_t i = 0; i < a.count() && !found; ++i) found = array_slots(a.region)[a.begin() + i] == object;
  a.put_back();
  slot.lock.unlock();
  return found;
}

unsigned prepare_refill(slab_allocator& sa, const kmem_cache& cache) noexcept {
  const uint32_t cpu = this_cpu(sa);
  cpu_slot& slot = sa.cpu_slots[cpu];
  charge_region(sa, slot);
  nest_guard guard;
  if (!slot.lock.try_lock()) return 1;
  owned_array a = own_local(sa, cpu, cache.class_byte);
  const uint32_t capacity = note_miss(a, cache, 0);
  a.put_back();
  slot.lock.unlock();
  return batch_of(capacity, cache);
}

unsigned prepare_flush(slab_allocator& sa, const kmem_cache& cache, void* object, void** out, bool& pushed) noexcept {
  const uint32_t cpu = this_cpu(sa);
  cpu_slot& slot = sa.cpu_slots[cpu];
  pushed = false;
  charge_region(sa, slot);
  nest_guard guard;
  if (!slot.lock.try_lock()) return 0;
  unsigned n = 0;
  if (KMEM_LIKELY(sa.waiters.load_relaxed() == 0)) {  // under the lock: see page_waiters
    owned_array a = own_local(sa, cpu, cache.class_byte);
    const uint32_t capacity = note_miss(a, cache, 1);
    if (capacity != 0) {
      if (room_of(a.hot) == 0) n = pop_batch(a, out, batch_of(capacity, cache));
      pushed = push_batch(a, &object, 1) == 0;
    }
    a.put_back();
  }
  slot.lock.unlock();
  return n;
}

unsigned pop_local_batch(slab_allocator& sa, const kmem_cache& cache, void** out, size_t n) noexcept {
  const uint32_t cpu = this_cpu(sa);
  cpu_slot& slot = sa.cpu_slots[cpu];
  nest_guard guard;
  if (!slot.lock.try_lock()) return 0;
  owned_array a = own_local(sa, cpu, cache.class_byte);
  const unsigned got = pop_batch(a, out, n);
  a.put_back();
  slot.lock.unlock();
  return got;
}

unsigned push_local_batch(slab_allocator& sa, const kmem_cache& cache, void* const* objects, unsigned n) noexcept {
  const uint32_t cpu = this_cpu(sa);
  cpu_slot& slot = sa.cpu_slots[cpu];
  nest_guard guard;
  if (n == 0 || !slot.lock.try_lock()) return n;
  unsigned left = n;
  if (sa.waiters.load_relaxed() == 0) {
    owned_array a = own_local(sa, cpu, cache.class_byte);
    left = push_batch(a, objects, n);
    a.put_back();
  }
  slot.lock.unlock();
  return left;
}

unsigned take_from_cpu(slab_allocator& sa, uint32_t cpu, uint32_t array_id, void** out, unsigned n) noexcept {
  cpu_slot& slot = sa.cpu_slots[cpu];
  if (slot.populated.load_relaxed() == 0) return 0;
  if (!slot.lock.lock_unless_nested()) return 0;
  owned_array a = own_held(sa, cpu, array_id);
  const unsigned got = pop_batch(a, out, n);
  a.put_back();
  slot.lock.unlock();
  return got;
}

bool array_may_have_objects(const slab_allocator& sa, uint32_t cpu, uint32_t array_id) noexcept {
  const array_header& header = array_headers(cpu_region(sa, cpu))[array_id];
  return header.hot.load_relaxed() == 0 ? header.bounds != 0 : array_count(sa, cpu, array_id) != 0;
}

uint32_t array_count(const slab_allocator& sa, uint32_t cpu, uint32_t array_id) noexcept {
  const array_header& header = array_headers(cpu_region(sa, cpu))[array_id];
  const uint32_t hot = header.hot.load_relaxed();
  return hot == 0 ? 0 : cur_of(hot) - begin_of(header.bounds);
}

bool reset_region(slab_allocator& sa, uint32_t cpu) noexcept {
  cpu_slot& slot = sa.cpu_slots[cpu];
  if (slot.populated.load_relaxed() == 0) return true;
  if (!slot.lock.lock_unless_nested()) return false;
  char* const region = cpu_region(sa, cpu);
  bool empty = true;
  for (uint32_t id = 0; id < nr_array_headers && empty; ++id) empty = array_count(sa, cpu, id) == 0;
  if (empty) {
    for (uint32_t id = 0; id < nr_array_headers; ++id) {
      array_headers(region)[id].hot.store_relaxed(0);
      array_headers(region)[id].bounds = 0;
      slot.heat[id] = 0;
    }
    slot.next_free_slot = first_array_slot;
  }
  slot.lock.unlock();
  return empty;
}

void close_arrays(slab_allocator& sa, uint32_t array_id) noexcept {
  for (uint32_t cpu = 0; cpu < sa.nr_cpus; ++cpu) {
    cpu_slot& slot = sa.cpu_slots[cpu];
    if (slot.populated.load_relaxed() == 0) continue;
    lock_guard hold(slot.lock);
    KMEM_CHECK(array_count(sa, cpu, array_id) == 0);
    array_headers(cpu_region(sa, cpu))[array_id].hot.store_relaxed(0);
    slot.heat[array_id] = 0;
  }
}

}  // inline namespace
}  // namespace kmem
