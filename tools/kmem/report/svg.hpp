#pragma once

// Scales, ticks and paths for the pictures of the HTML report.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kmem::tool::report {

// A rectangle of a picture and the value ranges that it shows. A range of no extent counts as one of extent 1.
struct plot {
  double left = 0.0;
  double top = 0.0;
  double width = 0.0;
  double height = 0.0;
  double x_max = 0.0;  // the ranges start at 0
  double y_max = 0.0;

  [[nodiscard]] double x(double value) const noexcept { return left + width * share(value, x_max); }
  [[nodiscard]] double y(double value) const noexcept { return top + height - height * share(value, y_max); }
  [[nodiscard]] double right() const noexcept { return left + width; }
  [[nodiscard]] double bottom() const noexcept { return top + height; }

 private:
  [[nodiscard]] static double share(double value, double max) noexcept {
    const double part = max > 0.0 ? value / max : 0.0;
    return part > 0.0 ? (part < 1.0 ? part : 1.0) : 0.0;
  }
};

struct point {
  double x;
  double y;
};

[[nodiscard]] std::string number(double value);                         // one decimal, no trailing zero
[[nodiscard]] std::string line_path(const std::vector<point>& points);  // "" for no points
[[nodiscard]] std::string area_path(const std::vector<point>& upper, const std::vector<point>& lower);
[[nodiscard]] std::string rect(double x, double y, double width, double height, std::string_view attributes);
[[nodiscard]] std::string horizontal(double left, double right, double y, std::string_view style);  // a line of that style class
[[nodiscard]] std::string vertical(double x, double top, double bottom, std::string_view style);
[[nodiscard]] std::string text_at(double x, double y, std::string_view attributes, std::string_view escaped);

// About `count` round steps from 0 to max: powers of two for bytes, 1-2-5 for the rest. Always holds 0.
[[nodiscard]] std::vector<std::uint64_t> byte_ticks(std::uint64_t max, unsigned count);
[[nodiscard]] std::vector<std::uint64_t> decimal_ticks(std::uint64_t max, unsigned count);

}  // namespace kmem::tool::report
