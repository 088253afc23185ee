// The whole core under load: eight virtual CPUs, one thousand seeds, a hundred in each test.
#include <gtest/gtest.h>

#include "sim/scenario_world.hpp"

namespace kmem::sim_test {
namespace {

class SimCore : public testing::TestWithParam<uint64_t> {};

TEST_P(SimCore, EightCpusOneHundredSeeds) {
  coverage seen;
  load wanted;
  wanted.parameters = {"mem=5M", "mem=6M", "mem=8M", "mem=12M", "mem=6M vm.reserve_policy=linux6.1", "mem=8M max_order=10"};
  simulation::config knobs;
  knobs.nr_cpus = 8;
  knobs.signal_chance = 1;
  expect_load_passes(wanted, knobs, 100, seen, GetParam());
  if (runs_few_seeds()) return;
  // A load that does not reach what it is for proves nothing.
  const std::pair<const char*, uint64_t> reached[] = {{"NULLs checked where they came up", seen.exact_nulls},
                                                      {"NULLs checked while all were quiet", seen.quiet_nulls},
                                                      {"NULLs in handlers", seen.nested_nulls},
                                                      {"handlers", seen.handlers_run},
                                                      {"walks", seen.walks},
                                                      {"forks", seen.forks},
                                                      {"pages from callbacks", seen.callback_pages},
                                                      {"caches made", seen.caches_made},
                                                      {"objects freed by another task", seen.handed_over},
                                                      {"blocking passes", seen.stalls},
                                                      {"pages given back", seen.given_back},
                                                      {"pages of the reserve", seen.reserve_used},
                                                      {"deferred frees", seen.deferred},
                                                      {"drains", seen.drains}};
  for (const auto& [what, count] : reached) EXPECT_GT(count, 0u) << what;
  RecordProperty("operations", static_cast<int>(seen.operations));
  RecordProperty("nulls", static_cast<int>(seen.nulls));
}

INSTANTIATE_TEST_SUITE_P(Seeds, SimCore, testing::Values(1, 1001, 2001, 3001, 4001, 5001, 6001, 7001, 8001, 9001));

}  // namespace
}  // namespace kmem::sim_test
