// Pages in one piece for who has interrupted the holder of a zone's lock.
#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::small_config;
using testing::test_machine;

constexpr uint64_t mib = uint64_t{1} << 20;

/// What a handler sees that has interrupted the holder of NORMAL's lock.
class interrupted_zone {
 public:
  explicit interrupted_zone(test_machine& m) KMEM_NO_ANALYSIS : zone_(m.normal()) { EXPECT_TRUE(zone_.lock.try_lock()); }
  ~interrupted_zone() KMEM_NO_ANALYSIS { zone_.lock.unlock(); }
  interrupted_zone(const interrupted_zone&) = delete;
  interrupted_zone& operator=(const interrupted_zone&) = delete;

 private:
  nest_guard guard_;
  zone& zone_;
};

TEST(reserve_runs, are_set_aside_where_there_is_room_and_count_as_free) {
  test_machine large(small_config(80 * mib)), middle(small_config(40 * mib)), small(small_config(16 * mib));
  EXPECT_EQ(run_pages_of(large.normal()), 4 * pages_per_block);
  EXPECT_EQ(run_pages_of(middle.normal()), 2 * pages_per_block);
  EXPECT_EQ(run_pages_of(small.normal()), 0u);
  EXPECT_EQ(zone_free(middle.normal()) + middle->memalloc_pool.nr_pages.load_relaxed(), middle.normal().managed.load_relaxed());
  EXPECT_EQ(charged_pages(*middle), 0u);
}

TEST(reserve_runs, serve_whoever_has_interrupted_the_holder_of_the_lock) {
  test_machine m(small_config(80 * mib));
  held_pages held(*m);
  std::vector<page*> runs;
  {
    const interrupted_zone below(m);
    for (const unsigned order : {0u, 1u, 3u, 6u, 9u}) {
      page* const p = held.take(gfp::atomic | gfp::zero, order);
      ASSERT_NE(p, nullptr) << order;
      EXPECT_EQ(m->pfn_of(p).raw() % (1u << order), 0u) << "blocks are naturally aligned";
      for (size_t i = 0; i < page_size << order; i += 8) ASSERT_EQ(m.address(p)[i], 0);
      std::memset(m.address(p), 0x5a, page_size << order);
    }
    for (const uint64_t n : {3u, 100u, 257u}) {
      page* const p = alloc_run(*m, gfp::atomic, nr_pages_t(n));
      ASSERT_NE(p, nullptr) << n;
      EXPECT_EQ(m->pfn_of(p).raw() % run_alignment(n), 0u);
      std::memset(m.address(p), 0x33, n << page_shift);
      runs.push_back(p);
    }
    EXPECT_EQ(alloc_run(*m, gfp::atomic | gfp::nowarn, nr_pages_t(513)), nullptr) << "no run is longer than a page block";
  }
  m.check();
  for (page* const p : held.pages()) EXPECT_EQ(m.address(p)[0], 0x5a);
  for (page* const p : runs) free_run(*m, p);
}

TEST(reserve_runs, what_cannot_be_freed_at_once_serves_the_next_one) {
  test_machine m(small_config(40 * mib));
  const interrupted_zone below(m);
  for (int round = 0; round < 100; ++round) {
    page* const a = alloc_run(*m, gfp::atomic, nr_pages_t(512));
    page* const b = alloc_run(*m, gfp::atomic, nr_pages_t(300));
    ASSERT_TRUE(a != nullptr && b != nullptr) << round;
    free_run(*m, a);
    free_run(*m, b);
  }
  EXPECT_EQ(m->deferred.nr_pages.load_relaxed(), 0u);
}

TEST(reserve_runs, are_whole_again_after_the_next_slow_path) {
  test_machine m(small_config(40 * mib));
  const uint64_t before = run_pages_of(m.normal());
  page* p = nullptr;
  {
    const interrupted_zone below(m);
    p = alloc_run(*m, gfp::atomic, nr_pages_t(512));
    ASSERT_NE(p, nullptr);
    EXPECT_LT(run_pages_of(m.normal()), before);
  }
  free_run(*m, p);  // to the zone, which settles
  EXPECT_EQ(run_pages_of(m.normal()), before);
  m.check();
}

TEST(reserve_runs, cost_nobody_a_page) {
  test_machine m(small_config(40 * mib));
  held_pages held(*m);
  const uint64_t managed = m.normal().managed.load_relaxed();
  const size_t got = held.exhaust(gfp::atomic);
  EXPECT_EQ(run_pages_of(m.normal()), 0u);
  EXPECT_GE(got, managed - 200) << "but for descriptors, which the pages need";
  held.release();
  drain_cpu_pages(*m, true);
  EXPECT_NE(run_pages_of(m.normal()), 0u);
}

TEST(reserve_runs, are_nothing_that_a_second_free_could_reach) {
  test_machine m(small_config(40 * mib));
  testing::printed out;
  page* p = nullptr;
  {
    const interrupted_zone below(m);
    p = alloc_run(*m, gfp::atomic, nr_pages_t(16));
    ASSERT_NE(p, nullptr);
    free_run(*m, p);
    free_run(*m, p);
  }
  EXPECT_TRUE(out.has("released, but not allocated")) << out.text();
}

}  // namespace
}  // namespace kmem
