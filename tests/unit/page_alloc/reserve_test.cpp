// The reserve: really there, given to whoever has the right, and filled again.
#include <sys/mman.h>

#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::small_config;
using testing::test_machine;

bool is_resident(test_machine& m, pfn_t pfn) {
  unsigned char resident = 0;
  EXPECT_EQ(mincore(m->address_of(pfn), page_size, &resident), 0);
  return (resident & 1) != 0;
}

TEST(reserve, is_backed_from_the_start_and_part_of_free) {
  test_machine m;
  zone& z = m.normal();
  EXPECT_EQ(z.reserve.nr_pages.load_relaxed(), z.watermarks[0]);
  EXPECT_EQ(zone_free(z), z.managed_most - m->memalloc_pool_target);
  std::vector<page*> taken;
  for (pfn_t pfn = reserve_take(*m, z); !pfn.is_none(); pfn = reserve_take(*m, z)) {
    EXPECT_TRUE(is_resident(m, pfn));
    page& p = m->page_of(pfn);
    taken.push_back(&p);
  }
  EXPECT_EQ(taken.size(), z.watermarks[0]);
  EXPECT_EQ(zone_free(z), z.managed_most - m->memalloc_pool_target - taken.size());
  for (page* p : taken) free_pages(*m, p, order_t(0));
}

TEST(reserve, can_be_smaller_than_min) {
  machine_config config = small_config();
  config.reserve_backed_kbytes = 64;
  test_machine m(config);
  uint64_t sum = 0;
  for (const zone& z : m->zones) sum += z.reserve.nr_pages.load_relaxed();
  EXPECT_LE(sum, 16u);
  EXPECT_GE(sum, 14u);
}

TEST(reserve, atomic_takes_it_to_the_last_page_and_freed_pages_fill_it) {
  test_machine m;
  zone& z = m.normal();
  held_pages ordinary(*m), atomic(*m);
  ordinary.exhaust(gfp::kernel | gfp::noretry);
  EXPECT_EQ(zone_free(z), z.watermarks[0]);
  EXPECT_EQ(ordinary.take(gfp::nowait | gfp::nowarn), nullptr);
  EXPECT_GE(atomic.exhaust(gfp::atomic), z.watermarks[0]);
  EXPECT_EQ(zone_free(z), 0u);
  EXPECT_EQ(z.reserve.nr_pages.load_relaxed(), 0u);
  atomic.release();
  EXPECT_EQ(z.reserve.nr_pages.load_relaxed(), z.reserve_target.load_relaxed());
  EXPECT_EQ(ordinary.take(gfp::nowait | gfp::nowarn), nullptr) << "the reserve is not for everybody";
}

TEST(reserve, becomes_larger_blocks_for_an_atomic_caller) {
  machine_config config = small_config(uint64_t{16} << 20);
  config.span = 1;
  test_machine m(config);
  zone& z = m.normal();
  held_pages ordinary(*m), atomic(*m);
  ordinary.exhaust(gfp::kernel | gfp::noretry);
  ASSERT_EQ(z.present_free.load_relaxed(), z.watermarks[0] - z.reserve.nr_pages.load_relaxed());
  EXPECT_NE(atomic.take(gfp::atomic | gfp::nowarn, 2), nullptr);
}

TEST(reserve, is_refilled_by_slow_paths_that_may_block) {
  test_machine m;
  zone& z = m.normal();
  EXPECT_GT(dissolve_reserve(*m, z), 0u);
  EXPECT_EQ(z.reserve.nr_pages.load_relaxed(), 0u);
  m.check();
  refill_reserve(*m);
  EXPECT_EQ(z.reserve.nr_pages.load_relaxed(), z.reserve_target.load_relaxed());
}

constexpr uint64_t second_ns = 1'000'000'000;

/// A machine with 64 KiB of its reserve backed, under both rules.
class growing_reserve : public ::testing::TestWithParam<reserve_policy> {
 protected:
  growing_reserve() : m_(config()) {}
  static machine_config config() {
    machine_config c = small_config();
    c.reserve_backed_kbytes = 64;
    c.policy = GetParam();
    return c;
  }
  test_machine& machine() { return m_; }
  zone& normal() { return m_.normal(); }
  uint64_t target() { return normal().reserve_target.load_relaxed(); }
  uint64_t in_reserve() { return normal().reserve.nr_pages.load_relaxed(); }
  uint64_t min() { return normal().watermarks[0]; }
  /// What an atomic request does that finds nothing but the reserve, until that is empty.
  void drain_reserve(held_pages& held) {
    page_allocator& pa = *m_;
    held.exhaust(gfp::atomic);
    while (in_reserve() != 0) {
      const pfn_t pfn = reserve_take(pa, normal());
      note_reserve_use(pa, normal());
      held.pages().push_back(&pa.page_of(pfn));
    }
    note_reserve_use(pa, normal());
  }

 private:
  test_machine m_;
};

TEST_P(growing_reserve, doubles_up_to_min_when_atomic_requests_empty_it) {
  const uint64_t base = normal().reserve_base;
  ASSERT_EQ(target(), base);
  ASSERT_LT(base, min() / 4);
  for (uint64_t before = base; before < min(); before = target()) {
    held_pages held(*machine());
    drain_reserve(held);
    EXPECT_GT(target(), before);
    EXPECT_LE(target(), min());
    held.release();
    EXPECT_EQ(in_reserve(), target()) << "freed pages fill it first";
    machine().check();
  }
  held_pages held(*machine());
  drain_reserve(held);
  EXPECT_EQ(target(), min());
}

TEST_P(growing_reserve, shrinks_by_halves_when_nobody_needs_it) {
  {
    held_pages held(*machine());
    drain_reserve(held);
    drain_reserve(held);
  }
  refill_reserve(*machine());
  const uint64_t base = normal().reserve_base, grown = target();
  ASSERT_GT(grown, 2 * base);
  ASSERT_EQ(in_reserve(), grown);
  uint64_t now = 100 * second_ns;
  EXPECT_TRUE(decay_reserves(*machine(), now)) << "it was used";
  EXPECT_EQ(target(), grown);
  EXPECT_TRUE(decay_reserves(*machine(), now + 9 * second_ns)) << "too early";
  EXPECT_EQ(target(), grown);
  now += reserve_decay_after_ns;
  EXPECT_TRUE(decay_reserves(*machine(), now));
  EXPECT_EQ(target(), base + (grown - base) / 2);
  EXPECT_EQ(in_reserve(), target());
  machine().check();
  // A use puts it off.
  page* const p = &machine()->page_of(reserve_take(*machine(), normal()));
  note_reserve_use(*machine(), normal());
  const uint64_t before = target();
  now += reserve_decay_after_ns;
  EXPECT_TRUE(decay_reserves(*machine(), now));
  EXPECT_EQ(target(), before);
  free_pages(*machine(), p, order_t(0));
  for (int round = 0; round < 20 && target() > base; ++round) {
    now += reserve_decay_after_ns;
    decay_reserves(*machine(), now);
  }
  EXPECT_EQ(target(), base);
  EXPECT_EQ(in_reserve(), base);
  EXPECT_FALSE(decay_reserves(*machine(), now + reserve_decay_after_ns));
  machine().check();
}

TEST_P(growing_reserve, what_it_no_longer_needs_goes_back_to_the_system) {
  page_allocator& pa = *machine();
  {
    held_pages held(pa);
    drain_reserve(held);
    drain_reserve(held);
  }
  refill_reserve(pa);
  const uint64_t given = pa.stats.pages_given_back.load_relaxed();
  uint64_t now = second_ns;
  for (int round = 0; round < 20; ++round) decay_reserves(pa, now += reserve_decay_after_ns);
  EXPECT_EQ(target(), normal().reserve_base);
  EXPECT_GT(pa.stats.pages_given_back.load_relaxed(), given);
  machine().check();
}

INSTANTIATE_TEST_SUITE_P(policies, growing_reserve, ::testing::Values(reserve_policy::spec, reserve_policy::linux6_1),
                         [](const auto& info) { return info.param == reserve_policy::spec ? "spec" : "linux6_1"; });

// An allocation that may sleep takes care of it where there is no kswapd.
TEST(reserve, is_made_smaller_again_by_slow_paths) {
  machine_config config = small_config();
  config.reserve_backed_kbytes = 64;
  test_machine m(config);
  zone& z = m.normal();
  z.reserve_target.store_relaxed(z.watermarks[0]);
  m->reserve_grown.store_relaxed(1);
  z.reserve_decay_ns.store_relaxed(1);
  page* const nobody = alloc_pages(*m, gfp::nowait, order_t(5));
  EXPECT_EQ(z.reserve_target.load_relaxed(), z.watermarks[0]) << "not in a call that may not sleep";
  page* const block = alloc_pages(*m, gfp::kernel, order_t(5));
  EXPECT_LT(z.reserve_target.load_relaxed(), z.watermarks[0]);
  ASSERT_NE(block, nullptr);
  free_pages(*m, nobody, order_t(5));
  free_pages(*m, block, order_t(5));
  m->reserve_grown.store_relaxed(0);
}

TEST(background_reclaim, sees_which_zones_are_above_their_watermarks) {
  machine_config config = small_config();
  test_machine m(config);
  zone& z = m.normal();
  held_pages held(*m);
  EXPECT_TRUE(some_zone_above(*m, watermark::high, 1, zone_idx::normal));
  EXPECT_EQ(pages_missing(*m, watermark::high, zone_idx::normal), 0u);
  held.exhaust(gfp::kernel | gfp::noretry);
  ASSERT_EQ(zone_free(z), z.watermarks[0]);
  EXPECT_FALSE(some_zone_above(*m, watermark::high, 1, zone_idx::normal));
  EXPECT_FALSE(some_zone_above(*m, watermark::min, 1, zone_idx::normal));
  const uint64_t missing = pages_missing(*m, watermark::low, zone_idx::normal);
  EXPECT_GT(missing, 0u);
  EXPECT_LE(missing, z.watermarks[1] - z.watermarks[0] + 1);
  EXPECT_GE(pages_below(*m, watermark::low, zone_idx::normal), z.watermarks[1] - z.watermarks[0]);
  EXPECT_EQ(pages_below(*m, watermark::min, zone_idx::normal), 0u);
  const uint64_t freed = nr_freed_pages(*m);
  held.release();
  EXPECT_GT(nr_freed_pages(*m), freed);
}

TEST(background_reclaim, makes_room_for_a_block_that_can_be_backed_in_one_piece) {
  test_machine m;
  zone& z = m.normal();
  held_pages held(*m);
  held.exhaust(gfp::atomic);
  held.release();  // everything backed and scattered over CPU lists and areas
  drain_cpu_pages(*m, true);
  const order_t order(9);
  ASSERT_LT(zone_headroom(z), nr_pages(order).raw());
  make_room_for_block(*m, order, zone_idx::normal);
  EXPECT_GE(zone_headroom(z), nr_pages(order).raw());
  m.check();
}

TEST(memalloc_pool, serves_those_who_free_memory_when_nothing_is_left) {
  test_machine m;
  held_pages held(*m);
  held.exhaust(gfp::atomic);
  for (unsigned i = 0; i < nr_zones; ++i) held.exhaust(gfp::atomic);
  ASSERT_EQ(zone_free(m.normal()), 0u);
  EXPECT_EQ(held.take(gfp::atomic | gfp::nowarn), nullptr);
  const uint64_t pool = m->memalloc_pool.nr_pages.load_relaxed();
  EXPECT_EQ(pool, m->memalloc_pool_target);
  held_pages own(*m);
  {
    const memalloc_noreclaim_scope scope;
    EXPECT_GE(own.exhaust(gfp::kernel), pool);
    EXPECT_EQ(own.take(gfp::kernel | gfp::nomemalloc | gfp::nowarn), nullptr);
  }
  EXPECT_EQ(m->memalloc_pool.nr_pages.load_relaxed(), 0u);
  own.release();
  held.release();
  refill_reserve(*m);
  EXPECT_EQ(m->memalloc_pool.nr_pages.load_relaxed(), m->memalloc_pool_target);
}

TEST(reserve, is_refilled_page_by_page_when_little_is_free_and_tells_who_waits) {
  testing::test_machine m(testing::small_config(uint64_t{16} << 20));
  testing::held_pages held(*m);
  held.exhaust(gfp::atomic);
  zone& z = m.normal();
  std::vector<page*>& pages = held.pages();
  const uint64_t target = z.reserve_target.load_relaxed();
  z.reserve_target.store_relaxed(0);  // what is freed goes to the free areas
  for (unsigned i = 0; i < 20; ++i) {
    free_pages(*m, pages[i], order_t(0));
    pages[i] = pages.back();
    pages.pop_back();
  }
  z.reserve_target.store_relaxed(target);
  drain_cpu_pages(*m, true);
  ASSERT_EQ(z.reserve.nr_pages.load_relaxed(), 0u);
  ASSERT_GE(target, 20u);
  const uint64_t taken = z.taken.load_relaxed();
  z.taken_peak.store_relaxed(taken);
  announce_waiter(*m);
  const uint32_t before = m->free_sequence.load_relaxed();
  refill_reserve(*m);
  EXPECT_NE(m->free_sequence.load_relaxed(), before);
  retract_waiter(*m);
  EXPECT_GE(z.reserve.nr_pages.load_relaxed(), 18u);
  EXPECT_EQ(z.taken.load_relaxed(), taken);
  EXPECT_EQ(z.taken_peak.load_relaxed(), taken + 1) << "so many pages were free and nobody could have them";
}

}  // namespace
}  // namespace kmem
