// The barn: what it takes, how much at most, what it gives back, and who may not have one.
#include "slab_fixture.hpp"

namespace kmem::testing {
namespace {

struct filled {
  std::vector<void*> objects;
  unsigned kept = 0;
};
/// Gives everything to the barn in batches until it takes no more.
filled fill_barn(slab_machine& m, kmem_cache& cache, size_t n) {
  filled result;
  result.objects.resize(n);
  EXPECT_EQ(cache_alloc_bulk(*m, cache, gfp::kernel, n, result.objects.data()), n);
  for (size_t i = 0; i < n;) {
    const auto count = static_cast<unsigned>(std::min<size_t>(n - i, 40));
    const unsigned left = put_to_barn(*m, cache, result.objects.data() + i, count);
    result.kept += count - left;
    for (unsigned k = 0; k < left; ++k) put_to_slabs(*m, cache, &result.objects[i + k], 1);
    i += count;
  }
  return result;
}

TEST(barn, is_bounded_by_sheaves_and_by_bytes) {
  slab_machine m;
  const struct {
    size_t size;
    unsigned bound;
  } cases[] = {{16, barn_sheaves * sheaf_objects}, {64, barn_sheaves * sheaf_objects}, {1024, 64}, {8192, 8}, {32768, 2}};
  for (const auto& c : cases) {
    kmem_cache& cache = m.make(c.size);
    EXPECT_EQ(fill_barn(m, cache, c.bound + 100).kept, c.bound) << c.size;
    EXPECT_EQ(m.info(cache).in_barn, c.bound) << c.size;
    m.check();
    m.destroy(cache);
  }
  kmem_cache& huge = m.make(size_t{128} << 10);
  EXPECT_EQ(fill_barn(m, huge, 3).kept, 0u);
  m.destroy(huge);
}

TEST(barn, gives_back_what_it_was_given_newest_first) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  const filled given = fill_barn(m, cache, 100);
  ASSERT_EQ(given.kept, 100u);
  object_batch out;
  // The last batch was given from its end, so its first object went in last.
  ASSERT_EQ(take_from_barn(*m, cache, out, 20), 20u);
  for (unsigned i = 0; i < 20; ++i) EXPECT_EQ(out[i], given.objects[80 + i]);
  put_to_slabs(*m, cache, out, 20);
  unsigned rest = 0;
  while (const unsigned n = take_from_barn(*m, cache, out, batch_objects_max)) {
    put_to_slabs(*m, cache, out, n);
    rest += n;
  }
  EXPECT_EQ(rest, 80u);
  m.check();
  m.destroy(cache);
}

TEST(barn, serves_a_refill_before_the_slabs) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  fill_barn(m, cache, 200);
  const uint64_t hits = cache.stats.barn_hits.load_relaxed();
  std::vector<void*> objects(150);
  for (void*& p : objects) p = cache_alloc(*m, cache, gfp::kernel);
  EXPECT_GT(cache.stats.barn_hits.load_relaxed(), hits);
  EXPECT_LT(m.info(cache).in_barn, 200u);
  for (void* p : objects) cache_free(*m, cache, p);
  m.destroy(cache);
}

TEST(barn, works_on_without_sheaves_when_there_is_no_page_for_one) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  std::vector<void*> objects;
  while (void* p = cache_alloc(*m, cache, gfp::atomic | gfp::nowarn)) objects.push_back(p);
  auto pages = m.exhaust_pages();
  void* some[40];
  for (void*& p : some) {
    p = objects.back();
    objects.pop_back();
  }
  EXPECT_EQ(put_to_barn(*m, cache, some, 40), 40u);
  EXPECT_NE(m->sheaf_pause.load_relaxed(), 0u);
  put_to_slabs(*m, cache, some, 40);
  for (void* p : objects) cache_free(*m, cache, p);
  m.check();
  m.give_pages(pages);
  m.destroy(cache);
}

TEST(barn, sheaves_go_back_when_a_cache_is_drained) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  fill_barn(m, cache, 300);
  EXPECT_GT(m.info(m->sheaf_cache).active, 0u);
  cache_shrink(*m, cache);
  EXPECT_EQ(m.info(m->sheaf_cache).active, 0u);
  EXPECT_EQ(m.info(cache).in_barn, 0u);
  m.destroy(cache);
}

}  // namespace
}  // namespace kmem::testing
