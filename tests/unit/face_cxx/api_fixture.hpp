// The process's machine with a stated budget, and the messages it sends.
#pragma once
#include <gtest/gtest.h>

#include <mutex>
#include <string>

#include <kmem/info.hpp>

namespace kmem::test {

inline std::mutex message_mutex;
inline std::string messages;

inline void keep_message(message_level, const char* text, size_t bytes, const void* const*, unsigned) noexcept {
  const std::lock_guard<std::mutex> hold(message_mutex);
  messages.append(text, bytes).push_back('\n');
}

/// All tests of the program share one machine; each ends with a walk over it, and with as much charged as before.
class api_test : public ::testing::Test {
 protected:
  void SetUp() override {
    static const bool started = [] {
      char error[300];
      const bool good = init("mem=64M highmem=8M zone_dma=2M zone_dma32=4M vm.kswapd=0", error, sizeof error);
      EXPECT_TRUE(good) << error;
      return good;
    }();
    ASSERT_TRUE(started);
    set_message_sink(keep_message);
    take_messages();
  }
  void TearDown() override {
    const char* damage = validate();
    EXPECT_EQ(damage, nullptr) << damage;
    reset_message_sink();
  }
  static std::string take_messages() {
    const std::lock_guard<std::mutex> hold(message_mutex);
    std::string text;
    text.swap(messages);
    return text;
  }
};

}  // namespace kmem::test
