// Finding runs in a block, and which block is taken first.
#include <bit>
#include <random>

#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::test_machine;

bool is_run(const block_bitmap& bits, unsigned first, unsigned order) { return count_bits(bits, first, 1u << order) == 1u << order; }

/// The order of the largest aligned run of set bits around `first`.
unsigned enclosing(const block_bitmap& bits, unsigned first, unsigned order) {
  while (order < block_order && is_run(bits, first & ~((2u << order) - 1), order + 1)) {
    first &= ~((2u << order) - 1);
    ++order;
  }
  return order;
}

TEST(find_run, finds_an_aligned_run_in_the_tightest_hole_whenever_there_is_one) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 3000; ++round) {
    block_bitmap bits;
    // From nearly empty to nearly full, in runs of different lengths.
    const unsigned density = static_cast<unsigned>(random() % 8);
    for (uint64_t& word : bits.words) {
      word = random();
      for (unsigned i = 0; i < density; ++i) word |= random();
      if (random() % 4 == 0) word = random() % 2 != 0 ? ~uint64_t{0} : 0;
      if (random() % 4 == 0) word |= uint64_t{0xffffffff} << (random() % 2 * 32);
    }
    for (unsigned order = 0; order <= block_order; ++order) {
      const int found = find_run(bits, order);
      bool any = false;
      unsigned tightest = no_order;
      for (unsigned first = 0; first < pages_per_block; first += 1u << order)
        if (is_run(bits, first, order)) {
          any = true;
          tightest = std::min(tightest, enclosing(bits, first, order));
        }
      ASSERT_EQ(found >= 0, any) << order;
      if (!any) continue;
      const auto first = static_cast<unsigned>(found);
      ASSERT_EQ(first % (1u << order), 0u);
      ASSERT_TRUE(is_run(bits, first, order));
      // Holes of a word and more count as equal.
      const unsigned level = enclosing(bits, first, order);
      if (order < 6) {
        ASSERT_EQ(std::min(level, 6u), std::min(tightest, 6u)) << order;
      } else {
        ASSERT_TRUE(level == tightest || level > order) << order;
        ASSERT_TRUE(tightest != order || level == order) << order;
      }
    }
  }
}

TEST(find_run, larger_than_a_block_is_never_there) {
  block_bitmap bits;
  for (uint64_t& word : bits.words) word = ~uint64_t{0};
  EXPECT_EQ(find_run(bits, block_order), 0);
  EXPECT_EQ(find_run(bits, block_order + 1), -1);
}

TEST(count_bits, counts_any_part_of_a_block) {
  std::mt19937_64 random(2);
  block_bitmap bits;
  for (uint64_t& word : bits.words) word = random();
  for (unsigned first = 0; first < pages_per_block; first += 7)
    for (unsigned n = 1; first + n <= pages_per_block; n += 13) {
      unsigned expected = 0;
      for (unsigned i = first; i < first + n; ++i) expected += static_cast<unsigned>(bits.words[i / 64] >> (i % 64) & 1);
      ASSERT_EQ(count_bits(bits, first, n), expected);
    }
}

TEST(free_area, the_fullest_block_is_used_first_so_that_others_come_free) {
  test_machine m;
  drain_cpu_pages(*m, true);
  // Blocks of 512 pages, one by one from the zone: order 4 has no CPU list.
  std::vector<page*> pages;
  for (int i = 0; i < 4 * 32; ++i) pages.push_back(alloc_pages(*m, gfp::kernel, order_t(4)));
  const auto block_of = [&](const page* p) { return m->pfn_of(p).raw() / pages_per_block; };
  const uint32_t fuller = block_of(pages[40]), emptier = block_of(pages[100]);
  ASSERT_NE(fuller, emptier);
  std::vector<page*> kept;
  unsigned from_fuller = 0, from_emptier = 0;
  for (page* p : pages) {
    const bool free_it = (block_of(p) == fuller && from_fuller++ < 4) || (block_of(p) == emptier && from_emptier++ < 20);
    if (free_it)
      free_pages(*m, p, order_t(4));
    else
      kept.push_back(p);
  }
  for (int i = 0; i < 4; ++i) {
    kept.push_back(alloc_pages(*m, gfp::kernel, order_t(4)));
    EXPECT_EQ(block_of(kept.back()), fuller) << i;
  }
  for (page* p : kept) free_pages(*m, p, order_t(4));
}

TEST(free_area, pages_that_were_used_are_used_again_before_fresh_ones) {
  test_machine m;
  page* const p = alloc_pages(*m, gfp::kernel, order_t(9));
  ASSERT_NE(p, nullptr);
  free_pages(*m, p, order_t(9));
  const uint64_t committed = m.normal().committed.load_relaxed();
  held_pages held(*m);
  for (int i = 0; i < 20; ++i) ASSERT_NE(held.take(gfp::kernel, 4), nullptr);
  EXPECT_EQ(m.normal().committed.load_relaxed(), committed);
}

TEST(free_area, blocks_of_another_type_serve_when_nothing_else_does) {
  machine_config config = testing::small_config(uint64_t{8} << 20);
  config.span = 1;
  test_machine m(config);
  held_pages movable(*m), unmovable(*m);
  movable.exhaust(gfp::nowait | gfp::movable);
  // A few scattered pages of movable blocks come free: they serve whoever comes.
  std::vector<page*>& pages = movable.pages();
  for (size_t i = 0; i < 32; ++i) {
    free_pages(*m, pages[i * 3], order_t(0));
    pages[i * 3] = nullptr;
  }
  std::erase(pages, nullptr);
  EXPECT_GE(unmovable.exhaust(gfp::nowait), 32u);
}

}  // namespace
}  // namespace kmem
