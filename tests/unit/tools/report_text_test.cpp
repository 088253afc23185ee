// Units, escaping, tables, the terminal report, the comparison and the progress line.

#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "report_fixture.hpp"
#include "tools/kmem/report/compare.hpp"
#include "tools/kmem/report/escape.hpp"
#include "tools/kmem/report/progress.hpp"
#include "tools/kmem/report/slabinfo.hpp"
#include "tools/kmem/report/table.hpp"
#include "tools/kmem/report/text.hpp"
#include "tools/kmem/report/units.hpp"

namespace {

using namespace kmem::tool::report;
using report_fixture::mib;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    lines.push_back(line);
  }
  return lines;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// ---- units ----

TEST(report_units, bytes) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1 KiB");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(64 * mib), "64 MiB");
  EXPECT_EQ(human_bytes(1024 * mib - 1), "1 GiB");
  EXPECT_EQ(human_bytes(UINT64_MAX), "16 EiB");
}

TEST(report_units, times_counts_and_shares) {
  EXPECT_EQ(human_ns(0), "0 ns");
  EXPECT_EQ(human_ns(999), "999 ns");
  EXPECT_EQ(human_ns(1340), "1.34 us");
  EXPECT_EQ(human_ns(2'100'000), "2.1 ms");
  EXPECT_EQ(human_ns(16'400'000'000), "16.4 s");
  EXPECT_EQ(human_count(0), "0");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(1000), "1 000");
  EXPECT_EQ(human_count(1234567), "1 234 567");
  EXPECT_EQ(short_count(470'123), "470 k");
  EXPECT_EQ(human_percent(0.0), "0 %");
  EXPECT_EQ(human_percent(0.04), "< 0.1 %");
  EXPECT_EQ(human_percent(3.44), "3.4 %");
  EXPECT_EQ(human_percent(9.96), "10 %");
  EXPECT_EQ(human_percent(std::nan("")), "0 %");
  EXPECT_EQ(per_second(100, 0), 0u);
  EXPECT_EQ(per_second(100, 500'000'000), 200u);
  EXPECT_EQ(whole_number(std::nan("")), 0u);
  EXPECT_EQ(whole_number(-4.0), 0u);
  EXPECT_GT(whole_number(std::numeric_limits<double>::infinity()), UINT64_MAX / 2);
}

TEST(report_units, shares_of_nothing_are_zero) {
  EXPECT_EQ(percent(5, 0), 0.0);
  const cache_row empty;
  EXPECT_EQ(rounding_waste_percent(empty), 0.0);
  EXPECT_EQ(slab_waste_percent(empty), 0.0);
  cache_row odd;  // more handed out than there are slabs for: must not wrap around
  odd.requested_bytes = 10;
  odd.allocated_bytes = 5;
  odd.active_objects = 100;
  odd.object_bytes = 100;
  odd.slabs = 1;
  odd.pages_per_slab = 1;
  EXPECT_EQ(rounding_waste_percent(odd), 0.0);
  EXPECT_EQ(slab_waste_bytes(odd), 0u);
}

// ---- escaping ----

TEST(report_escape, nothing_but_printable_ascii_reaches_a_terminal) {
  EXPECT_EQ(printable("dentry"), "dentry");
  EXPECT_EQ(printable("\x1b[31mred\x1b[0m\n"), "?[31mred?[0m?");
  EXPECT_EQ(printable("caf\xC3\xA9"), "caf??");
}

TEST(report_escape, html_references_and_bad_bytes) {
  EXPECT_EQ(html_escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
  EXPECT_EQ(html_escape("caf\xC3\xA9"), "caf\xC3\xA9");
  EXPECT_EQ(html_escape("\xFF|\x01"), "\xEF\xBF\xBD|\xEF\xBF\xBD");
  EXPECT_EQ(html_escape("\xC3"), "\xEF\xBF\xBD") << "cut in the middle of a character";
  EXPECT_EQ(html_escape("\xE0\x80\xAF"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD") << "overlong";
  EXPECT_EQ(html_escape_breakable("A|<"), "A|<wbr>&lt;");
  EXPECT_EQ(script_safe("\"</script>\""), "\"\\u003c/script>\"");
}

TEST(report_escape, utf8_lengths) {
  EXPECT_EQ(utf8_length(""), 0u);
  EXPECT_EQ(utf8_length("a"), 1u);
  EXPECT_EQ(utf8_length("\xC3\xA9"), 2u);
  EXPECT_EQ(utf8_length("\xE2\x82\xAC"), 3u);
  EXPECT_EQ(utf8_length("\xF0\x9F\x99\x82"), 4u);
  EXPECT_EQ(utf8_length("\xED\xA0\x80"), 0u) << "surrogate";
  EXPECT_EQ(utf8_length("\xC0\xAF"), 0u) << "overlong";
  EXPECT_EQ(utf8_length("\xF4\x90\x80\x80"), 0u) << "beyond Unicode";
  EXPECT_EQ(utf8_length("\xC2\x85"), 0u) << "C1 control";
  EXPECT_EQ(utf8_length("\x80"), 0u);
}

// ---- tables ----

TEST(report_table, columns_are_aligned) {
  text_table table({{"name", align::left}, {"count"}, {"note", align::left}});
  table.add({"a", "1", "x"});
  table.add({"longer", "1 000", "y"});
  table.add({"b", "20"});
  table.add_note("and more");
  EXPECT_EQ(table.render(false),
            "  name    count  note\n"
            "  a           1  x\n"
            "  longer  1 000  y\n"
            "  b          20\n"
            "  and more\n");
}

TEST(report_table, long_cells_go_on_in_further_lines) {
  text_table table({{"gfp", align::left, 12}, {"n"}});
  table.add({"GFP_A|GFP_B|GFP_C", "7"});
  EXPECT_EQ(table.render(false),
            "  gfp           n\n"
            "  GFP_A|GFP_B|  7\n"
            "  GFP_C\n");
}

TEST(report_table, colour_does_not_disturb_the_columns) {
  text_table table({{"name", align::left}, {"failed"}});
  table.add({"a", {"12", tint::red}});
  std::string coloured = table.render(true);
  EXPECT_TRUE(contains(coloured, "\x1b[31m12\x1b[0m"));
  for (std::size_t at = coloured.find('\x1b'); at != std::string::npos; at = coloured.find('\x1b')) {
    coloured.erase(at, coloured.find('m', at) - at + 1);
  }
  EXPECT_EQ(coloured, table.render(false));
}

TEST(report_table, wrapping) {
  using list = std::vector<std::string>;
  EXPECT_EQ(wrapped("one two three", 7), (list{"one two", "three"}));
  EXPECT_EQ(wrapped("one two three", 0), (list{"one two three"}));
  EXPECT_EQ(wrapped("abcdefgh", 3), (list{"abc", "def", "gh"}));
  EXPECT_EQ(wrapped("A|B|C", 4), (list{"A|B|", "C"}));
  EXPECT_EQ(wrapped("x\ny", 10), (list{"x", "y"}));
  EXPECT_EQ(wrapped("tail   ", 5), (list{"tail"}));
  EXPECT_EQ(wrapped("", 5), (list{""}));
  EXPECT_EQ(wrapped("  lead", 1), (list{"", "l", "e", "a", "d"})) << "comes to an end";
}

TEST(report_table, bars) {
  EXPECT_EQ(text_bar(50, 100, 10, false), "#####.....");
  EXPECT_EQ(text_bar(0, 100, 4, false), "....");
  EXPECT_EQ(text_bar(1, 1'000'000, 4, false), "#...") << "something is never drawn as nothing";
  EXPECT_EQ(text_bar(300, 100, 4, false), "####");
  EXPECT_EQ(text_bar(5, 0, 4, false), "....");
  for (std::uint64_t value = 0; value <= 200; ++value) {
    EXPECT_EQ(display_width(text_bar(value, 150, 17, true)), 17u) << value;
  }
}

TEST(report_table, slabinfo_keeps_the_largest) {
  const std::vector<std::string> lines{"slabinfo - version: 2.1",
                                       "# name  <a> <b> : tunables <c> : slabdata <d>",
                                       "small 1 1 8 512 1 : tunables 0 0 0 : slabdata 1 1 0",
                                       "large 9 10 4096 8 8 : tunables 0 0 0 : slabdata 2 2 0",
                                       "middle 1 10 64 64 1 : tunables 0 0 0 : slabdata 1 1 0",
                                       "not in this form"};
  const std::vector<std::string> expected{"slabinfo - version: 2.1", "# name  <a> <b> : slabdata <d>",
                                          "large 9 10 4096 8 8 : slabdata 2 2 0", "middle 1 10 64 64 1 : slabdata 1 1 0",
                                          "... and 2 smaller caches, in the JSON and HTML reports"};
  EXPECT_EQ(short_slabinfo(lines, 2, 98), expected);
  EXPECT_EQ(short_slabinfo(lines, 10, 98).size(), lines.size());
  EXPECT_TRUE(short_slabinfo({}, 5, 98).empty());
}

// ---- the report ----

void expect_narrow(const std::string& text) {
  for (const std::string& line : lines_of(text)) {
    EXPECT_LE(display_width(line), 100u) << line;
    EXPECT_TRUE(line.empty() || line.back() != ' ') << line;
  }
}

TEST(report_text, fits_100_columns_and_has_every_part) {
  const replay_result result = report_fixture::scarce();
  text_options options;
  options.top_rows = 0;
  const std::string text = text_report(result, options);
  expect_narrow(text);
  for (const char* part : {"net.trace.zst in 96 MiB",
                           "Linux 6.1.192",
                           "2 threads, memory touched, contents verified",
                           "Budget 96 MiB",
                           "charged, peak",
                           "live, peak",
                           "metadata, peak",
                           "reclaimed:",
                           "Events",
                           "kmem_cache_alloc",
                           "Allocations by gfp flags",
                           "Allocations by class and context",
                           "softirq",
                           "Failures",
                           "last step reached",
                           "first failures:",
                           "Sleeping for memory",
                           "421 sleeps",
                           "every thread was seen to wait 1 times",
                           "exhausted",
                           "8 pages",
                           "and woke",
                           "Reserve and reclaim",
                           "lowest",
                           "watermarks then: min 2 MiB, low 2.5 MiB, high 3 MiB",
                           "kswapd was woken 648 times, made 653 rounds (17 in vain), gave up 1 times, slept 551 ms of 1.93 s",
                           "allocations came to reclaim themselves 612 times",
                           "clean page cache",
                           "Latency by path",
                           "p99.9",
                           "slow chain",
                           "Waste by cache at the charged peak",
                           "Waste by size class",
                           "kmalloc-64",
                           "slabinfo",
                           "buddyinfo",
                           "Movable",
                           "kfree(NULL)"}) {
    EXPECT_TRUE(contains(text, part)) << part;
  }
  for (const cache_row& row : result.by_cache) {
    EXPECT_TRUE(contains(text, row.name)) << row.name;
  }
}

TEST(report_text, shows_figures_of_the_result) {
  replay_result result = report_fixture::scarce();
  result.total.failed = 7654321;
  result.total.errors = 2;
  result.errors = {{0, 4711, "object of kmalloc-64: byte 3 is 0x00, expected 0x5a"}};
  const std::string text = text_report(result, {});
  EXPECT_TRUE(contains(text, "7 654 321"));
  EXPECT_TRUE(contains(text, "4 711"));
  EXPECT_TRUE(contains(text, "byte 3 is 0x00, expected 0x5a"));
  EXPECT_TRUE(contains(text, "... 2 in all"));
  EXPECT_TRUE(contains(text, "2 errors found"));
}

TEST(report_text, tells_who_woke_whom_and_what_reclaim_did) {
  const std::string text = text_report(report_fixture::scarce(), {});
  const auto line_with = [&](const char* first, const char* second) {
    for (const std::string& line : lines_of(text)) {
      if (contains(line, first) && contains(line, second)) return line;
    }
    return std::string();
  };
  const std::string most = line_with("freed pages", "CPU 0");
  EXPECT_TRUE(contains(most, "CPU 1")) << most;
  EXPECT_TRUE(contains(most, "210")) << most;
  EXPECT_TRUE(contains(most, "61 ms")) << most;
  EXPECT_FALSE(line_with("freed an object", "64").empty());
  EXPECT_FALSE(line_with("kswapd", "reclaimed").empty());
  EXPECT_FALSE(line_with("nobody", "90 ms").empty());
  EXPECT_TRUE(contains(line_with("kswapd", "193 139"), "58 627"));
  EXPECT_TRUE(contains(line_with("allocations", "39 321"), "38 799"));
  EXPECT_TRUE(contains(line_with("anonymous memory", "__GFP_IO"), "50 590"));
  const std::string calm = text_report(report_fixture::plentiful(), {});
  EXPECT_FALSE(contains(calm, "Sleeping for memory"));
  EXPECT_TRUE(contains(calm, "kswapd did not run"));
}

TEST(report_text, threads_of_a_cpu_are_one_pair) {
  replay_result result = report_fixture::scarce();
  result.sleeps.wakes = {{"CPU 1", "replay-1", "page", "CPU 0", "replay-0", 700, 5'000'000},
                         {"CPU 1", "replay-3", "page", "CPU 0", "replay-2", 77, 1'000'000}};
  const std::string text = text_report(result, {});
  EXPECT_TRUE(contains(text, "777"));
  EXPECT_TRUE(contains(text, "6 ms"));
}

TEST(report_result, sleeps_by_length_go_in_steps_of_ten) {
  latency_histogram lengths;
  EXPECT_TRUE(by_decade(lengths).empty());
  lengths.record(5'000, 3);
  lengths.record(9'000);
  lengths.record(10'000'000, 2);
  const std::vector<decade_row> rows = by_decade(lengths);
  ASSERT_EQ(rows.size(), 5u) << "empty steps in between count";
  EXPECT_EQ(rows[0].low_ns, 1'000u);
  EXPECT_EQ(rows[0].count, 4u);
  EXPECT_EQ(rows[1].count, 0u);
  EXPECT_EQ(rows[4].low_ns, 10'000'000u);
  EXPECT_EQ(rows[4].count, 2u);
  latency_histogram extremes;
  extremes.record(0);
  extremes.record(UINT64_MAX);
  std::uint64_t sum = 0;
  for (const decade_row& row : by_decade(extremes)) sum += row.count;
  EXPECT_EQ(sum, 2u);
}

TEST(report_result, the_lowest_reserve_is_the_first_of_several) {
  replay_result result;
  EXPECT_EQ(lowest_reserve(result), nullptr);
  result.samples.resize(4);
  EXPECT_EQ(lowest_reserve(result), nullptr) << "there never was one";
  result.samples[0].reserve_bytes = 8;
  result.samples[1].reserve_bytes = 3;
  result.samples[2].reserve_bytes = 3;
  result.samples[3].reserve_bytes = 5;
  EXPECT_EQ(lowest_reserve(result), &result.samples[1]);
}

TEST(report_text, short_lists_still_show_what_failed) {
  replay_result result = report_fixture::scarce();
  gfp_row rare;
  rare.gfp = "GFP_RARE";
  rare.gfp_class = "other";
  rare.allocs = 1;
  rare.failed = 1;
  result.by_gfp.push_back(rare);
  text_options options;
  options.top_rows = 1;
  const std::string text = text_report(result, options);
  EXPECT_TRUE(contains(text, "GFP_RARE"));
  EXPECT_TRUE(contains(text, "more, in the JSON and HTML reports"));
  expect_narrow(text);
}

TEST(report_text, without_failures_there_is_no_failure_section) {
  const std::string text = text_report(report_fixture::plentiful(), {});
  EXPECT_FALSE(contains(text, "Failures"));
  EXPECT_TRUE(contains(text, "all 414 084 allocations were served"));
}

TEST(report_text, without_unicode_it_is_ascii) {
  text_options options;
  options.unicode = false;
  const std::string text =
      text_report(report_fixture::scarce(), options) + text_comparison(report_fixture::plentiful(), report_fixture::scarce(), options);
  for (const char byte : text) {
    ASSERT_TRUE(byte == '\n' || (byte >= 0x20 && byte < 0x7F));
  }
}

TEST(report_text, escape_sequences_of_a_trace_do_not_get_through) {
  replay_result result = report_fixture::scarce();
  const std::string evil = "\x1b]0;owned\x07";
  result.title = result.kmem_version = result.stop_reason = result.cache_moment = evil;
  result.completed = false;
  result.traces[0].path = result.traces[0].kernel = evil;
  result.by_gfp[1].gfp = result.by_gfp[1].gfp_class = evil;
  result.by_gfp[1].failed_by_step = {{evil, 3}};
  result.by_context[0].gfp_class = evil;
  result.by_kind[0].kind = evil;
  result.by_cache[0].name = evil;
  result.failures[0].cache = result.failures[0].gfp = evil;
  result.slabinfo.push_back(evil);
  result.buddyinfo.push_back(evil);
  result.errors = {{0, 1, evil}};
  result.parameters = {{evil, evil}};
  const std::string text = text_report(result, {}) + text_comparison(result, report_fixture::plentiful(), {});
  EXPECT_FALSE(contains(text, "\x1b"));
  EXPECT_FALSE(contains(text, "\x07"));
  EXPECT_TRUE(contains(text, "?]0;owned?"));
}

TEST(report_text, an_empty_result_is_no_trouble) {
  const std::string text = text_report({}, {});
  EXPECT_TRUE(contains(text, "nothing was allocated"));
  EXPECT_FALSE(contains(text, "nan"));
  expect_narrow(text);
  EXPECT_TRUE(contains(text_comparison({}, {}, {}), "No flag and no context fared differently."));
}

TEST(report_text, colour_only_for_a_terminal_that_wants_it) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_FALSE(options_for_stream(ends[1]).colour);
  int master = -1;
  int terminal = -1;
  ASSERT_EQ(openpty(&master, &terminal, nullptr, nullptr, nullptr), 0);
  unsetenv("NO_COLOR");
  setenv("TERM", "xterm", 1);
  EXPECT_TRUE(options_for_stream(terminal).colour);
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(options_for_stream(terminal).colour);
  setenv("TERM", "xterm", 1);
  setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(options_for_stream(terminal).colour);
  unsetenv("NO_COLOR");
  setenv("LC_ALL", "C", 1);
  EXPECT_FALSE(options_for_stream(terminal).unicode);
  setenv("LC_ALL", "C.UTF-8", 1);
  EXPECT_TRUE(options_for_stream(terminal).unicode);
  unsetenv("LC_ALL");
  for (const int descriptor : {ends[0], ends[1], master, terminal}) {
    close(descriptor);
  }
}

// ---- the comparison ----

TEST(report_compare, names_what_differed_by_flag_context_and_step) {
  const replay_result enough = report_fixture::plentiful();
  const replay_result scarce = report_fixture::scarce();
  const std::string text = text_comparison(enough, scarce, {});
  expect_narrow(text);
  for (const char* part : {"320 MiB: all 414 084 allocations were served", "96 MiB: 4 182 of 414 084", "What differed, by gfp flags",
                           "by class and context", "GFP_NOIO", "larger classes", "softirq", "failed, 96 MiB", "slow chain, p99"}) {
    EXPECT_TRUE(contains(text, part)) << part;
  }
}

TEST(report_compare, joins_rows_and_sorts_by_difference) {
  replay_result first;
  replay_result second;
  const auto row = [](const char* gfp, std::uint64_t allocs, std::uint64_t failed) {
    gfp_row one;
    one.gfp = gfp;
    one.allocs = allocs;
    one.failed = failed;
    return one;
  };
  first.by_gfp = {row("A", 10, 0), row("B", 10, 9), row("only first", 3, 0), row("nothing", 0, 0)};
  second.by_gfp = {row("B", 10, 2), row("A", 10, 3), row("only second", 4, 1)};
  const std::vector<outcome_pair> rows = compare_by_gfp(first, second);
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0].name, "B");
  EXPECT_EQ(rows[0].first.failed, 9u);
  EXPECT_EQ(rows[0].second.failed, 2u);
  EXPECT_EQ(rows[1].name, "A");
  EXPECT_EQ(rows[2].name, "only second");
  EXPECT_EQ(rows[2].first.allocs, 0u);
  EXPECT_EQ(rows[3].name, "only first");
}

TEST(report_compare, verdicts) {
  replay_result result;
  EXPECT_EQ(verdict(result), "nothing was allocated");
  EXPECT_TRUE(is_clean(result));
  result.total.allocs = 1000;
  EXPECT_EQ(verdict(result), "all 1 000 allocations were served");
  result.total.failed = 5;
  EXPECT_EQ(verdict(result), "5 of 1 000 allocations returned NULL (0.5 %)");
  EXPECT_FALSE(is_clean(result));
  result.total.failed = 0;
  result.total.errors = 1;
  EXPECT_EQ(verdict(result), "all 1 000 allocations were served, 1 error found");
  EXPECT_FALSE(is_clean(result));
  result.total.errors = 0;
  result.completed = false;
  result.stop_reason = "interrupted";
  EXPECT_EQ(verdict(result), "all 1 000 allocations were served; stopped early: interrupted");
  EXPECT_FALSE(is_clean(result));
}

// ---- progress ----

TEST(report_progress, a_line_fits_and_says_the_essentials) {
  const progress_state state{50, 100, 1'234'567, 40 * mib, 64 * mib, 12};
  EXPECT_EQ(progress_bar::line(state, 2'000'000'000, 100, false, false),
            "###############...............  50 %  1.23 M events  617 k/s  charged 40 MiB of 64 MiB  12 failed");
  for (std::size_t columns = 1; columns < 140; ++columns) {
    EXPECT_LE(display_width(progress_bar::line(state, 2'000'000'000, columns, false, true)), columns);
  }
  EXPECT_EQ(progress_bar::line({}, 0, 80, false, false), "  0 events  0/s  charged 0 B of 0 B") << "an unknown whole has no bar";
}

TEST(report_progress, is_rate_limited_and_takes_itself_away) {
  std::vector<std::string> written;
  std::uint64_t now = 1'000'000'000'000;
  {
    progress_bar bar([&](const std::string& text) { written.push_back(text); }, [&] { return now; }, 80, false, false);
    for (int number = 0; number < 1000; ++number) {
      bar.update({static_cast<std::uint64_t>(number), 1000, 1, 1, 1, 0});
      now += 1'000'000;  // one second in all
    }
    EXPECT_EQ(written.size(), 10u);
    bar.clear();
    EXPECT_EQ(written.size(), 11u);
    bar.clear();
    EXPECT_EQ(written.size(), 11u) << "nothing is left to take away";
    bar.update({1, 2, 3, 4, 5, 6});
    EXPECT_EQ(written.size(), 12u) << "comes back at once";
  }
  EXPECT_EQ(written.back(), "\r\x1b[K");
  for (const std::string& text : written) {
    EXPECT_EQ(text.front(), '\r');
    EXPECT_FALSE(contains(text, "\n"));
  }
}

TEST(report_progress, a_pipe_gets_nothing) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  {
    progress_bar bar(ends[1]);
    bar.update({1, 2, 3, 4, 5, 6});
  }
  close(ends[1]);
  char byte = 0;
  EXPECT_EQ(read(ends[0], &byte, 1), 0) << "end of file, no byte before it";
  close(ends[0]);
}

}  // namespace
