// What is said about refused frees and failed allocations, and that nothing was freed.
#include "slab_fixture.hpp"

namespace kmem::testing {
namespace {

TEST(report, a_free_to_the_wrong_cache_names_both) {
  slab_machine m;
  kmem_cache* const a = cache_create(*m, {.name = "apples", .object_size = 64, .flags = slab_flags_t::no_merge});
  kmem_cache* const b = cache_create(*m, {.name = "pears", .object_size = 64, .flags = slab_flags_t::no_merge});
  void* const p = cache_alloc(*m, *a, gfp::kernel);
  cache_free(*m, *b, p);
  EXPECT_NE(take_log().find("cache_from_obj: Wrong slab cache. pears but object is from apples"), std::string::npos);
  EXPECT_EQ(m.info(*a).active, 1u);
  cache_free(*m, *a, p);
  EXPECT_EQ(m->bad_frees.load_relaxed(), 1u);
  m.destroy(*a);
  m.destroy(*b);
}

TEST(report, a_foreign_pointer_is_refused_wherever_it_points) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  int local = 0;
  page* const alien = alloc_pages(*m, gfp::kernel, order_t(0));
  for (void* p : {static_cast<void*>(&local), static_cast<void*>(m->address_of(m->pfn_of(alien)))}) {
    cache_free(*m, cache, p);
    EXPECT_NE(take_log().find("kmem_cache_free: invalid pointer for test: it lies in no slab"), std::string::npos);
  }
  cache_free(*m, cache, nullptr);
  EXPECT_EQ(take_log(), "");
  put_page(*m, alien);
  m.destroy(cache);
}

TEST(report, a_double_free_says_where_and_frees_once) {
  slab_machine m;
  kmem_cache& cache = m.make(128);
  void* objects[2];
  cache_alloc_bulk(*m, cache, gfp::kernel, 2, objects);
  put_to_slabs(*m, cache, &objects[1], 1);
  put_to_slabs(*m, cache, &objects[1], 1);
  const std::string log = take_log();
  EXPECT_NE(log.find("BUG test (Not tainted): Object already free"), std::string::npos) << log;
  EXPECT_NE(log.find("@offset="), std::string::npos) << log;
  EXPECT_NE(log.find("It was not freed."), std::string::npos) << log;
  m.check();
  cache_free(*m, cache, objects[0]);
  m.destroy(cache);
}

TEST(report, a_free_into_a_slab_that_is_gone_is_refused) {
  slab_machine m;
  kmem_cache& cache = m.make(128);
  void* p = cache_alloc(*m, cache, gfp::kernel);
  cache_free(*m, cache, p);
  drain_caches(*m, true);
  cache_free(*m, cache, p);
  EXPECT_EQ(m->bad_frees.load_relaxed(), 1u);
  put_to_slabs(*m, cache, &p, 1);  // as if it had still been in an array
  EXPECT_EQ(m->bad_frees.load_relaxed(), 2u);
  m.check();
  m.destroy(cache);
}

TEST(report, a_storm_of_bad_frees_is_counted_in_full_and_told_ten_times) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  int local = 0;
  for (int i = 0; i < 1000; ++i) cache_free(*m, cache, &local);
  EXPECT_EQ(m->bad_frees.load_relaxed(), 1000u);
  const std::string log = take_log();
  size_t told = 0;
  for (size_t at = log.find("invalid pointer"); at != std::string::npos; at = log.find("invalid pointer", at + 1)) ++told;
  EXPECT_EQ(told, 10u);
  m.destroy(cache);
}

TEST(report, a_failed_allocation_reads_as_the_kernels_with_our_numbers) {
  slab_machine m;
  kmem_cache* const cache = cache_create(*m, {.name = "things", .object_size = 200, .flags = slab_flags_t::no_merge});
  std::vector<void*> objects;
  while (void* p = cache_alloc(*m, *cache, gfp::atomic | gfp::nowarn)) objects.push_back(p);
  EXPECT_EQ(take_log(), "");
  EXPECT_EQ(cache_alloc(*m, *cache, gfp::atomic), nullptr);
  const cache_info info = m.info(*cache);
  const std::string log = take_log();
  const std::string expected = "SLUB: Unable to allocate memory on node -1, gfp=0xa20(GFP_ATOMIC)\n"
                               "  cache: things, object size: 200, buffer size: 200, default order: 0, min order: 0\n"
                               "  node 0: slabs: " +
                               std::to_string(info.slabs) + ", objs: " + std::to_string(info.total) + ", free: 0\n";
  EXPECT_NE(log.find(expected), std::string::npos) << log;
  EXPECT_NE(log.find("page allocation failure"), std::string::npos) << log;
  EXPECT_NE(log.find("Largest slab caches:"), std::string::npos) << log;
  EXPECT_NE(log.find("things"), std::string::npos) << log;
  EXPECT_GE(cache->stats.failures.load_relaxed(), 2u);
  for (void* p : objects) cache_free(*m, *cache, p);
  m.destroy(*cache);
}

TEST(report, a_cleared_object_that_a_constructor_has_made_is_refused_with_a_record) {
  slab_machine m;
  kmem_cache& cache = m.make(64, slab_flags_t::no_merge, 0, [](void* object) noexcept { std::memset(object, 1, 64); });
  const uint64_t records = m->failure_sequence.load_relaxed();
  EXPECT_EQ(cache_alloc(*m, cache, gfp::kernel | gfp::zero), nullptr);
  alloc_failure record;
  ASSERT_EQ(m->failure_sequence.load_relaxed(), records + 1);
  ASSERT_TRUE(read_failure(*m, records + 1, record));
  EXPECT_EQ(record.bytes, 64u);
  EXPECT_EQ(record.reached, chain_step::refused);
  EXPECT_NE(take_log().find("__GFP_ZERO is refused"), std::string::npos);
  m.destroy(cache);
}

TEST(report, the_failure_record_names_the_cache_and_the_size) {
  slab_machine m;
  kmem_cache* const cache = cache_create(*m, {.name = "things", .object_size = 200, .flags = slab_flags_t::no_merge});
  auto pages = m.exhaust_pages();
  EXPECT_EQ(cache_alloc(*m, *cache, gfp::atomic | gfp::nowarn), nullptr);
  alloc_failure record;
  ASSERT_TRUE(read_failure(*m, m->failure_sequence.load_relaxed(), record));
  EXPECT_STREQ(record.cache, "things");
  EXPECT_EQ(record.bytes, 200u);
  m.give_pages(pages);
  m.destroy(*cache);
}

}  // namespace
}  // namespace kmem::testing
