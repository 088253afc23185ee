// A machine of its own for each promise's test, and the messages that it logged.
#pragma once
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "reclaim/reclaim.hpp"
#include "support/kept_log.hpp"

namespace kmem::test {

/// How many of `n` pages from `base` on are in memory. Unmapped ranges are none.
inline uint64_t resident_pages(const void* base, uint64_t n) {
  std::vector<unsigned char> resident(n);
  if (mincore(const_cast<void*>(base), n << page_shift, resident.data()) != 0) return 0;
  uint64_t count = 0;
  for (const unsigned char flags : resident) count += flags & 1;
  return count;
}

/// Another thread of the process, idle: without one nobody else could free, and no allocation waits.
class idle_thread {
 public:
  idle_thread()
      : thread_([this] {
          while (!done_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }) {}
  ~idle_thread() {
    done_ = true;
    thread_.join();
  }
  idle_thread(const idle_thread&) = delete;
  idle_thread& operator=(const idle_thread&) = delete;

 private:
  std::atomic<bool> done_{false};
  std::thread thread_;
};

/// Keeps the thread on the CPU that it is on, so that what is per CPU is always the same.
class one_cpu {
 public:
  one_cpu() {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    EXPECT_EQ(sched_getaffinity(0, sizeof before_, &before_), 0);
    EXPECT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  }
  ~one_cpu() { EXPECT_EQ(sched_setaffinity(0, sizeof before_, &before_), 0); }
  one_cpu(const one_cpu&) = delete;
  one_cpu& operator=(const one_cpu&) = delete;

 private:
  cpu_set_t before_;
};

class promise_machine {
 public:
  /// `container`: where /proc and /sys are looked for, so that a test can play a container; nullptr: no limit of a container's counts.
  explicit promise_machine(const char* parameters, const char* container = nullptr) : machine_(new machine) {
    machine_config config;
    config.kswapd = kswapd_mode::off;  // unless a test asks for it
    config.cgroup = container != nullptr;
    if (container != nullptr) config.path_prefix = container;
    config_error error;
    const bool parsed = parse_config(parameters, config, error);
    if (!parsed) ADD_FAILURE() << error.text;
    reset_context_rules();
    before_ = set_printk_sink(log_sink);
    take_log();
    const err result = machine_init(*machine_, config, error);
    if (result != err::ok) ADD_FAILURE() << error.text;
  }
  ~promise_machine() {
    const char* damage = machine_is_valid(*machine_);
    EXPECT_EQ(damage, nullptr) << damage;
    machine_destroy(*machine_);
    set_printk_sink(before_);
  }
  promise_machine(const promise_machine&) = delete;
  promise_machine& operator=(const promise_machine&) = delete;

  machine& operator*() { return *machine_; }
  machine* operator->() { return machine_.get(); }

  /// Takes single pages with `gfp` until there is none, at most `limit`. Return: the pages, in order.
  std::vector<page*> take_all(gfp_t gfp, size_t limit = ~size_t{0}) {
    std::vector<page*> taken;
    while (taken.size() < limit) {
      page* const p = alloc_pages(*machine_, gfp | gfp::nowarn, order_t(0));
      if (p == nullptr) break;
      taken.push_back(p);
    }
    return taken;
  }
  void give(std::vector<page*>& pages) {
    for (page* const p : pages) free_pages(*machine_, p, order_t(0));
    pages.clear();
  }
  zone_snapshot zone_now(zone_idx idx) {
    zone_snapshot result{};
    snapshot_zone(*machine_, idx, result);
    return result;
  }
  std::string log() { return read_log(); }

 private:
  std::unique_ptr<machine> machine_;
  printk_sink before_ = nullptr;
};

}  // namespace kmem::test
