// Bulk allocation and freeing: all or nothing, any number, contents.
#include <set>

#include "slab_fixture.hpp"

namespace kmem::testing {
namespace {

TEST(bulk, any_number_comes_whole_and_goes_back) {
  slab_machine m;
  for (const size_t size : {size_t{8}, size_t{72}, size_t{2048}}) {
    kmem_cache& cache = m.make(size);
    for (const size_t n : {size_t{1}, size_t{7}, size_t{64}, size_t{65}, size_t{1000}}) {
      std::vector<void*> objects(n);
      ASSERT_EQ(cache_alloc_bulk(*m, cache, gfp::kernel, n, objects.data()), n);
      ASSERT_EQ(std::set<void*>(objects.begin(), objects.end()).size(), n);
      ASSERT_EQ(m.info(cache).active, n);
      for (void* p : objects) std::memset(p, 0x11, size);
      m.check();
      cache_free_bulk(*m, cache, n, objects.data());
      ASSERT_EQ(m.info(cache).active, 0u);
    }
    m.destroy(cache);
  }
}

TEST(bulk, none_is_none) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  EXPECT_EQ(cache_alloc_bulk(*m, cache, gfp::kernel, 0, nullptr), 0u);
  cache_free_bulk(*m, cache, 0, nullptr);
  m.destroy(cache);
}

TEST(bulk, zero_clears_every_object) {
  slab_machine m;
  kmem_cache& cache = m.make(40);
  std::vector<void*> objects(200);
  cache_alloc_bulk(*m, cache, gfp::kernel, 200, objects.data());
  for (void* p : objects) std::memset(p, 0xff, 40);
  cache_free_bulk(*m, cache, 200, objects.data());
  ASSERT_EQ(cache_alloc_bulk(*m, cache, gfp::kernel | gfp::zero, 200, objects.data()), 200u);
  for (void* p : objects)
    for (int i = 0; i < 40; ++i) ASSERT_EQ(static_cast<char*>(p)[i], 0);
  cache_free_bulk(*m, cache, 200, objects.data());
  m.destroy(cache);
}

TEST(bulk, too_many_leave_nothing_behind) {
  slab_machine m;
  kmem_cache& cache = m.make(1024);
  std::vector<void*> objects(100000);
  EXPECT_EQ(cache_alloc_bulk(*m, cache, gfp::kernel | gfp::nowarn, objects.size(), objects.data()), 0u);
  EXPECT_EQ(m.info(cache).active, 0u);
  m.check();
  m.destroy(cache);
}

TEST(bulk, null_and_foreign_entries_are_passed_over) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  kmem_cache& other = m.make(64);
  void* const foreign = cache_alloc(*m, other, gfp::kernel);
  void* objects[5] = {cache_alloc(*m, cache, gfp::kernel), nullptr, foreign, cache_alloc(*m, cache, gfp::kernel), nullptr};
  cache_free_bulk(*m, cache, 5, objects);
  EXPECT_EQ(m->bad_frees.load_relaxed(), 1u);
  EXPECT_EQ(m.info(cache).active, 0u);
  EXPECT_EQ(m.info(other).active, 1u);
  void* last[2] = {cache_alloc(*m, cache, gfp::kernel), foreign};  // the last entry is the bad one
  cache_free_bulk(*m, cache, 2, last);
  EXPECT_EQ(m.info(cache).active, 0u);
  cache_free(*m, other, foreign);
  m.destroy(cache);
  m.destroy(other);
}

}  // namespace
}  // namespace kmem::testing
