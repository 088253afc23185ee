// The terminal's comparison of two replays.

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "compare.hpp"
#include "escape.hpp"
#include "table.hpp"
#include "text.hpp"
#include "units.hpp"

namespace kmem::tool::report {

namespace {

constexpr std::size_t name_width = 40;

struct column_names {
  std::string first;
  std::string second;
};

// The budgets name the columns; where they are equal, A and B do.
[[nodiscard]] column_names names_of(const replay_result& first, const replay_result& second) {
  if (first.budget_bytes == second.budget_bytes) {
    return {"A", "B"};
  }
  return {human_bytes(first.budget_bytes), human_bytes(second.budget_bytes)};
}

[[nodiscard]] std::string heading(const std::string& text, const text_options& options) {
  return "\n" + tinted(text, tint::bold, options.colour) + "\n";
}

[[nodiscard]] std::string figures(const replay_result& first, const replay_result& second, const column_names& names,
                                  const text_options& options) {
  text_table table({{"", align::left}, {names.first}, {names.second}});
  const auto counts = [&](const char* name, std::uint64_t left, std::uint64_t right, bool bad) {
    table.add({name,
               {human_count(left), bad && left != 0 ? tint::red : tint::none},
               {human_count(right), bad && right != 0 ? tint::red : tint::none}});
  };
  const auto sizes = [&](const char* name, std::uint64_t left, std::uint64_t right) {
    table.add({name, human_bytes(left), human_bytes(right)});
  };
  counts("allocations", first.total.allocs, second.total.allocs, false);
  counts("failed", first.total.failed, second.total.failed, true);
  counts("errors", first.total.errors, second.total.errors, true);
  sizes("charged, peak", first.peak.charged_bytes, second.peak.charged_bytes);
  table.add({"  of the budget", human_percent(percent(first.peak.charged_bytes, first.budget_bytes)),
             human_percent(percent(second.peak.charged_bytes, second.budget_bytes))});
  sizes("live, peak", first.peak.live_bytes, second.peak.live_bytes);
  sizes("metadata, peak", first.peak.metadata_bytes, second.peak.metadata_bytes);
  sizes("reclaimed", first.total.dropped_bytes, second.total.dropped_bytes);
  counts("reclaim calls", first.total.reclaim_calls, second.total.reclaim_calls, false);
  for (std::size_t path = 0; path < latency_path_count; ++path) {
    const latency_histogram& left = first.latency_ns[path];
    const latency_histogram& right = second.latency_ns[path];
    if (left.count() + right.count() != 0) {
      const auto shown = [](const latency_histogram& one) { return one.count() == 0 ? std::string("-") : human_ns(one.percentile(99)); };
      table.add({fmt::format("{}, p99", to_string(static_cast<latency_path>(path))), shown(left), shown(right)});
    }
  }
  return table.render(options.colour);
}

[[nodiscard]] std::string failed_cell(const outcome& one) {
  return one.failed == 0 ? "0" : fmt::format("{} ({})", human_count(one.failed), human_percent(percent(one.failed, one.allocs)));
}

[[nodiscard]] std::string differing(const char* title, const std::vector<outcome_pair>& rows, bool with_detail, bool with_allocs,
                                    const column_names& names, const text_options& options) {
  text_table table({{with_detail ? "class" : "name", align::left, name_width},
                    {with_detail ? "context" : "", align::left},
                    {with_allocs ? "allocs" : ""},
                    {"failed, " + names.first},
                    {"failed, " + names.second}});
  std::size_t alike = 0;
  for (const outcome_pair& row : rows) {
    if (row.first.failed == row.second.failed && row.first.allocs == row.second.allocs) {
      ++alike;
      continue;
    }
    const std::uint64_t allocs = std::max(row.first.allocs, row.second.allocs);
    const auto cell = [&](const outcome& one) {
      return text_table::cell(with_allocs ? failed_cell(one) : human_count(one.failed), one.failed == 0 ? tint::dim : tint::red);
    };
    table.add({printable(row.name), row.detail, with_allocs ? human_count(allocs) : "", cell(row.first), cell(row.second)});
  }
  if (table.empty()) {
    return "";
  }
  if (alike != 0) {
    table.add_note(fmt::format("{} more alike in both", alike));
  }
  return heading(title, options) + table.render(options.colour);
}

}  // namespace

std::string text_comparison(const replay_result& first, const replay_result& second, const text_options& options) {
  const column_names names = names_of(first, second);
  std::string out = tinted("Comparison", tint::bold, options.colour) + "\n";
  const auto line = [&](const std::string& name, const replay_result& result) {
    for (const std::string& piece : wrapped(fmt::format("{}: {}", name, printable(verdict(result))), 96)) {
      out += "  " + tinted(piece, is_clean(result) ? tint::green : tint::red, options.colour) + "\n";
    }
  };
  line(names.first, first);
  line(names.second, second);
  out += "\n" + figures(first, second, names, options);
  const std::string by_gfp = differing("What differed, by gfp flags", compare_by_gfp(first, second), false, true, names, options);
  const std::string by_context =
      differing("What differed, by class and context", compare_by_context(first, second), true, true, names, options);
  const std::string by_step = differing("Last step reached", compare_by_step(first, second), false, false, names, options);
  if (by_gfp.empty() && by_context.empty()) {
    out += "\n  No flag and no context fared differently.\n";
  }
  return out + by_gfp + by_context + by_step;
}

}  // namespace kmem::tool::report
