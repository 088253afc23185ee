// The traces that come with the project: every line is understood, and the counts are those of their README.

#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>

#include "tools/kmem/trace/requests.hpp"

namespace kmem::tool::trace {
namespace {

std::string shipped(const std::string& name) {
  return (std::filesystem::path(KMEM_TEST_DATA) / ".." / ".." / "traces" / name).lexically_normal();
}

struct expected_counts {
  const char* file;
  std::uint64_t events, kmalloc, kfree, cache_alloc, cache_free, page_alloc, page_free;
  std::uint64_t null_frees, matched, unmatched, failed_objects, failed_pages;
  std::uint64_t slab_pages, large_pages, early_boot;
};

// traces/README.md, and what a count of the text with other means gave.
constexpr expected_counts ext4 = {"ext4.trace.zst", 548676, 43974, 48458, 210096, 169042, 44575, 32531, 23553,
                                  189788,           4159,   0,     0,     4060,   28,     557};
constexpr expected_counts net = {"net.trace.zst", 906966, 44619, 56779, 242880, 244678, 156497, 161513,
                                 14168,           280113, 7176,  1347,  2731,   4539,   168,    0};

class trace_shipped : public testing::TestWithParam<expected_counts> {
 protected:
  void SetUp() override { ASSERT_TRUE(load_events(shipped(GetParam().file), {}, events)) << events.errors.back().to_string(); }
  event_list events;
};

TEST_P(trace_shipped, every_line_is_understood) {
  const expected_counts& expected = GetParam();
  const line_counts& counts = events.counts;
  EXPECT_EQ(counts.errors, 0u);
  EXPECT_EQ(counts.other_events, 0u);
  EXPECT_EQ(counts.comments, 12u);
  EXPECT_EQ(counts.lines, expected.events + 12);
  EXPECT_EQ(counts.lost_markers, 0u);
  EXPECT_EQ(counts.all_events(), expected.events);
  EXPECT_EQ(counts.of(event_kind::kmalloc), expected.kmalloc);
  EXPECT_EQ(counts.of(event_kind::kfree), expected.kfree);
  EXPECT_EQ(counts.of(event_kind::cache_alloc), expected.cache_alloc);
  EXPECT_EQ(counts.of(event_kind::cache_free), expected.cache_free);
  EXPECT_EQ(counts.of(event_kind::page_alloc), expected.page_alloc);
  EXPECT_EQ(counts.of(event_kind::page_free), expected.page_free);
  EXPECT_EQ(events.events.size(), expected.events);
  EXPECT_EQ(events.compression, "zstd");
}

TEST_P(trace_shipped, every_request_is_made_once) {
  const expected_counts& expected = GetParam();
  const request_list made = make_requests(events);
  ASSERT_TRUE(made.ok);
  EXPECT_TRUE(made.real_addresses);
  const request_counts& counts = made.counts;
  EXPECT_EQ(counts.null_frees, expected.null_frees);
  EXPECT_EQ(counts.matched_object_frees, expected.matched);
  EXPECT_EQ(counts.unmatched_object_frees, expected.unmatched);
  EXPECT_EQ(counts.pages.failed, expected.failed_pages);
  EXPECT_EQ(counts.pages.slab, expected.slab_pages);
  EXPECT_EQ(counts.pages.kmalloc_large, expected.large_pages);
  EXPECT_EQ(counts.pages.direct + counts.pages.slab + counts.pages.kmalloc_large, expected.page_alloc);
  EXPECT_EQ(counts.early_boot, expected.early_boot);
  EXPECT_EQ(counts.cpus, 2u);
  EXPECT_EQ(counts.allocs, expected.kmalloc + expected.cache_alloc + counts.pages.direct);
  EXPECT_EQ(counts.allocs + counts.frees, made.requests.size());
  std::uint64_t failed_objects = 0;
  std::set<std::string> names;
  for (const request& each : made.requests) {
    failed_objects += each.failed_in_trace && each.kind != request_kind::pages ? 1 : 0;
    EXPECT_EQ(each.kind == request_kind::cache_alloc, each.cache != no_cache);
  }
  EXPECT_EQ(failed_objects, expected.failed_objects);
  for (const cache_info& each : made.caches) {
    EXPECT_TRUE(names.insert(each.name).second) << each.name << " occurs twice";
    EXPECT_GE(each.slot_size, each.object_size) << each.name;
    EXPECT_EQ(each.slot_size % each.align, 0u) << each.name;
  }
  EXPECT_TRUE(names.contains("filp"));
  EXPECT_TRUE(names.contains("dentry"));
  EXPECT_TRUE(names.contains("task_struct"));
}

// Where both rules can judge they must agree: then traces with hashed pointers come out right too.
TEST_P(trace_shipped, order_of_events_tells_the_same_as_addresses) {
  const page_classes by_address = classify_pages(events.events);
  const page_classes by_order = classify_pages(events.events, {.by_address = false});
  ASSERT_TRUE(by_address.direct_map.has_value());
  EXPECT_EQ(*by_address.direct_map & 0x3fffffff, 0u) << "x86-64 maps memory at a multiple of 1 GiB";
  EXPECT_FALSE(by_order.direct_map.has_value());
  std::uint64_t different = 0;
  for (std::size_t index = 0; index < events.events.size(); index++) {
    if (events.events[index].kind == event_kind::page_alloc && by_address.use[index] != by_order.use[index]) different++;
  }
  EXPECT_EQ(different, 0u);
}

// The kernel wrote the strings: what we write for the same bits must be the same string.
TEST(trace_shipped_gfp, strings_are_written_back_unchanged) {
  std::uint64_t distinct = 0;
  for (const expected_counts& each : {ext4, net}) {
    input from;
    ASSERT_TRUE(from.open(shipped(each.file)));
    std::set<std::string, std::less<>> seen;
    while (from.next() == input::status::line) {
      std::string_view line = from.line();
      const std::size_t at = line.find("gfp_flags=");
      if (at == std::string_view::npos) continue;
      line.remove_prefix(at + 10);
      line = line.substr(0, line.find(' '));
      if (!seen.contains(line)) seen.emplace(line);
    }
    for (const std::string& text : seen) EXPECT_EQ(format_gfp(parse_gfp(text).bits), text);
    distinct += seen.size();
  }
  EXPECT_GT(distinct, 100u);
}

INSTANTIATE_TEST_SUITE_P(traces, trace_shipped, testing::Values(ext4, net), [](const auto& about) {
  const std::string file = about.param.file;
  return file.substr(0, file.find('.'));
});

}  // namespace
}  // namespace kmem::tool::trace
