// Replays of small traces, each rule of its own.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <kmem/context.hpp>
#include <kmem/info.hpp>
#include <thread>

#include "replay_fixture.hpp"

namespace kmem::tool::replay {
namespace {

using replay_fixture::add_trace;
using replay_fixture::all_errors;
using replay_fixture::expect_clean;
using replay_fixture::plan_of;
using replay_fixture::replay_in_child;
using replay_fixture::row_of;
using replay_fixture::shared_notes;
using replay_fixture::trace_text;
using testing::HasSubstr;

constexpr auto at = trace_text::at;
constexpr const char* roomy = "mem=64M vm.kswapd=0";  // pages are dropped for who asks, and nothing else runs
constexpr const char* tight = "mem=8M vm.kswapd=0";
constexpr std::uint64_t mib = 1024 * 1024;

engine_options verified(unsigned threads = 1) {
  engine_options options;
  options.threads = threads;
  options.verify = true;
  return options;
}

TEST(replay_engine, counts_what_it_did) {
  trace_text text;
  text.kmalloc(at(1), 100).kmalloc(at(2), 5000, "GFP_ATOMIC").kfree(at(1)).kfree(0).kfree(at(77));
  text.cache(at(3), 200, "GFP_NOFS|__GFP_ZERO").cache_free(at(3), "thing").pages(0x1000, 2).pages(0x2000, 0).free_pages(0x1000, 2);
  text.kmalloc(16, 0).kmalloc(at(4), 40000).kfree(at(4));
  const report::replay_result result = replay_in_child(plan_of(text.str()), roomy, verified());
  expect_clean(result);
  const report::totals& total = result.total;
  EXPECT_EQ(total.events, 13u);
  EXPECT_EQ(total.allocs, 7u);
  EXPECT_EQ(total.frees, 4u);
  EXPECT_EQ(total.failed, 0u);
  EXPECT_EQ(total.null_frees, 1u);
  EXPECT_EQ(total.unmatched_frees, 1u);
  EXPECT_EQ(total.requested_bytes, 100u + 5000 + 200 + 16384 + 4096 + 40000);
  EXPECT_EQ(total.live_at_end_objects, 3u);  // 5000 bytes, a page, and a kmalloc(0)
  EXPECT_EQ(total.live_at_end_bytes, 5000u + 4096);
  EXPECT_EQ(result.peak.live_bytes, 5000u + 4096 + 40000);
  EXPECT_EQ(result.budget_bytes, 64 * mib);
  ASSERT_NE(row_of(result, "GFP_ATOMIC"), nullptr);
  EXPECT_EQ(row_of(result, "GFP_ATOMIC")->allocs, 1u);
  EXPECT_EQ(row_of(result, "GFP_ATOMIC")->latency_ns.count(), 1u);
  EXPECT_EQ(row_of(result, "GFP_KERNEL")->bytes, 100u + 16384 + 4096 + 40000);
  ASSERT_EQ(result.by_kind.size(), 6u);
  EXPECT_EQ(result.by_kind[0].kind, "kmalloc");
  EXPECT_EQ(result.by_kind[0].replayed, 4u);
  EXPECT_EQ(result.by_kind[1].kind, "kfree");
  EXPECT_EQ(result.by_kind[1].events, 4u);
  EXPECT_EQ(result.by_kind[1].replayed, 2u);
  EXPECT_EQ(result.by_kind[1].skipped, 1u);
  EXPECT_EQ(result.samples.front().events, 0u);
  EXPECT_EQ(result.samples.back().events, 11u);
  EXPECT_EQ(result.block_maps.front().label, "start");
  EXPECT_EQ(result.block_maps.back().label, "end");
  EXPECT_THAT(result.slabinfo.front(), HasSubstr("slabinfo"));
  EXPECT_FALSE(result.buddyinfo.empty());
}

TEST(replay_engine, an_address_given_out_again_frees_what_was_there) {
  trace_text text;
  text.kmalloc(at(1), 100).kmalloc(at(1), 100).kfree(at(1));
  const report::replay_result result = replay_in_child(plan_of(text.str()), roomy, verified());
  expect_clean(result);
  EXPECT_EQ(result.total.implied_frees, 1u);
  EXPECT_EQ(result.total.frees, 2u);
  EXPECT_EQ(result.total.live_at_end_objects, 0u);
}

TEST(replay_engine, what_failed_in_the_trace_is_freed_at_once) {
  trace_text text;
  text.kmalloc(0, 128, "GFP_NOWAIT").failed_pages(1, "GFP_ATOMIC");
  const report::replay_result result = replay_in_child(plan_of(text.str()), roomy, verified());
  expect_clean(result);
  EXPECT_EQ(result.total.allocs, 2u);
  EXPECT_EQ(result.total.frees, 2u);
  EXPECT_EQ(result.total.live_at_end_objects, 0u);
}

TEST(replay_engine, several_traces_start_empty_each) {
  plan work;
  add_trace(work, trace_text().kmalloc(at(1), 100).kmalloc(at(2), 100).str());
  add_trace(work, trace_text().kmalloc(at(1), 100).kfree(at(1)).str());
  const report::replay_result result = replay_in_child(work, roomy, verified(2));
  expect_clean(result);
  EXPECT_EQ(result.traces.size(), 2u);
  EXPECT_EQ(result.total.live_at_end_objects, 2u);
  EXPECT_EQ(result.total.frees, 1u);
  EXPECT_EQ(result.total.implied_frees, 0u);
  EXPECT_EQ(result.peak.live_bytes, 200u);
}

// ---- order ------------------------------------------------------------------------------------------------------------

TEST(replay_engine, a_free_waits_for_its_allocation) {
  trace_text text;
  text.on(0).kmalloc(at(1), 100).on(1).kfree(at(1)).kmalloc(at(2), 100).on(0).kfree(at(2));
  const shared_notes notes;
  engine_options options = verified(2);
  options.hooks.allocated = [&](trace::request_index index, void*, std::size_t) {
    if (index == 0) std::this_thread::sleep_for(std::chrono::milliseconds(30));
    notes[index] = ++notes[100];
  };
  const report::replay_result result = replay_in_child(plan_of(text.str()), roomy, options);
  expect_clean(result);
  EXPECT_EQ(result.total.frees, 2u);
  // Request 2 comes behind the free of request 0 on its CPU.
  EXPECT_EQ(notes[0], 1u);
  EXPECT_EQ(notes[2], 2u);
}

TEST(replay_engine, one_thread_keeps_the_order_of_the_trace) {
  trace_text text;
  for (unsigned number = 0; number < 500; number++) text.on(number * 7 % 4).kmalloc(at(number), 64);
  const shared_notes notes;
  engine_options options = verified(1);
  options.hooks.allocated = [&](trace::request_index index, void*, std::size_t) { notes[index] = ++notes[1000]; };
  expect_clean(replay_in_child(plan_of(text.str()), roomy, options));
  for (unsigned number = 0; number < 500; number++) EXPECT_EQ(notes[number], number + 1);
}

TEST(replay_engine, no_thread_runs_far_ahead) {
  trace_text text;
  for (unsigned number = 0; number < 2000; number++) text.on(number % 50 == 0 ? 0 : 1).kmalloc(at(number), 64).kfree(at(number));
  const shared_notes notes;
  engine_options options = verified(2);
  options.window = 32;
  options.hooks.inside_context = [&](trace::request_index index) {
    const std::uint64_t slowest = notes[0];
    if (index % 100 == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      notes[0] = index;  // CPU 0 is here
    } else if (index > slowest + 100 + 32) {
      notes[1]++;
    }
  };
  expect_clean(replay_in_child(plan_of(text.str()), roomy, options));
  EXPECT_EQ(notes[1], 0u) << "CPU 0 comes every 100 requests, and 32 are allowed";
}

TEST(replay_engine, more_threads_than_cpus_and_back) {
  trace_text text;
  for (unsigned number = 0; number < 3000; number++) {
    text.on(number % 2).kmalloc(at(number), 32 + number % 900);
    if (number >= 50) text.on((number + 1) % 2).kfree(at(number - 50));
  }
  const plan work = plan_of(text.str());
  for (const unsigned threads : {1u, 2u, 3u, 8u}) {
    const report::replay_result result = replay_in_child(work, roomy, verified(threads));
    expect_clean(result);
    EXPECT_EQ(result.total.allocs, 3000u);
    EXPECT_EQ(result.total.frees, 2950u);
    EXPECT_EQ(result.total.live_at_end_objects, 50u);
    EXPECT_EQ(result.threads, threads);
  }
}

// ---- contexts -------------------------------------------------------------------------------------------------------------

TEST(replay_engine, the_context_of_the_trace_is_the_context_here) {
  trace_text text;
  text.on(0, ".....").kmalloc(at(1), 64);
  text.on(0, "...2.").kmalloc(at(2), 64, "GFP_ATOMIC");
  text.on(0, "..s1.").kmalloc(at(3), 64, "GFP_ATOMIC");
  text.on(0, "d.h1.").kmalloc(at(4), 64, "GFP_ATOMIC");
  text.on(0, "d.Z..").kmalloc(at(5), 64, "GFP_ATOMIC");
  text.on(0, "b....").kmalloc(at(6), 64, "GFP_NOWAIT");
  text.on(0, "D.s3.").pages(0x1000, 0, "GFP_ATOMIC");
  text.on(0, "d..1.").kmalloc(at(7), 64, "GFP_KERNEL");  // early boot: it could sleep nevertheless
  text.on(0, ".....").kmalloc(at(8), 64);
  const shared_notes notes;
  engine_options options = verified();
  options.hooks.inside_context = [&](trace::request_index index) { notes[index] = preempt_count() | (irqs_disabled() ? 1u << 31 : 0); };
  const report::replay_result result = replay_in_child(plan_of(text.str()), roomy, options);
  expect_clean(result);
  constexpr std::uint64_t irqs_off = 1u << 31;
  EXPECT_EQ(notes[0], 0u);
  EXPECT_EQ(notes[1], 2 * preempt_unit);
  EXPECT_EQ(notes[2], preempt_unit + softirq_unit);
  EXPECT_EQ(notes[3], irqs_off | (preempt_unit + hardirq_unit));
  EXPECT_EQ(notes[4], irqs_off | hardirq_unit);
  EXPECT_EQ(notes[5], softirq_disable_unit);
  EXPECT_EQ(notes[6], irqs_off | (3 * preempt_unit + softirq_unit + softirq_disable_unit));
  EXPECT_EQ(notes[7], 0u);
  EXPECT_EQ(notes[8], 0u);
  std::uint64_t atomic = 0;
  for (const report::context_row& each : result.by_context) atomic += each.context == report::alloc_context::task ? 0 : each.allocs;
  EXPECT_EQ(atomic, 6u);
  bool noted = false;
  for (const report::name_value& each : result.parameters) noted |= each.name == "run_as_task" && each.value == "1";
  EXPECT_TRUE(noted);
}

// The rules are those of the library: an allocation that may sleep would be an error in these contexts.
TEST(replay_engine, a_broken_context_rule_is_an_error) {
  trace_text text;
  text.on(0, "...1.").kmalloc(at(1), 64, "GFP_ATOMIC").on(0, ".....").kmalloc(at(2), 64);
  engine_options options = verified();
  options.keep_going = true;
  options.hooks.inside_context = [](trace::request_index index) {
    if (index == 0) (void)kmem::kmalloc(32, gfp::kernel);
  };
  const report::replay_result result = replay_in_child(plan_of(text.str()), roomy, options);
  EXPECT_GE(result.total.errors, 1u);
  EXPECT_THAT(all_errors(result), HasSubstr("broke the rules of their context"));
  EXPECT_THAT(all_errors(result), HasSubstr("sleeping function called from invalid context"));
}

// ---- verification --------------------------------------------------------------------------------------------------------

TEST(replay_engine, a_corrupted_object_is_found_when_it_is_freed) {
  trace_text text;
  text.kmalloc(at(1), 100).cache(at(2), 200).pages(0x1000, 0).kmalloc(at(3), 64);
  text.kfree(at(1)).cache_free(at(2), "thing").free_pages(0x1000, 0).kfree(at(3));
  engine_options options = verified();
  options.keep_going = true;
  options.hooks.allocated = [](trace::request_index index, void* memory, std::size_t bytes) {
    if (index < 3) static_cast<char*>(memory)[bytes - 1] ^= 1;
  };
  const report::replay_result result = replay_in_child(plan_of(text.str()), roomy, options);
  EXPECT_TRUE(result.completed);
  EXPECT_EQ(result.total.errors, 3u);
  ASSERT_EQ(result.errors.size(), 3u);
  EXPECT_EQ(result.errors[0].line, 1u);
  EXPECT_THAT(result.errors[0].text, HasSubstr("byte 99 of 100 is 0x"));
  EXPECT_THAT(result.errors[0].text, HasSubstr("when it was freed"));
  EXPECT_THAT(result.errors[1].text, HasSubstr("byte 199 of 200"));
  EXPECT_THAT(result.errors[2].text, HasSubstr("byte 4095 of 4096"));
}

TEST(replay_engine, without_keep_going_the_first_error_ends_the_replay) {
  trace_text text;
  text.kmalloc(at(1), 100).kfree(at(1));
  for (unsigned number = 2; number < 500; number++) text.kmalloc(at(number), 64);
  engine_options options = verified();
  options.hooks.allocated = [](trace::request_index index, void* memory, std::size_t) {
    if (index == 0) std::memset(memory, 0, 1);
    if (index == 0) static_cast<char*>(memory)[1] ^= 1;
  };
  const report::replay_result result = replay_in_child(plan_of(text.str()), roomy, options);
  EXPECT_FALSE(result.completed);
  EXPECT_THAT(result.stop_reason, HasSubstr("--keep-going"));
  EXPECT_EQ(result.total.errors, 1u);
  EXPECT_EQ(result.total.allocs, 1u);
  EXPECT_EQ(result.total.charged_after_bytes, 0u);
}

TEST(replay_engine, corruption_is_found_at_the_end_of_the_trace_too) {
  engine_options options = verified();
  options.keep_going = true;
  options.hooks.allocated = [](trace::request_index, void* memory, std::size_t) { static_cast<char*>(memory)[5] ^= 1; };
  const report::replay_result result = replay_in_child(plan_of(trace_text().kmalloc(at(1), 100).str()), roomy, options);
  EXPECT_EQ(result.total.errors, 1u);
  EXPECT_THAT(all_errors(result), HasSubstr("1: byte 5 of 100"));
  EXPECT_THAT(all_errors(result), HasSubstr("at the end of the trace"));
}

// The library clears what is asked for cleared, also memory that was used before.
TEST(replay_engine, cleared_memory_is_cleared) {
  trace_text text;
  for (unsigned round = 0; round < 3; round++) {
    for (unsigned number = 0; number < 60; number++) {
      text.kmalloc(at(number), 64 + number * 150, round == 1 ? "GFP_KERNEL" : "GFP_KERNEL|__GFP_ZERO")
          .pages(0x1000 + number * 8, 1, "GFP_KERNEL|__GFP_ZERO");
    }
    for (unsigned number = 0; number < 60; number++) text.kfree(at(number)).free_pages(0x1000 + number * 8, 1);
  }
  expect_clean(replay_in_child(plan_of(text.str()), roomy, verified()));
}

TEST(replay_engine, touch_backs_all_memory) {
  trace_text text;
  for (unsigned number = 0; number < 300; number++) text.pages(0x1000 + number, 0);
  engine_options options;
  const plan work = plan_of(text.str());
  const report::replay_result untouched = replay_in_child(work, roomy, options);
  options.touch = true;
  const report::replay_result touched = replay_in_child(work, roomy, options);
  expect_clean(untouched);
  expect_clean(touched);
  EXPECT_GE(touched.peak.arena_resident_bytes, 300u * 4096);
  EXPECT_LT(untouched.peak.arena_resident_bytes, touched.peak.arena_resident_bytes);
}

// ---- short memory --------------------------------------------------------------------------------------------------------

// More page cache than the budget: the oldest pages go, their frees come too late and are ignored.
TEST(replay_engine, pages_that_the_kernel_could_take_back_are_dropped_oldest_first) {
  constexpr unsigned pages = 4000;  // 16 MB in a budget of 8
  trace_text text;
  for (unsigned number = 0; number < pages; number++) text.pages(0x10000 + number, 0, "GFP_HIGHUSER_MOVABLE");
  for (unsigned number = 0; number < pages; number++) text.free_pages(0x10000 + number, 0);
  const report::replay_result result = replay_in_child(plan_of(text.str()), tight, verified());
  expect_clean(result);
  EXPECT_EQ(result.total.failed, 0u);
  EXPECT_GT(result.total.dropped_pages, pages / 2);
  EXPECT_EQ(result.total.late_frees_of_dropped, result.total.dropped_pages);
  EXPECT_EQ(result.total.frees, pages - result.total.dropped_pages);
  EXPECT_GT(result.total.reclaim_calls, 0u);
  EXPECT_EQ(result.samples.back().dropped_bytes, result.total.dropped_bytes);
  EXPECT_LE(result.peak.live_bytes, 8 * mib);
}

TEST(replay_engine, what_is_dropped_is_the_oldest) {
  constexpr unsigned pages = 4000;
  constexpr unsigned newest = 500;  // 2 MB of the 8: they are still there
  trace_text text;
  for (unsigned number = 0; number < pages; number++) text.pages(0x10000 + number, 0, "GFP_HIGHUSER_MOVABLE");
  for (unsigned number = pages - newest; number < pages; number++) text.free_pages(0x10000 + number, 0);
  const report::replay_result result = replay_in_child(plan_of(text.str()), tight, verified());
  expect_clean(result);
  EXPECT_EQ(result.total.late_frees_of_dropped, 0u);
  EXPECT_EQ(result.total.frees, newest);
  EXPECT_EQ(result.total.live_at_end_objects, pages - newest - result.total.dropped_pages);
}

// Dirty and anonymous pages may only be written out for those who may start I/O; clean ones may be dropped for anybody who may wait.
TEST(replay_engine, what_may_be_dropped_depends_on_who_asks) {
  struct expectation {
    const char* held;
    const char* asks;
    bool served;
  };
  for (const expectation& each :
       {expectation{"GFP_HIGHUSER_MOVABLE", "GFP_NOIO", true}, expectation{"GFP_HIGHUSER_MOVABLE|__GFP_ZERO", "GFP_NOIO", false},
        expectation{"GFP_HIGHUSER_MOVABLE|__GFP_ZERO", "GFP_NOFS", true},
        expectation{"GFP_HIGHUSER_MOVABLE|__GFP_WRITE", "GFP_NOFS", false},
        expectation{"GFP_HIGHUSER_MOVABLE|__GFP_WRITE", "GFP_KERNEL", true}, expectation{"GFP_HIGHUSER_MOVABLE", "GFP_NOWAIT", false}}) {
    trace_text text;
    for (unsigned number = 0; number < 2500; number++) text.pages(0x10000 + number, 0, each.held);
    for (unsigned number = 0; number < 200; number++) text.pages(0x20000 + number, 0, each.asks);
    const report::replay_result result = replay_in_child(plan_of(text.str()), tight, verified());
    expect_clean(result);
    const report::gfp_row* const row = row_of(result, each.asks);
    ASSERT_NE(row, nullptr);
    EXPECT_EQ(row->allocs, 200u);
    if (each.served) {
      EXPECT_EQ(row->failed, 0u) << each.held << " for " << each.asks;
    } else {
      EXPECT_GT(row->failed, 100u) << each.held << " for " << each.asks;
    }
  }
}

TEST(replay_engine, shrinkers_say_what_they_did) {
  trace_text text;
  for (unsigned number = 0; number < 3000; number++) {
    text.pages(0x10000 + number, 0, number % 3 == 0 ? "GFP_HIGHUSER_MOVABLE|__GFP_ZERO" : "GFP_HIGHUSER_MOVABLE");
  }
  const report::replay_result result = replay_in_child(plan_of(text.str()), tight, verified());
  expect_clean(result);
  ASSERT_EQ(result.shrinkers.size(), 2u) << "one for each sort of pages that the trace has";
  EXPECT_EQ(result.shrinkers[0].name, "clean page cache");
  EXPECT_EQ(result.shrinkers[0].needs, "");
  EXPECT_EQ(result.shrinkers[1].name, "anonymous memory");
  EXPECT_EQ(result.shrinkers[1].needs, "__GFP_IO");
  std::uint64_t freed = 0;
  std::uint64_t scans = 0;
  for (const report::shrinker_row& row : result.shrinkers) {
    EXPECT_GT(row.count_calls, 0u);
    EXPECT_GT(row.scan_calls, 0u);
    EXPECT_EQ(row.scanned, row.freed) << "every page that is looked at can be dropped";
    freed += row.freed;
    scans += row.scan_calls;
  }
  EXPECT_EQ(freed, result.total.dropped_pages);
  EXPECT_EQ(scans, result.total.reclaim_calls);
  EXPECT_EQ(report::vmstat_of(result, "slabs_scanned"), freed);
  EXPECT_GT(report::vmstat_of(result, "pgsteal_direct"), 0u);
  EXPECT_EQ(report::vmstat_of(result, "pageoutrun"), 0u) << "there is no kswapd";
}

// ---- sleeping ------------------------------------------------------------------------------------------------------------

// Pages of CPU 1 until there is none above the watermark for who may sleep: 8 MiB and the window, which another CPU may be ahead, and more.
constexpr unsigned filling = 4000;
trace_text full_machine() {
  trace_text text;
  text.on(1);
  for (unsigned number = 0; number < filling; number++) text.pages(0x10000 + number, 0, "GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN");
  return text;
}

std::uint64_t waits_so_far() {
  std::array<char, 8192> text{};
  vmstat_text(text.data(), text.size());
  const char* const found = std::strstr(text.data(), "kmem_waits ");
  return found == nullptr ? 0 : std::strtoull(found + std::strlen("kmem_waits "), nullptr, 10);
}

TEST(replay_engine, a_sleep_is_ended_by_the_free_of_another_cpu_and_the_report_says_by_whom) {
  trace_text text = full_machine();
  text.on(0).pages(0x20000, 0);
  text.on(1).kmalloc(16, 0, "GFP_ATOMIC");  // kmalloc(0) takes no memory; the hook below has CPU 1 wait here until CPU 0 sleeps
  text.free_pages(0x10000, 0).kmalloc(at(1), 64, "GFP_ATOMIC");
  const trace::request_index sleeps = filling;
  engine_options options = verified(2);
  options.samples = 1;  // one at the beginning, one at the last request. Threads meet there: none before the free
  options.hooks.inside_context = [&](trace::request_index index) {
    for (unsigned rounds = 0; index == sleeps + 1 && waits_so_far() == 0 && rounds < 2'000'000; rounds++) std::this_thread::yield();
  };
  const plan work = plan_of(text.str());
  ASSERT_EQ(work.requests.size(), filling + 4);
  ASSERT_EQ(work.requests[sleeps].cpu, 0u);
  const report::replay_result result =
      replay_in_child(work, "mem=8M vm.kswapd=0 vm.alloc_wait_ms=60000 vm.sleep_record_ms=0", options);
  expect_clean(result);
  EXPECT_EQ(row_of(result, "GFP_KERNEL")->failed, 0u);
  const report::sleep_figures& slept = result.sleeps;
  EXPECT_EQ(slept.length_ns.count(), 1u);
  EXPECT_EQ(slept.unrecorded, 0u);
  ASSERT_EQ(slept.by_end.size(), 1u);
  EXPECT_EQ(slept.by_end[0].name, "served");
  EXPECT_EQ(slept.by_end[0].served, 1u);
  ASSERT_EQ(slept.by_gfp.size(), 1u);
  EXPECT_EQ(slept.by_gfp[0].name, "GFP_KERNEL");
  EXPECT_EQ(slept.by_gfp[0].length_ns.count(), 1u);
  ASSERT_EQ(slept.by_cpu.size(), 1u);
  EXPECT_EQ(slept.by_cpu[0].name, "CPU 0");
  ASSERT_EQ(slept.by_pages.size(), 1u);
  EXPECT_EQ(slept.by_pages[0].name, "1 page");
  ASSERT_EQ(slept.wakes.size(), 1u);
  EXPECT_EQ(slept.wakes[0].waker, "CPU 1");
  EXPECT_EQ(slept.wakes[0].waker_thread, "replay-1");
  EXPECT_EQ(slept.wakes[0].cause, "page");
  EXPECT_EQ(slept.wakes[0].sleeper, "CPU 0");
  EXPECT_EQ(slept.wakes[0].sleeper_thread, "replay-0");
  EXPECT_EQ(slept.wakes[0].wakes, 1u);
  EXPECT_EQ(slept.wakes[0].slept_ns, slept.length_ns.sum());
  EXPECT_EQ(result.samples.back().sleeps, 1u);
  EXPECT_EQ(report::vmstat_of(result, "kmem_long_sleeps"), 1u);
}

TEST(replay_engine, a_sleep_that_nobody_ends_fails_and_says_so) {
  trace_text text = full_machine();
  text.on(0).pages(0x20000, 1);
  const report::replay_result result =
      replay_in_child(plan_of(text.str()), "mem=8M vm.kswapd=0 vm.alloc_wait_ms=3 vm.sleep_record_ms=0", verified(2));
  expect_clean(result);
  EXPECT_EQ(row_of(result, "GFP_KERNEL")->failed, 1u);
  ASSERT_EQ(row_of(result, "GFP_KERNEL")->failed_by_step.size(), 1u);
  EXPECT_EQ(row_of(result, "GFP_KERNEL")->failed_by_step[0].name, "wait");
  ASSERT_EQ(result.sleeps.by_end.size(), 1u);
  EXPECT_EQ(result.sleeps.by_end[0].name, "exhausted");
  EXPECT_EQ(result.sleeps.by_end[0].served, 0u);
  EXPECT_EQ(result.sleeps.by_pages.at(0).name, "2 pages");
}

TEST(replay_engine, the_reserve_is_sampled_with_its_watermarks) {
  trace_text text = full_machine();
  for (unsigned number = 0; number < 300; number++) text.pages(0x20000 + number, 0, "GFP_ATOMIC|__GFP_NOWARN");
  const report::replay_result result = replay_in_child(plan_of(text.str()), tight, verified());
  expect_clean(result);
  const report::sample& first = result.samples.front();
  EXPECT_GT(first.min_bytes, 0u);
  EXPECT_GT(first.low_bytes, first.min_bytes);
  EXPECT_GT(first.high_bytes, first.low_bytes);
  EXPECT_GT(first.free_bytes, first.high_bytes);
  const report::sample* const lowest = report::lowest_reserve(result);
  ASSERT_NE(lowest, nullptr);
  EXPECT_LT(lowest->reserve_bytes, first.reserve_bytes) << "atomic requests took pages of it";
  EXPECT_LT(lowest->free_bytes, first.min_bytes);
}

// ---- failures ------------------------------------------------------------------------------------------------------------

TEST(replay_engine, failures_say_how_far_they_came) {
  trace_text text;
  for (unsigned number = 0; number < 3000; number++) text.kmalloc(at(number), 4096);
  for (unsigned number = 3000; number < 3010; number++) text.kmalloc(at(number), 4096, "GFP_NOWAIT");
  for (unsigned number = 0; number < 3000; number++) text.kfree(at(number));
  const report::replay_result result = replay_in_child(plan_of(text.str()), tight, verified());
  expect_clean(result);
  EXPECT_GT(result.total.failed, 1000u);
  EXPECT_EQ(result.total.frees_of_failed + result.total.frees, 3000u);
  EXPECT_EQ(result.by_kind[0].failed, result.total.failed);
  std::uint64_t by_step = 0;
  for (const report::gfp_row& row : result.by_gfp) {
    for (const report::name_count& step : row.failed_by_step) {
      EXPECT_NE(step.name, "refused");
      by_step += step.count;
    }
  }
  EXPECT_EQ(by_step, result.total.failed);
  ASSERT_FALSE(result.failures.empty());
  const report::failure_record& first = result.failures.front();
  EXPECT_EQ(first.kind, "kmalloc");
  EXPECT_EQ(first.cache, "kmalloc-4k");
  EXPECT_EQ(first.gfp, "GFP_KERNEL");
  EXPECT_EQ(first.size_bytes, 4096u);
  EXPECT_EQ(first.zone, "Normal");
  EXPECT_EQ(first.step, "oom");
  EXPECT_GT(first.charged_bytes, 4 * mib);
  EXPECT_EQ(result.samples.back().failed, result.total.failed);
  EXPECT_EQ(row_of(result, "GFP_NOWAIT")->failed, 10u);
}

TEST(replay_engine, what_is_refused_before_the_chain_says_so) {
  trace_text text;
  text.cache(at(1), 200).cache_free(at(1), "thing").kmalloc(at(2), 100'000).kmalloc(at(3), 200'000).kfree(at(2)).kfree(at(3));
  const report::replay_result too_large = replay_in_child(plan_of(text.str()), "mem=64M kmalloc_max=128K", verified());
  expect_clean(too_large);
  ASSERT_EQ(too_large.failures.size(), 1u);
  EXPECT_EQ(too_large.failures[0].step, "refused");
  EXPECT_EQ(too_large.failures[0].size_bytes, 200'000u);

  trace_text many;
  for (unsigned number = 0; number < 400; number++) many.cache(at(number), 200).cache_free(at(number), "thing");
  const report::replay_result injected = replay_in_child(plan_of(many.str()), "mem=64M failslab=1,50,0,-1", verified());
  expect_clean(injected);
  EXPECT_GT(injected.total.failed, 100u);
  EXPECT_LT(injected.total.failed, 300u);
  EXPECT_EQ(row_of(injected, "GFP_KERNEL")->failed_by_step.at(0).name, "refused");
}

// Nobody but later requests could end an endless wait.
TEST(replay_engine, nofail_does_not_hang_and_counts_as_failed) {
  trace_text text;
  for (unsigned number = 0; number < 3000; number++) text.kmalloc(at(number), 4096, "GFP_NOFS|__GFP_NOFAIL");
  const report::replay_result result = replay_in_child(plan_of(text.str()), tight, verified());
  expect_clean(result);
  EXPECT_GT(row_of(result, "GFP_NOFS|__GFP_NOFAIL")->failed, 500u);
  bool noted = false;
  for (const report::name_value& each : result.parameters) noted |= each.name == "nofail_as_retry" && each.value == "3000";
  EXPECT_TRUE(noted);
}

TEST(replay_engine, atomic_goes_further_than_nowait) {
  trace_text text;
  for (unsigned number = 0; number < 3000; number++) text.pages(0x10000 + number, 0, "GFP_NOWAIT");
  for (unsigned number = 0; number < 3000; number++) text.on(0, "..s1.").pages(0x20000 + number, 0, "GFP_ATOMIC");
  const report::replay_result result = replay_in_child(plan_of(text.str()), tight, verified());
  expect_clean(result);
  const report::gfp_row* const nowait = row_of(result, "GFP_NOWAIT");
  const report::gfp_row* const atomic = row_of(result, "GFP_ATOMIC");
  EXPECT_GT(nowait->failed, 500u);
  EXPECT_LT(atomic->failed, 3000u) << "the reserve is theirs";
  std::uint64_t lowest = ~std::uint64_t{0};
  for (const report::sample& each : result.samples) lowest = std::min(lowest, each.reserve_bytes);
  EXPECT_LT(lowest, result.samples.front().reserve_bytes);
}

TEST(replay_engine, a_budget_too_small_for_the_caches_is_told_before_the_replay) {
  // Five thousand caches: more than the library numbers.
  trace_text text;
  for (unsigned number = 0; number < 5000; number++)
    text.cache(at(number), 200 + number, "GFP_KERNEL").cache_free(at(number), "c" + std::to_string(number));
  const plan work = plan_of(text.str());
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    char error[200];
    if (!kmem::init("mem=64M", error, sizeof error)) _exit(10);
    engine runner(work, {});
    std::string problem;
    if (runner.prepare(problem)) _exit(11);
    _exit(problem.find("cannot be made") != std::string::npos ? 0 : 12);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(replay_engine, one_thread_counts_the_same_every_time) {
  trace_text text;
  for (unsigned number = 0; number < 4000; number++) {
    text.on(number % 3).pages(0x10000 + number, number % 7 == 0 ? 1 : 0, number % 5 == 0 ? "GFP_NOWAIT" : "GFP_HIGHUSER_MOVABLE");
    text.kmalloc(at(number), 16 + number * 13 % 3000, number % 4 == 0 ? "GFP_ATOMIC" : "GFP_KERNEL");
    if (number % 2 == 1) text.kfree(at(number - 1));
  }
  const plan work = plan_of(text.str());
  const report::replay_result first = replay_in_child(work, tight, verified());
  const report::replay_result second = replay_in_child(work, tight, verified());
  EXPECT_GT(first.total.failed, 0u);
  EXPECT_EQ(first.total.failed, second.total.failed);
  EXPECT_EQ(first.total.dropped_pages, second.total.dropped_pages);
  EXPECT_EQ(first.peak.charged_bytes, second.peak.charged_bytes);
  EXPECT_EQ(first.peak.metadata_bytes, second.peak.metadata_bytes);
  ASSERT_EQ(first.samples.size(), second.samples.size());
  for (std::size_t index = 0; index < first.samples.size(); index++) {
    EXPECT_EQ(first.samples[index].charged_bytes, second.samples[index].charged_bytes) << index;
    EXPECT_EQ(first.samples[index].failed, second.samples[index].failed) << index;
  }
}

// ---- stopping ------------------------------------------------------------------------------------------------------------

TEST(replay_engine, a_stop_still_gives_a_result) {
  trace_text text;
  for (unsigned number = 0; number < 2000; number++) text.on(number % 2).kmalloc(at(number), 64);
  engine_options options = verified(2);
  options.hooks.allocated = [](trace::request_index, void*, std::size_t) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); };
  const report::replay_result result =
      replay_in_child(plan_of(text.str()), roomy, options, [](const engine_progress& now) { return now.requests < 20; });
  EXPECT_FALSE(result.completed);
  EXPECT_EQ(result.stop_reason, "interrupted");
  EXPECT_GT(result.total.allocs, 0u);
  EXPECT_LT(result.total.allocs, 2000u);
  EXPECT_EQ(result.total.live_at_end_objects, result.total.allocs);
  EXPECT_EQ(result.total.errors, 0u) << all_errors(result);
  EXPECT_EQ(result.total.charged_after_bytes, 0u);
  EXPECT_EQ(result.block_maps.back().label, "end");
}

}  // namespace
}  // namespace kmem::tool::replay
