// What happened when memory was short, on a terminal: who slept and who woke whom, kswapd, shrinkers, and the reserve.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "escape.hpp"
#include "text_parts.hpp"
#include "units.hpp"

namespace kmem::tool::report {

namespace {

constexpr std::size_t name_width = 40;
constexpr std::size_t bar_width = 30;

[[nodiscard]] std::string sleep_table(const std::vector<sleep_row>& rows, const char* what, const text_options& options) {
  text_table table({{what, align::left, name_width}, {"sleeps"}, {"served"}, {"pages"}, {"p50"}, {"p99"}, {"max"}});
  for (std::size_t place = 0; place < std::min(limit_of(options), rows.size()); ++place) {
    const sleep_row& row = rows[place];
    table.add({printable(row.name), human_count(row.sleeps), human_count(row.served), human_count(row.pages),
               human_ns(row.length_ns.percentile(50)), human_ns(row.length_ns.percentile(99)), human_ns(row.length_ns.max())});
  }
  add_rest_note(table, rows.size() - std::min(limit_of(options), rows.size()));
  return table.render(options.colour);
}

[[nodiscard]] std::string length_bars(const sleep_figures& slept, const text_options& options) {
  text_table table({{"length"}, {"sleeps"}, {"", align::left}});
  const std::vector<decade_row> rows = by_decade(slept.length_ns);
  std::uint64_t most = 0;
  for (const decade_row& row : rows) {
    most = std::max(most, row.count);
  }
  for (const decade_row& row : rows) {
    const std::string bar = text_bar(row.count, most, bar_width, options.unicode);
    table.add({"from " + human_ns(row.low_ns), human_count(row.count), {bar, tint::cyan}});
  }
  return table.render(options.colour);
}

// The rows of all threads of a CPU together.
[[nodiscard]] std::vector<wake_row> by_pair(const std::vector<wake_row>& wakes) {
  std::map<std::tuple<std::string, std::string, std::string>, wake_row> rows;
  for (const wake_row& one : wakes) {
    wake_row& row = rows[{one.waker, one.cause, one.sleeper}];
    row.waker = one.waker;
    row.cause = one.cause;
    row.sleeper = one.sleeper;
    row.wakes += one.wakes;
    row.slept_ns += one.slept_ns;
  }
  std::vector<wake_row> out;
  for (auto& [key, row] : rows) {
    out.push_back(std::move(row));
  }
  std::stable_sort(out.begin(), out.end(), [](const wake_row& left, const wake_row& right) { return left.wakes > right.wakes; });
  return out;
}

[[nodiscard]] std::string wake_table(const sleep_figures& slept, const text_options& options) {
  const std::vector<wake_row> rows = by_pair(slept.wakes);
  text_table table({{"who", align::left, 24}, {"did", align::left}, {"and woke", align::left}, {"times"}, {"slept in all"}});
  for (std::size_t place = 0; place < std::min(limit_of(options), rows.size()); ++place) {
    const wake_row& row = rows[place];
    table.add({printable(row.waker), printable(cause_text(row.cause)),
               printable(row.sleeper), human_count(row.wakes), human_ns(row.slept_ns)});
  }
  add_rest_note(table, rows.size() - std::min(limit_of(options), rows.size()), "the JSON report");
  return table.render(options.colour);
}

[[nodiscard]] std::string kswapd_lines(const replay_result& result) {
  const std::uint64_t rounds = vmstat_of(result, "pageoutrun");
  std::string out;
  if (rounds == 0) {
    out += "  kswapd did not run\n";
  } else {
    const std::uint64_t slept_ns = vmstat_of(result, "kmem_kswapd_slept_us") * 1000;
    out += fmt::format("  kswapd was woken {} times, made {} rounds ({} in vain), gave up {} times, slept {} of {}\n",
                       human_count(vmstat_of(result, "kmem_kswapd_wakes")), human_count(rounds),
                       human_count(vmstat_of(result, "kmem_kswapd_vain_rounds")), human_count(vmstat_of(result, "kmem_kswapd_surrenders")),
                       human_ns(slept_ns), human_ns(result.wall_ns));
  }
  out += fmt::format("  allocations came to reclaim themselves {} times, and waited for kswapd {} times\n",
                     human_count(direct_reclaims(result)), human_count(vmstat_of(result, "pgscan_direct_throttle")));
  return out;
}

[[nodiscard]] std::string reclaim_table(const replay_result& result, const text_options& options) {
  text_table table({{"reclaim by", align::left}, {"pages asked for"}, {"pages that came free meanwhile"}});
  table.add({"kswapd", human_count(vmstat_of(result, "pgscan_kswapd")), human_count(vmstat_of(result, "pgsteal_kswapd"))});
  table.add({"allocations", human_count(vmstat_of(result, "pgscan_direct")), human_count(vmstat_of(result, "pgsteal_direct"))});
  return table.render(options.colour);
}

[[nodiscard]] std::string shrinker_table(const replay_result& result, const text_options& options) {
  text_table table({{"shrinker", align::left, 26}, {"needs", align::left}, {"counted"}, {"scans"}, {"scanned"}, {"freed"}, {"deferred"}});
  for (const shrinker_row& row : result.shrinkers) {
    table.add({printable(row.name), printable(row.needs), human_count(row.count_calls), human_count(row.scan_calls),
               human_count(row.scanned), human_count(row.freed), human_count(row.deferred)});
  }
  return table.empty() ? "" : table.render(options.colour);
}

[[nodiscard]] std::string reserve_lines(const replay_result& result) {
  const sample* const lowest = lowest_reserve(result);
  std::uint64_t full = 0;
  const sample* least_free = result.samples.empty() ? nullptr : &result.samples.front();
  for (const sample& one : result.samples) {
    full = std::max(full, one.reserve_bytes);
    least_free = one.free_bytes < least_free->free_bytes ? &one : least_free;
  }
  std::string out;
  if (lowest != nullptr) {
    out += fmt::format("  reserve: {} at most, lowest {} after {}\n", human_bytes(full), human_bytes(lowest->reserve_bytes),
                       human_ns(lowest->time_ns));
  }
  if (least_free == nullptr || least_free->high_bytes == 0) {
    return out;
  }
  out += fmt::format("  free: lowest {} after {}; watermarks then: min {}, low {}, high {}\n", human_bytes(least_free->free_bytes),
                     human_ns(least_free->time_ns), human_bytes(least_free->min_bytes), human_bytes(least_free->low_bytes),
                     human_bytes(least_free->high_bytes));
  return out;
}

}  // namespace

std::string sleep_section(const replay_result& result, const text_options& options) {
  const sleep_figures& slept = result.sleeps;
  if (slept.length_ns.count() == 0 && slept.unrecorded == 0) {
    return sleeps_without_record(result) ? heading("Sleeping for memory", options) + "  no sleep was long enough for a record\n" : "";
  }
  std::string out = heading("Sleeping for memory", options);
  out += fmt::format("  {} sleeps, {} in all: p50 {}, p99 {}, longest {}\n",
                     human_count(slept.length_ns.count()), human_ns(slept.length_ns.sum()), human_ns(slept.length_ns.percentile(50)),
                     human_ns(slept.length_ns.percentile(99)), human_ns(slept.length_ns.max()));
  if (const std::uint64_t deadlocks = vmstat_of(result, "kmem_deadlocks"); deadlocks != 0) {
    out += fmt::format("  every thread was seen to wait {} times\n", human_count(deadlocks));
  }
  out += slept.unrecorded == 0 ? "" : fmt::format("  {} more, of which no record was left\n", human_count(slept.unrecorded));
  if (slept.length_ns.count() == 0) {
    return out;
  }
  return out + length_bars(slept, options) + sleep_table(slept.by_end, "ended", options) + sleep_table(slept.by_gfp, "gfp", options) +
         sleep_table(slept.by_cpu, "CPU", options) + sleep_table(slept.by_pages, "waited for", options) + wake_table(slept, options);
}

std::string reclaim_section(const replay_result& result, const text_options& options) {
  std::string out = reserve_lines(result);
  if (!result.vmstat.empty()) {
    out += kswapd_lines(result) + reclaim_table(result, options) + shrinker_table(result, options);
  }
  return out.empty() ? "" : heading("Reserve and reclaim", options) + out;
}

}  // namespace kmem::tool::report
