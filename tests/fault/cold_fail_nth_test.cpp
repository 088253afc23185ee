// First calls on a new machine, with the nth fail point on their way failing: sections that are opened, caches that are made, areas that
// are mapped for the first time. Every attempt has a machine of its own, which must be whole afterwards and leave nothing behind.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "reclaim/reclaim.hpp"

namespace kmem {
namespace {

constexpr uint32_t most_points = 500;
constexpr gfp_t quiet = gfp::kernel | gfp::nowarn;

/// Makes something, and takes it back. Return: false if it could not be had.
struct cold_call {
  const char* name;
  const char* parameters;
  std::function<bool(machine&)> run;
};

bool kmalloc_once(machine& m, size_t size, gfp_t gfp) {
  void* const p = kmalloc(m, size, gfp);
  if (p == nullptr) return false;
  __builtin_memset(p, 1, size);
  kfree(m, p);
  return true;
}

bool vmalloc_once(machine& m, size_t size) {
  void* const p = vmalloc(m, size, quiet, nullptr);
  if (p == nullptr) return false;
  __builtin_memset(p, 1, size);
  vfree(m, p);
  return true;
}

bool pages_once(machine& m, gfp_t gfp, unsigned order) {
  page* const p = alloc_pages(m, gfp, order_t(order));
  if (p == nullptr) return false;
  __builtin_memset(m.address_of(m.pfn_of(p)), 1, page_size << order);
  free_pages(m, p, order_t(order));
  return true;
}

const cold_call calls[] = {
    {"kmalloc", "mem=16M", [](machine& m) { return kmalloc_once(m, 100, quiet); }},
    {"kmalloc of a run", "mem=32M", [](machine& m) { return kmalloc_once(m, 3 << 20, quiet); }},
    {"kmalloc atomic", "mem=16M", [](machine& m) { return kmalloc_once(m, 2000, gfp::atomic | gfp::nowarn); }},
    {"pages", "mem=16M", [](machine& m) { return pages_once(m, quiet, 0); }},
    {"the largest block", "mem=32M", [](machine& m) { return pages_once(m, quiet, 10); }},
    {"high memory", "mem=32M highmem=8M", [](machine& m) { return pages_once(m, gfp::highuser | gfp::nowarn, 3); }},
    {"a long run", "mem=32M",
     [](machine& m) {
       page* const p = alloc_run(m, quiet, nr_pages_t(3000));
       if (p != nullptr) free_run(m, p);
       return p != nullptr;
     }},
    {"vmalloc", "mem=16M", [](machine& m) { return vmalloc_once(m, 5 * page_size); }},
    {"vmalloc of frames", "mem=32M backing=memfd", [](machine& m) { return vmalloc_once(m, 5 * page_size); }},
    {"vmalloc of many frames", "mem=32M backing=memfd", [](machine& m) { return vmalloc_once(m, 80 * page_size); }},
    {"a cache", "mem=16M",
     [](machine& m) {
       cache_args args;
       args.name = "cold";
       args.object_size = 500;
       args.flags = slab_flags_t::no_merge;
       kmem_cache* const cache = cache_create(m, args);
       if (cache == nullptr) return false;
       void* const p = cache_alloc(m, *cache, quiet);
       if (p != nullptr) cache_free(m, *cache, p);
       EXPECT_EQ(cache_destroy(m, cache), err::ok);
       return p != nullptr;
     }},
};

machine_config config_of(const char* parameters) {
  machine_config config;
  config.kswapd = kswapd_mode::off;  // unless a test asks for it
  config.cgroup = false;
  config_error error;
  EXPECT_TRUE(parse_config(parameters, config, error)) << error.text;
  config.cpus = 2;
  return config;
}

uint64_t settled_charge(machine& m) {
  drain_caches(m, true);
  drain_cpu_pages(m, true);
  return charged_pages(m);
}

class cold_fail_nth : public ::testing::TestWithParam<cold_call> {};
INSTANTIATE_TEST_SUITE_P(calls, cold_fail_nth, ::testing::ValuesIn(calls), [](const auto& info) {
  std::string name = info.param.name;
  for (char& c : name)
    if (c == ' ') c = '_';
  return name;
});

TEST_P(cold_fail_nth, changes_nothing_and_works_the_next_time) {
  const cold_call& c = GetParam();
  const machine_config config = config_of(c.parameters);
  for (const bool persistent : {false, true}) {
    bool passed_all = false;
    for (uint32_t nth = 1; nth < most_points && !passed_all; ++nth) {
      const auto m = std::make_unique<machine>();
      config_error error;
      ASSERT_EQ(machine_init(*m, config, error), err::ok) << error.text;
      const uint64_t before = settled_charge(*m);
      bool good = false;
      {
        const fail_nth_scope fail(nth, persistent);
        good = c.run(*m);
        passed_all = !fail.hit();
      }
      if (passed_all) {
        EXPECT_TRUE(good);
      }
      EXPECT_EQ(settled_charge(*m), before) << nth;
      EXPECT_LE(charged_pages(*m) + m->metadata_pages.peek(), m->limit.raw()) << nth;
      EXPECT_TRUE(c.run(*m)) << nth << ": does not work afterwards";
      EXPECT_EQ(settled_charge(*m), before) << nth;
      ASSERT_TRUE(machine_destroy(*m)) << nth;
    }
    EXPECT_TRUE(passed_all);
  }
}

}  // namespace
}  // namespace kmem
