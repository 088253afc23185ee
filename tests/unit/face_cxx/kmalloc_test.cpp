#include <cstring>
#include <limits>
#include <vector>

#include <kmem/gfp_names.hpp>
#include <kmem/kmem.hpp>

#include "api_fixture.hpp"

namespace kmem {
namespace {

class kmalloc_api : public test::api_test {};

bool is_filled(const void* p, size_t size, unsigned char value) {
  for (size_t i = 0; i < size; ++i)
    if (static_cast<const unsigned char*>(p)[i] != value) return false;
  return true;
}

TEST_F(kmalloc_api, every_size_gives_memory_of_that_size_aligned_as_promised) {
  for (size_t size = 1; size <= size_t{4} << 20; size += 1 + size / 7) {
    auto* const p = static_cast<unsigned char*>(kmalloc(size, gfp::kernel));
    ASSERT_NE(p, nullptr) << size;
    const auto address = reinterpret_cast<uintptr_t>(p);
    EXPECT_EQ(address % (size > 8 ? 16 : 8), 0u) << size;
    if ((size & (size - 1)) == 0) {
      EXPECT_EQ(address % size, 0u) << size;
    }
    EXPECT_GE(ksize(p), size);
    EXPECT_EQ(ksize(p), kmalloc_size_roundup(size)) << size;
    memset(p, 0x11, ksize(p));
    kfree(p);
  }
}

TEST_F(kmalloc_api, corner_cases_answer_as_a_real_kernel_does) {
  void* const zero = kmalloc(0, gfp::kernel);
  EXPECT_EQ(zero, reinterpret_cast<void*>(16));
  EXPECT_EQ(ksize(zero), 0u);
  kfree(zero);
  kfree(nullptr);
  kfree_sensitive(nullptr);
  EXPECT_EQ(ksize(nullptr), 0u);
  EXPECT_EQ(kcalloc(0, 8, gfp::kernel), reinterpret_cast<void*>(16));
  EXPECT_EQ(kmalloc_array(std::numeric_limits<size_t>::max() / 2, 3, gfp::kernel), nullptr);
  EXPECT_EQ(kcalloc(std::numeric_limits<size_t>::max(), 2, gfp::kernel), nullptr);
  EXPECT_EQ(take_messages(), "");  // an overflow says nothing
  EXPECT_EQ(kmalloc((size_t{4} << 20) + 1, gfp::kernel), nullptr);
  EXPECT_NE(take_messages(), "");  // too large a size does
  EXPECT_EQ(kmalloc((size_t{4} << 20) + 1, gfp::kernel | gfp::nowarn), nullptr);
  EXPECT_EQ(take_messages(), "");
  void* const p = kmalloc(100, gfp::kernel);
  EXPECT_EQ(krealloc(p, 0, gfp::kernel), reinterpret_cast<void*>(16));
}

TEST_F(kmalloc_api, memory_is_cleared_when_asked) {
  for (const size_t size : {size_t{8}, size_t{100}, size_t{5000}, size_t{100000}}) {
    for (int round = 0; round < 20; ++round) {
      void* const p = kzalloc(size, gfp::kernel);
      ASSERT_NE(p, nullptr);
      EXPECT_TRUE(is_filled(p, size, 0));
      memset(p, 0xee, ksize(p));
      kfree(p);
    }
    void* const array = kcalloc(size, 3, gfp::kernel);
    EXPECT_TRUE(is_filled(array, size * 3, 0));
    kfree(array);
  }
}

TEST_F(kmalloc_api, realloc_keeps_what_was_there) {
  auto* p = static_cast<unsigned char*>(krealloc(nullptr, 10, gfp::kernel));
  memset(p, 7, 10);
  size_t kept = 10;
  for (const size_t size : {size_t{12}, size_t{300}, size_t{70000}, size_t{400}, size_t{5}}) {
    p = static_cast<unsigned char*>(krealloc(p, size, gfp::kernel));
    ASSERT_NE(p, nullptr);
    if (size < kept) kept = size;
    EXPECT_TRUE(is_filled(p, kept, 7)) << size;
    memset(p, 7, size);
    kept = size;
  }
  EXPECT_EQ(krealloc_array(p, std::numeric_limits<size_t>::max(), 2, gfp::kernel), nullptr);
  EXPECT_EQ(krealloc(p, size_t{1} << 40, gfp::kernel | gfp::nowarn), nullptr);
  EXPECT_TRUE(is_filled(p, kept, 7));
  p = static_cast<unsigned char*>(krealloc_array(p, 100, 3, gfp::kernel));
  EXPECT_GE(ksize(p), 300u);
  kfree_sensitive(p);
}

TEST_F(kmalloc_api, copies) {
  const char text[] = "a text";
  char* const whole = kstrdup(text, gfp::kernel);
  char* const cut = kstrndup(text, 3, gfp::kernel);
  char* const longer = kstrndup(text, 300, gfp::kernel);
  void* const bytes = kmemdup(text, 4, gfp::kernel);
  EXPECT_STREQ(whole, text);
  EXPECT_STREQ(cut, "a t");
  EXPECT_STREQ(longer, text);
  EXPECT_EQ(memcmp(bytes, text, 4), 0);
  EXPECT_EQ(kstrdup(nullptr, gfp::kernel), nullptr);
  EXPECT_EQ(kstrndup(nullptr, 3, gfp::kernel), nullptr);
  char* const empty = kstrdup("", gfp::kernel);
  EXPECT_STREQ(empty, "");
  for (void* const p : {static_cast<void*>(whole), static_cast<void*>(cut), static_cast<void*>(longer), bytes, static_cast<void*>(empty)})
    kfree(p);
}

TEST_F(kmalloc_api, alignments_of_your_own) {
  for (size_t align = 1; align <= size_t{1} << 21; align *= 2)
    for (const size_t size : {size_t{1}, size_t{24}, size_t{5000}}) {
      void* const p = kmalloc_aligned(size, align, gfp::kernel);
      ASSERT_NE(p, nullptr) << size << ' ' << align;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % align, 0u);
      EXPECT_GE(ksize(p), size);
      kfree(p);
    }
  void* const of_no_bytes = kmalloc_aligned(0, 64, gfp::kernel);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(of_no_bytes) % 64, 0u);
  kfree(of_no_bytes);
  EXPECT_EQ(kmalloc_aligned(10, 3, gfp::kernel), nullptr);
  EXPECT_EQ(kmalloc_aligned(10, 0, gfp::kernel), nullptr);
  EXPECT_EQ(kmalloc_aligned(10, size_t{8} << 20, gfp::kernel), nullptr);
}

TEST_F(kmalloc_api, masks_checked_at_compile_time_are_the_same_call) {
  for (void* const p : {kmalloc<gfp::kernel>(100), kmalloc<gfp::atomic>(100), kmalloc<gfp::nowait | gfp::zero>(100),
                        kmalloc<names::GFP_KERNEL | names::GFP_ZERO_BIT>(100)}) {
    ASSERT_NE(p, nullptr);
    EXPECT_GE(ksize(p), 100u);
    kfree(p);
  }
}

TEST_F(kmalloc_api, a_blocking_mask_in_atomic_context_is_reported) {
  {
    const preempt_guard guard;
    void* const atomic = kmalloc<gfp::atomic>(10);
    EXPECT_NE(atomic, nullptr);
    EXPECT_EQ(take_messages(), "");
    kfree(atomic);
    void* const kernel = kmalloc(10, gfp::kernel);
    EXPECT_NE(take_messages().find("BUG: sleeping function called from invalid context"), std::string::npos);
    kfree(kernel);
  }
}

TEST_F(kmalloc_api, foreign_and_doubled_frees_are_reported_and_change_nothing) {
  int on_the_stack = 0;
  kfree(&on_the_stack);
  EXPECT_NE(take_messages(), "");
  void* const run = kmalloc(100000, gfp::kernel);
  kfree(run);
  kfree(run);
  EXPECT_NE(take_messages(), "");
}

TEST_F(kmalloc_api, exhaustion_is_nullptr_and_everything_comes_back) {
  const uint64_t before = remaining_bytes();
  for (const size_t size : {size_t{100}, size_t{3000}, size_t{200000}}) {
    std::vector<void*> held;
    while (void* const p = kmalloc(size, gfp::kernel | gfp::nowarn)) {
      memset(p, static_cast<int>(held.size()), 16);
      held.push_back(p);
    }
    EXPECT_GT(held.size() * size, size_t{44} << 20) << size;  // of 64 MiB, less 8 that only pages have, DMA, DMA32, reserve and metadata
    for (size_t i = 0; i < held.size(); ++i) {
      ASSERT_TRUE(is_filled(held[i], 16, static_cast<unsigned char>(i)));
      kfree(held[i]);
    }
  }
  EXPECT_GE(remaining_bytes() + (uint64_t{2} << 20), before);  // what caches keep at hand, and descriptors of blocks
}

}  // namespace
}  // namespace kmem
