// Allocation and freeing of single objects: contents, zeroing, constructors, contexts, fail points, DMA, the promise before NULL.
#include <set>

#include "slab_fixture.hpp"

namespace kmem::testing {
namespace {

TEST(alloc, objects_are_distinct_aligned_and_keep_what_is_written) {
  slab_machine m;
  for (const size_t size : {size_t{1}, size_t{8}, size_t{24}, size_t{100}, size_t{1000}, size_t{5000}, size_t{32768}}) {
    kmem_cache& cache = m.make(size);
    std::vector<unsigned char*> objects;
    for (int i = 0; i < 300; ++i) {
      auto* const p = static_cast<unsigned char*>(cache_alloc(*m, cache, gfp::kernel));
      ASSERT_NE(p, nullptr);
      ASSERT_EQ(reinterpret_cast<uintptr_t>(p) % 8, 0u);
      ASSERT_EQ(cache_of(*m, p), &cache);
      ASSERT_TRUE(object_is_valid(*m, cache, p));
      std::memset(p, i & 0xff, size);
      objects.push_back(p);
    }
    for (int i = 0; i < 300; ++i)
      for (size_t k = 0; k < size; ++k) ASSERT_EQ(objects[static_cast<size_t>(i)][k], i & 0xff);
    const cache_info info = m.info(cache);
    EXPECT_EQ(info.active, 300u);
    EXPECT_GE(info.total, 300u);
    for (auto* p : objects) cache_free(*m, cache, p);
    EXPECT_EQ(m.info(cache).active, 0u);
    m.destroy(cache);
  }
}

TEST(alloc, zero_clears_the_whole_object_and_only_when_asked) {
  slab_machine m;
  kmem_cache& cache = m.make(200);
  auto* p = static_cast<char*>(cache_alloc(*m, cache, gfp::kernel));
  std::memset(p, 0x77, 200);
  cache_free(*m, cache, p);
  auto* const again = static_cast<char*>(cache_alloc(*m, cache, gfp::kernel));
  ASSERT_EQ(again, p);
  EXPECT_EQ(again[0], 0x77);
  cache_free(*m, cache, again);
  auto* const cleared = static_cast<char*>(cache_alloc(*m, cache, gfp::kernel | gfp::zero));
  ASSERT_EQ(cleared, p);
  for (int i = 0; i < 200; ++i) ASSERT_EQ(cleared[i], 0);
  cache_free(*m, cache, cleared);
  m.destroy(cache);
}

int constructed = 0;
void construct(void* object) noexcept {
  ++constructed;
  std::memset(object, 0x3c, 60);
}

TEST(alloc, a_constructor_runs_once_for_each_object_of_a_slab_and_its_work_is_kept) {
  slab_machine m;
  constructed = 0;
  kmem_cache& cache = m.make(60, slab_flags_t::no_merge, 0, construct);
  auto* const p = static_cast<char*>(cache_alloc(*m, cache, gfp::kernel));
  EXPECT_EQ(constructed, cache.capacity);
  for (int i = 0; i < 60; ++i) ASSERT_EQ(p[i], 0x3c);
  cache_free(*m, cache, p);
  std::vector<void*> objects;
  for (int i = 0; i < cache.capacity; ++i) objects.push_back(cache_alloc(*m, cache, gfp::kernel));
  for (void* o : objects)
    for (int i = 0; i < 60; ++i) ASSERT_EQ(static_cast<char*>(o)[i], 0x3c);
  EXPECT_EQ(constructed, cache.capacity);
  for (void* o : objects) cache_free(*m, cache, o);
  m.destroy(cache);
}

TEST(alloc, zero_with_a_constructor_is_refused_with_a_message) {
  slab_machine m;
  kmem_cache& cache = m.make(60, slab_flags_t::no_merge, 0, construct);
  EXPECT_EQ(cache_alloc(*m, cache, gfp::kernel | gfp::zero), nullptr);
  EXPECT_NE(take_log().find("__GFP_ZERO is refused"), std::string::npos);
  m.destroy(cache);
}

TEST(alloc, a_mask_that_may_sleep_is_reported_in_atomic_context_even_when_the_array_serves_it) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  cache_free(*m, cache, cache_alloc(*m, cache, gfp::kernel));
  cache_free(*m, cache, cache_alloc(*m, cache, gfp::kernel));
  set_context_policy(context_policy::count);
  const auto violations_of = [&](gfp_t gfp) {
    const uint64_t before = context_violations();
    preempt_guard guard;
    cache_free(*m, cache, cache_alloc(*m, cache, gfp));
    return context_violations() - before;
  };
  EXPECT_EQ(violations_of(gfp::kernel), 1u);
  EXPECT_EQ(violations_of(gfp::noio), 1u);
  EXPECT_EQ(violations_of(gfp::atomic), 0u);
  EXPECT_EQ(violations_of(gfp::nowait), 0u);
  {
    const uint64_t before = context_violations();
    irq_guard guard;
    cache_free(*m, cache, cache_alloc(*m, cache, gfp::kernel));
    EXPECT_EQ(context_violations() - before, 1u);
  }
  set_context_policy(context_policy::report);
  m.destroy(cache);
}

TEST(alloc, failslab_fails_hits_and_misses_but_not_nofail) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  cache_free(*m, cache, cache_alloc(*m, cache, gfp::kernel));
  set_fail_attributes(fail_point::failslab, {.probability = 100});
  EXPECT_EQ(cache_alloc(*m, cache, gfp::kernel), nullptr);
  void* const p = cache_alloc(*m, cache, gfp::kernel | gfp::nofail);
  EXPECT_NE(p, nullptr);
  void* several[3];
  EXPECT_EQ(cache_alloc_bulk(*m, cache, gfp::kernel, 3, several), 0u);
  EXPECT_EQ(get_fail_counts(fail_point::failslab).failed, 2u);
  set_fail_attributes(fail_point::failslab, {});
  cache_free(*m, cache, p);
  m.destroy(cache);
}

TEST(alloc, dma_caches_lie_in_the_dma_zone) {
  slab_machine m;
  kmem_cache& cache = m.make(512, slab_flags_t::no_merge | slab_flags_t::cache_dma);
  void* const p = cache_alloc(*m, cache, gfp::kernel);
  EXPECT_EQ(m->page_of(slab_head(*m, cache, p)).zone, static_cast<uint8_t>(zone_idx::dma));
  cache_free(*m, cache, p);
  m.destroy(cache);
  kmem_cache& ordinary = m.make(512);
  void* const q = cache_alloc(*m, ordinary, gfp::kernel | gfp::dma);  // the cache decides, as in the kernel
  EXPECT_EQ(m->page_of(slab_head(*m, ordinary, q)).zone, static_cast<uint8_t>(zone_idx::normal));
  cache_free(*m, ordinary, q);
  m.destroy(ordinary);
}

TEST(alloc, reclaim_account_makes_reclaimable_slabs) {
  slab_machine m;
  kmem_cache& cache = m.make(512, slab_flags_t::no_merge | slab_flags_t::reclaim_account);
  EXPECT_EQ(cache.slab_gfp, gfp::reclaimable);
  void* const p = cache_alloc(*m, cache, gfp::kernel);
  EXPECT_EQ(m->blocks[m->pfn_of(p).raw() / pages_per_block].type, static_cast<uint8_t>(migratetype::reclaimable));
  cache_free(*m, cache, p);
  m.destroy(cache);
}

TEST(alloc, highmem_in_a_mask_is_taken_out_with_the_kernels_words) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  void* const p = cache_alloc(*m, cache, gfp::kernel | gfp::highmem_bit);
  ASSERT_NE(p, nullptr);
  const char* const words = "Unexpected gfp: 0x2 (__GFP_HIGHMEM). Fixing up to gfp: 0xcc0 (GFP_KERNEL). Fix your code!";
  EXPECT_NE(take_log().find(words), std::string::npos);
  cache_free(*m, cache, p);
  m.destroy(cache);
}

/// As if `cache` had been used on that CPU.
void open_array_of(slab_allocator& sa, uint32_t cpu, const kmem_cache& cache) {
  ASSERT_TRUE(charge_metadata(sa, 1));
  sa.cpu_slots[cpu].populated.store_relaxed(1);
  array_header& header = array_headers(cpu_region(sa, cpu))[cache.class_byte];
  header.bounds = (first_array_slot + 1) | array_first_objects << 16;
  header.hot.store_relaxed(header.bounds);
  const lock_guard hold(sa.cpu_slots[cpu].lock);
  sa.cpu_slots[cpu].next_free_slot = first_array_slot + 1 + array_first_objects;
}

TEST(alloc, no_null_while_a_free_object_lies_anywhere) {
  for (int where = 0; where < 4; ++where) {
    slab_machine m;
    kmem_cache& cache = m.make(64);
    const uint32_t other = (this_cpu(*m) + 1) % m->nr_cpus;
    open_array_of(*m, other, cache);
    std::vector<void*> objects;
    while (void* p = cache_alloc(*m, cache, gfp::atomic | gfp::nowarn)) objects.push_back(p);
    auto pages = m.exhaust_pages();
    ASSERT_EQ(cache_alloc(*m, cache, gfp::atomic | gfp::nowarn), nullptr);
    void* one = objects.back();
    objects.pop_back();
    if (where == 0) cache_free(*m, cache, one);           // this CPU's array
    if (where == 1) put_to_slabs(*m, cache, &one, 1);     // its slab
    if (where == 2) {
      atomic<uint32_t>& hot = array_headers(cpu_region(*m, other))[cache.class_byte].hot;
      array_slots(cpu_region(*m, other))[hot.load_relaxed() & 0xffff] = one;
      hot.store_relaxed(hot.load_relaxed() + array_step);
    }
    if (where == 3) {                                     // the deferred list
      nest_guard interrupted;
      const lock_guard held(cache.lock);
      put_to_slabs(*m, cache, &one, 1);
    }
    m.check();
    EXPECT_EQ(cache_alloc(*m, cache, gfp::atomic | gfp::nowarn), one) << where;
    EXPECT_EQ(cache_alloc(*m, cache, gfp::atomic | gfp::nowarn), nullptr) << where;
    cache_free(*m, cache, one);
    for (void* p : objects) cache_free(*m, cache, p);
    m.give_pages(pages);
    m.destroy(cache);
  }
}

TEST(alloc, a_slab_that_is_freed_serves_any_other_size) {
  slab_machine m;
  kmem_cache& small = m.make(16);
  kmem_cache& large = m.make(1024);
  std::vector<void*> objects;
  while (void* p = cache_alloc(*m, small, gfp::kernel | gfp::nowarn)) objects.push_back(p);
  const size_t payload = objects.size() * 16;
  for (void* p : objects) cache_free(*m, small, p);
  objects.clear();
  while (void* p = cache_alloc(*m, large, gfp::kernel | gfp::nowarn)) objects.push_back(p);
  // What 16-byte objects had whole pages of, 1 KiB objects have too: the same, but for pages that the per-CPU arrays took meanwhile.
  EXPECT_GE(objects.size() * 1024 + 8 * page_size, payload);
  m.check();
  for (void* p : objects) cache_free(*m, large, p);
  m.destroy(small);
  m.destroy(large);
}

}  // namespace
}  // namespace kmem::testing
