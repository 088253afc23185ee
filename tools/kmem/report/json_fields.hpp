#pragma once

// The fields of each row under their JSON names, once for both directions: `visit` is called with a key and a field,
// for writing with a const row, for reading with one that is filled.

#include <concepts>
#include <type_traits>

#include "result.hpp"

namespace kmem::tool::report {

template <typename Row, typename Type>
concept row_of = std::same_as<std::remove_const_t<Row>, Type>;

template <typename Visit, row_of<name_value> Row>
void visit_fields(Visit& visit, Row& row) {
  visit("name", row.name);
  visit("value", row.value);
}

template <typename Visit, row_of<name_count> Row>
void visit_fields(Visit& visit, Row& row) {
  visit("name", row.name);
  visit("count", row.count);
}

template <typename Visit, row_of<trace_info> Row>
void visit_fields(Visit& visit, Row& row) {
  visit("path", row.path);
  visit("compression", row.compression);
  visit("file_bytes", row.file_bytes);
  visit("lines", row.lines);
  visit("events", row.events);
  visit("duration_ns", row.duration_ns);
  visit("cpus", row.cpus);
  visit("kernel", row.kernel);
}

template <typename Visit, row_of<kind_row> Row>
void visit_fields(Visit& visit, Row& row) {
  visit("kind", row.kind);
  visit("events", row.events);
  visit("replayed", row.replayed);
  visit("skipped", row.skipped);
  visit("failed", row.failed);
  visit("bytes", row.bytes);
}

template <typename Visit, row_of<gfp_row> Row>
void visit_fields(Visit& visit, Row& row) {
  visit("gfp", row.gfp);
  visit("gfp_class", row.gfp_class);
  visit("allocs", row.allocs);
  visit("bytes", row.bytes);
  visit("failed", row.failed);
  visit("failed_bytes", row.failed_bytes);
  visit("failed_by_step", row.failed_by_step);
  visit("latency_ns", row.latency_ns);
}

template <typename Visit, row_of<context_row> Row>
void visit_fields(Visit& visit, Row& row) {
  visit("context", row.context);
  visit("gfp_class", row.gfp_class);
  visit("allocs", row.allocs);
  visit("bytes", row.bytes);
  visit("failed", row.failed);
}

template <typename Visit, row_of<failure_record> Row>
void visit_fields(Visit& visit, Row& row) {
  visit("trace", row.trace);
  visit("line", row.line);
  visit("time_ns", row.time_ns);
  visit("kind", row.kind);
  visit("gfp", row.gfp);
  visit("gfp_class", row.gfp_class);
  visit("cache", row.cache);
  visit("order", row.order);
  visit("size_bytes", row.size_bytes);
  visit("context", row.context);
  visit("step", row.step);
  visit("zone", row.zone);
  visit("charged_bytes", row.charged_bytes);
  visit("free_bytes", row.free_bytes);
  visit("reserve_bytes", row.reserve_bytes);
}

template <typename Visit, row_of<cache_row> Row>
void visit_fields(Visit& visit, Row& row) {
  visit("name", row.name);
  visit("size_class", row.size_class);
  visit("object_bytes", row.object_bytes);
  visit("allocs", row.allocs);
  visit("failed", row.failed);
  visit("requested_bytes", row.requested_bytes);
  visit("allocated_bytes", row.allocated_bytes);
  visit("active_objects", row.active_objects);
  visit("total_objects", row.total_objects);
  visit("slabs", row.slabs);
  visit("pages_per_slab", row.pages_per_slab);
}

template <typename Visit, row_of<sleep_row> Row>
void visit_fields(Visit& visit, Row& row) {
  visit("name", row.name);
  visit("sleeps", row.sleeps);
  visit("served", row.served);
  visit("pages", row.pages);
  visit("length_ns", row.length_ns);
}

template <typename Visit, row_of<wake_row> Row>
void visit_fields(Visit& visit, Row& row) {
  visit("waker", row.waker);
  visit("waker_thread", row.waker_thread);
  visit("cause", row.cause);
  visit("sleeper", row.sleeper);
  visit("sleeper_thread", row.sleeper_thread);
  visit("wakes", row.wakes);
  visit("slept_ns", row.slept_ns);
}

template <typename Visit, row_of<sleep_figures> Row>
void visit_fields(Visit& visit, Row& row) {
  visit("length_ns", row.length_ns);
  visit("unrecorded", row.unrecorded);
  visit("by_end", row.by_end);
  visit("by_gfp", row.by_gfp);
  visit("by_cpu", row.by_cpu);
  visit("by_pages", row.by_pages);
  visit("wakes", row.wakes);
}

template <typename Visit, row_of<shrinker_row> Row>
void visit_fields(Visit& visit, Row& row) {
  visit("name", row.name);
  visit("needs", row.needs);
  visit("count_calls", row.count_calls);
  visit("scan_calls", row.scan_calls);
  visit("scanned", row.scanned);
  visit("freed", row.freed);
  visit("deferred", row.deferred);
}

template <typename Visit, row_of<described_error> Row>
void visit_fields(Visit& visit, Row& row) {
  visit("trace", row.trace);
  visit("line", row.line);
  visit("text", row.text);
}

template <typename Visit, row_of<totals> Row>
void visit_fields(Visit& visit, Row& row) {
  visit("events", row.events);
  visit("other_events", row.other_events);
  visit("allocs", row.allocs);
  visit("frees", row.frees);
  visit("failed", row.failed);
  visit("frees_of_failed", row.frees_of_failed);
  visit("unmatched_frees", row.unmatched_frees);
  visit("implied_frees", row.implied_frees);
  visit("null_frees", row.null_frees);
  visit("skipped_pages_events", row.skipped_pages_events);
  visit("requested_bytes", row.requested_bytes);
  visit("dropped_pages", row.dropped_pages);
  visit("dropped_bytes", row.dropped_bytes);
  visit("reclaim_calls", row.reclaim_calls);
  visit("late_frees_of_dropped", row.late_frees_of_dropped);
  visit("errors", row.errors);
  visit("live_at_end_objects", row.live_at_end_objects);
  visit("live_at_end_bytes", row.live_at_end_bytes);
  visit("charged_after_bytes", row.charged_after_bytes);
}

template <typename Visit, row_of<peaks> Row>
void visit_fields(Visit& visit, Row& row) {
  visit("charged_peak_bytes", row.charged_bytes);
  visit("live_peak_bytes", row.live_bytes);
  visit("metadata_bytes", row.metadata_bytes);
  visit("arena_resident_peak_bytes", row.arena_resident_bytes);
  visit("charged_peak_time_ns", row.charged_time_ns);
}

template <typename Visit, row_of<replay_result> Row>
void visit_run_fields(Visit& visit, Row& row) {
  visit("threads", row.threads);
  visit("touch", row.touch);
  visit("verify", row.verify);
  visit("completed", row.completed);
  visit("stop_reason", row.stop_reason);
  visit("parameters", row.parameters);
  visit("wall_ns", row.wall_ns);
}

template <typename Visit>
void visit_sample_columns(Visit& visit) {
  visit("time_ns", &sample::time_ns);
  visit("events", &sample::events);
  visit("live_bytes", &sample::live_bytes);
  visit("charged_bytes", &sample::charged_bytes);
  visit("metadata_bytes", &sample::metadata_bytes);
  visit("budget_bytes", &sample::budget_bytes);
  visit("free_present_bytes", &sample::free_present_bytes);
  visit("reserve_bytes", &sample::reserve_bytes);
  visit("arena_resident_bytes", &sample::arena_resident_bytes);
  visit("droppable_bytes", &sample::droppable_bytes);
  visit("dropped_bytes", &sample::dropped_bytes);
  visit("failed", &sample::failed);
  visit("failed_by_class", &sample::failed_by_class);
}

// Columns that files of earlier versions do not have.
template <typename Visit>
void visit_later_sample_columns(Visit& visit) {
  visit("free_bytes", &sample::free_bytes);
  visit("min_bytes", &sample::min_bytes);
  visit("low_bytes", &sample::low_bytes);
  visit("high_bytes", &sample::high_bytes);
  visit("sleeps", &sample::sleeps);
}

}  // namespace kmem::tool::report
