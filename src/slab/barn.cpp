// The barn of a cache: batches of objects between the arrays and the slabs, so that CPUs hand objects over without touching slab
// descriptors.
//
// What for. Two CPUs that both work on a cache would share the descriptor lines of its slabs; a stream from a producer to a consumer
// would
//          mark every object free and used again. A handful of full sheaves in between takes most of that away.
// States.  A stack of sheaves; only the first one may be partly filled. Empty sheaves are kept aside until the cache is drained.
// Equations, under the lock: nr_barn == sheaves with objects + spare ones <= 8; barn_objects == sum of nr_objects <= barn_objects_max.
// Locks.   kmem_cache::barn_lock, held while at most a batch is copied. Sheaves are made with no lock held.
// Kernel.  There whole sheaves change hands by pointer; here batches are as large as the array at hand wants, so pointers are copied.
// Tests.   tests/unit/slab/barn_test.cpp
#include "slab/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint32_t sheaf_pause_flushes = 64;  // arbitrary: how long to do without a sheaf that could not be had

/// Fills the barn from the end of objects[0 .. n). Return: how many are left.
unsigned fill(kmem_cache& cache, void* const* objects, unsigned n) noexcept KMEM_REQUIRES(cache.barn_lock) {
  while (n != 0 && cache.barn_objects < cache.barn_objects_max) {
    sheaf* top = cache.barn;
    if (top == nullptr || top->nr_objects == sheaf_objects) {
      top = cache.spare_sheaves;
      if (top == nullptr) break;
      cache.spare_sheaves = top->next;
      top->next = cache.barn;
      cache.barn = top;
    }
    top->objects[top->nr_objects++] = objects[--n];
    ++cache.barn_objects;
  }
  return n;
}

/// A new sheaf for the barn. Context: no lock, no nest_guard held. Return: nullptr when there is no page for one.
sheaf* make_sheaf(slab_allocator& sa) noexcept {
  const uint32_t pause = sa.sheaf_pause.load_relaxed();
  if (pause != 0) {
    sa.sheaf_pause.store_relaxed(pause - 1);
    return nullptr;
  }
  auto* const result = static_cast<sheaf*>(cache_alloc_unchecked(sa, sa.sheaf_cache, internal_gfp, true));
  if (result == nullptr) {
    sa.sheaf_pause.store_relaxed(sheaf_pause_flushes);
    return nullptr;
  }
  result->next = nullptr;
  result->nr_objects = 0;
  return result;
}

}  // namespace

unsigned take_from_barn(slab_allocator&, kmem_cache& cache, void** out, unsigned n) noexcept {
  if (!cache.uses_barn) return 0;
  nest_guard guard;
  if (!cache.barn_lock.lock_unless_nested()) return 0;
  unsigned got = 0;
  while (got < n && cache.barn != nullptr) {
    sheaf& top = *cache.barn;
    out[got++] = top.objects[--top.nr_objects];
    --cache.barn_objects;
    if (top.nr_objects != 0) continue;
    cache.barn = top.next;
    top.next = cache.spare_sheaves;
    cache.spare_sheaves = &top;
  }
  cache.barn_lock.unlock();
  if (got != 0) cache.stats.barn_hits.fetch_add_relaxed(1);
  return got;
}

unsigned put_to_barn(slab_allocator& sa, kmem_cache& cache, void* const* objects, unsigned n) noexcept {
  if (!cache.uses_barn) return n;
  bool wants_sheaf = false;
  {
    nest_guard guard;
    if (!cache.barn_lock.lock_unless_nested()) return n;
    const bool keeps = sa.waiters.load_relaxed() == 0;
    if (keeps) n = fill(cache, objects, n);
    wants_sheaf = keeps && n != 0 && !guard.nested() && cache.barn_objects < cache.barn_objects_max && cache.nr_barn < barn_sheaves;
    cache.barn_lock.unlock();
  }
  if (!wants_sheaf) return n;
  sheaf* const added = make_sheaf(sa);
  if (added == nullptr) return n;
  bool is_surplus = false;
  {
    nest_guard guard;
    if (!cache.barn_lock.lock_unless_nested()) {
      is_surplus = true;
    } else {
      is_surplus = cache.nr_barn >= barn_sheaves;
      if (!is_surplus) {
        added->next = cache.spare_sheaves;
        cache.spare_sheaves = added;
        ++cache.nr_barn;
        if (sa.waiters.load_relaxed() == 0) n = fill(cache, objects, n);
      }
      cache.barn_lock.unlock();
    }
  }
  if (is_surplus) cache_free(sa, sa.sheaf_cache, added);
  return n;
}

sheaf* empty_barn(slab_allocator&, kmem_cache& cache) noexcept {
  if (!cache.uses_barn || !cache.barn_lock.lock_unless_nested()) return nullptr;
  sheaf* all = cache.barn;
  while (cache.spare_sheaves != nullptr) {
    sheaf* const one = cache.spare_sheaves;
    cache.spare_sheaves = one->next;
    one->next = all;
    all = one;
  }
  cache.barn = nullptr;
  cache.nr_barn = 0;
  cache.barn_objects = 0;
  cache.barn_lock.unlock();
  return all;
}

}  // inline namespace
}  // namespace kmem
