#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "machine_fixture.hpp"

namespace kmem {
namespace {

constexpr gfp_t quiet_kernel = gfp::kernel | gfp::nowarn;

/// A source that counts, and that can be dry: always, or for masks that do not block.
struct source {
  std::atomic<int> made{0}, freed{0}, calls{0};
  std::atomic<bool> dry{false};
  std::atomic<bool> only_blocking{false};
  std::vector<gfp_t> masks;  // of the calls, while `record` is set
  bool record = false;

  static void* alloc(gfp_t gfp, void* data) noexcept {
    auto& self = *static_cast<source*>(data);
    ++self.calls;
    if (self.record) self.masks.push_back(gfp);
    if (self.dry || (self.only_blocking && !may_block(gfp))) return nullptr;
    ++self.made;
    return new int(0);
  }
  static void free(void* element, void* data) noexcept {
    ++static_cast<source*>(data)->freed;
    delete static_cast<int*>(element);
  }
  mempool_source as_source() {
    mempool_source result;
    result.alloc = alloc;
    result.free = free;
    result.data = this;
    return result;
  }
  int living() const { return made - freed; }
};

mempool_figures info_of(const mempool& pool) {
  mempool_figures info;
  mempool_read_figures(pool, info);
  return info;
}

class mempool_test : public test::machine_fixture {
 protected:
  void SetUp() override { start("mem=16M"); }
  uint64_t charged() {
    drain_caches(m(), true);
    drain_cpu_pages(m(), true);
    return charged_pages(m());
  }
};

TEST_F(mempool_test, sets_elements_of_every_kind_aside_and_gives_all_of_them_back) {
  kmem_cache* const cache = cache_create(m(), {.name = "mempool_test", .object_size = 500, .flags = slab_flags_t::no_merge});
  ASSERT_NE(cache, nullptr);
  source s;
  const uint64_t before = charged();
  for (const mempool_source& from : {mempool_source{.kind = mempool_kind::slab, .cache = cache},
                                     mempool_source{.kind = mempool_kind::kmalloc, .size = 3000},
                                     mempool_source{.kind = mempool_kind::pages, .order = 2}, s.as_source()}) {
    mempool* const pool = mempool_create(m(), from, 10, gfp::kernel);
    ASSERT_NE(pool, nullptr);
    EXPECT_EQ(info_of(*pool).min_nr, 10u);
    EXPECT_EQ(info_of(*pool).curr_nr, 10u);
    void* const element = mempool_alloc(*pool, gfp::kernel);
    ASSERT_NE(element, nullptr);
    EXPECT_EQ(info_of(*pool).curr_nr, 10u);  // the source had one
    if (from.kind == mempool_kind::slab) {
      EXPECT_EQ(cache_of(m(), element), cache);
    } else if (from.kind == mempool_kind::kmalloc) {
      EXPECT_GE(ksize(m(), element), 3000u);
    } else if (from.kind == mempool_kind::pages) {
      EXPECT_EQ(static_cast<page*>(element)->order, 2);
    }
    mempool_free(*pool, element);
    mempool_free(*pool, nullptr);
    mempool_destroy(*pool);
    EXPECT_EQ(charged(), before);
  }
  EXPECT_EQ(s.living(), 0);
  EXPECT_EQ(cache_destroy(m(), cache), err::ok);
  EXPECT_EQ(log(), "");
}

TEST_F(mempool_test, asks_the_source_first_and_gently_then_the_pool_then_the_source_with_the_whole_mask) {
  source s;
  mempool* const pool = mempool_create(m(), s.as_source(), 1, gfp::kernel);
  ASSERT_NE(pool, nullptr);
  s.record = true;
  void* const first = mempool_alloc(*pool, gfp::kernel);
  ASSERT_EQ(s.masks.size(), 1u);
  constexpr gfp_t gentle = gfp::nomemalloc | gfp::noretry | gfp::nowarn;
  EXPECT_EQ(s.masks[0], (gfp::kernel & ~(gfp::direct_reclaim | gfp::io)) | gentle);
  s.only_blocking = true;
  s.masks.clear();
  void* const second = mempool_alloc(*pool, gfp::kernel);  // what was set aside
  EXPECT_EQ(s.masks.size(), 1u);
  EXPECT_EQ(info_of(*pool).curr_nr, 0u);
  s.masks.clear();
  void* const third = mempool_alloc(*pool, gfp::kernel | gfp::nofail);
  ASSERT_EQ(s.masks.size(), 2u);
  EXPECT_EQ(s.masks[1], gfp::kernel | gentle);  // NOFAIL is the pool's own business
  s.masks.clear();
  EXPECT_EQ(mempool_alloc(*pool, gfp::atomic), nullptr);
  ASSERT_EQ(s.masks.size(), 1u);
  EXPECT_EQ(s.masks[0], gfp::atomic | gentle);
  for (void* element : {first, second, third}) {
    ASSERT_NE(element, nullptr);
    mempool_free(*pool, element);
  }
  EXPECT_EQ(info_of(*pool).curr_nr, 1u);  // the pool first, then the source
  EXPECT_EQ(s.freed, 2);
  mempool_destroy(*pool);
  EXPECT_EQ(s.living(), 0);
}

TEST_F(mempool_test, a_pool_whose_elements_cannot_be_had_is_not_made) {
  source s;
  const uint64_t before = charged();
  s.dry = true;
  EXPECT_EQ(mempool_create(m(), s.as_source(), 3, gfp::kernel), nullptr);
  const mempool_source too_large{.kind = mempool_kind::kmalloc, .size = 15 << 20};
  EXPECT_EQ(mempool_create(m(), too_large, 3, quiet_kernel), nullptr);
  EXPECT_EQ(charged(), before);
  log();
  EXPECT_EQ(mempool_create(m(), {}, 3, gfp::kernel), nullptr);
  EXPECT_NE(log().find("needs a function"), std::string::npos);
  const mempool_source no_cache{.kind = mempool_kind::slab};
  EXPECT_EQ(mempool_create(m(), no_cache, 3, gfp::kernel), nullptr);
  EXPECT_NE(log().find("or a cache"), std::string::npos);
}

TEST_F(mempool_test, every_refusal_while_it_is_made_leaves_nothing_behind) {
  const mempool_source from{.kind = mempool_kind::kmalloc, .size = 5000};
  for (const bool persistent : {false, true}) {
    bool passed_all = false;
    for (uint32_t nth = 1; nth < 200 && !passed_all; ++nth) {
      const uint64_t before = charged();
      mempool* pool = nullptr;
      {
        const fail_nth_scope fail(nth, persistent);
        pool = mempool_create(m(), from, 4, quiet_kernel);
        passed_all = !fail.hit();
      }
      if (passed_all) {
        EXPECT_NE(pool, nullptr);
      }
      if (pool != nullptr) mempool_destroy(*pool);
      ASSERT_EQ(charged(), before) << nth;
    }
    EXPECT_TRUE(passed_all);
  }
  log();
}

TEST_F(mempool_test, none_asked_for_is_one) {
  source s;
  mempool* const pool = mempool_create(m(), s.as_source(), 0, gfp::kernel);
  ASSERT_NE(pool, nullptr);
  EXPECT_EQ(info_of(*pool).curr_nr, 1u);
  EXPECT_EQ(mempool_resize(*pool, 0), err::ok);
  EXPECT_EQ(info_of(*pool).min_nr, 1u);
  mempool_destroy(*pool);
  EXPECT_EQ(s.living(), 0);
}

TEST_F(mempool_test, grows_and_shrinks) {
  source s;
  mempool* const pool = mempool_create(m(), s.as_source(), 4, gfp::kernel);
  ASSERT_NE(pool, nullptr);
  EXPECT_EQ(mempool_resize(*pool, 50), err::ok);
  EXPECT_EQ(info_of(*pool).curr_nr, 50u);
  EXPECT_EQ(mempool_resize(*pool, 2), err::ok);
  EXPECT_EQ(info_of(*pool).curr_nr, 2u);
  EXPECT_EQ(s.living(), 2);
  s.dry = true;
  EXPECT_EQ(mempool_resize(*pool, 5), err::ok);  // kept from what comes back
  EXPECT_EQ(info_of(*pool).curr_nr, 2u);
  s.dry = false;
  std::vector<void*> out;
  for (int i = 0; i < 10; ++i) out.push_back(mempool_alloc(*pool, gfp::kernel));
  for (void* element : out) mempool_free(*pool, element);
  EXPECT_EQ(info_of(*pool).curr_nr, 5u);
  {
    const fail_nth_scope fail(1, true);
    EXPECT_EQ(mempool_resize(*pool, 200), err::nomem);
  }
  EXPECT_EQ(info_of(*pool).min_nr, 5u);
  // Every element that was set aside can be taken, wherever resizing has put it.
  EXPECT_EQ(mempool_resize(*pool, 60), err::ok);
  s.dry = true;
  out.clear();
  for (int i = 0; i < 60; ++i) {
    out.push_back(mempool_alloc(*pool, gfp::atomic));
    ASSERT_NE(out.back(), nullptr) << i;
  }
  EXPECT_EQ(mempool_alloc(*pool, gfp::atomic), nullptr);
  for (void* element : out) mempool_free(*pool, element);
  EXPECT_EQ(info_of(*pool).curr_nr, 60u);
  mempool_destroy(*pool);
  EXPECT_EQ(s.living(), 0);
  log();
}

TEST_F(mempool_test, zero_is_taken_off_with_a_message) {
  source s;
  mempool* const pool = mempool_create(m(), s.as_source(), 1, gfp::kernel);
  ASSERT_NE(pool, nullptr);
  s.record = true;
  void* const element = mempool_alloc(*pool, gfp::kernel | gfp::zero);
  EXPECT_FALSE(has(s.masks.at(0), gfp::zero));
  EXPECT_NE(log().find("__GFP_ZERO is taken off"), std::string::npos);
  mempool_free(*pool, element);
  mempool_destroy(*pool);
}

TEST_F(mempool_test, a_blocking_mask_in_atomic_context_is_reported) {
  source s;
  mempool* const pool = mempool_create(m(), s.as_source(), 1, gfp::kernel);
  ASSERT_NE(pool, nullptr);
  preempt_count_add(preempt_unit);
  void* const element = mempool_alloc(*pool, gfp::kernel);
  preempt_count_sub(preempt_unit);
  EXPECT_NE(element, nullptr);
  EXPECT_NE(log().find("BUG: sleeping function called from invalid context"), std::string::npos);
  mempool_free(*pool, element);
  mempool_destroy(*pool);
}

// In a handler that interrupted the allocator nothing waits: what is set aside is all there is.
TEST_F(mempool_test, a_nested_call_does_not_wait) {
  source s;
  mempool* const pool = mempool_create(m(), s.as_source(), 1, gfp::kernel);
  ASSERT_NE(pool, nullptr);
  s.dry = true;
  const nest_guard interrupted;
  void* const element = mempool_alloc(*pool, gfp::kernel);
  EXPECT_NE(element, nullptr);
  EXPECT_EQ(mempool_alloc(*pool, gfp::kernel), nullptr);
  mempool_free(*pool, element);
  EXPECT_EQ(info_of(*pool).curr_nr, 1u);
  mempool_destroy(*pool);
}

// More threads than elements, and a source that has none: each gets one in turn, none fails, and what was set aside is there at the end.
TEST_F(mempool_test, threads_that_may_block_always_get_an_element) {
  source s;
  mempool* const pool = mempool_create(m(), s.as_source(), 2, gfp::kernel);
  ASSERT_NE(pool, nullptr);
  s.dry = true;
  std::atomic<int> out{0}, most{0}, failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t)
    threads.emplace_back([&] {
      for (int round = 0; round < 300; ++round) {
        void* const element = mempool_alloc(*pool, gfp::kernel);
        if (element == nullptr) {
          ++failures;
          continue;
        }
        const int now = ++out;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        ++*static_cast<int*>(element);  // TSan sees whether owners are ordered
        if (round % 16 == 0) std::this_thread::yield();
        --out;
        mempool_free(*pool, element);
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(failures, 0);
  EXPECT_LE(most, 2);
  EXPECT_EQ(info_of(*pool).curr_nr, 2u);
  EXPECT_EQ(s.living(), 2);
  mempool_destroy(*pool);
  EXPECT_EQ(s.living(), 0);
}

TEST_F(mempool_test, resizing_while_others_use_it_loses_nothing) {
  source s;
  mempool* const pool = mempool_create(m(), s.as_source(), 4, gfp::kernel);
  ASSERT_NE(pool, nullptr);
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      std::vector<void*> mine;
      while (!done) {
        for (int i = 0; i < 5; ++i)
          if (void* const element = mempool_alloc(*pool, gfp::nowait); element != nullptr) mine.push_back(element);
        for (void* element : mine) mempool_free(*pool, element);
        mine.clear();
      }
    });
  for (uint32_t round = 0; round < 300; ++round) {
    s.dry = round % 3 == 0;
    ASSERT_EQ(mempool_resize(*pool, 1 + round * 7 % 40), err::ok);
  }
  done = true;
  for (std::thread& t : threads) t.join();
  s.dry = false;
  EXPECT_EQ(mempool_resize(*pool, 8), err::ok);
  EXPECT_EQ(info_of(*pool).curr_nr, 8u);
  EXPECT_EQ(s.living(), 8);
  mempool_destroy(*pool);
  EXPECT_EQ(s.living(), 0);
}

TEST_F(mempool_test, a_pool_that_somebody_waits_for_is_kept) {
  source s;
  mempool* const pool = mempool_create(m(), s.as_source(), 1, gfp::kernel);
  ASSERT_NE(pool, nullptr);
  void* const element = mempool_alloc(*pool, gfp::kernel);
  void* const kept = mempool_alloc(*pool, gfp::kernel);
  s.dry = true;
  void* const last = mempool_alloc(*pool, gfp::atomic);
  ASSERT_NE(last, nullptr);
  std::thread waiter([&] { mempool_free(*pool, mempool_alloc(*pool, gfp::kernel)); });
  while (info_of(*pool).waiting == 0) std::this_thread::yield();
  mempool_destroy(*pool);
  EXPECT_NE(log().find("the pool is kept"), std::string::npos);
  for (void* e : {element, kept, last}) mempool_free(*pool, e);
  waiter.join();
  EXPECT_GE(info_of(*pool).waits, 1u);
  mempool_destroy(*pool);
  EXPECT_EQ(s.living(), 0);
}

TEST_F(mempool_test, the_child_of_a_fork_counts_again_and_goes_on) {
  source s;
  mempool* const pool = mempool_create(m(), s.as_source(), 3, gfp::kernel);
  ASSERT_NE(pool, nullptr);
  std::atomic<bool> done{false};
  std::thread user([&] {
    while (!done) mempool_free(*pool, mempool_alloc(*pool, gfp::atomic));
  });
  s.dry = true;
  for (int round = 0; round < 20; ++round) {
    machine_fork_prepare(m());
    const pid_t child = fork();
    if (child == 0) {
      machine_fork_child(m());
      // At most one element is in the hands of the thread that is not here.
      unsigned got = 0;
      void* elements[3];
      while (got < 3 && (elements[got] = mempool_alloc(*pool, gfp::atomic)) != nullptr) ++got;
      for (unsigned i = 0; i < got; ++i) mempool_free(*pool, elements[i]);
      mempool_figures info;
      mempool_read_figures(*pool, info);
      _exit(got >= 2 && info.curr_nr == got && info.waiting == 0 ? 0 : 1);
    }
    machine_fork_parent(m());
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
  }
  done = true;
  user.join();
  mempool_destroy(*pool);
  EXPECT_EQ(s.living(), 0);
}

}  // namespace
}  // namespace kmem
