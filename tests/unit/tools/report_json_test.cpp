// The JSON report: keys and their order, reading back, refusing what is not one.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "report_fixture.hpp"
#include "tools/kmem/report/json.hpp"

namespace {

using namespace kmem::tool::report;
using json = nlohmann::ordered_json;

const std::vector<std::string> documented_keys{"format",
                                               "format_version",
                                               "title",
                                               "kmem_version",
                                               "traces",
                                               "threads",
                                               "touch",
                                               "verify",
                                               "completed",
                                               "stop_reason",
                                               "parameters",
                                               "wall_ns",
                                               "events",
                                               "other_events",
                                               "allocs",
                                               "frees",
                                               "failed",
                                               "frees_of_failed",
                                               "unmatched_frees",
                                               "implied_frees",
                                               "null_frees",
                                               "skipped_pages_events",
                                               "requested_bytes",
                                               "dropped_pages",
                                               "dropped_bytes",
                                               "reclaim_calls",
                                               "late_frees_of_dropped",
                                               "errors",
                                               "live_at_end_objects",
                                               "live_at_end_bytes",
                                               "charged_after_bytes",
                                               "budget_bytes",
                                               "charged_peak_bytes",
                                               "live_peak_bytes",
                                               "metadata_bytes",
                                               "arena_resident_peak_bytes",
                                               "charged_peak_time_ns",
                                               "gfp_classes",
                                               "by_kind",
                                               "by_gfp",
                                               "by_context",
                                               "cache_moment",
                                               "by_cache",
                                               "latency_ns",
                                               "sleeps",
                                               "shrinkers",
                                               "vmstat",
                                               "failures",
                                               "samples",
                                               "block_caches",
                                               "block_columns",
                                               "block_maps",
                                               "slabinfo",
                                               "buddyinfo",
                                               "error_list"};

std::vector<std::string> keys_of(const json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) {
    keys.push_back(key);
  }
  return keys;
}

std::string error_of(const std::string& text) {
  try {
    static_cast<void>(result_from_json(text));
  } catch (const json_error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(report_json, has_the_documented_keys_in_order) {
  EXPECT_EQ(keys_of(to_json(report_fixture::scarce())), documented_keys);
  EXPECT_EQ(keys_of(to_json({})), documented_keys);
}

TEST(report_json, holds_the_figures) {
  const replay_result result = report_fixture::scarce();
  const json document = json::parse(json_text(result));
  EXPECT_EQ(document["events"], 906966);
  EXPECT_EQ(document["allocs"], result.total.allocs);
  EXPECT_EQ(document["failed"], result.total.failed);
  EXPECT_EQ(document["budget_bytes"], result.budget_bytes);
  EXPECT_EQ(document["charged_peak_bytes"], result.peak.charged_bytes);
  EXPECT_EQ(document["live_peak_bytes"], result.peak.live_bytes);
  EXPECT_EQ(document["metadata_bytes"], result.peak.metadata_bytes);
  EXPECT_EQ(document["by_gfp"]["GFP_ATOMIC"]["failed"], result.by_gfp[6].failed);
  EXPECT_EQ(document["by_cache"]["dentry"]["active_objects"], 21120);
  EXPECT_EQ(document["latency_ns"]["per-CPU"]["p50"], result.latency_ns[0].percentile(50));
  EXPECT_EQ(document["samples"]["charged_bytes"].size(), result.samples.size());
  EXPECT_EQ(document["block_maps"][3]["blocks"].size(), result.block_maps[3].blocks.size());
  EXPECT_EQ(document["failures"][0]["line"], result.failures[0].line);
  EXPECT_EQ(document["sleeps"]["length_ns"]["count"], 421);
  EXPECT_EQ(document["sleeps"]["by_end"][1]["name"], "exhausted");
  EXPECT_EQ(document["sleeps"]["by_gfp"][0]["length_ns"]["p50"], result.sleeps.by_gfp[0].length_ns.percentile(50));
  EXPECT_EQ(document["sleeps"]["by_cpu"][0]["served"], 295);
  EXPECT_EQ(document["sleeps"]["by_pages"][1]["pages"], 72);
  EXPECT_EQ(document["sleeps"]["wakes"][0], json::parse(R"({"waker": "CPU 1", "waker_thread": "replay-1", "cause": "page",
                                                "sleeper": "CPU 0", "sleeper_thread": "replay-0", "wakes": 210, "slept_ns": 61000000})"));
  EXPECT_EQ(document["shrinkers"][1], json::parse(R"({"name": "anonymous memory", "needs": "__GFP_IO", "count_calls": 8919,
                                                      "scan_calls": 1581, "scanned": 50592, "freed": 50590, "deferred": 2})"));
  EXPECT_EQ(document["vmstat"][1], json::parse(R"({"name": "pgsteal_kswapd", "count": 58627})"));
  EXPECT_EQ(document["samples"]["low_bytes"][0], result.samples[0].low_bytes);
  EXPECT_EQ(document["samples"]["sleeps"].back(), result.samples.back().sleeps);
}

TEST(report_json, reads_files_of_before_sleeps_were_shown) {
  json document = to_json(report_fixture::scarce());
  for (const char* const key : {"sleeps", "shrinkers", "vmstat"}) document.erase(key);
  for (const char* const key : {"free_bytes", "min_bytes", "low_bytes", "high_bytes", "sleeps"}) document["samples"].erase(key);
  const replay_result again = result_from_json(document.dump());
  EXPECT_EQ(again.total.failed, report_fixture::scarce().total.failed);
  EXPECT_EQ(again.sleeps.length_ns.count(), 0u);
  EXPECT_TRUE(again.shrinkers.empty());
  EXPECT_EQ(again.samples.back().low_bytes, 0u);
}

TEST(report_json, reads_back_what_it_wrote) {
  for (const replay_result& result : {report_fixture::scarce(), report_fixture::plentiful(), replay_result{}}) {
    const std::string text = json_text(result);
    const replay_result again = result_from_json(text);
    // Not EXPECT_EQ: its line-by-line difference of megabytes takes minutes.
    EXPECT_TRUE(json_text(again) == text) << result.title;
  }
  const replay_result again = result_from_json(json_text(report_fixture::scarce()));
  const replay_result result = report_fixture::scarce();
  EXPECT_EQ(again.failures[2].context, result.failures[2].context);
  EXPECT_EQ(again.failures[2].order, result.failures[2].order);
  EXPECT_EQ(again.block_maps[5].blocks[1].owner, result.block_maps[5].blocks[1].owner);
  EXPECT_EQ(again.samples.back().failed_by_class, result.samples.back().failed_by_class);
  EXPECT_EQ(again.latency_ns[3].percentile(99.9), result.latency_ns[3].percentile(99.9));
  EXPECT_EQ(again.by_cache[1].name, result.by_cache[1].name);
  EXPECT_EQ(again.sleeps.by_gfp[1].length_ns.max(), result.sleeps.by_gfp[1].length_ns.max());
  EXPECT_EQ(again.sleeps.wakes[2].cause, "object");
  EXPECT_EQ(again.shrinkers[0].deferred, 3377u);
  EXPECT_EQ(vmstat_of(again, "kmem_kswapd_wakes"), 648u);
}

TEST(report_json, largest_numbers_survive) {
  replay_result result;
  result.total.events = UINT64_MAX;
  result.budget_bytes = UINT64_MAX;
  result.latency_ns[0].record(UINT64_MAX);
  const replay_result again = result_from_json(json_text(result));
  EXPECT_EQ(again.total.events, UINT64_MAX);
  EXPECT_EQ(again.budget_bytes, UINT64_MAX);
  EXPECT_EQ(again.latency_ns[0].max(), UINT64_MAX);
}

TEST(report_json, two_rows_of_one_name_are_both_kept) {
  replay_result result;
  cache_row row;
  row.name = "twice";
  row.slabs = 1;
  result.by_cache.push_back(row);
  row.slabs = 2;
  result.by_cache.push_back(row);
  const json document = to_json(result);
  EXPECT_EQ(keys_of(document["by_cache"]), (std::vector<std::string>{"twice", "twice #2"}));
  const replay_result again = result_from_json(json_text(result));
  ASSERT_EQ(again.by_cache.size(), 2u);
  EXPECT_EQ(again.by_cache[1].name, "twice");
  EXPECT_EQ(again.by_cache[1].slabs, 2u);
}

TEST(report_json, names_that_are_not_text_are_replaced) {
  replay_result result = report_fixture::scarce();
  result.by_cache[0].name = "bad\xFFname";
  result.traces[0].path = "\"\\\x01</script>";
  const json document = json::parse(json_text(result));
  EXPECT_TRUE(document["by_cache"].contains("bad\xEF\xBF\xBDname"));
  EXPECT_EQ(document["traces"][0]["path"], "\"\\\x01</script>");
}

TEST(report_json, refuses_what_it_cannot_be_with_the_place) {
  const json good = to_json(report_fixture::scarce());
  const auto changed = [&](auto change) {
    json copy = good;
    change(copy);
    return error_of(copy.dump());
  };
  EXPECT_EQ(error_of("{\"format\""), "document: not JSON at byte 10");
  EXPECT_EQ(error_of("[]"), "document: expected an object, found array");
  EXPECT_EQ(error_of("{}"), "format: missing");
  EXPECT_EQ(changed([](json& j) { j["format_version"] = 9; }),
            "document: this is 'kmem replay' version 9, expected 'kmem replay' version 1");
  EXPECT_EQ(changed([](json& j) { j.erase("failed"); }), "failed: missing");
  EXPECT_EQ(changed([](json& j) { j["failed"] = "many"; }), "failed: expected a whole number, found string");
  EXPECT_EQ(changed([](json& j) { j["failed"] = -1; }), "failed: -1 is out of range");
  EXPECT_EQ(changed([](json& j) { j["threads"] = 5'000'000'000; }), "threads: 5000000000 is out of range");
  EXPECT_EQ(changed([](json& j) { j["touch"] = 1; }), "touch: expected true or false, found number");
  EXPECT_EQ(changed([](json& j) { j["by_context"][0]["context"] = "dream"; }), "by_context[0].context: 'dream' is none of the known names");
  EXPECT_EQ(changed([](json& j) { j["samples"]["failed"].erase(0); }), "samples.failed: 900 values where the first column has 901");
  EXPECT_EQ(changed([](json& j) { j["latency_ns"]["free"]["max"] = 1; }), "latency_ns.free: the buckets do not fit min and max");
  EXPECT_EQ(changed([](json& j) { j["block_maps"][1]["blocks"][0] = {1, 2}; }), "block_maps[1].blocks[0]: expected an array of 5 values");
  EXPECT_EQ(changed([](json& j) { j["slabinfo"] = 3; }), "slabinfo: expected an array, found number");
  EXPECT_EQ(changed([](json& j) { j["new_key"] = 3; }), "accepted") << "keys of later versions are ignored";
}

TEST(report_json, a_cut_document_is_refused_wherever_it_is_cut) {
  const std::string text = json_text(report_fixture::scarce());
  for (std::size_t length = 0; length + 2 < text.size(); length += 4999) {
    EXPECT_NE(error_of(text.substr(0, length)), "accepted") << length;
  }
}

}  // namespace
