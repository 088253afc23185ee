#include "units.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstddef>

namespace kmem::tool::report {

namespace {

// Three significant digits and no trailing ".0": "1.25", "12.5", "125", "2".
std::string three_digits(double value) {
  std::string text = value < 9.995   ? fmt::format("{:.2f}", value)
                     : value < 99.95 ? fmt::format("{:.1f}", value)
                                     : fmt::format("{:.0f}", value);
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') {
      text.pop_back();
    }
  }
  return text;
}

template <std::size_t Count>
std::string scaled(std::uint64_t amount, double step, const std::array<const char*, Count>& names) {
  auto value = static_cast<double>(amount);
  std::size_t unit = 0;
  // A value that would print as a full step is shown in the next unit: 1023.9 KiB is "1 MiB".
  while (unit + 1 < Count && value >= step - 0.5) {
    value /= step;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} {}", amount, names[0]) : three_digits(value) + " " + names[unit];
}

}  // namespace

std::string human_bytes(std::uint64_t bytes) {
  static constexpr std::array names{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  return bytes < 1024 ? fmt::format("{} B", bytes) : scaled(bytes, 1024.0, names);
}

std::string human_ns(std::uint64_t ns) {
  static constexpr std::array names{"ns", "us", "ms", "s"};
  return ns < 1000 ? fmt::format("{} ns", ns) : scaled(ns, 1000.0, names);
}

std::string human_count(std::uint64_t count) {
  std::string digits = fmt::format("{}", count);
  for (std::size_t place = digits.size(); place > 3;) {
    place -= 3;
    digits.insert(place, " ");
  }
  return digits;
}

std::string short_count(std::uint64_t count) {
  static constexpr std::array names{"", "k", "M", "G", "T", "P", "E"};
  return count < 1000 ? fmt::format("{}", count) : scaled(count, 1000.0, names);
}

std::uint64_t whole_number(double value) noexcept {
  constexpr double limit = 18446744073709549568.0;  // the largest double below 2^64
  return value > 0.0 ? static_cast<std::uint64_t>(value < limit ? value : limit) : 0;
}

std::uint64_t per_second(std::uint64_t count, std::uint64_t elapsed_ns) noexcept {
  return elapsed_ns == 0 ? 0 : whole_number(static_cast<double>(count) * 1e9 / static_cast<double>(elapsed_ns));
}

std::string human_percent(double value) {
  if (!(value > 0.0)) {
    return "0 %";
  }
  return value < 0.1 ? "< 0.1 %" : value < 9.95 ? fmt::format("{:.1f} %", value) : fmt::format("{:.0f} %", value);
}

}  // namespace kmem::tool::report
