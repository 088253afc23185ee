// The per-CPU arrays of object pointers: setting them up, growing them, moving batches in and out.
//
// What for. A hit is one pop or push of this CPU's array; a miss comes here. Each miss moves half an array, so that neither an allocation
//          nor a free right after it misses again.
// States.  Of an array: closed (hot word 0: every call misses), open small, grown. Bounds stay when a cache dies, so that creating and
//          destroying caches does not use a region up. Of a page of a region: untouched, or counted as metadata (populated) and usable.
// Equations. cur - begin + room == cap; slot[begin - 1] == null; begin + cap <= next_free_slot <= 8191;
//          next_free_slot * 8 <= populated * 4096.
// Locks.   cpu_slot::lock. Fast paths and batches only try it; drains wait for it. No other lock is taken under it, and no page is asked
//          for: a page of a region is charged before the lock is taken (`wanted` tells the next miss to do so).
// Ordering. The slot's lock orders the arrays; `populated` and `wanted` are hints and counts, relaxed.
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

/// Opens a closed array. Return: false when there is no room for it.
bool open_array(cpu_slot& slot, char* region, const kmem_cache& cache) noexcept KMEM_REQUIRES(slot.lock) {
  array_header& header = array_headers(region)[cache.class_byte];
  if (header.bounds == 0) {
    const uint32_t sentinel = slot.next_free_slot;
    if (!take_slots(slot, cache.array_first + 1u)) return false;
    array_slots(region)[sentinel] = nullptr;
    header.bounds = pack(sentinel + 1, cache.array_first);
  }
  const uint32_t cap = cap_of(header.bounds) < cache.array_max ? cap_of(header.bounds) : cache.array_max;
  header.bounds = pack(begin_of(header.bounds), cap);
  header.hot.store_relaxed(pack(begin_of(header.bounds), cap));
  return true;
}

/// Makes a hot array larger: in place when it is the last one, else by moving it up.
void grow_array(cpu_slot& slot, char* region, const kmem_cache& cache) noexcept KMEM_REQUIRES(slot.lock) {
  array_header& header = array_headers(region)[cache.class_byte];
  const uint32_t begin = begin_of(header.bounds), cap = cap_of(header.bounds);
  if (cap >= cache.array_max) return;
  const uint32_t target = cap * growth < cache.array_max ? cap * growth : cache.array_max;
  const uint32_t count = cur_of(header.hot.load_relaxed()) - begin;
  uint32_t new_begin = begin;
  if (begin + cap == slot.next_free_slot) {
    if (!take_slots(slot, target - cap)) return;
  } else {
    const uint32_t sentinel = slot.next_free_slot;
    if (!take_slots(slot, target + 1)) return;
    void** const slots = array_slots(region);
    slots[sentinel] = nullptr;
    new_begin = sentinel + 1;
    for (uint32_t i = 0; i < count; ++i) slots[new_begin + i] = slots[begin + i];
  }
  header.bounds = pack(new_begin, target);
  header.hot.store_relaxed(pack(new_begin + count, target - count));
}

/// Notes a miss and opens or grows the array. Return: its capacity, 0 if it has none.
uint32_t note_miss(cpu_slot& slot, char* region, const kmem_cache& cache, unsigned kind) noexcept KMEM_REQUIRES(slot.lock) {
  const uint32_t id = cache.class_byte;
  if (id == nr_array_headers - 1 || slot.populated.load_relaxed() == 0) return 0;
  array_header& header = array_headers(region)[id];
  ++slot.refills[kind];
  if (header.hot.load_relaxed() == 0) {
    if (!open_array(slot, region, cache)) return 0;
  } else if (++slot.heat[id] >= array_heat_to_grow) {
    slot.heat[id] = 0;
    grow_array(slot, region, cache);
  }
  return cap_of(header.bounds);
}

unsigned batch_of(uint32_t capacity, const kmem_cache& cache) noexcept {
  const uint32_t half = capacity / 2;
  if (half <= 1) return 1;
  return half < cache.batch ? half : cache.batch;
}

/// Pops up to `n`. One commit for the batch.
unsigned pop_batch(char* region, uint32_t id, void** out, size_t n) noexcept {
  array_header& header = array_headers(region)[id];
  const uint32_t hot = header.hot.load_relaxed();
  if (hot == 0) return 0;
  const uint32_t count = cur_of(hot) - begin_of(header.bounds);
  const auto k = static_cast<uint32_t>(n < count ? n : count);
  void** const top = array_slots(region) + cur_of(hot);
  for (uint32_t i = 0; i < k; ++i) out[i] = *(top - 1 - i);
  header.hot.store_relaxed(pack(cur_of(hot) - k, room_of(hot) + k));
  return k;
}

unsigned push_batch(char* region, uint32_t id, void* const* objects, unsigned n) noexcept {
  array_header& header = array_headers(region)[id];
  const uint32_t hot = header.hot.load_relaxed();
  const uint32_t k = n < room_of(hot) ? n : room_of(hot);
  if (k == 0) return n;  // and write nothing: the page of a closed array may not be counted
  void** const top = array_slots(region) + cur_of(hot);
  for (uint32_t i = 0; i < k; ++i) top[i] = objects[n - 1 - i];
  header.hot.store_relaxed(pack(cur_of(hot) + k, room_of(hot) - k));
  return n - k;
}

}  // namespace

bool is_in_local_array(slab_allocator& sa, const kmem_cache& cache, const void* object) noexcept {
  const uint32_t cpu = this_cpu(sa);
  cpu_slot& slot = sa.cpu_slots[cpu];
  nest_guard guard;
  if (!slot.lock.try_lock()) return false;
  char* const region = cpu_region(sa, cpu);
  const array_header& header = array_headers(region)[cache.class_byte];
  const uint32_t hot = header.hot.load_relaxed();
  bool found = false;
  if (hot != 0)
    for (uint32_t i = begin_of(header.bounds); i < cur_of(hot) && !found; ++i) found = array_slots(region)[i] == object;
  slot.lock.unlock();
  return found;
}

unsigned prepare_refill(slab_allocator& sa, const kmem_cache& cache) noexcept {
  const uint32_t cpu = this_cpu(sa);
  cpu_slot& slot = sa.cpu_slots[cpu];
  charge_region(sa, slot);
  nest_guard guard;
  if (!slot.lock.try_lock()) return 1;
  const uint32_t capacity = note_miss(slot, cpu_region(sa, cpu), cache, 0);
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
  if (KMEM_UNLIKELY(sa.waiters.load_relaxed() != 0)) {
    slot.lock.unlock();
    return 0;
  }
  char* const region = cpu_region(sa, cpu);
  const uint32_t capacity = note_miss(slot, region, cache, 1);
  unsigned n = 0;
  if (capacity != 0) {
    pushed = array_push(region, cache.class_byte, object);
    if (!pushed) {
      n = pop_batch(region, cache.class_byte, out, batch_of(capacity, cache));
      pushed = array_push(region, cache.class_byte, object);
    }
  }
  slot.lock.unlock();
  return n;
}

unsigned pop_local_batch(slab_allocator& sa, const kmem_cache& cache, void** out, size_t n) noexcept {
  const uint32_t cpu = this_cpu(sa);
  cpu_slot& slot = sa.cpu_slots[cpu];
  nest_guard guard;
  if (!slot.lock.try_lock()) return 0;
  const unsigned got = pop_batch(cpu_region(sa, cpu), cache.class_byte, out, n);
  slot.lock.unlock();
  return got;
}

unsigned push_local_batch(slab_allocator& sa, const kmem_cache& cache, void* const* objects, unsigned n) noexcept {
  const uint32_t cpu = this_cpu(sa);
  cpu_slot& slot = sa.cpu_slots[cpu];
  nest_guard guard;
  if (n == 0 || !slot.lock.try_lock()) return n;
  const unsigned left = sa.waiters.load_relaxed() == 0 ? push_batch(cpu_region(sa, cpu), cache.class_byte, objects, n) : n;
  slot.lock.unlock();
  return left;
}

unsigned take_from_cpu(slab_allocator& sa, uint32_t cpu, uint32_t array_id, void** out, unsigned n) noexcept {
  cpu_slot& slot = sa.cpu_slots[cpu];
  if (slot.populated.load_relaxed() == 0) return 0;
  if (!slot.lock.lock_unless_nested()) return 0;
  const unsigned got = pop_batch(cpu_region(sa, cpu), array_id, out, n);
  slot.lock.unlock();
  return got;
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
