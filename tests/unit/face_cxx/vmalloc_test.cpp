#include <cstring>
#include <limits>

#include <kmem/kmem.hpp>

#include "api_fixture.hpp"

namespace kmem {
namespace {

class vmalloc_api : public test::api_test {};

TEST_F(vmalloc_api, areas_and_their_addresses) {
  char* const p = static_cast<char*>(vmalloc(3 * page_bytes));
  ASSERT_NE(p, nullptr);
  EXPECT_TRUE(is_vmalloc_addr(p + 5));
  EXPECT_EQ(virt_to_page(p), nullptr);
  memset(p, 1, 3 * page_bytes);
  void* const object = kmalloc(10, gfp::kernel);
  EXPECT_FALSE(is_vmalloc_addr(object));
  kfree(object);
  vfree(p);
  vfree(nullptr);
  const char* const cleared = static_cast<char*>(vzalloc(page_bytes));
  for (size_t i = 0; i < page_bytes; ++i) ASSERT_EQ(cleared[i], 0);
  vfree(cleared);
  EXPECT_EQ(take_messages(), "");
  EXPECT_EQ(vmalloc(0), nullptr);
  EXPECT_NE(take_messages(), "");
}

TEST_F(vmalloc_api, kvmalloc_takes_what_fits) {
  void* const small = kvmalloc(100, gfp::kernel);
  void* const large = kvmalloc(size_t{9} << 20, gfp::kernel);
  EXPECT_FALSE(is_vmalloc_addr(small));
  EXPECT_TRUE(is_vmalloc_addr(large));
  EXPECT_EQ(kvsize(large), size_t{9} << 20);
  EXPECT_EQ(kvmalloc(size_t{9} << 20, gfp::nowait | gfp::nowarn), nullptr);
  kvfree(small);
  kvfree(large);
  kvfree(nullptr);
  EXPECT_EQ(kvsize(nullptr), 0u);
  EXPECT_EQ(kvmalloc_array(std::numeric_limits<size_t>::max(), 2, gfp::kernel), nullptr);
  auto* array = static_cast<int*>(kvcalloc(1000, sizeof(int), gfp::kernel));
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(array[i], 0);
  array[999] = 5;
  array = static_cast<int*>(kvrealloc(array, size_t{5} << 20, gfp::kernel));
  ASSERT_NE(array, nullptr);
  EXPECT_EQ(array[999], 5);
  kvfree(array);
  kvfree(kvzalloc(10, gfp::kernel));
}

}  // namespace
}  // namespace kmem
