// Promises about waiting for memory: whose turn it is, what ends a wait, and what is said about it.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <functional>

#include "promises/promise_machine.hpp"

namespace kmem {
namespace {

using test::promise_machine;

constexpr gfp_t quiet_kernel = gfp::kernel | gfp::nowarn;
constexpr uint64_t ms = 1'000'000;

/// A thread that asks for a page, in a scope of its own.
class asker {
 public:
  asker(machine& m, uint64_t deadline_ns, bool interruptible) : m_(m) {
    thread_ = std::thread([this, deadline_ns, interruptible] {
      thread_id_ = gettid();
      pthread_setname_np(pthread_self(), "asker");
      wait_enter(conditions_, deadline_ns, interruptible);
      got_ = alloc_pages(m_, quiet_kernel, order_t(0));
      outcome_ = last_wait();
      wait_leave(conditions_);
      done_ = true;
    });
  }
  explicit asker(machine& m) : asker(m, 0, false) {}
  ~asker() {
    thread_.join();
    if (got_ != nullptr) free_pages(m_, got_, order_t(0));
  }
  asker(const asker&) = delete;
  asker& operator=(const asker&) = delete;
  bool done() const { return done_; }
  bool served() const { return got_ != nullptr; }
  wait_outcome outcome() const { return outcome_; }
  int thread_id() const { return thread_id_; }
  pthread_t handle() { return thread_.native_handle(); }
  wait_conditions& conditions() { return conditions_; }
  void until_done() const {
    while (!done_) std::this_thread::yield();
  }

 private:
  machine& m_;
  wait_conditions conditions_;
  std::atomic<page*> got_{nullptr};
  std::atomic<wait_outcome> outcome_{wait_outcome::none};
  std::atomic<int> thread_id_{0};
  std::atomic<bool> done_{false};
  std::thread thread_;
};

unsigned queue_length(machine& m) {
  const lock_guard hold(m.queue.lock);
  unsigned n = 0;
  for (const waiter* w = m.queue.first; w != nullptr; w = w->next) ++n;
  return n;
}

void until_queued(machine& m, unsigned n) {
  while (queue_length(m) != n || m.stats.waits.load_relaxed() < n) std::this_thread::yield();
}

void give_one(machine& m, std::vector<page*>& taken) {
  free_pages(m, taken.front(), order_t(0));  // of NORMAL: what was taken first
  taken.erase(taken.begin());
}

// Promise: Threads that wait for as much of the same memory are served in the order in which they came.
TEST(Promises, WaitersAreServedInTheOrderOfArrival) {
  promise_machine m("mem=8M vm.alloc_wait_ms=20000");
  auto taken = m.take_all(quiet_kernel | gfp::noretry);
  {
    std::vector<std::unique_ptr<asker>> askers;
    for (unsigned i = 0; i < 4; ++i) {
      askers.push_back(std::make_unique<asker>(*m));
      until_queued(*m, i + 1);
    }
    for (unsigned i = 0; i < 4; ++i) {
      give_one(*m, taken);
      unsigned served = 4;
      while (served == 4)
        for (unsigned k = i; k < 4; ++k)
          if (askers[k]->done()) served = k;
      EXPECT_EQ(served, i);
      if (served != i) m.give(taken);
      if (served != i) break;
    }
  }
  m.give(taken);
}

std::atomic<bool> hold_handler{false};
std::atomic<int> handlers{0};

class handler_for_usr1 {
 public:
  handler_for_usr1() {
    struct sigaction action {};
    action.sa_handler = [](int) {
      handlers.fetch_add(1);
      while (hold_handler) continue;
    };
    sigaction(SIGUSR1, &action, &before_);
    handlers = 0;
  }
  ~handler_for_usr1() { sigaction(SIGUSR1, &before_, nullptr); }
  handler_for_usr1(const handler_for_usr1&) = delete;
  handler_for_usr1& operator=(const handler_for_usr1&) = delete;

 private:
  struct sigaction before_ {};
};

// Promise: A request that may wait does not take what somebody else waits for already.
TEST(Promises, WhoArrivesDoesNotOvertakeWhoWaits) {
  promise_machine m("mem=8M vm.alloc_wait_ms=20000");
  const handler_for_usr1 handler;
  auto taken = m.take_all(quiet_kernel | gfp::noretry);
  {
    asker first(*m);
    until_queued(*m, 1);
    hold_handler = true;  // it cannot run when its turn comes
    pthread_kill(first.handle(), SIGUSR1);
    while (handlers == 0) std::this_thread::yield();
    give_one(*m, taken);
    asker second(*m);
    while (!second.done() && queue_length(*m) < 2) std::this_thread::yield();
    EXPECT_FALSE(second.done()) << "the page was freed for somebody who waits";
    hold_handler = false;
    first.until_done();
    EXPECT_TRUE(first.served());
    give_one(*m, taken);
  }
  m.give(taken);
}

// Promise: A deadline of a thread's scope takes the place of `vm.alloc_wait_ms`.
TEST(Promises, ADeadlineReplacesTheConfiguredWait) {
  promise_machine m("mem=8M");
  auto taken = m.take_all(quiet_kernel | gfp::noretry);
  {
    asker one(*m, plat::now_ns() + 60 * ms, false);
    one.until_done();
    EXPECT_FALSE(one.served());
    EXPECT_EQ(one.outcome(), wait_outcome::timed_out);
    EXPECT_GT(m->stats.waits.load_relaxed(), 0u);
  }
  m.give(taken);
}

// Promise: A signal handler that runs while a thread waits ends the wait, if its scope says so.
TEST(Promises, ASignalEndsAWaitThatMayBeInterrupted) {
  promise_machine m("mem=8M vm.alloc_wait_ms=3000");
  const handler_for_usr1 handler;
  auto taken = m.take_all(quiet_kernel | gfp::noretry);
  {
    asker one(*m, 0, true);
    until_queued(*m, 1);
    while (!one.done()) {
      const int before = handlers;
      pthread_kill(one.handle(), SIGUSR1);
      while (!one.done() && handlers == before) std::this_thread::yield();
    }
    EXPECT_FALSE(one.served());
    EXPECT_EQ(one.outcome(), wait_outcome::interrupted);
  }
  m.give(taken);
}

// Promise: A stop that is requested ends a wait.
TEST(Promises, AStopEndsAWait) {
  promise_machine m("mem=8M vm.alloc_wait_ms=3000");
  auto taken = m.take_all(quiet_kernel | gfp::noretry);
  {
    asker one(*m, 0, false);
    until_queued(*m, 1);
    wait_stop(one.conditions());
    one.until_done();
    EXPECT_FALSE(one.served());
    EXPECT_EQ(one.outcome(), wait_outcome::stopped);
  }
  m.give(taken);
}

// Promise: A request for more than there can ever be is refused at once, and the report says so.
TEST(Promises, MoreThanTheBudgetIsRefusedAtOnce) {
  promise_machine m("mem=8M vm.alloc_wait_ms=100");
  const test::idle_thread other;
  EXPECT_EQ(alloc_run(*m, gfp::kernel, nr_pages_t(2048)), nullptr);
  EXPECT_NE(m.log().find("a request for 2048 pages is refused at once"), std::string::npos) << m.log();
  EXPECT_EQ(m->stats.waits.load_relaxed(), 0u);
  alloc_failure record;
  ASSERT_TRUE(read_failure(*m, m->failure_sequence.peek(), record));
  EXPECT_EQ(record.reached, chain_step::fail);
}

// Promise: When every thread of the process has waited for memory for over a second, that is reported.
TEST(Promises, ThatEveryThreadWaitsIsReported) {
  promise_machine m("mem=8M vm.alloc_wait_ms=2500");
  auto taken = m.take_all(quiet_kernel | gfp::noretry);
  {
    const asker other(*m);
    EXPECT_EQ(alloc_pages(*m, quiet_kernel, order_t(0)), nullptr);
  }
  // A sanitizer has a thread of its own, which does not wait.
  const bool alone = plat::nr_threads() == 1 + static_cast<int>(plat::nr_service_threads());
  EXPECT_EQ(m.log().find("memory deadlock: all 2 threads of the process") != std::string::npos, alone) << m.log();
  m.give(taken);
}

// Promise: A wait of `vm.sleep_record_ms` or more leaves a record: who waited for what, how long, and who woke it.
TEST(Promises, ALongSleepLeavesARecordOfWhoWokeIt) {
  promise_machine m("mem=8M vm.alloc_wait_ms=20000 vm.sleep_record_ms=0");
  auto taken = m.take_all(quiet_kernel | gfp::noretry);
  {
    asker one(*m);
    until_queued(*m, 1);
    give_one(*m, taken);
    one.until_done();
    sleep_record record;
    ASSERT_TRUE(read_sleep(*m, 1, record));
    EXPECT_EQ(record.thread, one.thread_id());
    EXPECT_STREQ(record.comm, "asker");
    EXPECT_EQ(record.waker, gettid());
    EXPECT_EQ(record.gfp, quiet_kernel);
    EXPECT_EQ(record.pages, 1u);
    EXPECT_EQ(record.outcome, wait_outcome::served);
  }
  m.give(taken);
}

// Promise: A request that finds its zones below the low watermark wakes kswapd, if its mask has `__GFP_KSWAPD_RECLAIM`.
TEST(Promises, BelowTheLowWatermarkKswapdIsWoken) {
  promise_machine m("mem=8M");
  std::atomic<unsigned> woken{0};
  reclaim_ops ops;
  ops.context = &woken;
  ops.wake_kswapd = [](void* context, gfp_t, unsigned, zone_idx) noexcept {
    static_cast<std::atomic<unsigned>*>(context)->fetch_add(1);
    return false;
  };
  ASSERT_EQ(register_reclaim_ops(*m, ops), err::ok);
  auto some = m.take_all(quiet_kernel, 100);
  EXPECT_EQ(woken, 0u);
  auto rest = m.take_all((quiet_kernel & ~gfp::kswapd_reclaim) | gfp::noretry);
  EXPECT_EQ(woken, 0u) << "the mask does not permit it";
  auto last = m.take_all(gfp::atomic | gfp::nowarn, 1);
  EXPECT_GT(woken, 0u);
  for (auto* const pages : {&some, &rest, &last}) m.give(*pages);
}

/// Every object of the kmalloc class of 64 bytes, with all memory in them.
std::vector<void*> fill_with_objects(machine& m) {
  std::vector<void*> objects;
  while (void* const p = kmalloc(m, 64, gfp::atomic | gfp::nowarn)) objects.push_back(p);
  return objects;
}

// Promise: A freed object wakes whoever waits for one of its class, though no page comes free.
TEST(Promises, AFreedObjectWakesWhoeverWaitsForOneOfItsClass) {
  promise_machine m("mem=8M vm.alloc_wait_ms=20000");
  std::thread([] {}).join();
  std::vector<void*> objects = fill_with_objects(*m);
  const auto wait_for_one = [&](gfp_t mask) {
    std::atomic<void*> got{nullptr};
    std::atomic<bool> done{false};
    const uint64_t waits = m->stats.waits.load_relaxed();
    std::thread waiter([&] {
      got = kmalloc(*m, 64, mask);
      done = true;
    });
    while (m->stats.waits.load_relaxed() == waits) std::this_thread::yield();
    // It looks again after a second all the same, so that not the end tells, but who gave it the turn.
    const uint64_t turns = m->stats.wait_turns.load_relaxed();
    kfree(*m, objects[objects.size() / 2]);  // of a slab that all other objects keep
    EXPECT_GT(m->stats.wait_turns.load_relaxed(), turns) << "the free woke nobody";
    while (!done) std::this_thread::yield();
    waiter.join();
    EXPECT_NE(got.load(), nullptr);
    objects[objects.size() / 2] = got;
  };
  wait_for_one(gfp::kernel | gfp::nowarn);
  wait_for_one(gfp::kernel | gfp::nofail);
  for (void* const p : objects) kfree(*m, p);
}

}  // namespace
}  // namespace kmem
