#include <gnu/libc-version.h>

#include <algorithm>
#include <cstring>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <kmem/info.hpp>
#include <kmem/reclaim.hpp>

#include "api_fixture.hpp"

namespace kmem {
namespace {

class info_api : public test::api_test {};

std::string text_of(size_t (*write)(char*, size_t)) {
  std::string text(write(nullptr, 0), '\0');
  EXPECT_EQ(write(text.data(), text.size() + 1), text.size());
  return text;
}
template <class Write>
std::string text_by(Write write) {
  char buffer[4000];
  EXPECT_LT(write(buffer, sizeof buffer), sizeof buffer);
  return buffer;
}

TEST_F(info_api, figures_add_up) {
  void* const area = vmalloc(size_t{3} << 20);
  memset(area, 1, size_t{3} << 20);
  page* const block = alloc_pages(gfp::kernel, 8);
  memory_info info;
  ASSERT_TRUE(read_memory_info(info));
  EXPECT_EQ(info.limit_bytes, uint64_t{64} << 20);
  EXPECT_EQ(info.nr_zones, 4u);
  EXPECT_GE(info.charged_bytes, uint64_t{4} << 20);
  EXPECT_GE(info.charged_peak_bytes, info.charged_bytes);
  EXPECT_GE(info.vmalloc_bytes, uint64_t{3} << 20);
  EXPECT_GE(info.metadata_peak_bytes, info.metadata_bytes);
  EXPECT_LE(info.charged_bytes + info.free_present_bytes + info.metadata_bytes, info.limit_bytes);
  uint64_t managed = 0;
  for (unsigned i = 0; i < info.nr_zones; ++i) {
    const zone_info& zone = info.zones[i];
    managed += zone.managed_pages;
    EXPECT_LE(zone.charged_pages + zone.free_pages, zone.managed_pages) << zone.name;
    EXPECT_LE(zone.min_pages, zone.low_pages);
    EXPECT_LE(zone.low_pages, zone.high_pages);
    EXPECT_GE(zone.spanned_pages, zone.managed_pages);
  }
  EXPECT_LE(managed * page_bytes + info.metadata_bytes, info.limit_bytes + (1 << 20));
  EXPECT_GE(resident_bytes(), uint64_t{3} << 20);
  EXPECT_LE(resident_bytes(), info.charged_bytes + info.free_present_bytes + info.cpu_list_bytes + info.reserve_bytes + (1 << 20));
  const uint64_t peak = info.charged_peak_bytes;
  vfree(area);
  free_pages(block, 8);
  ASSERT_TRUE(read_memory_info(info));
  EXPECT_GE(info.charged_peak_bytes, peak);
}

TEST_F(info_api, a_failure_is_recorded_with_its_reason) {
  const uint64_t before = failures_total();
  std::vector<page*> held;
  while (page* const p = alloc_pages(gfp::nowait | gfp::nowarn, 0)) held.push_back(p);
  const uint64_t after = failures_total();
  EXPECT_EQ(after, before + 1);
  allocation_failure failure;
  ASSERT_TRUE(read_allocation_failure(after, failure));
  EXPECT_EQ(failure.sequence, after);
  EXPECT_EQ(failure.gfp & gfp::nowait, gfp::nowait);
  EXPECT_EQ(failure.order, 0u);
  EXPECT_STREQ(failure.zone, "Normal");
  EXPECT_STRNE(failure.step, "");
  EXPECT_GT(failure.nr_pcs, 0u);
  EXPECT_FALSE(read_allocation_failure(after + 1, failure));
  EXPECT_FALSE(read_allocation_failure(0, failure));
  ASSERT_TRUE(read_allocation_failure(after, failure));
  const std::string text = text_by([&](char* buffer, size_t capacity) { return failure_text(failure, buffer, capacity); });
  EXPECT_NE(text.find(": page allocation failure: order:0, mode:0x2800(GFP_NOWAIT|__GFP_NOWARN), nodemask=(null)"), std::string::npos)
      << text;
  EXPECT_NE(text.find("last step: "), std::string::npos);
  EXPECT_NE(text.find("Node 0 Normal free:"), std::string::npos);
  char cut[30];
  EXPECT_GT(failure_text(failure, cut, sizeof cut), sizeof cut);
  EXPECT_EQ(strlen(cut), sizeof cut - 1);
  for (page* const p : held) free_pages(p, 0);
}

TEST_F(info_api, symbols_are_looked_up) {
  char text[300];
  symbol_text(reinterpret_cast<const char*>(&gnu_get_libc_version) + 1, text, sizeof text);
  EXPECT_NE(std::string(text).find("[libc.so.6]"), std::string::npos) << text;
  EXPECT_NE(std::string(text).find("+0x1"), std::string::npos) << text;
  symbol_text(reinterpret_cast<const void*>(16), text, sizeof text);
  EXPECT_STREQ(text, "0x0000000000000010");
}

TEST_F(info_api, caches_are_listed_with_what_they_hold) {
  kmem_cache* const cache = kmem_cache_create("info_cache", 136, 0, cache_flags::no_merge);
  void* objects[50];
  ASSERT_EQ(kmem_cache_alloc_bulk(cache, gfp::kernel, 50, objects), 50u);
  kmem_cache_info info;
  bool found = false, classes = false;
  for (unsigned i = 0; read_kmem_cache_info(i, info); ++i) {
    classes |= std::string(info.name) == "kmalloc-64";
    if (std::string(info.name) != "info_cache") continue;
    found = true;
    EXPECT_EQ(info.object_size, 136u);
    EXPECT_EQ(info.active, 50u);
    EXPECT_GE(info.total, info.active);
    EXPECT_EQ(info.total, info.slabs * info.objects_per_slab);
  }
  EXPECT_TRUE(found);
  EXPECT_TRUE(classes);
  kmem_cache_free_bulk(cache, 50, objects);
  kmem_cache_destroy(cache);
}

TEST_F(info_api, blocks_show_who_lives_in_them) {
  kmem_cache* const cache = kmem_cache_create("picture", 4096, 0, cache_flags::no_merge);
  std::vector<void*> objects(2000);
  ASSERT_EQ(kmem_cache_alloc_bulk(cache, gfp::kernel, objects.size(), objects.data()), objects.size());
  page* const pages = alloc_pages(gfp::kernel, 9);
  ASSERT_NE(pages, nullptr);
  page_block_info block;
  uint64_t used = 0, slab_pages_seen = 0;
  bool named = false, whole_block_seen = false;
  for (uint64_t number = 0; read_page_block(number, block); number = block.number + 1) {
    ASSERT_GE(block.number, number);
    EXPECT_EQ(block.used_pages + block.free_present_pages + block.absent_pages + block.transit_pages, 512) << block.number;
    EXPECT_LE(block.slab_pages, block.used_pages);
    used += block.used_pages;
    slab_pages_seen += block.slab_pages;
    named |= std::string(block.cache) == "picture" && block.owner == block_owner::slabs;
    if (block.number == page_to_pfn(pages) / 512) {
      whole_block_seen = true;
      EXPECT_EQ(block.used_pages, 512);
      EXPECT_EQ(block.owner, block_owner::pages);
      EXPECT_TRUE(std::all_of(block.pages, block.pages + 512, [](uint8_t use) { return use == 2; }));
    }
  }
  EXPECT_TRUE(named);
  EXPECT_TRUE(whole_block_seen);
  EXPECT_GE(slab_pages_seen, 2000u);
  EXPECT_GE(used, 2512u);
  free_pages(pages, 9);
  kmem_cache_free_bulk(cache, objects.size(), objects.data());
  kmem_cache_destroy(cache);
}

TEST_F(info_api, texts_have_the_kernels_formats) {
  void* const area = vmalloc(10 * page_bytes);
  EXPECT_EQ(text_of(slabinfo_text).find("slabinfo - version: 2.1\n# name            <active_objs> <num_objs>"), 0u);
  EXPECT_NE(text_of(slabinfo_text).find("\nkmalloc-64        "), std::string::npos);
  EXPECT_NE(text_of(buddyinfo_text).find("Node 0, zone   Normal "), std::string::npos);
  EXPECT_EQ(text_of(buddyinfo_text).find("Node 0, zone      DMA "), 0u);
  EXPECT_NE(text_of(zoneinfo_text).find("Node 0, zone  HighMem\n  pages free     "), std::string::npos);
  EXPECT_NE(text_of(vmstat_text).find("nr_free_pages "), std::string::npos);
  EXPECT_EQ(text_of(meminfo_text).find("MemTotal:          65536 kB\nMemFree: "), 0u);
  const std::string areas = text_of(vmallocinfo_text);
  EXPECT_NE(areas.find(" pages=10 vmalloc N0=10\n"), std::string::npos) << areas;
  EXPECT_NE(areas.find("   45056 "), std::string::npos) << areas;  // with its guard page
  vfree(area);
}

TEST_F(info_api, messages_are_kept_and_sent) {
  vfree(reinterpret_cast<void*>(4097));
  EXPECT_NE(take_messages().find("Trying to vfree() bad address"), std::string::npos);
  char text[1001];
  message_level level{};
  std::string last;
  for (uint64_t next = 0; (next = read_message(next, level, text, sizeof text)) != 0;) last = text;
  EXPECT_NE(last.find("Trying to vfree() bad address"), std::string::npos);
  EXPECT_EQ(level, message_level::err);
  set_message_sink(nullptr);
  vfree(reinterpret_cast<void*>(4097));
  EXPECT_EQ(take_messages(), "");
}

// The whole way: a registered cache is asked before an allocation fails.
TEST_F(info_api, a_registered_cache_shrinks) {
  static std::vector<void*> cache;
  cache.reserve(100000);
  const int number = register_reclaim({nullptr,
                                       [](void*, gfp_t, uint64_t nr_pages) noexcept -> uint64_t {
                                         uint64_t freed = 0;
                                         for (; freed < nr_pages && !cache.empty(); ++freed) {
                                           kfree(cache.back());
                                           cache.pop_back();
                                         }
                                         return freed;
                                       },
                                       gfp::none});
  ASSERT_GE(number, 0);
  for (int i = 0; i < 40000; ++i) {  // 160 MiB through a budget of 64
    void* const p = kmalloc(4096, gfp::kernel);
    ASSERT_NE(p, nullptr) << i;
    cache.push_back(p);
  }
  EXPECT_LT(cache.size(), 16384u);
  memory_info info;
  ASSERT_TRUE(read_memory_info(info));
  EXPECT_GT(info.reclaimed_pages, 0u);
  unregister_reclaim(number);
  for (void* const p : cache) kfree(p);
  cache.clear();
}

}  // namespace
}  // namespace kmem
