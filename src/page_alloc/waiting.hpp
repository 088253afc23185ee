// Waiting for memory: what a thread that waits brings along, the queue of those who do, and the record of a long sleep.
#pragma once
#include "base/base.hpp"
#include "page_alloc/record_ring.hpp"
#include "page_alloc/rights.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

struct page_allocator;

/// How an allocation of a thread that could have waited for memory ended.
enum class wait_outcome : uint8_t {
  none,         // it had memory without waiting
  served,       // it had to wait, and was served
  exhausted,    // NULL: its permitted part of the chain was done
  timed_out,    // NULL: its deadline came
  interrupted,  // NULL: a signal handler ran
  stopped,      // NULL: somebody asked it to stop
};

/// What a thread did that gave a waiter its turn.
enum class wake_cause : uint8_t {
  none,        // nobody gave it one
  page,        // freed pages
  object,      // freed an object of the kind that the waiter would take instead
  drain,       // emptied CPU lists into the free areas
  room,        // made room in the budget: metadata has gone, or a cgroup leaves more
  give_back,   // gave memory back to the system, or up what it had claimed for itself
  reclaim,     // any of these, inside of its own reclaim: a callback, shrinker or notifier
  kswapd,      // any of these, as kswapd
  left,        // left the queue, or went to reclaim, without having been given a turn itself
  stop,        // asked it to stop waiting
};
inline constexpr unsigned nr_wake_causes = 10;
const char* wake_cause_name(wake_cause cause) noexcept;

/// What may end the waits of a thread: one scope, on its stack or in an object of the user's. Enclosing scopes count as well.
struct wait_conditions {
  wait_conditions* outer = nullptr;
  uint64_t deadline_ns = 0;      // CLOCK_MONOTONIC; 0: none, vm.alloc_wait_ms decides
  atomic<page_allocator*> where{nullptr};  // valid while wait_asleep is set
  atomic<uint32_t> state{0};        // wait_stopped, wait_asleep
  bool interruptible = false;
  bool interrupted = false;  // stays until the scope ends: what is asked for next does not wait either
};
inline constexpr uint32_t wait_stopped = 1, wait_asleep = 2;

/// Opens a scope for the calling thread. Context: process.
void wait_enter(wait_conditions& conditions, uint64_t deadline_ns, bool interruptible) noexcept;
/// Closes it; scopes of a thread are closed in the opposite order.
void wait_leave(wait_conditions& conditions) noexcept;
/// Ends the waits of the scope's thread, now and later. Context: any thread, not a handler that interrupted the allocator.
void wait_stop(wait_conditions& conditions) noexcept;
/// How the calling thread's last allocation that failed, or that went past the lists and could have waited, ended.
wait_outcome last_wait() noexcept;

/// What a request needs, as far as it decides whose turn it is.
struct wait_needs {
  uint64_t n = 1;               // pages
  unsigned order = 0;           // of the aligned slot; 0 for pages outside the arena
  bool zones[nr_zones] = {};    // it may use
  uint64_t floors[nr_zones] = {};  // free pages that it must leave there
};

/// One thread that waits: on its stack, linked in the queue.
struct waiter {
  waiter* next = nullptr;
  waiter* prev = nullptr;
  atomic<uint32_t> word{0};  // futex word: 0 it may sleep; 1 it is its turn. Written under the queue's lock
  bool away = false;         // inside a reclaim callback: nobody waits for it
  bool front = false;        // a reclaimer
  const void* what = nullptr;  // served by one of these, too
  wait_needs needs;
  const wait_conditions* conditions = nullptr;
  uint64_t since_ns = 0;
  uint32_t generation = 0;      // of the process: a child of a fork has none of its parent's waiters
  int waker = 0;                // thread that woke it last; 0: nobody
  wake_cause cause = wake_cause::none;
  char waker_name[16] = {};
};

inline constexpr uint32_t missed_pages = 1, missed_objects = 2;
struct wait_queue {
  ranked_lock lock{lock_rank::wait_queue};
  waiter* first KMEM_GUARDED_BY(lock) = nullptr;
  waiter* last KMEM_GUARDED_BY(lock) = nullptr;
  uint32_t transit_sleepers KMEM_GUARDED_BY(lock) = 0;  // threads that sleep on free_sequence
  atomic<uint32_t> missed{0};  // wakes are due that a handler could not make, for pages, objects: by whoever releases the lock next
  uint32_t generation = 0;     // forks since the machine was made
};

/// One long sleep: who waited for what, how long, who woke it, and how it ended.
struct sleep_record {
  uint64_t sequence = 0;
  uint64_t time_ns = 0, slept_ns = 0;  // when it began to wait; how long it did
  gfp_t gfp = gfp::none;
  uint32_t order = 0;
  uint64_t pages = 0, bytes = 0;
  uint32_t wakes = 0;  // turns it had
  int32_t thread = 0, waker = 0;  // waker: who woke it last, 0: nobody did
  char comm[16] = {}, waker_comm[16] = {};
  wake_cause cause = wake_cause::none;  // what the waker did
  wait_outcome outcome = wait_outcome::none;
};
inline constexpr unsigned nr_sleep_records = 64;

}  // inline namespace
}  // namespace kmem
