#include "base/lock.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace kmem {
namespace {

TEST(Lock, ExcludesThreads) {
  ranked_lock lock(lock_rank::zone);
  uint64_t counter = 0;  // plain: a race would lose additions
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int n = 0; n < 20'000; ++n) {
        const lock_guard hold(lock);
        ++counter;
      }
    });
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(counter, 80'000u);
  EXPECT_FALSE(lock.is_locked());
}

TEST(Lock, AWaiterSleepsAndIsWoken) {
  ranked_lock lock(lock_rank::cache);
  atomic<uint32_t> entered(0);
  lock.lock();
  std::vector<std::thread> waiters;
  for (int i = 0; i < 3; ++i)
    waiters.emplace_back([&] {
      lock.lock();
      entered.fetch_add_relaxed(1);
      lock.unlock();
    });
  for (int i = 0; i < 50; ++i) std::this_thread::yield();
  EXPECT_EQ(entered.load_relaxed(), 0u);
  lock.unlock();
  for (std::thread& each : waiters) each.join();
  EXPECT_EQ(entered.load_relaxed(), 3u);
  EXPECT_FALSE(lock.is_locked());
}

TEST(Lock, TryLockNeverWaits) {
  ranked_lock lock(lock_rank::barn);
  ASSERT_TRUE(lock.try_lock());
  EXPECT_TRUE(lock.is_locked());
  bool other = true;
  std::thread([&] {
    other = lock.try_lock();
    if (other) lock.unlock();
  }).join();
  EXPECT_FALSE(other);
  lock.unlock();
  ASSERT_TRUE(lock.try_lock());
  lock.unlock();
}

TEST(Lock, ABriefTryGivesUpAndLeavesTheContextAlone) {
  spinlock lock;
  lock.lock();
  bool other = true;
  uint32_t count = 1;
  std::thread([&] {
    other = lock.try_lock_briefly();
    count = preempt_count();
    if (other) lock.unlock();
  }).join();
  EXPECT_FALSE(other);
  EXPECT_EQ(count, 0u);
  lock.unlock();
  ASSERT_TRUE(lock.try_lock_briefly());
  EXPECT_TRUE(in_atomic());
  lock.unlock();
  EXPECT_FALSE(in_atomic());
}

TEST(Lock, ANestedSlowPathOnlyTries) {
  ranked_lock lock(lock_rank::barn);
  const nest_guard outer;
  ASSERT_TRUE(lock.lock_unless_nested());
  EXPECT_FALSE(outer.nested());
  {
    const nest_guard inner;  // as in a signal handler
    EXPECT_TRUE(inner.nested());
    const bool taken = lock.lock_unless_nested();  // would never return if it waited
    EXPECT_FALSE(taken);
    if (taken) lock.unlock();
  }
  lock.unlock();
  const nest_guard inner;
  ASSERT_TRUE(lock.lock_unless_nested());
  lock.unlock();
}

TEST(Lock, IsFreeInTheChildOfAFork) {
  ranked_lock lock(lock_rank::machine);
  std::thread([&lock] {  // a thread that does not exist in the child
    if (!lock.try_lock()) ADD_FAILURE();
  }).join();
  ASSERT_TRUE(lock.is_locked());
  lock.reinit_after_fork();
  EXPECT_FALSE(lock.is_locked());
  ASSERT_TRUE(lock.try_lock());
  lock.unlock();
}

TEST(Lock, RanksHaveNames) {
  EXPECT_STREQ(lock_rank_name(lock_rank::machine), "machine");
  EXPECT_STREQ(lock_rank_name(lock_rank::section), "section");
  EXPECT_EQ(static_cast<unsigned>(lock_rank::interrupts) + 1, nr_lock_ranks);
  for (unsigned i = 0; i < nr_lock_ranks; ++i) EXPECT_STRNE(lock_rank_name(static_cast<lock_rank>(i)), "");
}

TEST(Lock, TakingRanksUpwardsIsFineAndReleasingInAnyOrderToo) {
  ranked_lock machine(lock_rank::machine), cache(lock_rank::cache), zone(lock_rank::zone);
  machine.lock();
  cache.lock();
  zone.lock();
  machine.unlock();
  zone.unlock();
  cache.unlock();
  EXPECT_EQ(current().held_ranks, 0u);
  machine.lock();
  machine.unlock();
}

#if defined(KMEM_DEBUG)
TEST(LockDeathTest, TakingALowerRankIsABugThatNamesBoth) {
  ranked_lock zone(lock_rank::zone), cache(lock_rank::cache);
  EXPECT_DEATH(
      {
        zone.lock();
        cache.lock();
      },
      "kernel BUG at .*lock order: taking a lock of rank cache while holding one of rank zone");
}

TEST(LockDeathTest, TakingTheSameRankTwiceIsABug) {
  ranked_lock one(lock_rank::zone), two(lock_rank::zone);
  EXPECT_DEATH(
      {
        one.lock();
        two.lock();
      },
      "taking a lock of rank zone while holding one of rank zone");
}

TEST(LockDeathTest, ATryLockCountsAsHeld) {
  ranked_lock zone(lock_rank::zone), cache(lock_rank::cache);
  EXPECT_DEATH(
      {
        if (zone.try_lock()) cache.lock();
      },
      "rank cache while holding one of rank zone");
}

TEST(LockDeathTest, ReleasingWhatTheThreadDoesNotHoldIsABug) {
  ranked_lock lock(lock_rank::zone);
  EXPECT_DEATH(lock.unlock(), "kernel BUG at .*src/base/lock.cpp");
}

TEST(Lock, TriesAreAllowedInAnyOrder) {
  ranked_lock one(lock_rank::zone), two(lock_rank::zone), cache(lock_rank::cache);
  one.lock();
  ASSERT_TRUE(two.try_lock());
  ASSERT_TRUE(cache.try_lock());
  cache.unlock();
  two.unlock();
  // Still known as held: one of two locks of its rank was released.
  EXPECT_NE(current().held_ranks, 0u);
  one.unlock();
  EXPECT_EQ(current().held_ranks, 0u);
}
#endif

TEST(Spinlock, ExcludesThreadsAndIsAtomicContextWhileHeld) {
  spinlock lock;
  uint64_t counter = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int n = 0; n < 10'000; ++n) {
        const spin_guard hold(lock);
        EXPECT_EQ(preempt_count(), preempt_unit);
        ++counter;
      }
      EXPECT_FALSE(in_atomic());
    });
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(counter, 40'000u);
}

TEST(Spinlock, ATryThatFailsLeavesTheContext) {
  spinlock lock;
  ASSERT_TRUE(lock.try_lock());
  EXPECT_EQ(preempt_count(), preempt_unit);
  std::thread([&lock] {
    if (lock.try_lock()) {
      lock.unlock();
      ADD_FAILURE() << "taken twice";
    }
    EXPECT_EQ(preempt_count(), 0u);
  }).join();
  lock.unlock();
  EXPECT_EQ(preempt_count(), 0u);
}

TEST(Spinlock, NestedGuardsCountEachLock) {
  spinlock outer_lock, inner_lock;
  const spin_guard outer(outer_lock);
  {
    const spin_guard_nested inner(inner_lock);
    EXPECT_EQ(preempt_count(), 2 * preempt_unit);
  }
  EXPECT_EQ(preempt_count(), preempt_unit);
}

TEST(Lock, AHandlerThatInterruptsAGuardedScopeOnlyTries) {
  ranked_lock lock(lock_rank::cache);
  const lock_guard hold(lock);
  EXPECT_EQ(current().depth, 1u);
  const nest_guard handler;
  EXPECT_FALSE(lock.lock_unless_nested());
}

}  // namespace
}  // namespace kmem
