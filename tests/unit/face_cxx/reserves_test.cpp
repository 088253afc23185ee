#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

#include <kmem/kmem.h>
#include <kmem/mempool.hpp>
#include <kmem/reservation.hpp>

#include "api_fixture.hpp"

namespace kmem {
namespace {

class reserves : public test::api_test {};

mempool_info info_of(const mempool* pool) {
  mempool_info info;
  read_mempool_info(pool, info);
  return info;
}

TEST_F(reserves, pools_of_every_kind) {
  kmem_cache* const cache = kmem_cache_create("reserves", 120, 0, cache_flags::no_merge);
  ASSERT_NE(cache, nullptr);
  static int calls;
  calls = 0;
  mempool* const pools[] = {mempool_create_slab_pool(3, cache), mempool_create_kmalloc_pool(3, 4000), mempool_create_page_pool(3, 1),
                            mempool_create(
                                3, [](gfp_t gfp, void*) noexcept { return ++calls, kmalloc(10, gfp); },
                                [](void* element, void*) noexcept { kfree(element); }, nullptr)};
  for (mempool* pool : pools) {
    ASSERT_NE(pool, nullptr);
    EXPECT_EQ(info_of(pool).curr_nr, 3u);
    void* const element = mempool_alloc(pool, gfp::noio);
    ASSERT_NE(element, nullptr);
    mempool_free(element, pool);
    mempool_free(nullptr, pool);
    EXPECT_EQ(mempool_resize(pool, 7), 0);
    EXPECT_EQ(info_of(pool).min_nr, 7u);
    EXPECT_EQ(info_of(pool).curr_nr, 7u);
    EXPECT_EQ(info_of(pool).waiting, 0u);
    EXPECT_EQ(info_of(pool).waits, 0u);
    mempool_destroy(pool);
  }
  EXPECT_EQ(calls, 8);
  mempool_destroy(nullptr);
  kmem_cache_destroy(cache);
  EXPECT_EQ(take_messages(), "");
}

TEST_F(reserves, wrong_pools_are_refused_with_a_message) {
  EXPECT_EQ(mempool_create(1, nullptr, nullptr, nullptr), nullptr);
  EXPECT_NE(take_messages().find("needs a function"), std::string::npos);
  EXPECT_EQ(mempool_create_slab_pool(1, nullptr), nullptr);
  EXPECT_NE(take_messages().find("or a cache"), std::string::npos);
  EXPECT_EQ(mempool_create_page_pool(1, 200), nullptr);
}

struct alignas(64) wide {
  explicit wide(int value) : number(value) {
    if (value < 0) throw std::invalid_argument("negative");
    ++living;
  }
  ~wide() { --living; }
  int number;
  static inline int living = 0;
};

TEST_F(reserves, a_typed_pool_makes_and_destroys) {
  {
    object_pool<wide> pool(2);
    ASSERT_TRUE(pool);
    auto one = pool.make(gfp::kernel, 1);
    ASSERT_TRUE(one);
    EXPECT_EQ(one->number, 1);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(one.get()) % 64, 0u);
    EXPECT_EQ(wide::living, 1);
    EXPECT_THROW((void)pool.make(gfp::kernel, -1), std::invalid_argument);
    auto two = pool.make(gfp::atomic, 2);
    EXPECT_EQ(wide::living, 2);
    one.reset();
    EXPECT_EQ(wide::living, 1);
  }
  EXPECT_EQ(wide::living, 0);
  object_pool<char[1 << 20]> huge(1u << 20);  // more than the budget
  EXPECT_FALSE(huge);
  take_messages();
}

TEST_F(reserves, sheaves) {
  kmem_cache* const cache = kmem_cache_create("sheaves", 120, 0, cache_flags::no_merge);
  kmem_cache* const other = kmem_cache_create("other", 120, 0, cache_flags::no_merge);
  slab_sheaf* sheaf = kmem_cache_prefill_sheaf(cache, gfp::kernel, 3);
  ASSERT_NE(sheaf, nullptr);
  EXPECT_EQ(kmem_cache_sheaf_size(sheaf), 3u);
  for (int i = 0; i < 3; ++i) {
    void* const object = kmem_cache_alloc_from_sheaf(cache, gfp::zero, sheaf);
    ASSERT_NE(object, nullptr);
    kmem_cache_free(cache, object);
  }
  EXPECT_EQ(kmem_cache_alloc_from_sheaf(cache, gfp::none, sheaf), nullptr);
  EXPECT_EQ(kmem_cache_refill_sheaf(other, gfp::kernel, &sheaf, 5), -22);
  EXPECT_EQ(kmem_cache_refill_sheaf(cache, gfp::kernel, nullptr, 5), -22);
  EXPECT_EQ(kmem_cache_refill_sheaf(cache, gfp::kernel, &sheaf, 5), 0);
  EXPECT_EQ(kmem_cache_sheaf_size(sheaf), 5u);
  kmem_cache_return_sheaf(cache, gfp::kernel, sheaf);
  kmem_cache_return_sheaf(cache, gfp::kernel, nullptr);
  EXPECT_EQ(kmem_cache_prefill_sheaf(nullptr, gfp::kernel, 5), nullptr);
  kmem_cache_destroy(cache);
  kmem_cache_destroy(other);
  EXPECT_EQ(take_messages(), "");
}

TEST_F(reserves, a_reservation_belongs_to_its_scope) {
  kmem_cache* const cache = kmem_cache_create("scope", 120, 0, cache_flags::no_merge);
  {
    reservation objects(cache, 3, gfp::kernel);
    ASSERT_TRUE(objects);
    EXPECT_EQ(objects.remaining(), 3u);
    void* const object = objects.take();
    ASSERT_NE(object, nullptr);
    kmem_cache_free(cache, object);
    auto* const cleared = static_cast<char*>(objects.take_zeroed());
    EXPECT_EQ(cleared[119], 0);
    kmem_cache_free(cache, cleared);
    EXPECT_TRUE(objects.refill(2, gfp::kernel));
    EXPECT_EQ(objects.remaining(), 2u);
    reservation moved(std::move(objects));
    EXPECT_EQ(moved.remaining(), 2u);
    EXPECT_EQ(objects.remaining(), 0u);
    EXPECT_EQ(objects.take(), nullptr);
    EXPECT_EQ(objects.take_zeroed(), nullptr);
    EXPECT_FALSE(objects.refill(2, gfp::kernel));
    reservation bytes(size_t{500}, 4, gfp::kernel);
    ASSERT_TRUE(bytes);
    kfree(bytes.take());
    bytes = std::move(moved);
    EXPECT_EQ(bytes.remaining(), 2u);
  }
  kmem_cache_destroy(cache);  // would complain if anything were out
  reservation too_much(size_t{1} << 20, 1000, gfp::kernel | gfp::nowarn);
  EXPECT_FALSE(too_much);
  EXPECT_EQ(take_messages(), "");
}

TEST_F(reserves, the_c_functions_do_the_same) {
  kmem_cache_t* const cache = ::kmem_cache_create("c_reserves", 120, 0, KMEM_SLAB_NO_MERGE, nullptr);
  ASSERT_NE(cache, nullptr);
  static int data;
  kmem_mempool_t* const pools[] = {
      kmem_mempool_create(
          2, [](kmem_gfp_t gfp, void* pool_data) { return pool_data == &data ? kmem_kmalloc(50, gfp) : nullptr; },
          [](void* element, void* pool_data) { kmem_kfree(pool_data == &data ? element : nullptr); }, &data),
      kmem_mempool_create_slab_pool(2, cache), kmem_mempool_create_kmalloc_pool(2, 100), kmem_mempool_create_page_pool(2, 0)};
  for (kmem_mempool_t* pool : pools) {
    ASSERT_NE(pool, nullptr);
    void* const element = kmem_mempool_alloc(pool, KMEM_GFP_KERNEL);
    ASSERT_NE(element, nullptr);
    kmem_mempool_free(element, pool);
    EXPECT_EQ(kmem_mempool_resize(pool, 3), 0);
    EXPECT_EQ(kmem_mempool_min_nr(pool), 3u);
    EXPECT_EQ(kmem_mempool_curr_nr(pool), 3u);
    kmem_mempool_destroy(pool);
  }
  kmem_sheaf_t* sheaf = ::kmem_cache_prefill_sheaf(cache, KMEM_GFP_KERNEL, 2);
  ASSERT_NE(sheaf, nullptr);
  EXPECT_EQ(::kmem_cache_refill_sheaf(cache, KMEM_GFP_KERNEL, &sheaf, 9), 0);
  EXPECT_EQ(::kmem_cache_sheaf_size(sheaf), 9u);
  void* const object = ::kmem_cache_alloc_from_sheaf(cache, KMEM_GFP_ZERO_BIT, sheaf);
  ASSERT_NE(object, nullptr);
  ::kmem_cache_free(cache, object);
  ::kmem_cache_return_sheaf(cache, KMEM_GFP_KERNEL, sheaf);
  ::kmem_cache_destroy(cache);
  EXPECT_EQ(take_messages(), "");
}

}  // namespace
}  // namespace kmem
