// Runs of any length, growth and shrinking in place, and large blocks out of scattered memory.
#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::test_machine;

TEST(page_run, keeps_exactly_the_pages_it_needs) {
  test_machine m;
  for (const uint64_t n : {1u, 3u, 7u, 17u, 100u, 511u, 513u, 1000u, 1024u, 1025u, 3000u}) {
    page* const p = alloc_run(*m, gfp::kernel | gfp::zero, nr_pages_t(n));
    ASSERT_NE(p, nullptr) << n;
    EXPECT_EQ(run_pages(p).raw(), n);
    EXPECT_EQ(m->pfn_of(p).raw() % run_alignment(n), 0u) << n;
    EXPECT_EQ(charged_pages(*m), n);
    for (uint64_t i = 0; i < n; ++i) ASSERT_EQ(*(m.address(p) + (i << page_shift)), 0);
    std::memset(m.address(p), 0x11, n << page_shift);
    m.check();
    free_run(*m, p);
    m.check();
  }
  EXPECT_EQ(alloc_run(*m, gfp::kernel, nr_pages_t(0)), nullptr);
}

TEST(page_run, a_power_of_two_is_naturally_aligned_above_max_order_too) {
  test_machine m(testing::small_config(uint64_t{128} << 20));
  page* const p = alloc_run(*m, gfp::kernel, nr_pages_t(8192));
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(m->pfn_of(p).raw() % 8192, 0u);
  free_run(*m, p);
}

TEST(page_run, more_than_there_is_fails_and_changes_nothing) {
  test_machine m;
  const uint64_t free = free_pages_total(*m), metadata = m->metadata_pages.load_relaxed();
  EXPECT_EQ(alloc_run(*m, gfp::kernel | gfp::nowarn, nr_pages_t(m.normal().managed_most + 1)), nullptr);
  EXPECT_EQ(alloc_run(*m, gfp::kernel | gfp::nowarn, nr_pages_t(uint64_t{1} << 40)), nullptr);
  EXPECT_EQ(free_pages_total(*m), free);
  EXPECT_EQ(m->metadata_pages.load_relaxed(), metadata);
}

TEST(page_run, shrinks_in_place_and_grows_into_what_it_gave_up) {
  test_machine m;
  page* const p = alloc_run(*m, gfp::kernel, nr_pages_t(700));
  ASSERT_NE(p, nullptr);
  std::memset(m.address(p), 0x22, 700u << page_shift);
  EXPECT_TRUE(resize_run(*m, p, nr_pages_t(10), gfp::kernel));
  EXPECT_EQ(charged_pages(*m), 10u);
  m.check();
  EXPECT_TRUE(resize_run(*m, p, nr_pages_t(900), gfp::kernel));
  EXPECT_EQ(charged_pages(*m), 900u);
  EXPECT_EQ(m.address(p)[(10u << page_shift) - 1], 0x22);
  m.check();
  EXPECT_FALSE(resize_run(*m, p, nr_pages_t(0), gfp::kernel));
  EXPECT_TRUE(resize_run(*m, p, nr_pages_t(900), gfp::kernel));
  free_run(*m, p);
}

TEST(page_run, does_not_grow_into_others_or_beyond_its_rights) {
  test_machine m;
  page* const p = alloc_run(*m, gfp::kernel, nr_pages_t(100));
  ASSERT_NE(p, nullptr);
  // The page right behind the run is taken.
  std::vector<page*> others;
  page* blocker = nullptr;
  while (blocker == nullptr) {
    page* const q = alloc_pages(*m, gfp::kernel, order_t(0));
    ASSERT_NE(q, nullptr);
    others.push_back(q);
    if (q == p + 100) blocker = q;
  }
  EXPECT_FALSE(resize_run(*m, p, nr_pages_t(101), gfp::kernel));
  EXPECT_EQ(run_pages(p).raw(), 100u);
  for (page* q : others) free_pages(*m, q, order_t(0));
  drain_cpu_pages(*m, true);
  EXPECT_FALSE(resize_run(*m, p, nr_pages_t(m.normal().managed_most), gfp::kernel)) << "below min";
  EXPECT_TRUE(resize_run(*m, p, nr_pages_t(101), gfp::kernel));
  free_run(*m, p);
}

TEST(page_run, a_large_block_comes_out_of_scattered_free_pages) {
  test_machine m;
  held_pages held(*m);
  const size_t all = held.exhaust(gfp::kernel | gfp::noretry);
  ASSERT_GT(all, 4000u);
  // Every other page comes free: no two of them are neighbours, and together they are more than the largest block.
  std::vector<page*>& pages = held.pages();
  std::sort(pages.begin(), pages.end());
  for (size_t i = 0; i < pages.size(); i += 2) {
    free_pages(*m, pages[i], order_t(0));
    pages[i] = nullptr;
  }
  std::erase(pages, nullptr);
  for (const unsigned order : {10u, 9u, 5u, 1u}) {
    page* const p = alloc_pages(*m, gfp::kernel, order_t(order));
    ASSERT_NE(p, nullptr) << order;
    std::memset(m.address(p), 0x33, page_size << order);
    m.check();
    free_pages(*m, p, order_t(order));
  }
  EXPECT_EQ(alloc_pages(*m, gfp::nowait | gfp::nowarn | gfp::dma, order_t(10)), nullptr) << "zones with fixed pfns have no such way";
  page_alloc_totals totals;
  page_alloc_read_totals(*m, totals);
  EXPECT_GE(totals.pages_given_back, 1024u);
}

}  // namespace
}  // namespace kmem
