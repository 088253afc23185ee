// Latency by path, as distributions over a logarithmic time axis.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "escape.hpp"
#include "html_parts.hpp"
#include "svg.hpp"
#include "units.hpp"

namespace kmem::tool::report {

namespace {

constexpr double view_width = 1120.0;
constexpr double label_width = 130.0;
constexpr double row_height = 74.0;
constexpr double bins_per_octave = 5.0;

struct log_axis {
  double low = 0.0;   // log2 of the smallest shown value
  double high = 1.0;  // log2 of the largest
  [[nodiscard]] double x(double value, const plot& area) const {
    return area.left + area.width * std::clamp((std::log2(std::max(value, 1.0)) - low) / (high - low), 0.0, 1.0);
  }
};

[[nodiscard]] log_axis axis_of(const std::array<latency_histogram, latency_path_count>& paths) {
  std::uint64_t smallest = UINT64_MAX;
  std::uint64_t largest = 0;
  for (const latency_histogram& one : paths) {
    if (one.count() != 0) {
      smallest = std::min(smallest, one.min());
      largest = std::max(largest, one.max());
    }
  }
  log_axis axis;
  axis.low = std::log2(static_cast<double>(std::max<std::uint64_t>(smallest, 1))) - 0.4;
  axis.high = std::max(std::log2(static_cast<double>(std::max<std::uint64_t>(largest, 1))) + 0.4, axis.low + 1.0);
  return axis;
}

// Counts by equal steps of the axis. A bucket spreads evenly over the values that it stands for, so that whole
// nanoseconds do not show as teeth.
[[nodiscard]] std::vector<double> density(const latency_histogram& histogram, const log_axis& axis) {
  const auto bins = static_cast<std::size_t>(std::ceil((axis.high - axis.low) * bins_per_octave));
  std::vector<double> out(bins, 0.0);
  for (const latency_histogram::bucket& bucket : histogram.filled_buckets()) {
    const double low = std::max(0.5, static_cast<double>(bucket.low) - 0.5);
    const double high = static_cast<double>(std::min(bucket.high, histogram.max())) + 0.5;
    for (std::size_t bin = 0; bin < bins; ++bin) {
      const double from = std::exp2(axis.low + static_cast<double>(bin) / bins_per_octave);
      const double to = std::exp2(axis.low + static_cast<double>(bin + 1) / bins_per_octave);
      const double shared = std::min(high, to) - std::max(low, from);
      if (shared > 0.0) {
        out[bin] += static_cast<double>(bucket.count) * shared / (high - low);
      }
    }
  }
  return out;
}

[[nodiscard]] std::string ticks(const log_axis& axis, const plot& area) {
  std::string out;
  for (double power = 0.0; power < 13.0; power += 1.0) {
    const double value = std::pow(10.0, power);
    if (std::log2(value) >= axis.low && std::log2(value) <= axis.high) {
      const double x = axis.x(value, area);
      out += vertical(x, area.top, area.bottom(), "grid");
      out += text_at(x, area.bottom() + 20.0, R"(text-anchor="middle")", html_ns(whole_number(value)));
    }
  }
  return out;
}

[[nodiscard]] std::string ridge(const latency_histogram& histogram, const log_axis& axis, const plot& row, std::string_view shade) {
  const std::vector<double> counts = density(histogram, axis);
  const double most = *std::max_element(counts.begin(), counts.end());
  const auto filled = [](double count) { return count > 0.0; };
  const auto from = static_cast<std::size_t>(std::find_if(counts.begin(), counts.end(), filled) - counts.begin());
  const auto to = counts.size() - static_cast<std::size_t>(std::find_if(counts.rbegin(), counts.rend(), filled) - counts.rbegin());
  std::vector<point> upper;
  for (std::size_t bin = from; bin < to; ++bin) {
    const double value = std::exp2(axis.low + (static_cast<double>(bin) + 0.5) / bins_per_octave);
    // The square root keeps a tail of one in ten thousand visible.
    upper.push_back({axis.x(value, row), row.bottom() - row.height * std::sqrt(most > 0.0 ? counts[bin] / most : 0.0)});
  }
  std::vector<point> lower;
  for (const point& one : upper) {
    lower.push_back({one.x, row.bottom()});
  }
  return fmt::format(R"(<path d="{}" class="{}" opacity=".26"/><path d="{}" class="line {}"/>)", area_path(upper, lower), shade,
                     line_path(upper), shade);
}

[[nodiscard]] std::string markers(const latency_histogram& histogram, const log_axis& axis, const plot& row) {
  struct mark {
    const char* name;
    std::uint64_t value;
  };
  const mark marks[] = {{"p50", histogram.percentile(50)},
                        {"p99", histogram.percentile(99)},
                        {"p99.9", histogram.percentile(99.9)},
                        {"max", histogram.max()}};
  std::string out;
  double free_from = -1e9;
  for (const mark& one : marks) {
    const double x = axis.x(static_cast<double>(one.value), row);
    std::string parts = vertical(x, row.bottom() - 7.0, row.bottom() + 4.0, "mark");
    if (x - 16.0 > free_from) {  // labels do not run into each other
      parts += text_at(x, row.bottom() + 16.0, R"(text-anchor="middle")", one.name);
      free_from = x + 16.0;
    }
    out += fmt::format(R"(<g data-tip="{} {}">{}</g>)", one.name, html_ns(one.value), parts);
  }
  return out;
}

[[nodiscard]] std::string picture(const replay_result& result, const std::vector<std::size_t>& paths) {
  const log_axis axis = axis_of(result.latency_ns);
  plot area{label_width, 8.0, view_width - label_width - 12.0, row_height * static_cast<double>(paths.size()) + 6.0, 0.0, 0.0};
  std::string out = ticks(axis, area);
  for (std::size_t place = 0; place < paths.size(); ++place) {
    plot row = area;
    row.top = area.top + row_height * static_cast<double>(place) + 6.0;
    row.height = row_height - 28.0;
    const auto path = static_cast<latency_path>(paths[place]);
    out += horizontal(row.left, row.right(), row.bottom(), "axis");
    out += text_at(0.0, row.bottom() - 6.0, R"(class="strong")", to_string(path));
    out += ridge(result.latency_ns[paths[place]], axis, row, shade_of(paths[place]));
    out += markers(result.latency_ns[paths[place]], axis, row);
  }
  return fmt::format(R"(<div class="scroll"><svg viewBox="0 0 {} {}" role="img" aria-label="Latency distribution by path">{}</svg></div>)",
                     number(view_width), number(area.bottom() + 28.0), out);
}

[[nodiscard]] std::string table(const replay_result& result, const std::vector<std::size_t>& paths) {
  std::string out =
      "<h3>In figures</h3><div class=\"scroll\"><table><thead><tr><th "
      "class=\"l\">Path</th><th>Calls</th><th>p50</th><th>p99</th><th>p99.9</th><th>max</th><th>mean</th></tr>"
      "</thead><tbody>";
  for (const std::size_t path : paths) {
    const latency_histogram& one = result.latency_ns[path];
    out += fmt::format(
        "<tr><td class=\"l name\"><i class=\"swatch "
        "{}\"></i>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        shade_of(path), to_string(static_cast<latency_path>(path)), human_count(one.count()), html_ns(one.percentile(50)),
        html_ns(one.percentile(99)), html_ns(one.percentile(99.9)), html_ns(one.max()), html_ns(whole_number(one.mean())));
  }
  return out + "</tbody></table></div>";
}

}  // namespace

std::string latency_section(const replay_result& result) {
  const std::string lead =
      "How long calls took, by the path that served them. The time axis is logarithmic; heights go by the square root of the share, so "
      "that "
      "rare slow calls stay visible.";
  std::vector<std::size_t> paths;
  for (std::size_t path = 0; path < latency_path_count; ++path) {
    if (result.latency_ns[path].count() != 0) {
      paths.push_back(path);
    }
  }
  if (paths.empty()) {
    return section("latency", "Latency by path", lead, "<p class=\"none\">No call was timed.</p>");
  }
  return section("latency", "Latency by path", lead, picture(result, paths) + table(result, paths));
}

}  // namespace kmem::tool::report
