// Runs that are to grow: blocks behind them that others pass by, and that come back when they are needed or the run is gone.
#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::test_machine;

constexpr uint64_t block = pages_per_block;

unsigned blocks_with_room(test_machine& m) {
  unsigned n = 0;
  for (uint32_t i = 0; i < m.normal().opened_blocks; ++i) n += m->blocks[m.normal().first_block + i].room;
  return n;
}

class room : public ::testing::Test {
 protected:
  test_machine m{testing::small_config(uint64_t{128} << 20)};
  page* growing(uint64_t n, uint64_t behind) { return alloc_run(*m, gfp::kernel, nr_pages_t(n), false, nr_pages_t(behind)); }
};

TEST_F(room, a_run_grows_into_it_while_others_allocate) {
  page* const p = growing(256, 8 * block);
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(blocks_with_room(m), 9u);
  held_pages held(*m);
  for (uint64_t n = 512; n <= 8 * block; n += 256) {
    for (int i = 0; i < 40; ++i) ASSERT_NE(held.take(gfp::kernel, static_cast<unsigned>(i % 5)), nullptr);
    ASSERT_TRUE(resize_run(*m, p, nr_pages_t(n), gfp::kernel)) << n;
    std::memset(m.address(p) + ((n - 1) << page_shift), 1, page_size);
  }
  m.check();
  free_run(*m, p);
  EXPECT_EQ(blocks_with_room(m), 0u) << "what was left of it is nobody's now";
}

TEST_F(room, its_metadata_is_paid_for_as_it_is_used) {
  page* const p = growing(256, 4 * block);
  ASSERT_NE(p, nullptr);
  const uint64_t before = m->metadata_pages.load_relaxed();
  ASSERT_TRUE(resize_run(*m, p, nr_pages_t(3 * block), gfp::kernel));
  EXPECT_EQ(m->metadata_pages.load_relaxed(), before + 2 * metadata_pages_per_block);
  m.check();
  free_run(*m, p);
}

TEST_F(room, other_runs_pass_it_by) {
  page* const p = growing(block, 4 * block);
  page* const q = alloc_run(*m, gfp::kernel, nr_pages_t(3 * block));
  ASSERT_TRUE(p != nullptr && q != nullptr);
  EXPECT_TRUE(m->pfn_of(q).raw() >= m->pfn_of(p).raw() + 5 * block || m->pfn_of(q).raw() < m->pfn_of(p).raw());
  EXPECT_TRUE(resize_run(*m, p, nr_pages_t(5 * block), gfp::kernel));
  free_run(*m, p);
  free_run(*m, q);
}

TEST_F(room, it_is_given_up_before_anything_fails) {
  page* const p = growing(block, 8 * block);
  ASSERT_NE(p, nullptr);
  // Everything that the budget has, in blocks: room keeps no memory from anybody.
  held_pages held(*m);
  while (held.take(gfp::kernel | gfp::nowarn, 9) != nullptr) {
  }
  while (held.take(gfp::kernel | gfp::nowarn) != nullptr) {
  }
  EXPECT_LE(zone_free(m.normal()), m.normal().watermarks[static_cast<unsigned>(watermark::min)] + 1);
  m.check();
  free_run(*m, p);
}

TEST_F(room, backed_pages_in_it_are_given_up_too) {
  held_pages held(*m);
  while (held.take(gfp::kernel | gfp::nowarn, 9) != nullptr) {
  }
  const uint64_t all = held.pages().size();
  held.release();
  page* const p = growing(block, 8 * block);
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(blocks_with_room(m), 9u);
  while (held.take(gfp::kernel | gfp::nowarn, 9) != nullptr) {
  }
  EXPECT_EQ(held.pages().size(), all - 1) << "those in its room are all that is left, since all of the budget is backed";
  m.check();
  free_run(*m, p);
}

TEST_F(room, shrinking_gives_it_up) {
  page* const p = growing(2 * block, 4 * block);
  ASSERT_NE(p, nullptr);
  ASSERT_TRUE(resize_run(*m, p, nr_pages_t(block / 2), gfp::kernel));
  EXPECT_EQ(blocks_with_room(m), 0u);
  m.check();
  free_run(*m, p);
}

TEST_F(room, where_there_is_none_a_run_does_without) {
  page* const p = growing(256, m->span_pages);
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(blocks_with_room(m), 0u);
  free_run(*m, p);
}

TEST_F(room, a_place_that_is_backed_comes_first) {
  page* const low = alloc_run(*m, gfp::kernel, nr_pages_t(6 * block));
  page* const high = alloc_run(*m, gfp::kernel, nr_pages_t(6 * block));
  ASSERT_TRUE(low != nullptr && high != nullptr && low < high);
  free_run(*m, low);
  give_back(*m, ~uint64_t{0}, false);
  free_run(*m, high);
  const uint64_t committed = m.normal().committed.load_relaxed();
  page* const p = growing(block, 2 * block);
  ASSERT_NE(p, nullptr);
  EXPECT_GE(p, high) << "the lower blocks are free as well, but absent";
  EXPECT_TRUE(resize_run(*m, p, nr_pages_t(3 * block), gfp::kernel));
  EXPECT_EQ(m.normal().committed.load_relaxed(), committed);
  free_run(*m, p);
}

}  // namespace
}  // namespace kmem
