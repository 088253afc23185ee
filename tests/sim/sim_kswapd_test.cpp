// kswapd under every interleaving that seeds find: whoever finds memory below low is heard, and giving up and starting again lose nothing.
#include <gtest/gtest.h>

#include "reclaim/reclaim.hpp"
#include "sim/sim_driver.hpp"

namespace kmem::sim_test {
namespace {

/// A machine with kswapd, and pages that a callback gives back.
struct kswapd_world {
  machine m;
  spinlock lock;
  page* pages[4096];
  unsigned nr_pages = 0;
  atomic<uint32_t> generous{1};

  static uint64_t drop(void* context, gfp_t, uint64_t wanted) noexcept {
    auto& self = *static_cast<kswapd_world*>(context);
    if (self.generous.load_relaxed() == 0) return 0;
    uint64_t freed = 0;
    for (page* p = nullptr; freed < wanted && (p = self.take()) != nullptr;) {
      const order_t order(p->order);
      free_pages(self.m, p, order);
      freed += kmem::nr_pages(order).raw();
    }
    return freed;
  }
  page* take() {
    lock.lock();
    page* const p = nr_pages != 0 ? pages[--nr_pages] : nullptr;
    lock.unlock();
    return p;
  }
  void add(page* p) {
    if (p == nullptr) return;
    lock.lock();
    KMEM_SIM_CHECK(nr_pages < 4096);
    pages[nr_pages++] = p;
    lock.unlock();
  }
  void start() {
    machine_config config;
    config.cgroup = false;
    config.mem = 8 << 20;
    config.cpus = 2;
    config.min_free_kbytes = 128;  // high is a few pages above low, so that memory is short again in no time
    config.kswapd = kswapd_mode::on;
    config_error error;
    KMEM_SIM_CHECK(machine_init(m, config, error) == err::ok);
    KMEM_SIM_CHECK(register_callback(m, {this, drop, gfp::none}) >= 0);
    simulation::run_alone(true);  // the way there is not what is tried
    while (some_zone_above(m, watermark::low, 8, zone_idx::normal)) add(alloc_pages(m, gfp::memalloc | gfp::nowarn, order_t(0)));
    simulation::run_alone(false);
  }
  bool sleeps() const { return m.kswapd.word.load_relaxed() == 0; }
  void end() {
    KMEM_SIM_CHECK(machine_destroy(m));
  }
};

simulation::config knobs_for_pressure() {
  simulation::config knobs;
  knobs.nr_cpus = 2;
  knobs.spurious_chance = 0;
  knobs.max_steps = 20'000'000;
  return knobs;
}

void pause(uint64_t ns) {
  atomic<uint32_t> word{0};
  plat::futex_wait(word.word(), 0, ns);
}

constexpr uint64_t ns_per_ms = 1'000'000;

/// Allocators that go on together, round after round, so that the last request of each round is the last one for a while.
struct rounds {
  atomic<uint32_t> round{0}, done{0};
  static constexpr uint32_t last = 8, tasks = 3;

  void wait_for(uint32_t wanted) {
    while (round.load_relaxed() < wanted) pause(ns_per_ms);
  }
};

// Whoever allocates below low wakes it: while it works, while it is just going to sleep, in its short sleep and in its long one.
TEST(SimKswapd, NoWakeUpIsLost) {
  expect_seeds_pass(
      [](world& w) {
        auto& k = w.make<kswapd_world>();
        auto& all = w.make<rounds>();
        k.start();
        for (uint32_t i = 0; i < rounds::tasks; ++i)
          w.spawn("allocator", [&k, &all, i] {
            for (uint32_t round = 0; round < rounds::last; ++round) {
              all.wait_for(round);
              // Of order 3, one is enough to come from high to low.
              for (int n = 0; n < 25; ++n) k.add(alloc_pages(k.m, i == 0 ? gfp::atomic : gfp::kernel, order_t(n % 2 == 0 ? 3 : 0)));
              all.done.fetch_add_relaxed(1);
            }
          });
        w.spawn("judge", [&k, &all] {
          for (uint32_t round = 0; round < rounds::last; ++round) {
            while (all.done.load_relaxed() != (round + 1) * rounds::tasks) pause(ns_per_ms);
            // In less than its short sleep all that was asked for is done.
            for (int ms = 0; ms < 50 && !k.sleeps(); ++ms) pause(ns_per_ms);
            KMEM_SIM_CHECK(k.sleeps());
            KMEM_SIM_CHECK(some_zone_above(k.m, watermark::low, 1, zone_idx::normal));
            if (round % 4 == 3) pause(150 * ns_per_ms);  // to its long sleep
            all.round.store_relaxed(round + 1);
          }
        });
        w.at_end([&k] {
          KMEM_SIM_CHECK(k.m.kswapd.life.load_relaxed() == kswapd_life::running);
          k.end();
        });
      },
      knobs_for_pressure(), 100);
}

/// What happens between the end of kswapd's work and its sleep, for a test that must be in time: it fills the reclaimers' pool then.
struct late_request {
  atomic<uint32_t> kswapd_waits{0}, made{0};
  static inline late_request* now = nullptr;

  static bool hold_kswapd(simulation::platform_call call, size_t) noexcept {
    char name[16];
    plat::thread_name(name, sizeof name);
    if (call != simulation::platform_call::populate || name[0] != 'k' || now->kswapd_waits.exchange_relaxed(1) != 0) return false;
    while (now->made.load_relaxed() == 0) plat::relax(0);
    return false;
  }
};

// kswapd has seen that there is enough, and is on its way to sleep, when somebody takes it all and asks for more.
TEST(SimKswapd, ARequestWhileItIsGoingToSleepIsHeard) {
  expect_seeds_pass(
      [](world& w) {
        auto& k = w.make<kswapd_world>();
        auto& late = w.make<late_request>();
        k.start();
        k.m.memalloc_pool_target += 8;
        late_request::now = &late;
        simulation::set_fail_hook(late_request::hold_kswapd);
        w.spawn("early", [&k] {
          while (k.m.kswapd.life.load_relaxed() != kswapd_life::running) k.add(alloc_pages(k.m, gfp::kernel, order_t(0)));
        });
        w.spawn("late", [&k, &late] {
          while (late.kswapd_waits.load_relaxed() == 0) plat::relax(0);
          while (some_zone_above(k.m, watermark::low, 1, zone_idx::normal)) k.add(alloc_pages(k.m, gfp::nowait, order_t(0)));
          k.add(alloc_pages(k.m, gfp::nowait, order_t(0)));
          late.made.store_relaxed(1);
          pause(50 * ns_per_ms);  // less than its short sleep
          KMEM_SIM_CHECK(some_zone_above(k.m, watermark::low, 1, zone_idx::normal));
        });
        w.at_end([&k] { k.end(); });
      },
      knobs_for_pressure(), 30);
}

TEST(SimKswapd, GivesUpAndStartsAgainAfterAFree) {
  expect_seeds_pass(
      [](world& w) {
        auto& k = w.make<kswapd_world>();
        k.start();
        k.generous.store_relaxed(0);
        w.spawn("allocator", [&k] {
          page* held = nullptr;
          while (k.m.kswapd.hopeless.load_acquire() == 0) {  // pairs: kswapd_hopeless
            page* const p = alloc_pages(k.m, gfp::kernel | gfp::noretry | gfp::nowarn, order_t(0));
            if (p != nullptr && held == nullptr)
              held = p;
            else
              k.add(p);
            plat::relax(0);
          }
          KMEM_SIM_CHECK(held != nullptr);
          while (!k.sleeps()) plat::relax(0);
          k.generous.store_relaxed(1);
          free_pages(k.m, held, order_t(0));
          k.add(alloc_pages(k.m, gfp::nowait | gfp::nowarn, order_t(0)));
          k.add(alloc_pages(k.m, gfp::nowait | gfp::nowarn, order_t(0)));
          while (!some_zone_above(k.m, watermark::high, 1, zone_idx::normal)) {
            KMEM_SIM_CHECK(!k.sleeps() || k.m.kswapd.hopeless.load_relaxed() == 0);
            plat::relax(0);
          }
        });
        w.at_end([&k] { k.end(); });
      },
      knobs_for_pressure(), 40);
}

// Ended at any moment: asleep, on its way there, at work, or not there yet.
TEST(SimKswapd, EndsAndStartsAgain) {
  expect_seeds_pass(
      [](world& w) {
        auto& k = w.make<kswapd_world>();
        k.start();
        w.spawn("owner", [&k] {
          for (int round = 0; round < 4; ++round) {
            for (int i = 0; i < 10; ++i) k.add(alloc_pages(k.m, gfp::kernel, order_t(0)));
            kswapd_stop(k.m);
            KMEM_SIM_CHECK(k.m.kswapd.life.load_relaxed() == kswapd_life::none && plat::nr_service_threads() == 0);
          }
        });
        w.at_end([&k] { k.end(); });
      },
      knobs_for_pressure(), 60);
}

// The system refuses threads: everybody reclaims for himself.
TEST(SimKswapd, WithoutAThreadAllocationsReclaimThemselves) {
  simulation::config knobs = knobs_for_pressure();
  knobs.fail_chance[static_cast<unsigned>(simulation::platform_call::start_thread)] = 1000;
  expect_seeds_pass(
      [](world& w) {
        auto& k = w.make<kswapd_world>();
        k.start();
        for (int i = 0; i < 2; ++i)
          w.spawn("allocator", [&k] {
            for (int round = 0; round < 60; ++round) {
              page* const p = alloc_pages(k.m, gfp::kernel, order_t(0));
              KMEM_SIM_CHECK(p != nullptr);
              k.add(p);
            }
          });
        w.at_end([&k] {
          KMEM_SIM_CHECK(k.m.kswapd.life.load_relaxed() == kswapd_life::none);
          k.end();
        });
      },
      knobs, 20);
}

}  // namespace
}  // namespace kmem::sim_test
