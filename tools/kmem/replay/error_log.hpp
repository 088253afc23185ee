#pragma once

// Errors that a replay finds: all are counted, the first ones kept. For any thread.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "report/result.hpp"

namespace kmem::tool::replay {

class error_log {
 public:
  static constexpr std::size_t kept_max = 100;

  // `stop` is set with the first error unless `keep_going`.
  error_log(bool keep_going, std::atomic<bool>& stop) : keep_going_(keep_going), stop_(stop) {}

  // `line` 0: it belongs to no line. `times`: how many of its kind this stands for.
  void add(std::uint32_t trace, std::uint64_t line, std::string text, std::uint64_t times = 1) {
    const std::lock_guard<std::mutex> hold(lock_);
    count_ += times;
    if (kept_.size() < kept_max) kept_.push_back({trace, line, std::move(text)});
    if (!keep_going_) stop_.store(true, std::memory_order_relaxed);
  }

  std::uint64_t count() const {
    const std::lock_guard<std::mutex> hold(lock_);
    return count_;
  }
  std::vector<report::described_error> kept() const {
    const std::lock_guard<std::mutex> hold(lock_);
    return kept_;
  }

 private:
  const bool keep_going_;
  std::atomic<bool>& stop_;
  mutable std::mutex lock_;
  std::uint64_t count_ = 0;
  std::vector<report::described_error> kept_;
};

}  // namespace kmem::tool::replay
