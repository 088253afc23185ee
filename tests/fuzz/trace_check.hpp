#pragma once

// What must hold whatever bytes a trace is made of. Used by the fuzz target and by the mutation test.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>

#include "tools/kmem/trace/requests.hpp"

namespace kmem::tool::trace {

inline void must(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

inline void check_requests(const request_list& made) {
  std::uint64_t allocs = 0;
  std::uint64_t live = 0;
  for (request_index index = 0; index < made.requests.size(); index++) {
    const request& each = made.requests[index];
    if (each.kind == request_kind::free) {
      must(each.target < index, "a free comes after its allocation");
      must(made.requests[each.target].target == index, "an allocation knows its free");
      must(made.requests[each.target].kind == each.freed, "a free knows what it frees");
      live--;
      continue;
    }
    allocs++;
    live++;
    must(each.target == no_request || each.target > index, "an allocation comes before its free");
    must((each.kind == request_kind::cache_alloc) == (each.cache < made.caches.size()), "objects of caches have a cache, others none");
    must(!each.failed_in_trace || each.target == no_request, "a failed allocation has no free");
  }
  must(allocs == made.counts.allocs, "allocations are counted");
  must(made.requests.size() - allocs == made.counts.frees, "frees are counted");
  must(live >= made.counts.live_at_end, "what is live at the end has no free");
  must(made.counts.peak_bytes >= made.counts.peak_fixed_bytes, "fixed memory is part of all memory");
  for (const cache_info& each : made.caches) {
    must(each.align >= 8 && each.align <= 64 && (each.align & (each.align - 1)) == 0, "alignments are powers of two");
    must(!each.name.empty(), "caches have names");
  }
}

inline void check_any_trace(std::span<const std::uint8_t> bytes) {
  input from;
  if (!from.open_memory("fuzz", bytes)) {
    must(!from.error().what.empty(), "an error says what is wrong");
    return;
  }
  event_list events;
  load_options options;
  options.keep_going = true;
  options.errors_kept = 4;
  const bool good = load_events(from, options, events);
  must(events.errors.size() <= 4, "errors are limited");
  must(good || !events.errors.empty(), "a failure says why");
  must(events.counts.errors == 0 || !events.errors.empty(), "errors are kept");
  for (const trace_error& each : events.errors) {
    const std::string text = each.to_string();
    must(text.size() < 4096, "messages are short");
    for (const char letter : text) must(letter == '\n' || static_cast<unsigned char>(letter) >= 0x20, "messages are printable");
  }
  must(events.counts.all_events() == events.events.size(), "events are counted");
  for (const event& each : events.events) must(parse_gfp(format_gfp(each.gfp)).bits == each.gfp, "flags survive writing");
  check_requests(make_requests(events));
  request_options by_order;
  by_order.classify.by_address = false;
  check_requests(make_requests(events, by_order));
}

}  // namespace kmem::tool::trace
