#include "html_series.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "html_parts.hpp"
#include "units.hpp"

namespace kmem::tool::report {

namespace {

[[nodiscard]] nlohmann::ordered_json column(const std::vector<sample>& samples, std::uint64_t sample::*field) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const sample& one : samples) {
    out.push_back(one.*field);
  }
  return out;
}

}  // namespace

std::vector<point> points_of(const plot& area, const std::vector<sample>& samples, const value_of& value) {
  std::vector<point> points;
  for (const sample& one : samples) {
    points.push_back({area.x(static_cast<double>(one.time_ns)), area.y(value(one))});
  }
  return points;
}

std::string time_axis(const plot& area, std::uint64_t span_ns, double bottom) {
  std::string out;
  for (const std::uint64_t tick : decimal_ticks(span_ns, 9)) {
    const double x = area.x(static_cast<double>(tick));
    out += vertical(x, area.top, bottom, "grid");
    out += text_at(x, bottom + 18.0, R"(text-anchor="middle")", tick == 0 ? "0" : html_ns(tick));
  }
  return out;
}

std::string byte_axis(const plot& area) {
  std::string out;
  for (const std::uint64_t tick : byte_ticks(whole_number(area.y_max), 5)) {
    const double y = area.y(static_cast<double>(tick));
    out += horizontal(area.left, area.right(), y, "grid");
    out += text_at(area.left - 10.0, y + 4.0, R"(text-anchor="end")", tick == 0 ? "0" : human_bytes(tick));
  }
  return out;
}

std::vector<std::uint64_t> growth(const std::vector<sample>& samples, std::uint64_t span, std::uint64_t sample::*total) {
  std::vector<std::uint64_t> bins(strip_bins, 0);
  std::uint64_t before = 0;
  for (const sample& one : samples) {
    const double share = span == 0 ? 0.0 : static_cast<double>(one.time_ns) / static_cast<double>(span);
    const auto bin = std::min(strip_bins - 1, static_cast<std::size_t>(share * static_cast<double>(strip_bins)));
    const std::uint64_t now = one.*total;
    bins[bin] += now > before ? now - before : 0;
    before = std::max(before, now);
  }
  return bins;
}

std::string bin_strip(const plot& area, const std::vector<std::uint64_t>& bins, std::string_view shade) {
  const double width = area.width / static_cast<double>(bins.size());
  std::string out;
  for (std::size_t bin = 0; bin < bins.size(); ++bin) {
    if (bins[bin] != 0) {
      const double top = std::min(area.y(static_cast<double>(bins[bin])), area.bottom() - 1.0);
      out += rect(area.left + static_cast<double>(bin) * width, top, std::max(1.0, width - 1.0), area.bottom() - top, shade);
    }
  }
  return out;
}

std::string strip_frame(const plot& area, std::string_view name, std::string_view peak) {
  return text_at(area.left, area.top - 7.0, R"(class="strong")", name) +
         text_at(area.right(), area.top - 7.0, R"(text-anchor="end")", peak) + horizontal(area.left, area.right(), area.bottom(), "axis");
}

std::string series_data(std::string_view id, const plot& area, const std::vector<sample>& samples, const std::vector<series>& rows) {
  nlohmann::ordered_json data;
  data["t"] = column(samples, &sample::time_ns);
  data["span"] = whole_number(area.x_max);
  data["left"] = area.left;
  data["width"] = area.width;
  data["view"] = view_width;
  data["rows"] = nlohmann::ordered_json::array();
  for (const series& row : rows) {
    if (std::any_of(samples.begin(), samples.end(), [&](const sample& one) { return one.*row.field != 0; })) {
      data["rows"].push_back({{"n", row.name}, {"u", row.bytes ? "b" : "n"}, {"v", column(samples, row.field)}});
    }
  }
  return data_block(id, data.dump());
}

}  // namespace kmem::tool::report
