// The simulation itself: seeds repeat, find planted mistakes, and failures say what happened.
#include <gmock/gmock.h>
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <set>
#include <stdexcept>

#include "sim/sim_driver.hpp"

namespace kmem::sim_test {
namespace {

using testing::HasSubstr;

/// A few tasks that add to a counter the wrong way: load, then store.
void racy_counter(world& w) {
  auto& counter = w.make<atomic<uint32_t>>(0u);
  for (int i = 0; i < 3; ++i)
    w.spawn("adder", [&counter] {
      for (int round = 0; round < 5; ++round) counter.store_relaxed(counter.load_relaxed() + 1);
    });
  w.at_end([&counter] { KMEM_SIM_CHECK(counter.load_relaxed() == 15); });
}

TEST(SimScheduler, TheSameSeedRepeatsEveryDecision) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const result first = run_seed(racy_counter, seed), second = run_seed(racy_counter, seed);
    EXPECT_EQ(first.history, second.history) << seed;
    EXPECT_EQ(first.steps, second.steps) << seed;
    EXPECT_EQ(first.failed, second.failed) << seed;
    EXPECT_EQ(first.why, second.why) << seed;
  }
}

TEST(SimScheduler, DifferentSeedsTakeDifferentWays) {
  std::set<uint64_t> histories;
  for (uint64_t seed = 1; seed <= 50; ++seed) histories.insert(run_seed(racy_counter, seed).history);
  EXPECT_GT(histories.size(), 40u);  // seeds that hardly switch may agree
}

/// A lock-free list with the classic mistake: pop compares only the pointer, so a head that went away and came back is believed.
struct aba_list {
  struct node {
    atomic<uint32_t> next{0};
    atomic<uint32_t> owners{0};  // tasks that hold it, plus 1 while it is on the list
  };
  node nodes[5];  // [1 .. 4]; 0 ends the list
  atomic<uint32_t> head{0};

  void push(uint32_t n) {
    uint32_t first = head.load_relaxed();
    do nodes[n].next.store_relaxed(first);
    while (!head.try_cmpxchg_relaxed(first, n));
  }
  uint32_t pop() {
    uint32_t first = head.load_relaxed();
    while (first != 0 && !head.try_cmpxchg_relaxed(first, nodes[first].next.load_relaxed())) {
    }
    return first;
  }
};

void aba_scenario(world& w) {
  auto& list = w.make<aba_list>();
  for (uint32_t n = 1; n <= 4; ++n) list.push(n);
  for (int i = 0; i < 2; ++i)
    w.spawn("user", [&list] {
      for (int round = 0; round < 3; ++round) {
        const uint32_t a = list.pop(), b = list.pop();
        for (const uint32_t n : {a, b})
          if (n != 0) KMEM_SIM_CHECK(list.nodes[n].owners.fetch_add_relaxed(1) == 0);
        for (const uint32_t n : {a, b}) {
          if (n == 0) continue;
          list.nodes[n].owners.fetch_sub_relaxed(1);
          list.push(n);
        }
      }
    });
  w.at_end([&list] {
    unsigned found = 0;
    for (uint32_t n = list.head.load_relaxed(); n != 0 && found <= 4; n = list.nodes[n].next.load_relaxed()) ++found;
    KMEM_SIM_CHECK(found == 4);
  });
}

TEST(SimScheduler, FindsAPlantedAbaMistakeAndTheSeedFindsItAgain) {
  const auto found = find_failing_seed(aba_scenario, {}, 2000);
  ASSERT_TRUE(found.has_value());
  const result again = run_seed(aba_scenario, found->seed);
  EXPECT_TRUE(again.failed);
  EXPECT_EQ(again.why, found->why);
  EXPECT_EQ(again.history, found->history);
}

/// A hand-over whose waiter looks at the flag, then sleeps on a word that the waker changes only afterwards: the wake-up can be lost.
void lost_wakeup_scenario(world& w) {
  struct mailbox {
    atomic<uint32_t> full{0};
    atomic<uint32_t> bell{0};
  };
  auto& box = w.make<mailbox>();
  w.spawn("waiter", [&box] {
    while (box.full.load_relaxed() == 0) plat::futex_wait(box.bell.word(), box.bell.load_relaxed(), ~uint64_t{0});
  });
  w.spawn("waker", [&box] {
    box.bell.fetch_add_relaxed(1);  // too early: the waiter may read the new number before it sees the flag, and then sleep
    plat::futex_wake(box.bell.word(), 1);
    box.full.store_relaxed(1);
  });
}

TEST(SimScheduler, FindsAPlantedLostWakeUpAsADeadlock) {
  simulation::config knobs;
  knobs.spurious_chance = 0;
  const auto found = find_failing_seed(lost_wakeup_scenario, knobs, 2000);
  ASSERT_TRUE(found.has_value());
  EXPECT_THAT(found->why, HasSubstr("deadlock"));
  EXPECT_THAT(found->why, HasSubstr("waiter on CPU"));
  EXPECT_THAT(found->why, HasSubstr("waits on futex"));
  EXPECT_THAT(found->why, HasSubstr("    at 0x"));
  const result again = run_seed(lost_wakeup_scenario, found->seed, knobs);
  EXPECT_EQ(again.history, found->history);
  // Not every seed: it is an interleaving that fails, not the scenario.
  bool some_pass = false;
  for (uint64_t seed = 1; seed <= 50 && !some_pass; ++seed) some_pass = !run_seed(lost_wakeup_scenario, seed, knobs).failed;
  EXPECT_TRUE(some_pass);
}

TEST(SimScheduler, SpuriousWakeUpsHideNoDeadlock) {
  simulation::config knobs;
  knobs.spurious_chance = 1000;
  const scenario waits_for_ever = [](world& w) {
    auto& word = w.make<atomic<uint32_t>>(0u);
    w.spawn("sleeper", [&word] {
      while (word.load_relaxed() == 0) plat::futex_wait(word.word(), 0, ~uint64_t{0});
    });
  };
  EXPECT_TRUE(run_seed(waits_for_ever, 1, knobs).failed);
}

TEST(SimScheduler, AWorldThatNeverEndsFailsAtTheStepLimit) {
  simulation::config knobs;
  knobs.max_steps = 10'000;
  const result r = run_seed([](world& w) { w.spawn("spinner", [] { for (;;) plat::relax(0); }); }, 1, knobs);
  EXPECT_TRUE(r.failed);
  EXPECT_THAT(r.why, HasSubstr("livelock"));
  EXPECT_THAT(r.why, HasSubstr("spinner"));
}

TEST(SimScheduler, DieEndsTheWorldAndKeepsWhatWasWritten) {
  const result r = run_seed(
      [](world& w) {
        w.spawn("dying", [] {
          plat::write_all(2, "last words", 10);
          plat::die();
        });
        w.spawn("other", [] { for (int i = 0; i < 100; ++i) plat::yield_point(); });
      },
      3);
  EXPECT_TRUE(r.failed);
  EXPECT_THAT(r.why, HasSubstr("die()"));
  EXPECT_EQ(r.output, "last words");
}

TEST(SimScheduler, AFailureIsReportedWithItsSeedAndACommand) {
  const std::string command = command_for(17);
  EXPECT_THAT(command, HasSubstr("KMEM_SEED=17 "));
  EXPECT_THAT(command, HasSubstr("--gtest_filter=SimScheduler.AFailureIsReportedWithItsSeedAndACommand"));
}

/// Sets an environment variable for a scope (nullptr: removes it).
class environment_scope {
 public:
  environment_scope(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    set(value);
  }
  ~environment_scope() { set(before_ ? before_->c_str() : nullptr); }
  environment_scope(const environment_scope&) = delete;
  environment_scope& operator=(const environment_scope&) = delete;

 private:
  void set(const char* value) {
    if (value != nullptr) {
      setenv(name_, value, 1);
    } else {
      unsetenv(name_);
    }
  }
  const char* name_;
  std::optional<std::string> before_;
};

TEST(SimScheduler, TheEnvironmentChoosesTheSeeds) {
  std::vector<uint64_t> ran;
  const scenario note_seed = [&ran](world& w) { ran.push_back(w.seed()); };
  const environment_scope no_seed("KMEM_SEED", nullptr), no_seeds("KMEM_SEEDS", nullptr);
  expect_seeds_pass(note_seed, {}, 3);
  EXPECT_EQ(ran, (std::vector<uint64_t>{1, 2, 3}));
  ran.clear();
  {
    const environment_scope seeds("KMEM_SEEDS", "5");
    expect_seeds_pass(note_seed, {}, 3);
    EXPECT_EQ(ran.size(), 5u);
    ran.clear();
    const environment_scope seed("KMEM_SEED", "77");
    expect_seeds_pass(note_seed, {}, 3);
    EXPECT_EQ(ran, std::vector<uint64_t>{77});
  }
  const environment_scope malformed("KMEM_SEED", "7x");
  EXPECT_THROW(expect_seeds_pass(note_seed), std::runtime_error);
}

void failing_scenario(world& w) {
  w.spawn("task", [&w] { KMEM_SIM_CHECK(w.seed() != 4); });
}

TEST(SimScheduler, AFailingSeedIsATestFailureThatTellsHowToRunItAgain) {
  const environment_scope no_seed("KMEM_SEED", nullptr), no_seeds("KMEM_SEEDS", nullptr);
  EXPECT_NONFATAL_FAILURE(expect_seeds_pass(failing_scenario), "SEED=4 failed: ");
  EXPECT_NONFATAL_FAILURE(expect_seeds_pass(failing_scenario), "run it again: KMEM_SEED=4 ");
  EXPECT_NONFATAL_FAILURE(expect_seeds_pass(failing_scenario), "w.seed() != 4");
}

TEST(SimSchedulerDeathTest, ACrashTellsItsSeed) {
  EXPECT_DEATH(run_seed([](world& w) { w.spawn("task", [] { raise(SIGSEGV); }); }, 4711),
               "crashed with SEED=4711; run it again: KMEM_SEED=4711 ");
  EXPECT_DEATH(run_seed([](world& w) { w.spawn("task", [] { std::abort(); }); }, 4712), "crashed with SEED=4712; ");
}

TEST(SimScheduler, RunsMoreCpusThanAByteCounts) {
  simulation::config knobs;
  knobs.nr_cpus = 1024;
  knobs.migrate_chance = 200;
  std::set<int> seen;
  const result r = run_seed(
      [&](world& w) {
        auto& total = w.make<atomic<uint32_t>>(0u);
        KMEM_SIM_CHECK(plat::nr_cpus() == 1024);
        for (int i = 0; i < 1000; ++i)
          w.spawn("task", [&] {
            for (int round = 0; round < 5; ++round) {
              const int cpu = plat::cpu();
              KMEM_SIM_CHECK(cpu >= 0 && cpu < 1024);
              seen.insert(cpu);
              total.fetch_add_relaxed(1);
            }
          }, i);
        w.at_end([&total] { KMEM_SIM_CHECK(total.load_relaxed() == 5000); });
      },
      1, knobs);
  EXPECT_FALSE(r.failed) << r.why;
  EXPECT_GT(seen.size(), 600u);
  EXPECT_GT(*seen.rbegin(), 1000);
}

TEST(SimScheduler, EachTaskHasAContextOfItsOwn) {
  expect_seeds_pass([](world& w) {
    for (uint32_t i = 1; i <= 5; ++i)
      w.spawn("task", [i] {
        KMEM_SIM_CHECK(preempt_count() == 0);
        preempt_count_add(i);
        for (int round = 0; round < 20; ++round) {
          plat::yield_point();
          KMEM_SIM_CHECK(preempt_count() == i);
        }
        preempt_count_sub(i);
      });
  });
}

TEST(SimScheduler, ATaskThatLeavesItsContextChangedFails) {
  EXPECT_THAT(run_seed([](world& w) { w.spawn("task", [] { preempt_count_add(1); }); }, 1).why, HasSubstr("count raised"));
  EXPECT_THAT(run_seed([](world& w) { w.spawn("task", [] { (void)memalloc_save(scope_nofs); }); }, 1).why, HasSubstr("scope open"));
}

TEST(SimScheduler, SignalsArriveAtSchedulingPointsOfTheirTaskAndSeeItsContext) {
  simulation::config knobs;
  knobs.signal_chance = 300;
  unsigned at_depth_0 = 0, at_depth_1 = 0;
  expect_seeds_pass(
      [&](world& w) {
        auto& runs = w.make<unsigned>(0u);
        const int task = w.spawn("interrupted", [] {
          for (int i = 0; i < 10; ++i) {
            plat::yield_point();
            const nest_guard inside;
            plat::yield_point();
            KMEM_SIM_CHECK(current().depth == 1);
          }
        });
        w.spawn("other", [] { for (int i = 0; i < 50; ++i) plat::yield_point(); });
        w.set_handler(task, [&, task] {
          KMEM_SIM_CHECK(simulation::running_task() == task);
          ++(current().depth == 0 ? at_depth_0 : at_depth_1);
          const nest_guard inside;
          ++runs;
          const unsigned mine = runs;
          plat::yield_point();  // others may run, but the handler does not interrupt itself
          KMEM_SIM_CHECK(runs == mine);
        });
      },
      knobs, 50);
  EXPECT_GT(at_depth_0, 50u);
  EXPECT_GT(at_depth_1, 50u);
}

TEST(SimScheduler, ASignalInterruptsAFutexWait) {
  simulation::config knobs;
  knobs.signal_chance = 200;
  knobs.spurious_chance = 0;
  expect_seeds_pass(
      [](world& w) {
        auto& word = w.make<atomic<uint32_t>>(0u);
        auto& handled = w.make<atomic<uint32_t>>(0u);
        const int task = w.spawn("sleeper", [&] {
          while (handled.load_relaxed() == 0) plat::futex_wait(word.word(), 0, ~uint64_t{0});
        });
        w.set_handler(task, [&] { handled.store_relaxed(1); });
        w.spawn("other", [] { for (int i = 0; i < 2000; ++i) plat::yield_point(); });
      },
      knobs, 50);
}

TEST(SimScheduler, AHandlerThatLeavesItsContextChangedFails) {
  simulation::config knobs;
  knobs.signal_chance = 1000;
  const result r = run_seed(
      [](world& w) { w.set_handler(w.spawn("task", [] { plat::yield_point(); }), [] { preempt_count_add(1); }); }, 1, knobs);
  EXPECT_THAT(r.why, HasSubstr("signal handler left the context changed"));
}

TEST(SimScheduler, TheClockJumpsToTheNextDeadlineWhenEverybodyWaits) {
  simulation::config knobs;
  knobs.spurious_chance = 0;
  expect_seeds_pass(
      [](world& w) {
        for (uint64_t seconds = 1; seconds <= 3; ++seconds)
          w.spawn("sleeper", [&w, seconds] {
            auto& word = w.make<atomic<uint32_t>>(0u);
            const uint64_t before = plat::now_ns();
            KMEM_SIM_CHECK(plat::futex_wait(word.word(), 0, seconds * 1'000'000'000) == futex_end::timed_out);
            const uint64_t slept = plat::now_ns() - before;
            KMEM_SIM_CHECK(slept >= seconds * 1'000'000'000);
            KMEM_SIM_CHECK(slept < seconds * 1'000'000'000 + 1'000'000);
          });
      },
      knobs);
}

TEST(SimScheduler, AFutexWaitOnAnotherValueReturnsAtOnce) {
  expect_seeds_pass([](world& w) {
    auto& word = w.make<atomic<uint32_t>>(1u);
    w.spawn("task", [&word] { KMEM_SIM_CHECK(plat::futex_wait(word.word(), 0, ~uint64_t{0}) == futex_end::woken); });
  }, {}, 20);
}

TEST(SimScheduler, WakesNoMoreWaitersThanAsked) {
  simulation::config knobs;
  knobs.spurious_chance = 0;
  expect_seeds_pass(
      [](world& w) {
        struct gate {
          atomic<uint32_t> word{0};
          atomic<uint32_t> woken{0};
          atomic<uint32_t> waiting{0};
        };
        auto& g = w.make<gate>();
        for (int i = 0; i < 5; ++i)
          w.spawn("waiter", [&g] {
            g.waiting.fetch_add_relaxed(1);
            plat::futex_wait(g.word.word(), 0, 1'000'000'000'000);
            g.woken.fetch_add_relaxed(1);
          });
        w.spawn("waker", [&g] {
          plat::futex_wait(g.word.word(), 0, 1'000'000'000);  // until the others sleep
          KMEM_SIM_CHECK(g.waiting.load_relaxed() == 5);
          plat::futex_wake(g.word.word(), 2);
          plat::futex_wait(g.waiting.word(), 5, 1'000'000'000);
          KMEM_SIM_CHECK(g.woken.load_relaxed() == 2);
          plat::futex_wake(g.word.word(), 100);
          plat::futex_wait(g.waiting.word(), 5, 1'000'000'000);
          KMEM_SIM_CHECK(g.woken.load_relaxed() == 5);
        });
      },
      knobs, 50);
}

TEST(SimScheduler, ARealtimeTaskKeepsOthersOffItsCpu) {
  simulation::config knobs;
  knobs.migrate_chance = 0;
  knobs.max_steps = 20'000;
  // Spinning with the pause alone: the holder is on the same CPU and never runs.
  const scenario spins = [](world& w) {
    auto& free = w.make<atomic<uint32_t>>(0u);
    w.spawn("holder", [&free] { for (int i = 0; i < 100; ++i) plat::yield_point(); free.store_relaxed(1); }, 0);
    simulation::set_realtime(w.spawn("spinner", [&free] {
      KMEM_SIM_CHECK(plat::realtime_thread());
      for (unsigned i = 0; free.load_relaxed() == 0; ++i) plat::relax(i);
    }, 0));
  };
  EXPECT_THAT(run_seed(spins, 1, knobs).why, HasSubstr("livelock"));
}

TEST(SimScheduler, ATaskThatRunsAloneSeesNothingChangeUntilItSleeps) {
  simulation::config knobs;
  knobs.switch_chance = 900;
  knobs.signal_chance = 300;
  expect_seeds_pass(
      [](world& w) {
        auto& steps = w.make<atomic<uint32_t>>(0u);
        w.spawn("other", [&steps] { for (int i = 0; i < 200; ++i) steps.fetch_add_relaxed(1); });
        const int lone = w.spawn("lone", [&steps] {
          simulation::run_alone(true);
          const uint32_t before = steps.load_relaxed();
          for (unsigned i = 0; i < 100; ++i) plat::relax(i);
          KMEM_SIM_CHECK(simulation::runs_alone() && steps.load_relaxed() == before);
          atomic<uint32_t> word{0};
          plat::futex_wait(word.word(), 1, 1'000);  // the word differs: no sleep
          KMEM_SIM_CHECK(simulation::runs_alone());
          while (steps.load_relaxed() != 200) plat::futex_wait(word.word(), 0, 1'000'000);  // signals wake it, too
          KMEM_SIM_CHECK(!simulation::runs_alone());
        });
        w.set_handler(lone, [&steps] { if (simulation::runs_alone()) steps.fetch_add_relaxed(1); });
      },
      knobs, 50);
}

TEST(SimScheduler, AFailureIsAnnouncedBeforeAnythingElse) {
  static std::string told;
  told.clear();
  const result r = run_seed(
      [](world&) {
        simulation::set_fail_notice([](const char* why) noexcept { told = why; });
        simulation::fail("on purpose");
      },
      1);
  EXPECT_TRUE(r.failed);
  EXPECT_EQ(told, "on purpose");
}

/// A thread of the library's own that doubles what it is given.
struct doubler {
  thread_handle thread;
  atomic<uint32_t> bell{0};
  atomic<uint32_t> stop{0};
  atomic<uint32_t> input{0};
  atomic<uint32_t> output{0};

  static void main(void* argument) noexcept {
    auto& d = *static_cast<doubler*>(argument);
    for (;;) {
      const uint32_t rung = d.bell.load_relaxed();
      if (d.stop.load_relaxed() != 0) return;
      d.output.store_relaxed(2 * d.input.load_relaxed());
      plat::futex_wait(d.bell.word(), rung, ~uint64_t{0});
    }
  }
  void ring() {
    bell.fetch_add_relaxed(1);
    plat::futex_wake(bell.word(), 1);
  }
  void end() {
    stop.store_relaxed(1);
    ring();
    plat::join_thread(thread);
  }
};

TEST(SimScheduler, AThreadOfTheLibrarysOwnServesAndIsJoinedByATask) {
  expect_seeds_pass(
      [](world& w) {
        auto& d = w.make<doubler>();
        w.spawn("user", [&d] {
          KMEM_SIM_CHECK(plat::start_thread(d.thread, doubler::main, &d, "doubler"));
          KMEM_SIM_CHECK(plat::nr_service_threads() == 1);
          d.input.store_relaxed(21);
          d.ring();
          while (d.output.load_relaxed() != 42) plat::relax(0);
          d.end();
          KMEM_SIM_CHECK(plat::nr_service_threads() == 0 && d.thread.body == nullptr);
        });
      },
      {}, 100);
}

TEST(SimScheduler, AThreadOfTheLibrarysOwnKeepsNoRunGoingAndIsJoinedFromOutside) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    simulation::config knobs;
    knobs.seed = seed;
    simulation::begin(knobs);
    static doubler d;
    new (&d) doubler;
    simulation::spawn("user", [](void*) {
      KMEM_SIM_CHECK(plat::start_thread(d.thread, doubler::main, &d, "doubler"));
      KMEM_SIM_CHECK(plat::single_threaded());  // of the program's own there is one
    }, nullptr);
    simulation::run();
    ASSERT_FALSE(simulation::failed()) << simulation::failure();
    ASSERT_EQ(plat::nr_service_threads(), 1u);
    d.end();
    ASSERT_FALSE(simulation::failed()) << simulation::failure();
    ASSERT_EQ(plat::nr_service_threads(), 0u);
    simulation::end();
  }
}

TEST(SimScheduler, TasksThatWaitForEachOtherAreADeadlockThoughAServiceThreadSleeps) {
  const result r = run_seed(
      [](world& w) {
        auto& d = w.make<doubler>();
        w.spawn("user", [&d] {
          KMEM_SIM_CHECK(plat::start_thread(d.thread, doubler::main, &d, "doubler"));
          uint32_t word = 0;
          for (;;) plat::futex_wait(&word, 0, ~uint64_t{0});
        });
      },
      1, {.spurious_chance = 0});
  EXPECT_TRUE(r.failed);
  EXPECT_THAT(r.why, HasSubstr("deadlock"));
}

TEST(SimScheduler, StartingAThreadCanBeMadeToFail) {
  simulation::config knobs;
  knobs.fail_chance[static_cast<unsigned>(simulation::platform_call::start_thread)] = 1000;
  const result r = run_seed(
      [](world& w) {
        auto& d = w.make<doubler>();
        w.spawn("user", [&d] {
          KMEM_SIM_CHECK(!plat::start_thread(d.thread, doubler::main, &d, "doubler"));
          KMEM_SIM_CHECK(d.thread.body == nullptr && plat::nr_service_threads() == 0);
          d.end();  // nothing to join
        });
      },
      1, knobs);
  EXPECT_FALSE(r.failed) << r.why;
}

TEST(SimScheduler, AForgottenThreadIsGoneForGood) {
  expect_seeds_pass(
      [](world& w) {
        auto& d = w.make<doubler>();
        w.spawn("user", [&d] {
          KMEM_SIM_CHECK(plat::start_thread(d.thread, doubler::main, &d, "doubler"));
          for (int i = 0; i < 20; ++i) plat::relax(0);
          plat::forget_thread(d.thread);
          const uint32_t before = d.output.load_relaxed();
          d.input.store_relaxed(before + 1);
          d.ring();
          for (int i = 0; i < 20; ++i) plat::relax(0);
          KMEM_SIM_CHECK(d.output.load_relaxed() == before);
        });
      },
      {}, 50);
}

TEST(SimScheduler, FilesAndNamesAreTheWorldsOwn) {
  const result r = run_seed(
      [](world& w) {
        simulation::set_file("/sys/fs/cgroup/memory.max", "1048576\n");
        w.spawn("a rather long name", [] {
          char buffer[32];
          KMEM_SIM_CHECK(plat::read_file("/sys/fs/cgroup/memory.max", buffer, sizeof buffer) == 8);
          KMEM_SIM_CHECK(std::string(buffer) == "1048576\n");
          KMEM_SIM_CHECK(plat::read_file("/sys/fs/cgroup/memory.max", buffer, 4) == 3);
          KMEM_SIM_CHECK(std::string(buffer) == "104");
          KMEM_SIM_CHECK(plat::read_file("/sys/fs/cgroup/memory.high", buffer, sizeof buffer) == -2);
          plat::thread_name(buffer, sizeof buffer);
          KMEM_SIM_CHECK(std::string(buffer) == "a rather long n");
        });
      },
      1);
  EXPECT_FALSE(r.failed) << r.why;
}

}  // namespace
}  // namespace kmem::sim_test
