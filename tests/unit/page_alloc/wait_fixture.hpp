// A machine whose ordinary memory is all taken, and threads that wait for some.
#pragma once

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

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
  asker(page_allocator& pa, std::function<page*()> ask, unsigned order = 0)
      : pa_(pa), order_(order), thread_([this, ask] {
          pthread_setname_np(pthread_self(), "asker");
          thread_id_ = gettid();
          page* const p = ask();
          if (p != nullptr) *pa_.address_of(pa_.pfn_of(p)) = 1;
          got_ = p;
          outcome_ = last_wait();
          done_ = true;
        }) {
    all().push_back(this);
  }
  asker(page_allocator& pa, gfp_t gfp, unsigned order = 0, std::function<void()> before = [] {})
      : asker(
            pa,
            [&pa, gfp, order, before] {
              before();
              return alloc_pages(pa, gfp | gfp::nowarn, order_t(order));
            },
            order) {}
  ~asker() {
    if (thread_.joinable()) thread_.join();
    std::erase(all(), this);
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
  /// How many of them the system says are asleep.
  static unsigned nr_asleep() {
    unsigned n = 0;
    for (const asker* one : all()) n += !one->done_ && one->is_asleep() ? 1u : 0u;
    return n;
  }

 private:
  static std::vector<asker*>& all() {
    static std::vector<asker*> askers;
    return askers;
  }
  bool is_asleep() const {
    std::ifstream file("/proc/self/task/" + std::to_string(thread_id_) + "/stat");
    std::string line;
    std::getline(file, line);
    const size_t name_end = line.rfind(") ");
    return name_end != std::string::npos && line[name_end + 2] == 'S';
  }

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
  /// Until so many are in the queue, and all of them but the first `dogs` sleep and have no turn left to take.
  void until_asleep(unsigned n, unsigned dogs = 0) {
    while (!are_queued(n, dogs) || asker::nr_asleep() + dogs < n) std::this_thread::yield();
  }
  uint64_t turns() { return m_->stats.wait_turns.load_relaxed(); }
  test_machine m_;
  held_pages held_;
  size_t next_ = 0;

 private:
  bool are_queued(unsigned n, unsigned dogs) {
    const lock_guard hold(m_->queue.lock);
    unsigned length = 0;
    for (const waiter* w = m_->queue.first; w != nullptr; w = w->next, ++length)
      if (length >= dogs && w->word.load_relaxed() != 0) return false;
    return length == n;
  }
};

}  // namespace kmem::testing
