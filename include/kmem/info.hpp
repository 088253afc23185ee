// Seeing what the allocator does: figures, failures, caches, page blocks, messages, and the kernel's /proc texts.
//
// Everything here is a snapshot taken while other threads go on. Texts go into a buffer of the caller's: the functions return how many
// characters they wanted, NUL excluded, so a result of `capacity` or more means that the text was cut off and how much room it needs.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <kmem/kmem.hpp>

namespace kmem {

// ---- memory ---------------------------------------------------------------------------------------------------------------------

inline constexpr unsigned zones_max = 5;

/// Pages of a zone. charged + free + in CPU lists == managed, but for pages of the reclaimers' own pool.
struct zone_info {
  const char* name = "";                                  // DMA, DMA32, Normal, HighMem, Movable
  uint64_t spanned_pages = 0;                             // address space
  uint64_t managed_pages = 0;                             // its share of the budget
  uint64_t charged_pages = 0;                             // handed out
  uint64_t free_pages = 0;                                // as the watermarks count
  uint64_t present_free_pages = 0;                        // free and backed by memory
  uint64_t cpu_list_pages = 0;                            // in per-CPU lists
  uint64_t transit_pages = 0;                             // on their way back to the system
  uint64_t reserve_pages = 0;                             // backed, for atomic allocations; part of free
  uint64_t min_pages = 0, low_pages = 0, high_pages = 0;  // watermarks
};

struct memory_info {
  uint64_t limit_bytes = 0;         // the budget: charged + free present + metadata never exceed it
  uint64_t charged_bytes = 0;       // handed out, vmalloc included
  uint64_t charged_peak_bytes = 0;  // sum of the zones' peaks, pages in per-CPU lists included
  uint64_t metadata_bytes = 0;      // descriptors, maps, page tables, per-CPU areas
  uint64_t metadata_peak_bytes = 0;
  uint64_t free_present_bytes = 0;  // free and backed
  uint64_t cpu_list_bytes = 0;
  uint64_t reserve_bytes = 0;
  uint64_t transit_bytes = 0;
  uint64_t vmalloc_bytes = 0;
  uint64_t failures = 0;          // allocations that returned nullptr for want of memory
  uint64_t reclaim_rounds = 0;    // times an allocation had to reclaim
  uint64_t reclaimed_pages = 0;   // what callbacks gave back
  uint64_t given_back_pages = 0;  // returned to the system
  unsigned nr_zones = 0;          // zones that have pages
  zone_info zones[zones_max];
};
/// Context: any. Return: false if the allocator could not be started.
KMEM_EXPORT bool read_memory_info(memory_info& result) noexcept;

/// Bytes of the arena and of vmalloc memory that are resident now, asked of the system page by page. Context: process; does system calls.
[[nodiscard]] KMEM_EXPORT uint64_t resident_bytes() noexcept;

// ---- caches ---------------------------------------------------------------------------------------------------------------------

struct kmem_cache_info {
  char name[32] = {};
  uint32_t object_size = 0;  // bytes asked for
  uint32_t size = 0;         // bytes from one object to the next
  uint32_t align = 0;
  uint32_t objects_per_slab = 0;
  uint32_t pages_per_slab = 0;
  uint64_t active = 0;  // objects handed out
  uint64_t total = 0;   // objects in slabs
  uint64_t slabs = 0;
  uint64_t partial_slabs = 0;                  // with free objects
  uint64_t in_cpu_arrays = 0, in_sheaves = 0;  // objects kept at hand
};
/// The index-th cache, kmalloc's size classes included. Context: process. Return: false past the last one.
KMEM_EXPORT bool read_kmem_cache_info(unsigned index, kmem_cache_info& result) noexcept;

// ---- the path of an allocation -----------------------------------------------------------------------------------------------------

/// How far an allocation had to go.
enum class alloc_path : uint8_t {
  per_cpu,         // an object or page kept for this CPU
  slab_refill,     // objects of a sheaf or of slabs that exist
  page_allocator,  // pages of the free areas
  chain,           // beyond them: what its flags permit before it fails
};
/// Forgets how far this thread's allocations went. Context: any.
KMEM_EXPORT void reset_alloc_path() noexcept;
/// How far this thread's allocations went since then, the deepest of them. Context: any.
[[nodiscard]] KMEM_EXPORT alloc_path deepest_alloc_path() noexcept;

/// Gives back what caches and CPU lists keep without need, as the chain would before it fails. Context: process. Return: pages freed or
/// moved.
KMEM_EXPORT uint64_t drain() noexcept KMEM_EXCLUDES(atomic_context);

// ---- failures -------------------------------------------------------------------------------------------------------------------

/// Why an allocation returned nullptr. The last 64 are kept.
struct allocation_failure {
  uint64_t sequence = 0;  // 1 for the first of the process
  uint64_t time_ns = 0;   // CLOCK_MONOTONIC
  gfp_t gfp = gfp::none;
  uint32_t order = 0;
  uint64_t bytes = 0;     // of the request, 0: not known
  const char* step = "";  // the last step of the chain that it took; "refused": none, because of a limit or an injected failure
  const char* zone = "";  // the highest zone it allowed
  uint64_t managed_pages = 0, charged_pages = 0, free_pages = 0, reserve_pages = 0, cpu_list_pages = 0, transit_pages = 0;  // of that zone
  uint64_t limit_pages = 0, metadata_pages = 0;
  uint32_t preempt_count = 0;
  char thread[16] = {};
  char cache[32] = {};       // that asked; empty: none
  const void* pcs[16] = {};  // return addresses, innermost first
  unsigned nr_pcs = 0;
};
/// Failures since the start. Context: any.
[[nodiscard]] KMEM_EXPORT uint64_t failures_total() noexcept;
/// Failure number `sequence`. Context: any. Return: false if it is not kept any more, or not there yet.
KMEM_EXPORT bool read_allocation_failure(uint64_t sequence, allocation_failure& result) noexcept;
/// The failure in the kernel's form, with symbols. Context: process.
KMEM_EXPORT size_t failure_text(const allocation_failure& failure, char* buffer, size_t capacity) noexcept;
/// "function+0x12/0x40 [object]" for a code address, or the address in hexadecimal. Context: process (the dynamic linker may be asked).
KMEM_EXPORT size_t symbol_text(const void* pc, char* buffer, size_t capacity) noexcept;

// ---- sleeps ---------------------------------------------------------------------------------------------------------------------

/// A request that slept for memory for vm.sleep_record_ms or longer, all of its sleeps together. The last 64 are kept.
struct long_sleep {
  uint64_t sequence = 0;  // 1 for the first of the process
  uint64_t time_ns = 0;   // CLOCK_MONOTONIC, when it came to wait
  uint64_t slept_ns = 0;  // asleep, without the reclaim that it did meanwhile
  gfp_t gfp = gfp::none;
  uint32_t order = 0;
  uint64_t pages = 0, bytes = 0;  // of the request
  uint32_t turns = 0;             // times it was its turn to try
  int32_t thread_id = 0;
  char thread[16] = {};
  int32_t waker_id = 0;    // the thread whose free woke it last; 0: nobody's
  char waker[16] = {};
  /// What the waker did: page (freed pages), object, drain (emptied CPU lists), room (metadata went, or a cgroup leaves more), give_back
  /// (to the system, or gave a claim up), reclaim, kswapd, left (the queue of those who wait), stop; none: nobody woke it.
  const char* cause = "";
  const char* end = "";  // served, exhausted, timed_out, interrupted, stopped
};
/// Long sleeps since the start. Context: any.
[[nodiscard]] KMEM_EXPORT uint64_t long_sleeps_total() noexcept;
/// Long sleep number `sequence`. Context: any. Return: false if it is not kept any more, or not there yet.
KMEM_EXPORT bool read_long_sleep(uint64_t sequence, long_sleep& result) noexcept;

// ---- page blocks, for pictures ----------------------------------------------------------------------------------------------------

enum class block_owner : uint8_t {
  nobody,  // no page is handed out
  slabs,   // most used pages belong to slabs
  pages,   // most used pages are pages
};

/// A page block: 512 pages, 2 MiB.
struct page_block_info {
  uint64_t number = 0;  // pfn / 512
  const char* zone = "";
  const char* mobility = "";  // Unmovable, Movable, Reclaimable
  uint16_t used_pages = 0;    // handed out or in CPU lists
  uint16_t free_present_pages = 0;
  uint16_t absent_pages = 0;  // free and not backed
  uint16_t transit_pages = 0;
  uint16_t slab_pages = 0;  // of used_pages
  block_owner owner = block_owner::nobody;
  char cache[32] = {};  // the cache with most pages in it
  /// One byte a page: 0 absent, 1 free, 2 used as pages, 3 slab. Ownership is read without locks: a picture, not a proof.
  uint8_t pages[512] = {};
};
/// The first opened block with a number of `from` or more. Context: process. Return: false if there is none.
KMEM_EXPORT bool read_page_block(uint64_t from, page_block_info& result) noexcept;

// ---- texts in the kernel's formats ------------------------------------------------------------------------------------------------

// Context: process. Return: characters wanted.
KMEM_EXPORT size_t slabinfo_text(char* buffer, size_t capacity) noexcept;
KMEM_EXPORT size_t buddyinfo_text(char* buffer, size_t capacity) noexcept;
KMEM_EXPORT size_t zoneinfo_text(char* buffer, size_t capacity) noexcept;
KMEM_EXPORT size_t vmstat_text(char* buffer, size_t capacity) noexcept;
KMEM_EXPORT size_t meminfo_text(char* buffer, size_t capacity) noexcept;
KMEM_EXPORT size_t vmallocinfo_text(char* buffer, size_t capacity) noexcept;

// ---- messages ---------------------------------------------------------------------------------------------------------------------

/// The kernel's levels.
enum class message_level : uint8_t { emerg, alert, crit, err, warning, notice, info, debug };

/// Told of each message at once, in the context of whoever caused it: it must not allocate from this library, block or log.
using message_sink = void (*)(message_level level, const char* text, size_t bytes, const void* const* pcs, unsigned nr_pcs) noexcept;
/// Where messages go besides the ring; nullptr: nowhere. Without a call they go to stderr, warnings and worse. Context: any.
KMEM_EXPORT void set_message_sink(message_sink sink) noexcept;
/// Messages to stderr again, warnings and worse. Context: any.
KMEM_EXPORT void reset_message_sink() noexcept;
/// Copies the oldest message kept with a number of `sequence` or more. Context: any. Return: its number + 1; 0 when there is none yet.
[[nodiscard]] KMEM_EXPORT uint64_t read_message(uint64_t sequence, message_level& level, char* buffer, size_t capacity) noexcept;

/// Walks every structure under its locks. kswapd is ended for that; it starts again when somebody needs it. Context: process, while no
/// other thread allocates or frees; in the child of a fork, if none did at that moment. Return: nullptr, or what is wrong.
[[nodiscard]] KMEM_EXPORT const char* validate() noexcept;

}  // namespace kmem
