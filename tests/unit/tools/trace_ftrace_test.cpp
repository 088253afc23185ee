// One line of ftrace text to one event: every form that kernels 5.x and 6.x and trace-cmd write, and what is not one.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "tools/kmem/trace/ftrace.hpp"

namespace kmem::tool::trace {
namespace {

using testing::HasSubstr;

class trace_ftrace : public testing::Test {
 protected:
  event parse(std::string_view line) {
    event result;
    const auto outcome = parser.parse(line, ++line_number, result);
    EXPECT_EQ(outcome, line_parser::outcome::event) << line << "\n"
                                                    << (outcome == line_parser::outcome::error ? parser.error().to_string() : "");
    return result;
  }
  void skip(std::string_view line) {
    event result;
    const auto outcome = parser.parse(line, ++line_number, result);
    EXPECT_EQ(outcome, line_parser::outcome::skipped) << line << "\n"
                                                      << (outcome == line_parser::outcome::error ? parser.error().to_string() : "");
  }
  trace_error fail(std::string_view line) {
    event result;
    EXPECT_EQ(parser.parse(line, ++line_number, result), line_parser::outcome::error) << line;
    EXPECT_EQ(parser.error().line, line_number);
    return parser.error();
  }
  // A kfree with this in front of "kfree: ...".
  event kfree(const std::string& prefix) { return parse(prefix + " kfree: call_site=free_task+0x1b/0x70 ptr=ffff8c5bc8e3f240"); }
  call_context context(const std::string& columns) { return kfree("          <idle>-0       [000] " + columns + "     1.5:").context; }

  string_table strings;
  line_parser parser{strings};
  std::uint64_t line_number = 0;
};

const std::string prefix = "              wl-677     [001] .....     7.904375: ";

TEST_F(trace_ftrace, kmalloc_of_6_1) {
  const event got = parse(
      "          tar-1043    [001] d.s2.     7.904375: kmalloc: call_site=security_task_alloc+0xbf/0xe0 ptr=ffff8c5bcc6c5960 bytes_req=72 "
      "bytes_alloc=96 gfp_flags=GFP_KERNEL|__GFP_ZERO node=-1 accounted=false");
  EXPECT_EQ(got.kind, event_kind::kmalloc);
  EXPECT_EQ(got.pid, 1043);
  EXPECT_EQ(got.cpu, 1);
  EXPECT_EQ(got.timestamp_ns, 7904375000u);
  EXPECT_EQ(got.address, 0xffff8c5bcc6c5960u);
  EXPECT_EQ(got.bytes_req, 72u);
  EXPECT_EQ(got.bytes_alloc, 96u);
  EXPECT_EQ(got.gfp, 0xdc0u);
  EXPECT_EQ(got.node, -1);
  EXPECT_EQ(strings.view(got.call_site), "security_task_alloc+0xbf/0xe0");
  EXPECT_EQ(got.line, 1u);
  EXPECT_EQ(got.context.bits, call_context::irqs_off | call_context::softirq);
  EXPECT_EQ(got.context.preempt_depth, 2);
  EXPECT_FALSE(got.failed);
  EXPECT_FALSE(got.accounted);
  EXPECT_FALSE(got.hidden);
}

TEST_F(trace_ftrace, kmem_cache_alloc_is_accounted_or_not) {
  const std::string begin =
      prefix + "kmem_cache_alloc: call_site=alloc_pid+0x54/0x390 ptr=ffff8c5bd3dace00 bytes_req=128 bytes_alloc=128 gfp_flags=";
  EXPECT_TRUE(parse(begin + "GFP_KERNEL node=-1 accounted=true").accounted);
  EXPECT_FALSE(parse(begin + "GFP_KERNEL node=-1 accounted=false").accounted);
  EXPECT_FALSE(parse(begin + "GFP_KERNEL").accounted);
  EXPECT_TRUE(parse(begin + "GFP_KERNEL_ACCOUNT").accounted);
  EXPECT_EQ(parse(begin + "GFP_KERNEL node=3").node, 3);
  EXPECT_EQ(parse(begin + "GFP_KERNEL").kind, event_kind::cache_alloc);
}

TEST_F(trace_ftrace, kernel_5_4_has_numbers_for_call_sites_and_four_columns) {
  const event got = parse(
      "            bash-1234  [003] d.h3  1234.567890: kmalloc_node: call_site=ffffffff81234567 ptr=00000000deadbeef bytes_req=64 "
      "bytes_alloc=64 "
      "gfp_flags=GFP_ATOMIC node=0");
  EXPECT_EQ(got.kind, event_kind::kmalloc_node);
  EXPECT_EQ(strings.view(got.call_site), "ffffffff81234567");
  EXPECT_EQ(got.address, 0xdeadbeefu);
  EXPECT_EQ(got.node, 0);
  EXPECT_EQ(got.context.bits, call_context::irqs_off | call_context::hardirq);
  EXPECT_EQ(got.context.preempt_depth, 3);
  EXPECT_EQ(got.timestamp_ns, 1234567890000u);
  const event node = parse(
      prefix +
      "kmem_cache_alloc_node: call_site=ffffffff81234567 ptr=0000000012345678 bytes_req=640 bytes_alloc=640 gfp_flags=GFP_KERNEL node=1");
  EXPECT_EQ(node.kind, event_kind::cache_alloc_node);
}

TEST_F(trace_ftrace, frees_have_a_name_or_not) {
  EXPECT_EQ(strings.view(parse(prefix + "kmem_cache_free: call_site=free+0x1/0x2 ptr=ffff8c5bcc53ee00 name=filp").cache_name), "filp");
  EXPECT_EQ(strings.view(parse(prefix + "kmem_cache_free: call_site=free+0x1/0x2 ptr=ffff8c5bcc53ee00 name=a cache (of mine) ").cache_name),
            "a cache (of mine)");
  EXPECT_EQ(parse(prefix + "kmem_cache_free: call_site=ffffffff81234567 ptr=00000000deadbeef").cache_name, no_string);
  EXPECT_EQ(strings.view(
                parse(prefix + "kmem_cache_alloc: call_site=a+0x1/0x2 name=two words ptr=0x10000 bytes_req=8 bytes_alloc=8 gfp_flags=none")
                    .cache_name),
            "two words");
  const event got = parse(prefix + "kfree: call_site=free_task+0x1b/0x70 ptr=0000000000000000");
  EXPECT_EQ(got.kind, event_kind::kfree);
  EXPECT_EQ(got.address, 0u);
}

TEST_F(trace_ftrace, module_belongs_to_the_call_site) {
  const event got = parse(prefix + "kfree: call_site=ext4_free+0x1b/0x70 [ext4] ptr=ffff8c5bcc53ee00");
  EXPECT_EQ(strings.view(got.call_site), "ext4_free+0x1b/0x70 [ext4]");
  EXPECT_EQ(got.address, 0xffff8c5bcc53ee00u);
}

TEST_F(trace_ftrace, pointers_come_in_many_forms) {
  const auto pointer = [&](const std::string& text) { return parse(prefix + "kfree: call_site=a ptr=" + text); };
  EXPECT_EQ(pointer("0xffff8c5bcc53ee00").address, 0xffff8c5bcc53ee00u);
  EXPECT_EQ(pointer("FFFF8C5BCC53EE00").address, 0xffff8c5bcc53ee00u);
  EXPECT_EQ(pointer("c12345678").address, 0xc12345678u);
  EXPECT_EQ(pointer("(null)").address, 0u);
  EXPECT_EQ(pointer("(nil)").address, 0u);
  EXPECT_EQ(pointer("0x0").address, 0u);
  EXPECT_TRUE(pointer("(____ptrval____)").hidden);
  EXPECT_FALSE(pointer("(null)").hidden);
}

TEST_F(trace_ftrace, failed_allocations_have_no_address) {
  const auto alloc = [&](const std::string& pointer) {
    return parse(prefix + "kmalloc: call_site=a ptr=" + pointer + " bytes_req=8 bytes_alloc=8 gfp_flags=GFP_NOWAIT");
  };
  EXPECT_TRUE(alloc("0000000000000000").failed);
  EXPECT_TRUE(alloc("(null)").failed);
  EXPECT_FALSE(alloc("0000000000000010").failed);
  EXPECT_FALSE(alloc("(____ptrval____)").failed);
}

TEST_F(trace_ftrace, pages_of_6_1) {
  const event got =
      parse(prefix +
            "mm_page_alloc: page=fffff561c02c1f80 pfn=0xb07e order=3 migratetype=1 gfp_flags=GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO");
  EXPECT_EQ(got.kind, event_kind::page_alloc);
  EXPECT_EQ(got.address, 0xb07eu);
  EXPECT_EQ(got.order, 3);
  EXPECT_EQ(got.migratetype, 1);
  EXPECT_EQ(got.gfp, 0x140dcau);
  EXPECT_FALSE(got.failed);
  const event freed = parse(prefix + "mm_page_free: page=fffff561c02c1f80 pfn=0xb07e order=3");
  EXPECT_EQ(freed.kind, event_kind::page_free);
  EXPECT_EQ(freed.address, 0xb07eu);
  EXPECT_EQ(freed.order, 3);
}

TEST_F(trace_ftrace, pages_of_older_kernels_have_decimal_frames) {
  EXPECT_EQ(parse(prefix + "mm_page_alloc: page=00000000f3cd5d9e pfn=45182 order=0 migratetype=0 gfp_flags=GFP_KERNEL").address, 45182u);
  EXPECT_EQ(parse(prefix + "mm_page_free: page=00000000f3cd5d9e pfn=45182 order=0").address, 45182u);
  const event batched = parse(prefix + "mm_page_free_batched: page=00000000f3cd5d9e pfn=45182 order=0");
  EXPECT_EQ(batched.kind, event_kind::page_free_batched);
  EXPECT_EQ(batched.address, 45182u);
  EXPECT_EQ(parse(prefix + "mm_page_free_batched: page=00000000f3cd5d9e pfn=45183").address, 45183u);
}

TEST_F(trace_ftrace, failed_page_allocations) {
  const auto pages = [&](const std::string& fields) {
    return parse(prefix + "mm_page_alloc: " + fields + " order=0 migratetype=0 gfp_flags=GFP_NOWAIT").failed;
  };
  EXPECT_TRUE(pages("page=0000000000000000 pfn=0x0"));
  EXPECT_TRUE(pages("page=(null) pfn=0"));
  EXPECT_TRUE(pages("page=(nil) pfn=0x0"));
  EXPECT_TRUE(pages("pfn=0"));
  EXPECT_TRUE(pages("page=0 pfn=0"));
  EXPECT_TRUE(pages("page=0x0 pfn=0xffffffffffffffff"));
  EXPECT_FALSE(pages("page=fffff561c0000000 pfn=0x0"));
  EXPECT_FALSE(pages("page=0xfffff561c0000040 pfn=0x1"));
}

TEST_F(trace_ftrace, irqs_column) {
  EXPECT_EQ(context(".....").bits, 0);
  EXPECT_EQ(context("X....").bits, 0);
  EXPECT_EQ(context("d....").bits, call_context::irqs_off);
  EXPECT_EQ(context("b....").bits, call_context::bh_off);
  EXPECT_EQ(context("B....").bits, call_context::bh_off);
  EXPECT_EQ(context("D....").bits, call_context::irqs_off | call_context::bh_off);
}

TEST_F(trace_ftrace, interrupt_column) {
  EXPECT_EQ(context("..s..").bits, call_context::softirq);
  EXPECT_EQ(context("..h..").bits, call_context::hardirq);
  EXPECT_EQ(context("..H..").bits, call_context::hardirq | call_context::softirq);
  EXPECT_EQ(context("..z..").bits, call_context::nmi);
  EXPECT_EQ(context("..Z..").bits, call_context::nmi | call_context::hardirq);
  EXPECT_TRUE(context("..s..").in_interrupt());
  EXPECT_FALSE(context("d..1.").in_interrupt());
}

TEST_F(trace_ftrace, preempt_column_is_hexadecimal) {
  EXPECT_EQ(context(".....").preempt_depth, 0);
  EXPECT_EQ(context("...1.").preempt_depth, 1);
  EXPECT_EQ(context("...9.").preempt_depth, 9);
  EXPECT_EQ(context("...a.").preempt_depth, 10);
  EXPECT_EQ(context("...f.").preempt_depth, 15);
  EXPECT_FALSE(context(".....").atomic());
  EXPECT_TRUE(context("...1.").atomic());
  EXPECT_TRUE(context("b....").atomic());
}

TEST_F(trace_ftrace, need_resched_and_migrate_disable_do_not_matter) {
  for (const char letter : std::string(".NnpBbLlP")) EXPECT_EQ(context(std::string(".") + letter + "...").bits, 0) << letter;
  for (const char letter : std::string(".123f")) EXPECT_EQ(context(std::string("....") + letter), context(".....")) << letter;
}

TEST_F(trace_ftrace, number_of_columns_varies) {
  EXPECT_EQ(context("d.s2").bits, call_context::irqs_off | call_context::softirq);
  EXPECT_EQ(context("d.s2").preempt_depth, 2);
  EXPECT_EQ(context("d.s").bits, call_context::irqs_off | call_context::softirq);
  EXPECT_EQ(context("dn.h2..").bits, call_context::irqs_off | call_context::hardirq) << "seven: a real-time kernel";
  EXPECT_EQ(context("dn.h2..").preempt_depth, 2);
  EXPECT_EQ(context("d.s2..").preempt_depth, 2);
}

TEST_F(trace_ftrace, header_tells_the_columns) {
  for (const char* line :
       {"#                                _-------=> irqs-off/BH-disabled", "#                               / _------=> need-resched",
        "#                              | / _-----=> need-resched-lazy", "#                              || / _----=> hardirq/softirq",
        "#                              ||| / _---=> preempt-depth", "#                              |||| / _--=> preempt-lazy-depth"}) {
    skip(line);
  }
  EXPECT_EQ(context("d..H3.").bits, call_context::irqs_off | call_context::hardirq | call_context::softirq);
  EXPECT_EQ(context("d..H3.").preempt_depth, 3);
  // A line of another length does not fit this header, and is read without it.
  EXPECT_EQ(context("d.s2.").preempt_depth, 2);
}

TEST_F(trace_ftrace, header_of_the_latency_tracers_starts_over_at_irqs_off) {
  skip("#                    _------=> CPU#");
  skip("#                   / _-----=> irqs-off");
  skip("#                  | / _----=> need-resched");
  skip("#                  || / _---=> hardirq/softirq");
  skip("#                  ||| / _--=> preempt-depth");
  EXPECT_EQ(context("d.h1").bits, call_context::irqs_off | call_context::hardirq);
  EXPECT_EQ(context("d.h1").preempt_depth, 1);
}

TEST_F(trace_ftrace, without_latency_columns_the_caller_is_a_task) {
  const event got = kfree("            bash-1234  [003]  1234.567890:");
  EXPECT_FALSE(got.context.atomic());
  EXPECT_EQ(got.cpu, 3);
  EXPECT_EQ(got.timestamp_ns, 1234567890000u);
}

TEST_F(trace_ftrace, trace_cmd_report) {
  const event got = parse(
      "            tar-1043  [000] d..2.   123.456789: kmalloc:              call_site=0xffffffff81234567 ptr=0xffff888003a1c000 "
      "bytes_req=100 bytes_alloc=128 gfp_flags=GFP_KERNEL node=-1 accounted=false");
  EXPECT_EQ(got.kind, event_kind::kmalloc);
  EXPECT_EQ(got.address, 0xffff888003a1c000u);
  EXPECT_EQ(got.timestamp_ns, 123456789000u);
  const event nanoseconds =
      parse("            tar-1043  [000]   123.456789012: kfree:                call_site=a+0x1 ptr=0xffff888003a1c000");
  EXPECT_EQ(nanoseconds.timestamp_ns, 123456789012u);
  const event with_system = parse("            tar-1043  [000]   123.456789: kmem:kfree: call_site=a+0x1 ptr=0xffff888003a1c000");
  EXPECT_EQ(with_system.kind, event_kind::kfree);
  const event raw =
      parse("            tar-1043  [000]   123.456789: mm_page_alloc: [FAILED TO PARSE] pfn=0x1234 order=2 gfp_flags=0xcc0 migratetype=1");
  EXPECT_EQ(raw.address, 0x1234u);
  EXPECT_EQ(raw.gfp, 0xcc0u);
  EXPECT_EQ(raw.order, 2);
}

TEST_F(trace_ftrace, notes_of_trace_cmd_are_skipped) {
  skip("cpus=8");
  skip("version = 6");
  skip("CPU 3 is empty");
  skip("");
  skip("   ");
  EXPECT_EQ(parser.counts().notes, 3u);
  EXPECT_EQ(parser.counts().blank, 2u);
}

TEST_F(trace_ftrace, lost_events_are_counted) {
  skip("CPU:0 [LOST 123 EVENTS]");
  skip("CPU:11 [LOST EVENTS]");
  skip("CPU:2 [77 EVENTS DROPPED]");
  skip("CPU:2 [EVENTS DROPPED]");
  EXPECT_EQ(parser.counts().lost_markers, 4u);
  EXPECT_EQ(parser.counts().lost_events, 200u);
}

TEST_F(trace_ftrace, comments_other_events_and_stacks_are_skipped) {
  skip("# tracer: nop");
  skip("#");
  skip("##### CPU 1 buffer started ####");
  skip(prefix + "sched_switch: prev_comm=a prev_pid=1 prev_prio=120 prev_state=S ==> next_comm=b next_pid=2 next_prio=120");
  skip(prefix + "kmalloc_other: ptr=nonsense");
  skip(prefix + "mm_page_alloc_zone_locked: page=0 pfn=x");
  skip(prefix + "tracing_mark_write: kmalloc: hello");
  skip(prefix + "<stack trace>");
  skip(" => kmem_cache_alloc+0x1/0x2");
  skip(" => entry_SYSCALL_64_after_hwframe");
  skip(prefix + "vfs_read <-ksys_read");
  EXPECT_EQ(parser.counts().comments, 3u);
  EXPECT_EQ(parser.counts().other_events, 6u);
  EXPECT_EQ(parser.counts().stack_lines, 2u);
  EXPECT_EQ(parser.counts().errors, 0u);
}

TEST_F(trace_ftrace, kernel_version_is_taken_from_the_header_that_has_it) {
  skip("# irqsoff latency trace v1.1.5 on 6.1.0-56-cloud-amd64");
  EXPECT_EQ(parser.kernel(), "Linux 6.1.0-56-cloud-amd64");
}

TEST_F(trace_ftrace, tasks_may_be_called_anything) {
  for (const std::string name : {"kworker/0:1H-ev", "my task", "a-1 [000] b", "x: y: z", "<...>", "[kthread]", "(sd-pam)", "tab [0]", "-",
                                 "1-2-3", "a", "migration/0", "jbd2/vdb-8", "äöü", "a [7] 1.5: b"}) {
    const event got = kfree(std::string(16 - std::min<std::size_t>(16, name.size()), ' ') + name + "-4242    [013] d.s1.    12.000001:");
    EXPECT_EQ(got.pid, 4242) << name;
    EXPECT_EQ(got.cpu, 13) << name;
    EXPECT_EQ(got.context.bits, call_context::irqs_off | call_context::softirq) << name;
    EXPECT_EQ(got.timestamp_ns, 12000001000u) << name;
  }
}

TEST_F(trace_ftrace, tgid_column_is_skipped) {
  for (const std::string column : {"(  123) ", "(-----) ", "(-------) ", "(4242424) ", "(1)"}) {
    const event got = kfree("            bash-1234    " + column + " [002] ...1.  1.000000:");
    EXPECT_EQ(got.pid, 1234) << column;
    EXPECT_EQ(got.cpu, 2) << column;
    EXPECT_EQ(got.context.preempt_depth, 1) << column;
  }
}

TEST_F(trace_ftrace, time_is_seconds_or_a_count) {
  const auto time = [&](const std::string& text) { return kfree("            bash-1234    [002] ..... " + text + ":").timestamp_ns; };
  EXPECT_EQ(time("0.000001"), 1000u);
  EXPECT_EQ(time("1.5"), 1500000000u);
  EXPECT_EQ(time("1.123456789"), 1123456789u);
  EXPECT_EQ(time("1.1234567891234"), 1123456789u);
  EXPECT_EQ(time("1234567890"), 1234567890u);
  EXPECT_EQ(time("18446744073709551615"), 18446744073709551615u);
}

TEST_F(trace_ftrace, fields_may_come_in_any_order_with_unknown_ones_between) {
  const event got =
      parse(prefix + "kmalloc: node=-1 gfp_flags=GFP_KERNEL new_field=a b c bytes_alloc=96 ptr=0x1000 bytes_req=72 call_site=x");
  EXPECT_EQ(got.bytes_req, 72u);
  EXPECT_EQ(got.bytes_alloc, 96u);
  EXPECT_EQ(got.address, 0x1000u);
  EXPECT_EQ(strings.view(got.call_site), "x");
}

TEST_F(trace_ftrace, first_of_two_fields_of_one_name_counts) {
  EXPECT_EQ(parse(prefix + "kmem_cache_free: call_site=x ptr=0x1000 name=odd ptr=0x2000").address, 0x1000u);
}

TEST_F(trace_ftrace, events_are_counted_by_kind) {
  kfree(prefix.substr(0, prefix.size() - 1));
  kfree(prefix.substr(0, prefix.size() - 1));
  parse(prefix + "mm_page_free: page=1 pfn=1 order=0");
  fail("nonsense");
  EXPECT_EQ(parser.counts().of(event_kind::kfree), 2u);
  EXPECT_EQ(parser.counts().of(event_kind::page_free), 1u);
  EXPECT_EQ(parser.counts().all_events(), 3u);
  EXPECT_EQ(parser.counts().lines, 4u);
  EXPECT_EQ(parser.counts().errors, 1u);
}

TEST_F(trace_ftrace, a_line_of_something_else) {
  const trace_error error = fail("Once upon a time");
  EXPECT_EQ(error.column, 1u);
  EXPECT_THAT(error.to_string(), HasSubstr("not a line of ftrace text"));
  EXPECT_THAT(error.expected, HasSubstr("TASK-PID [CPU]"));
  EXPECT_EQ(error.text, "Once upon a time");
  fail("kmalloc: call_site=a ptr=1 bytes_req=1 bytes_alloc=8 gfp_flags=GFP_KERNEL");
  fail("  bash-x [000] ..... 1.0: kfree: ptr=0");
  fail("  bash-1 [0x1] ..... 1.0: kfree: ptr=0");
  fail("  bash-1 [99999] ..... 1.0: kfree: ptr=0");
  fail("  bash-1 [8192] ..... 1.0: kfree: ptr=0");
  fail("  bash-1234567890 [1] ..... 1.0: kfree: ptr=0");
  fail("  a name that is much too long-1 [000] ..... 1.0: kfree: ptr=0");
}

TEST_F(trace_ftrace, a_line_without_a_time) {
  const trace_error error = fail("            bash-1234    [002] ..... kfree: call_site=a ptr=0");
  EXPECT_THAT(error.what, HasSubstr("no time stamp"));
  EXPECT_EQ(error.column, 31u);
  EXPECT_THAT(error.advice, HasSubstr("latency-format"));
  fail("            bash-1234    [002] .q?.. 1.5: kfree: call_site=a ptr=0");
  fail("            bash-1234    [002] q.... 1.5: kfree: call_site=a ptr=0");
  fail("            bash-1234    [002] ...z. 1.5: kfree: call_site=a ptr=0");
  fail("            bash-1234    [002] ......... 1.5: kfree: call_site=a ptr=0");
  fail("            bash-1234    [002] ..... 1.5.5: kfree: call_site=a ptr=0");
  fail("            bash-1234    [002] ..... 1.: kfree: call_site=a ptr=0");
  fail("            bash-1234    [002] ..... 99999999999999999999: kfree: call_site=a ptr=0");
  fail("            bash-1234    [002] ..... 18446744073.709551615: kfree: call_site=a ptr=0");
  fail("            bash-1234    [002] ..... :");
  fail("            bash-1234    [002] .....");
  fail("            bash-1234    [002]");
}

TEST_F(trace_ftrace, a_line_cut_off) {
  const std::string whole = prefix + "mm_page_alloc: page=fffff561c02c1f80 pfn=0xb07e order=0 migratetype=1 gfp_flags=GFP_KERNEL";
  EXPECT_THAT(fail(prefix).what, HasSubstr("the line ends before the event"));
  EXPECT_THAT(fail(prefix + "kmal").what, HasSubstr("no event name in \"kmal\""));
  EXPECT_THAT(fail(whole.substr(0, whole.find("page="))).what, HasSubstr("no field pfn="));
  EXPECT_THAT(fail(whole.substr(0, whole.find(" order="))).what, HasSubstr("no field order="));
  EXPECT_THAT(fail(whole.substr(0, whole.find("gfp_flags"))).what, HasSubstr("no field gfp_flags="));
  EXPECT_THAT(fail(whole.substr(0, whole.find("GFP_KERNEL"))).what, HasSubstr("gfp_flags= has no value"));
  EXPECT_THAT(fail(whole.substr(0, whole.size() - 1)).what, HasSubstr("unknown GFP flag \"GFP_KERNE\""));
  parse(whole);
}

TEST_F(trace_ftrace, missing_fields_are_named) {
  EXPECT_THAT(fail(prefix + "kmalloc: call_site=a bytes_req=1 bytes_alloc=8 gfp_flags=GFP_KERNEL").what, HasSubstr("no field ptr="));
  EXPECT_THAT(fail(prefix + "kmalloc: ptr=1 bytes_alloc=8 gfp_flags=GFP_KERNEL").what, HasSubstr("no field bytes_req="));
  EXPECT_THAT(fail(prefix + "kmalloc: ptr=1 bytes_req=8 gfp_flags=GFP_KERNEL").what, HasSubstr("no field bytes_alloc="));
  EXPECT_THAT(fail(prefix + "kmalloc: ptr=1 bytes_req=8 bytes_alloc=8").what, HasSubstr("no field gfp_flags="));
  EXPECT_THAT(fail(prefix + "kfree: call_site=a").what, HasSubstr("no field ptr="));
  EXPECT_THAT(fail(prefix + "mm_page_free: pfn=1").what, HasSubstr("no field order="));
  EXPECT_THAT(fail(prefix + "mm_page_free_batched: order=0").what, HasSubstr("no field pfn="));
}

TEST_F(trace_ftrace, bad_values_are_named_with_their_column) {
  const auto bad = [&](const std::string& text, const std::string& what, std::string_view at) {
    const trace_error error = fail(prefix + text);
    EXPECT_THAT(error.what, HasSubstr(what));
    EXPECT_EQ(error.column, (prefix + text).find(at) + 1) << text;
    EXPECT_FALSE(error.expected.empty());
  };
  bad("kfree: ptr=xyz", "ptr=xyz is not understood", "xyz");
  bad("kfree: ptr=123456789abcdef01", "ptr=123456789abcdef01 is not understood", "123456789abcdef01");
  bad("kmalloc: ptr=1 bytes_req=many bytes_alloc=8 gfp_flags=GFP_KERNEL", "bytes_req=many", "many");
  bad("kmalloc: ptr=1 bytes_req=-1 bytes_alloc=8 gfp_flags=GFP_KERNEL", "bytes_req=-1", "-1");
  bad("kmalloc: ptr=1 bytes_req=8 bytes_alloc=99999999999999999 gfp_flags=GFP_KERNEL", "bytes_alloc=9999", "99999999999999999");
  bad("kmalloc: ptr=1 bytes_req=8 bytes_alloc=8 gfp_flags=GFP_KERNEL node=x", "node=x", "x");
  bad("mm_page_free: pfn=0xzz order=0", "pfn=0xzz", "0xzz");
  bad("mm_page_free: pfn=1 order=14", "order=14", "14");
  bad("mm_page_alloc: pfn=1 order=0 migratetype=1000 gfp_flags=none", "migratetype=1000", "1000");
  bad("mm_page_alloc: pfn=1 order=0 migratetype=0 gfp_flags=GFP_KERNEL|__GFP_ZERRO", "unknown GFP flag \"__GFP_ZERRO\"", "__GFP_ZERRO");
}

TEST_F(trace_ftrace, unknown_flag_offers_near_names_every_time) {
  for (int round = 0; round < 2; round++) {
    const trace_error error = fail(prefix + "kmalloc: ptr=1 bytes_req=8 bytes_alloc=8 gfp_flags=GFP_KERNAL");
    EXPECT_THAT(error.advice, HasSubstr("did you mean GFP_KERNEL"));
  }
}

TEST_F(trace_ftrace, errors_show_where_in_a_long_line) {
  const trace_error error =
      fail(prefix + "kmalloc: call_site=" + std::string(1000, 'x') + " ptr=oops bytes_req=8 bytes_alloc=8 gfp_flags=none");
  EXPECT_THAT(error.text, HasSubstr("ptr=oops"));
  EXPECT_LE(error.text.size(), shown_line_bytes + 6);
}

// ---- whole traces ----

bool load_text(const std::string& text, const load_options& options, event_list& out) {
  input from;
  EXPECT_TRUE(from.open_memory("text.trace", {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}));
  return load_events(from, options, out);
}

const std::string good_line = prefix + "kfree: call_site=a ptr=ffff8c5bcc53ee00\n";

TEST(trace_load, stops_at_the_first_bad_line) {
  event_list list;
  EXPECT_FALSE(load_text(good_line + "oops\n" + good_line, {}, list));
  EXPECT_EQ(list.events.size(), 1u);
  ASSERT_EQ(list.errors.size(), 1u);
  EXPECT_THAT(list.errors[0].to_string(), HasSubstr("text.trace:2:1: not a line of ftrace text\n  line: oops\n"));
}

TEST(trace_load, keep_going_counts_bad_lines) {
  event_list list;
  load_options options;
  options.keep_going = true;
  options.errors_kept = 2;
  std::string text = good_line;
  for (int round = 0; round < 10; round++) text += "oops\n" + good_line + std::string("nul\0\n", 5);
  EXPECT_TRUE(load_text(text, options, list));
  EXPECT_EQ(list.events.size(), 11u);
  EXPECT_EQ(list.counts.errors, 20u);
  EXPECT_EQ(list.counts.lines, 31u);
  EXPECT_EQ(list.errors.size(), 2u);
}

TEST(trace_load, a_trace_without_events_is_an_error) {
  event_list list;
  EXPECT_FALSE(load_text("# tracer: nop\n#\n", {}, list));
  ASSERT_EQ(list.errors.size(), 1u);
  EXPECT_THAT(list.errors[0].to_string(), HasSubstr("text.trace: no allocation event in 2 lines"));
  EXPECT_THAT(list.errors[0].to_string(), HasSubstr("events/kmem/enable"));
  event_list bad;
  load_options options;
  options.keep_going = true;
  EXPECT_FALSE(load_text("oops\noops\n", options, bad));
  EXPECT_THAT(bad.errors.back().to_string(), HasSubstr("(2 of them not understood)"));
}

TEST(trace_load, progress_can_stop_the_reading) {
  std::string text;
  for (int line = 0; line < 20000; line++) text += good_line;
  load_options options;
  std::vector<std::uint64_t> calls;
  options.progress = [&](std::uint64_t read, std::uint64_t total) {
    EXPECT_LE(read, total);
    EXPECT_EQ(total, text.size());
    calls.push_back(read);
    return calls.size() < 2;
  };
  event_list list;
  EXPECT_FALSE(load_text(text, options, list));
  EXPECT_EQ(calls.size(), 2u);
  EXPECT_THAT(list.errors.back().what, HasSubstr("stopped"));
}

TEST(trace_load, missing_file) {
  event_list list;
  EXPECT_FALSE(load_events("/nonexistent", {}, list));
  ASSERT_EQ(list.errors.size(), 1u);
  EXPECT_EQ(list.file, "/nonexistent");
}

}  // namespace
}  // namespace kmem::tool::trace
