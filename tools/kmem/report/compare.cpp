#include "compare.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "units.hpp"

namespace kmem::tool::report {

namespace {

using key = std::pair<std::string, std::string>;
using joined = std::map<key, std::pair<outcome, outcome>>;

[[nodiscard]] std::uint64_t difference(std::uint64_t one, std::uint64_t other) noexcept { return one > other ? one - other : other - one; }

[[nodiscard]] std::vector<outcome_pair> sorted_rows(const joined& rows) {
  std::vector<outcome_pair> out;
  for (const auto& [names, pair] : rows) {
    const auto& [first, second] = pair;
    if (first.allocs + first.failed + second.allocs + second.failed != 0) {
      out.push_back({names.first, names.second, first, second});
    }
  }
  std::stable_sort(out.begin(), out.end(), [](const outcome_pair& left, const outcome_pair& right) {
    const std::uint64_t left_difference = difference(left.first.failed, left.second.failed);
    const std::uint64_t right_difference = difference(right.first.failed, right.second.failed);
    return std::pair(left_difference, left.first.allocs + left.second.allocs) >
           std::pair(right_difference, right.first.allocs + right.second.allocs);
  });
  return out;
}

void add(outcome& sum, std::uint64_t allocs, std::uint64_t failed) noexcept {
  sum.allocs += allocs;
  sum.failed += failed;
}

}  // namespace

std::vector<outcome_pair> compare_by_gfp(const replay_result& first, const replay_result& second) {
  joined rows;
  for (const gfp_row& row : first.by_gfp) {
    add(rows[{row.gfp, ""}].first, row.allocs, row.failed);
  }
  for (const gfp_row& row : second.by_gfp) {
    add(rows[{row.gfp, ""}].second, row.allocs, row.failed);
  }
  return sorted_rows(rows);
}

std::vector<outcome_pair> compare_by_context(const replay_result& first, const replay_result& second) {
  joined rows;
  for (const context_row& row : first.by_context) {
    add(rows[{row.gfp_class, std::string(to_string(row.context))}].first, row.allocs, row.failed);
  }
  for (const context_row& row : second.by_context) {
    add(rows[{row.gfp_class, std::string(to_string(row.context))}].second, row.allocs, row.failed);
  }
  return sorted_rows(rows);
}

std::vector<outcome_pair> compare_by_step(const replay_result& first, const replay_result& second) {
  joined rows;
  for (const name_count& step : failed_by_step(first)) {
    rows[{step.name, ""}].first.failed += step.count;
  }
  for (const name_count& step : failed_by_step(second)) {
    rows[{step.name, ""}].second.failed += step.count;
  }
  return sorted_rows(rows);
}

std::vector<name_count> failed_by_step(const replay_result& result) {
  std::map<std::string, std::uint64_t> sums;
  for (const gfp_row& row : result.by_gfp) {
    for (const name_count& step : row.failed_by_step) {
      sums[step.name] += step.count;
    }
  }
  std::vector<name_count> out;
  for (const auto& [name, count] : sums) {
    if (count != 0) {
      out.push_back({name, count});
    }
  }
  std::stable_sort(out.begin(), out.end(), [](const name_count& left, const name_count& right) { return left.count > right.count; });
  return out;
}

bool is_clean(const replay_result& result) noexcept { return result.completed && result.total.failed == 0 && result.total.errors == 0; }

std::string verdict(const replay_result& result) {
  const totals& total = result.total;
  std::string text;
  if (total.allocs == 0) {
    text = "nothing was allocated";
  } else if (total.failed == 0) {
    text = fmt::format("all {} allocations were served", human_count(total.allocs));
  } else {
    text = fmt::format("{} of {} allocations returned NULL ({})", human_count(total.failed), human_count(total.allocs),
                       human_percent(percent(total.failed, total.allocs)));
  }
  if (total.dropped_pages != 0) {
    text += fmt::format(", {} reclaimed", human_bytes(total.dropped_bytes));
  }
  if (total.errors != 0) {
    text += fmt::format(", {} {} found", human_count(total.errors), total.errors == 1 ? "error" : "errors");
  }
  if (!result.completed) {
    text += result.stop_reason.empty() ? "; stopped early" : "; stopped early: " + result.stop_reason;
  }
  return text;
}

}  // namespace kmem::tool::report
