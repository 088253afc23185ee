// The allocator's own locks: ranked, never held over a system call, and only tried where waiting could deadlock.
//
// A ranked_lock spins a bounded while and then waits on a futex, so that a real-time thread cannot spin for ever on a holder it
// keeps from running. In a signal handler that interrupted a slow path of the same thread (current().depth > 1) *every* lock is
// only tried: the interrupted frame may hold it, or hold what its holder waits for: lock_unless_nested() does that.
#pragma once
#include "base/atomic.hpp"
#include "base/context.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

/// Order in which locks may nest: a thread may take a lock only if it holds none of the same or a higher rank. No default rank.
enum class lock_rank : uint8_t {
  machine,     // opening sections, changing the budget, registering callbacks
  shrinkers,   // shrinkers and OOM notifiers of a machine
  cache_list,  // the list of kmem_caches of an allocator
  vmalloc,     // vmalloc areas
  cpu_arrays,  // one CPU's region of object arrays
  barn,        // full sheaves of a cache
  cache,       // slabs of a cache
  cpu_pages,   // one CPU's page lists of a zone
  zone,        // free areas of a zone
  section,     // opening sections of the arena (a system call under it: taken by openers only)
  wait_queue,  // who waits for memory, in order
  interrupts,  // armed timers (taken with interrupts off, in handlers, too)
};
inline constexpr unsigned nr_lock_ranks = 12;
/// Bits of task_context::held_ranks for each rank: a thread can hold up to 15 locks of one rank (by try_lock).
inline constexpr unsigned held_bits = 4;
static_assert(nr_lock_ranks * held_bits <= 64);
/// Names in rank order, for docs/lock-order.md and reports.
const char* lock_rank_name(lock_rank rank) noexcept;

class KMEM_CAPABILITY("ranked lock") ranked_lock {
 public:
  constexpr explicit ranked_lock(lock_rank rank) noexcept : rank_(rank) {}
  ranked_lock(const ranked_lock&) = delete;
  ranked_lock& operator=(const ranked_lock&) = delete;

  void lock() noexcept KMEM_ACQUIRE() KMEM_NO_ANALYSIS {
    check_rank();
    uint32_t free = 0;
    if (KMEM_UNLIKELY(!word_.try_cmpxchg_acquire(free, 1))) lock_slow();  // pairs: lock_word
    note_held();
  }
  [[nodiscard]] bool try_lock() noexcept KMEM_TRY_ACQUIRE(true) {
    uint32_t free = 0;
    if (!word_.try_cmpxchg_acquire(free, 1)) return false;  // pairs: lock_word
    note_held();
    return true;
  }
  void unlock() noexcept KMEM_RELEASE() KMEM_NO_ANALYSIS {
    note_released();
    if (KMEM_UNLIKELY(word_.exchange_release(0) == 2)) plat::futex_wake(word_.word(), 1);  // pairs: lock_word
  }
  /// lock(), or try_lock() when this thread's slow path interrupted another one. Return: whether it is held now.
  [[nodiscard]] bool lock_unless_nested() noexcept KMEM_TRY_ACQUIRE(true) KMEM_NO_ANALYSIS {
    if (KMEM_UNLIKELY(current().depth > 1)) return try_lock();
    lock();
    return true;
  }
  /// The same for fork's prepare handlers, which have raised `depth` themselves. Context: inside one nest_guard.
  [[nodiscard]] bool lock_for_fork() noexcept KMEM_TRY_ACQUIRE(true) KMEM_NO_ANALYSIS {
    if (KMEM_UNLIKELY(current().depth > current().fork_levels + 1)) return try_lock();
    lock();
    return true;
  }
  /// For assertions: held by somebody.
  bool is_locked() const noexcept { return word_.peek() != 0; }
  lock_rank rank() const noexcept { return rank_; }
  /// In the child of a fork: free, whoever held it in the parent. What the forking thread held itself is still counted as held:
  /// the fork handler of the child sets current().held_ranks to 0.
  void reinit_after_fork() noexcept { word_.store_relaxed(0); }

 private:
  void lock_slow() noexcept;
#if defined(KMEM_DEBUG)
  void check_rank() const noexcept;
  void note_held() const noexcept;
  void note_released() const noexcept;
#else
  void check_rank() const noexcept {}
  void note_held() const noexcept {}
  void note_released() const noexcept {}
#endif
  atomic<uint32_t> word_{0};  // 0 free, 1 held, 2 held and somebody may wait
  const lock_rank rank_;
};

/// Holds a lock for a scope; waits for it, so only where the thread cannot be nested (set-up, tear-down, texts). A handler that interrupts
/// the scope sees that it has interrupted the allocator.
class KMEM_SCOPED_CAPABILITY lock_guard {
 public:
  [[nodiscard]] explicit lock_guard(ranked_lock& lock) noexcept KMEM_ACQUIRE(lock) : lock_(lock) { lock_.lock(); }
  ~lock_guard() KMEM_RELEASE() { lock_.unlock(); }
  lock_guard(const lock_guard&) = delete;
  lock_guard& operator=(const lock_guard&) = delete;

 private:
  const nest_guard nest_;
  ranked_lock& lock_;
};

}  // inline namespace
}  // namespace kmem
