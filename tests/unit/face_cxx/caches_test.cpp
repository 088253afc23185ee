#include <cstring>
#include <set>

#include <kmem/kmem.hpp>

#include "api_fixture.hpp"

namespace kmem {
namespace {

class caches_api : public test::api_test {};

TEST_F(caches_api, objects_come_and_go) {
  kmem_cache* const cache = kmem_cache_create("api_test", 120, 0, cache_flags::no_merge);
  ASSERT_NE(cache, nullptr);
  EXPECT_EQ(kmem_cache_size(cache), 120u);
  void* const one = kmem_cache_alloc(cache, gfp::kernel);
  void* const cleared = kmem_cache_zalloc(cache, gfp::kernel);
  ASSERT_TRUE(one != nullptr && cleared != nullptr);
  EXPECT_GE(ksize(one), 120u);
  for (int i = 0; i < 120; ++i) EXPECT_EQ(static_cast<char*>(cleared)[i], 0);
  void* const checked = kmem_cache_alloc<gfp::atomic>(cache);
  void* const sleeping = kmem_cache_alloc<gfp::kernel>(cache);
  for (void* const p : {one, cleared, checked, sleeping}) kmem_cache_free(cache, p);
  kmem_cache_free(cache, nullptr);

  void* bulk[300];
  ASSERT_EQ(kmem_cache_alloc_bulk(cache, gfp::kernel, 300, bulk), 300u);
  EXPECT_EQ(std::set<void*>(bulk, bulk + 300).size(), 300u);
  for (void* const p : bulk) memset(p, 1, 120);
  kmem_cache_free_bulk(cache, 300, bulk);
  EXPECT_GT(kmem_cache_shrink(cache), 0u);
  kmem_cache_destroy(cache);
  kmem_cache_destroy(nullptr);
  EXPECT_EQ(take_messages(), "");
}

TEST_F(caches_api, the_constructor_runs_once_an_object_and_its_work_stays) {
  static int constructed;
  constructed = 0;
  kmem_cache* const cache = kmem_cache_create("constructed", 64, 64, cache_flags::hwcache_align,
                                              [](void* object) noexcept { *static_cast<int*>(object) = ++constructed; });
  void* const p = kmem_cache_alloc(cache, gfp::kernel);
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
  EXPECT_GT(constructed, 0);
  EXPECT_GE(*static_cast<int*>(p), 1);
  const int value = *static_cast<int*>(p);
  kmem_cache_free(cache, p);
  void* const again = kmem_cache_alloc(cache, gfp::kernel);
  EXPECT_EQ(again, p);
  EXPECT_EQ(*static_cast<int*>(again), value);
  kmem_cache_free(cache, again);
  kmem_cache_destroy(cache);
}

TEST_F(caches_api, wrong_arguments_and_wrong_frees_are_reported) {
  EXPECT_EQ(kmem_cache_create("bad align", 64, 3, cache_flags::none), nullptr);
  EXPECT_NE(take_messages(), "");
  EXPECT_EQ(kmem_cache_create("no size", 0, 0, cache_flags::none), nullptr);
  EXPECT_NE(take_messages(), "");
  kmem_cache* const a = kmem_cache_create("cache_a", 200, 0, cache_flags::no_merge);
  kmem_cache* const b = kmem_cache_create("cache_b", 200, 0, cache_flags::no_merge);
  void* const p = kmem_cache_alloc(a, gfp::kernel);
  kmem_cache_free(b, p);
  EXPECT_NE(take_messages(), "");
  kmem_cache_destroy(a);
  EXPECT_NE(take_messages().find("cache_a"), std::string::npos);  // objects remaining
  kmem_cache_free(a, p);
  kmem_cache_destroy(a);
  kmem_cache_destroy(b);
  EXPECT_EQ(take_messages(), "");
}

}  // namespace
}  // namespace kmem
