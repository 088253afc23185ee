// Draining: everything goes back, pages are counted, and the chain gets them.
#include "slab_fixture.hpp"

namespace kmem::testing {
namespace {

TEST(drain, gives_back_every_page_that_holds_no_object) {
  slab_machine m;
  const uint64_t before = charged_pages(*m);
  std::vector<kmem_cache*> caches;
  for (const size_t size : {size_t{8}, size_t{64}, size_t{500}, size_t{4096}, size_t{30000}}) caches.push_back(&m.make(size));
  for (kmem_cache* c : caches) {
    std::vector<void*> objects(600);
    ASSERT_EQ(cache_alloc_bulk(*m, *c, gfp::kernel, 600, objects.data()), 600u);
    for (void* p : objects) cache_free(*m, *c, p);
  }
  const uint64_t held = charged_pages(*m);
  EXPECT_GT(held, before);
  const uint64_t freed = drain_caches(*m, true);
  EXPECT_EQ(held - charged_pages(*m), freed);
  EXPECT_EQ(charged_pages(*m) - before, m.info(m->cache_cache).slabs << m->cache_cache.slab_order);
  m.check();
  for (kmem_cache* c : caches) m.destroy(*c);
}

TEST(drain, keeps_pages_with_objects_and_their_contents) {
  slab_machine m;
  kmem_cache& cache = m.make(256);
  std::vector<char*> objects;
  for (int i = 0; i < 160; ++i) {
    objects.push_back(static_cast<char*>(cache_alloc(*m, cache, gfp::kernel)));
    std::memset(objects.back(), i, 256);
  }
  for (size_t i = 0; i < 160; ++i)
    if (i % 16 != 3) cache_free(*m, cache, objects[i]);
  drain_caches(*m, true);
  EXPECT_EQ(m.info(cache).active, 10u);
  EXPECT_EQ(m.info(cache).in_arrays, 0u);
  for (size_t i = 3; i < 160; i += 16) {
    for (int k = 0; k < 256; ++k) ASSERT_EQ(objects[i][k], static_cast<char>(i));
    cache_free(*m, cache, objects[i]);
  }
  m.destroy(cache);
}

TEST(drain, an_allocation_of_pages_gets_what_caches_held_idle) {
  slab_machine m;
  kmem_cache& cache = m.make(1024);
  std::vector<void*> objects;
  while (void* p = cache_alloc(*m, cache, gfp::kernel | gfp::nowarn)) objects.push_back(p);
  for (void* p : objects) cache_free(*m, cache, p);
  EXPECT_GT(m.info(cache).in_arrays + m.info(cache).in_barn, 0u);
  // Without the drain the pages of these objects would be missing.
  size_t pages_got = 0;
  std::vector<page*> pages;
  while (page* p = alloc_pages(*m, gfp::kernel | gfp::nowarn, order_t(0))) {
    pages.push_back(p);
    ++pages_got;
  }
  EXPECT_GE(pages_got * 4 + 4, objects.size());
  EXPECT_EQ(m.info(cache).slabs, 0u);
  m.give_pages(pages);
  m.destroy(cache);
}

TEST(drain, shrinking_one_cache_leaves_the_others_alone) {
  slab_machine m;
  kmem_cache& a = m.make(64);
  kmem_cache& b = m.make(64);
  for (kmem_cache* c : {&a, &b}) {
    std::vector<void*> objects(300);
    cache_alloc_bulk(*m, *c, gfp::kernel, 300, objects.data());
    for (void* p : objects) cache_free(*m, *c, p);
  }
  const uint64_t of_b = m.info(b).in_arrays + m.info(b).in_barn;
  EXPECT_GT(of_b, 0u);
  EXPECT_GT(cache_shrink(*m, a), 0u);
  EXPECT_EQ(m.info(a).slabs, 0u);
  EXPECT_EQ(m.info(b).in_arrays + m.info(b).in_barn, of_b);
  m.destroy(a);
  m.destroy(b);
}

TEST(drain, while_somebody_waits_frees_go_past_the_arrays) {
  slab_machine m;
  kmem_cache& cache = m.make(1024);
  void* const p = cache_alloc(*m, cache, gfp::kernel);
  drain_caches(*m, true);
  EXPECT_EQ(m.info(cache).slabs, 1u);
  m->waiters.store_relaxed(1);
  cache_free(*m, cache, p);
  m->waiters.store_relaxed(0);
  EXPECT_EQ(m.info(cache).slabs, 0u);
  EXPECT_EQ(m.info(cache).in_arrays, 0u);
  m.destroy(cache);
}

}  // namespace
}  // namespace kmem::testing
