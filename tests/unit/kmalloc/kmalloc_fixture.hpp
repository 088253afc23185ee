// A machine up to kmalloc for each test, and the checks that every test ends with.
#pragma once
#include "../slab/slab_fixture.hpp"
#include "kmalloc/kmalloc.hpp"

namespace kmem::testing {

class kmalloc_machine {
 public:
  explicit kmalloc_machine(const machine_config& config = slab_config()) : ka_(std::make_unique<kmalloc_allocator>()) {
    before_ = set_printk_sink(log_sink);
    take_log();
    EXPECT_EQ(page_alloc_init(*ka_, config), err::ok);
    EXPECT_EQ(slab_init(*ka_), err::ok);
    EXPECT_EQ(kmalloc_init(*ka_), err::ok);
  }
  ~kmalloc_machine() {
    check();
    EXPECT_EQ(live_objects(), 0u) << "objects are still out";
    kmalloc_destroy(*ka_);
    slab_destroy(*ka_);
    EXPECT_EQ(charged_pages(*ka_), 0u) << "pages are still out";
    const char* const wrong = page_alloc_is_valid(*ka_);
    EXPECT_EQ(wrong, nullptr) << wrong;
    page_alloc_destroy(*ka_);
    set_printk_sink(before_);
  }
  kmalloc_machine(const kmalloc_machine&) = delete;
  kmalloc_machine& operator=(const kmalloc_machine&) = delete;
  kmalloc_allocator& operator*() { return *ka_; }
  kmalloc_allocator* operator->() { return ka_.get(); }

  void check() {
    const char* const wrong = slab_is_valid(*ka_);
    EXPECT_EQ(wrong, nullptr) << wrong;
  }
  /// Objects handed out by the kmalloc caches of all types.
  uint64_t live_objects() {
    uint64_t sum = 0;
    cache_info info;
    for (unsigned i = 0; read_cache_info(*ka_, i, info); ++i)
      if (std::strstr(info.name, "kmalloc-") != nullptr) sum += info.active;
    return sum;
  }
  std::vector<page*> exhaust_pages() {
    std::vector<page*> taken;
    for (;;) {
      page* const p = alloc_pages(*ka_, gfp::atomic | gfp::nowarn, order_t(0));
      if (p == nullptr) return taken;
      taken.push_back(p);
    }
  }
  void give_pages(std::vector<page*>& pages) {
    for (page* const p : pages) put_page(*ka_, p);
    pages.clear();
  }

 private:
  pinned pinned_;
  std::unique_ptr<kmalloc_allocator> ka_;
  printk_sink before_ = nullptr;
};

}  // namespace kmem::testing
