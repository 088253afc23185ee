// Who woke whom: from noted sleeps to the tables of the report.

#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>

#include "replay_fixture.hpp"
#include "tools/kmem/replay/sleeps.hpp"

namespace kmem::tool::replay {
namespace {

using replay_fixture::plan_of;
using replay_fixture::trace_text;

noted_sleep sleep_of(unsigned thread, std::uint16_t cpu, std::string_view waker, std::string_view cause, std::string_view end,
                     std::uint64_t slept_ns, std::uint64_t pages = 1) {
  noted_sleep out;
  out.slept_ns = slept_ns;
  out.pages = pages;
  out.cpu = cpu;
  out.thread = thread;
  out.waker_id = waker.empty() ? 0 : 77;
  std::copy(waker.begin(), waker.end(), out.waker.begin());
  out.cause = cause;
  out.end = end;
  return out;
}

TEST(replay_sleeps, threads_are_named_by_the_cpus_whose_requests_they_make) {
  EXPECT_EQ(cpus_of_thread(1, 2, 2), "CPU 1");
  EXPECT_EQ(cpus_of_thread(5, 8, 2), "CPU 1");
  EXPECT_EQ(cpus_of_thread(0, 1, 2), "CPUs 0, 1");
  EXPECT_EQ(cpus_of_thread(1, 2, 5), "CPUs 1, 3");
  EXPECT_EQ(cpus_of_thread(1, 4, 5), "CPU 1");
  EXPECT_EQ(cpus_of_thread(0, 2, 64), "CPUs 0, 2, 4, ...");
}

TEST(replay_sleeps, are_summed_up_by_end_flags_cpu_size_and_pair) {
  trace_text text;
  text.on(0).kmalloc(trace_text::at(1), 64, "GFP_KERNEL").on(1).kmalloc(trace_text::at(2), 64, "GFP_NOFS");
  const plan work = plan_of(text.str());
  std::vector<noted_sleep> sleeps{
      sleep_of(0, 0, "replay-1", "page", "served", 100),   sleep_of(0, 0, "replay-1", "page", "served", 300),
      sleep_of(0, 0, "replay-1", "object", "served", 50),  sleep_of(1, 1, "kswapd0", "kswapd", "served", 1000, 8),
      sleep_of(1, 1, "", "none", "exhausted", 5000, 2),    sleep_of(1, 1, "other", "reclaim", "served", 7),
      sleep_of(1, 1, "replay-7", "page", "timed_out", 20),
  };
  sleeps[3].gfp = 1;
  const report::sleep_figures out = sum_up_sleeps(work, sleeps, 2, 9);
  EXPECT_EQ(out.length_ns.count(), 7u);
  EXPECT_EQ(out.length_ns.max(), 5000u);
  EXPECT_EQ(out.unrecorded, 2u);
  ASSERT_EQ(out.by_end.size(), 3u);
  EXPECT_EQ(out.by_end[0].name, "exhausted") << "the longest first";
  EXPECT_EQ(out.by_end[0].served, 0u);
  EXPECT_EQ(out.by_end[1].name, "served");
  EXPECT_EQ(out.by_end[1].sleeps, 5u);
  EXPECT_EQ(out.by_end[1].served, 5u);
  EXPECT_EQ(out.by_end[1].length_ns.sum(), 1457u);
  EXPECT_EQ(out.by_end[1].pages, 12u);
  EXPECT_EQ(out.by_end[2].name, "timed_out");
  ASSERT_EQ(out.by_gfp.size(), 2u);
  EXPECT_EQ(out.by_gfp[0].name, work.gfps[0].text);
  EXPECT_EQ(out.by_gfp[0].sleeps, 6u);
  EXPECT_EQ(out.by_gfp[1].name, work.gfps[1].text);
  ASSERT_EQ(out.by_cpu.size(), 2u);
  EXPECT_EQ(out.by_cpu[0].name, "CPU 1");
  EXPECT_EQ(out.by_cpu[1].sleeps, 3u);
  ASSERT_EQ(out.by_pages.size(), 3u);
  EXPECT_EQ(out.by_pages[0].name, "2 pages");
  EXPECT_EQ(out.by_pages[1].name, "8 pages");
  EXPECT_EQ(out.by_pages[2].name, "1 page");
  ASSERT_EQ(out.wakes.size(), 6u);
  const report::wake_row& most = out.wakes[0];
  EXPECT_EQ(most.waker, "CPU 1");
  EXPECT_EQ(most.waker_thread, "replay-1");
  EXPECT_EQ(most.cause, "page");
  EXPECT_EQ(most.sleeper, "CPU 0");
  EXPECT_EQ(most.sleeper_thread, "replay-0");
  EXPECT_EQ(most.wakes, 2u);
  EXPECT_EQ(most.slept_ns, 400u);
  const auto waker_of = [&](std::string_view thread) {
    const auto found =
        std::find_if(out.wakes.begin(), out.wakes.end(), [&](const report::wake_row& row) { return row.waker_thread == thread; });
    return found == out.wakes.end() ? std::string() : found->waker;
  };
  EXPECT_EQ(waker_of("kswapd0"), "kswapd");
  EXPECT_EQ(waker_of(""), "nobody");
  EXPECT_EQ(waker_of("other"), "other");
  EXPECT_EQ(waker_of("replay-7"), "replay-7") << "no thread of this replay";
}

TEST(replay_sleeps, none_are_no_rows) {
  const report::sleep_figures out = sum_up_sleeps(plan_of(trace_text().kmalloc(trace_text::at(1), 64).str()), {}, 2, 0);
  EXPECT_EQ(out.length_ns.count(), 0u);
  EXPECT_TRUE(out.by_end.empty());
  EXPECT_TRUE(out.wakes.empty());
}

}  // namespace
}  // namespace kmem::tool::replay
