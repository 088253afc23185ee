// Draining: everything that caches hold without need goes back to the slabs, and wholly free slabs to the page allocator.
//
// What for. "No NULL while wholly free slabs exist": the chain drains before it fails, and then any class can have the pages.
// States.  An object that is drained passes from an array, a sheaf or the deferred list to its slab; sheaves pass to their own cache at
//          the end, since they are objects too.
// Locks.   cache_list_lock over the whole drain (caches cannot die), then one slot, barn or cache lock at a time: waited for, since each
//          is held for moments only, but tried in a nested call. Pages are given back after the last lock is released.
// Ordering. Locks only.
// Kernel.  There every CPU is asked to flush its own; here the drainer takes the arrays' locks.
// Tests.   tests/unit/slab/drain_test.cpp
#include "slab/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

/// Objects back to their slabs. Context: inside a nest_guard.
void put_nested(slab_allocator& sa, kmem_cache& cache, void* const* objects, unsigned n, unsigned empty_max, aftermath& after) noexcept {
  pfn_t heads[batch_objects_max];
  for (unsigned i = 0; i < n; ++i) heads[i] = slab_head(sa, cache, objects[i]);
  if (cache.lock.lock_unless_nested()) {
    settle_locked(sa, cache, after);
    put_objects_locked(sa, cache, objects, heads, n, empty_max, after);
    after.wakes |= sa.waiters.load_relaxed() != 0;  // who looked for them meanwhile found them nowhere
    cache.lock.unlock();
    return;
  }
  // Nested, and the frame below holds the lock: they are deferred like any other free.
  for (unsigned i = 0; i < n; ++i) defer_object(sa, cache, objects[i], after);
}

}  // namespace

void drain_cache_nested(slab_allocator& sa, kmem_cache& cache, unsigned empty_max, aftermath& after, sheaf*& sheaves) noexcept {
  void* batch[batch_objects_max];
  if (cache.class_byte != nr_array_headers - 1)
    for (uint32_t cpu = 0; cpu < sa.nr_cpus; ++cpu)
      while (const unsigned n = take_from_cpu(sa, cpu, cache.class_byte, batch, batch_objects_max))
        put_nested(sa, cache, batch, n, empty_max, after);
  sheaf* full = empty_barn(sa, cache);
  while (full != nullptr) {
    sheaf* const next = full->next;
    put_nested(sa, cache, full->objects, full->nr_objects, empty_max, after);
    full->next = sheaves;
    sheaves = full;
    full = next;
  }
  if (!cache.lock.lock_unless_nested()) return;
  settle_locked(sa, cache, after);
  trim_empty_locked(sa, cache, empty_max, after);
  cache.lock.unlock();
}

void free_sheaves_nested(slab_allocator& sa, sheaf* sheaves, aftermath& after) noexcept {
  while (sheaves != nullptr) {
    void* batch[batch_objects_max];
    unsigned n = 0;
    while (n < batch_objects_max && sheaves != nullptr) {
      batch[n++] = sheaves;
      sheaves = sheaves->next;
    }
    put_nested(sa, sa.sheaf_cache, batch, n, 0, after);
  }
}

uint64_t drain_caches(slab_allocator& sa, bool may_wait) noexcept {
  aftermath after;
  {
    nest_guard guard;
    const held_arrays held(sa);
    // Who may not block spins here for as long as somebody else drains: what that frees is what he needs.
    if (!sa.cache_list_lock.lock_unless_nested()) return 0;
    sheaf* sheaves = nullptr;
    for (uint32_t id = 1; id < sa.caches_end; ++id) {
      kmem_cache* const cache = sa.caches[id].load_relaxed();
      if (cache != nullptr && cache != &sa.sheaf_cache && cache != &sa.bitmap_cache) drain_cache_nested(sa, *cache, 0, after, sheaves);
    }
    free_sheaves_nested(sa, sheaves, after);
    sheaf* none = nullptr;
    drain_cache_nested(sa, sa.sheaf_cache, 0, after, none);
    sa.cache_list_lock.unlock();
  }
  uint64_t pages = finish(sa, nullptr, after);
  // Slabs of 8-byte objects have given their bitmaps back only now.
  {
    nest_guard guard;
    const held_arrays held(sa);
    sheaf* none = nullptr;
    drain_cache_nested(sa, sa.bitmap_cache, 0, after, none);
    if (may_wait)
      for (uint32_t cpu = 0; cpu < sa.nr_cpus; ++cpu) reset_region(sa, cpu);
  }
  return pages + finish(sa, &sa.bitmap_cache, after);
}

uint64_t cache_shrink(slab_allocator& sa, kmem_cache& cache) noexcept {
  check_may_sleep(__FILE__, __LINE__);
  aftermath after;
  {
    nest_guard guard;
    const held_arrays held(sa);
    sheaf* sheaves = nullptr;
    drain_cache_nested(sa, cache, 0, after, sheaves);
    free_sheaves_nested(sa, sheaves, after);
  }
  return finish(sa, &cache, after);
}

}  // inline namespace
}  // namespace kmem
