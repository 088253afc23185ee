// A machine of its own for each test, and the checks that every test ends with.
#pragma once
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "page_alloc/internal.hpp"

namespace kmem::testing {

inline machine_config small_config(uint64_t mem = uint64_t{64} << 20) {
  machine_config config;
  config.mem = mem;
  config.cpus = 4;
  return config;
}

/// The machine under test. Ends with everything given back and the walk silent.
class test_machine {
 public:
  explicit test_machine(const machine_config& config = small_config()) : pa_(std::make_unique<page_allocator>()) {
    EXPECT_EQ(page_alloc_init(*pa_, config), err::ok);
  }
  ~test_machine() {
    check();
    EXPECT_EQ(charged_pages(*pa_), 0u) << "pages are still out";
    page_alloc_destroy(*pa_);
  }
  test_machine(const test_machine&) = delete;
  test_machine& operator=(const test_machine&) = delete;
  page_allocator& operator*() { return *pa_; }
  page_allocator* operator->() { return pa_.get(); }
  zone& at(zone_idx idx) { return pa_->zones[raw(idx)]; }
  zone& normal() { return at(zone_idx::normal); }
  void check() {
    const char* const wrong = page_alloc_is_valid(*pa_);
    EXPECT_EQ(wrong, nullptr) << wrong;
  }
  char* address(const page* p) { return pa_->address_of(pa_->pfn_of(p)); }

 private:
  std::unique_ptr<page_allocator> pa_;
};

/// Everything at once, freed at the end of the scope.
class held_pages {
 public:
  explicit held_pages(page_allocator& pa) : pa_(pa) {}
  ~held_pages() { release(); }
  held_pages(const held_pages&) = delete;
  held_pages& operator=(const held_pages&) = delete;
  page* take(gfp_t gfp, unsigned order = 0) {
    page* const p = alloc_pages(pa_, gfp, order_t(order));
    if (p != nullptr) pages_.push_back(p);
    return p;
  }
  /// Until there is none left. Return: how many were taken.
  size_t exhaust(gfp_t gfp, unsigned order = 0) {
    size_t n = 0;
    while (take(gfp | gfp::nowarn, order) != nullptr) ++n;
    return n;
  }
  void release() {
    for (page* p : pages_) put_page(pa_, p);
    pages_.clear();
  }
  std::vector<page*>& pages() { return pages_; }

 private:
  page_allocator& pa_;
  std::vector<page*> pages_;
};

inline std::string* messages = nullptr;

/// Collects what is printed while it lives.
class printed {
 public:
  printed()
      : before_(set_printk_sink([](log_level, const char* text, size_t bytes, const void* const*, unsigned) noexcept {
          messages->append(text, bytes).push_back('\n');
        })) {
    messages = &text_;
  }
  ~printed() { set_printk_sink(before_); }
  printed(const printed&) = delete;
  printed& operator=(const printed&) = delete;
  bool has(const char* what) const { return text_.find(what) != std::string::npos; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  printk_sink before_;
};

}  // namespace kmem::testing
