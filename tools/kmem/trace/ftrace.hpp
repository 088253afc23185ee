#pragma once

// The kernel's allocation events as ftrace writes them: /sys/kernel/tracing/trace, trace_pipe and `trace-cmd report`
// of kernels 5.x and 6.x. One line in, one event out.
//
// What varies and is understood: four or five latency columns, those of real-time kernels (from the header), or none
// (then the context is a task that may sleep); a TGID column; seconds or a counter as time; call sites as symbols or
// numbers; pointers with or without 0x, hashed, or hidden; decimal or hexadecimal page frame numbers; fields in any
// order, unknown ones ignored. Other events, comments, stack traces and the notes of trace-cmd are skipped and
// counted, and so are lost events.

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "error.hpp"
#include "gfp.hpp"
#include "input.hpp"
#include "strings.hpp"

namespace kmem::tool::trace {

enum class event_kind : std::uint8_t {
  kmalloc,
  kmalloc_node,
  kfree,
  cache_alloc,
  cache_alloc_node,
  cache_free,
  page_alloc,
  page_free,
  page_free_batched,
};
inline constexpr std::size_t event_kind_count = 9;

std::string_view event_name(event_kind kind);  // the tracepoint's: "kmem_cache_alloc"

constexpr bool is_object_alloc(event_kind kind) {
  return kind == event_kind::kmalloc || kind == event_kind::kmalloc_node || kind == event_kind::cache_alloc ||
         kind == event_kind::cache_alloc_node;
}
constexpr bool is_kmalloc(event_kind kind) { return kind == event_kind::kmalloc || kind == event_kind::kmalloc_node; }
constexpr bool is_object_free(event_kind kind) { return kind == event_kind::kfree || kind == event_kind::cache_free; }

// Who called: the latency columns.
struct call_context {
  static constexpr std::uint8_t irqs_off = 0x01;
  static constexpr std::uint8_t bh_off = 0x02;
  static constexpr std::uint8_t softirq = 0x04;
  static constexpr std::uint8_t hardirq = 0x08;
  static constexpr std::uint8_t nmi = 0x10;
  static constexpr std::uint8_t interrupts = softirq | hardirq | nmi;  // not in a task

  std::uint8_t bits = 0;
  std::uint8_t preempt_depth = 0;

  bool atomic() const { return bits != 0 || preempt_depth != 0; }
  bool in_interrupt() const { return (bits & interrupts) != 0; }
  friend bool operator==(const call_context&, const call_context&) = default;
};

struct event {
  static constexpr std::uint64_t zero_size_ptr = 16;  // what kmalloc(0) returns

  std::uint64_t timestamp_ns = 0;  // or ticks, with a trace clock that does not count time
  std::uint64_t address = 0;       // of an object, or a page frame number
  std::uint64_t bytes_req = 0;
  std::uint64_t bytes_alloc = 0;
  std::uint64_t line = 0;
  std::int32_t pid = 0;
  gfp_bits gfp = 0;
  string_id cache_name = no_string;
  string_id call_site = no_string;
  std::uint16_t cpu = 0;
  std::int16_t node = -1;
  call_context context;
  event_kind kind = event_kind::kmalloc;
  std::uint8_t order = 0;
  std::int8_t migratetype = -1;  // -1: not in the trace
  bool accounted = false;
  bool failed = false;  // the traced kernel found no memory
  bool hidden = false;  // the pointer was printed as (____ptrval____)
};

struct line_counts {
  std::uint64_t lines = 0;
  std::uint64_t comments = 0;
  std::uint64_t blank = 0;
  std::uint64_t notes = 0;  // cpus=2, version = 6, CPU 1 is empty
  std::uint64_t other_events = 0;
  std::uint64_t stack_lines = 0;
  std::uint64_t lost_markers = 0;
  std::uint64_t lost_events = 0;  // as far as the markers say how many
  std::uint64_t errors = 0;
  std::array<std::uint64_t, event_kind_count> events{};

  std::uint64_t all_events() const;
  std::uint64_t of(event_kind kind) const { return events[static_cast<std::size_t>(kind)]; }
};

class line_parser {
 public:
  enum class outcome : std::uint8_t { event, skipped, error };

  explicit line_parser(string_table& strings);

  // `out` is set only for outcome::event. For outcome::error, error() has all but the file.
  outcome parse(std::string_view line, std::uint64_t line_number, event& out);

  const trace_error& error() const { return error_; }
  const line_counts& counts() const { return counts_; }

  // "Linux 6.1.192" when a comment said so, else empty.
  const std::string& kernel() const { return kernel_; }

 private:
  enum class column : std::uint8_t { irqs, hardirq_softirq, preempt_depth, other };
  static constexpr std::size_t max_columns = 8;
  struct prefix;
  struct fields;

  outcome parse_line(event& out);
  void parse_comment();
  bool skip_note();
  bool find_prefix(prefix& found);
  bool parse_after_cpu(prefix& found, std::size_t at);
  bool parse_context(std::string_view columns, call_context& out) const;
  outcome parse_event(const prefix& found, event_kind kind, std::size_t at, event& out);
  fields split_fields(std::size_t at) const;
  bool fill_object(const fields& all, event_kind kind, event& out);
  bool fill_pages(const fields& all, event_kind kind, event& out);
  bool fill_gfp(std::string_view value, event& out);
  bool fill_pointer(std::string_view value, event& out);
  bool number(std::string_view value, std::string_view name, std::uint64_t limit, std::uint64_t& out);
  bool require(std::string_view value, std::string_view name);
  bool fail(std::size_t at, std::string what, std::string expected, std::string advice = {});
  bool fail_at(std::string_view part, std::string what, std::string expected, std::string advice = {});

  string_table& strings_;
  string_table gfp_strings_;             // every distinct gfp_flags text is decoded once
  std::vector<gfp_result> gfp_of_text_;  // by id of gfp_strings_
  std::array<column, max_columns> layout_{};
  std::size_t layout_columns_ = 0;  // 0: no header seen
  std::string_view line_;
  std::uint64_t line_number_ = 0;
  line_counts counts_;
  trace_error error_;
  std::string kernel_;
};

// A whole trace in memory.
struct event_list {
  std::string file;
  std::string compression;
  std::uint64_t file_bytes = 0;
  std::string kernel;
  string_table strings;
  std::vector<event> events;
  line_counts counts;
  std::vector<trace_error> errors;  // the first of them, at most load_options::errors_kept
};

struct load_options {
  bool keep_going = false;  // go on after a bad line, and keep what a damaged archive gave
  std::size_t errors_kept = 20;
  // Called every few thousand lines with the bytes read and the size (0 when not known). False stops the reading.
  std::function<bool(std::uint64_t bytes_read, std::uint64_t bytes_total)> progress;
};

// Reads all of an opened input. Return: false when the trace cannot be used; the last of `errors` says why. With
// keep_going that is so only when it has no event at all or progress() stopped it.
bool load_events(input& from, const load_options& options, event_list& out);

// The same for a path, or "-".
bool load_events(const std::string& path, const load_options& options, event_list& out);

}  // namespace kmem::tool::trace
