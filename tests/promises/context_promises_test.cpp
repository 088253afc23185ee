// Promises about the contexts that interrupts, softirqs, tasklets and timers run in.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "interrupt/interrupt.hpp"
#include "promises/promise_machine.hpp"
#include "support/thread_sanitizer.hpp"

namespace kmem {
namespace {

/// Interrupts as in a new process.
struct fresh_interrupts {
  fresh_interrupts() { reset_interrupts(); }
  ~fresh_interrupts() { stop_interrupt_service(); }
};

template <class Base>
struct with_body : Base {
  explicit with_body(std::function<void()> what) : body(std::move(what)) {
    this->function = [](Base& self) noexcept { static_cast<with_body&>(self).body(); };
  }
  std::function<void()> body;
};

void wait_until(const std::function<bool()>& done) {
  while (!done()) {
    std::this_thread::yield();
#if KMEM_UNDER_TSAN
    usleep(1);  // its run time holds signals back until the thread calls something that it knows
#endif
  }
}

machine* the_machine = nullptr;

// Promise: The handler of an interrupt runs in the thread that its signal hits, in hardirq context: it may allocate with `GFP_ATOMIC`, and
// what may sleep is reported.
TEST(Promises, AnInterruptHandlerRunsInHardirqContext) {
  test::promise_machine m("mem=16M");
  const fresh_interrupts fresh;
  static uint32_t count;
  static bool served, fine;
  the_machine = &*m;
  count = 0;
  served = false;
  fine = true;
  ASSERT_EQ(request_irq(21, [](int, void*) noexcept {
    count = preempt_count();
    void* const p = kmalloc(*the_machine, 100, gfp::atomic);
    served = p != nullptr;
    kfree(*the_machine, p);
    set_context_policy(context_policy::count);
    fine = check_may_sleep(__FILE__, __LINE__);
    set_context_policy(context_policy::report);
    return irq_return::handled;
  }, 0, "device", nullptr), 0);
  pthread_kill(pthread_self(), irq_signal(21));
  EXPECT_EQ(count, hardirq_unit);
  EXPECT_TRUE(served);
  EXPECT_FALSE(fine);
  free_irq(21, nullptr);
}

// Promise: Interrupts that come while their thread has interrupts off are delivered when they are on again, each of them.
TEST(Promises, InterruptsThatComeWhileTheyAreOffAreAllDelivered) {
  const fresh_interrupts fresh;
  static int calls;
  calls = 0;
  ASSERT_EQ(request_irq(22, [](int, void*) noexcept {
    ++calls;
    return irq_return::handled;
  }, 0, "device", nullptr), 0);
  {
    const irq_guard off;
    for (int i = 0; i < 5; ++i) raise_irq(22);
    EXPECT_EQ(calls, 0);
  }
  EXPECT_EQ(calls, 5);
  free_irq(22, nullptr);
}

// Promise: An interrupt that is disabled is kept until `enable_irq()`.
TEST(Promises, ADisabledInterruptIsKept) {
  const fresh_interrupts fresh;
  static int calls;
  calls = 0;
  ASSERT_EQ(request_irq(23, [](int, void*) noexcept {
    ++calls;
    return irq_return::handled;
  }, 0, "device", nullptr), 0);
  disable_irq(23);
  raise_irq(23);
  raise_irq(23);
  EXPECT_EQ(calls, 0);
  enable_irq(23);
  EXPECT_EQ(calls, 2);
  free_irq(23, nullptr);
}

// Promise: `free_irq()` returns when no thread is in the handler any more.
TEST(Promises, FreeIrqWaitsForTheHandler) {
  const fresh_interrupts fresh;
  static std::atomic<int> stage;
  stage = 0;
  ASSERT_EQ(request_irq(24, [](int, void*) noexcept {
    stage = 1;
    wait_until([] { return stage == 2; });
    usleep(20'000);
    stage = 3;
    return irq_return::handled;
  }, 0, "device", nullptr), 0);
  std::thread interrupted([] { raise_irq(24); });
  wait_until([] { return stage == 1; });
  stage = 2;
  free_irq(24, nullptr);
  EXPECT_EQ(stage, 3);
  interrupted.join();
}

// Promise: Softirqs and tasklets that an interrupt schedules run at its end, on the same thread, unless softirqs are disabled there: then
// when they are enabled.
TEST(Promises, WhatAnInterruptDefersRunsAtItsEnd) {
  const fresh_interrupts fresh;
  int runs = 0;
  uint32_t count = 0;
  with_body<tasklet> deferred([&] {
    ++runs;
    count = preempt_count();
  });
  {
    const hardirq_guard in;
    tasklet_schedule(deferred);
    EXPECT_EQ(runs, 0);
  }
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(count, softirq_unit);
  {
    const bh_guard off;
    {
      const hardirq_guard in;
      tasklet_schedule(deferred);
    }
    EXPECT_EQ(runs, 1);
  }
  EXPECT_EQ(runs, 2);
  tasklet_kill(deferred);
}

// Promise: A tasklet never runs on two threads at once, and each `tasklet_schedule()` is followed by the beginning of a run.
TEST(Promises, ATaskletRunsOnOneThreadAtATimeAndIsNeverForgotten) {
  const fresh_interrupts fresh;
  std::atomic<int> inside{0}, most{0}, stage{0}, runs{0};
  with_body<tasklet> t([&] {
    const int now = ++inside;
    if (now > most) most = now;
    if (stage == 0) {
      stage = 1;
      wait_until([&] { return stage == 2; });
    }
    --inside;
    ++runs;
  });
  tasklet_schedule(t);  // runs on ksoftirqd
  wait_until([&] { return stage == 1; });
  {
    const hardirq_guard in;
    tasklet_schedule(t);  // for this thread, which finds it running there
  }
  stage = 2;
  tasklet_kill(t);
  EXPECT_EQ(most, 1);
  EXPECT_EQ(runs, 2);
}

// Promise: A tasklet that was scheduled while it was disabled runs when it is enabled.
TEST(Promises, ADisabledTaskletRunsWhenItIsEnabled) {
  const fresh_interrupts fresh;
  int runs = 0;
  with_body<tasklet> t([&] { ++runs; });
  tasklet_disable(t);
  {
    const hardirq_guard in;
    tasklet_schedule(t);
  }
  EXPECT_EQ(runs, 0);
  {
    const hardirq_guard in;
    tasklet_enable(t);
  }
  EXPECT_EQ(runs, 1);
  tasklet_kill(t);
}

// Promise: After `tasklet_kill()` the tasklet neither runs nor waits to run, even if it schedules itself.
TEST(Promises, AfterTaskletKillItIsNowhere) {
  const fresh_interrupts fresh;
  std::atomic<int> runs{0}, ended{0};
  with_body<tasklet>* self = nullptr;
  with_body<tasklet> t([&] {
    ++runs;
    tasklet_schedule(*self);
    usleep(1000);
    ++ended;
  });
  self = &t;
  tasklet_schedule(t);
  wait_until([&] { return runs > 3; });
  tasklet_kill(t);
  const int after = runs;
  EXPECT_EQ(ended, after);
  EXPECT_FALSE(tasklet_scheduled(t));
  usleep(10'000);
  EXPECT_EQ(runs, after);
}

// Promise: A timer's function runs in softirq context, never before its time.
TEST(Promises, ATimerRunsInSoftirqContextAndNotBeforeItsTime) {
  const fresh_interrupts fresh;
  std::atomic<uint64_t> ran_at{0};
  uint32_t count = 0;
  with_body<timer> t([&] {
    count = preempt_count();
    ran_at = jiffies();
  });
  for (int round = 0; round < 5; ++round) {
    ran_at = 0;
    const uint64_t due = jiffies() + 2;
    mod_timer(t, due);
    wait_until([&] { return ran_at != 0; });
    EXPECT_GE(ran_at, due);
  }
  del_timer_sync(t);
  EXPECT_EQ(count, softirq_unit);
}

// Promise: `del_timer_sync()` returns when the timer is not armed and its function does not run any more.
TEST(Promises, DelTimerSyncWaitsForTheFunction) {
  const fresh_interrupts fresh;
  std::atomic<int> stage{0};
  with_body<timer>* self = nullptr;
  with_body<timer> t([&] {
    stage = 1;
    wait_until([&] { return stage == 2; });
    usleep(20'000);
    mod_timer(*self, jiffies() + 100'000);
    stage = 3;
  });
  self = &t;
  mod_timer(t, jiffies());
  wait_until([&] { return stage == 1; });
  stage = 2;
  del_timer_sync(t);
  EXPECT_EQ(stage, 3);
  EXPECT_FALSE(timer_pending(t));
}

// Promise: In the child of a fork tasklets that other threads ran are free, and nothing waits for those threads.
TEST(Promises, TaskletsOfOtherThreadsAreFreeInTheChild) {
  const fresh_interrupts fresh;
  static std::atomic<int> stage;
  stage = 0;
  static with_body<tasklet> t([] {
    if (stage != 0) return;
    stage = 1;
    wait_until([] { return stage == 2; });
  });
  tasklet_schedule(t);
  wait_until([] { return stage == 1; });
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    tasklet_kill(t);
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  stage = 2;
  tasklet_kill(t);
}

}  // namespace
}  // namespace kmem
