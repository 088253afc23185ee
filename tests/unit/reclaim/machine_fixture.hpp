// A machine of its own, and the messages that it logged.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "reclaim/reclaim.hpp"
#include "support/kept_log.hpp"

namespace kmem::test {

inline machine_config config_of(const char* parameters) {
  machine_config config;
  config.kswapd = kswapd_mode::off;  // unless a test asks for it
  config.cgroup = false;
  config_error error;
  EXPECT_TRUE(parse_config(parameters, config, error)) << error.text;
  return config;
}

class machine_fixture : public ::testing::Test {
 protected:
  void start(const char* parameters) {
    machine_ = std::make_unique<machine>();
    before_ = set_printk_sink(log_sink);
    reset_context_rules();
    take_log();
    config_error error;
    ASSERT_EQ(machine_init(*machine_, config_of(parameters), error), err::ok) << error.text;
  }
  void TearDown() override {
    if (machine_ == nullptr) return;
    EXPECT_TRUE(machine_destroy(*machine_)) << take_log();
    set_printk_sink(before_);
  }
  machine& m() { return *machine_; }
  std::string log() { return take_log(); }

 private:
  std::unique_ptr<machine> machine_;
  printk_sink before_ = nullptr;
};

}  // namespace kmem::test
