// kswapd: the thread that reclaims in the background. Part of the layer `reclaim`; see kswapd.cpp.
#pragma once
#include "vmalloc/vmalloc.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
struct machine;

enum class kswapd_life : uint32_t { none, starting, running, stopping };

struct kswapd_state {
  atomic<kswapd_life> life{kswapd_life::none};
  atomic<uint32_t> word{0};          // futex word: 0 asleep, or about to sleep; 1 wanted, or at work
  atomic<uint32_t> stop{0};
  atomic<uint32_t> order{0};         // the largest that somebody asked for since it last took work
  atomic<uint32_t> highest{0};       // the highest zone of those, plus one; 0: nobody asked
  atomic<uint32_t> hopeless{0};      // it has given up
  atomic<uint64_t> hopeless_at{0};   // nr_freed_pages() then
  atomic<uint64_t> start_after_ns{0};  // not to be started before: the system refused a thread
  uint32_t failures = 0;             // rounds in a row without progress; the thread's own
  thread_handle thread;
  // For vmstat. scan: pages that it asked for; steal: pages that it got; wakes: times that it was woken to work, not counting those when it
  // was at work; vain: rounds in which nothing came free; surrenders: times that it gave up.
  atomic<uint64_t> pgscan_kswapd{0}, pgsteal_kswapd{0}, pageoutrun{0}, kswapd_low_wmark_hit_quickly{0}, kswapd_high_wmark_hit_quickly{0},
      wakes{0}, vain_rounds{0}, surrenders{0};
  atomic<uint64_t> slept_ns{0};      // until it last woke
  atomic<uint64_t> asleep_since{0};  // 0: it is not asleep
};

/// Rounds without progress after which it sleeps until somebody frees (the kernel's MAX_RECLAIM_RETRIES).
inline constexpr uint32_t kswapd_rounds = 16;

/// Prepares it, if config.kswapd permits one: the thread starts when it is first needed. After page_alloc_init.
[[nodiscard]] err kswapd_init(machine& m) noexcept;
/// Ends the thread and waits for it. It starts again if somebody needs it. Context: may sleep; from several threads at once, too; on kswapd
/// itself nothing happens.
void kswapd_stop(machine& m) noexcept;
/// How long it has slept in all, between its work; the time before its start does not count. Context: any.
uint64_t kswapd_slept_ns(const machine& m) noexcept;
/// In the child of a fork, which has no such thread.
void kswapd_fork_child(machine& m) noexcept;

}  // inline namespace
}  // namespace kmem
