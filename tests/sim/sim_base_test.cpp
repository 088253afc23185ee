// The base layer under simulated interleavings: locks, the message ring, the rate limit, fail points.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "sim/sim_driver.hpp"

namespace kmem::sim_test {
namespace {

using testing::HasSubstr;

struct locked_counter {
  ranked_lock lock{lock_rank::zone};
  atomic<uint32_t> inside{0};
  uint32_t value = 0;
  void add() {
    KMEM_SIM_CHECK(inside.fetch_add_relaxed(1) == 0);
    const uint32_t before = value;
    plat::yield_point();
    value = before + 1;
    inside.fetch_sub_relaxed(1);
  }
};

TEST(SimLock, ExcludesAndLosesNoWakeUp) {
  simulation::config knobs;
  knobs.spurious_chance = 0;  // it must not live on them
  expect_seeds_pass(
      [](world& w) {
        auto& shared = w.make<locked_counter>();
        auto& never_rung = w.make<atomic<uint32_t>>(0u);
        for (int i = 0; i < 4; ++i)
          w.spawn("task", [&] {
            for (int round = 0; round < 5; ++round) {
              const lock_guard hold(shared.lock);
              shared.add();
              // Now and then for so long that the others give up spinning and sleep.
              if (w.random(3) == 0) plat::futex_wait(never_rung.word(), 0, 1'000'000);
            }
          });
        w.at_end([&shared] { KMEM_SIM_CHECK(shared.value == 20 && !shared.lock.is_locked()); });
      },
      knobs);
}

TEST(SimLock, ARealtimeWaiterLetsTheHolderOfItsCpuRun) {
  simulation::config knobs;
  knobs.migrate_chance = 0;
  knobs.spurious_chance = 0;
  knobs.max_steps = 50'000;
  expect_seeds_pass(
      [](world& w) {
        auto& shared = w.make<locked_counter>();
        const auto body = [&shared] {
          for (int round = 0; round < 3; ++round) {
            shared.lock.lock();
            shared.add();
            // A real-time task wakes only now: give it the time to arrive.
            for (int i = 0; i < 10; ++i) plat::yield_point();
            shared.lock.unlock();
          }
        };
        w.spawn("ordinary", body, 0);
        simulation::set_realtime(w.spawn("realtime", [&w, body] {
          auto& alarm = w.make<atomic<uint32_t>>(0u);
          plat::futex_wait(alarm.word(), 0, 2000);  // until the other holds the lock
          body();
        }, 0));
        w.at_end([&shared] { KMEM_SIM_CHECK(shared.value == 6); });
      },
      knobs);
}

TEST(SimLock, AHandlerOnlyTriesWhatItsOwnThreadMayHold) {
  simulation::config knobs;
  knobs.signal_chance = 100;
  unsigned got = 0, refused = 0;
  expect_seeds_pass(
      [&](world& w) {
        auto& shared = w.make<locked_counter>();
        const auto slow_path = [&] {
          const nest_guard inside;
          if (!shared.lock.lock_unless_nested()) {
            KMEM_SIM_CHECK(inside.nested());
            ++refused;
            return;
          }
          if (inside.nested()) ++got;
          shared.add();
          shared.lock.unlock();
        };
        for (int i = 0; i < 3; ++i)
          w.set_handler(w.spawn("task", [slow_path] { for (int round = 0; round < 5; ++round) slow_path(); }), slow_path);
      },
      knobs);
  EXPECT_GT(got, 0u);
  EXPECT_GT(refused, 0u);
}

TEST(SimLock, AHandlerThatWaitedWouldDeadlock) {
  simulation::config knobs;
  knobs.signal_chance = 100;
  const auto found = find_failing_seed(
      [](world& w) {
        auto& word = w.make<spinlock>();  // no ranks: only the waiting is wrong
        const auto slow_path = [&word] {
          word.lock();
          plat::yield_point();
          word.unlock();
        };
        w.set_handler(w.spawn("task", [slow_path] { for (int round = 0; round < 5; ++round) slow_path(); }), slow_path);
      },
      knobs, 200);
  ASSERT_TRUE(found.has_value());
  EXPECT_THAT(found->why, HasSubstr("deadlock"));
  EXPECT_THAT(found->why, HasSubstr("in its signal handler"));
}

TEST(SimLock, UsersSpinLockIsAtomicContextWhileHeld) {
  expect_seeds_pass([](world& w) {
    struct state {
      spinlock lock;
      uint32_t value = 0;
    };
    auto& shared = w.make<state>();
    for (int i = 0; i < 3; ++i)
      w.spawn("task", [&shared] {
        for (int round = 0; round < 5; ++round) {
          const spin_guard hold(shared.lock);
          KMEM_SIM_CHECK(preempt_count() == 1);
          const uint32_t before = shared.value;
          plat::yield_point();
          shared.value = before + 1;
        }
      });
    w.at_end([&shared] { KMEM_SIM_CHECK(shared.value == 15); });
  });
}

/// "<task>:<n>:" and a tail that depends on both, so that a torn record shows.
std::string message_text(int task, int n) {
  std::string text = std::to_string(task) + ":" + std::to_string(n) + ":";
  text.append(static_cast<size_t>(3 + (task * 7 + n) % 20), static_cast<char>('a' + (task + n) % 26));
  return text;
}

TEST(SimPrintk, RecordsAreWholeAndInOrderForAReaderAmongWritersAndHandlers) {
  simulation::config knobs;
  knobs.signal_chance = 20;
  expect_seeds_pass(
      [](world& w) {
        set_printk_sink(nullptr);
        struct state {
          atomic<uint32_t> writers{3};
          atomic<uint32_t> written{0};
          uint32_t read = 0;
          uint64_t next = 0;
          int last[4] = {-1, -1, -1, -1};
        };
        auto& shared = w.make<state>();
        const auto write = [&shared](int task, int n) {
          const std::string text = message_text(task, n);
          printk(log_level::info, text.data(), text.size());
          shared.written.fetch_add_relaxed(1);
        };
        for (int task = 0; task < 3; ++task) {
          auto& from_handler = w.make<int>(0);
          const int number = w.spawn("writer", [&shared, write, task] {
            for (int n = 0; n < 10; ++n) write(task, n);
            shared.writers.fetch_sub_relaxed(1);
          });
          if (task == 0) w.set_handler(number, [write, &from_handler] { write(3, from_handler++); });
        }
        const auto read_all = [&shared] {
          log_level level = log_level::emerg;
          char text[64];
          while (const uint64_t next = printk_read(shared.next, level, text, sizeof text)) {
            KMEM_SIM_CHECK(next > shared.next && level == log_level::info);
            shared.next = next;
            ++shared.read;
            int task = 0, n = 0;
            KMEM_SIM_CHECK(std::sscanf(text, "%d:%d:", &task, &n) == 2);
            KMEM_SIM_CHECK(message_text(task, n) == text);
            KMEM_SIM_CHECK(n > shared.last[task]);  // of one writer in order
            shared.last[task] = n;
          }
        };
        w.spawn("reader", [&shared, read_all] { while (shared.writers.load_relaxed() != 0) read_all(); });
        w.at_end([&shared, read_all] {
          read_all();
          KMEM_SIM_CHECK(shared.read + printk_dropped() == shared.written.load_relaxed());
        });
      },
      knobs);
}

TEST(SimPrintk, AFullRingDropsTheOldestAndCountsWhatFoundItsSlotBusy) {
  expect_seeds_pass(
      [](world& w) {
        set_printk_sink(nullptr);
        for (int task = 0; task < 2; ++task)
          w.spawn("writer", [task] {
            for (int n = 0; n < 100; ++n) {
              const std::string text = message_text(task, n);
              printk(log_level::info, text.data(), text.size());
            }
          });
        w.at_end([] {
          log_level level = log_level::emerg;
          char text[64];
          uint64_t next = 0;
          unsigned read = 0;
          while (const uint64_t found = printk_read(next, level, text, sizeof text)) {
            KMEM_SIM_CHECK(next != 0 || found > 200 - printk_ring_records);
            next = found;
            ++read;
          }
          KMEM_SIM_CHECK(next >= 200 - printk_dropped() && read + printk_dropped() >= printk_ring_records);
        });
      },
      {}, 50);
}

void expect_the_ring_can_be_read_to_its_end(uint64_t logged) {
  log_level level = log_level::emerg;
  char text[64];
  uint64_t next = 0, read = 0;
  while (const uint64_t found = printk_read(next, level, text, sizeof text)) {
    next = found;
    ++read;
  }
  KMEM_SIM_CHECK(next == logged);
  KMEM_SIM_CHECK(read + printk_dropped() >= std::min<uint64_t>(logged, printk_ring_records));
}

/// A handler that logs more than the ring holds, once, while its task is in the middle of `body`. Besides its messages there are five.
void fill_the_ring_in_the_middle_of(world& w, const char* name, unsigned& drops, std::function<void()> body) {
  auto& done = w.make<bool>(false);
  w.set_handler(w.spawn(name, std::move(body)), [&done] {
    if (std::exchange(done, true)) return;
    for (unsigned n = 0; n < printk_ring_records + 10; ++n) printk(log_level::info, "handler", 7);
  });
  w.at_end([&drops] {
    drops += printk_dropped() != 0 ? 1 : 0;
    const bool handler_ran = printk_read(5, *std::make_unique<printk_record>(), nullptr, 0) != 0;
    expect_the_ring_can_be_read_to_its_end(handler_ran ? 5 + printk_ring_records + 10 : 5);
  });
}

TEST(SimPrintk, ASlotInTheHandsOfAnInterruptedWriterIsPassedByAndLeavesAHole) {
  simulation::config knobs;
  knobs.signal_chance = 100;
  unsigned drops = 0;
  expect_seeds_pass(
      [&drops](world& w) {
        set_printk_sink(nullptr);
        fill_the_ring_in_the_middle_of(w, "writer", drops, [] { for (int n = 0; n < 5; ++n) printk(log_level::info, "writer", 6); });
      },
      knobs, 300);
  EXPECT_GT(drops, 0u);
}

TEST(SimPrintk, ASlotInTheHandsOfAnInterruptedReaderIsPassedByAndLeavesAHole) {
  simulation::config knobs;
  knobs.signal_chance = 100;
  unsigned drops = 0;
  expect_seeds_pass(
      [&drops](world& w) {
        set_printk_sink(nullptr);
        for (unsigned n = 0; n < 5; ++n) printk(log_level::info, "before", 6);
        fill_the_ring_in_the_middle_of(w, "reader", drops, [] {
          printk_record record;
          for (uint64_t n = 0; n < 5; ++n) (void)printk_read(n, record, nullptr, 0);
        });
      },
      knobs, 300);
  EXPECT_GT(drops, 0u);
}

TEST(SimRateLimit, NeverAllowsMoreThanTheBurstInAWindowAndLosesNoCount) {
  expect_seeds_pass([](world& w) {
    struct state {
      rate_limit limit{1'000'000'000'000, 3};  // longer than the scenario
      atomic<uint32_t> allowed{0};
      atomic<uint32_t> missed{0};
    };
    auto& shared = w.make<state>();
    for (int i = 0; i < 4; ++i)
      w.spawn("task", [&shared] {
        for (int round = 0; round < 5; ++round) {
          uint32_t missed = 0;
          if (shared.limit.allow(plat::now_ns(), missed)) shared.allowed.fetch_add_relaxed(1);
          shared.missed.fetch_add_relaxed(missed);
        }
      });
    w.at_end([&shared] {
      KMEM_SIM_CHECK(shared.allowed.load_relaxed() == 3);
      uint32_t missed = 0;
      KMEM_SIM_CHECK(shared.limit.allow(plat::now_ns() + 2'000'000'000'000, missed));
      KMEM_SIM_CHECK(missed + shared.missed.load_relaxed() == 17);
    });
  });
}

TEST(SimFail, TimesIsExactAcrossTasks) {
  expect_seeds_pass([](world& w) {
    set_fail_attributes(fail_point::failslab, {.probability = 100, .times = 7});
    auto& failed = w.make<atomic<uint32_t>>(0u);
    for (int i = 0; i < 3; ++i)
      w.spawn("task", [&failed] {
        for (int round = 0; round < 5; ++round)
          if (should_fail(fail_point::failslab, 8)) failed.fetch_add_relaxed(1);
      });
    w.at_end([&failed] {
      KMEM_SIM_CHECK(failed.load_relaxed() == 7);
      KMEM_SIM_CHECK(get_fail_counts(fail_point::failslab).failed == 7 && get_fail_counts(fail_point::failslab).passed == 15);
    });
  });
}

TEST(SimFail, NthBelongsToTheTaskThatArmedIt) {
  expect_seeds_pass([](world& w) {
    for (uint32_t nth = 1; nth <= 3; ++nth)
      w.spawn("armed", [nth] {
        const fail_nth_scope armed(nth, false);
        for (uint32_t passage = 1; passage <= 5; ++passage)
          KMEM_SIM_CHECK(should_fail(fail_point::fail_page_alloc, 4096) == (passage == nth));
        KMEM_SIM_CHECK(armed.hit());
      });
    w.spawn("not armed", [] { for (int i = 0; i < 5; ++i) KMEM_SIM_CHECK(!should_fail(fail_point::fail_page_alloc, 4096)); });
  });
}

}  // namespace
}  // namespace kmem::sim_test
