// A machine of its own for the texts about it.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "debug/debug.hpp"

namespace kmem::test {

class debug_fixture : public ::testing::Test {
 protected:
  void SetUp() override {
    machine_ = std::make_unique<machine>();
    machine_config config;
    config.kswapd = kswapd_mode::off;  // unless a test asks for it
    config.cgroup = false;
    config_error error;
    ASSERT_TRUE(parse_config("mem=32M highmem=4M zone_dma=2M", config, error)) << error.text;
    config.cpus = 2;
    ASSERT_EQ(machine_init(*machine_, config, error), err::ok) << error.text;
  }
  void TearDown() override { EXPECT_TRUE(machine_destroy(*machine_)); }
  machine& m() { return *machine_; }
  template <class Write, class... More>
  std::string text_of(Write write, More... more) {
    std::string text(write(m(), nullptr, 0, more...), '\0');
    EXPECT_EQ(write(m(), text.data(), text.size() + 1, more...), text.size());
    return text;
  }

 private:
  std::unique_ptr<machine> machine_;
};

}  // namespace kmem::test
