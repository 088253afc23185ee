// ksoftirqd and forks.
#include <sys/wait.h>
#include <unistd.h>

#include "interrupt_fixture.hpp"

namespace kmem {
namespace {

using test::body_tasklet;
using test::body_timer;
using test::wait_until;

class Service : public test::interrupt_fixture {};

/// Forks as the fork handlers of a face do. Return: the child's exit code.
int fork_and_run(const std::function<int()>& in_child) {
  interrupt_fork_prepare();
  interrupt_fork_lock();
  const pid_t child = fork();
  if (child == 0) {
    interrupt_fork_child();
    interrupt_fork_end();
    _exit(in_child());
  }
  interrupt_fork_parent();
  interrupt_fork_end();
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

TEST_F(Service, NothingIsStartedBeforeItIsNeeded) {
  body_tasklet t([] {});
  { const hardirq_guard in; tasklet_schedule(t); }
  EXPECT_EQ(plat::nr_service_threads(), 0u);
  tasklet_kill(t);
}

TEST_F(Service, RequestIrqStartsItSinceHandlersCannot) {
  ASSERT_EQ(request_irq(17, [](int, void*) noexcept { return irq_return::handled; }, 0, "device", nullptr), 0);
  EXPECT_EQ(plat::nr_service_threads(), 1u);
  free_irq(17, nullptr);
}

TEST_F(Service, StartedAgainAfterAStop) {
  std::atomic<int> runs{0};
  body_tasklet t([&] { ++runs; });
  for (int i = 1; i <= 3; ++i) {
    tasklet_schedule(t);
    wait_until([&] { return runs == i; });
    stop_interrupt_service();
    EXPECT_EQ(plat::nr_service_threads(), 0u);
  }
}

TEST_F(Service, AChildHasItsOwnAndKeepsArmedTimers) {
  static std::atomic<int> runs;
  runs = 0;
  static body_timer t([] { ++runs; });
  static body_tasklet deferred([] { ++runs; });
  tasklet_schedule(deferred);
  wait_until([] { return runs == 1; });
  mod_timer(t, jiffies() + 100'000);
  const auto child = [] {
    if (plat::nr_service_threads() != 0) return 1;
    if (!timer_pending(t)) return 2;
#if !KMEM_UNDER_TSAN  // whose run time refuses threads there
    if (!mod_timer(t, jiffies())) return 3;
    wait_until([] { return runs == 2; });
    if (plat::nr_service_threads() != 1) return 4;
    tasklet_schedule(deferred);
    wait_until([] { return runs == 3; });
    tasklet_kill(deferred);
    return del_timer_sync(t) ? 5 : 0;
#else
    return 0;
#endif
  };
  EXPECT_EQ(fork_and_run(child), 0);
  EXPECT_EQ(runs, 1);
  EXPECT_TRUE(del_timer_sync(t));
}

TEST_F(Service, ATaskletThatRanOrWaitedInAnotherThreadIsFreeInTheChild) {
  static std::atomic<int> stage;
  stage = 0;
  static body_tasklet stuck([] {
    if (stage != 0) return;
    stage = 1;
    wait_until([] { return stage == 2; });
  });
  static body_tasklet waiting([] {});
  static body_tasklet own([] { stage = 10; });
  std::thread other([] {
    const bh_guard off;
    tasklet_schedule(waiting);
    { const hardirq_guard in; }
    tasklet_schedule(stuck);
  });
  wait_until([] { return stage == 1; });
  int code = 0;
  {
    const bh_guard off;
    tasklet_schedule(own);  // in the list of the thread that forks: runs in both
    code = fork_and_run([] {
      { const hardirq_guard in; }
      local_bh_enable();
      if (stage != 10) return 1;
      tasklet_kill(stuck);
      tasklet_kill(waiting);
      { const hardirq_guard in; if (!tasklet_schedule(waiting) || !tasklet_schedule(stuck)) return 2; }
      tasklet_kill(stuck);
      tasklet_kill(waiting);
      return 0;
    });
    EXPECT_EQ(stage, 1);
  }
  EXPECT_EQ(code, 0);
  EXPECT_EQ(stage, 10);
  stage = 2;
  other.join();
  tasklet_kill(stuck);
  tasklet_kill(waiting);
}

TEST_F(Service, AnInterruptInAnotherThreadDoesNotHoldUpTheChild) {
  static std::atomic<int> stage;
  stage = 0;
  ASSERT_EQ(request_irq(18, [](int, void*) noexcept {
    if (stage == 0) {
      stage = 1;
      wait_until([] { return stage == 2; });
    }
    return irq_return::handled;
  }, 0, "device", nullptr), 0);
  std::thread other([] { raise_irq(18); });
  wait_until([] { return stage == 1; });
  EXPECT_EQ(fork_and_run([] {
    stage = 3;
    raise_irq(18);
    disable_irq(18);
    enable_irq(18);
    free_irq(18, nullptr);
    return read_irq_counts(18).handled == 1 ? 0 : 1;
  }), 0);
  stage = 2;
  other.join();
  free_irq(18, nullptr);
}

TEST_F(Service, InterruptsThatWaitInTheParentAreNotTheChilds) {
  static int calls = 0;
  calls = 0;
  ASSERT_EQ(request_irq(19, [](int, void*) noexcept { ++calls; return irq_return::handled; }, 0, "device", nullptr), 0);
  int code = 0;
  {
    const irq_guard off;
    raise_irq(19);
    code = fork_and_run([] { irqs_set_disabled(false); return calls; });
  }
  EXPECT_EQ(code, 0);
  EXPECT_EQ(calls, 1);
  free_irq(19, nullptr);
}

}  // namespace
}  // namespace kmem
