#pragma once

// What the threads of a replay share.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <kmem/kmem.hpp>
#include <memory>
#include <string>
#include <vector>

#include "error_log.hpp"
#include "plan.hpp"

namespace kmem::tool::replay {

// What became of an allocation. A slot is unset (nullptr), one of the marks, or the memory: a pointer, of pages the
// descriptor.
class slot_table {
 public:
  explicit slot_table(std::size_t count) : slots_(std::make_unique<std::atomic<void*>[]>(count)) {}

  static void* failed() noexcept { return &marks_[0]; }   // the library returned NULL
  static void* freed() noexcept { return &marks_[1]; }    // by the trace
  static void* dropped() noexcept { return &marks_[2]; }  // by reclaim, before the trace freed it
  static bool is_memory(const void* value) noexcept {
    return value != nullptr && value != failed() && value != freed() && value != dropped();
  }

  std::atomic<void*>& operator[](std::size_t index) noexcept { return slots_[index]; }

 private:
  static inline char marks_[3];
  std::unique_ptr<std::atomic<void*>[]> slots_;
};

// Places where a test looks in. Empty functions are not called.
struct replay_hooks {
  std::function<void(trace::request_index)> inside_context;                 // just before the library is called
  std::function<void(trace::request_index, void*, std::size_t)> allocated;  // after the pattern is written
};

struct engine_options {
  unsigned threads = 1;
  bool touch = false;
  bool verify = false;
  bool keep_going = false;
  trace::request_index window = 1024;  // how far a thread may be ahead of the slowest, in requests
  std::size_t samples = 1000;           // about so many are taken
  replay_hooks hooks;
};

// What is to be done to get droppable pages back, see droppable.hpp.
enum class drop_sort : std::uint8_t { clean, swap, file };
inline constexpr std::size_t drop_sorts = 3;
drop_sort drop_sort_of(trace::gfp_bits gfp);

// Figures that are read while the threads run.
struct live_figures {
  std::atomic<std::uint64_t> live_bytes{0};  // asked for by what is live
  std::atomic<std::uint64_t> live_peak_bytes{0};
  std::array<std::atomic<std::uint64_t>, drop_sorts> droppable_bytes{};
  std::atomic<std::uint64_t> failed{0};

  void add_live(std::uint64_t bytes) {
    const std::uint64_t now = live_bytes.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    std::uint64_t peak = live_peak_bytes.load(std::memory_order_relaxed);
    while (now > peak && !live_peak_bytes.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
    }
  }
  void sub_live(std::uint64_t bytes) { live_bytes.fetch_sub(bytes, std::memory_order_relaxed); }
  void add_droppable(const trace::request& allocation) {
    droppable_bytes[static_cast<std::size_t>(drop_sort_of(allocation.gfp))].fetch_add(allocation.size, std::memory_order_relaxed);
  }
  void sub_droppable(const trace::request& allocation) {
    droppable_bytes[static_cast<std::size_t>(drop_sort_of(allocation.gfp))].fetch_sub(allocation.size, std::memory_order_relaxed);
  }
  std::uint64_t all_droppable_bytes() const {
    std::uint64_t sum = 0;
    for (const auto& each : droppable_bytes) sum += each.load(std::memory_order_relaxed);
    return sum;
  }
};

struct shared_state {
  shared_state(const plan& what, const engine_options& how)
      : work(what), options(how), slots(what.requests.size()), errors(how.keep_going, stop) {}

  const plan& work;
  const engine_options& options;
  std::atomic<bool> stop{false};
  slot_table slots;
  error_log errors;
  live_figures figures;
  std::vector<kmem_cache*> caches;  // by planned cache
  std::uint64_t clock_cost_ns = 0;  // of reading the clock, taken off every latency

  std::uint32_t line_trace(trace::request_index request) const { return work.trace_of(request); }
};

// Frees the memory of a request in its own way. `memory`: what its slot had.
void free_memory(shared_state& state, trace::request_index request, void* memory);
// Where the bytes are.
void* bytes_of(const trace::request& request, void* memory);
// With --verify: is everything still there? An error is logged when it is not.
void verify_contents(shared_state& state, trace::request_index request, void* memory, const char* when);

}  // namespace kmem::tool::replay
