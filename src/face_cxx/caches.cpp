// kmem_cache_* of the C++ face.
//
// Contexts. As declared. Tests. tests/unit/face_cxx/caches_test.cpp, tests/fault/api_fail_nth_test.cpp
#include "face_cxx/face_cxx.hpp"

namespace kmem {
namespace {

constexpr bool same(cache_flags a, slab_flags_t b) { return static_cast<uint32_t>(a) == static_cast<uint32_t>(b); }
static_assert(same(cache_flags::hwcache_align, slab_flags_t::hwcache_align) && same(cache_flags::cache_dma, slab_flags_t::cache_dma) &&
              same(cache_flags::cache_dma32, slab_flags_t::cache_dma32) && same(cache_flags::panic, slab_flags_t::panic) &&
              same(cache_flags::reclaim_account, slab_flags_t::reclaim_account) && same(cache_flags::no_merge, slab_flags_t::no_merge));

}  // namespace

kmem_cache* kmem_cache_create(const char* name, size_t size, size_t align, cache_flags flags,
                              void (*constructor)(void* object) noexcept) noexcept {
  machine* const m = serving();
  if (m == nullptr) {
    if (same(flags & cache_flags::panic, slab_flags_t::panic))
      bug("a cache with SLAB_PANIC cannot be made: the allocator did not start", __FILE__, __LINE__);
    return nullptr;
  }
  cache_args args;
  args.name = name != nullptr ? name : "";
  args.object_size = size;
  args.align = align;
  args.flags = slab_flags_t(static_cast<uint32_t>(flags));
  args.constructor = constructor;
  return cache_create(*m, args);
}

void kmem_cache_destroy(kmem_cache* cache) noexcept {
  machine* const m = serving();
  if (cache != nullptr && m != nullptr) (void)cache_destroy(*m, cache);
}

void* kmem_cache_alloc(kmem_cache* cache, gfp_t gfp) noexcept {
  machine* const m = serving();
  return KMEM_LIKELY(m != nullptr) ? cache_alloc(*m, *cache, gfp) : nullptr;
}

void kmem_cache_free(kmem_cache* cache, void* object) noexcept {
  machine* const m = serving();
  if (KMEM_LIKELY(object != nullptr && m != nullptr)) cache_free(*m, *cache, object);
}

size_t kmem_cache_alloc_bulk(kmem_cache* cache, gfp_t gfp, size_t n, void** objects) noexcept {
  machine* const m = serving();
  return m != nullptr ? cache_alloc_bulk(*m, *cache, gfp, n, objects) : 0;
}

void kmem_cache_free_bulk(kmem_cache* cache, size_t n, void** objects) noexcept {
  machine* const m = serving();
  if (m != nullptr) cache_free_bulk(*m, *cache, n, objects);
}

uint64_t kmem_cache_shrink(kmem_cache* cache) noexcept {
  machine* const m = serving();
  return m != nullptr ? cache_shrink(*m, *cache) : 0;
}

size_t kmem_cache_size(const kmem_cache* cache) noexcept { return cache->object_size; }

}  // namespace kmem
