// From options to the library's command line.

#include <gtest/gtest.h>

#include "tools/kmem/replay/command.hpp"

namespace kmem::tool::replay {
namespace {

TEST(replay_command, environment_first_then_mem_then_parameters) {
  settings from;
  std::string cmdline;
  std::string problem;
  const std::string own = "vm.alloc_wait_ms=10 vm.sleep_record_ms=0";
  EXPECT_TRUE(make_cmdline(from, nullptr, cmdline, problem));
  EXPECT_EQ(cmdline, own);
  EXPECT_TRUE(make_cmdline(from, "mem=1G", cmdline, problem));
  EXPECT_EQ(cmdline, "mem=1G " + own);
  from.mem = "64M";
  from.parameters = {"vm.min_free_kbytes=512", "max_order=10"};
  EXPECT_TRUE(make_cmdline(from, "mem=1G", cmdline, problem));
  EXPECT_EQ(cmdline, "mem=1G mem=64M vm.min_free_kbytes=512 max_order=10 " + own);
}

TEST(replay_command, one_thread_goes_without_kswapd_and_several_wait_unless_something_speaks_of_it) {
  settings from;
  std::string cmdline;
  std::string problem;
  from.mem = "64M";
  from.threads = 2;
  EXPECT_TRUE(make_cmdline(from, nullptr, cmdline, problem));
  EXPECT_EQ(cmdline, "mem=64M vm.alloc_wait_ms=10 vm.sleep_record_ms=0");
  EXPECT_TRUE(make_cmdline(from, "vm.alloc_wait_ms=0", cmdline, problem));
  EXPECT_EQ(cmdline, "vm.alloc_wait_ms=0 mem=64M vm.sleep_record_ms=0");
  from.threads = 1;
  EXPECT_TRUE(make_cmdline(from, nullptr, cmdline, problem));
  EXPECT_EQ(cmdline, "mem=64M vm.kswapd=0 vm.sleep_record_ms=0");
  EXPECT_TRUE(make_cmdline(from, "vm.kswapd=auto", cmdline, problem));
  EXPECT_EQ(cmdline, "vm.kswapd=auto mem=64M vm.sleep_record_ms=0");
  from.parameters = {"vm.kswapd=1", "vm.sleep_record_ms=50"};
  EXPECT_TRUE(make_cmdline(from, nullptr, cmdline, problem));
  EXPECT_EQ(cmdline, "mem=64M vm.kswapd=1 vm.sleep_record_ms=50");
}

TEST(replay_command, what_is_no_parameter_is_refused) {
  for (const char* const bad : {"vm.min_free_kbytes", "=5", "a=b c=d", ""}) {
    settings from;
    from.parameters = {bad};
    std::string cmdline;
    std::string problem;
    EXPECT_FALSE(make_cmdline(from, nullptr, cmdline, problem)) << bad;
    EXPECT_EQ(problem, "--param '" + std::string(bad) + "': expected NAME=VALUE without blanks; 'kmem params' lists the names");
  }
  settings from;
  from.mem = "64 M";
  std::string cmdline;
  std::string problem;
  EXPECT_FALSE(make_cmdline(from, nullptr, cmdline, problem));
  EXPECT_EQ(problem, "--mem '64 M': expected a size such as 64M or 1G, a share such as 50%, or auto");
}

TEST(replay_command, two_budgets_are_refused) {
  settings from;
  from.mem = "64M";
  from.parameters = {"mem=32M"};
  std::string cmdline;
  std::string problem;
  EXPECT_FALSE(make_cmdline(from, nullptr, cmdline, problem));
  EXPECT_EQ(problem, "--mem 64M and --param mem=32M both state the budget; give one of them");
}

}  // namespace
}  // namespace kmem::tool::replay
