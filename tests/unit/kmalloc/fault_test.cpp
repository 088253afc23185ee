// kmalloc, krealloc and the first use of another type with each fail point failing in turn, once and for good.
#include <functional>

#include "kmalloc_fixture.hpp"

namespace kmem::testing {
namespace {

class kmalloc_faults : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(transient_and_persistent, kmalloc_faults, ::testing::Bool());

/// As for the slab layer: until a run passes fewer points than it was to fail at.
void for_each_failure(bool persistent, unsigned at_least, const std::function<bool()>& call, const std::function<void(bool)>& after) {
  for (unsigned nth = 1; nth < 300; ++nth) {
    bool succeeded = false, reached = false;
    {
      fail_nth_scope scope(nth, persistent);
      succeeded = call();
      reached = scope.hit();
    }
    after(succeeded);
    if (reached) continue;
    EXPECT_TRUE(succeeded);
    EXPECT_GT(nth, at_least);
    return;
  }
  FAIL() << "no end of failures";
}

TEST_P(kmalloc_faults, kmalloc_of_every_kind_of_size) {
  for (const size_t size : {size_t{8}, size_t{64}, size_t{2000}, size_t{30000}, size_t{40000}, size_t{3000000}})
    for (const gfp_t kind : {gfp::none, gfp::dma, gfp::reclaimable, gfp::zero}) {
      if (size > 1000000 && kind == gfp::dma) continue;  // more than the zone has
      kmalloc_machine m;
      void* p = nullptr;
      for_each_failure(
          GetParam(), 1,
          [&] {
            p = kmalloc(*m, size, gfp::kernel | gfp::nowarn | kind);
            return p != nullptr;
          },
          [&](bool) {
            if (p != nullptr) std::memset(p, 1, size);
            m.check();
            kfree(*m, p);
            EXPECT_EQ(m.live_objects(), 0u);
            drain_caches(*m, true);
          });
    }
}

TEST_P(kmalloc_faults, krealloc_keeps_the_old_object) {
  for (const size_t from : {size_t{20}, size_t{2000}, size_t{50000}})
    for (const size_t to : {size_t{10}, size_t{5000}, size_t{200000}}) {
      kmalloc_machine m;
      for (unsigned nth = 1; nth < 100; ++nth) {
        auto* p = static_cast<unsigned char*>(kmalloc(*m, from, gfp::kernel));
        std::memset(p, 0x5c, from);
        bool reached = false;
        {
          fail_nth_scope scope(nth, GetParam());
          auto* const q = static_cast<unsigned char*>(krealloc(*m, p, to, gfp::kernel | gfp::nowarn));
          reached = scope.hit();
          if (q == nullptr) {
            EXPECT_GT(to, from) << "shrinking failed";
          }
          if (q != nullptr) p = q;
          for (size_t i = 0; i < (q != nullptr && to < from ? to : from); ++i) ASSERT_EQ(p[i], 0x5c);
        }
        kfree(*m, p);
        m.check();
        drain_caches(*m, true);
        if (!reached) break;
      }
    }
}

TEST_P(kmalloc_faults, nofail_is_served_all_the_same) {
  kmalloc_machine m;
  for (unsigned nth = 1; nth < 20; ++nth) {
    fail_nth_scope scope(nth, GetParam());
    for (const size_t size : {size_t{8}, size_t{64}, size_t{3000}, size_t{40000}}) {
      void* const p = kmalloc(*m, size, gfp::kernel | gfp::nofail);
      ASSERT_NE(p, nullptr) << size;
      kfree(*m, p);
    }
  }
}

TEST_P(kmalloc_faults, init) {
  for (unsigned nth = 1; nth < 50; ++nth) {
    auto ka = std::make_unique<kmalloc_allocator>();
    ASSERT_EQ(page_alloc_init(*ka, slab_config()), err::ok);
    ASSERT_EQ(slab_init(*ka), err::ok);
    bool reached = false;
    {
      fail_nth_scope scope(nth, GetParam());
      const err result = kmalloc_init(*ka);
      reached = scope.hit();
      EXPECT_TRUE(result == err::ok || reached);
      if (result == err::ok) kmalloc_destroy(*ka);
    }
    slab_destroy(*ka);
    EXPECT_EQ(charged_pages(*ka), 0u);
    page_alloc_destroy(*ka);
    if (!reached) return;
  }
}

}  // namespace
}  // namespace kmem::testing

namespace kmem {
namespace {

using testing::kmalloc_machine;

unsigned times_reclaimed = 0;
uint64_t count_reclaim(void*, gfp_t, uint64_t) noexcept {
  ++times_reclaimed;
  return 0;
}

TEST(kmalloc, a_request_makes_one_pass_over_what_may_block) {
  kmalloc_machine m;
  ASSERT_EQ(register_reclaim_ops(*m, {.reclaim = count_reclaim}), err::ok);
  auto taken = m.exhaust_pages();
  for (const size_t size : {size_t{8}, size_t{64}, size_t{1000}, size_t{4096}, size_t{8192}})
    for (const gfp_t mask : {gfp::kernel, gfp::noio, gfp::kernel | gfp::noretry}) {
      times_reclaimed = 0;
      const uint64_t records = m->failure_sequence.load_relaxed();
      EXPECT_EQ(kmalloc(*m, size, mask | gfp::nowarn), nullptr);
      EXPECT_EQ(times_reclaimed, 1u) << size;
      EXPECT_EQ(m->failure_sequence.load_relaxed(), records + 1) << size;
    }
  times_reclaimed = 0;
  EXPECT_EQ(kmalloc(*m, 64, gfp::atomic | gfp::nowarn), nullptr);
  EXPECT_EQ(times_reclaimed, 0u);
  m.give_pages(taken);
}

TEST(kmalloc, shrinking_an_allocation_reclaims_nothing_and_leaves_no_record) {
  kmalloc_machine m;
  ASSERT_EQ(register_reclaim_ops(*m, {.reclaim = count_reclaim}), err::ok);
  void* const p = kmalloc(*m, 8192, gfp::kernel);
  ASSERT_NE(p, nullptr);
  auto taken = m.exhaust_pages();
  std::vector<void*> objects;
  for (const size_t size : {size_t{8192}, size_t{4096}, size_t{2048}, size_t{1024}, size_t{512}, size_t{256}, size_t{128}})
    while (void* const object = kmalloc(*m, size, gfp::atomic | gfp::nowarn)) objects.push_back(object);
  times_reclaimed = 0;
  const uint64_t records = m->failure_sequence.load_relaxed();
  EXPECT_EQ(krealloc(*m, p, 100, gfp::kernel), p);
  EXPECT_EQ(times_reclaimed, 0u);
  EXPECT_EQ(m->failure_sequence.load_relaxed(), records);
  for (void* const object : objects) kfree(*m, object);
  kfree(*m, p);
  m.give_pages(taken);
}

TEST(kmalloc, who_has_something_else_to_try_leaves_no_record) {
  kmalloc_machine m;
  auto taken = m.exhaust_pages();
  const uint64_t records = m->failure_sequence.load_relaxed();
  for (const gfp_t mask : {gfp::atomic, gfp::kernel | gfp::noretry})
    for (const size_t size : {size_t{64}, size_t{4096}, size_t{8192}, size_t{100'000}, size_t{8} << 20})
      EXPECT_EQ(kmalloc_quietly(*m, size, 1, mask), nullptr) << size;
  EXPECT_EQ(m->failure_sequence.load_relaxed(), records);
  EXPECT_EQ(testing::take_log(), "");
  EXPECT_EQ(kmalloc(*m, 64, gfp::atomic | gfp::nowarn), nullptr);
  EXPECT_EQ(m->failure_sequence.load_relaxed(), records + 1);
  m.give_pages(taken);
}

TEST(kmalloc, a_null_for_which_no_page_was_asked_for_leaves_a_record_too) {
  kmalloc_machine m;
  const auto record_of = [&](size_t bytes, auto&& allocate) {
    const uint64_t records = m->failure_sequence.load_relaxed();
    EXPECT_EQ(allocate(), nullptr) << bytes;
    EXPECT_EQ(m->failure_sequence.load_relaxed(), records + 1) << bytes;
    alloc_failure failure;
    EXPECT_TRUE(read_failure(*m, records + 1, failure));
    EXPECT_EQ(failure.bytes, bytes);
    return failure;
  };
  const size_t too_much = m->kmalloc_max_bytes + 1;
  const alloc_failure refused = record_of(too_much, [&] { return kmalloc(*m, too_much, gfp::noio | gfp::nowarn); });
  EXPECT_EQ(refused.gfp, gfp::noio | gfp::nowarn);
  EXPECT_EQ(refused.reached, chain_step::refused);
  record_of(100, [&] {
    const fail_nth_scope first(1, false);
    return kmalloc(*m, 100, gfp::kernel);
  });
  kmem_cache* const cache = cache_create(*m, {.name = "failing", .object_size = 500, .flags = slab_flags_t::no_merge});
  ASSERT_NE(cache, nullptr);
  const alloc_failure injected = record_of(500, [&] {
    const fail_nth_scope first(1, false);
    return cache_alloc(*m, *cache, gfp::atomic);
  });
  EXPECT_STREQ(injected.cache, "failing");
  EXPECT_EQ(cache_destroy(*m, cache), err::ok);
}

TEST(kmalloc, the_record_of_a_failure_keeps_the_name_of_a_cache_that_is_gone) {
  kmalloc_machine m;
  kmem_cache* const cache = cache_create(*m, {.name = "passing", .object_size = 500, .flags = slab_flags_t::no_merge});
  ASSERT_NE(cache, nullptr);
  auto taken = m.exhaust_pages();
  EXPECT_EQ(cache_alloc(*m, *cache, gfp::atomic | gfp::nowarn), nullptr);
  m.give_pages(taken);
  ASSERT_EQ(cache_destroy(*m, cache), err::ok);
  kmem_cache* const other = cache_create(*m, {.name = "other", .object_size = 500, .flags = slab_flags_t::no_merge});
  alloc_failure failure;
  ASSERT_TRUE(read_failure(*m, m->failure_sequence.load_relaxed(), failure));
  EXPECT_STREQ(failure.cache, "passing");
  EXPECT_EQ(cache_destroy(*m, other), err::ok);
}

}  // namespace
}  // namespace kmem
