// The size classes at run time: every size against a search through the list, and the figures that the documentation names.
#include "kmalloc/size_class.hpp"

#include <gtest/gtest.h>

#include "kmalloc/kmalloc.hpp"

namespace kmem::testing {
namespace {

TEST(size_class, every_size_gets_the_smallest_class_that_holds_it) {
  for (size_t size = 1; size <= size_class_max; ++size) {
    unsigned number = 1;
    while (size_classes[number - 1].size < size) ++number;
    ASSERT_EQ(size_class_of(size), number) << size;
  }
}

TEST(size_class, waste_is_at_most_an_eighth_above_112_bytes) {
  for (size_t size = 113; size <= size_class_max; ++size) {
    const size_t taken = size_of_class(size_class_of(size));
    ASSERT_LE((taken - size) * 8, taken) << size;
  }
}

TEST(size_class, average_rounding_between_16_and_1024_is_2_2_percent) {
  double asked = 0, taken = 0;
  for (size_t size = 16; size <= 1024; ++size) {
    asked += static_cast<double>(size);
    taken += static_cast<double>(size_of_class(size_class_of(size)));
  }
  EXPECT_NEAR(taken / asked, 1.022, 0.002);
}

TEST(size_class, an_aligned_class_is_aligned_and_no_smaller_one_would_do) {
  for (size_t align = 1; align <= size_class_max; align *= 2)
    for (size_t size = 1; size <= size_class_max; size += 37) {
      const unsigned number = aligned_size_class_of(size, align);
      ASSERT_GE(size_of_class(number), size);
      ASSERT_EQ(size_of_class(number) % align, 0u);
      for (unsigned smaller = 1; smaller < number; ++smaller)
        ASSERT_TRUE(size_of_class(smaller) < size || size_of_class(smaller) % align != 0);
    }
}

TEST(size_class, roundup_tells_what_an_allocation_takes) {
  EXPECT_EQ(kmalloc_size_roundup(0), 0u);
  EXPECT_EQ(kmalloc_size_roundup(1), 8u);
  EXPECT_EQ(kmalloc_size_roundup(100), 112u);
  EXPECT_EQ(kmalloc_size_roundup(32768), 32768u);
  EXPECT_EQ(kmalloc_size_roundup(32769), 9 * page_size);
  EXPECT_EQ(kmalloc_size_roundup(1 << 20), size_t{1} << 20);
}

}  // namespace
}  // namespace kmem::testing
