#pragma once

// Pictures of samples over time: scales, curves, strips of bars, and the figures for the pointer.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "result.hpp"
#include "svg.hpp"

namespace kmem::tool::report {

inline constexpr double view_width = 1120.0;
inline constexpr std::size_t strip_bins = 140;

using value_of = std::function<double(const sample&)>;

struct series {
  const char* name;
  std::uint64_t sample::*field;
  bool bytes;
};

[[nodiscard]] std::vector<point> points_of(const plot& area, const std::vector<sample>& samples, const value_of& value);
// The largest time of the plot must be `span_ns`.
[[nodiscard]] std::string time_axis(const plot& area, std::uint64_t span_ns, double bottom);
[[nodiscard]] std::string byte_axis(const plot& area);
// Growth of a running total, by bins of equal time.
[[nodiscard]] std::vector<std::uint64_t> growth(const std::vector<sample>& samples, std::uint64_t span, std::uint64_t sample::*total);
[[nodiscard]] std::string bin_strip(const plot& area, const std::vector<std::uint64_t>& bins, std::string_view shade);
[[nodiscard]] std::string strip_frame(const plot& area, std::string_view name, std::string_view peak);
// What the script shows under the pointer; series that are 0 throughout are left out.
[[nodiscard]] std::string series_data(std::string_view id, const plot& area, const std::vector<sample>& samples,
                                      const std::vector<series>& rows);

}  // namespace kmem::tool::report
