// Opening sections: forward, as needed, and what a refusal leaves.
#include <atomic>
#include <thread>

#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::test_machine;

uint32_t opened(test_machine& m) KMEM_NO_ANALYSIS { return m.normal().opened_blocks; }

TEST(open_more, opens_a_section_or_as_many_blocks_as_are_asked_for) {
  test_machine m(testing::small_config(uint64_t{256} << 20));
  const uint32_t before = opened(m);
  EXPECT_TRUE(open_more(*m, m.normal(), 1, true));
  EXPECT_EQ(opened(m), before + section_blocks);
  EXPECT_TRUE(open_more(*m, m.normal(), section_blocks + 5, true));
  EXPECT_EQ(opened(m), before + 2 * section_blocks + 5);
  m.check();
}

TEST(open_more, charges_its_share_of_the_arrays) {
  test_machine m(testing::small_config(uint64_t{256} << 20));
  const uint64_t before = m->metadata_pages.load_relaxed();
  EXPECT_TRUE(open_more(*m, m.normal(), 1, true));
  EXPECT_EQ(m->metadata_pages.load_relaxed(), before + section_metadata_pages(section_blocks));
}

TEST(open_more, ends_at_the_end_of_the_span) {
  test_machine m;
  zone& z = m.normal();
  EXPECT_FALSE(open_more(*m, z, z.nr_blocks - opened(m) + 1, true));
  EXPECT_TRUE(open_more(*m, z, z.nr_blocks - opened(m), true));
  EXPECT_EQ(opened(m), z.nr_blocks);
  EXPECT_FALSE(open_more(*m, z, 1, true));
  m.check();
}

TEST(open_more, a_refusal_charges_nothing_and_the_next_try_may_succeed) {
  test_machine m(testing::small_config(uint64_t{256} << 20));
  const uint64_t before = m->metadata_pages.load_relaxed();
  const uint32_t blocks = opened(m);
  {
    const fail_nth_scope scope(1, true);
    EXPECT_FALSE(open_more(*m, m.normal(), 1, true));
    EXPECT_TRUE(scope.hit());
  }
  EXPECT_EQ(m->metadata_pages.load_relaxed(), before);
  EXPECT_EQ(opened(m), blocks);
  EXPECT_TRUE(open_more(*m, m.normal(), 1, true));
}

TEST(open_more, who_may_not_wait_gives_up_on_a_busy_opener) {
  test_machine m;
  std::atomic<bool> held{false}, done{false};
  std::thread opener([&] {
    const lock_guard guard(m->section_lock);
    held = true;
    while (!done) std::this_thread::yield();
  });
  while (!held) std::this_thread::yield();
  const uint64_t before = m->metadata_pages.load_relaxed();
  EXPECT_FALSE(open_more(*m, m.normal(), 1, false));
  EXPECT_EQ(m->metadata_pages.load_relaxed(), before);
  done = true;
  opener.join();
}

TEST(open_more, memory_that_is_open_serves_while_nothing_more_can_be_opened) {
  test_machine m;
  const fail_nth_scope scope(1, true);
  held_pages held(*m);
  // Injected failures of page allocation do not concern NOFAIL; mprotect is refused all the same.
  for (int i = 0; i < 200; ++i) ASSERT_NE(held.take(gfp::kernel | gfp::nofail), nullptr);
}

}  // namespace
}  // namespace kmem
