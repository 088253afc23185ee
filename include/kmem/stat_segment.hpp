// The statistics segment: what a process under kmem shows of its memory to others, and a mailbox to ask it for more.
//
// A segment is System V shared memory of `segment_bytes`, made by the process that it speaks of (the system keeps the maker's number, which
// nobody can forge), marked for removal at once: it goes with the process, whichever way that ends. Others attach to it by its number,
// which /proc/sysvipc/shm lists. Only its owner and root can.
//
// Everything here is data of another process: whoever reads it copies it once, and believes no count and no text.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace kmem::stat {

inline constexpr uint64_t segment_magic = 0x746174736d656d6b;  // "kmemstat"
inline constexpr uint32_t segment_version = 1;                 // of the layout below
inline constexpr size_t segment_bytes = size_t{256} << 10;
inline constexpr size_t text_offset = size_t{32} << 10;
inline constexpr size_t text_bytes = segment_bytes - text_offset;
inline constexpr unsigned max_counters = 64;  // rows that there is room for
inline constexpr unsigned max_caches = 160;

/// What can be asked for. The argument: none; the text's name; the parameter's name; name=value; none.
enum class command : uint32_t { none, refresh, text, get, set, trim };
enum class reply : uint32_t { done, unknown, read_only, invalid, refused };
/// Who served the last request.
enum class server : uint32_t { nobody, background_thread, slow_path };

/// Bytes where nothing else is said. Read one after another while others allocate: sums may be off by what happened meanwhile.
struct figures {
  uint64_t time_ns;  // CLOCK_MONOTONIC when they were taken; 0: never, but for the budget
  uint64_t budget, charged, charged_peak, metadata;
  uint64_t live;                      // handed out: objects and runs of pages
  uint64_t free;                      // of the budget
  uint64_t backed;                    // may be resident: charged, kept free, on the way back
  uint64_t in_cpu_lists, pool;        // taken, but not charged
  uint64_t reserve, reserve_wanted;
  uint64_t failures;                  // NULLs
  uint64_t reclaimed;                 // by shrinkers, callbacks and kswapd
  uint64_t pages_allocated, pages_freed;  // pages, ever
  uint64_t refills, flushes;          // batches of objects between CPU arrays and the rest, ever
  uint64_t nr_caches;                 // all of them, also those that have no row
  uint64_t threads;                   // 0: not known
};

struct counter_row {
  char name[40];
  uint64_t value;
};

struct cache_row {
  char name[32];
  uint64_t size, active, total, in_arrays, slab_bytes, refills;
};

struct segment {
  // Written once; `magic` last.
  uint64_t magic;
  uint32_t version, pid;
  uint64_t bytes;
  uint64_t created_ns;  // CLOCK_BOOTTIME: a process that began later and has the number is another one
  char command_line[512];

  // Written at the end of every slow path.
  alignas(64) uint64_t taken_pages;  // charged, in the CPUs' lists and in the reclaimers' pool
  uint64_t events;

  // The mailbox, written by who asks, who has put his pid where `asker` was 0: `what` is none, the argument, what, `request` plus 1.
  alignas(64) uint32_t request;  // a futex word, shared
  uint32_t asker, what, unused;
  alignas(8) char argument[240];

  // The answer, written by the process: `served` last.
  alignas(64) uint32_t served;
  uint32_t status, served_by;
  uint32_t service_thread;  // 1: a thread waits for requests, and will serve them at once
  uint64_t reply_bytes;     // wanted; at most text_bytes - 1 of them are there

  // Odd while it is being written.
  alignas(64) uint64_t sequence;
  figures now;
  uint64_t nr_counters, nr_cache_rows;
  counter_row counters[max_counters];
  cache_row caches[max_caches];
};
static_assert(sizeof(segment) <= text_offset);

}  // namespace kmem::stat
