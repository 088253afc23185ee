// Two replays on one page.

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "compare.hpp"
#include "escape.hpp"
#include "html.hpp"
#include "html_parts.hpp"
#include "svg.hpp"
#include "units.hpp"

namespace kmem::tool::report {

namespace {

constexpr double view_width = 1120.0;
constexpr std::size_t shown_samples = 600;

struct run_names {
  std::string first;
  std::string second;
};

[[nodiscard]] run_names names_of(const replay_result& first, const replay_result& second) {
  if (first.budget_bytes == second.budget_bytes) {
    return {"A: " + title_of(first), "B: " + title_of(second)};
  }
  return {human_bytes(first.budget_bytes), human_bytes(second.budget_bytes)};
}

[[nodiscard]] std::string run_card(const std::string& name, const replay_result& result) {
  return card(name, title_of(result),
              fmt::format("<span class=\"pill {}\">{}</span>", is_clean(result) ? "good" : "bad", html_escape(verdict(result))));
}

[[nodiscard]] std::string figure_row(const char* name, const std::string& left, const std::string& right, bool bad_left = false,
                                     bool bad_right = false) {
  return fmt::format("<tr><td class=\"l\">{}</td><td class=\"{}\">{}</td><td class=\"{}\">{}</td></tr>", html_escape(name),
                     bad_left ? "badn" : "", html_escape(left), bad_right ? "badn" : "", html_escape(right));
}

[[nodiscard]] std::string figures(const replay_result& first, const replay_result& second, const run_names& names) {
  std::string rows = figure_row("Allocations", human_count(first.total.allocs), human_count(second.total.allocs));
  rows += figure_row("Returned NULL", human_count(first.total.failed), human_count(second.total.failed), first.total.failed != 0,
                     second.total.failed != 0);
  rows += figure_row("Errors", human_count(first.total.errors), human_count(second.total.errors), first.total.errors != 0,
                     second.total.errors != 0);
  rows += figure_row("Charged, peak", human_bytes(first.peak.charged_bytes), human_bytes(second.peak.charged_bytes));
  rows += figure_row("of the budget", human_percent(percent(first.peak.charged_bytes, first.budget_bytes)),
                     human_percent(percent(second.peak.charged_bytes, second.budget_bytes)));
  rows += figure_row("Live, peak", human_bytes(first.peak.live_bytes), human_bytes(second.peak.live_bytes));
  rows += figure_row("Metadata, peak", human_bytes(first.peak.metadata_bytes), human_bytes(second.peak.metadata_bytes));
  rows += figure_row("Reclaimed", human_bytes(first.total.dropped_bytes), human_bytes(second.total.dropped_bytes));
  for (std::size_t path = 0; path < latency_path_count; ++path) {
    const auto shown = [&](const replay_result& result) {
      const latency_histogram& one = result.latency_ns[path];
      return one.count() == 0 ? std::string("-") : html_ns(one.percentile(50)) + " / " + html_ns(one.percentile(99));
    };
    const std::string name = fmt::format("{}, p50 / p99", to_string(static_cast<latency_path>(path)));
    rows += figure_row(name.c_str(), shown(first), shown(second));
  }
  return fmt::format(
      "<h3>In figures</h3><div class=\"scroll\"><table><thead><tr><th "
      "class=\"l\"></th><th>{}</th><th>{}</th></tr></thead><tbody>{}</tbody></table></div>",
      html_escape(names.first), html_escape(names.second), rows);
}

[[nodiscard]] std::string failed_cell(const outcome& one) {
  if (one.failed == 0) {
    return "<td class=\"zero\">0</td>";
  }
  const double share = percent(one.failed, one.allocs);
  const std::string text =
      one.allocs == 0 ? human_count(one.failed) : fmt::format("{} ({})", human_count(one.failed), human_percent(share));
  return fmt::format("<td class=\"heat\" style=\"--h:var(--bad);--o:{:.2f}\">{}</td>", 0.08 + 0.3 * std::min(1.0, share / 25.0),
                     html_escape(text));
}

[[nodiscard]] std::string difference_table(const char* heading, const char* name, const std::vector<outcome_pair>& rows,
                                           const run_names& names) {
  std::string body;
  std::size_t alike = 0;
  for (const outcome_pair& row : rows) {
    if (row.first.failed == row.second.failed && row.first.allocs == row.second.allocs) {
      ++alike;
      continue;
    }
    body += fmt::format("<tr><td class=\"l\"><code>{}</code>{}</td><td>{}</td>{}{}</tr>", html_escape_breakable(row.name),
                        row.detail.empty() ? "" : " <span class=\"tag\">" + html_escape(row.detail) + "</span>",
                        human_count(std::max(row.first.allocs, row.second.allocs)), failed_cell(row.first), failed_cell(row.second));
  }
  const std::string rest = alike == 0 ? "" : fmt::format("<p class=\"none\">{} more fared alike in both.</p>", alike);
  if (body.empty()) {
    return fmt::format("<h3>{}</h3>{}", heading, rest.empty() ? "<p class=\"none\">No difference.</p>" : rest);
  }
  return fmt::format(
      "<h3>{}</h3><div class=\"scroll\"><table><thead><tr><th class=\"l\">{}</th><th>Allocations</th><th>Failed, {}</th><th>Failed, {}</th>"
      "</tr></thead><tbody>{}</tbody></table></div>{}",
      heading, name, html_escape(names.first), html_escape(names.second), body, rest);
}

[[nodiscard]] std::string charged_line(const plot& area, const std::vector<sample>& samples, std::string_view shade) {
  std::vector<point> line;
  std::vector<point> ground;
  for (const sample& one : samples) {
    const double x = area.x(static_cast<double>(one.time_ns));
    line.push_back({x, area.y(static_cast<double>(one.charged_bytes))});
    ground.push_back({x, area.bottom()});
  }
  return fmt::format(R"(<path d="{}" class="{}" opacity=".13"/><path d="{}" class="line {}"/>)", area_path(line, ground), shade,
                     line_path(line), shade);
}

[[nodiscard]] std::string picture(const replay_result& first, const replay_result& second, const run_names& names) {
  std::uint64_t span = 0;
  std::uint64_t top = std::max(first.peak.charged_bytes, second.peak.charged_bytes);
  for (const replay_result* one : {&first, &second}) {
    span = one->samples.empty() ? span : std::max(span, one->samples.back().time_ns);
    top = one->budget_bytes < top * 4 ? std::max(top, one->budget_bytes) : top;
  }
  if (span == 0) {
    return "";
  }
  const plot area{76.0, 26.0, view_width - 76.0 - 12.0, 280.0, static_cast<double>(span), static_cast<double>(top) * 1.06};
  std::string out;
  for (const std::uint64_t tick : byte_ticks(whole_number(area.y_max), 5)) {
    const double y = area.y(static_cast<double>(tick));
    out += horizontal(area.left, area.right(), y, "grid") +
           text_at(area.left - 10.0, y + 4.0, R"(text-anchor="end")", tick == 0 ? "0" : human_bytes(tick));
  }
  for (const std::uint64_t tick : decimal_ticks(span, 9)) {
    out += text_at(area.x(static_cast<double>(tick)), area.bottom() + 18.0, R"(text-anchor="middle")", tick == 0 ? "0" : html_ns(tick));
  }
  out += charged_line(area, thinned(first.samples, shown_samples), "c1") + charged_line(area, thinned(second.samples, shown_samples), "c3");
  for (const replay_result* one : {&first, &second}) {
    if (static_cast<double>(one->budget_bytes) <= area.y_max) {
      const double y = area.y(static_cast<double>(one->budget_bytes));
      out += horizontal(area.left, area.right(), y, "budget") +
             text_at(area.right(), y - 7.0, R"(text-anchor="end" class="strong")", "budget " + human_bytes(one->budget_bytes));
    }
  }
  return fmt::format(R"(<ul class="legend">{}{}</ul><div class="scroll"><svg viewBox="0 0 {} {}" role="img" )"
                     R"(aria-label="Charged memory of both runs">{}</svg></div>)",
                     legend_item("thin c1", "charged, " + names.first), legend_item("thin c3", "charged, " + names.second),
                     number(view_width), number(area.bottom() + 26.0), out);
}

}  // namespace

std::string html_comparison(const replay_result& first, const replay_result& second) {
  const run_names names = names_of(first, second);
  std::string body = "<header><h1>Two replays compared</h1></header>\n<div class=\"versus\">" + run_card(names.first, first) +
                     run_card(names.second, second) + "</div>\n";
  body += section("figures", "Figures", "The same requests under two conditions.",
                  picture(first, second, names) + figures(first, second, names));
  body += section("differences", "What differed", "Failed allocations by flag and context; rows that fared alike are left out.",
                  difference_table("By class and context", "Class", compare_by_context(first, second), names) +
                      difference_table("By gfp flags", "Flags", compare_by_gfp(first, second), names) +
                      difference_table("By the last step reached", "Step", compare_by_step(first, second), names));
  return page("kmem replay: comparison", "<a href=\"#figures\">Figures</a><a href=\"#differences\">What differed</a>", body);
}

}  // namespace kmem::tool::report
