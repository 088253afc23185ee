#include <cstring>
#include <vector>

#include "machine_fixture.hpp"

namespace kmem {
namespace {

class sheaf_test : public test::machine_fixture {
 protected:
  void SetUp() override {
    start("mem=16M");
    cache_ = cache_create(m(), {.name = "sheaf_test", .object_size = 300, .flags = slab_flags_t::no_merge});
    ASSERT_NE(cache_, nullptr);
  }
  void TearDown() override {
    EXPECT_EQ(cache_destroy(m(), cache_), err::ok);
    machine_fixture::TearDown();
  }
  kmem_cache& cache() { return *cache_; }
  uint64_t charged() {
    drain_caches(m(), true);
    drain_cpu_pages(m(), true);
    return charged_pages(m());
  }

 private:
  kmem_cache* cache_ = nullptr;
};

TEST_F(sheaf_test, as_many_objects_as_were_reserved_cannot_fail) {
  slab_sheaf* const sheaf = sheaf_prefill(m(), cache(), gfp::kernel | gfp::zero, 100);
  ASSERT_NE(sheaf, nullptr);
  std::vector<void*> hoard;
  while (void* const p = kmalloc(m(), 4096, gfp::atomic | gfp::nowarn)) hoard.push_back(p);
  std::vector<void*> objects;
  {
    const fail_nth_scope fail(1, true);
    const nest_guard interrupted;
    preempt_count_add(preempt_unit);
    for (int i = 0; i < 100; ++i) {
      objects.push_back(sheaf_alloc(*sheaf, i % 2 == 0 ? gfp::none : gfp::zero));
      ASSERT_NE(objects.back(), nullptr) << i;
      if (i % 2 != 0) {
        for (int byte = 0; byte < 300; ++byte) ASSERT_EQ(static_cast<char*>(objects.back())[byte], 0);
      }
      memset(objects.back(), i, 300);
    }
    EXPECT_EQ(sheaf_alloc(*sheaf, gfp::none), nullptr);  // no fallback to the cache
    preempt_count_sub(preempt_unit);
  }
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(static_cast<char*>(objects[static_cast<size_t>(i)])[299], static_cast<char>(i));  // nobody else's
    cache_free(m(), cache(), objects[static_cast<size_t>(i)]);
  }
  for (void* p : hoard) kfree(m(), p);
  sheaf_return(sheaf);
  EXPECT_EQ(log(), "");
}

TEST_F(sheaf_test, what_is_left_goes_back) {
  const uint64_t before = charged();
  slab_sheaf* const sheaf = sheaf_prefill(m(), cache(), gfp::kernel, 500);
  ASSERT_NE(sheaf, nullptr);
  EXPECT_EQ(sheaf->nr_objects, 500u);
  cache_free(m(), cache(), sheaf_alloc(*sheaf, gfp::none));
  EXPECT_EQ(sheaf->nr_objects, 499u);
  sheaf_return(sheaf);
  sheaf_return(nullptr);
  EXPECT_EQ(charged(), before);
  slab_sheaf* const least = sheaf_prefill(m(), cache(), gfp::kernel, 0);
  ASSERT_NE(least, nullptr);
  EXPECT_EQ(least->nr_objects, 1u);
  sheaf_return(least);
}

TEST_F(sheaf_test, is_filled_up_in_place_or_becomes_a_larger_one) {
  slab_sheaf* sheaf = sheaf_prefill(m(), cache(), gfp::kernel, 10);
  ASSERT_NE(sheaf, nullptr);
  slab_sheaf* const first = sheaf;
  std::vector<void*> objects;
  for (int i = 0; i < 4; ++i) objects.push_back(sheaf_alloc(*sheaf, gfp::none));
  EXPECT_EQ(sheaf_refill(sheaf, gfp::kernel, 5), err::ok);  // has more
  EXPECT_EQ(sheaf->nr_objects, 6u);
  EXPECT_EQ(sheaf_refill(sheaf, gfp::kernel, 10), err::ok);
  EXPECT_EQ(sheaf, first);
  EXPECT_EQ(sheaf->nr_objects, 10u);
  {
    const fail_nth_scope fail(1, true);
    EXPECT_EQ(sheaf_refill(sheaf, gfp::kernel | gfp::nowarn, 200), err::nomem);
  }
  EXPECT_EQ(sheaf->nr_objects, 10u);
  EXPECT_EQ(sheaf_refill(sheaf, gfp::kernel, 200), err::ok);
  EXPECT_EQ(sheaf->nr_objects, 200u);
  while (void* const object = sheaf_alloc(*sheaf, gfp::none)) objects.push_back(object);
  EXPECT_EQ(objects.size(), 204u);
  cache_free_bulk(m(), cache(), objects.size(), objects.data());
  sheaf_return(sheaf);
}

TEST_F(sheaf_test, every_refusal_leaves_all_as_it_was) {
  for (const size_t size : {size_t{0}, size_t{200}, size_t{3000}, size_t{100000}}) {
    for (const bool persistent : {false, true}) {
      bool passed_all = false;
      for (uint32_t nth = 1; nth < 300 && !passed_all; ++nth) {
        const uint64_t before = charged();
        slab_sheaf* sheaf = nullptr;
        {
          const fail_nth_scope fail(nth, persistent);
          const gfp_t quiet = gfp::kernel | gfp::nowarn;
          sheaf = size == 0 ? sheaf_prefill(m(), cache(), quiet, 40) : sheaf_prefill_kmalloc(m(), size, quiet, 20);
          passed_all = !fail.hit();
        }
        if (passed_all) {
          EXPECT_NE(sheaf, nullptr);
        }
        if (sheaf != nullptr) {
          EXPECT_EQ(sheaf->nr_objects, sheaf->capacity);
        }
        sheaf_return(sheaf);
        ASSERT_EQ(charged(), before) << size << " " << nth;
      }
      EXPECT_TRUE(passed_all);
    }
  }
  EXPECT_EQ(sheaf_prefill(m(), cache(), gfp::kernel | gfp::nowarn, 1 << 20), nullptr);
  EXPECT_EQ(log(), "");
}

TEST_F(sheaf_test, objects_of_kmalloc_are_freed_by_kfree) {
  for (const size_t size : {size_t{24}, size_t{5000}, size_t{200000}}) {
    slab_sheaf* const sheaf = sheaf_prefill_kmalloc(m(), size, gfp::kernel, 5);
    ASSERT_NE(sheaf, nullptr);
    auto* const object = static_cast<char*>(sheaf_alloc(*sheaf, gfp::zero));
    EXPECT_GE(ksize(m(), object), size);
    EXPECT_EQ(object[size - 1], 0);
    kfree(m(), object);
    sheaf_return(sheaf);
  }
}

TEST_F(sheaf_test, clearing_what_a_constructor_has_made_is_refused) {
  kmem_cache* const made = cache_create(
      m(), {.name = "constructed", .object_size = 64, .constructor = [](void* object) noexcept { memset(object, 7, 64); }});
  ASSERT_NE(made, nullptr);
  slab_sheaf* const sheaf = sheaf_prefill(m(), *made, gfp::kernel, 2);
  ASSERT_NE(sheaf, nullptr);
  EXPECT_EQ(sheaf_alloc(*sheaf, gfp::zero), nullptr);
  EXPECT_NE(log().find("constructed: __GFP_ZERO is refused"), std::string::npos);
  EXPECT_EQ(sheaf->nr_objects, 2u);
  auto* const object = static_cast<char*>(sheaf_alloc(*sheaf, gfp::none));
  ASSERT_NE(object, nullptr);
  EXPECT_EQ(object[63], 7);
  cache_free(m(), *made, object);
  sheaf_return(sheaf);
  EXPECT_EQ(cache_destroy(m(), made), err::ok);
}

}  // namespace
}  // namespace kmem
