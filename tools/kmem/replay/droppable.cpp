#include "droppable.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace kmem::tool::replay {

namespace {

constexpr long batch_pages = 32;   // as many pages as the kernel scans at a time
constexpr int seeks_of_pages = 4;  // due at a priority: 4 / seeks * count / 2^priority

constexpr gfp_t needs_of(drop_sort sort) {
  switch (sort) {
    case drop_sort::clean:
      return gfp::none;
    case drop_sort::swap:
      return gfp::io;
    case drop_sort::file:
      return gfp::io | gfp::fs;
  }
  return gfp::io | gfp::fs;
}

const char* name_of(drop_sort sort) {
  switch (sort) {
    case drop_sort::clean:
      return "clean page cache";
    case drop_sort::swap:
      return "anonymous memory";
    case drop_sort::file:
      return "dirty page cache";
  }
  return "";
}

const char* needs_text(drop_sort sort) {
  switch (sort) {
    case drop_sort::clean:
      return "";
    case drop_sort::swap:
      return "__GFP_IO";
    case drop_sort::file:
      return "__GFP_IO|__GFP_FS";
  }
  return "";
}

}  // namespace

droppable_pages::droppable_pages(shared_state& state) : state_(state) {
  for (const trace::request& each : state.work.requests) {
    if (each.kind == trace::request_kind::pages && each.droppable) queues_[static_cast<std::size_t>(drop_sort_of(each.gfp))].capacity++;
  }
  for (queue& each : queues_) {
    each.owner = this;
    each.requests = std::make_unique<std::atomic<trace::request_index>[]>(each.capacity);
  }
}

droppable_pages::~droppable_pages() { close(); }

bool droppable_pages::open(std::string& problem) {
  for (std::size_t sort = 0; sort < drop_sorts; sort++) {
    queue& each = queues_[sort];
    if (each.capacity == 0) continue;
    each.count_objects = count;
    each.scan_objects = scan;
    each.batch = batch_pages;
    each.seeks = seeks_of_pages;
    each.needs = needs_of(static_cast<drop_sort>(sort));
    each.name = name_of(static_cast<drop_sort>(sort));
    const int error = register_shrinker(each);
    each.registered = error == 0;
    if (each.registered) continue;
    problem = fmt::format("a shrinker was refused with error {}", error);
    return false;
  }
  return true;
}

void droppable_pages::close() {
  for (queue& each : queues_) {
    if (each.registered) unregister_shrinker(each);
    each.registered = false;
  }
}

std::uint64_t droppable_pages::calls() const {
  std::uint64_t calls = 0;
  for (const queue& each : queues_) calls += each.scans.load(std::memory_order_relaxed);
  return calls;
}

std::uint64_t droppable_pages::dropped_pages() const {
  std::uint64_t pages = 0;
  for (const queue& each : queues_) pages += each.dropped.load(std::memory_order_relaxed);
  return pages;
}

std::vector<report::shrinker_row> droppable_pages::rows() const {
  std::vector<report::shrinker_row> out;
  for (std::size_t sort = 0; sort < drop_sorts; sort++) {
    const queue& from = queues_[sort];
    if (from.capacity == 0) continue;
    report::shrinker_row row;
    row.name = name_of(static_cast<drop_sort>(sort));
    row.needs = needs_text(static_cast<drop_sort>(sort));
    row.count_calls = from.counts.load(std::memory_order_relaxed);
    row.scan_calls = from.scans.load(std::memory_order_relaxed);
    row.scanned = from.scanned.load(std::memory_order_relaxed);
    row.freed = from.dropped.load(std::memory_order_relaxed);
    row.deferred = from.registered ? 0 : from.nr_deferred;
    out.push_back(std::move(row));
  }
  return out;
}

void droppable_pages::add(trace::request_index request) {
  const trace::request& from = state_.work.requests[request];
  queue& to = queues_[static_cast<std::size_t>(drop_sort_of(from.gfp))];
  const std::size_t place = to.added.fetch_add(1, std::memory_order_relaxed);
  to.requests[place].store(request + 1, std::memory_order_release);  // pairs: replay_queue
}

trace::request_index droppable_pages::oldest(queue& from) {
  const std::lock_guard<std::mutex> hold(from.lock);
  if (from.next == from.capacity) return trace::no_request;
  const trace::request_index stored = from.requests[from.next].load(std::memory_order_acquire);  // pairs: replay_queue
  if (stored == 0) return trace::no_request;
  from.next++;
  return stored - 1;
}

std::uint64_t droppable_pages::drop(trace::request_index request) {
  std::atomic<void*>& slot = state_.slots[request];
  void* memory = slot.load(std::memory_order_acquire);  // pairs: replay_slot
  if (!slot_table::is_memory(memory)) return 0;  // freed meanwhile
  if (!slot.compare_exchange_strong(memory, slot_table::dropped(), std::memory_order_acq_rel)) return 0;  // pairs: replay_slot
  const trace::request& from = state_.work.requests[request];
  if (state_.options.verify) verify_contents(state_, request, memory, "when its page was dropped");
  free_memory(state_, request, memory);
  const std::uint64_t pages = std::uint64_t{1} << from.order;
  state_.figures.sub_live(from.size);
  state_.figures.sub_droppable(from);
  return pages;
}

std::uint64_t droppable_pages::count(shrinker* self, shrink_control*) noexcept {
  queue& from = *static_cast<queue*>(self);
  from.counts.fetch_add(1, std::memory_order_relaxed);
  const auto sort = static_cast<std::size_t>(&from - from.owner->queues_.data());
  const std::uint64_t pages = from.owner->state_.figures.droppable_bytes[sort].load(std::memory_order_relaxed) / page_bytes;
  return pages != 0 ? pages : shrink_empty;
}

// Requests that the trace has freed meanwhile are passed over: they were not counted either.
std::uint64_t droppable_pages::scan(shrinker* self, shrink_control* control) noexcept {
  queue& from = *static_cast<queue*>(self);
  from.scans.fetch_add(1, std::memory_order_relaxed);
  std::uint64_t dropped = 0;
  while (dropped < control->nr_to_scan) {
    const trace::request_index request = oldest(from);
    if (request == trace::no_request) break;
    dropped += from.owner->drop(request);
  }
  if (dropped == 0) return shrink_stop;
  control->nr_scanned = dropped;
  from.scanned.fetch_add(dropped, std::memory_order_relaxed);
  from.dropped.fetch_add(dropped, std::memory_order_relaxed);
  return dropped;
}

}  // namespace kmem::tool::replay
