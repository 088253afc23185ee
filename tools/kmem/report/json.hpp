#pragma once

// The machine-readable report.
//
// One object; keys come in this order and new ones are only ever added:
//   format ("kmem replay"), format_version, title, kmem_version, traces, threads, touch, verify, completed, stop_reason,
//   parameters, wall_ns,
//   events, other_events, allocs, frees, failed, frees_of_failed, unmatched_frees, implied_frees, null_frees,
//   skipped_pages_events, requested_bytes, dropped_pages, dropped_bytes, reclaim_calls, late_frees_of_dropped, errors,
//   live_at_end_objects, live_at_end_bytes, charged_after_bytes,
//   budget_bytes, charged_peak_bytes, live_peak_bytes, metadata_bytes (peak), arena_resident_peak_bytes,
//   charged_peak_time_ns,
//   gfp_classes, by_kind, by_gfp, by_context, cache_moment, by_cache, latency_ns, sleeps, shrinkers, vmstat, failures,
//   samples, block_caches, block_columns, block_maps, slabinfo, buddyinfo, error_list.
// `sleeps` has length_ns, unrecorded, by_end, by_gfp, by_cpu, by_pages and wakes; `vmstat` pairs of name and count. Files without these
// three are read as runs that did not sleep.
// `by_kind`, `by_gfp`, `by_cache` and `latency_ns` are objects by name, in the order of the result. `samples` is an object of columns of
// equal length. A block of a map is an array in the order of `block_columns`. A histogram has count, mean, min, p50,
// p99, p99_9, max, sum and `buckets`, pairs of [smallest value, count]. Units are in the names; result.hpp has the
// meanings. Strings that are not UTF-8 have their bad bytes replaced by U+FFFD.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "result.hpp"

namespace kmem::tool::report {

// Names the place in the document and what was expected there.
class json_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

[[nodiscard]] nlohmann::ordered_json to_json(const replay_result& result);
[[nodiscard]] std::string json_text(const replay_result& result);

// Reads what `json_text` wrote, so that stored runs can be compared. Keys that it does not know are ignored.
// Throws json_error.
[[nodiscard]] replay_result result_from_json(std::string_view text);

}  // namespace kmem::tool::report
