// The HTML report: well-formed, self-contained, complete, and nothing of a trace is taken for markup.

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "report_fixture.hpp"
#include "tools/kmem/report/html.hpp"
#include "tools/kmem/report/html_parts.hpp"
#include "tools/kmem/report/svg.hpp"

namespace {

using namespace kmem::tool::report;

// Reads a page strictly: every tag closed in order, attributes in double quotes, references known, ids unique.
class page_reader {
 public:
  explicit page_reader(std::string_view page) : rest_(page) { read(); }

  std::string fault;  // empty: well-formed
  std::set<std::string> ids;
  std::vector<std::string> scripts;  // contents
  std::size_t tags = 0;
  std::string text;  // outside of tags, references undone

 private:
  void fail(const std::string& what) {
    if (fault.empty()) {
      fault = what + " before: " + std::string(rest_.substr(0, 60));
    }
    rest_ = {};
  }

  void read() {
    constexpr std::string_view doctype = "<!DOCTYPE html>\n";
    if (!rest_.starts_with(doctype)) {
      return fail("no doctype");
    }
    rest_.remove_prefix(doctype.size());
    while (!rest_.empty()) {
      if (rest_.front() == '<') {
        read_tag();
      } else if (rest_.front() == '>') {
        fail("bare >");
      } else {
        read_character(text);
      }
    }
    if (fault.empty() && !open_.empty()) {
      fault = "not closed: " + open_.back();
    }
  }

  void read_character(std::string& out) {
    if (rest_.front() != '&') {
      out += rest_.front();
      rest_.remove_prefix(1);
      return;
    }
    static constexpr std::pair<std::string_view, char> references[] = {
        {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&#39;", '\''}};
    for (const auto& [reference, character] : references) {
      if (rest_.starts_with(reference)) {
        out += character;
        rest_.remove_prefix(reference.size());
        return;
      }
    }
    fail("unknown reference");
  }

  std::string read_name() {
    std::string name;
    while (!rest_.empty() && (std::isalnum(static_cast<unsigned char>(rest_.front())) != 0 || rest_.front() == '-')) {
      name += rest_.front();
      rest_.remove_prefix(1);
    }
    return name;
  }

  void read_tag() {
    ++tags;
    rest_.remove_prefix(1);
    const bool closing = rest_.starts_with('/');
    rest_.remove_prefix(closing ? 1 : 0);
    const std::string name = read_name();
    if (name.empty()) {
      return fail("a < that starts no tag");
    }
    if (closing) {
      if (open_.empty() || open_.back() != name || !rest_.starts_with('>')) {
        return fail("</" + name + "> closes nothing");
      }
      open_.pop_back();
      rest_.remove_prefix(1);
      return;
    }
    const bool closed = read_attributes(name);
    static const std::set<std::string> empty{"meta", "input", "br", "wbr"};
    if (!closed && empty.count(name) == 0) {
      open_.push_back(name);
      if (name == "script" || name == "style") {
        read_raw(name);
      }
    }
  }

  // Return: whether the tag closed itself.
  bool read_attributes(const std::string& tag) {
    while (!rest_.empty()) {
      while (rest_.starts_with(' ')) {
        rest_.remove_prefix(1);
      }
      if (rest_.starts_with("/>")) {
        rest_.remove_prefix(2);
        return true;
      }
      if (rest_.starts_with('>')) {
        rest_.remove_prefix(1);
        return false;
      }
      const std::string name = read_name();
      if (name.empty() || !rest_.starts_with("=\"")) {
        fail("a bad attribute in <" + tag);
        return true;
      }
      rest_.remove_prefix(2);
      std::string value;
      while (!rest_.empty() && rest_.front() != '"') {
        if (rest_.front() == '<' || rest_.front() == '>') {
          fail("bare < or > in " + name);
          return true;
        }
        read_character(value);
      }
      rest_.remove_prefix(rest_.empty() ? 0 : 1);
      if (name.starts_with("on") || name == "src" || (name == "href" && !value.starts_with('#'))) {
        fail("an attribute that fetches or runs something: " + name);
      }
      if (name == "id" && !ids.insert(value).second) {
        fail("id used twice: " + value);
      }
    }
    fail("<" + tag + " does not end");
    return true;
  }

  void read_raw(const std::string& name) {
    const std::size_t end = rest_.find("</" + name + ">");
    if (end == std::string_view::npos) {
      return fail("<" + name + "> does not end");
    }
    const std::string content(rest_.substr(0, end));
    if (name == "script") {
      scripts.push_back(content);
    }
    for (const char* fetching : {"http:", "https:", "url(", "@import", "fetch(", "XMLHttpRequest", "innerHTML", "eval("}) {
      if (content.find(fetching) != std::string::npos) {
        return fail(std::string("<") + name + "> has " + fetching);
      }
    }
    rest_.remove_prefix(end);
  }

  std::string_view rest_;
  std::vector<std::string> open_;
};

const std::vector<std::string> section_ids{"time", "flags", "failures", "reserve", "sleeps",
                                           "blocks-section", "latency", "waste", "details"};

// Every string of the result that a trace or a user can choose.
replay_result with_names(const std::string& name) {
  replay_result result = report_fixture::scarce();
  result.title = result.kmem_version = result.stop_reason = result.cache_moment = name;
  result.completed = false;
  for (sleep_row& row : result.sleeps.by_end) row.name = name;
  for (sleep_row& row : result.sleeps.by_gfp) row.name = name;
  for (sleep_row& row : result.sleeps.by_cpu) row.name = name;
  for (sleep_row& row : result.sleeps.by_pages) row.name = name;
  for (wake_row& row : result.sleeps.wakes) row.waker = row.waker_thread = row.cause = row.sleeper = row.sleeper_thread = name;
  for (shrinker_row& row : result.shrinkers) row.name = row.needs = name;
  for (name_count& row : result.vmstat) row.name = name;
  result.parameters = {{name, name}};
  result.traces[0].path = result.traces[0].kernel = result.traces[0].compression = name;
  for (gfp_row& row : result.by_gfp) {
    row.gfp += name;
    row.gfp_class = name;
    row.failed_by_step.push_back({name, 3});
  }
  for (context_row& row : result.by_context) {
    row.gfp_class = name;
  }
  for (kind_row& row : result.by_kind) {
    row.kind = name;
  }
  for (cache_row& row : result.by_cache) {
    row.name = name;
  }
  for (failure_record& record : result.failures) {
    record.gfp = record.gfp_class = record.cache = record.step = record.zone = record.kind = name;
  }
  for (std::string& cache : result.block_caches) {
    cache = name;
  }
  for (block_snapshot& snapshot : result.block_maps) {
    snapshot.label = name;
  }
  result.gfp_classes.back() = name;
  result.slabinfo.push_back(name);
  result.buddyinfo.push_back(name);
  result.errors = {{0, 3, name}};
  result.total.errors = 1;
  return result;
}

void expect_well_formed(const std::string& page) {
  const page_reader reader(page);
  EXPECT_EQ(reader.fault, "");
  EXPECT_GT(reader.tags, 50u);
  ASSERT_FALSE(reader.scripts.empty());
  for (std::size_t number = 0; number + 1 < reader.scripts.size(); ++number) {
    EXPECT_TRUE(nlohmann::json::accept(reader.scripts[number])) << "all but the last script are data";
  }
  for (const char* odd : {"\"nan", "\"inf", " nan", " inf", "-nan", "-inf"}) {
    EXPECT_EQ(page.find(odd), std::string::npos) << odd;
  }
}

TEST(report_html, the_reader_of_this_test_sees_faults) {
  const auto fault_of = [](const std::string& body) { return page_reader("<!DOCTYPE html>\n" + body).fault; };
  EXPECT_EQ(fault_of("<p class=\"x\">a &amp; b<br>c<rect x=\"1\" /></p>"), "");
  EXPECT_NE(fault_of("<p><b></p></b>"), "");
  EXPECT_NE(fault_of("<p>"), "");
  EXPECT_NE(fault_of("a < b"), "");
  EXPECT_NE(fault_of("a & b"), "");
  EXPECT_NE(fault_of("<p class=x></p>"), "");
  EXPECT_NE(fault_of("<p onclick=\"x\"></p>"), "");
  EXPECT_NE(fault_of("<p id=\"a\"></p><p id=\"a\"></p>"), "");
  EXPECT_NE(fault_of("<a href=\"https://example.org\"></a>"), "");
}

TEST(report_html, is_well_formed_self_contained_and_complete) {
  for (const replay_result& result : {report_fixture::scarce(), report_fixture::plentiful()}) {
    const std::string page = html_report(result);
    expect_well_formed(page);
    const page_reader reader(page);
    for (const std::string& id : section_ids) {
      EXPECT_EQ(reader.ids.count(id), 1u) << id;
      EXPECT_NE(page.find("href=\"#" + id + "\""), std::string::npos) << id;
    }
    for (const char* text : {"net.trace.zst in", "Charged, peak", "Live, peak", "Metadata, peak", "Returned NULL", "Memory over time",
                             "task, atomic", "GFP_HIGHUSER_MOVABLE", "Page blocks", "page allocator", "p99.9", "vm_area_struct",
                             "kmalloc-64", "slabinfo", "buddyinfo", "kmem_cache_alloc", "vm.min_free_kbytes"}) {
      EXPECT_NE(reader.text.find(text), std::string::npos) << text;
    }
  }
}

TEST(report_html, every_cache_and_gfp_string_is_in_it) {
  const replay_result result = report_fixture::scarce();
  const page_reader reader(html_report(result));
  for (const cache_row& row : result.by_cache) {
    EXPECT_NE(reader.text.find(row.name), std::string::npos) << row.name;
  }
  for (const gfp_row& row : result.by_gfp) {
    EXPECT_NE(reader.text.find(row.gfp), std::string::npos) << row.gfp;
  }
  for (const std::string& line : result.slabinfo) {
    EXPECT_NE(reader.text.find(line), std::string::npos) << line;
  }
}

TEST(report_html, names_are_never_markup) {
  const std::string evil_names[] = {"<script>alert(1)</script>",
                                    "\"><img src=x onerror=alert(1)>",
                                    "</script><script>alert(1)</script>",
                                    "<!--",
                                    "]]>",
                                    "' onmouseover='alert(1)",
                                    "&lt;b&gt;",
                                    std::string("nul\0byte", 8),
                                    "\xFF\xC0\xAF\x1b[31m",
                                    "a\nb\tc"};
  const std::size_t scripts = page_reader(html_report(report_fixture::scarce())).scripts.size();
  for (const std::string& name : evil_names) {
    const std::string page = html_report(with_names(name));
    expect_well_formed(page);
    EXPECT_EQ(page_reader(page).scripts.size(), scripts) << name;
    expect_well_formed(html_comparison(with_names(name), report_fixture::plentiful()));
  }
  const page_reader reader(html_report(with_names("<script>alert(1)</script>")));
  EXPECT_NE(reader.text.find("<script>alert(1)</script>"), std::string::npos) << "it is there, as text";
}

TEST(report_html, an_empty_result_is_no_trouble) {
  const std::string page = html_report({});
  expect_well_formed(page);
  const page_reader reader(page);
  for (const std::string& id : section_ids) {
    EXPECT_EQ(reader.ids.count(id), 1u) << id;
  }
  EXPECT_NE(reader.text.find("nothing was allocated"), std::string::npos);
  expect_well_formed(html_comparison({}, {}));
}

TEST(report_html, extreme_figures_are_no_trouble) {
  replay_result result = report_fixture::scarce();
  for (sample& one : result.samples) {
    one.time_ns = 0;
    one.charged_bytes = one.live_bytes = one.budget_bytes = one.reserve_bytes = one.failed = UINT64_MAX;
    one.metadata_bytes = one.free_present_bytes = 0;
    one.free_bytes = one.min_bytes = one.low_bytes = one.high_bytes = one.sleeps = UINT64_MAX;
  }
  result.budget_bytes = UINT64_MAX;
  result.wall_ns = 1;
  result.total.events = UINT64_MAX;
  result.latency_ns[0].record(UINT64_MAX);
  result.latency_ns[1].record(0);
  result.block_maps[0].blocks[0].used_pages = UINT32_MAX;
  result.block_maps[0].blocks[0].index = UINT32_MAX;
  result.block_maps[0].blocks[1].cache = 1'000'000;
  result.by_cache[0].slabs = UINT64_MAX / page_bytes;
  result.by_context[0].allocs = UINT64_MAX;
  result.sleeps.length_ns.record(UINT64_MAX);
  result.sleeps.wakes[0].wakes = result.sleeps.wakes[1].slept_ns = UINT64_MAX;
  result.shrinkers[0].freed = result.vmstat[0].count = UINT64_MAX;
  expect_well_formed(html_report(result));
  result.samples.resize(1);
  expect_well_formed(html_report(result));
  for (sample& one : result.samples) {
    one = sample{};
  }
  expect_well_formed(html_report(result));
  expect_well_formed(html_comparison(result, replay_result{}));
}

TEST(report_html, a_large_machine_stays_a_reasonable_page) {
  replay_result result = report_fixture::scarce();
  result.block_maps.clear();
  for (std::uint64_t moment = 0; moment < 120; ++moment) {
    block_snapshot snapshot;
    snapshot.time_ns = moment * 1'000'000;
    for (std::uint32_t index = 0; index < 6000; ++index) {
      snapshot.blocks.push_back({index, block_owner::pages, -1, 500, 512});
    }
    result.block_maps.push_back(std::move(snapshot));
  }
  result.block_maps[77].label = "charged peak";
  const std::string page = html_report(result);
  expect_well_formed(page);
  EXPECT_LT(page.size(), 8u * 1024 * 1024);
  EXPECT_NE(page.find("\"l\":\"charged peak\""), std::string::npos) << "a labelled snapshot is never left out";
}

TEST(report_html, pictures_carry_the_data_of_the_samples) {
  const replay_result result = report_fixture::scarce();
  const page_reader reader(html_report(result));
  const nlohmann::json data = nlohmann::json::parse(reader.scripts[0]);
  ASSERT_TRUE(data.contains("rows"));
  std::uint64_t highest = 0;
  for (const nlohmann::json& row : data["rows"]) {
    EXPECT_EQ(row["v"].size(), data["t"].size()) << row["n"];
    if (row["n"] == "charged") {
      highest = *std::max_element(row["v"].begin(), row["v"].end());
    }
  }
  EXPECT_EQ(highest, result.peak.charged_bytes) << "thinning keeps the peak";
}

TEST(report_html, shows_who_woke_whom_and_what_was_left) {
  const replay_result result = report_fixture::scarce();
  const std::string page = html_report(result);
  const page_reader reader(page);
  for (const char* text : {"Who woke whom", "kswapd", "freed pages", "freed an object", "exhausted", "8 pages", "648 wake-ups",
                           "58 627 pages", "clean page cache", "50 590", "watermarks", "min", "high", "Sleeps"}) {
    EXPECT_NE(reader.text.find(text), std::string::npos) << text;
  }
  EXPECT_NE(page.find("data-tip=\"CPU 1 woke CPU 0\n210 freed pages\n9 reclaimed for itself\nslept 61.7 ms\""), std::string::npos);
  const nlohmann::json data = nlohmann::json::parse(reader.scripts[1]);
  std::uint64_t lowest = UINT64_MAX;
  std::uint64_t sleeps = 0;
  for (const nlohmann::json& row : data["rows"]) {
    EXPECT_EQ(row["v"].size(), data["t"].size()) << row["n"];
    if (row["n"] == "reserve") lowest = *std::min_element(row["v"].begin(), row["v"].end());
    if (row["n"] == "sleeps so far") sleeps = row["v"].back();
  }
  EXPECT_EQ(lowest, lowest_reserve(result)->reserve_bytes) << "thinning keeps the dip";
  EXPECT_EQ(sleeps, result.samples.back().sleeps);
  EXPECT_NE(page_reader(html_report(report_fixture::plentiful())).text.find("No allocation had to sleep."), std::string::npos);
}

TEST(report_html, a_matrix_of_many_cpus_shows_those_that_woke_most) {
  replay_result result = report_fixture::scarce();
  result.sleeps.wakes.clear();
  for (unsigned cpu = 0; cpu < 100; ++cpu) {
    const std::string name = "CPU " + std::to_string(cpu);
    result.sleeps.wakes.push_back({name, "replay", "page", name, "replay", cpu + 1, 1});
  }
  const std::string page = html_report(result);
  expect_well_formed(page);
  EXPECT_NE(page.find("CPU 99 woke CPU 99"), std::string::npos);
  EXPECT_NE(page.find("CPU 84 woke CPU 84"), std::string::npos);
  EXPECT_EQ(page.find("CPU 83 woke CPU 83"), std::string::npos);
}

TEST(report_html, comparison_shows_what_differed) {
  const std::string page = html_comparison(report_fixture::plentiful(), report_fixture::scarce());
  expect_well_formed(page);
  const page_reader reader(page);
  for (const char* text : {"320 MiB", "96 MiB", "GFP_NOIO", "larger classes", "softirq", "all 414 084 allocations were served"}) {
    EXPECT_NE(reader.text.find(text), std::string::npos) << text;
  }
}

TEST(report_html, thinning_keeps_peaks_and_the_end) {
  std::vector<sample> samples(1000);
  for (std::size_t number = 0; number < samples.size(); ++number) {
    samples[number].time_ns = number;
    samples[number].charged_bytes = number % 7;
  }
  samples[412].charged_bytes = 99;
  const std::vector<sample> few = thinned(samples, 50);
  ASSERT_EQ(few.size(), 50u);
  EXPECT_EQ(few.back().time_ns, 999u);
  EXPECT_TRUE(std::any_of(few.begin(), few.end(), [](const sample& one) { return one.charged_bytes == 99; }));
  EXPECT_TRUE(std::is_sorted(few.begin(), few.end(), [](const sample& one, const sample& other) { return one.time_ns < other.time_ns; }));
  EXPECT_EQ(thinned(samples, 1000).size(), 1000u);
  EXPECT_TRUE(thinned({}, 10).empty());
}

TEST(report_html, ticks_are_round_and_end) {
  using list = std::vector<std::uint64_t>;
  EXPECT_EQ(decimal_ticks(0, 5), (list{0}));
  EXPECT_EQ(decimal_ticks(10, 5), (list{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(decimal_ticks(16, 9), (list{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}));
  EXPECT_EQ(decimal_ticks(230, 4), (list{0, 100, 200}));
  EXPECT_EQ(byte_ticks(100, 4), (list{0, 32, 64, 96}));
  for (const std::uint64_t max : {std::uint64_t{1}, std::uint64_t{7}, UINT64_MAX / 2, UINT64_MAX}) {
    for (const list& ticks : {byte_ticks(max, 5), decimal_ticks(max, 5)}) {
      EXPECT_EQ(ticks.front(), 0u);
      EXPECT_LE(ticks.size(), 20u);
      EXPECT_TRUE(std::is_sorted(ticks.begin(), ticks.end()));
    }
  }
}

}  // namespace
