#pragma once

// From the events of a trace to the requests that a replay makes: each allocation once, each free tied to the
// allocation that it ends.
//
// - kfree(NULL) and kfree(ZERO_SIZE_PTR) are counted and dropped.
// - A free of something that was never seen allocated is counted as unmatched and dropped.
// - An allocation at an address that is still in use is an implied free of what was there (bulk and RCU frees emit no
//   event for each object); so is the freeing of a slab page with objects still on it, where pages and objects can be
//   told to belong together.
// - Pages of slabs and of large kmallocs make no request (classify.hpp).
// - Pages freed in parts make one free, with the last part.
// - mm_page_free_batched follows an mm_page_free of the same page in the kernels that have both: it counts once.
// - Pages that the traced kernel could have taken back at any time are droppable.
// - An allocation that failed in the traced kernel is a request without a free.

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "classify.hpp"
#include "error.hpp"
#include "ftrace.hpp"

namespace kmem::tool::trace {

enum class request_kind : std::uint8_t { kmalloc, cache_alloc, pages, free };
inline constexpr std::size_t request_kind_count = 4;

using request_index = std::uint32_t;
inline constexpr request_index no_request = std::numeric_limits<request_index>::max();
inline constexpr std::uint32_t no_cache = std::numeric_limits<std::uint32_t>::max();

struct request {
  std::uint64_t timestamp_ns = 0;
  std::uint64_t size = 0;  // bytes asked for: of the object, or 4096 << order; of a free: what it gives back
  std::uint64_t line = 0;
  request_index target = no_request;  // of a free: the allocation; of an allocation: its free, if the trace has one
  std::uint32_t cache = no_cache;     // of a cache_alloc: index in request_list::caches
  gfp_bits gfp = 0;
  string_id call_site = no_string;
  std::uint16_t cpu = 0;  // that of the trace
  std::int16_t node = -1;
  call_context context;
  request_kind kind = request_kind::kmalloc;
  request_kind freed = request_kind::kmalloc;  // of a free: what its allocation was
  event_kind from = event_kind::kmalloc;       // the event that it came from
  std::uint8_t order = 0;                      // of pages, and of the free of pages
  bool droppable = false;                      // pages that the kernel could take back: page cache and user memory
  bool failed_in_trace = false;                // the traced kernel returned NULL
  bool implied = false;                        // a free that the trace does not show
  bool early_boot = false;                     // may sleep by its flags, in a context that may not: before the scheduler ran
};

struct cache_info {
  std::string name;
  std::uint64_t object_size = 0;  // the largest bytes_req seen
  std::uint64_t slot_size = 0;    // bytes_alloc: what the traced kernel used for an object
  std::uint64_t align = 8;        // what all addresses have in common, at most a cache line; 8 when addresses are hashed
  std::uint64_t allocs = 0;
  bool reclaim_account = false;  // its slab pages were __GFP_RECLAIMABLE
  bool account = false;          // charged to the tenant
  bool dma = false;              // its slab pages were GFP_DMA
  bool named = false;            // the trace tells the name; otherwise `name` says what is known
};

struct page_counts {
  std::uint64_t direct = 0;         // mm_page_alloc events that became requests
  std::uint64_t slab = 0;           // pages of the traced kernel's own slabs
  std::uint64_t kmalloc_large = 0;  // the second sight of a large kmalloc
  std::uint64_t droppable = 0;      // of `direct`
  std::uint64_t failed = 0;         // failed in the traced kernel, any use
};

struct request_counts {
  std::uint64_t allocs = 0;  // requests of each sort
  std::uint64_t frees = 0;
  page_counts pages;
  std::uint64_t null_frees = 0;  // kfree(NULL), kfree(ZERO_SIZE_PTR)
  std::uint64_t matched_object_frees = 0;
  std::uint64_t matched_page_frees = 0;  // of direct pages, whole
  std::uint64_t slab_page_frees = 0;     // dropped like their allocations, kmalloc_large included
  std::uint64_t partial_page_frees = 0;  // that left a part in use
  std::uint64_t batched_duplicates = 0;  // mm_page_free_batched of a page freed a moment ago
  std::uint64_t unmatched_object_frees = 0;
  std::uint64_t unmatched_page_frees = 0;
  std::uint64_t implied_by_reuse = 0;  // frees that the trace does not show: the address was given out again
  std::uint64_t implied_by_page = 0;   // the slab page was freed
  std::uint64_t failed_in_trace = 0;
  std::uint64_t early_boot = 0;
  std::uint64_t hidden_allocs = 0;  // (____ptrval____): allocated and never freed in the replay
  std::uint64_t hidden_frees = 0;   // dropped
  std::uint64_t live_at_end = 0;
  std::uint64_t peak_object_bytes = 0;  // bytes asked for by what was live at once
  std::uint64_t peak_page_bytes = 0;
  std::uint64_t peak_bytes = 0;        // of both together
  std::uint64_t peak_fixed_bytes = 0;  // without what is droppable
  std::uint32_t cpus = 0;              // highest CPU + 1
};

struct request_list {
  std::vector<request> requests;  // in the order of the trace
  std::vector<cache_info> caches;
  request_counts counts;
  bool real_addresses = false;  // pages and objects could be told to belong together
  std::uint64_t first_ns = 0;
  std::uint64_t last_ns = 0;

  bool ok = true;     // false: the trace cannot be replayed
  trace_error error;  // then says why
};

struct request_options {
  classify_options classify;
};

// The list keeps string ids of `from.strings`.
request_list make_requests(const event_list& from, const request_options& options = {});

}  // namespace kmem::tool::trace
