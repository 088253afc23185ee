// What a replay is going to do: traces joined, flags and caches numbered, requests dealt to threads, sample points.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "replay_fixture.hpp"
#include "tools/kmem/replay/cache_rows.hpp"
#include "tools/kmem/replay/droppable.hpp"

namespace kmem::tool::replay {
namespace {

using replay_fixture::add_trace;
using replay_fixture::plan_of;
using replay_fixture::trace_text;
using testing::ElementsAre;

constexpr auto at = trace_text::at;

TEST(replay_plan, classes_go_by_number_and_the_rest_comes_last) {
  trace_text text;
  text.kmalloc(at(1), 64, "none").kmalloc(at(2), 64, "GFP_ATOMIC").kmalloc(at(3), 64, "none").kmalloc(at(4), 64, "none");
  text.kmalloc(at(5), 64, "GFP_KERNEL|__GFP_ZERO").kmalloc(at(6), 64, "GFP_KERNEL").kmalloc(at(7), 64, "__GFP_NOWARN");
  const plan work = plan_of(text.str());
  EXPECT_THAT(work.gfp_classes, ElementsAre("GFP_KERNEL", "GFP_ATOMIC", "none", "other"));
  ASSERT_EQ(work.gfps.size(), 5u);
  EXPECT_EQ(work.gfps[work.gfp_of[4]].text, "GFP_KERNEL|__GFP_ZERO");
  EXPECT_EQ(work.gfp_classes[work.gfps[work.gfp_of[4]].gfp_class], "GFP_KERNEL");
  EXPECT_EQ(work.gfp_classes[work.gfps[work.gfp_of[6]].gfp_class], "other");
}

TEST(replay_plan, traces_follow_each_other_in_time_and_share_caches) {
  trace_text first;
  first.cache(at(1), 200).cache_free(at(1), "thing").after_us(997).kmalloc(at(2), 64);
  trace_text second;
  second.cache(at(1), 200).cache_free(at(1), "thing").cache(at(3), 300).cache_free(at(3), "other thing");
  plan work;
  add_trace(work, first.str(), "one");
  add_trace(work, second.str(), "two");
  ASSERT_EQ(work.requests.size(), 7u);
  EXPECT_EQ(work.trace_of(2), 0u);
  EXPECT_EQ(work.trace_of(3), 1u);
  EXPECT_EQ(work.time_of(0), 0u);
  EXPECT_EQ(work.time_of(2), 999'000u);
  EXPECT_EQ(work.time_of(3), 999'000u);  // the second trace starts where the first one ends
  EXPECT_EQ(work.time_of(6), 1'002'000u);
  ASSERT_EQ(work.caches.size(), 2u);
  EXPECT_EQ(work.requests[0].cache, work.requests[3].cache);
  EXPECT_EQ(work.requests[4].target, 3u);
  EXPECT_EQ(work.requests[3].target, 4u);
  EXPECT_EQ(work.traces[1].info.path, "two");
  EXPECT_EQ(work.traces[1].info.events, 4u);
}

TEST(replay_plan, many_masks_share_the_last_row) {
  trace_text text;
  for (unsigned mask = 1; mask <= 700; mask++)
    text.kmalloc(
        at(mask), 64, "0x" + [mask] {
          char digits[16];
          std::snprintf(digits, sizeof digits, "%x", mask);
          return std::string(digits);
        }());
  const plan work = plan_of(text.str());
  EXPECT_EQ(work.gfps.size(), gfp_rows_max);
  EXPECT_EQ(work.gfps.back().text, "(further flags)");
  EXPECT_EQ(work.gfp_of[gfp_rows_max - 2], gfp_rows_max - 2);
  EXPECT_EQ(work.gfp_of[gfp_rows_max - 1], gfp_rows_max - 1);
  EXPECT_EQ(work.gfp_of[699], gfp_rows_max - 1);
}

TEST(replay_plan, contexts) {
  const auto context = [](const std::string& columns, const std::string& gfp = "GFP_ATOMIC") {
    return context_of(plan_of(trace_text().on(0, columns).kmalloc(at(1), 64, gfp).str()).requests[0]);
  };
  EXPECT_EQ(context("....."), report::alloc_context::task);
  EXPECT_EQ(context("...1."), report::alloc_context::task_atomic);
  EXPECT_EQ(context("d...."), report::alloc_context::task_atomic);
  EXPECT_EQ(context("b...."), report::alloc_context::task_atomic);
  EXPECT_EQ(context("..s1."), report::alloc_context::softirq);
  EXPECT_EQ(context("d.h1."), report::alloc_context::hardirq);
  EXPECT_EQ(context("d.H1."), report::alloc_context::hardirq);
  EXPECT_EQ(context("d.Z1."), report::alloc_context::hardirq);
  EXPECT_EQ(context("d..1.", "GFP_KERNEL"), report::alloc_context::task) << "early boot: it slept";
}

TEST(replay_plan, bits_unknown_to_the_library_are_left_out) {
  EXPECT_EQ(known_bits(trace::gfp_bit::skip_zero | trace::gfp_bit::io), trace::gfp_bit::io);
  EXPECT_EQ(known_bits(0x1ffffff), 0x1ffffffu);
}

TEST(replay_plan, what_may_be_dropped_by_whom) {
  EXPECT_EQ(drop_sort_of(trace::parse_gfp("GFP_HIGHUSER_MOVABLE").bits), drop_sort::clean);
  EXPECT_EQ(drop_sort_of(trace::parse_gfp("GFP_HIGHUSER_MOVABLE|__GFP_ZERO").bits), drop_sort::swap);
  EXPECT_EQ(drop_sort_of(trace::parse_gfp("GFP_NOFS|__GFP_WRITE").bits), drop_sort::file);
}

// Every request is dealt once, each thread's in order; one thread has all, and spare threads get some.
TEST(replay_plan, requests_are_dealt_once_and_in_order) {
  trace_text text;
  for (unsigned number = 0; number < 1000; number++) text.on(number % 3 == 0 ? 1 : 0).kmalloc(at(number), 64);
  const plan work = plan_of(text.str());
  for (const unsigned threads : {1u, 2u, 3u, 7u, 8u}) {
    const auto dealt = deal_requests(work, 0, 1000, threads);
    ASSERT_EQ(dealt.size(), threads);
    std::vector<unsigned> seen(1000);
    for (unsigned thread = 0; thread < threads; thread++) {
      EXPECT_FALSE(dealt[thread].empty()) << thread << " of " << threads;
      EXPECT_TRUE(std::is_sorted(dealt[thread].begin(), dealt[thread].end()));
      for (const trace::request_index index : dealt[thread]) {
        seen[index]++;
        if (threads > 1) {
          EXPECT_EQ(thread % 2, work.requests[index].cpu);
        }
      }
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1u), 1000);
  }
}

TEST(replay_plan, samples_are_spread_over_time_and_over_requests) {
  trace_text text;
  for (unsigned number = 0; number < 3000; number++) text.kmalloc(at(number), 64);  // a storm of 3 ms
  for (unsigned number = 0; number < 100; number++) text.after_us(10'000).kmalloc(at(5000 + number), 64);
  const plan work = plan_of(text.str());
  const auto points = sample_points(work, 0, static_cast<trace::request_index>(work.requests.size()), 100);
  EXPECT_TRUE(std::is_sorted(points.begin(), points.end()));
  EXPECT_EQ(std::adjacent_find(points.begin(), points.end()), points.end());
  EXPECT_EQ(points.front(), 0u);
  const auto in_storm = std::count_if(points.begin(), points.end(), [](trace::request_index index) { return index < 3000; });
  EXPECT_GE(in_storm, 20);
  EXPECT_GE(points.size() - static_cast<std::size_t>(in_storm), 70u);
  EXPECT_LE(points.size(), 110u);
  EXPECT_TRUE(sample_points(work, 5, 5, 100).empty());
}

TEST(replay_plan, rows_of_caches_and_size_classes) {
  trace_text text;
  text.cache(at(1), 200).cache_free(at(1), "thing");
  text.kmalloc(at(2), 100)
      .kmalloc(at(3), 1024)
      .kmalloc(at(4), 100, "GFP_KERNEL|__GFP_RECLAIMABLE")
      .kmalloc(at(5), 24, "GFP_KERNEL|GFP_DMA");
  text.kmalloc(at(6), 40000).kmalloc(16, 0).pages(0x1000, 2);
  const plan work = plan_of(text.str());
  const cache_rows rows(work);
  const auto name = [&](trace::request_index index) {
    return rows.row_of(index) == cache_rows::no_row ? "" : rows.name(rows.row_of(index));
  };
  EXPECT_EQ(name(0), "thing");
  EXPECT_EQ(name(1), "");
  EXPECT_EQ(name(2), "kmalloc-112");
  EXPECT_EQ(name(3), "kmalloc-1k");
  EXPECT_EQ(name(4), "kmalloc-rcl-112");
  EXPECT_EQ(name(5), "dma-kmalloc-32");
  EXPECT_EQ(name(6), "kmalloc, whole pages");
  EXPECT_EQ(name(7), "");
  EXPECT_EQ(name(8), "");
  EXPECT_EQ(rows.taken_bytes(rows.row_of(2), 100), 112u);
  EXPECT_EQ(rows.taken_bytes(rows.row_of(6), 40000), 40960u);
}

}  // namespace
}  // namespace kmem::tool::replay
