// Blocks of every order: shape, references, zero pages, addresses.
#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::small_config;
using testing::test_machine;

TEST(page_alloc, every_order_is_contiguous_aligned_and_has_one_reference) {
  test_machine m;
  for (unsigned order = 0; order < m->max_order; ++order) {
    page* const p = alloc_pages(*m, gfp::kernel, order_t(order));
    ASSERT_NE(p, nullptr) << order;
    EXPECT_EQ(m->pfn_of(p).raw() % (1u << order), 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(m.address(p)) % (page_size << order), 0u);
    EXPECT_EQ(p->refcount.load_relaxed(), 1u);
    EXPECT_EQ(p->kind, page_kind::allocated);
    EXPECT_EQ(p->order, order);
    EXPECT_EQ(run_pages(p).raw(), uint64_t{1} << order);
    for (uint64_t i = 1; i < run_pages(p).raw(); ++i) EXPECT_EQ(p[i].refcount.load_relaxed(), 0u);
    std::memset(m.address(p), 0xa5, page_size << order);
    m.check();
    EXPECT_EQ(charged_pages(*m), uint64_t{1} << order);
    free_pages(*m, p, order_t(order));
    EXPECT_EQ(charged_pages(*m), 0u);
    m.check();
  }
}

TEST(page_alloc, zeroed_pages_are_zero_whatever_was_in_them) {
  test_machine m;
  for (unsigned order = 0; order < m->max_order; ++order) {
    for (int round = 0; round < 3; ++round) {
      page* const p = alloc_pages(*m, gfp::kernel | gfp::zero, order_t(order));
      ASSERT_NE(p, nullptr);
      const char* const begin = m.address(p);
      for (size_t i = 0; i < page_size << order; i += 64) ASSERT_EQ(begin[i], 0) << order << ' ' << i;
      std::memset(m.address(p), 0x5a, page_size << order);
      free_pages(*m, p, order_t(order));
    }
  }
}

TEST(page_alloc, memory_comes_back_whole) {
  test_machine m;
  const uint64_t free = free_pages_total(*m);
  {
    held_pages held(*m);
    EXPECT_GT(held.exhaust(gfp::nowait), 0u);
    m.check();
  }
  drain_cpu_pages(*m, true);
  EXPECT_EQ(free_pages_total(*m), free);
}

}  // namespace
}  // namespace kmem
