// The whole core under load: eight virtual CPUs, one thousand seeds, and smaller runs of what is special.
#include <gtest/gtest.h>

#include <cstdio>

#include "sim/scenario_world.hpp"

namespace kmem::sim_test {
namespace {

simulation::config cpus(int nr) {
  simulation::config knobs;
  knobs.nr_cpus = nr;
  knobs.signal_chance = 1;
  return knobs;
}

/// Each figure that must not be zero, by name, so that a load that does not reach what it is for fails.
#define KMEM_EXPECT_REACHED(seen, what) EXPECT_GT((seen).what, 0u) << "the load never got there"

TEST(SimCore, EightCpusOneThousandSeeds) {
  coverage seen;
  load wanted;
  wanted.parameters = {"mem=5M", "mem=6M", "mem=8M", "mem=12M", "mem=6M vm.reserve_policy=linux6.1", "mem=8M max_order=10"};
  expect_load_passes(wanted, cpus(8), 1000, seen);
  std::printf(
      "operations %lu, NULLs %lu (checked in place %lu, quiet %lu, served when quiet %lu, in handlers %lu), handlers %lu, walks %lu, forks "
      "%lu,"
      " stalls %lu, given back %lu, reserve %lu, callbacks %lu (%lu pages), deferred %lu\n",
      seen.operations, seen.nulls, seen.exact_nulls, seen.quiet_nulls, seen.served_when_quiet, seen.nested_nulls, seen.handlers_run,
      seen.walks, seen.forks, seen.stalls, seen.given_back, seen.reserve_used, seen.callbacks_run, seen.callback_pages, seen.deferred);
  if (runs_few_seeds()) return;
  KMEM_EXPECT_REACHED(seen, exact_nulls);
  KMEM_EXPECT_REACHED(seen, quiet_nulls);
  KMEM_EXPECT_REACHED(seen, nested_nulls);
  KMEM_EXPECT_REACHED(seen, handlers_run);
  KMEM_EXPECT_REACHED(seen, walks);
  KMEM_EXPECT_REACHED(seen, forks);
  KMEM_EXPECT_REACHED(seen, callback_pages);
  KMEM_EXPECT_REACHED(seen, caches_made);
  KMEM_EXPECT_REACHED(seen, handed_over);
  KMEM_EXPECT_REACHED(seen, stalls);
  KMEM_EXPECT_REACHED(seen, given_back);
  KMEM_EXPECT_REACHED(seen, reserve_used);
  KMEM_EXPECT_REACHED(seen, reclaimed);
  KMEM_EXPECT_REACHED(seen, deferred);
  KMEM_EXPECT_REACHED(seen, drains);
}

}  // namespace
}  // namespace kmem::sim_test
