// Failures: when, with which flags, how far the chain was followed.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "compare.hpp"
#include "escape.hpp"
#include "html_parts.hpp"
#include "svg.hpp"
#include "units.hpp"

namespace kmem::tool::report {

namespace {

constexpr double view_width = 1120.0;
constexpr std::size_t bins = 90;
constexpr std::size_t shown_records = 200;  // the JSON report has all that were kept

using class_bins = std::vector<std::vector<std::uint64_t>>;  // [bin][class]

[[nodiscard]] std::size_t bin_of(std::uint64_t time_ns, std::uint64_t span) {
  const double share = span == 0 ? 0.0 : static_cast<double>(time_ns) / static_cast<double>(span);
  return std::min(bins - 1, static_cast<std::size_t>(share * static_cast<double>(bins)));
}

// From the running totals of the samples; those without totals by class fall back on the records that were kept.
[[nodiscard]] class_bins failures_over_time(const replay_result& result, const std::vector<std::string>& classes, std::uint64_t span) {
  class_bins out(bins, std::vector<std::uint64_t>(classes.size(), 0));
  std::vector<std::uint64_t> before(classes.size(), 0);
  bool any = false;
  for (const sample& one : result.samples) {
    for (std::size_t number = 0; number < std::min(classes.size(), one.failed_by_class.size()); ++number) {
      const std::uint64_t now = one.failed_by_class[number];
      out[bin_of(one.time_ns, span)][number] += now > before[number] ? now - before[number] : 0;
      any = any || now > before[number];
      before[number] = std::max(before[number], now);
    }
  }
  if (!any) {
    for (const failure_record& record : result.failures) {
      const auto found = std::find(classes.begin(), classes.end(), record.gfp_class);
      out[bin_of(record.time_ns, span)][static_cast<std::size_t>(found - classes.begin())] += 1;
    }
  }
  return out;
}

[[nodiscard]] std::uint64_t sum_of(const std::vector<std::uint64_t>& values) {
  std::uint64_t sum = 0;
  for (const std::uint64_t value : values) {
    sum += value;
  }
  return sum;
}

[[nodiscard]] std::string axes(const plot& area, std::uint64_t span) {
  std::string out;
  for (const std::uint64_t tick : decimal_ticks(whole_number(area.y_max), 4)) {
    const double y = area.y(static_cast<double>(tick));
    out += horizontal(area.left, area.right(), y, "grid");
    out += text_at(area.left - 10.0, y + 4.0, R"(text-anchor="end")", human_count(tick));
  }
  for (const std::uint64_t tick : decimal_ticks(span, 9)) {
    out += text_at(area.x(static_cast<double>(tick)), area.bottom() + 18.0, R"(text-anchor="middle")", tick == 0 ? "0" : html_ns(tick));
  }
  return out;
}

[[nodiscard]] std::string bars(const plot& area, const class_bins& counts, const std::vector<std::string>& classes, std::uint64_t span) {
  const double width = area.width / static_cast<double>(bins);
  std::string out;
  for (std::size_t bin = 0; bin < bins; ++bin) {
    const std::uint64_t sum = sum_of(counts[bin]);
    if (sum == 0) {
      continue;
    }
    std::string tip =
        fmt::format("{} to {}: {} failed", html_ns(bin * (span / bins)), html_ns((bin + 1) * (span / bins)), human_count(sum));
    std::string parts;
    double base = 0.0;
    for (std::size_t number = 0; number < classes.size(); ++number) {
      const auto value = static_cast<double>(counts[bin][number]);
      if (value > 0.0) {
        const double top = area.y(base + value);
        parts += rect(area.left + static_cast<double>(bin) * width, top, std::max(1.0, width - 1.5), area.y(base) - top,
                      fmt::format("class=\"{}\"", shade_of(number)));
        tip += fmt::format("\n{} {}", classes[number], human_count(counts[bin][number]));
        base += value;
      }
    }
    out += fmt::format("<g data-tip=\"{}\">{}</g>", html_escape(tip), parts);
  }
  return out;
}

[[nodiscard]] std::string histogram(const replay_result& result) {
  const std::vector<std::string> classes = class_order(result);
  std::uint64_t span = result.samples.empty() ? 0 : result.samples.back().time_ns;
  for (const failure_record& record : result.failures) {
    span = std::max(span, record.time_ns);
  }
  const class_bins counts = failures_over_time(result, classes, span);
  std::vector<std::uint64_t> by_class(classes.size(), 0);
  std::uint64_t most = 0;
  for (const std::vector<std::uint64_t>& one : counts) {
    most = std::max(most, sum_of(one));
    for (std::size_t number = 0; number < classes.size(); ++number) {
      by_class[number] += one[number];
    }
  }
  if (most == 0) {
    return "";
  }
  std::string items;
  for (std::size_t number = 0; number < classes.size(); ++number) {
    items += by_class[number] == 0 ? "" : legend_item(shade_of(number), classes[number]);
  }
  const plot area{76.0, 12.0, view_width - 76.0 - 12.0, 170.0, static_cast<double>(span), static_cast<double>(most) * 1.05};
  return fmt::format(
      R"(<h3>Over time, by class</h3><ul class="legend">{}</ul><div class="scroll"><svg viewBox="0 0 {} 210" role="img" aria-label=)"
      R"("Failed allocations over time by gfp class">{}{}</svg></div>)",
      items, number(view_width), axes(area, span), bars(area, counts, classes, span));
}

// Rows: gfp classes. Columns: the steps that the chain came to.
[[nodiscard]] std::string step_table(const replay_result& result) {
  const std::vector<name_count> steps = failed_by_step(result);
  if (steps.empty()) {
    return "";
  }
  std::map<std::string, std::map<std::string, std::uint64_t>> cells;
  std::uint64_t most = 0;
  for (const gfp_row& row : result.by_gfp) {
    for (const name_count& step : row.failed_by_step) {
      std::uint64_t& one = cells[row.gfp_class][step.name];
      one += step.count;
      most = std::max(most, one);
    }
  }
  std::string out = "<h3>Last step of the chain that was reached</h3><div class=\"scroll\"><table><thead><tr><th class=\"l\">Class</th>";
  for (const name_count& step : steps) {
    out += fmt::format("<th>{}</th>", html_escape(step.name));
  }
  out += "</tr></thead><tbody>";
  for (const std::string& name : class_order(result)) {
    if (cells.count(name) == 0) {
      continue;
    }
    out += fmt::format("<tr><td class=\"l name\"><code>{}</code></td>", html_escape(name));
    for (const name_count& step : steps) {
      const std::uint64_t value = cells[name][step.name];
      out += value == 0 ? "<td class=\"zero\">\u00b7</td>"
                        : fmt::format("<td class=\"heat\" style=\"--h:var(--bad);--o:{:.2f}\">{}</td>",
                                      0.06 + 0.26 * static_cast<double>(value) / static_cast<double>(most), human_count(value));
    }
    out += "</tr>";
  }
  return out + "</tbody></table></div>";
}

[[nodiscard]] std::string record_row(const failure_record& record, bool with_trace) {
  const std::string what = record.order >= 0 ? fmt::format("order {}", record.order) : html_escape(record.cache);
  std::string out = "<tr>";
  out += with_trace ? fmt::format("<td>{}</td>", record.trace + 1) : "";
  out += fmt::format(
      "<td>{}</td><td>{}</td><td class=\"l name\">{}</td><td>{}</td><td class=\"l\"><code>{}</code></td><td class=\"l name\">{}</td>",
      human_count(record.line), html_ns(record.time_ns), what, human_bytes(record.size_bytes), html_escape_breakable(record.gfp),
      to_string(record.context));
  out += fmt::format("<td class=\"l name\">{}</td><td class=\"l name\">{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                     html_escape(record.step), html_escape(record.zone), human_bytes(record.charged_bytes), human_bytes(record.free_bytes),
                     human_bytes(record.reserve_bytes));
  return out;
}

[[nodiscard]] std::string record_table(const replay_result& result) {
  if (result.failures.empty()) {
    return "";
  }
  const std::size_t shown = std::min(shown_records, result.failures.size());
  const bool with_trace = result.traces.size() > 1;
  std::string out = fmt::format("<h3>The first {} of {}</h3><div class=\"tall\" tabindex=\"0\"><table><thead><tr>{}", human_count(shown),
                                human_count(std::max<std::uint64_t>(result.total.failed, shown)), with_trace ? "<th>Trace</th>" : "");
  out +=
      "<th>Line</th><th>Time</th><th class=\"l\">What</th><th>Size</th><th class=\"l\">Flags</th><th class=\"l\">Context</th>"
      "<th class=\"l\">Step</th><th class=\"l\">Zone</th><th>Charged</th><th>Free</th><th>Reserve</th></tr></thead><tbody>";
  for (std::size_t place = 0; place < shown; ++place) {
    out += record_row(result.failures[place], with_trace);
  }
  return out + "</tbody></table></div>";
}

[[nodiscard]] std::string error_table(const replay_result& result) {
  if (result.errors.empty() && result.total.errors == 0) {
    return "";
  }
  std::string out = fmt::format("<h3>Errors: {}</h3>", human_count(result.total.errors));
  out += "<div class=\"tall\" tabindex=\"0\"><table><thead><tr><th>Line</th><th class=\"l\">What was wrong</th></tr></thead><tbody>";
  for (const described_error& error : result.errors) {
    out += fmt::format("<tr><td>{}</td><td class=\"l badn\">{}</td></tr>", error.line == 0 ? "" : human_count(error.line),
                       html_escape(error.text));
  }
  return out + "</tbody></table></div>";
}

}  // namespace

std::string failure_section(const replay_result& result) {
  if (result.total.failed == 0 && result.failures.empty()) {
    return section(
        "failures", "Failures", "No allocation returned NULL.",
        error_table(result) + (result.total.errors == 0 ? "<p class=\"ok\">Nothing to show: every request was served.</p>" : ""));
  }
  const std::string lead = "An allocation returns NULL only after every step that its flags permit has been tried; each leaves a record.";
  return section("failures", "Failures", lead, histogram(result) + step_table(result) + record_table(result) + error_table(result));
}

}  // namespace kmem::tool::report
