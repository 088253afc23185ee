#include <atomic>
#include <thread>
#include <vector>

#include "machine_fixture.hpp"

namespace kmem {
namespace {

class callbacks_test : public test::machine_fixture {
 protected:
  void SetUp() override { start("mem=16M"); }

  /// A cache of the test's: pages that a callback gives back.
  struct hoard {
    machine* m = nullptr;
    std::vector<page*> pages;
    std::atomic<unsigned> calls{0};
    gfp_t last_gfp = gfp::none;
    uint32_t scopes_inside = 0;
    static uint64_t drop(void* context, gfp_t gfp, uint64_t nr_pages) noexcept {
      auto& self = *static_cast<hoard*>(context);
      ++self.calls;
      self.last_gfp = gfp;
      self.scopes_inside = current().memalloc_scopes;
      uint64_t freed = 0;
      for (; freed < nr_pages && !self.pages.empty(); ++freed) {
        free_pages(*self.m, self.pages.back(), order_t(0));
        self.pages.pop_back();
      }
      return freed;
    }
  };
  void fill(hoard& h) {
    h.m = &m();
    h.pages.reserve(10000);
    while (page* const p = alloc_pages(m(), gfp::kernel | gfp::nowarn, order_t(0))) h.pages.push_back(p);
  }
  void empty(hoard& h) {
    for (page* const p : h.pages) free_pages(m(), p, order_t(0));
    h.pages.clear();
  }
};

TEST_F(callbacks_test, memory_that_a_callback_can_free_is_never_refused) {
  hoard h;
  fill(h);
  const size_t held = h.pages.size();
  ASSERT_GT(held, 1000u);
  const int number = register_callback(m(), {&h, hoard::drop, gfp::none});
  ASSERT_GE(number, 0);
  std::vector<page*> taken;
  for (size_t i = 0; i < held; ++i) {  // as many as the hoard had, each without a failure
    page* const p = alloc_pages(m(), gfp::kernel, order_t(0));
    ASSERT_NE(p, nullptr) << i;
    taken.push_back(p);
  }
  EXPECT_GT(h.calls, 0u);
  EXPECT_EQ(h.last_gfp, gfp::kernel);
  EXPECT_NE(h.scopes_inside & scope_noreclaim, 0u);
  EXPECT_EQ(current().memalloc_scopes, 0u);
  unregister_callback(m(), number);
  for (page* const p : taken) free_pages(m(), p, order_t(0));
  empty(h);
  EXPECT_EQ(log(), "");
}

TEST_F(callbacks_test, who_may_not_block_calls_no_callback) {
  hoard h;
  fill(h);
  const int number = register_callback(m(), {&h, hoard::drop, gfp::none});
  for (const gfp_t mask : {gfp::nowait, gfp::atomic}) {
    std::vector<page*> taken;
    while (page* const p = alloc_pages(m(), mask | gfp::nowarn, order_t(0))) taken.push_back(p);
    EXPECT_EQ(h.calls, 0u);
    for (page* const p : taken) free_pages(m(), p, order_t(0));
  }
  unregister_callback(m(), number);
  empty(h);
}

// The rights of each mask: a callback that needs the file system runs for KERNEL only, one that needs I/O for NOFS too, one that needs
// nothing for all that may block.
TEST_F(callbacks_test, needs_are_respected) {
  const struct {
    gfp_t needs, mask;
    uint32_t scope;
    bool runs;
  } cases[] = {
      {gfp::none, gfp::kernel, 0, true},
      {gfp::none, gfp::noio, 0, true},
      {gfp::io, gfp::nofs, 0, true},
      {gfp::io, gfp::noio, 0, false},
      {gfp::fs, gfp::nofs, 0, false},
      {gfp::fs | gfp::io, gfp::kernel, 0, true},
      {gfp::fs, gfp::kernel, scope_nofs, false},
      {gfp::io, gfp::kernel, scope_noio, false},
      {gfp::io, gfp::kernel, scope_nofs, true},
      {gfp::none, gfp::kernel, scope_noio, true},
  };
  hoard h;
  fill(h);
  for (const auto& each : cases) {
    h.calls = 0;
    const int number = register_callback(m(), {&h, hoard::drop, each.needs});
    ASSERT_GE(number, 0);
    const uint32_t saved = memalloc_save(each.scope);
    page* const p = alloc_pages(m(), each.mask | gfp::nowarn, order_t(0));
    memalloc_restore(each.scope, saved);
    EXPECT_EQ(h.calls != 0, each.runs) << static_cast<uint32_t>(each.needs) << ' ' << static_cast<uint32_t>(each.mask) << ' ' << each.scope;
    EXPECT_EQ(p != nullptr, each.runs);
    unregister_callback(m(), number);
    if (p != nullptr) h.pages.push_back(p);
  }
  empty(h);
}

// A callback that allocates does not come to itself again.
TEST_F(callbacks_test, there_is_no_recursion) {
  struct nested {
    machine* m;
    unsigned depth = 0, deepest = 0, calls = 0;
    static uint64_t run(void* context, gfp_t, uint64_t) noexcept {
      auto& self = *static_cast<nested*>(context);
      ++self.calls;
      if (++self.depth > self.deepest) self.deepest = self.depth;
      for (int i = 0; i < 2000; ++i) {
        void* const p = kmalloc(*self.m, 4096, gfp::kernel | gfp::nowarn);
        if (p == nullptr) break;
        kfree(*self.m, p);
      }
      --self.depth;
      return 0;
    }
  } state{&m()};
  hoard h;
  fill(h);
  const int number = register_callback(m(), {&state, nested::run, gfp::none});
  EXPECT_EQ(alloc_pages(m(), gfp::kernel | gfp::nowarn, order_t(0)), nullptr);
  EXPECT_GT(state.calls, 0u);
  EXPECT_EQ(state.deepest, 1u);
  unregister_callback(m(), number);
  empty(h);
}

TEST_F(callbacks_test, bad_arguments_are_refused) {
  EXPECT_EQ(register_callback(m(), {nullptr, nullptr, gfp::none}), -22);
  EXPECT_EQ(register_callback(m(), {nullptr, hoard::drop, gfp::highmem_bit}), -22);
  unregister_callback(m(), 3);
  EXPECT_NE(log().find("not registered (number 3)"), std::string::npos);
  unregister_callback(m(), -22);
  EXPECT_NE(log().find("not registered (number -22)"), std::string::npos);
  hoard h;
  std::vector<int> numbers;
  for (unsigned i = 0; i < nr_reclaim_callbacks; ++i) numbers.push_back(register_callback(m(), {&h, hoard::drop, gfp::none}));
  for (unsigned i = 0; i < nr_reclaim_callbacks; ++i) EXPECT_EQ(numbers[i], static_cast<int>(i));
  EXPECT_EQ(register_callback(m(), {&h, hoard::drop, gfp::none}), -12);
  unregister_callback(m(), 17);
  EXPECT_EQ(register_callback(m(), {&h, hoard::drop, gfp::none}), 17);
  for (const int number : numbers) unregister_callback(m(), number);
  unregister_callback(m(), 17);
  EXPECT_NE(log().find("not registered (number 17)"), std::string::npos);
}

TEST_F(callbacks_test, unregistering_waits_for_who_is_inside) {
  struct slow {
    std::atomic<bool> inside{false}, may_leave{false}, left{false};
    static uint64_t run(void* context, gfp_t, uint64_t) noexcept {
      auto& self = *static_cast<slow*>(context);
      self.inside = true;
      while (!self.may_leave) std::this_thread::yield();
      self.left = true;
      return 0;
    }
  } state;
  const int number = register_callback(m(), {&state, slow::run, gfp::none});
  std::thread runner([this] { run_callbacks(m(), gfp::kernel, 1); });
  while (!state.inside) std::this_thread::yield();
  std::atomic<bool> gone{false};
  std::thread remover([&] {
    unregister_callback(m(), number);
    EXPECT_TRUE(state.left);
    gone = true;
  });
  while (m().nr_callbacks.peek() != 0) std::this_thread::yield();
  EXPECT_FALSE(gone);
  EXPECT_EQ(run_callbacks(m(), gfp::kernel, 1), 0u);  // nobody enters any more
  state.may_leave = true;
  runner.join();
  remover.join();
  EXPECT_TRUE(gone);
}

TEST_F(callbacks_test, unregistering_from_inside_is_reported_and_does_not_hang) {
  struct self_remover {
    machine* m;
    int number;
    static uint64_t run(void* context, gfp_t, uint64_t) noexcept {
      auto& self = *static_cast<self_remover*>(context);
      unregister_callback(*self.m, self.number);
      return 1;
    }
  } state{&m(), 0};
  state.number = register_callback(m(), {&state, self_remover::run, gfp::none});
  EXPECT_EQ(run_callbacks(m(), gfp::kernel, 1), 1u);
  EXPECT_NE(log().find("from the callback itself"), std::string::npos);
  EXPECT_EQ(run_callbacks(m(), gfp::kernel, 1), 0u);
}

TEST_F(callbacks_test, a_callback_that_leaves_atomic_context_open_is_reported) {
  const int number = register_callback(m(), {nullptr,
                                             [](void*, gfp_t, uint64_t) noexcept -> uint64_t {
                                               preempt_count_add(preempt_unit);
                                               return 1;
                                             },
                                             gfp::none});
  run_callbacks(m(), gfp::kernel, 1);
  preempt_count_sub(preempt_unit);
  EXPECT_NE(log().find("returned in another context"), std::string::npos);
  unregister_callback(m(), number);
}

// All are asked in turn, so that no cache always loses first.
TEST_F(callbacks_test, the_round_starts_with_another_one_each_time) {
  std::atomic<unsigned> calls[2] = {};
  const auto count = [](void* context, gfp_t, uint64_t) noexcept -> uint64_t {
    ++*static_cast<std::atomic<unsigned>*>(context);
    return 1;
  };
  const int first = register_callback(m(), {&calls[0], count, gfp::none});
  const int second = register_callback(m(), {&calls[1], count, gfp::none});
  for (unsigned i = 0; i < 2 * nr_reclaim_callbacks; ++i) EXPECT_EQ(run_callbacks(m(), gfp::kernel, 1), 1u);
  EXPECT_GT(calls[0], 0u);
  EXPECT_GT(calls[1], 0u);
  unregister_callback(m(), first);
  unregister_callback(m(), second);
}

TEST_F(callbacks_test, threads_register_run_and_unregister_at_once) {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> calls{0};
  const auto count = [](void* context, gfp_t, uint64_t) noexcept -> uint64_t {
    ++*static_cast<std::atomic<uint64_t>*>(context);
    return 0;
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i)
    threads.emplace_back([&] {
      while (!stop) run_callbacks(m(), gfp::kernel, 1);
    });
  for (int i = 0; i < 2; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        const int number = register_callback(m(), {&calls, count, gfp::none});
        ASSERT_GE(number, 0);
        unregister_callback(m(), number);
      }
    });
  threads[2].join();
  threads[3].join();
  stop = true;
  threads[0].join();
  threads[1].join();
  EXPECT_EQ(machine_is_valid(m()), nullptr);
}

}  // namespace
}  // namespace kmem
