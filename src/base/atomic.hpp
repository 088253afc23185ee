// Atomics whose operations name their memory order: no default order, no implicit conversion, no assignment.
//
// Every acquire and every release carries a `// pairs: <name>` comment that names the partner (scripts/pairs checks it).
// Under KMEM_SIM each operation is a scheduling point.
#pragma once
#include <atomic>

#include "plat/plat.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

template <class T>
class atomic {
 public:
  constexpr atomic() noexcept = default;
  constexpr explicit atomic(T value) noexcept : value_(value) {}
  atomic(const atomic&) = delete;
  atomic& operator=(const atomic&) = delete;

  T load_relaxed() const noexcept { return point(), value_.load(std::memory_order_relaxed); }
  T load_acquire() const noexcept { return point(), value_.load(std::memory_order_acquire); }
  void store_relaxed(T v) noexcept { point(), value_.store(v, std::memory_order_relaxed); }
  void store_release(T v) noexcept { point(), value_.store(v, std::memory_order_release); }
  T exchange_relaxed(T v) noexcept { return point(), value_.exchange(v, std::memory_order_relaxed); }
  T exchange_acquire(T v) noexcept { return point(), value_.exchange(v, std::memory_order_acquire); }
  T exchange_release(T v) noexcept { return point(), value_.exchange(v, std::memory_order_release); }
  T exchange_acq_rel(T v) noexcept { return point(), value_.exchange(v, std::memory_order_acq_rel); }
  T fetch_add_relaxed(T v) noexcept { return point(), value_.fetch_add(v, std::memory_order_relaxed); }
  T fetch_sub_relaxed(T v) noexcept { return point(), value_.fetch_sub(v, std::memory_order_relaxed); }
  T fetch_or_relaxed(T v) noexcept { return point(), value_.fetch_or(v, std::memory_order_relaxed); }
  T fetch_and_relaxed(T v) noexcept { return point(), value_.fetch_and(v, std::memory_order_relaxed); }
  T fetch_or_acq_rel(T v) noexcept { return point(), value_.fetch_or(v, std::memory_order_acq_rel); }
  T fetch_or_release(T v) noexcept { return point(), value_.fetch_or(v, std::memory_order_release); }
  T fetch_add_release(T v) noexcept { return point(), value_.fetch_add(v, std::memory_order_release); }
  T fetch_sub_acq_rel(T v) noexcept { return point(), value_.fetch_sub(v, std::memory_order_acq_rel); }
  bool try_cmpxchg_relaxed(T& expected, T v) noexcept {
    return point(), value_.compare_exchange_strong(expected, v, std::memory_order_relaxed, std::memory_order_relaxed);
  }
  bool try_cmpxchg_acquire(T& expected, T v) noexcept {
    return point(), value_.compare_exchange_strong(expected, v, std::memory_order_acquire, std::memory_order_relaxed);
  }
  bool try_cmpxchg_release(T& expected, T v) noexcept {
    return point(), value_.compare_exchange_strong(expected, v, std::memory_order_release, std::memory_order_relaxed);
  }
  bool try_cmpxchg_acq_rel(T& expected, T v) noexcept {
    return point(), value_.compare_exchange_strong(expected, v, std::memory_order_acq_rel, std::memory_order_relaxed);
  }
  /// A value read for a report or an assertion of the sole owner: no scheduling point, no order.
  T peek() const noexcept { return value_.load(std::memory_order_relaxed); }
  /// The store that commits a restartable sequence of the simulation: no scheduling point, no order.
  void poke(T v) noexcept { value_.store(v, std::memory_order_relaxed); }
  /// For assembly code.
  T* raw() noexcept { return reinterpret_cast<T*>(&value_); }
  const T* raw() const noexcept { return reinterpret_cast<const T*>(&value_); }
  /// The futex word behind a 32-bit atomic.
  uint32_t* word() noexcept
    requires(sizeof(T) == 4)
  {
    return reinterpret_cast<uint32_t*>(&value_);
  }

 private:
  static void point() noexcept {
#if defined(KMEM_SIM)
    plat::yield_point();
#endif
  }
  std::atomic<T> value_{};
};

}  // inline namespace
}  // namespace kmem
