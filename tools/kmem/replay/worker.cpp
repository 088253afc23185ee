#include "worker.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <kmem/context.hpp>

#include "clock.hpp"
#include "pattern.hpp"

namespace kmem::tool::replay {

namespace {

using trace::call_context;
using trace::request_kind;

constexpr int touched_byte = 0x5a;

// Puts the thread into the context of the trace. A count of the preempt columns is taken over as it is; NMI is an
// interrupt here.
class context_scope {
 public:
  explicit context_scope(const trace::request& request) {
    if (request.early_boot || !request.context.atomic()) return;
    const std::uint8_t bits = request.context.bits;
    units_ = std::min<std::uint32_t>(request.context.preempt_depth, preempt_mask) * preempt_unit;
    if ((bits & call_context::bh_off) != 0) units_ += softirq_disable_unit;
    if ((bits & call_context::softirq) != 0) units_ += softirq_unit;
    if ((bits & (call_context::hardirq | call_context::nmi)) != 0) units_ += hardirq_unit;
    preempt_count_add(units_);
    irqs_off_ = (bits & call_context::irqs_off) != 0;
    if (irqs_off_) irqs_before_ = irqs_set_disabled(true);
  }
  ~context_scope() {
    if (irqs_off_) irqs_set_disabled(irqs_before_);
    if (units_ != 0) preempt_count_sub(units_);
  }
  context_scope(const context_scope&) = delete;
  context_scope& operator=(const context_scope&) = delete;

 private:
  std::uint32_t units_ = 0;
  bool irqs_off_ = false;
  bool irqs_before_ = false;
};

std::string_view kind_name(request_kind kind) {
  switch (kind) {
    case request_kind::kmalloc:
      return "kmalloc";
    case request_kind::cache_alloc:
      return "kmem_cache_alloc";
    case request_kind::pages:
      return "mm_page_alloc";
    case request_kind::free:
      break;
  }
  return "free";
}

// What the library promises for the address of such an object.
std::size_t alignment_of(const trace::request& request, const plan& work) {
  switch (request.kind) {
    case request_kind::pages:
      return page_bytes << request.order;
    case request_kind::cache_alloc:
      return work.caches[request.cache].align;
    default:
      break;
  }
  if (request.size != 0 && std::has_single_bit(request.size)) return request.size;
  return request.size <= 8 ? 8 : 16;
}

}  // namespace

std::string thread_name(unsigned number) { return fmt::format("replay-{}", number); }

worker::worker(shared_state& state, cache_rows& rows, droppable_pages& droppable, unsigned number)
    : state_(state), rows_(rows), droppable_(droppable), number_(number) {
  counts_.resize(state.work.gfps.size(), state.work.gfp_classes.size(), rows.size());
}

void worker::run(gate& order, sample_taker& samples, std::span<const trace::request_index> requests) {
  pthread_setname_np(pthread_self(), thread_name(number_).c_str());
  thread_id_ = gettid();
  for (const trace::request_index index : requests) {
    gate::turn turn = order.enter(number_, index);
    while (turn == gate::turn::sample) {
      samples.take(index);
      order.sampled();
      turn = order.enter(number_, index);
    }
    if (turn == gate::turn::stop) return;  // the gate remembers how far this thread came
    run_one(index);
  }
  order.leave(number_);
}

void worker::run_one(trace::request_index index) {
  const trace::request& request = state_.work.requests[index];
  if (request.kind == request_kind::free) {
    free(index, request);
  } else {
    allocate(index, request);
  }
}

std::uint64_t worker::time_since(std::uint64_t start) const {
  const std::uint64_t passed = now_ns() - start;
  return passed > state_.clock_cost_ns ? passed - state_.clock_cost_ns : 0;
}

outcome_tally& worker::context_cell(trace::request_index index, const trace::request& request) {
  const std::size_t gfp_class = state_.work.gfps[state_.work.gfp_of[index]].gfp_class;
  return counts_.by_context[gfp_class * report::alloc_context_count + static_cast<std::size_t>(context_of(request))];
}

// __GFP_NOFAIL waits for as long as it takes, and what would end the wait are frees that come later in the trace, in
// this very thread maybe. So it is asked for with everything short of that: retries, and the reserve.
gfp_t worker::mask_of(const trace::request& request) {
  const trace::gfp_bits known = known_bits(request.gfp);
  counts_.unknown_bits += known != request.gfp ? 1 : 0;
  auto mask = static_cast<gfp_t>(known);
  if (has(mask, gfp::nofail)) {
    counts_.nofail++;
    mask = (mask & ~(gfp::nofail | gfp::noretry)) | gfp::retry_mayfail | gfp::high;
  }
  return mask;
}

void* worker::call(const trace::request& request, gfp_t gfp) const {
  switch (request.kind) {
    case request_kind::kmalloc:
      return kmalloc(request.size, gfp);
    case request_kind::cache_alloc:
      return kmem_cache_alloc(state_.caches[request.cache], gfp);
    default:
      return alloc_pages(gfp, request.order);
  }
}

void worker::allocate(trace::request_index index, const trace::request& request) {
  const gfp_t mask = mask_of(request);
  const std::uint64_t failures_before = failures_total();
  const std::uint64_t sleeps_before = long_sleeps_total();
  void* memory = nullptr;
  std::uint64_t took = 0;
  {
    const context_scope inside(request);
    if (state_.options.hooks.inside_context) state_.options.hooks.inside_context(index);
    reset_alloc_path();
    const std::uint64_t start = now_ns();
    memory = call(request, mask);
    took = time_since(start);
  }
  if (long_sleeps_total() != sleeps_before) note_sleeps(index, request, sleeps_before);
  const alloc_path path = memory == nullptr ? alloc_path::chain : deepest_alloc_path();
  counts_.latency[static_cast<std::size_t>(path)].record(took);
  gfp_tally& by_gfp = counts_.by_gfp[state_.work.gfp_of[index]];
  by_gfp.latency.record(took);
  const outcome_tally one{1, request.size, 0, 0};
  by_gfp.outcome.merge(one);
  context_cell(index, request).merge(one);
  kind_tally& by_kind = counts_.by_kind[static_cast<std::size_t>(request.from)];
  by_kind.replayed++;
  by_kind.bytes += request.size;
  counts_.allocs++;
  counts_.requested_bytes += request.size;
  counts_.early_boot += request.early_boot ? 1 : 0;
  if (memory == nullptr) {
    failed(index, request, failures_before);
  } else {
    served(index, request, memory);
  }
}

void worker::served(trace::request_index index, const trace::request& request, void* memory) {
  const std::uint32_t row = rows_.row_of(index);
  if (row != cache_rows::no_row) {
    cache_tally& by_cache = counts_.by_cache[row];
    by_cache.allocs++;
    by_cache.requested_bytes += request.size;
    by_cache.allocated_bytes += rows_.taken_bytes(row, request.size);
  }
  state_.figures.add_live(request.size);
  if (request.size != 0) check_and_fill(index, request, memory);
  // The traced kernel had nothing to free later.
  if (request.failed_in_trace) {
    state_.slots[index].store(slot_table::freed(), std::memory_order_release);  // pairs: replay_slot
    timed_free(index, request, memory);
    return;
  }
  if (request.droppable) state_.figures.add_droppable(request);
  state_.slots[index].store(memory, std::memory_order_release);  // pairs: replay_slot
  if (request.droppable) droppable_.add(index);
}

void worker::check_and_fill(trace::request_index index, const trace::request& request, void* memory) {
  void* const bytes = bytes_of(request, memory);
  const engine_options& options = state_.options;
  if (options.verify) {
    const std::size_t align = alignment_of(request, state_.work);
    if (reinterpret_cast<std::uintptr_t>(bytes) % align != 0) {
      state_.errors.add(state_.line_trace(index), request.line,
                        fmt::format("{} of {} bytes is at {}, which is not a multiple of {}", kind_name(request.kind), request.size,
                                    fmt::ptr(bytes), align));
    }
    const std::size_t dirty = (request.gfp & trace::gfp_bit::zero) != 0 ? find_non_zero(bytes, request.size) : request.size;
    if (dirty != request.size) {
      state_.errors.add(state_.line_trace(index), request.line,
                        fmt::format("byte {} of {} is not zero in memory allocated with __GFP_ZERO (at {})", dirty, request.size,
                                    fmt::ptr(static_cast<char*>(bytes) + dirty)));
    }
    fill_pattern(bytes, request.size, index);
  } else if (options.touch) {
    std::memset(bytes, touched_byte, request.size);
  }
  if (options.hooks.allocated) options.hooks.allocated(index, bytes, request.size);
}

// The newest record of this thread that is newer than `before`. Others may have pushed it out.
bool worker::find_failure(std::uint64_t before, allocation_failure& found) const {
  const std::string name = thread_name(number_);
  constexpr std::uint64_t kept = 64;
  const std::uint64_t last = failures_total();
  for (std::uint64_t sequence = last; sequence > before && last - sequence < kept; sequence--) {
    if (read_allocation_failure(sequence, found) && name == found.thread) return true;
  }
  return false;
}

void worker::failed(trace::request_index index, const trace::request& request, std::uint64_t failures_before) {
  state_.slots[index].store(slot_table::failed(), std::memory_order_release);  // pairs: replay_slot
  allocation_failure why;
  const bool known = find_failure(failures_before, why);
  const char* const step = known ? why.step : "not known";  // later failures have pushed its record out
  const outcome_tally one{0, 0, 1, request.size};
  gfp_tally& by_gfp = counts_.by_gfp[state_.work.gfp_of[index]];
  by_gfp.outcome.merge(one);
  by_gfp.add_step(step);
  context_cell(index, request).merge(one);
  counts_.by_kind[static_cast<std::size_t>(request.from)].failed++;
  counts_.failed_by_class[state_.work.gfps[state_.work.gfp_of[index]].gfp_class]++;
  counts_.failed++;
  state_.figures.failed.fetch_add(1, std::memory_order_relaxed);
  if (rows_.row_of(index) != cache_rows::no_row) counts_.by_cache[rows_.row_of(index)].failed++;
  if (counts_.failures.size() < tally::failures_kept) keep_failure(index, request, step, why);
}

// An allocation may sleep more than once. Records that others have pushed out are missed; the engine notices.
void worker::note_sleeps(trace::request_index index, const trace::request& request, std::uint64_t sleeps_before) {
  long_sleep found;
  for (std::uint64_t sequence = sleeps_before + 1; sequence <= long_sleeps_total(); sequence++) {
    if (!read_long_sleep(sequence, found) || found.thread_id != thread_id_) continue;
    noted_sleep note;
    note.slept_ns = found.slept_ns;
    note.pages = found.pages;
    note.gfp = state_.work.gfp_of[index];
    note.cpu = request.cpu;
    note.thread = number_;
    note.waker_id = found.waker_id;
    std::copy(std::begin(found.waker), std::end(found.waker), note.waker.begin());
    note.cause = found.cause;
    note.end = found.end;
    counts_.sleeps.push_back(note);
  }
}

void worker::keep_failure(trace::request_index index, const trace::request& request, const char* step, const allocation_failure& why) {
  report::failure_record record;
  const planned_gfp& gfp = state_.work.gfps[state_.work.gfp_of[index]];
  record.trace = state_.line_trace(index);
  record.line = request.line;
  record.time_ns = state_.work.time_of(index);
  record.kind = kind_name(request.kind);
  record.gfp = trace::format_gfp(request.gfp);
  record.gfp_class = state_.work.gfp_classes[gfp.gfp_class];
  if (rows_.row_of(index) != cache_rows::no_row) record.cache = rows_.name(rows_.row_of(index));
  if (request.kind == request_kind::pages) record.order = request.order;
  record.size_bytes = request.size;
  record.context = context_of(request);
  record.step = step;
  record.zone = why.zone;
  record.charged_bytes = why.charged_pages * page_bytes;
  record.free_bytes = (why.managed_pages > why.charged_pages ? why.managed_pages - why.charged_pages : 0) * page_bytes;
  record.reserve_bytes = why.reserve_pages * page_bytes;
  counts_.failures.push_back(std::move(record));
}

void worker::free(trace::request_index, const trace::request& request) {
  std::atomic<void*>& slot = state_.slots[request.target];
  void* memory = slot.load(std::memory_order_acquire);  // pairs: replay_slot
  for (backoff wait; memory == nullptr; memory = slot.load(std::memory_order_acquire)) {  // pairs: replay_slot
    if (state_.stop.load(std::memory_order_relaxed)) return;
    wait.pause();
  }
  if (!request.implied) counts_.by_kind[static_cast<std::size_t>(request.from)].replayed++;
  if (memory != slot_table::failed()) memory = slot.exchange(slot_table::freed(), std::memory_order_acq_rel);  // pairs: replay_slot
  if (memory == slot_table::failed()) {
    counts_.frees_of_failed++;
  } else if (memory == slot_table::dropped()) {
    counts_.late_frees++;
  } else {
    if (!request.implied) counts_.by_kind[static_cast<std::size_t>(request.from)].bytes += request.size;
    if (request.droppable) state_.figures.sub_droppable(state_.work.requests[request.target]);
    timed_free(request.target, request, memory);
  }
}

// `request`: the free, or the allocation that is undone at once; its context is the caller's.
void worker::timed_free(trace::request_index target, const trace::request& request, void* memory) {
  const trace::request& allocation = state_.work.requests[target];
  if (state_.options.verify && allocation.size != 0) verify_contents(state_, target, memory, "when it was freed");
  std::uint64_t took = 0;
  {
    const context_scope inside(request);
    const std::uint64_t start = now_ns();
    free_memory(state_, target, memory);
    took = time_since(start);
  }
  counts_.latency[static_cast<std::size_t>(report::latency_path::free)].record(took);
  counts_.frees++;
  state_.figures.sub_live(allocation.size);
}

}  // namespace kmem::tool::replay
