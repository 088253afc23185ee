#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>

namespace kmem::tool::replay {

inline std::uint64_t now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

// What two readings one after the other differ by: the median of many, so that one interruption does not count.
inline std::uint64_t clock_cost_ns() {
  std::array<std::uint64_t, 1001> differences{};
  for (std::uint64_t& each : differences) {
    const std::uint64_t start = now_ns();
    each = now_ns() - start;
  }
  std::nth_element(differences.begin(), differences.begin() + differences.size() / 2, differences.end());
  return differences[differences.size() / 2];
}

}  // namespace kmem::tool::replay
