// The waiting side of the two locks: the library's ranked_lock and the users' spinlock.
//
// States.   word 0 free; 1 held and nobody waits; 2 held and somebody may wait. A waiter that was asleep takes the lock as 2, since
//           it cannot know whether others still sleep: one futex_wake too many at the end of a contended time, never one too few.
// Locks.    ranked_lock: any context (only tried in a nested slow path). spinlock: the caller's own rules; holding it is atomic context.
// Ordering. pairs: lock_word - unlock's exchange releases, the next successful exchange acquires.
// Kernel.   A kernel spin lock never sleeps, since its holder cannot be preempted. Here it can, and a real-time waiter would keep
//           it from running for ever, so waiting ends in a futex. That is no "scheduling while atomic": it is bounded by the holder.
// Tests.    tests/unit/base/lock_test.cpp, tests/sim/sim_base_test.cpp
#include "base/lock.hpp"

#include <bit>

#include "base/bug.hpp"
#include "base/text.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

// Steps of plat::relax before sleeping (arbitrary: the last one yields the CPU once, in case the holder is on it).
constexpr unsigned spins_before_sleep = 200;
constexpr uint64_t no_timeout = ~uint64_t{0};

const char* const rank_names[] = {"machine",   "shrinkers", "cache_list", "vmalloc", "cpu_arrays", "barn",
                                  "cache",     "cpu_pages", "zone",       "section", "wait_queue", "interrupts"};
static_assert(sizeof rank_names / sizeof rank_names[0] == nr_lock_ranks);

/// Takes a lock word after the first attempt failed.
void wait_and_take(atomic<uint32_t>& word) noexcept {
  for (unsigned spins = 0; spins < spins_before_sleep; ++spins) {
    plat::relax(spins);
    uint32_t free = 0;
    if (word.load_relaxed() == 0 && word.try_cmpxchg_acquire(free, 1)) return;  // pairs: lock_word
  }
  while (word.exchange_acquire(2) != 0) plat::futex_wait(word.word(), 2, no_timeout);  // pairs: lock_word
}

}  // namespace

const char* lock_rank_name(lock_rank rank) noexcept { return rank_names[static_cast<unsigned>(rank)]; }

void ranked_lock::lock_slow() noexcept { wait_and_take(word_); }

#if defined(KMEM_DEBUG)
void ranked_lock::check_rank() const noexcept {
  const uint64_t held = current().held_ranks;
  if (KMEM_LIKELY(held >> (static_cast<unsigned>(rank_) * held_bits) == 0)) return;
  const unsigned highest = static_cast<unsigned>(63 - std::countl_zero(held)) / held_bits;
  char text[96];
  text_writer(text, sizeof text)
      .str("lock order: taking a lock of rank ")
      .str(lock_rank_name(rank_))
      .str(" while holding one of rank ")
      .str(rank_names[highest]);
  bug(text, __FILE__, __LINE__);
}

void ranked_lock::note_held() const noexcept { current().held_ranks += uint64_t{1} << (static_cast<unsigned>(rank_) * held_bits); }

void ranked_lock::note_released() const noexcept {
  const unsigned shift = static_cast<unsigned>(rank_) * held_bits;
  KMEM_CHECK((current().held_ranks >> shift & ((1u << held_bits) - 1)) != 0);  // released by a thread that does not hold it
  current().held_ranks -= uint64_t{1} << shift;
}
#endif

}  // inline namespace

namespace {

/// The word as an atomic: the public header cannot include <atomic>.
atomic<uint32_t>& as_atomic(uint32_t& word) noexcept {
  static_assert(sizeof(atomic<uint32_t>) == sizeof(uint32_t) && alignof(atomic<uint32_t>) == alignof(uint32_t));
  return reinterpret_cast<atomic<uint32_t>&>(word);
}

bool try_word(atomic<uint32_t>& word) noexcept {
  preempt_count_add(preempt_unit);
  uint32_t free = 0;
  if (word.try_cmpxchg_acquire(free, 1)) return true;  // pairs: lock_word
  preempt_count_sub(preempt_unit);
  return false;
}

}  // namespace

// The count is raised before the lock is taken and lowered after it is free, so that a handler never sees a holder outside atomic context.
void spinlock::lock() noexcept KMEM_NO_ANALYSIS {
  preempt_count_add(preempt_unit);
  uint32_t free = 0;
  if (!as_atomic(word_).try_cmpxchg_acquire(free, 1)) wait_and_take(as_atomic(word_));  // pairs: lock_word
}

bool spinlock::try_lock() noexcept { return try_word(as_atomic(word_)); }

bool spinlock::try_lock_briefly() noexcept {
  constexpr uint64_t brief_ns = 1'000'000;  // arbitrary: a holder that runs is done by then
  if (try_word(as_atomic(word_))) return true;
  const uint64_t end = plat::now_ns() + brief_ns;
  for (unsigned spins = 0; plat::now_ns() < end; ++spins) {
    plat::relax(spins);
    if (try_word(as_atomic(word_))) return true;
  }
  return false;
}

void spinlock::unlock() noexcept KMEM_NO_ANALYSIS {
  atomic<uint32_t>& word = as_atomic(word_);
  if (word.exchange_release(0) == 2) plat::futex_wake(word.word(), 1);  // pairs: lock_word
  preempt_count_sub(preempt_unit);
}

}  // namespace kmem
