// Each operation with its n-th failure point failing, for all n: what failed has changed nothing, and __GFP_NOFAIL does not fail.
#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::test_machine;

struct counts {
  uint64_t charged, free, metadata;
  bool operator==(const counts&) const = default;
};

counts counts_of(test_machine& m) { return {charged_pages(*m), free_pages_total(*m), m->metadata_pages.load_relaxed()}; }

/// `operation` returns whether it succeeded, and undoes it.
template <class Operation>
void fail_each_point(Operation operation) {
  for (const bool persistent : {false, true}) {
    bool ever_failed = false;
    for (uint32_t nth = 1;; ++nth) {
      ASSERT_LT(nth, 200u);
      test_machine m;
      const counts before = counts_of(m);
      bool hit = false;
      {
        const fail_nth_scope scope(nth, persistent);
        ever_failed = !operation(m) || ever_failed;
        hit = scope.hit();
      }
      m.check();
      drain_cpu_pages(*m, true);
      EXPECT_EQ(charged_pages(*m), before.charged) << nth;
      if (!hit) break;
    }
    EXPECT_TRUE(ever_failed) << "a test that cannot fail";
  }
}

TEST(fail_nth, alloc_pages) {
  for (const unsigned order : {0u, 3u, 6u, 9u, 10u})
    fail_each_point([&](test_machine& m) {
      page* const p = alloc_pages(*m, gfp::kernel | gfp::nowarn, order_t(order));
      free_pages(*m, p, order_t(order));
      return p != nullptr;
    });
}

TEST(fail_nth, alloc_run_over_blocks_that_must_be_opened) {
  fail_each_point([&](test_machine& m) {
    page* const p = alloc_run(*m, gfp::kernel | gfp::nowarn, nr_pages_t(9000));
    free_run(*m, p);
    return p != nullptr;
  });
}

TEST(fail_nth, bulk) {
  fail_each_point([&](test_machine& m) {
    page* pages[5] = {};
    const unsigned n = alloc_pages_bulk(*m, gfp::kernel | gfp::nowarn, 5, pages);
    for (unsigned i = 0; i < 5; ++i) {
      EXPECT_EQ(pages[i] != nullptr, i < n);
      free_pages(*m, pages[i], order_t(0));
    }
    return n == 5;
  });
}

TEST(fail_nth, a_failed_call_changes_nothing_at_all) {
  test_machine m;
  const counts before = counts_of(m);
  for (uint32_t nth = 1; nth < 10; ++nth) {
    const fail_nth_scope scope(nth, true);
    page* const p = alloc_run(*m, gfp::kernel | gfp::nowarn, nr_pages_t(9000));
    if (!scope.hit()) {
      free_run(*m, p);
      break;
    }
    EXPECT_EQ(p, nullptr);
    EXPECT_EQ(counts_of(m), before) << nth;
  }
}

TEST(fail_nth, nofail_survives) {
  test_machine m;
  for (uint32_t nth = 1; nth < 8; ++nth) {
    const fail_nth_scope scope(nth, false);
    page* const p = alloc_pages(*m, gfp::kernel | gfp::nofail, order_t(2));
    ASSERT_NE(p, nullptr);
    free_pages(*m, p, order_t(2));
  }
}

TEST(fail_nth, an_injected_failure_is_recorded_but_not_reported) {
  test_machine m;
  testing::printed out;
  const fail_nth_scope scope(1, false);
  EXPECT_EQ(alloc_pages(*m, gfp::kernel, order_t(0)), nullptr);
  EXPECT_TRUE(scope.hit());
  EXPECT_EQ(out.text(), "");
  alloc_failure f;
  EXPECT_TRUE(read_failure(*m, 1, f));
}

}  // namespace
}  // namespace kmem
