// Timers. Times are short and only lower bounds are asked for.
#include <random>

#include "interrupt_fixture.hpp"

namespace kmem {
namespace {

using test::body_timer;
using test::wait_until;
using testing::ElementsAre;
using testing::HasSubstr;

class Timer : public test::interrupt_fixture {};

TEST_F(Timer, RunsNotBeforeItsTimeInSoftirqContext) {
  std::atomic<uint64_t> ran_at{0};
  uint32_t count = 0;
  body_timer t([&] { count = preempt_count(); ran_at = jiffies(); });
  const uint64_t due = jiffies() + 2;
  t.expires = due;
  add_timer(t);
  EXPECT_TRUE(timer_pending(t));
  wait_until([&] { return ran_at != 0; });
  EXPECT_GE(ran_at, due);
  EXPECT_FALSE(del_timer_sync(t));
  EXPECT_FALSE(timer_pending(t));
  EXPECT_EQ(count, softirq_unit);
}

TEST_F(Timer, RunInTheOrderOfTheirTimes) {
  std::vector<int> order;
  std::atomic<int> n{0};
  body_timer a([&] { order.push_back(1); ++n; }), b([&] { order.push_back(2); ++n; }), c([&] { order.push_back(3); ++n; });
  const uint64_t now = jiffies();
  mod_timer(c, now + 4);
  mod_timer(a, now + 2);
  mod_timer(b, now + 3);
  wait_until([&] { return n == 3; });
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
  for (body_timer* t : {&a, &b, &c}) del_timer_sync(*t);
}

TEST_F(Timer, ModSaysWhetherItWasArmedAndDelTakesItOff) {
  body_timer t([] {});
  const uint64_t far = jiffies() + 100'000;
  EXPECT_FALSE(mod_timer_pending(t, far));
  EXPECT_FALSE(timer_pending(t));
  EXPECT_FALSE(mod_timer(t, far));
  EXPECT_TRUE(mod_timer(t, far + 1));
  EXPECT_EQ(t.expires, far + 1);
  EXPECT_TRUE(mod_timer_pending(t, far + 2));
  EXPECT_TRUE(timer_reduce(t, far + 3));
  EXPECT_EQ(t.expires, far + 2);
  EXPECT_TRUE(timer_reduce(t, far));
  EXPECT_EQ(t.expires, far);
  EXPECT_TRUE(del_timer(t));
  EXPECT_FALSE(del_timer(t));
  EXPECT_EQ(try_to_del_timer_sync(t), 0);
  EXPECT_FALSE(timer_reduce(t, far));
  EXPECT_EQ(try_to_del_timer_sync(t), 1);
}

TEST_F(Timer, MayArmItselfAgainAndFreeItself) {
  std::atomic<int> runs{0};
  body_timer* self = nullptr;
  body_timer periodic([&] { if (++runs < 3) mod_timer(*self, jiffies()); });  // past: the next tick
  self = &periodic;
  mod_timer(periodic, jiffies());
  wait_until([&] { return runs == 3; });
  del_timer_sync(periodic);

  std::atomic<bool> freed{false};
  struct own : timer {
    std::atomic<bool>* freed;
  };
  auto* const once = new own;
  once->freed = &freed;
  once->function = [](timer& t) noexcept {
    std::atomic<bool>* const done = static_cast<own&>(t).freed;
    delete &static_cast<own&>(t);
    *done = true;
  };
  mod_timer(*once, jiffies());
  wait_until([&] { return freed.load(); });
}

TEST_F(Timer, DelSyncWaitsForTheFunctionAndTryDoesNot) {
  std::atomic<int> stage{0};
  body_timer t([&] {
    stage = 1;
    wait_until([&] { return stage == 2; });
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    stage = 3;
  });
  mod_timer(t, jiffies());
  wait_until([&] { return stage == 1; });
  EXPECT_EQ(try_to_del_timer_sync(t), -1);
  EXPECT_FALSE(del_timer(t));
  EXPECT_EQ(stage, 1);
  stage = 2;
  EXPECT_FALSE(del_timer_sync(t));
  EXPECT_EQ(stage, 3);
}

TEST_F(Timer, DelSyncEndsOneThatAlwaysArmsItself) {
  std::atomic<int> runs{0};
  body_timer* self = nullptr;
  body_timer t([&] { ++runs; mod_timer(*self, jiffies()); });
  self = &t;
  mod_timer(t, jiffies());
  wait_until([&] { return runs > 2; });
  del_timer_sync(t);
  const int after = runs;
  const uint64_t then = jiffies() + 3;
  wait_until([&] { return jiffies() > then; });
  EXPECT_EQ(runs, after);
  timer_shutdown_sync(t);
  EXPECT_FALSE(mod_timer(t, jiffies()));
  EXPECT_FALSE(timer_pending(t));
}

TEST_F(Timer, ATaskletScheduledByATimerRunsAfterIt) {
  std::atomic<bool> done{false};
  bool in_timer = false, inside = true;
  test::body_tasklet deferred([&] { inside = in_timer; done = true; });
  body_timer t([&] {
    in_timer = true;
    tasklet_schedule(deferred);
    in_timer = false;
  });
  mod_timer(t, jiffies());
  wait_until([&] { return done.load(); });
  EXPECT_FALSE(inside);
  del_timer_sync(t);
  tasklet_kill(deferred);
}

TEST_F(Timer, ArmedInAnInterruptAndUnderLocks) {
  static std::atomic<int> runs;
  runs = 0;
  static body_timer t([] { ++runs; });
  ASSERT_EQ(request_irq(15, [](int, void*) noexcept { mod_timer(t, jiffies()); return irq_return::handled; }, 0, "device", nullptr), 0);
  pthread_kill(pthread_self(), irq_signal(15));
  wait_until([] { return runs == 1; });
  spinlock lock;
  {
    const spin_irq_guard hold(lock);
    mod_timer(t, jiffies());
  }
  wait_until([] { return runs == 2; });
  del_timer_sync(t);
  free_irq(15, nullptr);
}

TEST_F(Timer, AnInterruptNeverFindsItsThreadInsideTheTimers) {
  static body_timer rival([] {});
  ASSERT_EQ(request_irq(16, [](int, void*) noexcept {
    mod_timer(rival, jiffies() + 1000);
    return irq_return::handled;
  }, 0, "device", nullptr), 0);
  std::atomic<bool> stop{false};
  std::thread user([&] {
    body_timer mine([] {});
    while (!stop) {
      test::let_signals_in();
      mod_timer(mine, jiffies() + 1000);
      del_timer(mine);
    }
  });
  for (unsigned i = 0; i < 3000; ++i) {
    test::interrupt_thread(user, 16, i);
    if (i % 64 == 0) std::this_thread::yield();
  }
  wait_until([] { return read_irq_counts(16).handled == 3000; });
  stop = true;
  user.join();
  del_timer_sync(rival);
  free_irq(16, nullptr);
}

TEST_F(Timer, AnIrqSafeOneRunsWithInterruptsOff) {
  std::atomic<int> seen{0};
  body_timer t([&] { seen = irqs_disabled() ? 1 : 2; });
  t.flags = timer_irq_safe;
  mod_timer(t, jiffies());
  wait_until([&] { return seen != 0; });
  EXPECT_EQ(seen, 1);
  mod_timer(t, jiffies() + 100'000);
  { const hardirq_guard in; EXPECT_TRUE(del_timer_sync(t)); }
}

TEST_F(Timer, FunctionsThatTakeDataGetIt) {
  static std::atomic<uintptr_t> sum;
  sum = 0;
  const auto add = [](uintptr_t data) { sum += data; };
  void (*const function)(uintptr_t) = add;
  timer t;
  t.function = reinterpret_cast<void (*)(timer&) noexcept>(reinterpret_cast<void (*)()>(function));
  t.data = 40;
  t.flags = calls_by_data;
  mod_timer(t, jiffies());
  tasklet deferred;
  deferred.function = reinterpret_cast<void (*)(tasklet&) noexcept>(reinterpret_cast<void (*)()>(function));
  deferred.data = 2;
  deferred.flags = calls_by_data;
  tasklet_schedule(deferred);
  wait_until([] { return sum == 42; });
  del_timer_sync(t);
  tasklet_kill(deferred);
}

TEST_F(Timer, WrongCallsAreReported) {
  timer empty;
  EXPECT_FALSE(mod_timer(empty, 0));
  body_timer t([] {});
  t.expires = jiffies() + 100'000;
  add_timer(t);
  add_timer(t);
  { const hardirq_guard in; EXPECT_TRUE(del_timer_sync(t)); }
  std::atomic<bool> done{false};
  body_timer* self = nullptr;
  body_timer own([&] { del_timer_sync(*self); done = true; });
  self = &own;
  mod_timer(own, jiffies());
  wait_until([&] { return done.load(); });
  del_timer_sync(own);
  const std::string log = test::take_log();
  EXPECT_THAT(log, HasSubstr("the timer has no function"));
  EXPECT_THAT(log, HasSubstr("armed already"));
  EXPECT_THAT(log, HasSubstr("called in a hard interrupt"));
  EXPECT_THAT(log, HasSubstr("called by the timer's own function"));
  expected_misuses = 4;
}

TEST_F(Timer, TheHeapHoldsAnyOrderOfArmingAndDisarming) {
  std::mt19937 random(1);
  std::vector<std::unique_ptr<body_timer>> timers;
  for (int i = 0; i < 200; ++i) timers.push_back(std::make_unique<body_timer>([] {}));
  uint64_t armed = 0;
  const uint64_t far = jiffies() + 1'000'000;
  for (int step = 0; step < 5000; ++step) {
    body_timer& t = *timers[random() % timers.size()];
    if (random() % 3 == 0) {
      if (del_timer(t)) --armed;
    } else if (!mod_timer(t, far + random() % 1000)) {
      ++armed;
    }
    if (step % 50 == 0) {
      ASSERT_EQ(interrupts_are_valid(), nullptr);
      ASSERT_EQ(nr_armed_timers(), armed);
    }
  }
  for (auto& t : timers) del_timer_sync(*t);
  EXPECT_EQ(nr_armed_timers(), 0u);
}

}  // namespace
}  // namespace kmem
