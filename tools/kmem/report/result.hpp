#pragma once

// What one replay found out: plain data, filled by the replay engine, read by the terminal, JSON and HTML writers.
//
// Conventions: sizes are bytes and end in `_bytes`, page counts end in `_pages`, times are nanoseconds and end in
// `_ns`. `time_ns` is trace time counted from the first event of the first trace; with several traces it goes on
// counting, it never steps back. 0, an empty string or an empty list means "not known" or "none"; every writer
// copes with an empty result. Names (gfp strings, cache names, paths) are kept as read: the writers escape them.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "histogram.hpp"

namespace kmem::tool::report {

inline constexpr std::uint64_t page_bytes = 4096;
inline constexpr std::uint32_t pages_per_block = 512;  // a page block is 2 MiB

// The caller's context, read off the latency columns of the trace.
enum class alloc_context : std::uint8_t {
  task,         // may sleep
  task_atomic,  // in a task, with preemption, bottom halves or interrupts off
  softirq,
  hardirq,  // NMI included
};
inline constexpr std::size_t alloc_context_count = 4;

// Where a call was served. Every timed allocation is in exactly one of the first four.
enum class latency_path : std::uint8_t {
  per_cpu,         // popped from the per-CPU array or per-CPU page list
  slab_refill,     // the array was refilled from slabs that exist
  page_allocator,  // pages were taken from the free areas
  slow_chain,      // below the watermark: reserve, drain, reclaim, give-back; failures too
  free,            // kfree, kmem_cache_free, freeing pages
};
inline constexpr std::size_t latency_path_count = 5;

struct name_value {
  std::string name;
  std::string value;
};

struct name_count {
  std::string name;
  std::uint64_t count = 0;
};

struct trace_info {
  std::string path;
  std::string compression;       // "none", "gzip", "xz", "zstd"
  std::uint64_t file_bytes = 0;  // as stored
  std::uint64_t lines = 0;
  std::uint64_t events = 0;       // events replayed from this trace
  std::uint64_t duration_ns = 0;  // last event minus first event
  std::uint32_t cpus = 0;         // traced CPUs
  std::string kernel;             // for instance "Linux 6.1.192"; empty when the trace does not say
};

struct kind_row {
  std::string kind;            // "kmalloc", "kfree", "mm_page_alloc", ...
  std::uint64_t events = 0;    // as read from the trace
  std::uint64_t replayed = 0;  // handed to the library
  std::uint64_t skipped = 0;   // the same request seen a second time (slab pages, pages of a large kmalloc), kfree(NULL)
  std::uint64_t failed = 0;    // NULL here
  std::uint64_t bytes = 0;     // requested by the replayed allocations, or freed
};

struct gfp_row {
  std::string gfp;           // as in the trace: "GFP_KERNEL|__GFP_ZERO"
  std::string gfp_class;     // what it is without modifiers: "GFP_KERNEL"; one of replay_result::gfp_classes
  std::uint64_t allocs = 0;  // allocations tried, failed ones included
  std::uint64_t bytes = 0;   // requested by them
  std::uint64_t failed = 0;
  std::uint64_t failed_bytes = 0;
  latency_histogram latency_ns;            // of all tried allocations
  std::vector<name_count> failed_by_step;  // last step of the chain that was reached; sums to `failed`
};

// One cell of the table context x gfp class; only cells with something in them need to exist.
struct context_row {
  alloc_context context = alloc_context::task;
  std::string gfp_class;
  std::uint64_t allocs = 0;
  std::uint64_t bytes = 0;
  std::uint64_t failed = 0;
};

struct failure_record {
  std::uint32_t trace = 0;  // index in replay_result::traces
  std::uint64_t line = 0;   // in that trace, from 1
  std::uint64_t time_ns = 0;
  std::string kind;  // "kmalloc", "kmem_cache_alloc", "mm_page_alloc"
  std::string gfp;
  std::string gfp_class;
  std::string cache;             // cache or size class; empty for pages
  std::int32_t order = -1;       // of a page allocation, else -1
  std::uint64_t size_bytes = 0;  // requested; for pages 4096 << order
  alloc_context context = alloc_context::task;
  std::string step;                 // last step of the chain that was reached
  std::string zone;                 // preferred zone
  std::uint64_t charged_bytes = 0;  // at that moment, as the next two
  std::uint64_t free_bytes = 0;     // managed - charged
  std::uint64_t reserve_bytes = 0;  // still in the reserve
};

struct cache_row {
  std::string name;                // "dentry", "kmalloc-512"
  bool size_class = false;         // true: a kmalloc size class, false: a named cache
  std::uint64_t object_bytes = 0;  // what one object occupies
  std::uint64_t allocs = 0;        // served over the whole replay, as the next three
  std::uint64_t failed = 0;
  std::uint64_t requested_bytes = 0;  // asked for
  std::uint64_t allocated_bytes = 0;  // handed out (objects times object_bytes)
  std::uint64_t active_objects = 0;   // at the moment named by replay_result::cache_moment, as the rest
  std::uint64_t total_objects = 0;
  std::uint64_t slabs = 0;
  std::uint32_t pages_per_slab = 0;
};

struct sample {
  std::uint64_t time_ns = 0;
  std::uint64_t events = 0;          // replayed so far
  std::uint64_t live_bytes = 0;      // requested by what is live now
  std::uint64_t charged_bytes = 0;   // pages handed out
  std::uint64_t metadata_bytes = 0;  // counted in the budget too, page tables included
  std::uint64_t budget_bytes = 0;
  std::uint64_t free_present_bytes = 0;        // free pages that are still backed
  std::uint64_t reserve_bytes = 0;             // depth of the reserve
  std::uint64_t arena_resident_bytes = 0;      // as the operating system sees it; 0 when not measured at this sample
  std::uint64_t free_bytes = 0;                // as the watermarks count, all zones; the next three are theirs
  std::uint64_t min_bytes = 0;                 // GFP_KERNEL stops here
  std::uint64_t low_bytes = 0;                 // kswapd is woken below it
  std::uint64_t high_bytes = 0;                // and reclaims up to here
  std::uint64_t sleeps = 0;                    // so far
  std::uint64_t droppable_bytes = 0;           // of the shrinkers, and still held
  std::uint64_t dropped_bytes = 0;             // reclaimed so far
  std::uint64_t failed = 0;                    // so far
  std::vector<std::uint64_t> failed_by_class;  // so far, parallel to replay_result::gfp_classes; may be left empty
};

// Sleeps that have something in common.
struct sleep_row {
  std::string name;          // gfp flags; "CPU 1" of the trace; "1 page"; how they ended
  std::uint64_t sleeps = 0;  // an allocation may sleep more than once
  std::uint64_t served = 0;  // of them; the others ended without memory
  std::uint64_t pages = 0;   // that were waited for, sum
  latency_histogram length_ns;
};

// Who woke whom, how often: the thread that gave the sleeper its last turn.
struct wake_row {
  std::string waker;           // "CPU 1", "kswapd", another thread's name; "nobody": the sleeper found memory itself, or gave up
  std::string waker_thread;    // empty: nobody
  std::string cause;           // what it did: "page" (freed pages), "object", "reclaim", ...: kmem::long_sleep::cause
  std::string sleeper;         // "CPU 0"
  std::string sleeper_thread;  // of the replay
  std::uint64_t wakes = 0;
  std::uint64_t slept_ns = 0;
};

struct sleep_figures {
  latency_histogram length_ns;     // its count is the number of sleeps
  std::uint64_t unrecorded = 0;    // sleeps whose record was lost to others
  std::vector<sleep_row> by_end;   // "served", "exhausted" (vm.alloc_wait_ms), "timed_out", "interrupted", "stopped"
  std::vector<sleep_row> by_gfp;   // the longest first, as the next three
  std::vector<sleep_row> by_cpu;   // of the trace
  std::vector<sleep_row> by_pages;
  std::vector<wake_row> wakes;     // the most frequent first
};

struct shrinker_row {
  std::string name;
  std::string needs;              // flags without which it is left out
  std::uint64_t count_calls = 0;  // asked how many objects there are
  std::uint64_t scan_calls = 0;   // asked to free some of them: batches
  std::uint64_t scanned = 0;      // objects looked at; here an object is a page
  std::uint64_t freed = 0;
  std::uint64_t deferred = 0;  // objects that were due at the end and made no batch
};

enum class block_owner : std::uint8_t {
  free_present,  // no page in use, backed
  slab,          // every used page belongs to slabs; `cache` names the one with most pages
  pages,         // page allocations
  mixed,         // slabs and page allocations
  reserve,       // pages of the reserve
  large,         // part of a block above MAX_ORDER
  in_transit,    // on its way back to the operating system
};
inline constexpr std::size_t block_owner_count = 7;

struct block_info {
  std::uint32_t index = 0;  // page block number in the arena (pfn / 512)
  block_owner owner = block_owner::free_present;
  std::int32_t cache = -1;          // index in replay_result::block_caches, -1: none
  std::uint32_t used_pages = 0;     // of 512
  std::uint32_t present_pages = 0;  // backed, of 512; at least used_pages once touched
};

struct block_snapshot {
  std::uint64_t time_ns = 0;
  std::uint64_t events = 0;
  std::string label;               // "start", "charged peak", "end", or empty
  std::vector<block_info> blocks;  // in use or backed, ascending index; others are not listed
};

struct described_error {
  std::uint32_t trace = 0;
  std::uint64_t line = 0;  // 0: belongs to no line
  std::string text;        // what was expected and what was there
};

struct totals {
  std::uint64_t events = 0;                // events read and understood
  std::uint64_t other_events = 0;          // lines of events that are not about memory
  std::uint64_t allocs = 0;                // allocations tried, failed ones included
  std::uint64_t frees = 0;                 // objects and blocks freed here
  std::uint64_t failed = 0;                // allocations that returned NULL
  std::uint64_t frees_of_failed = 0;       // frees in the trace of what failed here
  std::uint64_t unmatched_frees = 0;       // frees of what the trace never allocated
  std::uint64_t implied_frees = 0;         // address allocated again with no free between
  std::uint64_t null_frees = 0;            // kfree(NULL)
  std::uint64_t skipped_pages_events = 0;  // page events that belong to a slab or a large kmalloc
  std::uint64_t requested_bytes = 0;       // by all tried allocations
  std::uint64_t dropped_pages = 0;         // reclaimed by shrinkers
  std::uint64_t dropped_bytes = 0;
  std::uint64_t reclaim_calls = 0;          // times a shrinker was asked to scan
  std::uint64_t late_frees_of_dropped = 0;  // frees of what had been dropped, ignored
  std::uint64_t errors = 0;                 // pattern mismatches and other inconsistencies
  std::uint64_t live_at_end_objects = 0;    // never freed by the trace
  std::uint64_t live_at_end_bytes = 0;
  std::uint64_t charged_after_bytes = 0;  // still charged after the replay freed all of these: 0 when all is back
};

struct peaks {
  std::uint64_t charged_bytes = 0;
  std::uint64_t live_bytes = 0;
  std::uint64_t metadata_bytes = 0;
  std::uint64_t arena_resident_bytes = 0;  // 0 when not measured
  std::uint64_t charged_time_ns = 0;       // when the charged peak was reached
};

struct replay_result {
  std::string title;  // heading; empty: made from the trace names and the budget
  std::string kmem_version;
  std::vector<trace_info> traces;
  std::uint32_t threads = 0;
  std::uint64_t budget_bytes = 0;
  bool touch = false;                  // --touch
  bool verify = false;                 // --verify
  bool completed = true;               // false: stopped early (interrupted, or an error without --keep-going)
  std::string stop_reason;             // why, when not completed
  std::vector<name_value> parameters;  // --param and the effective values worth knowing
  std::uint64_t wall_ns = 0;           // of the replay itself

  totals total;
  peaks peak;

  std::vector<std::string> gfp_classes;  // order in which the writers show them
  std::vector<kind_row> by_kind;
  std::vector<gfp_row> by_gfp;
  std::vector<context_row> by_context;
  sleep_figures sleeps;
  std::vector<shrinker_row> shrinkers;
  std::vector<name_count> vmstat;        // by how much the counters grew in the replay; names are those of the library's vmstat
  std::vector<failure_record> failures;  // the first ones; total.failed has the number
  std::string cache_moment;              // when the rows below were taken: "at the charged peak", "at the end"
  std::vector<cache_row> by_cache;
  std::array<latency_histogram, latency_path_count> latency_ns;  // by latency_path
  std::vector<sample> samples;                                   // ascending time; a few hundred to a few thousand
  std::vector<std::string> block_caches;                         // names that block_info::cache points to
  std::vector<block_snapshot> block_maps;                        // ascending time; about 10 to 60 are shown well
  std::vector<std::string> slabinfo;                             // lines, as the library prints them
  std::vector<std::string> buddyinfo;
  std::vector<described_error> errors;  // the first ones; total.errors has the number
};

[[nodiscard]] std::string_view to_string(alloc_context context) noexcept;
[[nodiscard]] std::string_view to_string(latency_path path) noexcept;
[[nodiscard]] std::string_view to_string(block_owner owner) noexcept;

// 100 * part / whole; 0 when whole is 0, so that empty results need no special case.
[[nodiscard]] double percent(std::uint64_t part, std::uint64_t whole) noexcept;

// Bytes lost to rounding up to the object size, in percent of what was handed out. Never negative.
[[nodiscard]] double rounding_waste_percent(const cache_row& row) noexcept;

// Bytes of the slabs that no active object occupies, and their share in percent.
[[nodiscard]] std::uint64_t slab_bytes(const cache_row& row) noexcept;
[[nodiscard]] std::uint64_t slab_waste_bytes(const cache_row& row) noexcept;
[[nodiscard]] double slab_waste_percent(const cache_row& row) noexcept;

// What a waker did, in words: "freed pages" for "page".
[[nodiscard]] std::string_view cause_text(std::string_view cause) noexcept;

// Requests that came to reclaim themselves: the sum of the allocstall counters.
[[nodiscard]] std::uint64_t direct_reclaims(const replay_result& result) noexcept;

// Lengths of sleeps in steps of ten, from the shortest to the longest.
struct decade_row {
  std::uint64_t low_ns = 0;  // the step begins here and ends at ten times as much
  std::uint64_t count = 0;
};
[[nodiscard]] std::vector<decade_row> by_decade(const latency_histogram& histogram);

// How much a counter of vmstat grew; 0 for one that is not there.
[[nodiscard]] std::uint64_t vmstat_of(const replay_result& result, std::string_view name) noexcept;

// Did a thread sleep for memory though no sleep is recorded? vm.sleep_record_ms= may be too large for that.
[[nodiscard]] bool sleeps_without_record(const replay_result& result) noexcept;

// The sample with the smallest reserve, the first of several; nullptr when there never was one.
[[nodiscard]] const sample* lowest_reserve(const replay_result& result) noexcept;

// Named caches or size classes that were used, largest in memory first.
[[nodiscard]] std::vector<const cache_row*> caches_by_memory(const replay_result& result, bool size_classes);

// The title, or one made from trace names and budget when there is none.
[[nodiscard]] std::string title_of(const replay_result& result);

}  // namespace kmem::tool::report
