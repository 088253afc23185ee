// Frees that are wrong: each is reported, nothing is lost, nothing is freed twice.
#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::printed;
using testing::test_machine;

uint64_t bad_pages(test_machine& m) {
  page_alloc_totals totals;
  page_alloc_read_totals(*m, totals);
  return totals.bad_pages;
}

TEST(page_free, a_double_free_is_reported_and_changes_nothing) {
  for (const unsigned order : {0u, 2u, 5u, 10u}) {
    test_machine m;
    page* const p = alloc_pages(*m, gfp::kernel, order_t(order));
    ASSERT_NE(p, nullptr);
    free_pages(*m, p, order_t(order));
    const uint64_t free = free_pages_total(*m);
    printed out;
    free_pages(*m, p, order_t(order));
    EXPECT_TRUE(out.has("BUG: Bad page state: freed, but not allocated")) << out.text();
    EXPECT_EQ(bad_pages(m), 1u);
    EXPECT_EQ(free_pages_total(*m), free);
  }
}

TEST(page_free, the_inside_of_a_block_is_no_block) {
  test_machine m;
  page* const p = alloc_pages(*m, gfp::kernel, order_t(3));
  ASSERT_NE(p, nullptr);
  {
    printed out;
    free_pages(*m, p + 1, order_t(0));
    EXPECT_TRUE(out.has("not allocated")) << out.text();
  }
  EXPECT_EQ(charged_pages(*m), 8u);
  free_pages(*m, p, order_t(3));
}

TEST(page_free, what_was_the_tail_of_a_block_leads_to_no_other_block_later) {
  test_machine m;
  page* const p = alloc_pages(*m, gfp::kernel | gfp::comp, order_t(3));
  ASSERT_NE(p, nullptr);
  page* const first = p;
  free_pages(*m, p, order_t(3));
  page* const again = alloc_pages(*m, gfp::kernel, order_t(3));
  ASSERT_EQ(again, first);
  printed out;
  put_page(*m, again + 3);
  EXPECT_TRUE(out.has("released, but not allocated")) << out.text();
  EXPECT_EQ(charged_pages(*m), 8u);
  free_pages(*m, again, order_t(3));

  // A block that is cut is no compound one any more.
  page* const cut = alloc_pages(*m, gfp::kernel | gfp::comp, order_t(3));
  ASSERT_TRUE(resize_run(*m, cut, nr_pages_t(5), gfp::kernel));
  put_page(*m, cut + 3);
  EXPECT_EQ(bad_pages(m), 2u);
  EXPECT_EQ(charged_pages(*m), 5u);
  put_page(*m, cut);
}

TEST(page_free, an_address_in_a_closed_block_is_refused) {
  test_machine m;
  char* const far = m->address_of(pfn_t(m->span_pages - 1));
  EXPECT_FALSE(m->is_open(m->pfn_of(far)));
  EXPECT_EQ(m->class_map[m->span_pages - 1], 0);
  printed out;
  free_pages_at(*m, far, order_t(0));
  free_pages_exact(*m, far, page_size);
  EXPECT_TRUE(out.has("never handed out")) << out.text();
  EXPECT_EQ(bad_pages(m), 2u);
  page* const p = alloc_pages(*m, gfp::kernel, order_t(0));
  EXPECT_TRUE(m->is_open(m->pfn_of(p)));
  free_pages(*m, p, order_t(0));
}

TEST(page_free, a_slab_is_freed_by_its_layer_only) {
  test_machine m;
  page* const p = alloc_pages(*m, gfp::kernel, order_t(2));
  ASSERT_NE(p, nullptr);
  p->kind = page_kind::slab;
  printed out;
  get_page(p);
  put_page(*m, p);
  EXPECT_EQ(bad_pages(m), 0u);
  free_pages(*m, p, order_t(2));
  put_page(*m, p);
  EXPECT_TRUE(out.has("it is a slab's")) << out.text();
  EXPECT_EQ(bad_pages(m), 2u);
  EXPECT_EQ(charged_pages(*m), 4u);
  p->kind = page_kind::allocated;
  free_pages(*m, p, order_t(2));
}

TEST(page_free, a_wrong_order_is_reported_and_the_right_one_freed) {
  test_machine m;
  page* const p = alloc_pages(*m, gfp::kernel, order_t(4));
  ASSERT_NE(p, nullptr);
  printed out;
  free_pages(*m, p, order_t(2));
  EXPECT_TRUE(out.has("another order")) << out.text();
  EXPECT_TRUE(out.has("order:4")) << out.text();
  EXPECT_EQ(charged_pages(*m), 0u);
}

TEST(page_free, a_wrong_exact_size_is_reported_and_the_right_one_freed) {
  test_machine m;
  void* const address = alloc_pages_exact(*m, 3 * page_size, gfp::kernel);
  ASSERT_NE(address, nullptr);
  printed out;
  free_pages_exact(*m, address, 2 * page_size);
  EXPECT_TRUE(out.has("another size")) << out.text();
  EXPECT_EQ(charged_pages(*m), 0u);
}

TEST(page_free, an_address_of_somebody_else_is_reported) {
  test_machine m;
  char here[8];
  printed out;
  free_pages_at(*m, here, order_t(0));
  free_pages_exact(*m, here, 1);
  EXPECT_EQ(bad_pages(m), 2u);
  EXPECT_TRUE(out.has("outside the arena")) << out.text();
}

TEST(page_free, page_zero_is_never_free) {
  test_machine m;
  printed out;
  free_pages(*m, &m->pages[0], order_t(0));
  EXPECT_TRUE(out.has("kind:unusable")) << out.text();
}

}  // namespace
}  // namespace kmem
