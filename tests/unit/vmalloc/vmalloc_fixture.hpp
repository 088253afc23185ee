// An allocator up to this layer, of its own, and the messages that it logged.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "support/kept_log.hpp"
#include "vmalloc/vmalloc.hpp"

namespace kmem::test {

class vmalloc_fixture : public ::testing::Test {
 protected:
  void start(const char* parameters) {
    machine_config config;
    config.cgroup = false;
    config_error error;
    ASSERT_TRUE(parse_config(parameters, config, error)) << error.text;
    allocator_ = std::make_unique<vmalloc_allocator>();
    ASSERT_EQ(page_alloc_init(va(), config), err::ok);
    ASSERT_EQ(slab_init(va()), err::ok);
    ASSERT_EQ(kmalloc_init(va()), err::ok);
    ASSERT_EQ(vmalloc_init(va()), err::ok);
    before_ = set_printk_sink(log_sink);
    reset_context_rules();
    take_log();
    charged_at_start_ = charged_pages(*allocator_);
    metadata_at_start_ = allocator_->metadata_pages.peek();
  }
  void TearDown() override {
    if (allocator_ == nullptr) return;
    const char* damage = vmalloc_is_valid(*allocator_);
    EXPECT_EQ(damage, nullptr) << damage;
    vmalloc_destroy(va());
    kmalloc_destroy(va());
    slab_destroy(va());
    page_alloc_destroy(va());
    set_printk_sink(before_);
  }
  vmalloc_allocator& va() { return *allocator_; }
  std::string log() { return take_log(); }
  /// Pages charged since the start, caches emptied.
  uint64_t charged() {
    drain_caches(va(), true);
    drain_cpu_pages(va(), true);
    return charged_pages(va()) - charged_at_start_;
  }
  uint64_t metadata() { return va().metadata_pages.peek() - metadata_at_start_; }

 private:
  std::unique_ptr<vmalloc_allocator> allocator_;
  printk_sink before_ = nullptr;
  uint64_t charged_at_start_ = 0, metadata_at_start_ = 0;
};

}  // namespace kmem::test
