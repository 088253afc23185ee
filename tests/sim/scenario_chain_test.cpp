// The whole chain under load: sleepers that are judged, kswapd, shrinkers, OOM notifiers, mempools, reservations and bounded waits.
#include <gtest/gtest.h>

#include "sim/scenario_world.hpp"

namespace kmem::sim_test {
namespace {

load chain_load() {
  load wanted;
  wanted.tight = 90;
  wanted.spare = 4;
  wanted.chain = 40;
  wanted.judged = true;
  wanted.waits = true;
  wanted.rounds = 30;
  wanted.most_order = 4;
  wanted.forks = 30;
  return wanted;
}

simulation::config chain_knobs(int nr_cpus) {
  simulation::config knobs;
  knobs.nr_cpus = nr_cpus;
  knobs.signal_chance = 1;
  knobs.spurious_chance = 0;  // a wake-up that is lost must not be made up for
  return knobs;
}

class SimChain : public testing::TestWithParam<uint64_t> {};

TEST_P(SimChain, EightCpus) {
  coverage seen;
  load wanted = chain_load();
  wanted.parameters = {"mem=5M vm.alloc_wait_ms=20",
                       "mem=6M vm.alloc_wait_ms=20 vm.kswapd=1 vm.keep_free_kbytes=0",
                       "mem=5M vm.alloc_wait_ms=200 vm.kswapd=1",
                       "mem=6M vm.alloc_wait_ms=20 vm.reserve_policy=linux6.1",
                       "mem=8M zone_dma=1M vm.alloc_wait_ms=20 vm.kswapd=1",
                       "mem=5M vm.alloc_wait_ms=20 vm.reserve_backed_kbytes=0"};
  expect_load_passes(wanted, chain_knobs(8), 35, seen, GetParam());
  if (runs_few_seeds()) return;
  // A load that does not reach what it is for proves nothing.
  const std::pair<const char*, uint64_t> reached[] = {
      {"NULLs checked where they came up", seen.exact_nulls},
      {"forks", seen.forks},
      {"shrinkers", seen.shrinkers},
      {"shrinkers removed while somebody is inside", seen.shrinkers_removed_inside},
      {"scans", seen.shrinker_scans},
      {"objects from shrinkers", seen.shrinker_objects},
      {"allocations inside of shrinkers", seen.shrinker_allocations},
      {"OOM notifiers", seen.notifiers},
      {"calls of OOM notifiers", seen.notifier_calls},
      {"pages from OOM notifiers", seen.notifier_pages},
      {"rounds of kswapd", seen.kswapd_rounds},
      {"scans by kswapd", seen.kswapd_scans},
      {"elements of mempools", seen.elements},
      {"waits for elements", seen.element_waits},
      {"reservations", seen.reservations},
      {"objects that were set aside", seen.reserved_objects},
      {"waits that timed out", seen.waits_timed_out},
      {"waits that were interrupted", seen.waits_interrupted},
      {"waits that were stopped", seen.waits_stopped},
      {"turns of waiters", seen.turns},
      {"sleeps with nothing left", seen.sound_sleeps},
      {"sleeps while somebody was about to wake", seen.suspect_sleeps},
      {"sleepers judged while all were quiet", seen.judged_sleepers},
  };
  for (const auto& [what, count] : reached) EXPECT_GT(count, 0u) << what;
}

INSTANTIATE_TEST_SUITE_P(Seeds, SimChain, testing::Values(1, 1001, 2001));

/// `seeds` worlds of a machine with many CPUs, of which a call to the platform fails now and then.
void expect_many_cpus_pass(int nr_cpus, uint64_t seeds) {
  coverage seen;
  load wanted = chain_load();
  wanted.parameters = {"mem=24M vm.alloc_wait_ms=20 vm.kswapd=1"};
  wanted.nr_tasks = 24;
  wanted.rounds = 12;
  wanted.tight = 100;
  wanted.spare = 20;
  wanted.platform_failures = 20;
  simulation::config knobs = chain_knobs(nr_cpus);
  knobs.migrate_chance = 100;
  expect_load_passes(wanted, knobs, seeds, seen);
  if (runs_few_seeds()) return;
  EXPECT_GT(seen.sleeps, 0u);
  EXPECT_GT(seen.kswapd_rounds, 0u);
  EXPECT_GT(seen.platform_failures, 0u);
}

TEST(SimChainSpecial, SixtyFourCpus) { expect_many_cpus_pass(64, 6); }
TEST(SimChainSpecial, TwoHundredAndFiftySixCpus) { expect_many_cpus_pass(256, 3); }

}  // namespace
}  // namespace kmem::sim_test
