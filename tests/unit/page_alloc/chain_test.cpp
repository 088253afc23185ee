// The chain: which steps run for which flags, how often, and that sleeping is ended by a free.
#include <atomic>
#include <chrono>
#include <thread>

#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::printed;
using testing::small_config;
using testing::test_machine;

/// Counts what the chain asks of the layers above, and gives back what it is told to.
struct upper_layers {
  explicit upper_layers(test_machine& machine) : m(machine) {
    reclaim_ops ops;
    ops.context = this;
    ops.drain_caches = [](void* context, bool may_wait) noexcept -> uint64_t {
      auto& self = *static_cast<upper_layers*>(context);
      ++(may_wait ? self.drains_waiting : self.drains_trying);
      EXPECT_EQ(current().depth, 0u) << "what callbacks free must take the usual way";
      return self.release(self.from_caches);
    };
    ops.reclaim = [](void* context, gfp_t gfp, uint64_t n) noexcept -> uint64_t {
      auto& self = *static_cast<upper_layers*>(context);
      ++self.reclaims;
      self.seen = gfp;
      self.wanted = n;
      EXPECT_NE(current().memalloc_scopes & scope_noreclaim, 0u);
      if (self.pretend) return 1;
      return self.release(self.from_reclaim);
    };
    EXPECT_EQ(register_reclaim_ops(*m, ops), err::ok);
  }
  uint64_t release(std::vector<page*>& pages) {
    const uint64_t n = pages.size();
    for (page* p : pages) free_pages(*m, p, order_t(0));
    pages.clear();
    return n;
  }
  test_machine& m;
  std::vector<page*> from_caches, from_reclaim;
  unsigned drains_trying = 0, drains_waiting = 0, reclaims = 0;
  gfp_t seen = gfp::none;
  uint64_t wanted = 0;
  bool pretend = false;
};

/// A machine with nothing left for an ordinary caller.
class full_machine : public ::testing::Test {
 protected:
  explicit full_machine(const machine_config& config = small_config(uint64_t{16} << 20)) : m_(config), held_(*m_) {
    held_.exhaust(gfp::kernel | gfp::noretry);
  }
  std::vector<page*> some(size_t n) {
    std::vector<page*> result(held_.pages().end() - static_cast<long>(n), held_.pages().end());
    held_.pages().resize(held_.pages().size() - n);
    return result;
  }
  alloc_failure last_failure() {
    alloc_failure f;
    EXPECT_TRUE(read_failure(*m_, m_->failure_sequence.load_relaxed(), f));
    return f;
  }
  test_machine m_;
  held_pages held_;
};

TEST_F(full_machine, who_may_not_block_asks_only_for_what_needs_no_waiting) {
  upper_layers upper(m_);
  for (const gfp_t mask : {gfp::nowait, gfp::atomic & ~gfp::high}) {
    upper.drains_trying = 0;
    EXPECT_EQ(alloc_pages(*m_, mask | gfp::nowarn, order_t(0)), nullptr);
    EXPECT_GE(upper.drains_trying, 1u);
    EXPECT_EQ(upper.drains_waiting, 0u);
    EXPECT_EQ(upper.reclaims, 0u);
    EXPECT_EQ(last_failure().reached, chain_step::drain_try);
  }
  upper.from_caches = some(80);
  page* const p = alloc_pages(*m_, gfp::nowait | gfp::nowarn, order_t(0));
  ASSERT_NE(p, nullptr) << "a cache had pages to give without waiting";
  free_pages(*m_, p, order_t(0));
}

TEST_F(full_machine, who_may_block_reclaims_with_the_callers_rights) {
  upper_layers upper(m_);
  for (const gfp_t mask : {gfp::kernel, gfp::nofs, gfp::noio}) {
    upper.reclaims = 0;
    EXPECT_EQ(alloc_pages(*m_, mask | gfp::nowarn, order_t(0)), nullptr);
    EXPECT_GE(upper.drains_waiting, 1u);
    EXPECT_EQ(upper.reclaims, 1u) << "no progress, so no second pass";
    EXPECT_EQ(upper.seen, mask | gfp::nowarn);
    EXPECT_EQ(last_failure().reached, chain_step::reclaim);
  }
  {
    const memalloc_nofs_scope scope;
    EXPECT_EQ(alloc_pages(*m_, gfp::kernel | gfp::nowarn, order_t(0)), nullptr);
    EXPECT_EQ(upper.seen, gfp::nofs | gfp::nowarn) << "scopes count";
  }
  upper.from_reclaim = some(10);
  page* const p = alloc_pages(*m_, gfp::kernel | gfp::nowarn, order_t(0));
  ASSERT_NE(p, nullptr);
  free_pages(*m_, p, order_t(0));
}

TEST_F(full_machine, oom_notifiers_come_last_and_only_for_who_may_ask_them) {
  upper_layers upper(m_);
  struct notifiers {
    upper_layers* upper;
    std::vector<page*> to_free;
    unsigned calls = 0, order = 0;
    gfp_t gfp = gfp::none;
  } last{&upper, {}, 0, 0, gfp::none};
  reclaim_ops ops;
  ops.context = &last;
  ops.out_of_memory = [](void* context, gfp_t gfp, unsigned order) noexcept -> uint64_t {
    auto& self = *static_cast<notifiers*>(context);
    ++self.calls;
    self.order = order;
    self.gfp = gfp;
    EXPECT_EQ(self.upper->reclaims, 1u) << "reclaim comes first";
    EXPECT_NE(current().memalloc_scopes & scope_noreclaim, 0u);
    return self.upper->release(self.to_free);
  };
  ASSERT_EQ(register_reclaim_ops(*m_, ops), err::ok);
  const auto calls = [&](gfp_t mask, unsigned order) {
    last.calls = 0;
    upper.reclaims = 0;
    EXPECT_EQ(alloc_pages(*m_, mask | gfp::nowarn, order_t(order)), nullptr);
    return last.calls;
  };
  EXPECT_EQ(calls(gfp::kernel, 0), 1u);
  EXPECT_EQ(last_failure().reached, chain_step::oom);
  EXPECT_EQ(calls(gfp::kernel, 3), 1u);
  EXPECT_EQ(last.order, 3u);
  EXPECT_EQ(last.gfp, gfp::kernel | gfp::nowarn);
  EXPECT_EQ(calls(gfp::kernel, 4), 0u) << "costly";
  EXPECT_EQ(calls(gfp::nofs, 0), 0u);
  EXPECT_EQ(calls(gfp::noio, 0), 0u);
  EXPECT_EQ(calls(gfp::kernel | gfp::noretry, 0), 0u);
  EXPECT_EQ(calls(gfp::kernel | gfp::retry_mayfail, 0), 0u);
  EXPECT_EQ(calls(gfp::nowait, 0), 0u);
  upper.reclaims = 0;
  last.to_free = some(10);
  page* const p = alloc_pages(*m_, gfp::kernel | gfp::nowarn, order_t(0));
  ASSERT_NE(p, nullptr);
  free_pages(*m_, p, order_t(0));
}

TEST(kswapd_hook, is_called_below_low_by_who_may_wake_it) {
  test_machine m(small_config(uint64_t{16} << 20));
  struct sleeper {
    unsigned calls = 0, order = 0;
    gfp_t gfp = gfp::none;
    zone_idx highest = zone_idx::dma;
  } kswapd;
  reclaim_ops ops;
  ops.context = &kswapd;
  ops.wake_kswapd = [](void* context, gfp_t gfp, unsigned order, zone_idx highest) noexcept {
    auto& self = *static_cast<sleeper*>(context);
    ++self.calls;
    self.gfp = gfp;
    self.order = order;
    self.highest = highest;
    return false;
  };
  ASSERT_EQ(register_reclaim_ops(*m, ops), err::ok);
  const auto is_low = [&](zone_idx idx) {
    const zone& z = m.at(idx);
    return zone_free(z) <= z.watermarks[static_cast<unsigned>(watermark::low)] + z.lowmem_reserve[raw(zone_idx::normal)];
  };
  held_pages held(*m);
  while (!is_low(zone_idx::normal)) ASSERT_NE(held.take(gfp::kernel), nullptr);
  while (!is_low(zone_idx::dma)) ASSERT_NE(held.take(gfp::kernel | gfp::dma), nullptr);
  EXPECT_EQ(kswapd.calls, 0u) << "above low";
  ASSERT_NE(held.take(gfp::kernel & ~gfp::kswapd_reclaim), nullptr);
  EXPECT_EQ(kswapd.calls, 0u) << "the mask does not permit it";
  ASSERT_NE(held.take(gfp::kernel), nullptr);
  EXPECT_EQ(kswapd.calls, 1u);
  EXPECT_EQ(kswapd.gfp, gfp::kernel);
  EXPECT_EQ(kswapd.highest, zone_idx::normal);
  ASSERT_NE(held.take(gfp::atomic, 1), nullptr);
  EXPECT_EQ(kswapd.calls, 2u);
  EXPECT_EQ(kswapd.order, 1u);
  const int zone = charge_pages(*m, gfp::kernel, nr_pages_t(2));
  ASSERT_GE(zone, 0);
  EXPECT_EQ(kswapd.calls, 3u);
  uncharge_pages(*m, zone, nr_pages_t(2));
  held.release();
  drain_cpu_pages(*m, true);
  ASSERT_NE(held.take(gfp::kernel), nullptr);
  EXPECT_EQ(kswapd.calls, 3u) << "above low again";
}

TEST_F(full_machine, passes_are_counted) {
  upper_layers upper(m_);
  upper.pretend = true;  // reclaim claims progress for ever
  const auto passes = [&](gfp_t mask, unsigned order) {
    upper.reclaims = 0;
    EXPECT_EQ(alloc_pages(*m_, mask | gfp::nowarn, order_t(order)), nullptr);
    return upper.reclaims;
  };
  EXPECT_EQ(passes(gfp::kernel, 0), 1 + chain_retries);
  EXPECT_EQ(passes(gfp::kernel, 3), 1 + chain_retries);
  EXPECT_EQ(passes(gfp::kernel, 4), 1u) << "costly";
  EXPECT_EQ(passes(gfp::kernel | gfp::retry_mayfail, 4), 1 + chain_retries);
  EXPECT_EQ(passes(gfp::kernel | gfp::noretry, 0), 1u);
  EXPECT_EQ(passes(gfp::kernel | gfp::memalloc | gfp::nomemalloc, 0), 0u) << "whoever reclaims does not reclaim";
}

TEST_F(full_machine, the_reserve_comes_before_reclaim_for_high) {
  upper_layers upper(m_);
  page* const p = alloc_pages(*m_, gfp::kernel | gfp::high | gfp::nowarn, order_t(0));
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(upper.reclaims, 0u);
  free_pages(*m_, p, order_t(0));
}

TEST_F(full_machine, nofail_comes_to_the_reserve_at_the_end) {
  upper_layers upper(m_);
  page* const p = alloc_pages(*m_, gfp::kernel | gfp::nofail, order_t(0));
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(upper.reclaims, 1u);
  free_pages(*m_, p, order_t(0));
}

TEST_F(full_machine, nofail_without_the_right_to_block_is_a_contradiction) {
  held_pages more(*m_);
  more.exhaust(gfp::atomic);
  printed out;
  EXPECT_EQ(alloc_pages(*m_, gfp::nowait | gfp::nofail, order_t(0)), nullptr);
  EXPECT_TRUE(out.has("page allocation failure"));
}

TEST_F(full_machine, a_charge_without_headroom_gives_free_pages_back) {
  for (page* p : some(500)) free_pages(*m_, p, order_t(0));
  drain_cpu_pages(*m_, true);
  ASSERT_LT(zone_headroom(m_.normal()), 100u);
  const int zone = charge_pages(*m_, gfp::kernel, nr_pages_t(300));
  ASSERT_GE(zone, 0);
  m_.check();
  uncharge_pages(*m_, zone, nr_pages_t(300));
  const int one = charge_pages(*m_, gfp::kernel, nr_pages_t(1));
  EXPECT_GE(one, 0);
  uncharge_pages(*m_, one, nr_pages_t(1));
  EXPECT_EQ(charge_pages(*m_, gfp::kernel | gfp::nowarn, nr_pages_t(2000)), -1);
}

TEST_F(full_machine, a_blocking_allocation_in_atomic_context_is_reported) {
  set_context_policy(context_policy::count);
  const uint64_t before = context_violations();
  {
    const preempt_guard guard;
    EXPECT_EQ(alloc_pages(*m_, gfp::kernel | gfp::nowarn, order_t(0)), nullptr);
    EXPECT_EQ(context_violations(), before + 1);
    EXPECT_EQ(alloc_pages(*m_, gfp::nowait | gfp::nowarn, order_t(0)), nullptr);
    EXPECT_EQ(context_violations(), before + 1);
  }
  set_context_policy(context_policy::report);
}

class waiting_machine : public full_machine {
 protected:
  static machine_config config() {
    machine_config c = small_config(uint64_t{16} << 20);
    c.alloc_wait_ms = 20'000;
    return c;
  }
  waiting_machine() : full_machine(config()) {
    std::thread([] {}).join();  // the process is no longer single-threaded
  }
  void until_somebody_waits() {
    while (m_->waiters.load_relaxed() == 0 || m_->stats.waits.load_relaxed() == 0) std::this_thread::yield();
  }
};

TEST_F(waiting_machine, a_free_ends_the_sleep) {
  for (int way = 0; way < 3; ++way) {
    std::atomic<page*> got{nullptr};
    m_->stats.waits.store_relaxed(0);
    std::thread sleeper([&] { got = alloc_pages(*m_, gfp::kernel | gfp::nowarn, order_t(0)); });
    until_somebody_waits();
    EXPECT_EQ(got.load(), nullptr);
    page* const p = some(1)[0];
    if (way == 1) {
      // Freed where no lock can be had: it goes on the deferred list.
      const nest_guard outer;
      cpu_pages* busy[max_cpus];
      for (unsigned cpu = 0; cpu < m_->nr_cpus; ++cpu) {
        busy[cpu] = &m_.normal().per_cpu[cpu];
        while (!busy[cpu]->lock.try_lock()) plat::relax(1);
      }
      while (!m_.normal().lock.try_lock()) plat::relax(1);
      free_pages(*m_, p, order_t(0));
      m_.normal().lock.unlock();
      for (unsigned cpu = 0; cpu < m_->nr_cpus; ++cpu) busy[cpu]->lock.unlock();
    } else if (way == 2) {
      // Freed into a reserve that is not full.
      const pfn_t pfn = reserve_take(*m_, m_.normal());
      page& out_of_reserve = m_->page_of(pfn);
      free_pages(*m_, p, order_t(0));
      free_pages(*m_, &out_of_reserve, order_t(0));
    } else {
      free_pages(*m_, p, order_t(0));
    }
    sleeper.join();
    ASSERT_NE(got.load(), nullptr) << way;
    held_.pages().push_back(got);
  }
}

TEST_F(waiting_machine, an_uncharge_ends_the_sleep_too) {
  for (page* p : some(100)) free_pages(*m_, p, order_t(0));
  const int zone = charge_pages(*m_, gfp::kernel, nr_pages_t(100));
  ASSERT_GE(zone, 0);
  std::atomic<page*> got{nullptr};
  std::thread sleeper([&] { got = alloc_pages(*m_, gfp::kernel | gfp::nowarn, order_t(0)); });
  until_somebody_waits();
  uncharge_pages(*m_, zone, nr_pages_t(100));
  sleeper.join();
  ASSERT_NE(got.load(), nullptr);
  held_.pages().push_back(got);
}

TEST_F(waiting_machine, no_wake_up_is_lost_among_many_sleepers) {
  std::vector<page*> pages = some(60);
  std::vector<std::thread> threads;
  std::atomic<unsigned> served{0};
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        page* const p = alloc_pages(*m_, gfp::kernel | gfp::nofail, order_t(0));
        served += p != nullptr;
        free_pages(*m_, p, order_t(0));
        held_pages mine(*m_);
        if (mine.take(gfp::kernel | gfp::nowarn) != nullptr) std::this_thread::yield();
      }
    });
  for (page* p : pages) {
    free_pages(*m_, p, order_t(0));
    std::this_thread::yield();
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(served, 60u);
}

TEST_F(waiting_machine, noretry_does_not_wait) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(alloc_pages(*m_, gfp::kernel | gfp::noretry | gfp::nowarn, order_t(0)), nullptr);
  EXPECT_EQ(alloc_pages(*m_, gfp::nowait | gfp::nowarn, order_t(0)), nullptr);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  EXPECT_EQ(m_->stats.waits.load_relaxed(), 0u);
}

TEST_F(waiting_machine, really_sleeping_in_atomic_context_is_reported) {
  set_context_policy(context_policy::count);
  const uint64_t before = context_violations();
  std::thread sleeper([&] {
    const preempt_guard guard;
    held_.pages().push_back(alloc_pages(*m_, gfp::kernel | gfp::nowarn, order_t(0)));
  });
  until_somebody_waits();
  EXPECT_GE(context_violations(), before + 2) << "may sleep, and did";
  free_pages(*m_, some(1)[0], order_t(0));
  sleeper.join();
  ASSERT_NE(held_.pages().back(), nullptr);
  set_context_policy(context_policy::report);
}

TEST(chain_death, nofail_beyond_the_budget_ends_the_process_with_the_reason) {
  test_machine m(small_config(uint64_t{8} << 20));
  EXPECT_DEATH(alloc_run(*m, gfp::kernel | gfp::nofail, nr_pages_t(4000)), "__GFP_NOFAIL for 4000 pages, more than any zone");
}

TEST(chain, steps_have_names) {
  EXPECT_STREQ(chain_step_name(chain_step::lists), "lists");
  EXPECT_STREQ(chain_step_name(chain_step::fail), "fail");
}

TEST(chain, the_table_of_operations_is_finite) {
  test_machine m;
  reclaim_ops ops;
  ops.drain_caches = [](void*, bool) noexcept -> uint64_t { return 0; };
  for (unsigned i = 0; i < nr_reclaim_ops; ++i) EXPECT_EQ(register_reclaim_ops(*m, ops), err::ok);
  EXPECT_EQ(register_reclaim_ops(*m, ops), err::nomem);
}

TEST(chain, what_serves_a_request_besides_pages_is_asked_before_it_fails) {
  test_machine m;
  held_pages held(*m);
  held.exhaust(gfp::atomic);
  struct : alternative {
    unsigned asked = 0;
    bool there = true;
  } instead;
  instead.take = [](alternative& self) noexcept {
    auto& here = static_cast<decltype(instead)&>(self);
    ++here.asked;
    return here.there;
  };
  const printed out;
  const uint64_t records = m->failure_sequence.load_relaxed();
  for (const gfp_t mask : {gfp::atomic, gfp::kernel | gfp::noretry}) {
    instead.taken = false;
    EXPECT_EQ(alloc_pages_for(*m, {.gfp = mask, .order = order_t(0), .instead = &instead}), nullptr);
    EXPECT_TRUE(instead.taken);
  }
  EXPECT_EQ(m->failure_sequence.load_relaxed(), records) << "the request was served";
  EXPECT_EQ(out.text(), "");
  instead.there = false;
  EXPECT_EQ(alloc_pages_for(*m, {.gfp = gfp::atomic, .order = order_t(0), .instead = &instead}), nullptr);
  EXPECT_EQ(instead.asked, 3u);
  EXPECT_EQ(m->failure_sequence.load_relaxed(), records + 1);
}

}  // namespace
}  // namespace kmem
