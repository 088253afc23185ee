// Giving memory back: what leaves, what is counted, what the next user finds.
#include <sys/mman.h>

#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::test_machine;

uint64_t resident_pages(test_machine& m) {
  std::vector<unsigned char> map(m->span_pages);
  EXPECT_EQ(mincore(m->base, size_t{m->span_pages} << page_shift, map.data()), 0);
  uint64_t resident = 0;
  for (const unsigned char c : map) resident += c & 1;
  return resident;
}

class give_back_of : public ::testing::TestWithParam<backing> {};
INSTANTIATE_TEST_SUITE_P(backings, give_back_of, ::testing::Values(backing::anon, backing::memfd));

TEST_P(give_back_of, whole_blocks) {
  machine_config config = testing::small_config();
  config.kind = GetParam();
  test_machine m(config);
  page* const p = alloc_run(*m, gfp::kernel, nr_pages_t(4 * pages_per_block));
  ASSERT_NE(p, nullptr);
  std::memset(m.address(p), 1, 4 * block_bytes);
  const uint64_t resident = resident_pages(m), committed = m.normal().committed.load_relaxed();
  free_run(*m, p);
  EXPECT_EQ(resident_pages(m), resident) << "freed memory stays";
  EXPECT_EQ(m.normal().committed.load_relaxed(), committed);
  EXPECT_EQ(give_back(*m, 2 * pages_per_block, false), 2 * pages_per_block) << "no more than asked for, in blocks";
  EXPECT_EQ(give_back(*m, ~uint64_t{0}, false), 2 * pages_per_block);
  EXPECT_EQ(resident_pages(m), resident - 4 * pages_per_block);
  EXPECT_EQ(m.normal().committed.load_relaxed(), committed - 4 * pages_per_block);
  EXPECT_EQ(m.normal().in_transit.load_relaxed(), 0u);
  m.check();
}

TEST_P(give_back_of, single_pages) {
  machine_config config = testing::small_config();
  config.kind = GetParam();
  test_machine m(config);
  held_pages held(*m);
  for (int i = 0; i < 2000; ++i) std::memset(m.address(held.take(gfp::kernel)), 1, page_size);
  drain_cpu_pages(*m, true);
  std::vector<page*>& pages = held.pages();
  for (size_t i = 0; i < pages.size(); i += 4) {
    free_pages(*m, pages[i], order_t(0));
    pages[i] = nullptr;
  }
  std::erase(pages, nullptr);
  drain_cpu_pages(*m, true);
  const uint64_t resident = resident_pages(m), present = m.normal().present_free.load_relaxed();
  ASSERT_GE(present, 500u);
  give_back(*m, 100, true);
  EXPECT_LE(resident_pages(m), resident - 100);
  give_back(*m, ~uint64_t{0}, true);
  EXPECT_EQ(m.normal().present_free.load_relaxed(), 0u);
  m.check();
  // They are known to be zero now.
  for (int i = 0; i < 400; ++i) {
    page* const p = held.take(gfp::kernel | gfp::zero);
    ASSERT_NE(p, nullptr);
    ASSERT_EQ(m.address(p)[0], 0);
  }
}

TEST(give_back, zeroing_touches_no_page_that_is_known_to_be_zero) {
  test_machine m;
  const uint64_t before = resident_pages(m);
  page* const p = alloc_pages(*m, gfp::kernel | gfp::zero, order_t(10));
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(resident_pages(m), before);
  free_pages(*m, p, order_t(10));
}

TEST(give_back, nothing_to_give_is_no_mistake) {
  test_machine m;
  give_back(*m, ~uint64_t{0}, true);
  EXPECT_EQ(give_back(*m, ~uint64_t{0}, true), 0u);
  EXPECT_EQ(give_back(*m, 0, true), 0u);
}

TEST(give_back, is_left_to_others_inside_a_nested_slow_path) {
  test_machine m;
  page* const p = alloc_pages(*m, gfp::kernel, order_t(10));
  free_pages(*m, p, order_t(10));
  const nest_guard guard;
  EXPECT_EQ(give_back(*m, 1, false), 0u);
}

}  // namespace
}  // namespace kmem
