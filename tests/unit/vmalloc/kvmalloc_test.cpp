#include <cstring>
#include <vector>

#include "vmalloc_fixture.hpp"

namespace kmem {
namespace {

class kvmalloc_test : public test::vmalloc_fixture {
 protected:
  void SetUp() override { start("mem=64M"); }
};

TEST_F(kvmalloc_test, small_and_middle_sizes_are_kmalloc) {
  for (const size_t size : {size_t{1}, size_t{100}, size_t{4096}, size_t{100000}, size_t{4} << 20}) {
    void* const p = kvmalloc(va(), size, gfp::kernel, nullptr);
    ASSERT_NE(p, nullptr) << size;
    EXPECT_TRUE(va().contains(p)) << size;
    EXPECT_GE(kvsize(va(), p), size);
    memset(p, 1, size);
    kvfree(va(), p);
  }
  EXPECT_EQ(kvmalloc(va(), 0, gfp::kernel, nullptr), zero_size_ptr);
  kvfree(va(), zero_size_ptr);
  kvfree(va(), nullptr);
  EXPECT_EQ(kvsize(va(), nullptr), 0u);
  EXPECT_EQ(log(), "");
}

// As a real kernel answers for 8 MiB: vmalloc for KERNEL, NORETRY and NOFS, NULL for NOWAIT.
TEST_F(kvmalloc_test, beyond_kmallocs_limit_it_is_vmalloc_if_the_mask_may_block) {
  constexpr size_t size = 8 << 20;
  for (const gfp_t mask : {gfp::kernel, gfp::kernel | gfp::noretry, gfp::nofs}) {
    void* const p = kvmalloc(va(), size, mask, nullptr);
    ASSERT_NE(p, nullptr);
    EXPECT_TRUE(is_vmalloc_addr(va(), p));
    EXPECT_EQ(kvsize(va(), p), size);
    kvfree(va(), p);
  }
  EXPECT_EQ(kvmalloc(va(), size, gfp::nowait | gfp::nowarn, nullptr), nullptr);
  EXPECT_EQ(kvmalloc(va(), size, gfp::atomic | gfp::nowarn, nullptr), nullptr);
  {
    const memalloc_noreclaim_scope scope;  // takes the right to block away from any mask
    EXPECT_EQ(kvmalloc(va(), size, gfp::kernel | gfp::nowarn, nullptr), nullptr);
  }
  EXPECT_EQ(log(), "");
}

TEST_F(kvmalloc_test, reallocation_keeps_the_contents_across_the_kinds) {
  auto* p = static_cast<unsigned char*>(kvrealloc(va(), nullptr, 10, gfp::kernel, nullptr));
  ASSERT_NE(p, nullptr);
  size_t filled = 0;
  for (const size_t size : {size_t{10}, size_t{5000}, size_t{300000}, size_t{6} << 20, size_t{9} << 20, size_t{7} << 20, size_t{2} << 20}) {
    p = static_cast<unsigned char*>(kvrealloc(va(), p, size, gfp::kernel, nullptr));
    ASSERT_NE(p, nullptr) << size;
    for (size_t i = 0; i < filled && i < size; i += 997) ASSERT_EQ(p[i], static_cast<unsigned char>(i * 7)) << i << " of " << size;
    for (size_t i = 0; i < size; i += 997) p[i] = static_cast<unsigned char>(i * 7);
    filled = size;
  }
  EXPECT_EQ(kvrealloc(va(), p, 100 << 20, gfp::kernel | gfp::nowarn, nullptr), nullptr);  // beyond the budget
  for (size_t i = 0; i < filled; i += 997) ASSERT_EQ(p[i], static_cast<unsigned char>(i * 7));
  EXPECT_EQ(kvrealloc(va(), p, 0, gfp::kernel, nullptr), zero_size_ptr);
  EXPECT_EQ(va().vmalloc_pages.peek(), 0u);
}

TEST_F(kvmalloc_test, foreign_pointers_are_reported) {
  alignas(4096) static char foreign[4096];
  kvfree(va(), foreign);
  EXPECT_NE(log().find("Trying to vfree() nonexistent vm area"), std::string::npos);
  EXPECT_EQ(kvrealloc(va(), foreign, 100, gfp::kernel, nullptr), nullptr);
  EXPECT_NE(log().find("Trying to vfree() nonexistent vm area"), std::string::npos);
  EXPECT_EQ(kvsize(va(), foreign), 0u);
}

TEST_F(kvmalloc_test, what_a_handler_cannot_look_up_stays_as_it_is) {
  void* const area = vmalloc(va(), 10000, gfp::kernel, nullptr);
  ASSERT_NE(area, nullptr);
  memset(area, 0x5a, 10000);
  {
    const nest_guard interrupted;
    ASSERT_TRUE(va().vmalloc_lock.try_lock());
    {
      const nest_guard handler;
      EXPECT_EQ(kvsize(va(), area), 0u) << "nobody can say";
      EXPECT_EQ(kvrealloc(va(), area, 20000, gfp::atomic, nullptr), nullptr);
      EXPECT_EQ(kvrealloc(va(), area, 100, gfp::atomic, nullptr), nullptr);
    }
    va().vmalloc_lock.unlock();
  }
  EXPECT_EQ(va().vfree_deferred.load_relaxed(), nullptr);
  drain_deferred_vfree(va());
  EXPECT_EQ(vmalloc_size(va(), area), 12288u);
  EXPECT_EQ(static_cast<unsigned char*>(area)[9999], 0x5a);
  vfree(va(), area);
}

TEST_F(kvmalloc_test, an_attempt_that_something_else_makes_good_leaves_no_record_and_no_report) {
  const uint64_t before = va().failure_sequence.load_relaxed();
  void* p = nullptr;
  {
    const fail_nth_scope first_pages(1, false);
    p = kvmalloc(va(), 100000, gfp::kernel, nullptr);
    EXPECT_TRUE(first_pages.hit());
  }
  EXPECT_TRUE(is_vmalloc_addr(va(), p));
  void* q = kvmalloc(va(), 100, gfp::kernel, nullptr);
  {
    const fail_nth_scope first_pages(1, false);
    q = kvrealloc(va(), q, 200000, gfp::kernel, nullptr);
    EXPECT_TRUE(first_pages.hit());
  }
  ASSERT_NE(q, nullptr);
  EXPECT_EQ(va().failure_sequence.load_relaxed(), before);
  EXPECT_EQ(log(), "");
  EXPECT_EQ(kvmalloc(va(), size_t{100} << 20, gfp::kernel | gfp::nowarn, nullptr), nullptr);
  EXPECT_GT(va().failure_sequence.load_relaxed(), before) << "nothing served this one";
  kvfree(va(), q);
  kvfree(va(), p);
}

}  // namespace
}  // namespace kmem
