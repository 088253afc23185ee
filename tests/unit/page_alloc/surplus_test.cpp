// Surplus: what a zone keeps of what is freed, what it gives back at once, and that who comes back for it pays once.
#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::test_machine;

constexpr uint64_t mib_pages = (uint64_t{1} << 20) >> page_shift;

machine_config keeping(uint64_t kib, uint64_t mem = uint64_t{256} << 20) {
  machine_config config = testing::small_config(mem);
  config.keep_free_kbytes = kib;
  return config;
}

uint64_t present(test_machine& m) { return m.normal().present_free.load_relaxed(); }
uint64_t given(test_machine& m) { return m->stats.pages_given_back.load_relaxed(); }

/// As if so much time had passed.
void end_window(test_machine& m, uint64_t ns) {
  zone& z = m.normal();
  z.surplus_window_ns.store_relaxed(plat::now_ns() - ns);
  z.surplus_looks.store_relaxed(0);
}
constexpr uint64_t two_seconds_ns = 2'000'000'000;

void fill_and_empty(test_machine& m, uint64_t pages) {
  page* const p = alloc_run(*m, gfp::kernel, nr_pages_t(pages));
  ASSERT_NE(p, nullptr);
  free_run(*m, p);
}

TEST(surplus, all_stays_where_nothing_is_said) {
  test_machine m;
  fill_and_empty(m, 32 * mib_pages);
  EXPECT_GE(present(m), 32 * mib_pages);
  EXPECT_EQ(given(m), 0u);
}

TEST(surplus, whole_blocks_go_as_they_are_freed) {
  test_machine m(keeping(1024));
  fill_and_empty(m, 64 * mib_pages);
  EXPECT_LE(present(m), mib_pages + surplus_step);
  EXPECT_GE(given(m), 60 * mib_pages);
}

TEST(surplus, single_blocks_go_when_there_are_enough) {
  test_machine m(keeping(1024));
  {
    held_pages held(*m);
    for (int i = 0; i < 32; ++i) ASSERT_NE(held.take(gfp::kernel, 9), nullptr);
  }
  EXPECT_LE(present(m), mib_pages + 2 * surplus_step);
}

TEST(surplus, an_eighth_of_what_is_in_use_stays) {
  test_machine m(keeping(0));
  page* const used = alloc_run(*m, gfp::kernel, nr_pages_t(64 * mib_pages));
  ASSERT_NE(used, nullptr);
  fill_and_empty(m, 6 * mib_pages);
  EXPECT_GE(present(m), 6 * mib_pages);
  fill_and_empty(m, 32 * mib_pages);
  EXPECT_LE(present(m), 8 * mib_pages + surplus_step);
  EXPECT_GE(present(m), 8 * mib_pages);
  free_run(*m, used);
}

TEST(surplus, pages_of_nearly_empty_blocks_go_too) {
  test_machine m(keeping(1024));
  held_pages held(*m);
  for (uint64_t i = 0; i < 64 * mib_pages; ++i) ASSERT_NE(held.take(gfp::kernel), nullptr);
  std::vector<page*>& pages = held.pages();
  for (size_t i = 0; i < pages.size(); ++i)
    if (i % 256 != 0) {
      free_pages(*m, pages[i], order_t(0));
      pages[i] = nullptr;
    }
  std::erase(pages, nullptr);
  EXPECT_LE(present(m), 4 * mib_pages) << "each block has pages in use, but few";
}

TEST(surplus, who_comes_back_for_it_pays_once) {
  test_machine m(keeping(1024));
  fill_and_empty(m, 64 * mib_pages);
  const uint64_t first = given(m);
  fill_and_empty(m, 64 * mib_pages);
  EXPECT_GT(m.normal().regretted.load_relaxed(), 32 * mib_pages);
  const uint64_t second = given(m);
  EXPECT_LE(second, first + first / 4) << "what was regretted is kept";
  for (int i = 0; i < 10; ++i) fill_and_empty(m, 64 * mib_pages);
  EXPECT_EQ(given(m), second);
  EXPECT_GE(present(m), 48 * mib_pages);
}

TEST(surplus, what_a_window_sees_unused_is_regretted_no_longer) {
  test_machine m(keeping(1024));
  for (int i = 0; i < 3; ++i) fill_and_empty(m, 64 * mib_pages);
  ASSERT_GE(present(m), 48 * mib_pages);
  for (int i = 0; i < 3; ++i) {  // the first window saw all of it used
    end_window(m, two_seconds_ns);
    fill_and_empty(m, 1);
  }
  fill_and_empty(m, mib_pages);
  end_window(m, two_seconds_ns);
  for (unsigned i = 0; i < 3; ++i) fill_and_empty(m, mib_pages);
  EXPECT_LE(present(m), 2 * mib_pages + surplus_step);
}

TEST(surplus, who_comes_back_late_regrets_nothing) {
  test_machine m(keeping(1024));
  fill_and_empty(m, 64 * mib_pages);
  ASSERT_GT(m.normal().given_lately.load_relaxed(), 32 * mib_pages);
  page* const p = alloc_run(*m, gfp::kernel, nr_pages_t(5 * mib_pages));
  ASSERT_NE(p, nullptr);
  end_window(m, 60'000'000'000);
  free_run(*m, p);
  EXPECT_LE(m.normal().given_lately.load_relaxed(), 8 * mib_pages);
}

TEST(surplus, scattered_pages_go_when_a_window_saw_them_unused) {
  test_machine m(keeping(1024));
  held_pages held(*m);
  for (uint64_t i = 0; i < 64 * mib_pages; ++i) ASSERT_NE(held.take(gfp::kernel), nullptr);
  std::vector<page*>& pages = held.pages();
  for (size_t i = 0; i < pages.size(); ++i)
    if (i % 3 == 0) {
      free_pages(*m, pages[i], order_t(0));
      pages[i] = nullptr;
    }
  std::erase(pages, nullptr);
  const uint64_t before = present(m);
  ASSERT_GT(before, 15 * mib_pages) << "blocks that are two thirds full keep theirs at first";
  m.normal().present_low.store_relaxed(before);
  end_window(m, two_seconds_ns);
  free_pages(*m, alloc_pages(*m, gfp::kernel, order_t(4)), order_t(4));
  EXPECT_LE(present(m), before / 2 + mib_pages);
}

TEST(surplus, a_heap_that_shrinks_is_drained_of_what_caches_hold) {
  test_machine m(keeping(1024));
  unsigned drains = 0;
  const auto count = [](void* context, bool) noexcept -> uint64_t { return ++*static_cast<unsigned*>(context), 0; };
  ASSERT_EQ(register_reclaim_ops(*m, {.context = &drains, .drain_caches = count}), err::ok);
  page* const used = alloc_run(*m, gfp::kernel, nr_pages_t(40 * mib_pages));
  fill_and_empty(m, 8 * mib_pages);
  EXPECT_EQ(drains, 0u) << "it has not shrunk to half";
  free_run(*m, used);
  EXPECT_EQ(drains, 1u);
  fill_and_empty(m, mib_pages);
  EXPECT_EQ(drains, 1u) << "it was small before";
  const auto grow_and_shrink = [&] {
    for (int i = 0; i < 100; ++i) {
      fill_and_empty(m, 64 * mib_pages);
      m.normal().surplus_looks.store_relaxed(0);
    }
  };
  grow_and_shrink();
  EXPECT_GT(drains, 2u);
  EXPECT_LE(drains, 2u * 17u) << "bounded in a window, of which the test may see two";
}

TEST(surplus, nothing_goes_in_atomic_context) {
  test_machine m(keeping(1024));
  page* const p = alloc_run(*m, gfp::kernel, nr_pages_t(64 * mib_pages));
  ASSERT_NE(p, nullptr);
  current().preempt_count += 1;
  free_run(*m, p);
  current().preempt_count -= 1;
  EXPECT_EQ(given(m), 0u);
  EXPECT_GE(present(m), 64 * mib_pages);
}

TEST(surplus, nothing_goes_while_somebody_waits) {
  test_machine m(keeping(1024));
  page* const p = alloc_run(*m, gfp::kernel, nr_pages_t(64 * mib_pages));
  ASSERT_NE(p, nullptr);
  announce_waiter(*m);
  free_run(*m, p);
  EXPECT_EQ(given(m), 0u);
  retract_waiter(*m);
}

}  // namespace
}  // namespace kmem
