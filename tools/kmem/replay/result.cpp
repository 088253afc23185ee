// From what was counted and read to the result that the writers show.

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "engine.hpp"
#include "sleeps.hpp"

namespace kmem::tool::replay {

namespace {

using trace::event_kind;

// Events that make no request although they were understood.
std::uint64_t skipped_of(event_kind kind, const planned_trace& from) {
  const trace::request_counts& counts = from.counts;
  const bool single_frees = from.lines.of(event_kind::page_free) != 0;
  const std::uint64_t page_frees = counts.slab_page_frees + counts.partial_page_frees;
  switch (kind) {
    case event_kind::kfree:
      return counts.null_frees;
    case event_kind::page_alloc:
      return counts.pages.slab + counts.pages.kmalloc_large;
    case event_kind::page_free:
      return page_frees;
    case event_kind::page_free_batched:
      return counts.batched_duplicates + (single_frees ? 0 : page_frees);
    default:
      return 0;
  }
}

void fill_kinds(const plan& work, const tally& total, report::replay_result& out) {
  for (std::size_t number = 0; number < trace::event_kind_count; number++) {
    const auto kind = static_cast<event_kind>(number);
    report::kind_row row;
    row.kind = trace::event_name(kind);
    for (const planned_trace& each : work.traces) {
      row.events += each.lines.of(kind);
      row.skipped += each.lines.of(kind) == 0 ? 0 : skipped_of(kind, each);
    }
    row.replayed = total.by_kind[number].replayed;
    row.failed = total.by_kind[number].failed;
    row.bytes = total.by_kind[number].bytes;
    if (row.events != 0) out.by_kind.push_back(std::move(row));
  }
}

void fill_flags(const plan& work, const tally& total, report::replay_result& out) {
  out.gfp_classes = work.gfp_classes;
  for (std::size_t number = 0; number < work.gfps.size(); number++) {
    const gfp_tally& from = total.by_gfp[number];
    report::gfp_row row;
    row.gfp = work.gfps[number].text;
    row.gfp_class = work.gfp_classes[work.gfps[number].gfp_class];
    row.allocs = from.outcome.allocs;
    row.bytes = from.outcome.bytes;
    row.failed = from.outcome.failed;
    row.failed_bytes = from.outcome.failed_bytes;
    row.latency_ns = from.latency;
    for (const auto& [step, count] : from.failed_by_step) row.failed_by_step.push_back({std::string(step), count});
    std::stable_sort(row.failed_by_step.begin(), row.failed_by_step.end(),
                     [](const report::name_count& left, const report::name_count& right) { return left.count > right.count; });
    out.by_gfp.push_back(std::move(row));
  }
  std::stable_sort(out.by_gfp.begin(), out.by_gfp.end(),
                   [](const report::gfp_row& left, const report::gfp_row& right) { return left.allocs > right.allocs; });
  for (std::size_t cell = 0; cell < total.by_context.size(); cell++) {
    const outcome_tally& from = total.by_context[cell];
    if (from.allocs == 0) continue;
    const auto context = static_cast<report::alloc_context>(cell % report::alloc_context_count);
    out.by_context.push_back({context, work.gfp_classes[cell / report::alloc_context_count], from.allocs, from.bytes, from.failed});
  }
}

void fill_caches(const tally& total, std::vector<report::cache_row> rows, report::replay_result& out) {
  for (std::size_t number = 0; number < rows.size(); number++) {
    report::cache_row& row = rows[number];
    const cache_tally& from = total.by_cache[number];
    row.allocs = from.allocs;
    row.failed = from.failed;
    row.requested_bytes = from.requested_bytes;
    row.allocated_bytes = from.allocated_bytes;
    if (row.allocs + row.failed + row.slabs != 0) out.by_cache.push_back(std::move(row));
  }
}

void fill_totals(const plan& work, const tally& total, report::totals& out) {
  for (const planned_trace& each : work.traces) {
    const trace::request_counts& counts = each.counts;
    out.events += each.lines.all_events();
    out.other_events += each.lines.other_events;
    out.unmatched_frees += counts.unmatched_object_frees + counts.unmatched_page_frees + counts.hidden_frees;
    out.implied_frees += counts.implied_by_reuse + counts.implied_by_page;
    out.null_frees += counts.null_frees;
    out.skipped_pages_events += counts.pages.slab + counts.pages.kmalloc_large + counts.slab_page_frees + counts.batched_duplicates;
  }
  out.allocs = total.allocs;
  out.frees = total.frees;
  out.failed = total.failed;
  out.frees_of_failed = total.frees_of_failed;
  out.requested_bytes = total.requested_bytes;
  out.late_frees_of_dropped = total.late_frees;
}

// Texts of vmstat that are not counts of events.
bool is_gauge(std::string_view name) { return name.starts_with("nr_") || name == "kmem_charged" || name == "kmem_metadata"; }

std::vector<report::name_count> growth(const std::vector<report::name_count>& before, const std::vector<report::name_count>& after) {
  std::vector<report::name_count> out;
  for (const report::name_count& each : after) {
    if (is_gauge(each.name)) continue;
    const auto found =
        std::find_if(before.begin(), before.end(), [&](const report::name_count& one) { return one.name == each.name; });
    const std::uint64_t from = found == before.end() ? 0 : found->count;
    out.push_back({each.name, each.count > from ? each.count - from : 0});
  }
  return out;
}

// What was done differently from the trace, and how often.
void fill_notes(const plan& work, const tally& total, std::uint64_t clock_cost_ns, std::vector<report::name_value>& out) {
  const auto note = [&](const char* name, std::uint64_t count) {
    if (count != 0) out.push_back({name, std::to_string(count)});
  };
  out.push_back({"clock_cost_ns", std::to_string(clock_cost_ns)});
  note("run_as_task", total.early_boot);
  note("nofail_as_retry", total.nofail);
  note("masks_with_unknown_bits", total.unknown_bits);
  std::uint64_t failed_in_trace = 0;
  std::uint64_t lost_events = 0;
  for (const planned_trace& each : work.traces) {
    failed_in_trace += each.counts.failed_in_trace;
    lost_events += each.lines.lost_events;
  }
  note("failed_in_trace", failed_in_trace);
  note("lost_events", lost_events);
}

}  // namespace

report::replay_result engine::result() const {
  report::replay_result out;
  for (const planned_trace& each : work_.traces) out.traces.push_back(each.info);
  out.threads = options_.threads;
  out.touch = options_.touch || options_.verify;
  out.verify = options_.verify;
  out.completed = completed_;
  if (!completed_) out.stop_reason = interrupted_ ? "interrupted" : "an error was found; --keep-going goes on";
  out.wall_ns = wall_ns_;
  fill_notes(work_, total_, state_.clock_cost_ns, out.parameters);
  fill_totals(work_, total_, out.total);
  out.total.dropped_pages = droppable_.dropped_pages();
  out.total.dropped_bytes = droppable_.dropped_pages() * page_bytes;
  out.total.reclaim_calls = droppable_.calls();
  out.total.live_at_end_objects = left_objects_;
  out.total.live_at_end_bytes = left_bytes_;
  out.total.charged_after_bytes = charged_after_bytes_;
  out.total.errors = state_.errors.count();
  out.errors = state_.errors.kept();
  out.peak = sampler_.peak;
  out.peak.live_bytes = state_.figures.live_peak_bytes.load();
  out.samples = sampler_.samples;
  out.block_caches = sampler_.block_caches;
  out.block_maps = sampler_.maps;
  out.budget_bytes = out.samples.empty() ? 0 : out.samples.front().budget_bytes;
  fill_kinds(work_, total_, out);
  fill_flags(work_, total_, out);
  out.latency_ns = total_.latency;
  out.sleeps = sum_up_sleeps(work_, total_.sleeps, options_.threads, sleeps_after_ - sleeps_before_);
  out.shrinkers = droppable_.rows();
  out.vmstat = growth(vmstat_before_, vmstat_after_);
  out.failures = total_.failures;
  std::stable_sort(out.failures.begin(), out.failures.end(), [](const report::failure_record& left, const report::failure_record& right) {
    return std::pair(left.trace, left.line) < std::pair(right.trace, right.line);
  });
  if (out.failures.size() > tally::failures_kept) out.failures.resize(tally::failures_kept);
  out.cache_moment = "at the charged peak";
  fill_caches(total_, sampler_.peak_caches, out);
  out.slabinfo = sampler_.peak_slabinfo;
  out.buddyinfo = sampler_.peak_buddyinfo;
  return out;
}

}  // namespace kmem::tool::replay
