// A machine up to the slab layer for each test, the messages that it logged, and the checks that every test ends with.
#pragma once
#include <gtest/gtest.h>
#include <sched.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "slab/internal.hpp"
#include "support/kept_log.hpp"

namespace kmem::testing {

using test::log_sink;
using test::take_log;

/// Keeps the thread on one CPU, so that a test knows which array it uses.
class pinned {
 public:
  pinned() {
    sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &before_)) {
        CPU_SET(cpu, &one);
        break;
      }
    sched_setaffinity(0, sizeof one, &one);
  }
  ~pinned() { sched_setaffinity(0, sizeof before_, &before_); }
  pinned(const pinned&) = delete;
  pinned& operator=(const pinned&) = delete;

 private:
  cpu_set_t before_;
};

inline machine_config slab_config(uint64_t mem = uint64_t{32} << 20) {
  machine_config config;
  config.mem = mem;
  config.cpus = 4;
  config.cgroup = false;
  return config;
}

/// Ends with all objects back, the walks silent and no page out.
class slab_machine {
 public:
  explicit slab_machine(const machine_config& config = slab_config()) : sa_(std::make_unique<slab_allocator>()) {
    before_ = set_printk_sink(log_sink);
    take_log();
    EXPECT_EQ(page_alloc_init(*sa_, config), err::ok);
    EXPECT_EQ(slab_init(*sa_), err::ok);
  }
  ~slab_machine() {
    check();
    slab_destroy(*sa_);
    EXPECT_EQ(charged_pages(*sa_), 0u) << "pages are still out";
    const char* const wrong = page_alloc_is_valid(*sa_);
    EXPECT_EQ(wrong, nullptr) << wrong;
    page_alloc_destroy(*sa_);
    set_printk_sink(before_);
  }
  slab_machine(const slab_machine&) = delete;
  slab_machine& operator=(const slab_machine&) = delete;
  slab_allocator& operator*() { return *sa_; }
  slab_allocator* operator->() { return sa_.get(); }

  void check() {
    const char* const wrong = slab_is_valid(*sa_);
    EXPECT_EQ(wrong, nullptr) << wrong;
  }
  kmem_cache& make(size_t size, slab_flags_t flags = slab_flags_t::no_merge, size_t align = 0, constructor_t constructor = nullptr) {
    kmem_cache* const cache =
        cache_create(*sa_, {.name = "test", .object_size = size, .align = align, .flags = flags, .constructor = constructor});
    EXPECT_NE(cache, nullptr) << take_log();
    return *cache;
  }
  void destroy(kmem_cache& cache) { EXPECT_EQ(cache_destroy(*sa_, &cache), err::ok) << take_log(); }
  cache_info info(const kmem_cache& cache) {
    cache_info result{};
    unsigned index = 0;  // caches come in the order of their ids
    for (unsigned id = 0; id < cache.id; ++id)
      if (sa_->caches[id].load_relaxed() != nullptr) ++index;
    EXPECT_TRUE(read_cache_info(*sa_, index, result));
    return result;
  }
  /// Takes pages until there is none, with all reserves.
  std::vector<page*> exhaust_pages() {
    std::vector<page*> taken;
    for (;;) {
      page* const p = alloc_pages(*sa_, gfp::atomic | gfp::nowarn, order_t(0));
      if (p == nullptr) return taken;
      taken.push_back(p);
    }
  }
  void give_pages(std::vector<page*>& pages) {
    for (page* const p : pages) put_page(*sa_, p);
    pages.clear();
  }

 private:
  pinned pinned_;
  std::unique_ptr<slab_allocator> sa_;
  printk_sink before_ = nullptr;
};

}  // namespace kmem::testing
