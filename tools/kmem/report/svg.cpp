#include "svg.hpp"

#include <fmt/format.h>

#include <bit>

namespace kmem::tool::report {

namespace {

[[nodiscard]] std::vector<std::uint64_t> steps_to(std::uint64_t max, std::uint64_t step) {
  std::vector<std::uint64_t> ticks;
  for (std::uint64_t value = 0; value <= max; value += step) {
    ticks.push_back(value);
    if (value > max - step) {
      break;  // the next one would pass the maximum, or overflow
    }
  }
  return ticks;
}

void append_points(std::string& out, const std::vector<point>& points) {
  for (const point& one : points) {
    out += fmt::format("{}{} {}", out.empty() ? "M" : "L", number(one.x), number(one.y));
  }
}

}  // namespace

std::string number(double value) {
  std::string text = fmt::format("{:.1f}", value);
  if (text.ends_with(".0")) {
    text.resize(text.size() - 2);
  }
  return text == "-0" ? "0" : text;
}

std::string line_path(const std::vector<point>& points) {
  std::string out;
  append_points(out, points);
  return out;
}

std::string area_path(const std::vector<point>& upper, const std::vector<point>& lower) {
  if (upper.empty()) {
    return "";
  }
  std::string out;
  append_points(out, upper);
  append_points(out, {lower.rbegin(), lower.rend()});
  return out + "Z";
}

std::string rect(double x, double y, double width, double height, std::string_view attributes) {
  return fmt::format(R"(<rect x="{}" y="{}" width="{}" height="{}" {}/>)", number(x), number(y), number(width), number(height), attributes);
}

std::string horizontal(double left, double right, double y, std::string_view style) {
  return fmt::format(R"(<line class="{0}" x1="{1}" x2="{2}" y1="{3}" y2="{3}"/>)", style, number(left), number(right), number(y));
}

std::string vertical(double x, double top, double bottom, std::string_view style) {
  return fmt::format(R"(<line class="{0}" x1="{1}" x2="{1}" y1="{2}" y2="{3}"/>)", style, number(x), number(top), number(bottom));
}

std::string text_at(double x, double y, std::string_view attributes, std::string_view escaped) {
  return fmt::format(R"(<text x="{}" y="{}" {}>{}</text>)", number(x), number(y), attributes, escaped);
}

std::vector<std::uint64_t> byte_ticks(std::uint64_t max, unsigned count) {
  const std::uint64_t rough = max / (count == 0 ? 1 : count);
  const std::uint64_t step = rough < 2 ? 1 : rough > (UINT64_MAX >> 1) ? max : std::bit_ceil(rough);
  return max == 0 ? std::vector<std::uint64_t>{0} : steps_to(max, step);
}

std::vector<std::uint64_t> decimal_ticks(std::uint64_t max, unsigned count) {
  const std::uint64_t rough = max / (count == 0 ? 1 : count);
  std::uint64_t power = 1;
  while (power <= rough / 10) {
    power *= 10;
  }
  std::uint64_t step = power;
  for (const std::uint64_t factor : {2u, 5u, 10u}) {
    step = step < rough && power <= UINT64_MAX / factor ? power * factor : step;
  }
  return max == 0 ? std::vector<std::uint64_t>{0} : steps_to(max, step);
}

}  // namespace kmem::tool::report
