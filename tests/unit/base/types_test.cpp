#include "base/types.hpp"

#include <gtest/gtest.h>

#include <concepts>
#include <utility>

namespace kmem {
namespace {

template <class A, class B>
concept addable = requires(A a, B b) { a + b; };

static_assert(addable<pfn_t, nr_pages_t>);
static_assert(!addable<pfn_t, pfn_t>);
static_assert(!addable<nr_pages_t, pfn_t>);
static_assert(!std::convertible_to<uint32_t, pfn_t> && !std::convertible_to<pfn_t, uint32_t>);
static_assert(!std::convertible_to<unsigned, order_t> && !std::convertible_to<uint64_t, nr_pages_t>);
static_assert(std::same_as<decltype(std::declval<pfn_t>() - std::declval<pfn_t>()), nr_pages_t>);

TEST(Types, PageNumbersAndCounts) {
  const pfn_t first(100);
  EXPECT_EQ((first + nr_pages_t(28)).raw(), 128u);
  EXPECT_EQ((pfn_t(128) - first).raw(), 28u);
  EXPECT_TRUE(pfn_t().is_none());
  EXPECT_FALSE(first.is_none());
  EXPECT_LT(first, pfn_t(101));
  nr_pages_t count(5);
  count += nr_pages_t(3);
  count -= nr_pages_t(1);
  EXPECT_EQ(count, nr_pages_t(7));
  EXPECT_EQ(bytes(count), 7 * page_size);
}

TEST(Types, OrdersAndPagesForEverySizeAtAndAroundABorder) {
  EXPECT_EQ(pages_for(0), nr_pages_t(0));
  EXPECT_EQ(order_for(0), order_t(0));
  for (unsigned order = 0; order <= 20; ++order) {
    const size_t block = page_size << order;
    EXPECT_EQ(nr_pages(order_t(order)).raw(), uint64_t{1} << order);
    EXPECT_EQ(order_for(block), order_t(order));
    EXPECT_EQ(order_for(block + 1), order_t(order + 1));
    EXPECT_EQ(order_for(block - 1), order_t(order));
    EXPECT_EQ(pages_for(block), nr_pages(order_t(order)));
    EXPECT_EQ(pages_for(block + 1).raw(), (uint64_t{1} << order) + 1);
    EXPECT_EQ(pages_for(block - 1), nr_pages(order_t(order)));
  }
  EXPECT_EQ(pages_for(~size_t{0}).raw(), size_t{1} << 52);
  EXPECT_EQ(order_for(~size_t{0}).raw(), 51u);
}

TEST(Types, Rounding) {
  EXPECT_EQ(round_up(0, 8), 0u);
  EXPECT_EQ(round_up(1, 8), 8u);
  EXPECT_EQ(round_up(8, 8), 8u);
  EXPECT_EQ(round_down(15, 8), 8u);
  EXPECT_TRUE(is_power_of_two(1) && is_power_of_two(4096) && !is_power_of_two(0) && !is_power_of_two(12));
}

}  // namespace
}  // namespace kmem
