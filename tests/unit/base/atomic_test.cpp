#include "base/atomic.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <type_traits>
#include <vector>

namespace kmem {
namespace {

static_assert(!std::is_convertible_v<atomic<uint32_t>, uint32_t>);
static_assert(!std::is_assignable_v<atomic<uint32_t>&, uint32_t>);
static_assert(!std::is_copy_constructible_v<atomic<uint32_t>> && !std::is_convertible_v<uint32_t, atomic<uint32_t>>);
static_assert(sizeof(atomic<uint32_t>) == sizeof(uint32_t));

TEST(Atomic, OperationsReturnAndLeaveWhatTheyPromise) {
  atomic<uint32_t> a(5);
  EXPECT_EQ(a.load_relaxed(), 5u);
  EXPECT_EQ(a.exchange_relaxed(6), 5u);
  EXPECT_EQ(a.exchange_acquire(7), 6u);
  EXPECT_EQ(a.exchange_release(8), 7u);
  EXPECT_EQ(a.exchange_acq_rel(9), 8u);
  EXPECT_EQ(a.fetch_add_relaxed(1), 9u);
  EXPECT_EQ(a.fetch_add_release(1), 10u);
  EXPECT_EQ(a.fetch_sub_relaxed(1), 11u);
  EXPECT_EQ(a.fetch_sub_acq_rel(2), 10u);
  EXPECT_EQ(a.fetch_or_relaxed(3), 8u);
  EXPECT_EQ(a.fetch_and_relaxed(9), 11u);
  EXPECT_EQ(a.fetch_or_release(2), 9u);
  EXPECT_EQ(a.fetch_or_acq_rel(8), 11u);
  EXPECT_EQ(a.peek(), 11u);
  uint32_t expected = 1;
  EXPECT_FALSE(a.try_cmpxchg_relaxed(expected, 2));
  EXPECT_EQ(expected, 11u);
  EXPECT_TRUE(a.try_cmpxchg_relaxed(expected, 12));
  expected = 12;
  EXPECT_TRUE(a.try_cmpxchg_acquire(expected, 13));
  expected = 13;
  EXPECT_TRUE(a.try_cmpxchg_release(expected, 14));
  expected = 13;
  EXPECT_FALSE(a.try_cmpxchg_acquire(expected, 1));
  EXPECT_EQ(expected, 14u);
  a.store_relaxed(1);
  a.store_release(2);
  EXPECT_EQ(a.load_acquire(), 2u);
  EXPECT_EQ(*a.word(), 2u);
}

TEST(Atomic, AReleasedWriteIsSeenByWhoAcquiresIt) {
  for (int round = 0; round < 200; ++round) {
    atomic<uint32_t> ready(0);
    int data = 0;
    std::thread writer([&] {
      data = 42;
      ready.store_release(1);
    });
    while (ready.load_acquire() == 0) std::this_thread::yield();
    ASSERT_EQ(data, 42);
    writer.join();
  }
}

TEST(Atomic, AdditionsOfManyThreadsAddUp) {
  atomic<uint64_t> sum(0);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&sum] {
      for (int n = 0; n < 10'000; ++n) sum.fetch_add_relaxed(1);
    });
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(sum.load_relaxed(), 40'000u);
}

}  // namespace
}  // namespace kmem
