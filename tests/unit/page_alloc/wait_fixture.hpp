// A machine whose ordinary memory is all taken, and threads that wait for some.
#pragma once

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "unit/page_alloc/fixture.hpp"

namespace kmem::testing {

inline constexpr uint64_t ms = 1'000'000;

inline machine_config waiting_config() {
  machine_config c = small_config(uint64_t{16} << 20);
  c.alloc_wait_ms = 60'000;
  c.sleep_record_ms = 0;
  return c;
}

/// A thread that asks for memory, and how that ended.
class asker {
 public:
  asker(page_allocator& pa, gfp_t gfp, unsigned order = 0, std::function<void()> before = [] {})
      : pa_(pa), order_(order), thread_([this, gfp, before] {
          pthread_setname_np(pthread_self(), "asker");
          thread_id_ = gettid();
          before();
          page* const p = alloc_pages(pa_, gfp | gfp::nowarn, order_t(order_));
          if (p != nullptr) *pa_.address_of(pa_.pfn_of(p)) = 1;
          got_ = p;
          outcome_ = last_wait();
          done_ = true;
        }) {}
  ~asker() {
    if (thread_.joinable()) thread_.join();
    if (got_ != nullptr) free_pages(pa_, got_, order_t(order_));
  }
  asker(const asker&) = delete;
  asker& operator=(const asker&) = delete;

  bool done() const { return done_; }
  page* got() const { return got_; }
  /// The page is the caller's now.
  page* release() { return got_.exchange(nullptr); }
  wait_outcome outcome() const { return outcome_; }
  int thread_id() const { return thread_id_; }
  pthread_t handle() { return thread_.native_handle(); }
  void until_done() const {
    while (!done_) std::this_thread::yield();
  }

 private:
  page_allocator& pa_;
  unsigned order_;
  std::atomic<page*> got_{nullptr};
  std::atomic<wait_outcome> outcome_{wait_outcome::none};
  std::atomic<int> thread_id_{0};
  std::atomic<bool> done_{false};
  std::thread thread_;
};

class wait_queue_of : public ::testing::Test {
 protected:
  explicit wait_queue_of(const machine_config& config = waiting_config()) : m_(config), held_(*m_) {
    std::thread([] {}).join();  // the process is no longer single-threaded
    held_.exhaust(gfp::kernel | gfp::noretry);
  }
  /// Frees pages of NORMAL: what was taken first.
  void give(size_t n = 1) {
    for (; n != 0; --n) {
      page* const p = held_.pages()[next_++];
      ASSERT_EQ(p->zone, raw(zone_idx::normal));
      free_pages(*m_, p, order_t(0));
      held_.pages()[next_ - 1] = held_.pages().back();
      held_.pages().pop_back();
    }
  }
  unsigned length() {
    const lock_guard hold(m_->queue.lock);
    unsigned n = 0;
    for (const waiter* w = m_->queue.first; w != nullptr; w = w->next) ++n;
    return n;
  }
  /// Until so many are in the queue, and none of them, after the first `dogs`, has a turn left to take.
  void until_asleep(unsigned n, unsigned dogs = 0) {
    for (;; std::this_thread::yield()) {
      const lock_guard hold(m_->queue.lock);
      unsigned asleep = 0;
      bool turns = false;
      for (const waiter* w = m_->queue.first; w != nullptr; w = w->next) {
        turns |= asleep >= dogs && w->word.load_relaxed() != 0;
        ++asleep;
      }
      if (asleep == n && !turns && m_->stats.waits.load_relaxed() + dogs >= n) return;
    }
  }
  uint64_t turns() { return m_->stats.wait_turns.load_relaxed(); }
  test_machine m_;
  held_pages held_;
  size_t next_ = 0;
};

}  // namespace kmem::testing
