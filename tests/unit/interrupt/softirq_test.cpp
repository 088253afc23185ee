// Softirqs and tasklets.
#include <pthread.h>

#include "interrupt_fixture.hpp"

namespace kmem {
namespace {

using test::body_tasklet;
using test::wait_until;
using testing::ElementsAre;
using testing::HasSubstr;

class Softirq : public test::interrupt_fixture {};

std::vector<int> order;

TEST_F(Softirq, RaisedInAnInterruptItRunsAtItsEndOnTheSameThread) {
  static uint32_t count = 0;
  static std::thread::id where;
  count = 0;
  ASSERT_EQ(open_softirq(softirq::block, [] () noexcept { count = preempt_count(); where = std::this_thread::get_id(); }), 0);
  {
    const hardirq_guard in;
    raise_softirq(softirq::block);
    EXPECT_EQ(count, 0u);
  }
  EXPECT_EQ(count, softirq_unit);
  EXPECT_EQ(where, std::this_thread::get_id());
}

TEST_F(Softirq, NotWhileSoftirqsAreDisabledOrInterruptsAreOff) {
  static int runs = 0;
  runs = 0;
  ASSERT_EQ(open_softirq(softirq::net_rx, []() noexcept { ++runs; }), 0);
  {
    const bh_guard off;
    { const hardirq_guard in; raise_softirq(softirq::net_rx); }
    EXPECT_EQ(runs, 0);
  }
  EXPECT_EQ(runs, 1);
  {
    const irq_guard off;
    { const hardirq_guard in; raise_softirq(softirq::net_rx); }
    EXPECT_EQ(runs, 1);
  }
  EXPECT_EQ(runs, 2);
}

TEST_F(Softirq, VectorsRunInTheKernelsOrder) {
  order.clear();
  ASSERT_EQ(open_softirq(softirq::rcu, []() noexcept { order.push_back(9); }), 0);
  ASSERT_EQ(open_softirq(softirq::net_tx, []() noexcept { order.push_back(2); }), 0);
  body_tasklet high([] { order.push_back(0); }), ordinary([] { order.push_back(6); });
  {
    const hardirq_guard in;
    raise_softirq(softirq::rcu);
    EXPECT_TRUE(tasklet_schedule(ordinary));
    raise_softirq(softirq::net_tx);
    EXPECT_TRUE(tasklet_hi_schedule(high));
  }
  EXPECT_THAT(order, ElementsAre(0, 2, 6, 9));
  tasklet_kill(high);
  tasklet_kill(ordinary);
}

TEST_F(Softirq, VectorsOfTheLibrarysOwnAndNoActionAreRefused) {
  EXPECT_EQ(open_softirq(softirq::tasklet, []() noexcept {}), -22);
  EXPECT_EQ(open_softirq(softirq::net_tx, nullptr), -22);
  EXPECT_EQ(open_softirq(softirq{nr_softirqs}, []() noexcept {}), -22);
}

TEST_F(Softirq, ARaiserWithoutEndIsHandedToKsoftirqd) {
  static std::atomic<int> here, there;
  static std::thread::id main_thread;
  here = there = 0;
  main_thread = std::this_thread::get_id();
  ASSERT_EQ(open_softirq(softirq::sched, []() noexcept {
    if (std::this_thread::get_id() == main_thread) ++here; else ++there;
    if (here + there < 25) raise_softirq(softirq::sched);
  }), 0);
  { const hardirq_guard in; raise_softirq(softirq::sched); }
  EXPECT_EQ(here, 10);
  wait_until([] { return here + there == 25; });
}

TEST_F(Softirq, TaskletsRunOnceInOrderAndInSoftirqContext) {
  order.clear();
  bool may_sleep_there = true;
  body_tasklet a([&] { order.push_back(1); may_sleep_there = !in_atomic() || !in_interrupt(); }), b([&] { order.push_back(2); });
  {
    const hardirq_guard in;
    EXPECT_TRUE(tasklet_schedule(a));
    EXPECT_TRUE(tasklet_schedule(b));
    EXPECT_FALSE(tasklet_schedule(a));
    EXPECT_TRUE(tasklet_scheduled(a));
  }
  EXPECT_THAT(order, ElementsAre(1, 2));
  EXPECT_FALSE(may_sleep_there);
  EXPECT_FALSE(tasklet_scheduled(a));
  tasklet_kill(a);
  tasklet_kill(b);
}

TEST_F(Softirq, ScheduledInProcessContextItRunsOnKsoftirqd) {
  std::atomic<bool> ran{false};
  char name[16] = {};
  body_tasklet t([&] { plat::thread_name(name, sizeof name); ran = true; });
  EXPECT_TRUE(tasklet_schedule(t));
  wait_until([&] { return ran.load(); });
  tasklet_kill(t);
  EXPECT_STREQ(name, "ksoftirqd");
}

TEST_F(Softirq, TheServiceIsNotStartedInAtomicContextButAfterIt) {
  std::atomic<bool> ran{false};
  body_tasklet t([&] { ran = true; });
  {
    const preempt_guard atomic_here;
    tasklet_schedule(t);
    EXPECT_EQ(plat::nr_service_threads(), 0u);
  }
  EXPECT_EQ(plat::nr_service_threads(), 1u);
  wait_until([&] { return ran.load(); });
  tasklet_kill(t);
}

TEST_F(Softirq, ADisabledTaskletWaitsForEnable) {
  std::atomic<int> runs{0};
  body_tasklet t([&] { ++runs; });
  tasklet_disable(t);
  tasklet_disable_nosync(t);
  { const hardirq_guard in; tasklet_schedule(t); }
  EXPECT_EQ(runs, 0);
  EXPECT_TRUE(tasklet_scheduled(t));
  tasklet_enable(t);
  { const hardirq_guard in; EXPECT_FALSE(tasklet_schedule(t)); }
  EXPECT_EQ(runs, 0);
  { const hardirq_guard in; tasklet_enable(t); }
  EXPECT_EQ(runs, 1);
  tasklet_enable(t);
  EXPECT_THAT(test::take_log(), HasSubstr("tasklet_enable"));
  expected_misuses = 1;
  tasklet_kill(t);
}

TEST_F(Softirq, KillTakesADisabledOneOff) {
  int runs = 0;
  body_tasklet t([&] { ++runs; });
  tasklet_disable(t);
  { const hardirq_guard in; tasklet_schedule(t); }
  tasklet_kill(t);
  EXPECT_FALSE(tasklet_scheduled(t));
  { const hardirq_guard in; tasklet_enable(t); }
  EXPECT_EQ(runs, 0);
  { const hardirq_guard in; EXPECT_TRUE(tasklet_schedule(t)); }
  EXPECT_EQ(runs, 1);
}

TEST_F(Softirq, KillEndsATaskletThatAlwaysSchedulesItself) {
  std::atomic<int> runs{0};
  body_tasklet* self = nullptr;
  body_tasklet t([&] { ++runs; tasklet_schedule(*self); });
  self = &t;
  tasklet_schedule(t);
  wait_until([&] { return runs > 20; });
  tasklet_kill(t);
  const int after = runs;
  for (int i = 0; i < 100; ++i) std::this_thread::yield();
  EXPECT_EQ(runs, after);
  EXPECT_FALSE(tasklet_scheduled(t));
}

TEST_F(Softirq, TheSameTaskletNeverRunsOnTwoThreadsAndNoScheduleIsLost) {
  std::atomic<int> inside{0}, most{0};
  std::atomic<uint64_t> runs{0}, requests{0}, seen{0};
  body_tasklet t([&] {
    const int now = ++inside;
    if (now > most) most = now;
    seen = requests.load();
    std::this_thread::yield();
    ++runs;
    --inside;
  });
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      for (int round = 0; round < 3000; ++round) {
        if ((round + i) % 3 == 0) {
          ++requests;
          tasklet_schedule(t);  // for ksoftirqd
        } else {
          const hardirq_guard in;  // for this thread
          ++requests;
          tasklet_schedule(t);
        }
      }
    });
  for (std::thread& thread : threads) thread.join();
  tasklet_kill(t);
  EXPECT_EQ(most, 1);
  EXPECT_GT(runs, 0u);
  EXPECT_EQ(seen, requests);  // the last request was followed by a run
}

TEST_F(Softirq, DisableWaitsForARunOnAnotherThread) {
  std::atomic<int> stage{0};
  body_tasklet t([&] {
    stage = 1;
    wait_until([&] { return stage == 2; });
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    stage = 3;
  });
  tasklet_schedule(t);
  wait_until([&] { return stage == 1; });
  stage = 2;
  tasklet_disable(t);
  EXPECT_EQ(stage, 3);
  tasklet_enable(t);
  tasklet_kill(t);
}

TEST_F(Softirq, WrongCallsAreReported) {
  tasklet empty;
  EXPECT_FALSE(tasklet_schedule(empty));
  body_tasklet* self = nullptr;
  body_tasklet t([&] {
    set_context_policy(context_policy::count);
    tasklet_kill(*self);
    set_context_policy(context_policy::report);
  });
  self = &t;
  { const hardirq_guard in; tasklet_schedule(t); }
  const std::string log = test::take_log();
  EXPECT_THAT(log, HasSubstr("the tasklet has no function"));
  EXPECT_THAT(log, HasSubstr("called by the tasklet itself"));
  expected_misuses = 2;
  expected_violations = 1;
  raise_softirq(softirq{nr_softirqs});
  expected_misuses = 3;
}

TEST_F(Softirq, ASignalDuringATaskletSchedulesMoreWithoutStackingSoftirqs) {
  static int depth = 0, deepest = 0, runs = 0;
  depth = deepest = runs = 0;
  static body_tasklet second([] { deepest = std::max(deepest, ++depth); ++runs; --depth; });
  ASSERT_EQ(request_irq(14, [](int, void*) noexcept { tasklet_schedule(second); return irq_return::handled; }, 0, "device", nullptr), 0);
  body_tasklet first([] {
    deepest = std::max(deepest, ++depth);
    pthread_kill(pthread_self(), irq_signal(14));  // delivered at once: interrupts are on in a softirq
    EXPECT_EQ(read_irq_counts(14).handled, 1u);
    --depth;
  });
  { const hardirq_guard in; tasklet_schedule(first); }
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(deepest, 1);
  tasklet_kill(first);
  tasklet_kill(second);
  free_irq(14, nullptr);
}

}  // namespace
}  // namespace kmem
