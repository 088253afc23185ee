// The choice of the budget: what was stated, the container's limit with its headroom, physical memory.
#include <gtest/gtest.h>

#include "memmap/memmap.hpp"
#include "unit/memmap/fake_system.hpp"

namespace kmem {
namespace {

constexpr uint64_t mib = 1024 * 1024;

class BudgetTest : public testing::Test {
 protected:
  BudgetTest() {
    config_.path_prefix = system_.prefix();
    system_.proc("0::/a/b\n", test::mount2);
  }
  void outer(uint64_t limit_mib, uint64_t usage_mib, uint64_t inactive_mib = 0) {
    group("/sys/fs/cgroup/a", limit_mib, usage_mib, inactive_mib);
  }
  void inner(uint64_t limit_mib, uint64_t usage_mib, uint64_t inactive_mib = 0) {
    group("/sys/fs/cgroup/a/b", limit_mib, usage_mib, inactive_mib);
  }
  uint64_t budget_mib() const {
    const nr_pages_t pages = choose_budget(config_);
    EXPECT_EQ(pages, choose_budget_explained(config_).pages);
    EXPECT_EQ(bytes(pages) % mib, 0u);
    return bytes(pages) / mib;
  }
  machine_config config_;
  test::fake_system system_;

 private:
  void group(const char* path, uint64_t limit_mib, uint64_t usage_mib, uint64_t inactive_mib) {
    system_.group2(path, std::to_string(limit_mib * mib), "max", usage_mib * mib, inactive_mib * mib);
  }
};

TEST_F(BudgetTest, StatedBudgetCountsAlone) {
  inner(64, 60);
  config_.mem = 300 * mib;
  EXPECT_EQ(budget_mib(), 300u);
  EXPECT_EQ(choose_budget_explained(config_).source, budget_source::stated);
  config_.mem = 300 * mib + 4097;
  EXPECT_EQ(choose_budget(config_), nr_pages_t((300 << 8) + 1)) << "whole pages, not rounded further";
}

TEST_F(BudgetTest, EightyPercentOfTheContainersLimit) {
  inner(500, 0);
  EXPECT_EQ(budget_mib(), 400u);
  const budget_choice choice = choose_budget_explained(config_);
  EXPECT_EQ(choice.source, budget_source::cgroup);
  EXPECT_EQ(choice.cgroup_limit_bytes, 500 * mib);
  EXPECT_EQ(choice.physical_bytes, plat::physical_bytes());
  inner(512, 0);
  EXPECT_EQ(budget_mib(), 408u) << "409.6 rounded down to 4 MiB";
}

TEST_F(BudgetTest, UsageBeyondHalfOfTheHeadroomIsLeftToOthers) {
  inner(1000, 100);
  EXPECT_EQ(budget_mib(), 800u) << "within half of the headroom";
  inner(1000, 300);
  EXPECT_EQ(budget_mib(), 600u);
  inner(1000, 300, 200);
  EXPECT_EQ(budget_mib(), 800u) << "inactive file cache does not count";
  EXPECT_EQ(choose_budget_explained(config_).cgroup_usage_bytes, 100 * mib);
  inner(1000, 990);
  EXPECT_EQ(budget_mib(), 4u) << "never below the least";
}

TEST_F(BudgetTest, TheLevelThatLeavesLeastCounts) {
  inner(500, 10);
  outer(600, 500);
  EXPECT_EQ(budget_mib(), 40u) << "the outer group has the larger limit, but is nearly full";
  EXPECT_EQ(choose_budget_explained(config_).cgroup_limit_bytes, 600 * mib);
  outer(6000, 500);
  EXPECT_EQ(budget_mib(), 400u);
}

TEST_F(BudgetTest, TinyContainerGetsTheLeast) {
  inner(1, 0);
  EXPECT_EQ(budget_mib(), 4u);
  system_.group2("/sys/fs/cgroup/a/b", "0");
  EXPECT_EQ(budget_mib(), 4u);
}

TEST_F(BudgetTest, PhysicalMemoryWithoutALimit) {
  const uint64_t physical = std::min(plat::physical_bytes(), max_budget_bytes) / (4 * mib) * 4;
  EXPECT_EQ(budget_mib(), physical);
  EXPECT_EQ(choose_budget_explained(config_).source, budget_source::physical);
  inner(64, 0);
  config_.cgroup = false;
  EXPECT_EQ(budget_mib(), physical) << "cgroup=0";
  config_.cgroup = true;
  inner(plat::physical_bytes() / mib * 2, 0);
  EXPECT_EQ(budget_mib(), physical) << "a limit above what there is";
}

TEST_F(BudgetTest, PercentageOfTheLimitOrOfPhysicalMemory) {
  config_.mem_percent = 50;
  const uint64_t physical = plat::physical_bytes();
  EXPECT_EQ(budget_mib(), (physical / 100 * 50 + physical % 100 * 50 / 100) / (4 * mib) * 4);
  EXPECT_EQ(choose_budget_explained(config_).source, budget_source::percent_of_physical);
  inner(200, 190);
  EXPECT_EQ(budget_mib(), 100u) << "what others use is the user's business when he states a share";
  EXPECT_EQ(choose_budget_explained(config_).source, budget_source::percent_of_cgroup);
  config_.mem_percent = 1;
  EXPECT_EQ(budget_mib(), 4u);
  config_.mem_percent = 100;
  EXPECT_EQ(budget_mib(), 200u);
  config_.cgroup = false;
  EXPECT_EQ(choose_budget_explained(config_).source, budget_source::percent_of_physical);
}

TEST_F(BudgetTest, SourcesHaveNames) {
  for (const budget_source source : {budget_source::stated, budget_source::percent_of_cgroup, budget_source::percent_of_physical,
                                     budget_source::cgroup, budget_source::physical})
    EXPECT_STRNE(budget_source_name(source), "?");
}

TEST_F(BudgetTest, IsEnoughForAMachine) {
  inner(1, 0);
  memory_map map;
  EXPECT_EQ(memmap_init(map, config_, choose_budget(config_), nr_pages_t(16 << 8), choose_budget(config_)), err::ok);
  memmap_destroy(map);
}

}  // namespace
}  // namespace kmem
