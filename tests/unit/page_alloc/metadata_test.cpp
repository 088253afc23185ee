// The metadata account: within its allowance, beyond it, and back.
#include <atomic>
#include <chrono>
#include <thread>

#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::small_config;
using testing::test_machine;

uint64_t sum_managed(test_machine& m) {
  uint64_t sum = 0;
  for (const zone& z : m->zones) sum += z.managed.load_relaxed();
  return sum;
}

TEST(metadata, beyond_the_allowance_normal_shrinks_and_grows_again) {
  test_machine m;
  EXPECT_EQ(sum_managed(m) + m->metadata_allowance, m->limit.raw());
  const uint64_t within = m->metadata_allowance - m->metadata_pages.load_relaxed();
  EXPECT_TRUE(charge_metadata(*m, within));
  EXPECT_EQ(sum_managed(m) + m->metadata_pages.load_relaxed(), m->limit.raw());
  EXPECT_TRUE(charge_metadata(*m, 100));
  EXPECT_EQ(m.normal().managed.load_relaxed(), m.normal().managed_most - 100);
  EXPECT_EQ(sum_managed(m) + m->metadata_pages.load_relaxed(), m->limit.raw());
  m.check();
  uncharge_metadata(*m, 60);
  EXPECT_EQ(m.normal().managed.load_relaxed(), m.normal().managed_most - 40);
  uncharge_metadata(*m, within + 40);
  EXPECT_EQ(m.normal().managed.load_relaxed(), m.normal().managed_most);
  EXPECT_GE(m->metadata_peak.load_relaxed(), m->metadata_allowance + 100);
}

TEST(metadata, takes_nothing_that_is_committed) {
  test_machine m;
  held_pages held(*m);
  held.exhaust(gfp::kernel | gfp::noretry);
  const uint64_t before = m->metadata_pages.load_relaxed();
  const uint64_t room = m->metadata_allowance - before + zone_headroom(m.normal());
  EXPECT_FALSE(charge_metadata(*m, room + 1));
  EXPECT_EQ(m->metadata_pages.load_relaxed(), before);
  EXPECT_TRUE(charge_metadata(*m, room));
  EXPECT_FALSE(charge_metadata(*m, 1));
  m.check();
  uncharge_metadata(*m, room);
}

TEST(metadata, takes_the_place_of_free_pages_for_who_may_wait) {
  test_machine m;
  {
    held_pages held(*m);
    held.exhaust(gfp::kernel | gfp::noretry);
  }
  drain_cpu_pages(*m, true);
  const uint64_t room = m->metadata_allowance - m->metadata_pages.load_relaxed() + zone_headroom(m.normal());
  ASSERT_GT(m.normal().present_free.load_relaxed(), 100u) << "free, and backed";
  EXPECT_FALSE(charge_metadata_for(*m, gfp::nowait, room + 100));
  EXPECT_TRUE(charge_metadata_for(*m, gfp::kernel, room + 100));
  m.check();
  uncharge_metadata(*m, room + 100);
}

// Were they free in between, whoever waits would have them.
TEST(metadata, takes_charged_pages_over_when_nothing_is_free) {
  test_machine m;
  held_pages held(*m);
  const int zone = charge_pages(*m, gfp::kernel, nr_pages_t(5));
  ASSERT_EQ(zone, static_cast<int>(zone_idx::normal));
  held.exhaust(gfp::kernel | gfp::noretry);
  const uint64_t room = m->metadata_allowance - m->metadata_pages.load_relaxed() + zone_headroom(m.normal());
  ASSERT_TRUE(charge_metadata(*m, room));
  ASSERT_FALSE(charge_metadata(*m, 1));
  const uint64_t metadata = m->metadata_pages.load_relaxed(), charged = charged_pages(*m), free = free_pages_total(*m);
  EXPECT_FALSE(charge_becomes_metadata(*m, static_cast<int>(zone_idx::dma), nr_pages_t(5))) << "metadata is NORMAL's";
  EXPECT_TRUE(charge_becomes_metadata(*m, zone, nr_pages_t(5)));
  EXPECT_EQ(m->metadata_pages.load_relaxed(), metadata + 5);
  EXPECT_EQ(charged_pages(*m), charged - 5);
  EXPECT_EQ(free_pages_total(*m), free);
  EXPECT_LE(m.normal().committed.load_relaxed(), m.normal().managed.load_relaxed());
  m.check();
  uncharge_metadata(*m, room + 5);
}

TEST(metadata, of_a_block_is_charged_once_and_returned_when_it_is_given_back) {
  test_machine m(small_config(uint64_t{128} << 20));
  const uint64_t before = m->metadata_pages.load_relaxed();
  page* const p = alloc_run(*m, gfp::kernel, nr_pages_t(8 * pages_per_block));
  ASSERT_NE(p, nullptr);
  const uint64_t used = m->metadata_pages.load_relaxed();
  EXPECT_GE(used - before, 7u * metadata_pages_per_block);
  free_run(*m, p);
  EXPECT_EQ(m->metadata_pages.load_relaxed(), used);
  EXPECT_GE(give_back(*m, ~uint64_t{0}, false), 7u * pages_per_block);
  EXPECT_LE(m->metadata_pages.load_relaxed(), used - 7 * (metadata_pages_per_block - 1)) << "the page tables stay";
  m.check();
  page* const again = alloc_run(*m, gfp::kernel | gfp::zero, nr_pages_t(8 * pages_per_block));
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(m->metadata_pages.load_relaxed(), used);
  for (uint64_t i = 0; i < 8 * pages_per_block; ++i) ASSERT_EQ(m.address(again)[i << page_shift], 0);
  free_run(*m, again);
}

TEST(metadata, all_of_managed_can_be_handed_out_page_by_page) {
  for (const uint64_t mem : {uint64_t{4} << 20, uint64_t{10} << 20, uint64_t{100} << 20}) {
    test_machine m(small_config(mem));
    held_pages held(*m);
    held.exhaust(gfp::atomic);
    const zone& z = m.normal();
    EXPECT_EQ(zone_charged(*m, z), z.managed_most - m->memalloc_pool_target) << mem;
    EXPECT_LE(m->metadata_pages.load_relaxed(), m->metadata_allowance) << mem;
  }
}

TEST(metadata, that_goes_where_the_lock_is_taken_makes_its_room_later) {
  test_machine m;
  zone& z = m.normal();
  const uint64_t most = z.managed.load_relaxed();
  const uint64_t n = m->metadata_allowance - m->metadata_pages.load_relaxed() + 20;
  ASSERT_TRUE(charge_metadata(*m, n));
  EXPECT_EQ(z.managed.load_relaxed(), most - 20);
  {
    const nest_guard below;
    const lock_guard hold(z.lock);
    uncharge_metadata(*m, n);
    EXPECT_EQ(z.managed.load_relaxed(), most - 20);
  }
  drain_cpu_pages(*m, false);  // the next slow path
  EXPECT_EQ(z.managed.load_relaxed(), most);
}

TEST(metadata, that_goes_makes_room_however_little_was_charged_before) {
  test_machine m;
  zone& z = m.normal();
  const uint64_t most = z.managed.load_relaxed();
  {
    const nest_guard guard;
    const lock_guard hold(z.lock);
    z.managed.store_relaxed(most - 20);  // as after a return that another thread overtook
  }
  ASSERT_TRUE(charge_metadata(*m, 1));
  uncharge_metadata(*m, 1);
  EXPECT_EQ(z.managed.load_relaxed(), most);
}

TEST(metadata, that_goes_wakes_who_waits) {
  test_machine m;
  const uint64_t n = m->metadata_allowance - m->metadata_pages.load_relaxed() + 20;
  ASSERT_TRUE(charge_metadata(*m, n));
  announce_waiter(*m);
  const uint32_t before = m->free_sequence.load_relaxed();
  uncharge_metadata(*m, n);
  EXPECT_NE(m->free_sequence.load_relaxed(), before);
  retract_waiter(*m);
}

TEST(metadata, of_a_section_is_charged_when_somebody_else_is_done_with_normal) {
  machine_config config = small_config();
  config.zone_movable = uint64_t{16} << 20;
  test_machine m(config);
  zone& movable = m.at(zone_idx::movable);
  ASSERT_GT(movable.nr_blocks, movable.opened_blocks);
  const uint64_t within = m->metadata_allowance - m->metadata_pages.load_relaxed();
  ASSERT_TRUE(charge_metadata(*m, within));
  std::atomic<bool> held{false};
  std::thread holder([&] {
    const nest_guard guard;
    const lock_guard hold(m.normal().lock);
    held = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  });
  while (!held) std::this_thread::yield();
  EXPECT_TRUE(open_more(*m, movable, 1, true)) << "another thread's lock is no reason to refuse";
  holder.join();
  uncharge_metadata(*m, within);
}

}  // namespace
}  // namespace kmem
