// The per-CPU lists: their bounds, their order, and what happens when they are busy.
#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::small_config;
using testing::test_machine;

TEST(cpu_lists, never_hold_more_than_their_high_mark) {
  test_machine m;
  zone& z = m.normal();
  held_pages held(*m);
  for (int i = 0; i < 3000; ++i) ASSERT_NE(held.take(gfp::kernel, static_cast<unsigned>(i) % nr_cpu_list_orders), nullptr);
  held.release();
  for (unsigned cpu = 0; cpu < m->nr_cpus; ++cpu) EXPECT_LE(z.per_cpu[cpu].nr_pages.load_relaxed(), z.cpu_high);
  EXPECT_GT(zone_in_cpu_lists(*m, z), 0u);
  m.check();
}

TEST(cpu_lists, hold_pages_that_are_neither_free_nor_charged_until_they_are_drained) {
  test_machine m;
  zone& z = m.normal();
  page* const p = alloc_pages(*m, gfp::kernel, order_t(0));
  ASSERT_NE(p, nullptr);
  free_pages(*m, p, order_t(0));
  const uint64_t listed = zone_in_cpu_lists(*m, z), free = zone_free(z);
  ASSERT_GT(listed, 0u);
  EXPECT_EQ(zone_charged(*m, z), 0u);
  EXPECT_EQ(drain_cpu_pages(*m, true), listed);
  EXPECT_EQ(zone_in_cpu_lists(*m, z), 0u);
  EXPECT_EQ(zone_free(z), free + listed);
}

TEST(cpu_lists, a_batch_is_used_in_address_order) {
  test_machine m(small_config(uint64_t{256} << 20));
  zone& z = m.normal();
  ASSERT_GT(z.cpu_batch, 4u);
  alignas(64) pfn_t taken[4];
  const nest_guard no_other_entry;
  for (pfn_t& pfn : taken) {
    pfn = cpu_list_take(*m, z, 0, migratetype::reclaimable, false, 0);
    if (pfn.is_none()) break;  // no block of that kind is paid for yet: the zone's path pays
  }
  if (taken[0].is_none()) {
    page* const first = alloc_pages(*m, gfp::kernel | gfp::reclaimable, order_t(0));
    ASSERT_NE(first, nullptr);
    for (pfn_t& pfn : taken) pfn = cpu_list_take(*m, z, 0, migratetype::reclaimable, false, 0);
    put_page(*m, first);
  }
  for (unsigned i = 1; i < 4; ++i) EXPECT_LT(taken[i - 1].raw(), taken[i].raw());
  for (const pfn_t pfn : taken) put_page(*m, &m->page_of(pfn));
}

TEST(cpu_lists, no_more_than_asked_for_is_fetched_while_somebody_waits) {
  test_machine m(small_config(uint64_t{256} << 20));
  page* const first = alloc_pages(*m, gfp::kernel, order_t(0));  // a block of that kind is paid for now
  drain_cpu_pages(*m, true);
  ASSERT_GT(m.normal().cpu_batch, 1u);
  m->waiters.fetch_add_relaxed(1);
  page* const p = alloc_pages(*m, gfp::atomic, order_t(0));
  EXPECT_NE(p, nullptr);
  EXPECT_EQ(zone_in_cpu_lists(*m, m.normal()), 0u);
  m->waiters.fetch_sub_relaxed(1);
  put_page(*m, p);
  put_page(*m, first);
}

TEST(cpu_lists, a_batch_does_not_take_the_zone_below_the_callers_floor) {
  test_machine m;
  zone& z = m.normal();
  held_pages held(*m);
  held.exhaust(gfp::nowait);
  EXPECT_EQ(zone_free(z), z.watermarks[0]);
  EXPECT_EQ(zone_in_cpu_lists(*m, z), 0u) << "what lies in lists is drained before an allocation fails";
}

TEST(cpu_lists, a_busy_list_is_passed_by) {
  test_machine m;
  zone& z = m.normal();
  for (unsigned cpu = 0; cpu < m->nr_cpus; ++cpu) ASSERT_TRUE(z.per_cpu[cpu].lock.try_lock());
  page* const p = alloc_pages(*m, gfp::kernel, order_t(0));
  ASSERT_NE(p, nullptr);
  free_pages(*m, p, order_t(0));
  EXPECT_EQ(drain_cpu_pages(*m, false), 0u) << "without waiting nothing is to be had from them";
  for (unsigned cpu = 0; cpu < m->nr_cpus; ++cpu) z.per_cpu[cpu].lock.unlock();
}

TEST(cpu_lists, are_passed_by_while_somebody_waits) {
  test_machine m;
  page* const p = alloc_pages(*m, gfp::kernel, order_t(0));
  ASSERT_NE(p, nullptr);
  drain_cpu_pages(*m, true);
  m->waiters.fetch_add_relaxed(1);
  const uint32_t before = m->free_sequence.load_relaxed();
  free_pages(*m, p, order_t(0));
  m->waiters.fetch_sub_relaxed(1);
  EXPECT_EQ(zone_in_cpu_lists(*m, m.normal()), 0u);
  EXPECT_EQ(m->free_sequence.load_relaxed(), before + 1);
}

}  // namespace
}  // namespace kmem
