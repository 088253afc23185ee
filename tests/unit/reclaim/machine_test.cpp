#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "machine_fixture.hpp"

namespace kmem {
namespace {

using test::config_of;

/// Address space of the process in pages, as /proc/self/statm has it.
size_t mapped_pages() {
  size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages;
}

TEST(machine_test, comes_up_serves_and_leaves_no_mapping_behind) {
  auto m = std::make_unique<machine>();
  config_error error;
  for (const char* parameters :
       {"mem=16M", "mem=64M backing=memfd", "mem=32M highmem=8M movablecore=4M zone_dma32=4M", "mem=1G max_order=10"}) {
    size_t before = 0;
    for (int round = 0; round < 3; ++round) {  // the first round may make the C library map something of its own
      if (round == 1) before = mapped_pages();
      ASSERT_EQ(machine_init(*m, config_of(parameters), error), err::ok) << parameters << ": " << error.text;
      EXPECT_EQ(machine_is_valid(*m), nullptr);
      void* const small = kmalloc(*m, 100, gfp::kernel);
      void* const large = kmalloc(*m, 1 << 20, gfp::kernel);
      void* const area = vmalloc(*m, 1 << 20, gfp::kernel, nullptr);  // left for machine_destroy to take back
      page* const block = alloc_pages(*m, gfp::kernel, order_t(3));
      EXPECT_TRUE(small != nullptr && large != nullptr && area != nullptr && block != nullptr) << parameters;
      EXPECT_TRUE(machine_destroy(*m));
    }
    EXPECT_EQ(mapped_pages(), before) << parameters;
  }
}

TEST(machine_test, a_parameter_says_what_a_broken_context_rule_does) {
  EXPECT_EXIT(
      {
        machine m;
        config_error error;
        if (machine_init(m, test::config_of("mem=8M context_policy=abort"), error) != err::ok) _exit(1);
        const preempt_guard guard;
        kfree(m, kmalloc(m, 100, gfp::kernel));
        _exit(0);
      },
      ::testing::KilledBySignal(SIGABRT), "sleeping function called from invalid context");
  EXPECT_EXIT(
      {
        machine m;
        config_error error;
        if (machine_init(m, test::config_of("mem=8M context_policy=count"), error) != err::ok) _exit(1);
        const preempt_guard guard;
        const uint64_t before = context_violations();
        kfree(m, kmalloc(m, 100, gfp::kernel));
        _exit(context_violations() == before + 1 ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "^$");
}

TEST(machine_test, a_refused_machine_says_why_and_can_be_tried_again) {
  auto m = std::make_unique<machine>();
  const printk_sink sink = set_printk_sink(test::log_sink);
  config_error error;
  machine_config wrong;
  wrong.mem = 1 << 20;
  EXPECT_EQ(machine_init(*m, wrong, error), err::inval);
  EXPECT_NE(std::string(error.text), "");
  machine_config crowded;
  crowded.mem = 16 << 20;
  crowded.zone_highmem = 15 << 20;
  error = {};
  EXPECT_NE(machine_init(*m, crowded, error), err::ok);
  EXPECT_NE(std::string(error.text), "");
  EXPECT_EQ(machine_init(*m, config_of("mem=16M"), error), err::ok);
  EXPECT_TRUE(machine_destroy(*m));
  set_printk_sink(sink);
}

// Every passage of a fail point during set-up, one after the other: no mapping is left, and the next attempt works.
TEST(machine_test, set_up_survives_every_refusal) {
  auto m = std::make_unique<machine>();
  const printk_sink sink = set_printk_sink(test::log_sink);
  config_error error;
  for (const bool persistent : {false, true}) {
    size_t before = 0;
    bool passed_all = false;
    for (uint32_t nth = 1; nth < 500 && !passed_all; ++nth) {
      if (nth == 2) before = mapped_pages();
      {
        const fail_nth_scope fail(nth, persistent);
        const err result = machine_init(*m, config_of("mem=16M"), error);
        passed_all = !fail.hit();
        if (result == err::ok) {
          EXPECT_EQ(machine_is_valid(*m), nullptr) << nth;
        } else {
          EXPECT_NE(std::string(error.text), "") << nth;
          continue;
        }
      }
      EXPECT_TRUE(machine_destroy(*m)) << nth;
      if (nth > 2) {
        EXPECT_EQ(mapped_pages(), before) << nth;
      }
    }
    EXPECT_TRUE(passed_all);
  }
  set_printk_sink(sink);
}

TEST(machine_test, damage_is_found_and_nothing_is_torn_down) {
  auto m = std::make_unique<machine>();
  const printk_sink sink = set_printk_sink(test::log_sink);
  config_error error;
  ASSERT_EQ(machine_init(*m, config_of("mem=16M"), error), err::ok);
  m->vmalloc_pages.store_relaxed(3);
  EXPECT_FALSE(machine_destroy(*m));
  EXPECT_NE(test::take_log().find("vmalloc_pages"), std::string::npos);
  void* const p = kmalloc(*m, 10, gfp::kernel);
  EXPECT_NE(p, nullptr);
  kfree(*m, p);
  m->vmalloc_pages.store_relaxed(0);
  EXPECT_TRUE(machine_destroy(*m));
  set_printk_sink(sink);
}

TEST(machine_test, fail_points_of_the_configuration_act_after_set_up) {
  auto m = std::make_unique<machine>();
  config_error error;
  ASSERT_EQ(machine_init(*m, config_of("mem=16M failslab=1,100,0,2"), error), err::ok) << error.text;
  EXPECT_EQ(kmalloc(*m, 10, gfp::kernel | gfp::nowarn), nullptr);
  EXPECT_EQ(kmalloc(*m, 10, gfp::kernel | gfp::nowarn), nullptr);
  void* const p = kmalloc(*m, 10, gfp::kernel);
  EXPECT_NE(p, nullptr);
  kfree(*m, p);
  EXPECT_TRUE(machine_destroy(*m));
  set_fail_attributes(fail_point::failslab, {});
}

}  // namespace
}  // namespace kmem
