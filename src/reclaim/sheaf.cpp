// Sheaves: objects that are taken before a stretch of code that must not fail, and used in it without asking anybody.
//
// What for.  An operation that needs up to n objects, some of them under locks, takes n while it may still fail and sleep. Each of the n
//            allocations afterwards is a pop: it takes no lock, passes no fail point and cannot fail.
// States.    A sheaf holds nr_objects <= capacity objects, which count as handed out. It is one user's: nobody else sees it.
// Locks.     None of its own.
// Contexts.  Filling is as the mask; taking from it and giving it back work in any context.
// Ordering.  None: one user at a time.
// Kernel.    The calls, and that an empty sheaf does not fall back to the cache, are the kernel's (6.18). There, sheaves of a cache's own
//            size come from its per-CPU stock; here each is memory of its own, since it is made where time is no matter.
// Tests.     tests/unit/reclaim/sheaf_test.cpp, tests/fault/reserve_fail_nth_test.cpp
#include <new>

#include "reclaim/reclaim.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

void free_objects(machine& m, kmem_cache* cache, void** objects, uint32_t n) noexcept {
  if (cache != nullptr) return cache_free_bulk(m, *cache, n, objects);
  for (uint32_t i = 0; i < n; ++i) kfree(m, objects[i]);
}

/// Takes n objects, or none. Return: whether it did.
bool take_objects(machine& m, kmem_cache* cache, size_t bytes, gfp_t gfp, void** objects, uint32_t n) noexcept {
  if (cache != nullptr) return cache_alloc_bulk(m, *cache, gfp, n, objects) == n;
  for (uint32_t i = 0; i < n; ++i) {
    objects[i] = kmalloc(m, bytes, gfp);
    if (objects[i] != nullptr) continue;
    free_objects(m, nullptr, objects, i);
    return false;
  }
  return true;
}

slab_sheaf* new_sheaf(machine& m, kmem_cache* cache, size_t bytes, gfp_t gfp, uint32_t capacity) noexcept {
  void* const memory = kmalloc(m, sizeof(slab_sheaf) + size_t{capacity} * sizeof(void*), gfp);
  if (memory == nullptr) return nullptr;
  auto* const sheaf = new (memory) slab_sheaf;
  sheaf->owner = &m;
  sheaf->cache = cache;
  sheaf->bytes = bytes;
  sheaf->capacity = capacity;
  return sheaf;
}

slab_sheaf* prefill(machine& m, kmem_cache* cache, size_t bytes, gfp_t gfp, uint32_t n) noexcept {
  gfp = gfp & ~gfp::zero;
  if (n == 0) n = 1;
  slab_sheaf* const sheaf = new_sheaf(m, cache, bytes, gfp, n);
  if (sheaf == nullptr) return nullptr;
  if (!take_objects(m, cache, bytes, gfp, sheaf->objects(), n)) {
    kfree(m, sheaf);
    return nullptr;
  }
  sheaf->nr_objects = n;
  return sheaf;
}

KMEM_COLD void report_zero_with_constructor(const kmem_cache& cache) noexcept {
  char line[160];
  text_writer text(line, sizeof line);
  text.str("kmem_cache ").str(cache.name).str(": __GFP_ZERO is refused: a constructor has made its objects; allocate without it\n");
  printk(log_level::warning, line, text.length() < sizeof line ? text.length() : sizeof line - 1);
}

}  // namespace

slab_sheaf* sheaf_prefill(machine& m, kmem_cache& cache, gfp_t gfp, uint32_t n) noexcept {
  return prefill(m, &cache, cache.object_size, gfp, n);
}

slab_sheaf* sheaf_prefill_kmalloc(machine& m, size_t size, gfp_t gfp, uint32_t n) noexcept { return prefill(m, nullptr, size, gfp, n); }

void* sheaf_alloc(slab_sheaf& sheaf, gfp_t gfp) noexcept {
  if (KMEM_UNLIKELY(sheaf.nr_objects == 0)) return nullptr;
  const bool zero = has(gfp, gfp::zero);
  if (KMEM_UNLIKELY(zero && sheaf.cache != nullptr && sheaf.cache->constructor != nullptr)) {
    report_zero_with_constructor(*sheaf.cache);
    return nullptr;
  }
  void* const object = sheaf.objects()[--sheaf.nr_objects];
  if (zero) __builtin_memset(object, 0, sheaf.bytes);
  return object;
}

err sheaf_refill(slab_sheaf*& sheaf, gfp_t gfp, uint32_t n) noexcept {
  gfp = gfp & ~gfp::zero;
  const uint32_t there = sheaf->nr_objects;
  if (n <= there) return err::ok;
  machine& m = *sheaf->owner;
  slab_sheaf* larger = nullptr;
  if (n > sheaf->capacity) {
    larger = new_sheaf(m, sheaf->cache, sheaf->bytes, gfp, n);
    if (larger == nullptr) return err::nomem;
  }
  slab_sheaf& filled = larger != nullptr ? *larger : *sheaf;
  if (!take_objects(m, sheaf->cache, sheaf->bytes, gfp, filled.objects() + there, n - there)) {
    kfree(m, larger);
    return err::nomem;
  }
  filled.nr_objects = n;
  if (larger == nullptr) return err::ok;
  __builtin_memcpy(larger->objects(), sheaf->objects(), there * sizeof(void*));
  kfree(m, sheaf);
  sheaf = larger;
  return err::ok;
}

void sheaf_return(slab_sheaf* sheaf) noexcept {
  if (sheaf == nullptr) return;
  machine& m = *sheaf->owner;
  free_objects(m, sheaf->cache, sheaf->objects(), sheaf->nr_objects);
  kfree(m, sheaf);
}

}  // inline namespace
}  // namespace kmem
