#include <gmock/gmock.h>

#include <cstdio>
#include <sstream>
#include <vector>

#include "debug_fixture.hpp"

namespace kmem {
namespace {

class proc_texts : public test::debug_fixture {};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// The columns of a real kernel's /proc/slabinfo.
TEST_F(proc_texts, slabinfo_reads_like_the_kernels) {
  void* const p = kmalloc(m(), 64, gfp::kernel);
  const auto lines = lines_of(text_of(write_slabinfo));
  ASSERT_GT(lines.size(), 80u);
  EXPECT_EQ(lines[0], "slabinfo - version: 2.1");
  EXPECT_EQ(
      lines[1],
      "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor>"
      " : slabdata <active_slabs> <num_slabs> <sharedavail>");
  const auto row =
      ::testing::MatchesRegex("[^ ]+ +[0-9]+ +[0-9]+ +[0-9]+ +[0-9]+ +[0-9]+ : tunables    0    0    0 : slabdata +[0-9]+ +[0-9]+      0");
  bool found = false;
  for (size_t i = 2; i < lines.size(); ++i) {
    EXPECT_THAT(lines[i], row);
    if (lines[i].rfind("kmalloc-64 ", 0) != 0) continue;
    found = true;
    EXPECT_EQ(lines[i].substr(0, 52), "kmalloc-64             1     64     64   64    1 : t");
  }
  EXPECT_TRUE(found);
  kfree(m(), p);
}

TEST_F(proc_texts, buddyinfo_counts_all_free_pages) {
  for (const std::string& line : lines_of(text_of(write_buddyinfo))) {
    char zone[20];
    int used = 0;
    ASSERT_EQ(sscanf(line.c_str(), "Node 0, zone %19s%n", zone, &used), 1) << line;
    EXPECT_EQ(used, 21) << line;
    std::istringstream columns(line.substr(21));
    uint64_t pages = 0, n = 0;
    unsigned order = 0;
    for (; columns >> n; ++order) pages += n << order;
    EXPECT_EQ(order, 11u) << line;
    zone_snapshot s;
    for (unsigned i = 0; i < nr_zones; ++i)
      if (std::string(zone_name(zone_idx(i))) == zone) {
        snapshot_zone(m(), zone_idx(i), s);
        EXPECT_GT(pages, 0u) << line;
        EXPECT_LE(pages, s.free) << line;
      }
  }
}

TEST_F(proc_texts, zoneinfo_has_the_kernels_lines) {
  const std::string text = text_of(write_zoneinfo);
  EXPECT_THAT(text, ::testing::ContainsRegex(R"(Node 0, zone   Normal
  pages free     [0-9]+
        boost    0
        min      [0-9]+
        low      [0-9]+
        high     [0-9]+
        spanned  [0-9]+
        present  [0-9]+
        managed  [0-9]+
        cma      0
        protection: \(0, [0-9]+, [0-9]+, [0-9]+, [0-9]+\)
      nr_free_pages [0-9]+
)"));
  EXPECT_THAT(text, ::testing::ContainsRegex(R"(  pagesets
    cpu: 0
              count: [0-9]+
              high:  [0-9]+
              batch: [0-9]+
    cpu: 1
)"));
  EXPECT_THAT(text, ::testing::ContainsRegex(R"(Node 0, zone      DMA
)"));
  EXPECT_EQ(text.find("Movable"), std::string::npos);  // a zone that does not exist
}

TEST_F(proc_texts, vmstat_and_meminfo_agree_with_the_machine) {
  page* const p = alloc_pages(m(), gfp::kernel, order_t(4));
  void* const reclaimable = kmalloc(m(), 100, gfp::kernel | gfp::reclaimable);
  const std::string vmstat = text_of(write_vmstat), meminfo = text_of(write_meminfo);
  for (const std::string& line : lines_of(vmstat)) EXPECT_THAT(line, ::testing::MatchesRegex("[a-z0-9_]+ [0-9]+"));
  for (const std::string& line : lines_of(meminfo)) EXPECT_THAT(line, ::testing::MatchesRegex("[A-Za-z]+: +[0-9]+ kB"));
  EXPECT_EQ(meminfo.rfind("MemTotal:          32768 kB\n", 0), 0u) << meminfo;
  EXPECT_NE(vmstat.find("kmem_charged " + std::to_string(charged_pages(m())) + "\n"), std::string::npos) << vmstat;
  EXPECT_EQ(vmstat.find("nr_slab_reclaimable 0\n"), std::string::npos) << vmstat;
  EXPECT_EQ(vmstat.find("allocstall_movable"), std::string::npos) << "there is no such zone";
  m().stats.allocstall[static_cast<unsigned>(zone_idx::movable)].fetch_add_relaxed(3);
  EXPECT_NE(text_of(write_vmstat).find("allocstall_movable 3\n"), std::string::npos) << "but there are requests that might use it";
  const slab_totals slabs = count_slab_pages(m());
  EXPECT_GT(slabs.reclaimable_pages, 0u);
  EXPECT_GT(slabs.pages, slabs.reclaimable_pages);
  kfree(m(), reclaimable);
  free_pages(m(), p, order_t(4));
}

TEST_F(proc_texts, vmallocinfo_lists_each_area) {
  EXPECT_EQ(text_of(write_vmallocinfo, write_raw_pc), "");
  void* const p = vmalloc(m(), 9000, gfp::kernel, reinterpret_cast<void*>(0x1234));
  char expected[200];
  const auto address = reinterpret_cast<unsigned long>(p);
  snprintf(expected, sizeof expected, "0x%016lx-0x%016lx   16384 0x0000000000001234 pages=3 vmalloc N0=3\n", address, address + 16384);
  EXPECT_EQ(text_of(write_vmallocinfo, write_raw_pc), expected);
  vfree(m(), p);
}

}  // namespace
}  // namespace kmem
