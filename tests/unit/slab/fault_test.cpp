// Every public call with each fail point failing in turn, once and for good: a failed call changes nothing and loses nothing.
#include <functional>

#include "slab_fixture.hpp"

namespace kmem::testing {
namespace {

/// Runs `call` with the nth passage failing, for n = 1, 2, ... until it was not reached. Return: how many passages there were.
/// `call` returns whether it succeeded; `undo` takes back what it did.
unsigned for_each_failure(bool persistent, const std::function<bool()>& call, const std::function<void(bool)>& after) {
  for (unsigned nth = 1; nth < 1000; ++nth) {
    bool succeeded = false, reached = false;
    {
      fail_nth_scope scope(nth, persistent);
      succeeded = call();
      reached = scope.hit();
    }
    after(succeeded);
    if (!reached) {
      EXPECT_TRUE(succeeded) << "nothing failed, but the call did";
      return nth - 1;
    }
  }
  ADD_FAILURE() << "no end of failures";
  return 0;
}

class faults : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(transient_and_persistent, faults, ::testing::Bool());

TEST_P(faults, create) {
  slab_machine m;
  kmem_cache* made = nullptr;
  const unsigned points = for_each_failure(
      GetParam(),
      [&] {
        made = cache_create(*m, {.name = "x", .object_size = 100, .flags = slab_flags_t::no_merge});
        return made != nullptr;
      },
      [&](bool) {
        m.check();
        EXPECT_EQ(cache_destroy(*m, made), err::ok);
        drain_caches(*m, true);
        EXPECT_EQ(charged_pages(*m), 0u);
      });
  EXPECT_GE(points, 1u);
}

TEST_P(faults, alloc) {
  for (const size_t size : {size_t{8}, size_t{64}, size_t{4096}, size_t{100000}}) {
    slab_machine m;
    kmem_cache& cache = m.make(size);
    void* p = nullptr;
    const unsigned points = for_each_failure(
        GetParam(),
        [&] {
          p = cache_alloc(*m, cache, gfp::kernel | gfp::nowarn);
          return p != nullptr;
        },
        [&](bool) {
          EXPECT_EQ(m.info(cache).active, p != nullptr ? 1u : 0u);
          cache_free(*m, cache, p);
          m.check();
          drain_caches(*m, true);
          EXPECT_EQ(m.info(cache).slabs, 0u);
        });
    EXPECT_GE(points, 2u);  // failslab, and the pages of a slab
    m.destroy(cache);
  }
}

TEST_P(faults, bulk) {
  slab_machine m;
  kmem_cache& cache = m.make(512);
  std::vector<void*> objects(100);
  const unsigned points = for_each_failure(
      GetParam(), [&] { return cache_alloc_bulk(*m, cache, gfp::kernel | gfp::nowarn, 100, objects.data()) == 100; },
      [&](bool succeeded) {
        EXPECT_EQ(m.info(cache).active, succeeded ? 100u : 0u);
        if (succeeded) cache_free_bulk(*m, cache, 100, objects.data());
        m.check();
        drain_caches(*m, true);
        EXPECT_EQ(m.info(cache).slabs, 0u);
      });
  EXPECT_GE(points, 10u);
  m.destroy(cache);
}

TEST_P(faults, free_and_drain_never_fail) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  std::vector<void*> objects(2000);
  for (unsigned nth = 1; nth < 12; ++nth) {
    ASSERT_EQ(cache_alloc_bulk(*m, cache, gfp::kernel, 2000, objects.data()), 2000u);
    {
      fail_nth_scope scope(nth, GetParam());
      for (void* p : objects) cache_free(*m, cache, p);
      m.check();
      drain_caches(*m, true);
    }
    EXPECT_EQ(m.info(cache).slabs, 0u);
    m->sheaf_pause.store_relaxed(0);
  }
  m.destroy(cache);
}

TEST_P(faults, init) {
  for (unsigned nth = 1; nth < 100; ++nth) {
    auto sa = std::make_unique<slab_allocator>();
    ASSERT_EQ(page_alloc_init(*sa, slab_config()), err::ok);
    bool reached = false;
    {
      fail_nth_scope scope(nth, GetParam());
      const err result = slab_init(*sa);
      reached = scope.hit();
      EXPECT_EQ(result == err::ok, !reached) << nth;
    }
    slab_destroy(*sa);
    EXPECT_EQ(charged_pages(*sa), 0u);
    page_alloc_destroy(*sa);
    if (!reached) {
      EXPECT_GE(nth, 3u);  // two metadata areas
      return;
    }
  }
}

}  // namespace
}  // namespace kmem::testing
