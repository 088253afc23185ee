// The rules as data: what they say is what the tables of the core say.

#include <gtest/gtest.h>

#include <kmem/rules.hpp>
#include <set>
#include <string>

#include "page_alloc/rights.hpp"

namespace kmem {
namespace {

TEST(rules, every_parameter_has_a_name_of_its_own_and_help) {
  std::set<std::string> names;
  parameter_rule rule;
  unsigned count = 0;
  for (; read_parameter_rule(count, rule); ++count) {
    EXPECT_TRUE(names.insert(rule.name).second) << rule.name;
    EXPECT_STRNE(rule.help, "") << rule.name;
    EXPECT_STRNE(rule.values, "") << rule.name;
  }
  EXPECT_EQ(count, parameters().size());
  EXPECT_TRUE(names.contains("mem"));
  EXPECT_TRUE(names.contains("vm.min_free_kbytes"));
}

TEST(rules, parameters_are_checked_as_init_would) {
  char error[100] = "untouched";
  EXPECT_TRUE(check_parameters("mem=64M vm.kswapd=0", error, sizeof error));
  EXPECT_TRUE(check_parameters("", error, sizeof error));
  EXPECT_STREQ(error, "untouched");
  EXPECT_FALSE(check_parameters("mem=lots", error, sizeof error));
  EXPECT_STREQ(error, "mem=lots: expected auto, N% or a size of 4M to 8T, as in mem=512M");
  EXPECT_FALSE(check_parameters("mem=lots", error, 5));
  EXPECT_STREQ(error, "mem=");
}

TEST(rules, steps_are_those_of_the_chain_with_the_same_rights) {
  for (const gfp_t mask : {gfp::kernel, gfp::atomic, gfp::nowait, gfp::noio, gfp::nofs, gfp::kernel | gfp::noretry,
                           gfp::kernel | gfp::nofail, gfp::kernel | gfp::nomemalloc, gfp::none}) {
    for (const unsigned order : {0u, 3u, 10u}) {
      chain_step_rule rule;
      unsigned count = 0;
      for (; read_chain_step_rule(count, mask, order, rule); ++count) {
        const auto step = static_cast<chain_step>(count);
        EXPECT_STREQ(rule.name, chain_step_name(step));
        EXPECT_EQ(rule.permitted, step_permitted(step, mask, order_t(order))) << rule.name;
        EXPECT_STRNE(rule.about, "");
      }
      EXPECT_EQ(count, nr_chain_steps);
    }
  }
}

TEST(rules, passes) {
  EXPECT_EQ(chain_passes(gfp::kernel | gfp::nofail, 0), 0u);
  EXPECT_EQ(chain_passes(gfp::kernel | gfp::noretry, 0), 1u);
  EXPECT_EQ(chain_passes(gfp::kernel, costly_order), 1 + chain_retries);
  EXPECT_EQ(chain_passes(gfp::kernel, costly_order + 1), 1u);
  EXPECT_EQ(chain_passes(gfp::kernel | gfp::retry_mayfail, costly_order + 1), 1 + chain_retries);
}

TEST(rules, highest_zone) {
  EXPECT_STREQ(highest_zone(gfp::kernel), "Normal");
  EXPECT_STREQ(highest_zone(gfp::kernel | gfp::dma), "DMA");
  EXPECT_STREQ(highest_zone(gfp::highuser), "HighMem");
  EXPECT_STREQ(highest_zone(gfp::highuser_movable), "Movable");
}

}  // namespace
}  // namespace kmem
