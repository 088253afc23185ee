// Interrupts on real signals and by raise_irq().
#include <pthread.h>
#include <unistd.h>

#include <algorithm>

#include "interrupt_fixture.hpp"

namespace kmem {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Irq : public test::interrupt_fixture {};

std::vector<int> handled;
uint32_t count_seen = 0;
bool irqs_off_seen = false;

/// Handlers append without allocating.
void forget() {
  handled.clear();
  handled.reserve(100);
}

irq_return note(int irq, void*) noexcept {
  handled.push_back(irq);
  count_seen = preempt_count();
  irqs_off_seen = irqs_disabled();
  return irq_return::handled;
}

TEST_F(Irq, ASignalRunsTheHandlerInHardirqContext) {
  forget();
  ASSERT_EQ(request_irq(3, note, 0, "device", nullptr), 0);
  ASSERT_EQ(irq_signal(3), SIGRTMIN + 3);
  pthread_kill(pthread_self(), irq_signal(3));
  EXPECT_THAT(handled, ElementsAre(3));
  EXPECT_EQ(count_seen, hardirq_unit);
  EXPECT_TRUE(irqs_off_seen);
  EXPECT_EQ(read_irq_counts(3).handled, 1u);
  free_irq(3, nullptr);
}

TEST_F(Irq, InterruptsThatComeWhileTheyAreOffAreDeliveredWhenTheyAreOnAgainEachOfThem) {
  forget();
  ASSERT_EQ(request_irq(2, note, 0, "two", nullptr), 0);
  ASSERT_EQ(request_irq(1, note, 0, "one", nullptr), 0);
  {
    const irq_guard off;
    {
      const irq_guard inner;
      for (int i = 0; i < 3; ++i) pthread_kill(pthread_self(), irq_signal(2));
      pthread_kill(pthread_self(), irq_signal(1));
    }
    EXPECT_TRUE(handled.empty());
  }
  EXPECT_THAT(handled, ElementsAre(1, 2, 2, 2));
  free_irq(1, nullptr);
  free_irq(2, nullptr);
}

TEST_F(Irq, ASpinIrqGuardKeepsTheHandlerOffTheDataItProtects) {
  static spinlock lock;
  static int data = 0;
  data = 0;
  ASSERT_EQ(request_irq(4, [](int, void*) noexcept {
    const spin_guard hold(lock);  // with the lock held by this thread it would wait for itself
    ++data;
    return irq_return::handled;
  }, 0, "device", nullptr), 0);
  for (int i = 0; i < 1000; ++i) {
    const spin_irq_guard hold(lock);
    const int before = data;
    pthread_kill(pthread_self(), irq_signal(4));
    ASSERT_EQ(data, before);
  }
  EXPECT_EQ(data, 1000);
  free_irq(4, nullptr);
}

TEST_F(Irq, AHandlerIsNotInterruptedByAnother) {
  static int depth = 0, deepest = 0, calls = 0;
  depth = deepest = calls = 0;
  constexpr irq_handler nested = [](int irq, void*) noexcept {
    deepest = std::max(deepest, ++depth);
    if (++calls < 5) {
      raise_irq(irq);
      pthread_kill(pthread_self(), irq_signal(irq == 5 ? 6 : 5));
    }
    --depth;
    return irq_return::handled;
  };
  ASSERT_EQ(request_irq(5, nested, 0, "five", nullptr), 0);
  ASSERT_EQ(request_irq(6, nested, 0, "six", nullptr), 0);
  raise_irq(5);
  EXPECT_EQ(calls, 9);
  EXPECT_EQ(deepest, 1);
  free_irq(5, nullptr);
  free_irq(6, nullptr);
}

TEST_F(Irq, HoweverManyWaitTheyDoNotPileUpOnTheStack) {
  static uintptr_t lowest, highest;
  static unsigned calls, runs;
  lowest = UINTPTR_MAX, highest = 0, calls = 0, runs = 0;
  static const auto note_depth = []() noexcept {
    const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    lowest = std::min(lowest, here);
    highest = std::max(highest, here);
  };
  static tasklet deferred;
  deferred.function = [](tasklet&) noexcept {
    note_depth();
    ++runs;
  };
  ASSERT_EQ(request_irq(5, [](int, void*) noexcept {
    note_depth();
    ++calls;
    tasklet_schedule(deferred);
    return irq_return::handled;
  }, 0, "flood", nullptr), 0);
  sigset_t ours, before;
  sigemptyset(&ours);
  sigaddset(&ours, irq_signal(5));
  pthread_sigmask(SIG_BLOCK, &ours, &before);
  constexpr unsigned signals = 2000;
  for (unsigned i = 0; i < signals; ++i) ASSERT_EQ(pthread_kill(pthread_self(), irq_signal(5)), 0) << i;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  test::let_signals_in();
#if KMEM_UNDER_TSAN
  EXPECT_GT(calls, 0u);  // it merges waiting signals
#else
  EXPECT_EQ(calls, signals);
#endif
  EXPECT_GT(runs, 0u);
  EXPECT_LT(highest - lowest, 64u * 1024) << "frames of a few handlers, not of thousands";
  free_irq(5, nullptr);
  tasklet_kill(deferred);
}

TEST_F(Irq, RequestsThatCannotBeServedAreRefused) {
  int device = 0, other = 0;
  EXPECT_EQ(request_irq(-1, note, 0, "x", nullptr), -22);
  EXPECT_EQ(request_irq(nr_irqs(), note, 0, "x", nullptr), -22);
  EXPECT_EQ(request_irq(0, nullptr, 0, "x", nullptr), -22);
  EXPECT_EQ(request_irq(0, note, irq_shared, "x", nullptr), -22);
  EXPECT_EQ(request_irq(0, note, 1, "x", nullptr), -22);
  ASSERT_EQ(request_irq(0, note, irq_shared, "x", &device), 0);
  EXPECT_EQ(request_irq(0, note, 0, "x", nullptr), -16);
  ASSERT_EQ(request_irq(0, note, irq_shared, "x", &other), 0);
  for (unsigned i = 2; i < max_shared_irq_users; ++i) ASSERT_EQ(request_irq(0, note, irq_shared, "x", &device + i), 0);
  EXPECT_EQ(request_irq(0, note, irq_shared, "x", this), -12);
  for (unsigned i = 2; i < max_shared_irq_users; ++i) free_irq(0, &device + i);
  free_irq(0, &device);
  free_irq(0, &other);
  // A program that handles the signal itself keeps it.
  signal(SIGRTMIN + 9, [](int) {});
  EXPECT_EQ(request_irq(9, note, 0, "x", nullptr), -16);
  signal(SIGRTMIN + 9, SIG_DFL);
  EXPECT_EQ(irq_signal(-1), 0);
  EXPECT_EQ(irq_signal(nr_irqs()), 0);
}

TEST_F(Irq, EveryUserOfASharedOneIsAskedAndNobodysIsCounted) {
  static int asked = 0;
  asked = 0;
  constexpr irq_handler none = [](int, void*) noexcept { ++asked; return irq_return::none; };
  int a = 0, b = 0;
  ASSERT_EQ(request_irq(7, none, irq_shared, "a", &a), 0);
  ASSERT_EQ(request_irq(7, none, irq_shared, "b", &b), 0);
  raise_irq(7);
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(read_irq_counts(7).unhandled, 1u);
  free_irq(7, &a);
  raise_irq(7);
  EXPECT_EQ(asked, 3);
  free_irq(7, &b);
  pthread_kill(pthread_self(), irq_signal(7));  // on its way when the last user left: must not end the process
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(read_irq_counts(7).unhandled, 3u);
}

TEST_F(Irq, DisabledOnesAreKeptAndDeliveredByEnable) {
  forget();
  ASSERT_EQ(request_irq(8, note, 0, "device", nullptr), 0);
  disable_irq(8);
  disable_irq(8);
  raise_irq(8);
  pthread_kill(pthread_self(), irq_signal(8));
  enable_irq(8);
  EXPECT_TRUE(handled.empty());
  enable_irq(8);
  EXPECT_THAT(handled, ElementsAre(8, 8));
  enable_irq(8);
  EXPECT_THAT(test::take_log(), HasSubstr("BUG: enable_irq: unbalanced"));
  expected_misuses = 1;
  free_irq(8, nullptr);
}

TEST_F(Irq, FreeingWaitsForAHandlerOnAnotherThread) {
  static std::atomic<int> stage;
  stage = 0;
  ASSERT_EQ(request_irq(10, [](int, void*) noexcept {
    stage = 1;
    test::wait_until([] { return stage == 2; });
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    stage = 3;
    return irq_return::handled;
  }, 0, "device", nullptr), 0);
  std::thread interrupted([] { raise_irq(10); });
  test::wait_until([] { return stage == 1; });
  stage = 2;
  free_irq(10, nullptr);
  EXPECT_EQ(stage, 3);
  interrupted.join();
}

TEST_F(Irq, WaitingForOneselfIsReportedInsteadOfDone) {
  ASSERT_EQ(request_irq(11, [](int irq, void*) noexcept {
    set_context_policy(context_policy::count);
    disable_irq(irq);
    enable_irq(irq);
    set_context_policy(context_policy::report);
    return irq_return::handled;
  }, 0, "device", nullptr), 0);
  raise_irq(11);
  EXPECT_THAT(test::take_log(), HasSubstr("BUG: disable_irq: called by a handler of the same interrupt"));
  expected_misuses = 1;
  expected_violations = 1;
  free_irq(11, nullptr);
}

TEST_F(Irq, AHandlerThatLeavesACountRaisedIsReportedAndPutRight) {
  ASSERT_EQ(request_irq(12, [](int, void*) noexcept {
    preempt_count_add(preempt_unit);
    return irq_return::handled;
  }, 0, "device", nullptr), 0);
  raise_irq(12);
  EXPECT_THAT(test::take_log(), testing::MatchesRegex("BUG: entered irq handler 0x[0-9a-f]+ with preempt_count 00010000, interrupts off; "
                                                      "left with 00010001, interrupts off\n"));
  expected_misuses = 1;
  free_irq(12, nullptr);
}

TEST_F(Irq, WrongNumbersAreReported) {
  raise_irq(-1);
  enable_irq(99);
  disable_irq_nosync(99);
  free_irq(0, this);
  expected_misuses = 4;
  EXPECT_THAT(test::take_log(), HasSubstr("nobody has requested the interrupt for this device"));
}

TEST_F(Irq, SignalsFromOutsideAreAllHandledWhileThreadsAllocate) {
  class machine_of_own : public test::machine_fixture {
   public:
    void TestBody() override {}
    using test::machine_fixture::m;
    using test::machine_fixture::start;
    using test::machine_fixture::TearDown;
  } owner;
  owner.start("mem=32M");
  static machine* the_machine;
  static std::atomic<unsigned> calls, refused;
  the_machine = &owner.m();
  calls = refused = 0;
  ASSERT_EQ(request_irq(13, [](int, void*) noexcept {
    void* const p = kmalloc(*the_machine, 100, gfp::atomic);
    if (p == nullptr) ++refused;
    kfree(*the_machine, p);
    ++calls;
    return irq_return::handled;
  }, 0, "device", nullptr), 0);
  constexpr unsigned signals = 2000;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i)
    threads.emplace_back([&] {
      while (!stop) {
        test::let_signals_in();
        void* const p = kmalloc(*the_machine, 64, gfp::kernel);
        const irq_guard off;  // now and then the interrupt has to wait
        kfree(*the_machine, p);
      }
    });
  for (unsigned i = 0; i < signals; ++i) test::interrupt_thread(threads[i % 2], 13, i);
  test::wait_until([] { return calls == signals; });
  stop = true;
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(refused, 0u);
  EXPECT_EQ(read_irq_counts(13).handled, signals);
  free_irq(13, nullptr);
  owner.TearDown();
}

}  // namespace
}  // namespace kmem
