// The failure report and the records.
#include <regex.h>

#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::printed;
using testing::small_config;
using testing::test_machine;

/// The parts of the first match of a POSIX extended expression; empty: none.
std::vector<std::string> match(const std::string& text, const char* pattern) {
  regex_t expression;
  EXPECT_EQ(regcomp(&expression, pattern, REG_EXTENDED), 0) << pattern;
  regmatch_t found[4];
  std::vector<std::string> parts;
  if (regexec(&expression, text.c_str(), std::size(found), found, 0) == 0)
    for (const regmatch_t& f : found)
      if (f.rm_so >= 0) parts.push_back(text.substr(static_cast<size_t>(f.rm_so), static_cast<size_t>(f.rm_eo - f.rm_so)));
  regfree(&expression);
  return parts;
}
bool matches(const std::string& text, const char* pattern) { return !match(text, pattern).empty(); }

/// Reports are limited to 10 in 5 seconds for the whole process: each attempt is repeated until one gets through.
template <class Attempt>
std::string report_of(Attempt attempt) {
  for (;;) {
    printed out;
    attempt();
    if (!out.text().empty()) return out.text();
    plat::relax(199);
  }
}

TEST(failure_report, has_the_kernels_form) {
  test_machine m(small_config(uint64_t{16} << 20));
  held_pages held(*m);
  held.exhaust(gfp::nowait);
  const std::string text = report_of([&] { held.take(gfp::nowait); });
  EXPECT_TRUE(matches(text, R"(: page allocation failure: order:0, mode:0x800\(GFP_NOWAIT\), nodemask=\(null\))")) << text;
  EXPECT_TRUE(matches(text, R"(CPU: [0-9]+ PID: [0-9]+ Comm: [^ ]+)")) << text;
  EXPECT_TRUE(matches(text, "Call Trace:")) << text;
  EXPECT_TRUE(matches(text, R"(charged:[0-9]+ metadata:[0-9]+ limit:4096)")) << text;
  EXPECT_TRUE(matches(text, R"(Node 0 Normal free:[0-9]+kB min:[0-9]+kB low:[0-9]+kB high:[0-9]+kB)")) << text;
  EXPECT_TRUE(matches(text, R"(lowmem_reserve\[\]: 0 [0-9]+ [0-9]+ [0-9]+ [0-9]+)")) << text;
  const std::vector<std::string> found = match(text, R"(Node 0 Normal: [0-9]+\*4kB .* 0\*4096kB = ([0-9]+)kB)");
  ASSERT_EQ(found.size(), 2u) << text;
  EXPECT_EQ(std::stoul(found[1]), zone_free(m.normal()) * 4) << "the list adds up to what is free";
}

TEST(failure_report, names_the_mobility_of_free_blocks) {
  test_machine m(small_config(uint64_t{16} << 20));
  held_pages held(*m), movable(*m);
  page* const p = movable.take(gfp::kernel | gfp::movable, 4);
  held.exhaust(gfp::nowait, 3);
  held.exhaust(gfp::nowait);
  movable.pages().clear();
  free_pages(*m, p, order_t(4));
  const std::string text = report_of([&] { EXPECT_EQ(held.take(gfp::nowait, 7), nullptr); });
  EXPECT_TRUE(matches(text, R"(1\*64kB \(M\))")) << text;
}

TEST(failure_report, is_left_out_with_nowarn_but_the_record_is_kept) {
  test_machine m(small_config(uint64_t{16} << 20));
  held_pages held(*m);
  held.exhaust(gfp::nowait);
  const uint64_t before = m->failure_sequence.load_relaxed();
  printed out;
  const gfp_t mask = gfp::nowait | gfp::nowarn;
  EXPECT_EQ(alloc_pages_for(*m, {.gfp = mask, .order = order_t(0), .bytes = 77, .cache = "kmalloc-77"}), nullptr);
  EXPECT_EQ(out.text(), "");
  EXPECT_EQ(m->failure_sequence.load_relaxed(), before + 1);
  alloc_failure f;
  ASSERT_TRUE(read_failure(*m, before + 1, f));
  EXPECT_EQ(f.bytes, 77u);
  EXPECT_STREQ(f.cache, "kmalloc-77");
  EXPECT_EQ(f.gfp, mask);
  EXPECT_EQ(f.managed, f.charged + f.free + f.in_cpu_lists + m->memalloc_pool.nr_pages.load_relaxed());
  EXPECT_GT(f.nr_pcs, 0u);
}

TEST(failure_report, a_quiet_caller_has_something_else_to_try_so_there_is_no_failure_yet) {
  test_machine m(small_config(uint64_t{16} << 20));
  held_pages held(*m);
  held.exhaust(gfp::nowait);
  const uint64_t before = m->failure_sequence.load_relaxed();
  printed out;
  EXPECT_EQ(alloc_pages_for(*m, {.gfp = gfp::nowait, .order = order_t(0), .quiet = true}), nullptr);
  EXPECT_EQ(out.text(), "");
  EXPECT_EQ(m->failure_sequence.load_relaxed(), before);
}

TEST(failure_report, a_flood_is_limited_and_counted) {
  test_machine m(small_config(uint64_t{16} << 20));
  held_pages held(*m);
  held.exhaust(gfp::nowait);
  unsigned reports = 0;
  for (int i = 0; i < 200; ++i) {
    printed out;
    EXPECT_EQ(held.take(gfp::nowait), nullptr);
    reports += out.has("page allocation failure: order");
  }
  EXPECT_LE(reports, 30u);
}

TEST(failure_report, too_large_an_order_is_said_once_in_a_while) {
  test_machine m;
  const std::string text = report_of([&] { EXPECT_EQ(alloc_pages(*m, gfp::kernel, order_t(11)), nullptr); });
  EXPECT_TRUE(matches(text, R"(WARNING: an allocation of 2048 pages is more than MAX_ORDER permits: order:11, mode:0xcc0\(GFP_KERNEL\))"))
      << text;
  printed out;
  EXPECT_EQ(alloc_pages(*m, gfp::kernel | gfp::nowarn, order_t(12)), nullptr);
  EXPECT_EQ(out.text(), "");
}

TEST(failure_record, the_last_ones_are_kept) {
  test_machine m;
  for (unsigned i = 0; i < nr_failure_records + 10; ++i) EXPECT_EQ(alloc_pages(*m, gfp::kernel | gfp::nowarn, order_t(11 + i)), nullptr);
  alloc_failure f;
  EXPECT_FALSE(read_failure(*m, 0, f));
  EXPECT_FALSE(read_failure(*m, 10, f)) << "written over";
  EXPECT_FALSE(read_failure(*m, nr_failure_records + 11, f)) << "not there yet";
  for (uint64_t s = 11; s <= nr_failure_records + 10; ++s) {
    ASSERT_TRUE(read_failure(*m, s, f));
    EXPECT_EQ(f.sequence, s);
  }
  page_alloc_totals totals;
  page_alloc_read_totals(*m, totals);
  EXPECT_EQ(totals.pgalloc_fail, nr_failure_records + 10u);
}

}  // namespace
}  // namespace kmem
