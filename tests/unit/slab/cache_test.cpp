// Making and destroying caches: alignment rules, merging, refused arguments, objects remaining.
#include "slab_fixture.hpp"

namespace kmem::testing {
namespace {

uint32_t alignment(slab_machine& m, size_t size, slab_flags_t flags, size_t align) {
  kmem_cache& cache = m.make(size, flags | slab_flags_t::no_merge, align);
  const uint32_t result = cache.align;
  EXPECT_EQ(cache.size % result, 0u);
  void* const p = cache_alloc(*m, cache, gfp::kernel);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % result, 0u);
  cache_free(*m, cache, p);
  m.destroy(cache);
  return result;
}

TEST(cache, alignment_follows_the_kernels_rules) {
  slab_machine m;
  constexpr auto none = slab_flags_t::none, line = slab_flags_t::hwcache_align;
  EXPECT_EQ(alignment(m, 1, none, 0), 8u);
  EXPECT_EQ(alignment(m, 100, none, 0), 8u);
  EXPECT_EQ(alignment(m, 100, none, 4), 8u);
  EXPECT_EQ(alignment(m, 100, none, 16), 16u);
  EXPECT_EQ(alignment(m, 100, none, 1024), 1024u);
  EXPECT_EQ(alignment(m, 100, none, 8192), 8192u);
  EXPECT_EQ(alignment(m, 100, line, 0), 64u);
  EXPECT_EQ(alignment(m, 33, line, 0), 64u);
  EXPECT_EQ(alignment(m, 32, line, 0), 32u);  // two fit a line
  EXPECT_EQ(alignment(m, 17, line, 0), 32u);
  EXPECT_EQ(alignment(m, 16, line, 0), 16u);
  EXPECT_EQ(alignment(m, 8, line, 0), 8u);
  EXPECT_EQ(alignment(m, 3, line, 0), 8u);
  EXPECT_EQ(alignment(m, 20, line, 128), 128u);
}

TEST(cache, equal_caches_merge_and_live_as_long_as_their_last_user) {
  slab_machine m;
  kmem_cache* const a = cache_create(*m, {.name = "a", .object_size = 120});
  kmem_cache* const b = cache_create(*m, {.name = "b", .object_size = 117});
  EXPECT_EQ(a, b);
  EXPECT_EQ(a->references, 2u);
  void* const p = cache_alloc(*m, *b, gfp::kernel);
  EXPECT_EQ(cache_destroy(*m, a), err::ok);
  cache_free(*m, *b, p);
  EXPECT_EQ(cache_destroy(*m, b), err::ok);
}

TEST(cache, what_differs_in_layout_or_forbids_it_does_not_merge) {
  slab_machine m;
  std::vector<kmem_cache*> caches;
  const auto make = [&](cache_args args) { caches.push_back(cache_create(*m, args)); };
  const auto construct = [](void*) noexcept {};
  make({.name = "base", .object_size = 120});
  make({.name = "size", .object_size = 128});
  make({.name = "align", .object_size = 120, .align = 64});
  make({.name = "flags", .object_size = 120, .flags = slab_flags_t::reclaim_account});
  make({.name = "dma", .object_size = 120, .flags = slab_flags_t::cache_dma});
  make({.name = "own", .object_size = 120, .flags = slab_flags_t::no_merge});
  make({.name = "made", .object_size = 120, .constructor = construct});
  make({.name = "own too", .object_size = 120, .flags = slab_flags_t::no_merge});
  for (size_t i = 0; i < caches.size(); ++i) {
    ASSERT_NE(caches[i], nullptr) << i;
    for (size_t k = 0; k < i; ++k) EXPECT_NE(caches[i], caches[k]) << i << " and " << k;
  }
  for (kmem_cache* c : caches) EXPECT_EQ(cache_destroy(*m, c), err::ok);
}

TEST(cache, wrong_arguments_are_refused_with_a_message_that_says_which) {
  slab_machine m;
  const struct {
    cache_args args;
    const char* says;
  } cases[] = {
      {{.name = nullptr, .object_size = 8}, "a cache needs a name"},
      {{.name = "", .object_size = 8}, "a cache needs a name"},
      {{.name = "x", .object_size = 0}, "the object size is 0"},
      {{.name = "x", .object_size = size_t{5} << 20}, "larger than the largest block"},
      {{.name = "x", .object_size = size_t{1} << 40}, "larger than the largest block"},
      {{.name = "x", .object_size = 8, .align = 24}, "not a power of two"},
      {{.name = "x", .object_size = 8, .align = size_t{1} << 30}, "larger than the largest block"},
      {{.name = "x", .object_size = 8, .flags = slab_flags_t(0x1)}, "unknown flags"},
      {{.name = "x", .object_size = 8, .flags = slab_flags_t::cache_dma | slab_flags_t::cache_dma32}, "exclude each other"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(cache_create(*m, c.args), nullptr);
    const std::string log = take_log();
    EXPECT_NE(log.find(c.says), std::string::npos) << log;
    EXPECT_NE(log.find("kmem_cache_create("), std::string::npos) << log;
  }
}

TEST(cache, panic_makes_failure_fatal) {
  slab_machine m;
  EXPECT_DEATH(
      {
        set_printk_sink(printk_to_stderr);
        cache_create(*m, {.name = "vital", .object_size = 0, .flags = slab_flags_t::panic});
      },
      "Failed to create slab 'vital'. Error -22");
}

TEST(cache, objects_that_remain_keep_the_cache_alive) {
  slab_machine m;
  kmem_cache& cache = m.make(100);
  void* const p = cache_alloc(*m, cache, gfp::kernel);
  EXPECT_EQ(cache_destroy(*m, &cache), err::busy);
  const std::string log = take_log();
  EXPECT_NE(log.find("BUG test (Not tainted): Objects remaining in test on __kmem_cache_shutdown()"), std::string::npos) << log;
  EXPECT_NE(log.find("kmem_cache_destroy test: Slab cache still has objects"), std::string::npos) << log;
  m.check();
  void* const q = cache_alloc(*m, cache, gfp::kernel);
  EXPECT_NE(q, nullptr);
  cache_free(*m, cache, q);
  cache_free(*m, cache, p);
  m.destroy(cache);
  EXPECT_EQ(cache_destroy(*m, nullptr), err::ok);
}

TEST(cache, built_in_caches_cannot_be_destroyed) {
  slab_machine m;
  EXPECT_EQ(cache_destroy(*m, &m->sheaf_cache), err::inval);
  m.check();
}

TEST(cache, ids_are_used_again_and_beyond_254_caches_work_without_arrays) {
  slab_machine m;
  std::vector<kmem_cache*> caches;
  for (int i = 0; i < 300; ++i) caches.push_back(&m.make(64 + static_cast<size_t>(i) * 8));
  unsigned without = 0;
  for (kmem_cache* c : caches) {
    if (c->class_byte == nr_array_headers - 1) ++without;
    std::vector<void*> objects;
    for (int i = 0; i < 20; ++i) objects.push_back(cache_alloc(*m, *c, gfp::kernel));
    for (void* p : objects) {
      ASSERT_EQ(cache_of(*m, p), c);
      ASSERT_TRUE(object_is_valid(*m, *c, p));
    }
    m.check();
    for (void* p : objects) cache_free(*m, *c, p);
  }
  EXPECT_GT(without, 100u);
  kmem_cache* const first = caches.front();
  const uint16_t id = first->id;
  m.destroy(*first);
  caches.front() = &m.make(64);
  EXPECT_EQ(caches.front()->id, id);
  for (kmem_cache* c : caches) m.destroy(*c);
}

TEST(cache, all_numbers_taken_is_an_error_and_not_a_crash) {
  slab_machine m(slab_config(uint64_t{64} << 20));
  std::vector<kmem_cache*> caches;
  for (;;) {
    kmem_cache* const c = cache_create(*m, {.name = "many", .object_size = 64, .flags = slab_flags_t::no_merge});
    if (c == nullptr) break;
    caches.push_back(c);
  }
  EXPECT_NE(take_log().find("all cache numbers are taken"), std::string::npos);
  EXPECT_EQ(caches.size(), max_caches - first_cache_id - 3u);  // three are built in
  void* const p = cache_alloc(*m, *caches.back(), gfp::kernel);
  EXPECT_EQ(cache_of(*m, p), caches.back());
  cache_free(*m, *caches.back(), p);
  for (kmem_cache* c : caches) EXPECT_EQ(cache_destroy(*m, c), err::ok);
}

TEST(cache, figures_add_up) {
  slab_machine m;
  kmem_cache& cache = m.make(128);
  std::vector<void*> objects;
  for (int i = 0; i < 500; ++i) objects.push_back(cache_alloc(*m, cache, gfp::kernel));
  for (int i = 0; i < 200; ++i) {
    cache_free(*m, cache, objects.back());
    objects.pop_back();
  }
  const cache_info info = m.info(cache);
  EXPECT_EQ(info.active, 300u);
  EXPECT_EQ(info.object_size, 128u);
  EXPECT_EQ(info.objects_per_slab, 32u);
  EXPECT_EQ(info.pages_per_slab, 1u);
  EXPECT_EQ(info.total, info.slabs * 32);
  EXPECT_GT(info.in_arrays + info.in_barn, 0u);
  cache_info past;
  EXPECT_FALSE(read_cache_info(*m, 100000, past));
  for (void* p : objects) cache_free(*m, cache, p);
  m.destroy(cache);
}

}  // namespace
}  // namespace kmem::testing
