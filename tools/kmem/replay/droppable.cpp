#include "droppable.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <kmem/reclaim.hpp>

namespace kmem::tool::replay {

namespace {

// As many pages as the kernel tries to reclaim at a time, so that not every allocation comes here.
constexpr std::uint64_t batch_pages = 32;

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

}  // namespace

drop_sort drop_sort_of(trace::gfp_bits gfp) {
  if ((gfp & trace::gfp_bit::write) != 0) return drop_sort::file;
  return (gfp & trace::gfp_bit::zero) != 0 ? drop_sort::swap : drop_sort::clean;
}

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
    if (queues_[sort].capacity == 0) continue;
    queues_[sort].number = register_reclaim({&queues_[sort], reclaim, needs_of(static_cast<drop_sort>(sort))});
    if (queues_[sort].number >= 0) continue;
    problem = fmt::format("a reclaim callback was refused with error {}", queues_[sort].number);
    return false;
  }
  return true;
}

void droppable_pages::close() {
  for (queue& each : queues_) {
    if (each.number >= 0) unregister_reclaim(each.number);
    each.number = -1;
  }
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
  state_.figures.droppable_bytes.fetch_sub(from.size, std::memory_order_relaxed);
  dropped_pages_.fetch_add(pages, std::memory_order_relaxed);
  return pages;
}

std::uint64_t droppable_pages::reclaim(void* context, gfp_t, std::uint64_t nr_pages) noexcept {
  queue& from = *static_cast<queue*>(context);
  from.owner->calls_.fetch_add(1, std::memory_order_relaxed);
  const std::uint64_t wanted = std::max(nr_pages, batch_pages);
  std::uint64_t freed = 0;
  while (freed < wanted) {
    const trace::request_index request = oldest(from);
    if (request == trace::no_request) break;
    freed += from.owner->drop(request);
  }
  return freed;
}

}  // namespace kmem::tool::replay
