// What was left when memory was short: free pages and the reserve over time against the watermarks, kswapd, shrinkers.

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "escape.hpp"
#include "html_parts.hpp"
#include "html_series.hpp"
#include "units.hpp"

namespace kmem::tool::report {

namespace {

constexpr std::size_t shown_samples = 600;
constexpr double left_margin = 76.0;
constexpr double right_margin = 48.0;  // names of the watermarks
constexpr double picture_height = 230.0;
constexpr double strip_height = 40.0;
constexpr double strip_gap = 30.0;
constexpr double label_gap = 12.0;

struct extent {
  std::uint64_t span_ns = 0;
  std::uint64_t high_bytes = 0;
  std::uint64_t reserve_bytes = 0;
  std::uint64_t free_bytes = 0;
};

[[nodiscard]] extent extent_of(const std::vector<sample>& samples) {
  extent top;
  for (const sample& one : samples) {
    top.span_ns = std::max(top.span_ns, one.time_ns);
    top.high_bytes = std::max(top.high_bytes, one.high_bytes);
    top.reserve_bytes = std::max(top.reserve_bytes, one.reserve_bytes);
    top.free_bytes = std::max(top.free_bytes, one.free_bytes);
  }
  return top;
}

[[nodiscard]] value_of value(std::uint64_t sample::*field) {
  return [field](const sample& one) { return static_cast<double>(one.*field); };
}

// Lines with their names at the right end, which do not run into each other.
[[nodiscard]] std::string watermark_lines(const plot& area, const std::vector<sample>& samples) {
  struct mark {
    const char* name;
    std::uint64_t sample::*field;
  };
  double above = area.bottom() + label_gap;
  std::string out;
  for (const mark& one : {mark{"min", &sample::min_bytes}, mark{"low", &sample::low_bytes}, mark{"high", &sample::high_bytes}}) {
    const std::vector<point> points = points_of(area, samples, value(one.field));
    out += fmt::format(R"(<path class="budget" opacity=".65" d="{}"/>)", line_path(points));
    above = std::min(points.back().y + 4.0, above - label_gap);
    out += text_at(area.right() + 8.0, above, R"(class="strong")", one.name);
  }
  return out;
}

[[nodiscard]] std::string curves(const plot& area, const std::vector<sample>& samples) {
  const std::vector<point> reserve = points_of(area, samples, value(&sample::reserve_bytes));
  std::string out = fmt::format(R"(<path d="{}" class="c6" opacity=".3"/>)",
                                area_path(reserve, points_of(area, samples, [](const sample&) { return 0.0; })));
  out += fmt::format(R"(<path d="{}" class="line c6"/>)", line_path(reserve));
  return out + fmt::format(R"(<path d="{}" class="line c2"/>)", line_path(points_of(area, samples, value(&sample::free_bytes))));
}

// Bars of what happened in equal stretches of time; `bottom` moves down when there were any.
[[nodiscard]] std::string strip(const plot& area, const replay_result& result, std::uint64_t span, std::uint64_t sample::*total,
                                const char* name, const char* shade, double& bottom) {
  const std::vector<std::uint64_t> bins = growth(result.samples, span, total);
  const std::uint64_t most = *std::max_element(bins.begin(), bins.end());
  if (most == 0) {
    return "";
  }
  plot bars = area;
  bars.top = bottom + strip_gap;
  bars.height = strip_height;
  bars.y_max = static_cast<double>(most);
  bottom = bars.bottom();
  return bin_strip(bars, bins, fmt::format("class=\"{}\"", shade)) +
         strip_frame(bars, name, fmt::format("{} at most in {}", human_count(most), html_ns(span / strip_bins)));
}

[[nodiscard]] std::string picture(const replay_result& result) {
  const std::vector<sample> samples = thinned_to_lows(result.samples, shown_samples);
  if (samples.empty()) {
    return "<p class=\"none\">No samples were taken.</p>";
  }
  const extent top = extent_of(samples);
  plot area{left_margin, 26.0, view_width - left_margin - right_margin, picture_height, static_cast<double>(top.span_ns), 0.0};
  // Where it gets tight is what is to be seen: what is free beyond that is cut off.
  const double shown = std::max(static_cast<double>(top.high_bytes) * 2.0, static_cast<double>(top.reserve_bytes) * 1.2);
  area.y_max = shown > 0.0 ? shown : static_cast<double>(top.free_bytes);
  double bottom = area.bottom();
  std::string strips = strip(area, result, top.span_ns, &sample::sleeps, "Sleeps", "c8", bottom);
  strips += strip(area, result, top.span_ns, &sample::failed, "Returned NULL", "cbad", bottom);
  std::string svg = time_axis(area, top.span_ns, bottom) + byte_axis(area) + curves(area, samples);
  svg += watermark_lines(area, samples) + strips;
  if (static_cast<double>(top.free_bytes) > area.y_max) {
    svg += text_at(area.right(), area.top - 8.0, R"(text-anchor="end")", "free goes up to " + human_bytes(top.free_bytes));
  }
  svg += fmt::format(R"(<line class="cross" x1="0" x2="0" y1="{}" y2="{}"/>)", number(area.top), number(bottom));
  static const std::vector<series> rows{
      {"free", &sample::free_bytes, true},
      {"reserve", &sample::reserve_bytes, true},
      {"high", &sample::high_bytes, true},
      {"low", &sample::low_bytes, true},
      {"min", &sample::min_bytes, true},
      {"reclaimed so far", &sample::dropped_bytes, true},
      {"sleeps so far", &sample::sleeps, false},
      {"failed so far", &sample::failed, false},
  };
  const std::string legend = "<ul class=\"legend\">" + legend_item("thin c2", "free") +
                             legend_item("soft c6", "reserve: backed, for atomic allocations") + legend_item("dash", "watermarks") +
                             "</ul>";
  return legend +
         fmt::format(R"(<div class="scroll"><svg viewBox="0 0 {} {}" role="img" tabindex="0" data-series="reserve-data" aria-label=)"
                     R"("Free pages and the reserve over time, with the watermarks">)"
                     R"(<rect width="100%" height="100%" fill="none" pointer-events="all"/>{}</svg></div>)",
                     number(view_width), number(bottom + 26.0), svg) +
         series_data("reserve-data", area, samples, rows);
}

[[nodiscard]] std::string reserve_cards(const replay_result& result) {
  std::string out;
  if (const sample* const lowest = lowest_reserve(result); lowest != nullptr) {
    const extent top = extent_of(result.samples);
    out += card("Reserve, lowest", human_bytes(lowest->reserve_bytes),
                fmt::format("after {}; {} at most", html_ns(lowest->time_ns), human_bytes(top.reserve_bytes)));
  }
  const std::uint64_t rounds = vmstat_of(result, "pageoutrun");
  const std::uint64_t slept_ns = vmstat_of(result, "kmem_kswapd_slept_us") * 1000;
  const std::string work = fmt::format("{} rounds, {} in vain; gave up {} times; slept {} of {}", human_count(rounds),
                                       human_count(vmstat_of(result, "kmem_kswapd_vain_rounds")),
                                       human_count(vmstat_of(result, "kmem_kswapd_surrenders")), html_ns(slept_ns),
                                       html_ns(result.wall_ns));
  out += card("kswapd", rounds == 0 ? "did not run" : human_count(vmstat_of(result, "kmem_kswapd_wakes")) + " wake-ups",
              rounds == 0 ? "" : work);
  out += card("Came free while kswapd reclaimed", human_count(vmstat_of(result, "pgsteal_kswapd")) + " pages",
              human_count(vmstat_of(result, "pgscan_kswapd")) + " asked for");
  out += card("Came free while allocations reclaimed", human_count(vmstat_of(result, "pgsteal_direct")) + " pages",
              fmt::format("{} came to reclaim, {} pages asked for", human_count(direct_reclaims(result)),
                          human_count(vmstat_of(result, "pgscan_direct"))));
  return "<div class=\"cards\">" + out + "</div>";
}

[[nodiscard]] std::string shrinker_table(const replay_result& result) {
  if (result.shrinkers.empty()) {
    return "";
  }
  std::string out =
      "<h3>Shrinkers</h3><div class=\"scroll\"><table><thead><tr><th class=\"l\">Shrinker</th><th class=\"l\">Needs</th>"
      "<th>Counted</th><th>Scans</th><th>Pages scanned</th><th>Freed</th><th>Deferred</th></tr></thead><tbody>";
  for (const shrinker_row& row : result.shrinkers) {
    out += fmt::format(
        "<tr><td class=\"l name\">{}</td><td class=\"l\"><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        html_escape(row.name), html_escape_breakable(row.needs), human_count(row.count_calls), human_count(row.scan_calls),
        human_count(row.scanned), human_count(row.freed), human_count(row.deferred));
  }
  return out + "</tbody></table></div>";
}

}  // namespace

std::string reserve_section(const replay_result& result) {
  const std::string lead =
      "Ordinary requests stop at min of each zone; those with __GFP_HIGH go below it, into the reserve. Below low kswapd is woken; "
      "it reclaims until high. The lines are sums over the zones.";
  return section("reserve", "Reserve and reclaim", lead, picture(result) + reserve_cards(result) + shrinker_table(result));
}

}  // namespace kmem::tool::report
