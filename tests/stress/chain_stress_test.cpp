// The whole chain on real threads: what the simulation runs one step at a time runs at once here. KMEM_TEST_FULL=1 for a minute a test;
// KMEM_SEED=n for other operations and another reserve policy.
#include "stress/chain_load.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>

#include <kmem/info.hpp>

#include "interrupt/interrupt.hpp"

namespace kmem::stress {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

milliseconds duration() { return milliseconds(std::getenv("KMEM_TEST_FULL") != nullptr ? 60'000 : 3'000); }

uint64_t seed() {
  const char* const text = std::getenv("KMEM_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
}

/// The process's machine, as forks and the LRU cache know no other one. Each test ends with everything back.
class StressChain : public ::testing::Test {
 protected:
  static machine& process_machine() {
    static const bool started = [] {
      std::string parameters = "mem=8M cpus=8 cgroup=0 zone_dma=1M vm.kswapd=1 vm.alloc_wait_ms=20 vm.sleep_record_ms=10";
      parameters += " vm.reclaim_checker=1";
      if (seed() % 2 == 0) parameters += " vm.reserve_policy=linux6.1";
      machine_config config;
      config_error error;
      const bool good = parse_config(parameters.c_str(), config, error) && process_machine_init(config, error) == err::ok;
      EXPECT_TRUE(good) << error.text;
      return good;
    }();
    EXPECT_TRUE(started);
    return process.object;
  }

  void SetUp() override {
    std::printf("KMEM_SEED=%llu\n", static_cast<unsigned long long>(seed()));
    before_ = set_printk_sink(nullptr);
    machine& m = process_machine();
    settle(m);
    charged_ = charged_pages(m);
    failures_ = m.failure_sequence.load_relaxed();
    sleeps_ = m.sleep_sequence.load_relaxed();
    began_ns_ = plat::now_ns();
  }
  void TearDown() override {
    machine& m = process_machine();
    if (!forks_) {  // quiet moments end it, and it may not have been needed since
      EXPECT_EQ(m.kswapd.life.load_acquire(), kswapd_life::running);
    }
    const char* const damage = validate();
    EXPECT_EQ(damage, nullptr) << damage;
    EXPECT_EQ(m.kswapd.life.load_acquire(), kswapd_life::none) << "it may have been at work during the walk";
    settle(m);
    check_nobody_is_left(m);
    check_memory(m);
    check_sleeps(m);
    check_failures(m);
    stop_interrupt_service();
    set_printk_sink(before_);
  }

  /// `fails`: percent of the passages of each fail point.
  void run(bool forks, uint32_t fails) {
    forks_ = forks;
    chain_load load(process_machine(), seed());
    load.run(duration(), forks, fails);
    show(load.counts);
    for (unsigned i = 0; i < nr_fail_points; ++i) EXPECT_EQ(load.counts.failed[i] != 0, fails != 0);
    EXPECT_GT(load.counts.nulls.load(), 0u) << "the machine never ran short";
    EXPECT_GT(load.counts.scans.load(), 0u);
    EXPECT_GT(load.counts.never_failed.load(), 0u);
    EXPECT_GT(load.counts.elements.load(), 0u);
    EXPECT_GT(load.counts.reserved.load(), 0u);
    EXPECT_GT(load.counts.lru_hits.load(), 0u);
    EXPECT_GT(load.counts.tasklets.load(), 0u);
    EXPECT_GT(load.counts.timers.load(), 0u);
    EXPECT_GT(load.counts.interrupts.load(), 0u);
    if (forks) {
      EXPECT_GT(load.counts.forks.load(), 0u);
    }
  }

 private:
  static void settle(machine& m) {
    kswapd_stop(m);
    drain_deferred_vfree(m);
    drain_cpu_pages(m, true);
    drain_caches(m, true);
    drain_cpu_pages(m, true);
    refill_reserve(m);
  }

  static void show(const chain_counts& c) {
    const struct {
      const char* name;
      const std::atomic<uint64_t>& value;
    } all[] = {{"operations", c.operations}, {"nulls", c.nulls}, {"timed out", c.timed_out}, {"interrupted", c.interrupted},
               {"stopped", c.stopped}, {"served", c.served}, {"never failed", c.never_failed}, {"scans", c.scans},
               {"pieces scanned", c.scanned}, {"kswapd's scans", c.kswapd_scans}, {"scans that allocate", c.scan_allocations},
               {"shrinkers removed", c.removed}, {"notifiers asked", c.notified}, {"elements", c.elements}, {"resizes", c.resizes},
               {"reserved", c.reserved}, {"caches", c.caches}, {"LRU hits", c.lru_hits}, {"LRU evicted", c.lru_evicted},
               {"tasklets", c.tasklets}, {"timers", c.timers}, {"interrupts", c.interrupts}, {"kept by handlers", c.kept_by_handlers},
               {"forks", c.forks}, {"quiet moments", c.quiet_moments}};
    for (const auto& one : all) std::printf("%s %llu, ", one.name, static_cast<unsigned long long>(one.value.load()));
    std::printf("\n");
  }

  static void check_nobody_is_left(machine& m) {
    EXPECT_EQ(m.waiters.load_relaxed(), 0u);
    {
      const lock_guard hold(m.queue.lock);
      EXPECT_EQ(m.queue.first, nullptr) << "somebody is still in the queue of those who wait";
      EXPECT_EQ(m.queue.transit_sleepers, 0u);
    }
    EXPECT_EQ(m.shrinkers.nr_shrinkers.load_relaxed(), 0u);
    EXPECT_EQ(m.shrinkers.nr_notifiers.load_relaxed(), 0u);
    EXPECT_EQ(nr_armed_timers(), 0u);
    EXPECT_EQ(interrupts.misuses.load_relaxed(), 0u);
    const char* const damage = interrupts_are_valid();
    EXPECT_EQ(damage, nullptr) << damage;
    EXPECT_EQ(context_violations(), 0u);
  }

  void check_memory(machine& m) const {
    EXPECT_EQ(charged_pages(m), charged_) << "pages are lost";
    uint64_t slab_pages = 0;
    cache_info info;
    for (unsigned i = 0; read_cache_info(m, i, info); ++i) {
      slab_pages += info.slabs * info.pages_per_slab;
      if (std::strcmp(info.name, "kmem_cache") != 0) {
        EXPECT_EQ(info.active, 0u) << "objects of " << info.name << " are lost";
      }
    }
    EXPECT_EQ(charged_pages(m), slab_pages);
    for (const zone& z : m.zones) EXPECT_GE(z.reserve.nr_pages.load_relaxed(), z.reserve_target.load_relaxed());
    EXPECT_GE(m.memalloc_pool.nr_pages.load_relaxed(), m.memalloc_pool_target);
    EXPECT_EQ(m.bad_frees.load_relaxed(), 0u);
    page_alloc_totals totals;
    page_alloc_read_totals(m, totals);
    EXPECT_EQ(totals.bad_pages, 0u);
    const char* const damage = machine_is_valid(m);
    EXPECT_EQ(damage, nullptr) << damage;
  }

  void check_sleeps(machine& m) const {
    const uint64_t last = m.sleep_sequence.load_relaxed(), now = plat::now_ns();
    unsigned kept = 0;
    for (uint64_t i = last > nr_sleep_records ? last - nr_sleep_records + 1 : 1; i <= last; ++i) {
      sleep_record r;
      if (i <= sleeps_ || !read_sleep(m, i, r)) continue;
      ++kept;
      EXPECT_EQ(r.sequence, i);
      EXPECT_TRUE(has(r.gfp, gfp::direct_reclaim)) << "somebody slept who may not";
      EXPECT_GE(r.slept_ns, m.config.sleep_record_ms * 1'000'000);
      EXPECT_GE(r.time_ns, began_ns_);
      EXPECT_LE(r.time_ns + r.slept_ns, now);
      EXPECT_NE(r.thread, 0);
      EXPECT_NE(r.outcome, wait_outcome::none);
      EXPECT_EQ(r.waker == 0, r.cause == wake_cause::none);
      if (r.wakes == 0) {
        EXPECT_EQ(r.waker, 0);
      }
      if (!may_fail(r.gfp)) {
        EXPECT_EQ(r.outcome, wait_outcome::served);
      }
      EXPECT_GT(r.pages, 0u);
    }
    EXPECT_EQ(kept, last - sleeps_ < nr_sleep_records ? last - sleeps_ : nr_sleep_records) << "records of sleeps cannot be read";
  }

  void check_failures(machine& m) const {
    const uint64_t last = m.failure_sequence.load_relaxed(), now = plat::now_ns();
    unsigned kept = 0;
    for (uint64_t i = last > nr_failure_records ? last - nr_failure_records + 1 : 1; i <= last; ++i) {
      alloc_failure f;
      if (i <= failures_ || !read_failure(m, i, f)) continue;
      ++kept;
      EXPECT_EQ(f.sequence, i);
      EXPECT_TRUE(may_fail(f.gfp)) << "__GFP_NOFAIL failed";
      EXPECT_GE(f.time_ns, began_ns_);
      EXPECT_LE(f.time_ns, now);
      EXPECT_EQ(f.limit, m.limit.raw());
      EXPECT_LE(f.free + f.charged, f.managed + f.in_cpu_lists);
      if (f.preempt_count != 0) {
        EXPECT_FALSE(has(f.gfp, gfp::direct_reclaim));
      }
    }
    EXPECT_EQ(kept, last - failures_ < nr_failure_records ? last - failures_ : nr_failure_records) << "records of failures cannot be read";
  }

  printk_sink before_ = nullptr;
  bool forks_ = false;
  uint64_t charged_ = 0, failures_ = 0, sleeps_ = 0, began_ns_ = 0;
};

TEST_F(StressChain, EverybodyAtOnce) { run(true, 0); }

TEST_F(StressChain, EverybodyWithoutForks) { run(false, 0); }

TEST_F(StressChain, EverybodyWithFailPointsOn) { run(true, 3); }

}  // namespace
}  // namespace kmem::stress
