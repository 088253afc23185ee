#pragma once

// What one thread of a replay counts. Nothing here is shared; the tallies are added up when all threads wait.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "report/histogram.hpp"
#include "report/result.hpp"
#include "trace/ftrace.hpp"

namespace kmem::tool::replay {

struct outcome_tally {
  std::uint64_t allocs = 0;  // tried
  std::uint64_t bytes = 0;
  std::uint64_t failed = 0;
  std::uint64_t failed_bytes = 0;

  void merge(const outcome_tally& other) {
    allocs += other.allocs;
    bytes += other.bytes;
    failed += other.failed;
    failed_bytes += other.failed_bytes;
  }
};

struct gfp_tally {
  outcome_tally outcome;
  report::latency_histogram latency;
  std::vector<std::pair<std::string_view, std::uint64_t>> failed_by_step;  // names are the library's: they stay

  void add_step(std::string_view step, std::uint64_t times = 1) {
    for (auto& [name, count] : failed_by_step) {
      if (name == step) {
        count += times;
        return;
      }
    }
    failed_by_step.emplace_back(step, times);
  }
};

// A cache or a size class.
struct cache_tally {
  std::uint64_t allocs = 0;  // served
  std::uint64_t failed = 0;
  std::uint64_t requested_bytes = 0;
  std::uint64_t allocated_bytes = 0;
};

struct kind_tally {
  std::uint64_t replayed = 0;
  std::uint64_t failed = 0;
  std::uint64_t bytes = 0;
};

// An allocation that slept for memory.
struct noted_sleep {
  std::uint64_t slept_ns = 0;
  std::uint64_t pages = 0;  // it waited for
  std::uint16_t gfp = 0;    // in plan::gfps
  std::uint16_t cpu = 0;    // of the trace
  unsigned thread = 0;
  std::int32_t waker_id = 0;      // 0: nobody woke it
  std::array<char, 16> waker{};   // name of the thread that did
  std::string_view cause;         // what that thread did; names are the library's: they stay
  std::string_view end;           // how the sleep ended
};

struct tally {
  static constexpr std::size_t failures_kept = 1000;

  void resize(std::size_t gfps, std::size_t classes, std::size_t caches) {
    by_gfp.resize(gfps);
    by_context.resize(classes * report::alloc_context_count);
    by_cache.resize(caches);
    failed_by_class.resize(classes);
  }
  void merge(const tally& other);

  std::vector<gfp_tally> by_gfp;
  std::vector<outcome_tally> by_context;  // context + classes * contexts
  std::vector<cache_tally> by_cache;      // planned caches, then size classes
  std::vector<std::uint64_t> failed_by_class;
  std::array<report::latency_histogram, report::latency_path_count> latency;
  std::array<kind_tally, trace::event_kind_count> by_kind;
  std::vector<report::failure_record> failures;  // the first ones of this thread
  std::vector<noted_sleep> sleeps;

  std::uint64_t allocs = 0;
  std::uint64_t frees = 0;
  std::uint64_t failed = 0;
  std::uint64_t requested_bytes = 0;
  std::uint64_t frees_of_failed = 0;
  std::uint64_t late_frees = 0;    // of what had been dropped
  std::uint64_t early_boot = 0;    // run as a task that may sleep
  std::uint64_t nofail = 0;        // run with RETRY_MAYFAIL and HIGH instead of NOFAIL
  std::uint64_t unknown_bits = 0;  // masks with bits that the library does not have
};

}  // namespace kmem::tool::replay
