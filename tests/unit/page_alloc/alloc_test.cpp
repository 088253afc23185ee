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
    std::memset(m.address(p), 0xa5, page_size << order);
    m.check();
    EXPECT_EQ(charged_pages(*m), uint64_t{1} << order);
    free_pages(*m, p, order_t(order));
    EXPECT_EQ(charged_pages(*m), 0u);
    m.check();
  }
}

TEST(page_alloc, max_order_is_exclusive_and_configurable) {
  machine_config config = small_config();
  config.max_order = 10;
  test_machine m(config);
  held_pages held(*m);
  EXPECT_NE(held.take(gfp::kernel, 9), nullptr);
  EXPECT_EQ(held.take(gfp::kernel | gfp::nowarn, 10), nullptr);
  EXPECT_EQ(held.take(gfp::kernel | gfp::nowarn, 63), nullptr);
  EXPECT_EQ(alloc_pages_exact(*m, size_t{3} << 20, gfp::kernel | gfp::nowarn), nullptr) << "as large as an order that is not there";
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

TEST(page_alloc, a_compound_block_is_one_thing_from_every_page) {
  test_machine m;
  page* const p = alloc_pages(*m, gfp::kernel | gfp::comp, order_t(3));
  ASSERT_NE(p, nullptr);
  EXPECT_NE(p->flags & page_flag_compound, 0);
  for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(compound_head(*m, p + i), p);
  get_page(p + 5);
  EXPECT_EQ(p->refcount.load_relaxed(), 2u);
  put_page(*m, p + 7);
  put_page(*m, p + 1);
  EXPECT_EQ(charged_pages(*m), 0u);
}

TEST(page_alloc, tails_of_a_freed_compound_block_are_no_tails_of_the_next_user) {
  test_machine m;
  page* const p = alloc_pages(*m, gfp::kernel | gfp::comp, order_t(2));
  ASSERT_NE(p, nullptr);
  free_pages(*m, p, order_t(2));
  drain_cpu_pages(*m, true);
  held_pages held(*m);
  held.exhaust(gfp::nowait);  // among them the tails, each a page of its own now
  for (unsigned i = 0; i < 4; ++i) {
    EXPECT_EQ(compound_head(*m, p + i), p + i);
    EXPECT_EQ(p[i].kind, page_kind::allocated);
  }
}

TEST(page_alloc, split_pages_are_freed_one_by_one) {
  test_machine m;
  page* const p = alloc_pages(*m, gfp::kernel, order_t(4));
  ASSERT_NE(p, nullptr);
  get_page(p);
  split_page(*m, p, order_t(4));
  for (unsigned i = 0; i < 16; ++i) {
    EXPECT_EQ(p[i].refcount.load_relaxed(), 2u) << "each page has the references the block had";
    put_page(*m, p + i);
  }
  m.check();
  EXPECT_EQ(charged_pages(*m), 16u);
  for (unsigned i = 0; i < 16; ++i) free_pages(*m, p + i, order_t(0));
}

TEST(page_alloc, addresses_are_those_of_the_pages) {
  machine_config config = small_config();
  config.zone_highmem = uint64_t{16} << 20;
  test_machine m(config);
  void* const address = get_free_pages(*m, gfp::highuser, order_t(1));
  ASSERT_NE(address, nullptr);
  const page& p = m->page_of(m->pfn_of(address));
  EXPECT_EQ(zone_idx(p.zone), zone_idx::normal) << "an address is wanted: high memory will not do";
  EXPECT_EQ(p.order, 1);
  std::memset(address, 1, 2 * page_size);
  free_pages_at(*m, address, order_t(1));
  auto* const zeroed = static_cast<char*>(get_zeroed_page(*m, gfp::kernel));
  ASSERT_NE(zeroed, nullptr);
  for (size_t i = 0; i < page_size; ++i) ASSERT_EQ(zeroed[i], 0);
  free_pages_at(*m, zeroed, order_t(0));
  free_pages_at(*m, nullptr, order_t(0));
}

TEST(page_alloc, exact_sizes_keep_no_tail) {
  test_machine m;
  void* const address = alloc_pages_exact(*m, 5 * page_size - 100, gfp::kernel);
  ASSERT_NE(address, nullptr);
  EXPECT_EQ(charged_pages(*m), 5u);
  free_pages_exact(*m, address, 5 * page_size - 100);
  EXPECT_EQ(charged_pages(*m), 0u);
  EXPECT_EQ(alloc_pages_exact(*m, 0, gfp::kernel), nullptr);
}

TEST(page_alloc, bulk_fills_the_empty_entries_only) {
  test_machine m;
  page* array[10] = {};
  array[3] = alloc_pages(*m, gfp::kernel, order_t(0));
  page* const kept = array[3];
  EXPECT_EQ(alloc_pages_bulk(*m, gfp::kernel, 10, array), 10u);
  EXPECT_EQ(array[3], kept);
  EXPECT_EQ(charged_pages(*m), 10u);
  for (page* p : array) free_pages(*m, p, order_t(0));
  held_pages held(*m);
  held.exhaust(gfp::kernel | gfp::noretry);
  page* none[2] = {};
  EXPECT_EQ(alloc_pages_bulk(*m, gfp::kernel | gfp::noretry | gfp::nowarn, 2, none), 0u);
}

TEST(page_alloc, mobility_types_do_not_share_blocks_while_there_are_unused_ones) {
  test_machine m;
  std::vector<page*> pages;
  const gfp_t types[] = {gfp::kernel, gfp::kernel | gfp::movable, gfp::kernel | gfp::reclaimable};
  const unsigned expected[] = {0, 1, 2};
  for (int round = 0; round < 50; ++round)
    for (unsigned t = 0; t < 3; ++t) {
      page* const p = alloc_pages(*m, types[t], order_t(0));
      ASSERT_NE(p, nullptr);
      EXPECT_EQ(m->blocks[m->pfn_of(p).raw() / pages_per_block].type, expected[t]);
      pages.push_back(p);
    }
  for (page* p : pages) free_pages(*m, p, order_t(0));
}

TEST(page_alloc, the_coldest_page_is_taken_on_request) {
  machine_config config = small_config();
  config.cpus = 1;  // whatever CPU the test runs on, its list is this one, or none
  test_machine m(config);
  if (plat::cpu() != 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    ASSERT_EQ(sched_setaffinity(0, sizeof set, &set), 0);
  }
  page* pages[3];
  for (page*& p : pages) p = alloc_pages(*m, gfp::kernel, order_t(0));
  drain_cpu_pages(*m, true);
  for (page* p : pages) free_pages(*m, p, order_t(0));
  EXPECT_EQ(alloc_pages(*m, gfp::kernel, order_t(0)), pages[2]) << "freed last, warmest";
  EXPECT_EQ(alloc_pages(*m, gfp::kernel | gfp::cold, order_t(0)), pages[0]) << "freed first, coldest";
  free_pages(*m, pages[2], order_t(0));
  free_pages(*m, pages[0], order_t(0));
}

}  // namespace
}  // namespace kmem
