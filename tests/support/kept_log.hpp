// What the core logs, kept for a test to look at.
#pragma once
#include <mutex>
#include <string>
#include <utility>

#include "base/base.hpp"

namespace kmem::test {

inline std::mutex log_mutex;
inline std::string log_text;

/// For set_printk_sink: a line a message.
inline void log_sink(log_level, const char* text, size_t bytes, const void* const*, unsigned) noexcept {
  const std::lock_guard<std::mutex> hold(log_mutex);
  log_text.append(text, bytes).push_back('\n');
}

/// What was logged since the last call.
inline std::string take_log() {
  const std::lock_guard<std::mutex> hold(log_mutex);
  return std::exchange(log_text, {});
}

/// The same, left for the next one.
inline std::string read_log() {
  const std::lock_guard<std::mutex> hold(log_mutex);
  return log_text;
}

}  // namespace kmem::test
