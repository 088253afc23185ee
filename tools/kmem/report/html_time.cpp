// Memory over time: what was charged, live, reclaimable and kept in reserve against the budget, with failures marked.

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "escape.hpp"
#include "html_parts.hpp"
#include "html_series.hpp"
#include "svg.hpp"
#include "units.hpp"

namespace kmem::tool::report {

namespace {

constexpr std::size_t shown_samples = 600;  // about one for two pixels
constexpr double strip_height = 44.0;
constexpr double strip_gap = 30.0;

struct series_maxima {
  std::uint64_t span_ns = 0;
  std::uint64_t stacked_bytes = 0;  // charged + metadata + free present
  std::uint64_t budget_bytes = 0;
};

[[nodiscard]] series_maxima maxima_of(const std::vector<sample>& samples) {
  series_maxima top;
  for (const sample& one : samples) {
    top.span_ns = std::max(top.span_ns, one.time_ns);
    top.stacked_bytes = std::max({top.stacked_bytes, one.charged_bytes + one.metadata_bytes + one.free_present_bytes, one.live_bytes});
    top.budget_bytes = std::max(top.budget_bytes, one.budget_bytes);
  }
  return top;
}

[[nodiscard]] std::string layers(const plot& area, const std::vector<sample>& samples) {
  const auto charged = [](const sample& one) { return static_cast<double>(one.charged_bytes); };
  const auto pinned = [](const sample& one) {
    return static_cast<double>(one.charged_bytes - std::min(one.charged_bytes, one.droppable_bytes));
  };
  const auto with_metadata = [&](const sample& one) { return charged(one) + static_cast<double>(one.metadata_bytes); };
  const auto with_free = [&](const sample& one) { return with_metadata(one) + static_cast<double>(one.free_present_bytes); };
  const auto zero = [](const sample&) { return 0.0; };
  const auto path = [&](const value_of& upper, const value_of& lower, const char* attributes) {
    return fmt::format(R"(<path d="{}" {}/>)", area_path(points_of(area, samples, upper), points_of(area, samples, lower)), attributes);
  };
  std::string out = path(pinned, zero, R"(class="c1" opacity=".42")");
  out += path(charged, pinned, R"(class="c1" opacity=".17")");
  out += path(with_metadata, charged, R"(class="c4" opacity=".75")");
  out += path(with_free, with_metadata, R"(class="c7" opacity=".22")");
  out += fmt::format(R"(<path d="{}" class="line c1"/>)", line_path(points_of(area, samples, charged)));
  out += fmt::format(R"(<path d="{}" class="line c2"/>)",
                     line_path(points_of(area, samples, [](const sample& one) { return static_cast<double>(one.live_bytes); })));
  return out;
}

[[nodiscard]] std::string budget_line(const plot& area, const std::vector<sample>& samples, std::uint64_t budget) {
  if (static_cast<double>(budget) > area.y_max) {
    return text_at(area.right(), area.top - 8.0, R"(text-anchor="end" class="strong")",
                   "budget " + human_bytes(budget) + ", above the picture");
  }
  const std::string path = line_path(points_of(area, samples, [](const sample& one) { return static_cast<double>(one.budget_bytes); }));
  return fmt::format(R"(<path class="budget" d="{}"/>)", path) + text_at(area.right(), area.y(static_cast<double>(budget)) - 7.0,
                                                                         R"(text-anchor="end" class="strong")",
                                                                         "budget " + human_bytes(budget));
}

[[nodiscard]] std::string failure_ticks(const plot& area, const std::vector<std::uint64_t>& bins) {
  const double width = area.width / static_cast<double>(bins.size());
  std::string out;
  for (std::size_t bin = 0; bin < bins.size(); ++bin) {
    if (bins[bin] != 0) {
      out += rect(area.left + static_cast<double>(bin) * width, area.bottom() + 1.0, std::max(1.5, width - 1.0), 5.0, R"(class="cbad")");
    }
  }
  return out;
}

[[nodiscard]] std::string legend(const series_maxima& top, const std::vector<sample>& samples) {
  const auto any = [&](std::uint64_t sample::*field) {
    return std::any_of(samples.begin(), samples.end(), [&](const sample& one) { return one.*field != 0; });
  };
  std::string items = legend_item("thin c1", "charged") + legend_item("thin c2", "live (bytes asked for)");
  items += any(&sample::droppable_bytes) ? legend_item("soft c1", "of the charge: reclaimable") : "";
  items += any(&sample::metadata_bytes) ? legend_item("c4", "metadata") : "";
  items += any(&sample::free_present_bytes) ? legend_item("soft c7", "free, still present") : "";
  items += top.budget_bytes != 0 ? legend_item("dash", "budget") : "";
  items += any(&sample::failed) ? legend_item("tick cbad", "an allocation failed") : "";
  return "<ul class=\"legend\">" + items + "</ul>";
}

[[nodiscard]] std::string strips(const plot& area, const std::vector<sample>& samples, const series_maxima& top, double& bottom) {
  std::string out;
  plot strip = area;
  strip.height = strip_height;
  const auto next = [&] {
    strip.top = bottom + strip_gap;
    bottom = strip.top + strip_height;
  };
  const std::vector<std::uint64_t> dropped = growth(samples, top.span_ns, &sample::dropped_bytes);
  if (const std::uint64_t most = *std::max_element(dropped.begin(), dropped.end()); most != 0) {
    next();
    strip.y_max = static_cast<double>(most);
    out += bin_strip(strip, dropped, R"(class="c3")");
    out += strip_frame(strip, "Reclaimed", fmt::format("{} at most in {}", human_bytes(most), html_ns(top.span_ns / strip_bins)));
  }
  return out;
}

// What the picture tells of a moment.
const std::vector<series> time_series{
    {"budget", &sample::budget_bytes, true},
    {"charged", &sample::charged_bytes, true},
    {"of it reclaimable", &sample::droppable_bytes, true},
    {"live", &sample::live_bytes, true},
    {"metadata", &sample::metadata_bytes, true},
    {"free, present", &sample::free_present_bytes, true},
    {"reserve", &sample::reserve_bytes, true},
    {"resident", &sample::arena_resident_bytes, true},
    {"reclaimed so far", &sample::dropped_bytes, true},
    {"failed so far", &sample::failed, false},
    {"events", &sample::events, false},
};

}  // namespace

namespace {

template <typename Below>
[[nodiscard]] std::vector<sample> highest_of_each(const std::vector<sample>& samples, std::size_t limit, Below below) {
  if (samples.size() <= limit || limit == 0) {
    return samples;
  }
  std::vector<sample> out;
  for (std::size_t part = 0; part < limit; ++part) {
    const auto from = samples.begin() + static_cast<std::ptrdiff_t>(part * samples.size() / limit);
    const auto to = samples.begin() + static_cast<std::ptrdiff_t>((part + 1) * samples.size() / limit);
    out.push_back(*std::max_element(from, to, below));
  }
  out.back() = samples.back();
  return out;
}

}  // namespace

std::vector<sample> thinned(const std::vector<sample>& samples, std::size_t limit) {
  return highest_of_each(samples, limit, [](const sample& one, const sample& other) { return one.charged_bytes < other.charged_bytes; });
}

std::vector<sample> thinned_to_lows(const std::vector<sample>& samples, std::size_t limit) {
  return highest_of_each(samples, limit, [](const sample& one, const sample& other) {
    return one.reserve_bytes != other.reserve_bytes ? one.reserve_bytes > other.reserve_bytes : one.free_bytes > other.free_bytes;
  });
}

std::string time_section(const replay_result& result) {
  const std::string lead =
      "Every page handed out is charged, touched or not. Charged memory and metadata together never exceed the budget.";
  const std::vector<sample> samples = thinned(result.samples, shown_samples);
  if (samples.empty()) {
    return section("time", "Memory over time", lead, "<p class=\"none\">No samples were taken.</p>");
  }
  const series_maxima top = maxima_of(samples);
  plot area{76.0, 26.0, view_width - 76.0 - 12.0, 290.0, static_cast<double>(top.span_ns), 0.0};
  // A budget far above everything would press the curves flat: then it is named, not drawn.
  const bool budget_shown = top.budget_bytes <= top.stacked_bytes * 4;
  area.y_max = static_cast<double>(std::max(top.stacked_bytes, budget_shown ? top.budget_bytes : 0)) * 1.06;
  const std::vector<std::uint64_t> failed = growth(result.samples, top.span_ns, &sample::failed);
  double bottom = area.bottom();
  const std::string below = strips(area, samples, top, bottom);
  std::string picture = time_axis(area, top.span_ns, bottom) + byte_axis(area) + layers(area, samples) +
                        budget_line(area, samples, top.budget_bytes) + failure_ticks(area, failed) + below;
  picture += fmt::format(R"(<line class="cross" x1="0" x2="0" y1="{}" y2="{}"/>)", number(area.top), number(bottom));
  const std::string label =
      fmt::format("Memory over {}: charged at most {}, live at most {}, budget {}", html_ns(top.span_ns),
                  human_bytes(result.peak.charged_bytes), human_bytes(result.peak.live_bytes), human_bytes(top.budget_bytes));
  const std::string svg =
      fmt::format(R"(<div class="scroll"><svg viewBox="0 0 {} {}" role="img" tabindex="0" data-series="time-data" aria-label="{}">)"
                  R"(<rect width="100%" height="100%" fill="none" pointer-events="all"/>{}</svg></div>)",
                  number(view_width), number(bottom + 26.0), html_escape(label), picture);
  return section("time", "Memory over time", lead, legend(top, samples) + svg + series_data("time-data", area, samples, time_series));
}

}  // namespace kmem::tool::report
