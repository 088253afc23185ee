// Interrupts, softirqs, tasklets and timers under simulated interleavings: handlers at every scheduling point, every order of threads.
#include <gtest/gtest.h>

#include "interrupt/interrupt.hpp"
#include "sim/sim_driver.hpp"

namespace kmem::sim_test {
namespace {

struct counting_tasklet : tasklet {
  atomic<uint32_t> inside{0};
  atomic<uint32_t> requests{0};
  atomic<uint32_t> seen{0};  // requests when the last run began
  atomic<uint32_t> runs{0};
  counting_tasklet() {
    function = [](tasklet& self) noexcept {
      auto& t = static_cast<counting_tasklet&>(self);
      KMEM_SIM_CHECK(t.inside.fetch_add_relaxed(1) == 0);
      KMEM_SIM_CHECK((preempt_count() & softirq_mask) == softirq_unit);
      t.seen.store_relaxed(t.requests.load_relaxed());
      plat::yield_point();
      t.runs.fetch_add_relaxed(1);
      t.inside.fetch_sub_relaxed(1);
    };
  }
  void request() {
    requests.fetch_add_relaxed(1);
    tasklet_schedule(*this);
  }
};

TEST(SimInterrupt, ATaskletRunsOnOneThreadAtATimeAndAfterTheLastRequest) {
  simulation::config knobs;
  knobs.signal_chance = 20;
  expect_seeds_pass(
      [](world& w) {
        reset_interrupts();
        auto& t = w.make<counting_tasklet>();
        for (int i = 0; i < 3; ++i) {
          const int task = w.spawn("task", [&t] {
            for (int round = 0; round < 3; ++round) {
              t.request();
              const hardirq_guard in;
              t.request();
            }
          });
          w.set_handler(task, [&t] { t.request(); });  // a signal handler of no interrupt
        }
        w.at_end([&t] {
          tasklet_kill(t);
          KMEM_SIM_CHECK(t.seen.peek() == t.requests.peek());
          KMEM_SIM_CHECK(!tasklet_scheduled(t));
          stop_interrupt_service();
        });
      },
      knobs);
}

TEST(SimInterrupt, DisablingExcludesTheRunAndEnablingLosesNothing) {
  expect_seeds_pass([](world& w) {
    reset_interrupts();
    auto& t = w.make<counting_tasklet>();
    for (int i = 0; i < 2; ++i)
      w.spawn("scheduler", [&t] {
        for (int round = 0; round < 4; ++round) {
          const hardirq_guard in;
          t.request();
        }
      });
    w.spawn("disabler", [&t] {
      for (int round = 0; round < 3; ++round) {
        tasklet_disable(t);
        KMEM_SIM_CHECK(t.inside.load_relaxed() == 0);
        plat::yield_point();
        KMEM_SIM_CHECK(t.inside.load_relaxed() == 0);
        tasklet_enable(t);
      }
    });
    w.at_end([&t] {
      tasklet_kill(t);
      KMEM_SIM_CHECK(t.seen.peek() == t.requests.peek());
      stop_interrupt_service();
    });
  });
}

TEST(SimInterrupt, KillsAndSchedulersEndWithATaskletThatIsNowhere) {
  expect_seeds_pass([](world& w) {
    reset_interrupts();
    auto& t = w.make<counting_tasklet>();
    for (int i = 0; i < 2; ++i)
      w.spawn("scheduler", [&t] {
        for (int round = 0; round < 3; ++round) {
          tasklet_schedule(t);
          const hardirq_guard in;
          tasklet_hi_schedule(t);
        }
      });
    for (int i = 0; i < 2; ++i) w.spawn("killer", [&t] { tasklet_kill(t); });
    w.at_end([&t] {
      tasklet_kill(t);
      KMEM_SIM_CHECK(!tasklet_scheduled(t) && t.inside.peek() == 0);
      stop_interrupt_service();
    });
  });
}

TEST(SimInterrupt, EveryInterruptIsHandledOnceWhateverIsOffOrDisabled) {
  simulation::config knobs;
  knobs.signal_chance = 30;
  static constinit atomic<uint32_t> handled{0};
  static constinit atomic<uint32_t> inside{0};
  expect_seeds_pass(
      [](world& w) {
        reset_interrupts();
        handled.store_relaxed(0);
        auto& raised = w.make<atomic<uint32_t>>(0u);
        auto& ready = w.make<atomic<uint32_t>>(0u);
        w.spawn("owner", [&ready] {
          KMEM_SIM_CHECK(request_irq(1, [](int, void*) noexcept {
            KMEM_SIM_CHECK(irqs_disabled() && (preempt_count() & hardirq_mask) == hardirq_unit);
            inside.fetch_add_relaxed(1);
            plat::yield_point();
            inside.fetch_sub_relaxed(1);
            handled.fetch_add_relaxed(1);
            return irq_return::handled;
          }, 0, "device", nullptr) == 0);
          ready.store_relaxed(1);
          for (int round = 0; round < 3; ++round) {
            disable_irq(1);
            KMEM_SIM_CHECK(inside.load_relaxed() == 0);
            plat::yield_point();
            KMEM_SIM_CHECK(inside.load_relaxed() == 0);
            enable_irq(1);
          }
        });
        for (int i = 0; i < 3; ++i) {
          const int task = w.spawn("task", [&ready] {
            while (ready.load_relaxed() == 0) plat::relax(199);
            for (int round = 0; round < 4; ++round) {
              const irq_guard off;
              const irq_guard inner;
              plat::yield_point();
            }
          });
          w.set_handler(task, [&raised, &ready] {
            if (ready.load_relaxed() == 0) return;
            raised.fetch_add_relaxed(1);
            raise_irq(1);
          });
        }
        w.at_end([&raised] {
          KMEM_SIM_CHECK(handled.peek() == raised.peek());
          free_irq(1, nullptr);
          stop_interrupt_service();
        });
      },
      knobs);
}

struct counting_timer : timer {
  atomic<uint32_t> runs{0};
  atomic<uint32_t> inside{0};
  uint64_t armed_for = 0;
  counting_timer() {
    function = [](timer& self) noexcept {
      auto& t = static_cast<counting_timer&>(self);
      KMEM_SIM_CHECK(t.inside.fetch_add_relaxed(1) == 0);
      KMEM_SIM_CHECK(!before_time(jiffies(), t.armed_for));
      plat::yield_point();
      t.runs.fetch_add_relaxed(1);
      t.inside.fetch_sub_relaxed(1);
    };
  }
  static bool before_time(uint64_t a, uint64_t b) { return static_cast<int64_t>(a - b) < 0; }
};

constinit atomic<uint32_t> never_rung{0};

TEST(SimInterrupt, EachArmingOfATimerRunsOrIsTakenBack) {
  simulation::config knobs;
  knobs.signal_chance = 20;
  expect_seeds_pass(
      [](world& w) {
        reset_interrupts();
        for (int i = 0; i < 3; ++i) {
          auto& t = w.make<counting_timer>();
          auto& other = w.make<counting_timer>();
          auto& armings = w.make<atomic<uint32_t>>(0u);
          auto& taken = w.make<atomic<uint32_t>>(0u);
          const int task = w.spawn("task", [&t, &armings, &taken] {
            for (uint64_t round = 0; round < 4; ++round) {
              if (mod_timer(t, jiffies() + round % 3)) taken.fetch_add_relaxed(1);
              armings.fetch_add_relaxed(1);
              if (round % 2 == 0 && del_timer_sync(t)) taken.fetch_add_relaxed(1);
              if (round % 2 == 0) KMEM_SIM_CHECK(t.inside.load_relaxed() == 0 && !timer_pending(t));
            }
          });
          // A signal that is an interrupt: kept back while its thread is inside the timers.
          w.set_handler(task, [&other] {
            if (irqs_disabled()) return;
            const hardirq_guard in;
            mod_timer(other, jiffies() + 1);
          });
          w.at_end([&t, &other, &armings, &taken] {
            while (timer_pending(t) || t.inside.load_relaxed() != 0) plat::futex_wait(never_rung.word(), 0, 1'000'000);
            del_timer_sync(t);
            del_timer_sync(other);
            KMEM_SIM_CHECK(t.runs.peek() + taken.peek() == armings.peek());
          });
        }
        w.at_end([] {
          KMEM_SIM_CHECK(nr_armed_timers() == 0 && interrupts_are_valid() == nullptr);
          KMEM_SIM_CHECK(interrupts.misuses.peek() == 0);
          stop_interrupt_service();
        });
      },
      knobs);
}

TEST(SimInterrupt, ARefusedThreadIsReportedAndTriedAgain) {
  simulation::config knobs;
  knobs.fail_chance[static_cast<unsigned>(simulation::platform_call::start_thread)] = 500;
  expect_seeds_pass(
      [](world& w) {
        reset_interrupts();
        auto& t = w.make<counting_tasklet>();
        w.spawn("task", [&t] {
          // Each count that drops tries again.
          while (t.runs.load_relaxed() == 0) {
            tasklet_schedule(t);
            const preempt_guard again;
          }
        });
        w.at_end([&t] {
          tasklet_kill(t);
          stop_interrupt_service();
        });
      },
      knobs);
}

}  // namespace
}  // namespace kmem::sim_test
