// Laying out machines of all sizes, and under the limits that systems set.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/thread_sanitizer.hpp"
#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::printed;
using testing::small_config;
using testing::test_machine;

TEST(page_alloc_init, managed_sizes_and_the_allowance_are_the_budget) {
  for (const uint64_t mb : {4u, 5u, 16u, 64u, 1000u, 20'000u}) {
    test_machine m(small_config(mb << 20));
    uint64_t managed = 0;
    uint32_t next = 0;
    for (const zone& z : m->zones) {
      managed += z.managed.load_relaxed();
      EXPECT_EQ(z.first_block, next) << "zones lie side by side";
      next += z.nr_blocks;
      EXPECT_LE(z.managed_most, uint64_t{z.nr_blocks} * pages_per_block);
      EXPECT_EQ(z.nr_blocks == 0, z.managed_most == 0);
    }
    EXPECT_LE(next, m->nr_blocks());
    EXPECT_EQ(managed + m->metadata_allowance, (mb << 20) >> page_shift);
    EXPECT_EQ(m->limit.raw(), (mb << 20) >> page_shift);
    EXPECT_GE(managed * 100, m->limit.raw() * (mb >= 64 ? 97 : 90)) << mb << ": metadata must not eat the budget";
  }
}

TEST(page_alloc_init, dma_is_fixed_and_ends_at_16_mib) {
  test_machine m(small_config(uint64_t{4} << 30));
  const zone& dma = m.at(zone_idx::dma);
  EXPECT_TRUE(dma.fixed_pfns);
  EXPECT_EQ(dma.managed_most, 4095u);
  EXPECT_EQ(dma.nr_blocks, 8u);
  EXPECT_EQ(m->pages[0].kind, page_kind::unusable);
  held_pages held(*m);
  EXPECT_EQ(held.exhaust(gfp::dma | gfp::high), 4095u);
  for (const page* p : held.pages()) EXPECT_LT(m->pfn_of(p).raw(), 4096u);
}

TEST(page_alloc_init, dma32_ends_at_4_gib) {
  machine_config config = small_config(uint64_t{12} << 30);
  config.zone_dma32 = uint64_t{4} << 30;  // DMA takes its share of it
  test_machine m(config);
  const zone& z = m.at(zone_idx::dma32);
  EXPECT_EQ((z.first_block + z.nr_blocks) * pages_per_block, 1u << 20);
}

TEST(page_alloc_init, zones_that_leave_nothing_are_refused_with_a_reason) {
  machine_config config = small_config(uint64_t{64} << 20);
  config.zone_movable = uint64_t{63} << 20;
  page_allocator* const pa = new page_allocator;
  printed out;
  EXPECT_EQ(page_alloc_init(*pa, config), err::inval);
  EXPECT_FALSE(out.text().empty());
  EXPECT_EQ(page_alloc_init(*pa, small_config()), err::ok) << "and the object can be used all the same";
  page_alloc_destroy(*pa);
  delete pa;
}

TEST(page_alloc_init, a_machine_can_be_made_again) {
  page_allocator* const pa = new page_allocator;
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(page_alloc_init(*pa, small_config()), err::ok);
    page* const p = alloc_pages(*pa, gfp::kernel, order_t(5));
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(alloc_pages(*pa, gfp::kernel | gfp::nowarn, order_t(20)), nullptr);
    free_pages(*pa, p, order_t(5));
    EXPECT_EQ(page_alloc_is_valid(*pa), nullptr);
    page_alloc_destroy(*pa);
    EXPECT_EQ(pa->failure_sequence.load_relaxed(), 0u);
  }
  delete pa;
}

TEST(page_alloc_init, refusals_of_the_system_leave_nothing_behind) {
  for (uint32_t nth = 1;; ++nth) {
    page_allocator* const pa = new page_allocator;
    const fail_nth_scope scope(nth, false);
    const err result = page_alloc_init(*pa, small_config());
    const bool hit = scope.hit();
    if (result == err::ok) {
      EXPECT_EQ(page_alloc_is_valid(*pa), nullptr);
      page_alloc_destroy(*pa);
    } else {
      EXPECT_EQ(result, err::nomem);
      EXPECT_EQ(pa->base, nullptr);
    }
    delete pa;
    if (!hit) {
      EXPECT_GT(nth, 4u);
      break;
    }
  }
}

// Sanitizers reserve terabytes and would be killed by the limit itself.
#if !defined(__SANITIZE_ADDRESS__) && !KMEM_UNDER_TSAN

/// Runs `body` in a child process. Return: its exit status.
template <class Body>
int in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

bool limit(int resource, rlim_t bytes) {
  const rlimit r{bytes, bytes};
  return setrlimit(static_cast<__rlimit_resource>(resource), &r) == 0;
}

/// Makes a machine and uses it until it is full. Return: 0 if it behaved.
int use_machine(const machine_config& config) {
  page_allocator* const pa = new page_allocator;
  if (page_alloc_init(*pa, config) != err::ok) return 1;
  uint64_t taken = 0;
  std::vector<page*> pages;
  pages.reserve(1 << 16);
  while (page* const p = alloc_pages(*pa, gfp::kernel | gfp::noretry | gfp::nowarn, order_t(4))) {
    std::memset(pa->address_of(pa->pfn_of(p)), 1, page_size << 4);
    taken += 16;
    pages.push_back(p);
    if (pages.size() == pages.capacity()) return 2;
  }
  if (taken < 1024) return 3;
  for (page* p : pages) free_pages(*pa, p, order_t(4));
  return page_alloc_is_valid(*pa) == nullptr && charged_pages(*pa) == 0 ? 0 : 4;
}

TEST(page_alloc_limits, serves_under_a_limit_of_address_space) {
  EXPECT_EQ(in_child([] { return limit(RLIMIT_AS, rlim_t{512} << 20) ? use_machine(small_config(uint64_t{4} << 30)) : 9; }), 0);
}

TEST(page_alloc_limits, serves_under_a_limit_of_data) {
  EXPECT_EQ(in_child([] { return limit(RLIMIT_DATA, rlim_t{256} << 20) ? use_machine(small_config(uint64_t{1} << 30)) : 9; }), 0);
}
#endif

}  // namespace
}  // namespace kmem
