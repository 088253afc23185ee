// Mempools and reservations with the nth fail point on their way failing: making them fails whole or not at all, using them does not fail.
#include <vector>

#include <kmem/kmem.h>
#include <kmem/mempool.hpp>
#include <kmem/reservation.hpp>

#include "fault/fail_everywhere.hpp"

namespace kmem {
namespace {

using test::fail_everywhere;
using test::if_made;
using test::most_points;
using test::settled_charge;
using test::started_machine;
using test::undo;

constexpr gfp_t quiet = gfp::kernel | gfp::nowarn;

undo destroyed(mempool* pool) {
  return if_made<mempool*>(pool, [](mempool* p) { mempool_destroy(p); });
}

class reserve_fail_nth : public testing::Test {
 protected:
  void SetUp() override {
    started_machine();
    cache_ = kmem_cache_create("reserve_fail_nth", 700, 0, cache_flags::no_merge);
    ASSERT_NE(cache_, nullptr);
  }
  void TearDown() override { kmem_cache_destroy(cache_); }
  kmem_cache* cache() { return cache_; }

  /// Calls `run` with every failure, single and persistent. It must always give something, which `free` takes back.
  void never_fails(const char* name, const std::function<void*()>& run, const std::function<void(void*)>& free) {
    machine& m = started_machine();
    for (const bool persistent : {false, true}) {
      bool passed_all = false;
      for (uint32_t nth = 1; nth < most_points && !passed_all; ++nth) {
        const uint64_t before = settled_charge(m);
        void* element = nullptr;
        {
          const fail_nth_scope fail(nth, persistent);
          element = run();
          passed_all = !fail.hit();
        }
        ASSERT_NE(element, nullptr) << name << ": failure " << nth;
        free(element);
        ASSERT_EQ(settled_charge(m), before) << name << ": failure " << nth;
      }
      EXPECT_TRUE(passed_all) << name;
    }
  }

 private:
  kmem_cache* cache_ = nullptr;
};

TEST_F(reserve_fail_nth, making_a_pool) {
  fail_everywhere({"mempool_create_kmalloc_pool", [] { return destroyed(mempool_create_kmalloc_pool(10, 2000)); }});
  fail_everywhere({"mempool_create_slab_pool", [this] { return destroyed(mempool_create_slab_pool(10, cache())); }});
  fail_everywhere({"mempool_create_page_pool", [] { return destroyed(mempool_create_page_pool(4, 1)); }});
  fail_everywhere({"mempool_create", [] {
                     return destroyed(mempool_create(
                         5, [](gfp_t gfp, void*) noexcept { return kvmalloc(20000, gfp); },
                         [](void* element, void*) noexcept { kvfree(element); }, nullptr, quiet));
                   }});
}

TEST_F(reserve_fail_nth, an_allocation_that_may_block_survives_everything) {
  for (const gfp_t gfp : {gfp::kernel, gfp::noio, gfp::kernel | gfp::zero}) {
    mempool* const pool = mempool_create_kmalloc_pool(1, 2000);
    ASSERT_NE(pool, nullptr);
    never_fails("mempool_alloc", [=] { return mempool_alloc(pool, gfp); }, [=](void* element) { mempool_free(element, pool); });
    mempool_destroy(pool);
  }
}

TEST_F(reserve_fail_nth, an_atomic_allocation_fails_only_when_nothing_is_set_aside) {
  mempool* const pool = mempool_create_kmalloc_pool(1, 2000);
  ASSERT_NE(pool, nullptr);
  never_fails("mempool_alloc", [=] { return mempool_alloc(pool, gfp::atomic); }, [=](void* element) { mempool_free(element, pool); });
  void* last = nullptr;
  {
    const fail_nth_scope fail(1, true);
    last = mempool_alloc(pool, gfp::atomic);
  }
  ASSERT_NE(last, nullptr);
  fail_everywhere({"mempool_alloc of an empty pool", [pool] {
                     return if_made<void*>(mempool_alloc(pool, gfp::atomic), [](void* element) { kfree(element); });
                   }});
  mempool_free(last, pool);
  mempool_destroy(pool);
}

TEST_F(reserve_fail_nth, growing_a_pool) {
  fail_everywhere({"mempool_resize", []() -> undo {
                     mempool* pool = nullptr;
                     {
                       task_context& task = current();
                       const uint32_t nth = task.fail_nth;
                       task.fail_nth = 0;
                       pool = mempool_create_kmalloc_pool(2, 300);
                       task.fail_nth = nth;
                     }
                     EXPECT_NE(pool, nullptr);
                     const bool grown = mempool_resize(pool, 300) == 0;
                     mempool_info info;
                     read_mempool_info(pool, info);
                     EXPECT_EQ(info.min_nr, grown ? 300u : 2u);
                     EXPECT_GE(info.curr_nr, 2u);
                     EXPECT_LE(info.curr_nr, info.min_nr);
                     if (grown) return [pool] { mempool_destroy(pool); };
                     mempool_destroy(pool);
                     return {};
                   }});
}

TEST_F(reserve_fail_nth, reservations) {
  fail_everywhere({"kmem_cache_prefill_sheaf", [this] {
                     return if_made<slab_sheaf*>(kmem_cache_prefill_sheaf(cache(), quiet, 70), [this](slab_sheaf* sheaf) {
                       kmem_cache_return_sheaf(cache(), gfp::kernel, sheaf);
                     });
                   }});
  fail_everywhere({"kmem_cache_refill_sheaf", [this]() -> undo {
                     slab_sheaf* sheaf = nullptr;
                     {
                       task_context& task = current();
                       const uint32_t nth = task.fail_nth;
                       task.fail_nth = 0;
                       sheaf = kmem_cache_prefill_sheaf(cache(), quiet, 5);
                       task.fail_nth = nth;
                     }
                     EXPECT_NE(sheaf, nullptr);
                     const int result = kmem_cache_refill_sheaf(cache(), quiet, &sheaf, 60);
                     EXPECT_TRUE(result == 0 || result == -12) << result;
                     EXPECT_EQ(kmem_cache_sheaf_size(sheaf), result == 0 ? 60u : 5u);
                     const auto give_back = [this, sheaf] { kmem_cache_return_sheaf(cache(), gfp::kernel, sheaf); };
                     if (result == 0) return give_back;
                     give_back();
                     return {};
                   }});
  fail_everywhere({"reservation", []() -> undo {
                     auto* const r = new reservation(3000, 20, quiet);
                     if (*r) return [r] { delete r; };
                     delete r;
                     return {};
                   }});
  reservation objects(cache(), most_points, gfp::kernel);
  ASSERT_TRUE(objects);
  std::vector<void*> taken;
  {
    const fail_nth_scope fail(1, true);
    for (unsigned left = most_points; left != 0; --left) {
      ASSERT_EQ(objects.remaining(), left);
      taken.push_back(objects.take());
      ASSERT_NE(taken.back(), nullptr);
    }
    EXPECT_FALSE(fail.hit());
  }
  for (void* object : taken) kmem_cache_free(cache(), object);
}

}  // namespace
}  // namespace kmem
