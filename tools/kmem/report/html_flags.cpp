// Allocations by flag and context.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "escape.hpp"
#include "html_parts.hpp"
#include "units.hpp"

namespace kmem::tool::report {

namespace {

struct cell {
  std::uint64_t allocs = 0;
  std::uint64_t bytes = 0;
  std::uint64_t failed = 0;
};

struct class_line {
  std::string name;
  std::array<cell, alloc_context_count> cells{};
  cell sum;
};

[[nodiscard]] std::vector<class_line> lines_of(const replay_result& result) {
  std::vector<class_line> lines;
  for (const std::string& name : class_order(result)) {
    lines.push_back({name, {}, {}});
  }
  for (const context_row& row : result.by_context) {
    const auto line = std::find_if(lines.begin(), lines.end(), [&](const class_line& one) { return one.name == row.gfp_class; });
    cell& one = line->cells[static_cast<std::size_t>(row.context) % alloc_context_count];
    for (cell* sum : {&one, &line->sum}) {
      sum->allocs += row.allocs;
      sum->bytes += row.bytes;
      sum->failed += row.failed;
    }
  }
  std::erase_if(lines, [](const class_line& line) { return line.sum.allocs == 0 && line.sum.failed == 0; });
  return lines;
}

// Counts differ by five orders of magnitude: the tint goes by their logarithm.
[[nodiscard]] double heat(std::uint64_t value, std::uint64_t max) {
  return value == 0 || max == 0 ? 0.0 : 0.08 + 0.42 * std::log1p(static_cast<double>(value)) / std::log1p(static_cast<double>(max));
}

[[nodiscard]] std::string heat_cell(const cell& one, std::uint64_t max) {
  if (one.allocs == 0 && one.failed == 0) {
    return "<td class=\"zero\">\u00b7</td>";
  }
  const std::string failed = one.failed == 0 ? "" : fmt::format("<small class=\"badn\">{} failed</small>", human_count(one.failed));
  const std::string tip = fmt::format("{} allocations, {}\n{} failed ({})", human_count(one.allocs), human_bytes(one.bytes),
                                      human_count(one.failed), human_percent(percent(one.failed, one.allocs)));
  return fmt::format("<td class=\"heat\" style=\"--o:{:.2f}\" data-tip=\"{}\">{}{}</td>", heat(one.allocs, max), html_escape(tip),
                     human_count(one.allocs), failed);
}

[[nodiscard]] std::string stacked_bar(const class_line& line, std::uint64_t cell::*amount, std::uint64_t max, bool bytes) {
  std::string parts;
  for (std::size_t context = 0; context < alloc_context_count; ++context) {
    const std::uint64_t value = line.cells[context].*amount;
    if (value != 0) {
      const auto which = static_cast<alloc_context>(context);
      const std::string tip =
          fmt::format("{}, {}\n{}", line.name, to_string(which), bytes ? human_bytes(value) : human_count(value) + " allocations");
      parts += fmt::format("<i class=\"{}\" style=\"width:{:.2f}%\" data-tip=\"{}\"></i>", shade_of(which), percent(value, max),
                           html_escape(tip));
    }
  }
  return "<div class=\"stack\">" + parts + "</div>";
}

[[nodiscard]] std::string class_table(const std::vector<class_line>& lines) {
  std::uint64_t most_cell = 0;
  std::uint64_t most_allocs = 0;
  std::uint64_t most_bytes = 0;
  for (const class_line& line : lines) {
    most_allocs = std::max(most_allocs, line.sum.allocs);
    most_bytes = std::max(most_bytes, line.sum.bytes);
    for (const cell& one : line.cells) {
      most_cell = std::max(most_cell, one.allocs);
    }
  }
  std::string out = "<div class=\"scroll\"><table><thead><tr><th class=\"l\">Class</th>";
  for (std::size_t context = 0; context < alloc_context_count; ++context) {
    out += fmt::format("<th>{}</th>", to_string(static_cast<alloc_context>(context)));
  }
  out += "<th class=\"l\">Allocations</th><th class=\"l\">Bytes</th><th>Failed</th></tr></thead><tbody>";
  for (const class_line& line : lines) {
    out += fmt::format("<tr><td class=\"l name\"><code>{}</code></td>", html_escape(line.name));
    for (const cell& one : line.cells) {
      out += heat_cell(one, most_cell);
    }
    out += fmt::format("<td class=\"l\">{}</td><td class=\"l\">{}</td>", stacked_bar(line, &cell::allocs, most_allocs, false),
                       stacked_bar(line, &cell::bytes, most_bytes, true));
    out += fmt::format("<td class=\"{}\">{}</td></tr>", line.sum.failed == 0 ? "zero" : "badn", human_count(line.sum.failed));
  }
  return out + "</tbody></table></div>";
}

[[nodiscard]] std::string context_legend() {
  std::string items;
  for (std::size_t context = 0; context < alloc_context_count; ++context) {
    const auto which = static_cast<alloc_context>(context);
    items += legend_item(shade_of(which), to_string(which));
  }
  return "<ul class=\"legend\">" + items + "</ul>";
}

[[nodiscard]] std::string steps_of(const gfp_row& row) {
  std::string out;
  for (const name_count& step : row.failed_by_step) {
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", human_count(step.count), step.name);
  }
  return html_escape(out);
}

[[nodiscard]] std::string gfp_table(const replay_result& result) {
  std::vector<const gfp_row*> rows;
  for (const gfp_row& row : result.by_gfp) {
    rows.push_back(&row);
  }
  std::stable_sort(rows.begin(), rows.end(), [](const gfp_row* left, const gfp_row* right) { return left->allocs > right->allocs; });
  std::string out =
      fmt::format("<details><summary>All gfp strings<small>{}</small></summary><div class=\"scroll\"><table><thead><tr>", rows.size());
  out +=
      "<th class=\"l\">Flags</th><th>Allocations</th><th>Bytes</th><th>Failed</th><th class=\"l\">Last step reached</th>"
      "<th>p50</th><th>p99</th><th>p99.9</th><th>max</th></tr></thead><tbody>";
  for (const gfp_row* row : rows) {
    out += fmt::format("<tr><td class=\"l\"><code>{}</code></td><td>{}</td><td>{}</td><td class=\"{}\">{}</td><td class=\"l\">{}</td>",
                       html_escape_breakable(row->gfp), human_count(row->allocs), human_bytes(row->bytes),
                       row->failed == 0 ? "zero" : "badn", human_count(row->failed), steps_of(*row));
    out += fmt::format("<td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>", html_ns(row->latency_ns.percentile(50)),
                       html_ns(row->latency_ns.percentile(99)), html_ns(row->latency_ns.percentile(99.9)), html_ns(row->latency_ns.max()));
  }
  return out + "</tbody></table></div></details>";
}

}  // namespace

std::string flag_section(const replay_result& result) {
  const std::string lead =
      "Who asked for memory, under which rules, from which context. The tint of a cell goes by the logarithm of its count; the bars are "
      "to scale.";
  const std::vector<class_line> lines = lines_of(result);
  if (lines.empty() && result.by_gfp.empty()) {
    return section("flags", "Allocations by flag and context", lead, "<p class=\"none\">Nothing was allocated.</p>");
  }
  return section("flags", "Allocations by flag and context", lead,
                 (lines.empty() ? "" : context_legend() + class_table(lines)) + (result.by_gfp.empty() ? "" : gfp_table(result)));
}

}  // namespace kmem::tool::report
