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
  EXPECT_EQ(z.reserve.nr_pages.load_relaxed(), z.reserve_target);
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
  EXPECT_EQ(z.reserve.nr_pages.load_relaxed(), z.reserve_target);
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

}  // namespace
}  // namespace kmem
