#pragma once

// What a replay is going to do: the requests of all traces in one list, with what the tallies need looked up beforehand.
//
// Several traces are replayed one after the other in the same allocator. What a trace leaves allocated is freed at its
// end, so the next one starts with an empty machine; time goes on counting.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "report/result.hpp"
#include "trace/ftrace.hpp"
#include "trace/requests.hpp"

namespace kmem::tool::replay {

struct planned_trace {
  report::trace_info info;
  trace::line_counts lines;
  trace::request_counts counts;
  trace::request_index first = 0;  // its requests in the plan
  trace::request_index end = 0;
  std::uint64_t first_ns = 0;   // of the trace's own clock
  std::uint64_t offset_ns = 0;  // where it starts on the replay's clock
};

struct planned_gfp {
  trace::gfp_bits bits = 0;
  std::string text;           // "GFP_KERNEL|__GFP_ZERO"
  std::size_t gfp_class = 0;  // in plan::gfp_classes
};

struct planned_cache {
  std::string name;
  std::uint64_t object_bytes = 0;
  std::uint64_t align = 8;
  bool reclaim_account = false;
  bool dma = false;
  bool named = false;
};

// The rows of by_gfp are bounded, since a damaged trace may have a million masks; the rest share the last row.
inline constexpr std::size_t gfp_rows_max = 500;

class plan {
 public:
  // Adds a trace. Return: false when it makes more requests than a plan can number.
  bool add(const trace::event_list& events, trace::request_list made);

  std::vector<trace::request> requests;  // targets and caches are indices of the plan
  std::vector<std::uint16_t> gfp_of;     // by request, index in `gfps`; 0 for frees
  std::vector<planned_gfp> gfps;
  std::vector<std::string> gfp_classes;  // most allocations first, "other" and "none" last
  std::vector<planned_cache> caches;
  std::vector<planned_trace> traces;

  std::uint32_t cpus() const;  // the most of any trace

  // Which trace a request belongs to, and when it happens on the replay's clock.
  std::uint32_t trace_of(trace::request_index request) const;
  std::uint64_t time_of(trace::request_index request) const;

 private:
  std::uint16_t gfp_row(trace::gfp_bits bits);
  std::uint32_t cache_index(const trace::cache_info& info);
  void order_classes();
};

// The context that a request is replayed in. Early in boot the traced kernel slept where it may not later; such
// requests run as a task that may sleep.
report::alloc_context context_of(const trace::request& request);

// The mask that the library is asked with: bits that it does not know are left out.
trace::gfp_bits known_bits(trace::gfp_bits bits);

}  // namespace kmem::tool::replay
