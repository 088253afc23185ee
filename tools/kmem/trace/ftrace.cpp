#include "ftrace.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

namespace kmem::tool::trace {

namespace {

constexpr std::array<std::string_view, event_kind_count> event_names = {
    "kmalloc",         "kmalloc_node",  "kfree",        "kmem_cache_alloc",     "kmem_cache_alloc_node",
    "kmem_cache_free", "mm_page_alloc", "mm_page_free", "mm_page_free_batched",
};

constexpr std::string_view line_shape = "TASK-PID [CPU] CONTEXT TIMESTAMP: EVENT: FIELD=VALUE ...";
constexpr std::string_view hidden_pointer = "(____ptrval____)";

constexpr std::size_t comm_bytes = 15;            // the kernel's TASK_COMM_LEN without the terminating zero
constexpr std::uint64_t max_cpu = 8191;           // the largest NR_CPUS that any architecture offers is 8192
constexpr std::uint64_t max_order = 13;           // arm64 with 64 KiB pages has the largest
constexpr std::uint64_t max_object = 1ull << 40;  // above what kmalloc of any configuration gives
constexpr std::uint64_t no_pfn = ~0ull;           // a failed allocation, where the number is printed raw

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_key_char(char c) { return (c >= 'a' && c <= 'z') || c == '_' || is_digit(c); }

// Decimal, or hexadecimal after 0x.
bool parse_unsigned(std::string_view text, std::uint64_t& out) {
  int base = 10;
  if (text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
    text.remove_prefix(2);
    base = 16;
  }
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, out, base);
  return code == std::errc{} && stop == end && !text.empty();
}

bool parse_hex(std::string_view text, std::uint64_t& out) {
  if (text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) text.remove_prefix(2);
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, out, 16);
  return code == std::errc{} && stop == end && !text.empty();
}

bool is_null_text(std::string_view value) { return value == "(null)" || value == "(nil)" || value == "NULL"; }

// "12.345678" seconds, or a plain count.
bool parse_time(std::string_view text, std::uint64_t& out) {
  const char* end = text.data() + text.size();
  std::uint64_t whole = 0;
  const auto [stop, code] = std::from_chars(text.data(), end, whole, 10);
  if (code != std::errc{} || text.empty()) return false;
  if (stop == end) {
    out = whole;
    return true;
  }
  constexpr std::uint64_t second = 1'000'000'000;
  if (*stop != '.' || stop + 1 == end || whole > std::numeric_limits<std::uint64_t>::max() / second - 1) return false;
  std::uint64_t fraction = 0;
  std::uint64_t scale = second;
  for (const char* at = stop + 1; at != end; at++) {
    if (!is_digit(*at)) return false;
    if (scale == 1) continue;
    scale /= 10;
    fraction += static_cast<std::uint64_t>(*at - '0') * scale;
  }
  out = whole * second + fraction;
  return true;
}

// The event kind of a tracepoint's name.
bool kind_of(std::string_view name, event_kind& out) {
  if (name.empty() || (name[0] != 'k' && name[0] != 'm')) return false;
  for (std::size_t index = 0; index < event_names.size(); index++) {
    if (event_names[index] == name) {
      out = static_cast<event_kind>(index);
      return true;
    }
  }
  return false;
}

}  // namespace

std::string_view event_name(event_kind kind) { return event_names[static_cast<std::size_t>(kind)]; }

std::uint64_t line_counts::all_events() const {
  std::uint64_t sum = 0;
  for (const std::uint64_t each : events) sum += each;
  return sum;
}

// What stands before the event's name.
struct line_parser::prefix {
  std::int32_t pid = 0;
  std::uint16_t cpu = 0;
  std::uint64_t timestamp_ns = 0;
  call_context context;
  std::size_t end = 0;  // where the event's name begins
};

// The values of the fields that matter, empty when absent.
struct line_parser::fields {
  std::string_view call_site, ptr, bytes_req, bytes_alloc, gfp_flags, node, accounted, name, page, pfn, order, migratetype;

  std::string_view* find(std::string_view key) {
    switch (key.size()) {
      case 3:
        return key == "ptr" ? &ptr : key == "pfn" ? &pfn : nullptr;
      case 4:
        return key == "node" ? &node : key == "name" ? &name : key == "page" ? &page : nullptr;
      case 5:
        return key == "order" ? &order : nullptr;
      case 9:
        return key == "call_site"   ? &call_site
               : key == "bytes_req" ? &bytes_req
               : key == "gfp_flags" ? &gfp_flags
               : key == "accounted" ? &accounted
                                    : nullptr;
      case 11:
        return key == "bytes_alloc" ? &bytes_alloc : key == "migratetype" ? &migratetype : nullptr;
      default:
        return nullptr;
    }
  }
};

line_parser::line_parser(string_table& strings) : strings_(strings), gfp_of_text_(1) {}

line_parser::outcome line_parser::parse(std::string_view line, std::uint64_t line_number, event& out) {
  line_ = line;
  line_number_ = line_number;
  counts_.lines++;
  const outcome result = parse_line(out);
  if (result == outcome::error) counts_.errors++;
  return result;
}

bool line_parser::fail(std::size_t at, std::string what, std::string expected, std::string advice) {
  error_ = {};
  error_.line = line_number_;
  error_.column = static_cast<std::uint32_t>(at + 1);
  error_.what = std::move(what);
  error_.expected = std::move(expected);
  error_.advice = std::move(advice);
  error_.text = printable(line_, at);
  return false;
}

bool line_parser::fail_at(std::string_view part, std::string what, std::string expected, std::string advice) {
  return fail(static_cast<std::size_t>(part.data() - line_.data()), std::move(what), std::move(expected), std::move(advice));
}

line_parser::outcome line_parser::parse_line(event& out) {
  if (!line_.empty() && line_[0] == '#') {
    parse_comment();
    return outcome::skipped;
  }
  prefix found;
  if (!find_prefix(found)) return skip_note() ? outcome::skipped : outcome::error;

  std::size_t at = found.end;
  std::size_t name_end = line_.find(':', at);
  if (line_.substr(at).starts_with("kmem:")) {
    at = name_end + 1;
    name_end = line_.find(':', at);
  }
  if (name_end == std::string_view::npos) {
    const std::string_view rest = line_.substr(at);
    // Function tracers and stack traces have no event name.
    if (rest.starts_with('<') || rest.find("<-") != std::string_view::npos) {
      counts_.other_events++;
      return outcome::skipped;
    }
    fail(at, rest.empty() ? "the line ends before the event" : "no event name in " + quoted(rest), "EVENT: FIELD=VALUE ...",
         "was the trace cut off here?");
    return outcome::error;
  }
  event_kind kind{};
  if (!kind_of(line_.substr(at, name_end - at), kind)) {
    counts_.other_events++;
    return outcome::skipped;
  }
  return parse_event(found, kind, name_end + 1, out);
}

// Comments are skipped but for two things: the header that names the latency columns ("_---=> hardirq/softirq") and
// the kernel's version in the headers of some tracers.
void line_parser::parse_comment() {
  counts_.comments++;
  constexpr std::string_view version_mark = " trace v1.1.5 on ";
  if (const std::size_t at = line_.find(version_mark); at != std::string_view::npos && kernel_.empty()) {
    const std::string_view version = line_.substr(at + version_mark.size());
    kernel_ = "Linux " + printable(version, 0, 64);
  }
  const std::size_t arrow = line_.find("=> ");
  if (arrow == std::string_view::npos) return;
  std::string_view name = line_.substr(arrow + 3);
  while (!name.empty() && name.back() == ' ') name.remove_suffix(1);
  column meaning = column::other;
  if (name.starts_with("irqs-off")) {
    meaning = column::irqs;
    layout_columns_ = 0;
  } else if (name == "hardirq/softirq") {
    meaning = column::hardirq_softirq;
  } else if (name == "preempt-depth") {
    meaning = column::preempt_depth;
  } else if (layout_columns_ == 0) {
    return;  // not that header, or a column before irqs-off that is not one of the context's
  }
  if (layout_columns_ < max_columns) layout_[layout_columns_++] = meaning;
}

// Lines without TASK-PID [CPU] that mean no harm.
bool line_parser::skip_note() {
  const std::size_t begin = line_.find_first_not_of(" \t");
  if (begin == std::string_view::npos) {
    counts_.blank++;
    return true;
  }
  const std::string_view text = line_.substr(begin);
  if (text.starts_with("=> ")) {
    counts_.stack_lines++;
    return true;
  }
  const bool about_cpu = text.starts_with("CPU:");
  if (about_cpu && (text.find("LOST") != std::string_view::npos || text.find("EVENTS DROPPED") != std::string_view::npos)) {
    counts_.lost_markers++;
    const std::size_t digits = text.find_first_of("0123456789", std::min(text.find('['), text.size()));
    if (digits != std::string_view::npos) {
      std::uint64_t lost = 0;
      const auto code = std::from_chars(text.data() + digits, text.data() + text.size(), lost).ec;
      if (code == std::errc{}) counts_.lost_events += lost;
    }
    return true;
  }
  const bool note = text.starts_with("cpus=") || text.starts_with("version = ") || text.starts_with("version=") ||
                    (text.starts_with("CPU ") && text.ends_with(" is empty")) || text.starts_with("trace-cmd ");
  if (note) counts_.notes++;
  return note;
}

// Looks for TASK-PID [CPU] CONTEXT TIMESTAMP: at the start of the line. A task may be called nearly anything, with
// brackets, colons, dashes and spaces; but it has at most 15 bytes, so of all places that look right the last one
// that leaves a name of that length is it.
bool line_parser::find_prefix(prefix& found) {
  const std::size_t start = std::min(line_.find_first_not_of(' '), line_.size());
  bool any = false;
  std::size_t deepest = 0;
  for (std::size_t open = line_.find('[', start); open != std::string_view::npos; open = line_.find('[', open + 1)) {
    // Name, dash, pid and TGID with their padding.
    if (open > start + comm_bytes + 48) break;
    std::size_t at = open + 1;
    std::uint64_t cpu = 0;
    while (at < line_.size() && is_digit(line_[at]) && at - open <= 5) cpu = cpu * 10 + static_cast<std::uint64_t>(line_[at++] - '0');
    if (at == open + 1 || at >= line_.size() || line_[at] != ']' || cpu > max_cpu) continue;

    std::string_view before = line_.substr(start, open - start);
    const auto trim = [&] {
      while (!before.empty() && before.back() == ' ') before.remove_suffix(1);
    };
    trim();
    if (!before.empty() && before.back() == ')') {  // the TGID column
      const std::size_t paren = before.rfind('(');
      if (paren == std::string_view::npos) continue;
      before = before.substr(0, paren);
      trim();
    }
    std::size_t digits = 0;
    while (digits < before.size() && is_digit(before[before.size() - 1 - digits])) digits++;
    if (digits == 0 || digits > 9 || digits == before.size() || before[before.size() - 1 - digits] != '-') continue;
    if (before.size() - 1 - digits > comm_bytes) continue;
    prefix candidate;
    candidate.cpu = static_cast<std::uint16_t>(cpu);
    std::from_chars(before.data() + before.size() - digits, before.data() + before.size(), candidate.pid);
    deepest = at + 1;
    if (!parse_after_cpu(candidate, at + 1)) continue;
    found = candidate;
    any = true;
  }
  if (any) return true;
  if (deepest != 0) {
    return fail(deepest, "no time stamp after the CPU", "CONTEXT TIMESTAMP: (such as \"d..1.   12.345678:\")",
                "record with the default format (trace_options without latency-format, raw, hex, bin or block)");
  }
  return fail(start, line_.size() == start ? "the line is blank" : "not a line of ftrace text", std::string(line_shape),
              "replay reads /sys/kernel/tracing/trace, trace_pipe or the output of trace-cmd report");
}

bool line_parser::parse_after_cpu(prefix& found, std::size_t at) {
  for (int words = 0; words < 2; words++) {
    at = line_.find_first_not_of(' ', at);
    if (at == std::string_view::npos) return false;
    std::size_t end = line_.find(' ', at);
    if (end == std::string_view::npos) end = line_.size();
    std::string_view word = line_.substr(at, end - at);
    if (word.back() == ':') {
      word.remove_suffix(1);
      if (!parse_time(word, found.timestamp_ns)) return false;
      found.end = std::min(line_.find_first_not_of(' ', end), line_.size());
      return true;
    }
    if (words == 1 || !parse_context(word, found.context)) return false;
    at = end;
  }
  return false;
}

bool line_parser::parse_context(std::string_view columns, call_context& out) const {
  if (columns.size() < 3 || columns.size() > max_columns) return false;
  // Without a header: irqs-off, need-resched, hardirq/softirq, preempt-depth, then migrate-disable and others. Seven
  // columns are those of real-time kernels: need-resched-lazy is the third.
  const bool real_time = columns.size() == 7;
  for (std::size_t index = 0; index < columns.size(); index++) {
    column meaning = column::other;
    if (layout_columns_ == columns.size()) {
      meaning = layout_[index];
    } else if (index == 0) {
      meaning = column::irqs;
    } else if (index == (real_time ? 3u : 2u)) {
      meaning = column::hardirq_softirq;
    } else if (index == (real_time ? 4u : 3u)) {
      meaning = column::preempt_depth;
    }
    const char value = columns[index];
    switch (meaning) {
      case column::irqs:
        switch (value) {
          case '.':
          case 'X':
            break;  // X: the architecture does not tell
          case 'd':
            out.bits |= call_context::irqs_off;
            break;
          case 'b':
          case 'B':
            out.bits |= call_context::bh_off;
            break;
          case 'D':
            out.bits |= call_context::irqs_off | call_context::bh_off;
            break;
          default:
            return false;
        }
        break;
      case column::hardirq_softirq:
        switch (value) {
          case '.':
            break;
          case 's':
          case 'S':
            out.bits |= call_context::softirq;
            break;
          case 'h':
            out.bits |= call_context::hardirq;
            break;
          case 'H':
            out.bits |= call_context::hardirq | call_context::softirq;
            break;
          case 'z':
            out.bits |= call_context::nmi;
            break;
          case 'Z':
            out.bits |= call_context::nmi | call_context::hardirq;
            break;
          default:
            return false;
        }
        break;
      case column::preempt_depth:
        if (value == '.') break;
        if (is_digit(value)) {
          out.preempt_depth = static_cast<std::uint8_t>(value - '0');
        } else if (value >= 'a' && value <= 'f') {
          out.preempt_depth = static_cast<std::uint8_t>(value - 'a' + 10);
        } else {
          return false;
        }
        break;
      case column::other:
        if (value <= ' ' || value == ':') return false;
        break;
    }
  }
  return true;
}

// Fields are KEY=VALUE separated by spaces. Values may contain spaces (cache names do; a call site is followed by
// its module): a word without KEY= belongs to the value before it.
line_parser::fields line_parser::split_fields(std::size_t at) const {
  fields all;
  std::string_view* current = nullptr;
  const char* const end = line_.data() + line_.size();
  const char* value = nullptr;
  const char* word = line_.data() + at;
  while (word < end) {
    if (*word == ' ') {
      word++;
      continue;
    }
    const char* equals = word;
    while (equals < end && is_key_char(*equals)) equals++;
    const char* stop = equals;
    while (stop < end && *stop != ' ') stop++;
    if (equals < end && *equals == '=' && equals != word) {
      std::string_view* next = all.find(std::string_view(word, static_cast<std::size_t>(equals - word)));
      current = next != nullptr && next->data() == nullptr ? next : nullptr;
      value = equals + 1;
    }
    if (current != nullptr) *current = std::string_view(value, static_cast<std::size_t>(stop - value));
    word = stop;
  }
  return all;
}

line_parser::outcome line_parser::parse_event(const prefix& found, event_kind kind, std::size_t at, event& out) {
  event result;
  result.timestamp_ns = found.timestamp_ns;
  result.line = line_number_;
  result.pid = found.pid;
  result.cpu = found.cpu;
  result.context = found.context;
  result.kind = kind;
  const fields all = split_fields(at);
  const bool good = is_object_alloc(kind) || is_object_free(kind) ? fill_object(all, kind, result) : fill_pages(all, kind, result);
  if (!good) return outcome::error;
  out = result;
  counts_.events[static_cast<std::size_t>(kind)]++;
  return outcome::event;
}

bool line_parser::require(std::string_view value, std::string_view name) {
  if (!value.empty()) return true;
  if (value.data() != nullptr) return fail_at(value, std::string(name) + "= has no value", "a value", "was the trace cut off here?");
  return fail(line_.size(), "the event has no field " + std::string(name) + "=", std::string(name) + "=VALUE",
              "was the line cut off, or is this the format of a kernel other than 5.x or 6.x?");
}

bool line_parser::number(std::string_view value, std::string_view name, std::uint64_t limit, std::uint64_t& out) {
  if (!require(value, name)) return false;
  if (parse_unsigned(value, out) && out <= limit) return true;
  return fail_at(value, std::string(name) + "=" + printable(value, 0, 40) + " is not understood",
                 "a number from 0 to " + std::to_string(limit));
}

bool line_parser::fill_pointer(std::string_view value, event& out) {
  if (!require(value, "ptr")) return false;
  if (value == hidden_pointer) {
    out.hidden = true;
    return true;
  }
  if (is_null_text(value) || parse_hex(value, out.address)) return true;
  return fail_at(value, "ptr=" + printable(value, 0, 40) + " is not understood", "an address in hexadecimal, or (null)");
}

bool line_parser::fill_gfp(std::string_view value, event& out) {
  if (!require(value, "gfp_flags")) return false;
  const string_id text = gfp_strings_.intern(value);
  if (text == gfp_of_text_.size()) gfp_of_text_.push_back(parse_gfp(gfp_strings_.view(text)));
  const gfp_result& parsed = gfp_of_text_[text];
  if (parsed.ok) {
    out.gfp = parsed.bits;
    return true;
  }
  std::string advice;
  for (const std::string_view each : near_gfp_names(parsed.bad_part)) {
    advice += (advice.empty() ? "did you mean " : " or ") + std::string(each);
  }
  if (!advice.empty()) advice += "?";
  return fail(static_cast<std::size_t>(value.data() - line_.data()) + parsed.bad_offset,
              parsed.bad_part.empty() ? "an empty name in gfp_flags=" : "unknown GFP flag " + quoted(parsed.bad_part),
              "GFP names joined by |, a number such as 0xcc0, or none", std::move(advice));
}

bool line_parser::fill_object(const fields& all, event_kind kind, event& out) {
  if (!fill_pointer(all.ptr, out)) return false;
  out.cache_name = strings_.intern(all.name);
  out.call_site = strings_.intern(all.call_site);
  if (is_object_free(kind)) return true;
  if (!number(all.bytes_req, "bytes_req", max_object, out.bytes_req)) return false;
  if (!number(all.bytes_alloc, "bytes_alloc", max_object, out.bytes_alloc)) return false;
  if (!fill_gfp(all.gfp_flags, out)) return false;
  if (all.node.data() != nullptr && all.node != "-1") {
    std::uint64_t node = 0;
    if (!number(all.node, "node", std::numeric_limits<std::int16_t>::max(), node)) return false;
    out.node = static_cast<std::int16_t>(node);
  }
  out.accounted = all.accounted == "true" || all.accounted == "1" || (out.gfp & gfp_bit::account) != 0;
  out.failed = out.address == 0 && !out.hidden;
  return true;
}

bool line_parser::fill_pages(const fields& all, event_kind kind, event& out) {
  if (!require(all.pfn, "pfn")) return false;
  if (!parse_unsigned(all.pfn, out.address)) {
    return fail_at(all.pfn, "pfn=" + printable(all.pfn, 0, 40) + " is not understood", "a page frame number, decimal or 0x...");
  }
  std::uint64_t order = 0;
  const bool order_optional = kind == event_kind::page_free_batched;
  if (!(order_optional && all.order.data() == nullptr) && !number(all.order, "order", max_order, order)) return false;
  out.order = static_cast<std::uint8_t>(order);
  if (kind != event_kind::page_alloc) return true;
  if (!fill_gfp(all.gfp_flags, out)) return false;
  if (all.migratetype.data() != nullptr) {
    std::uint64_t migratetype = 0;
    if (!number(all.migratetype, "migratetype", std::numeric_limits<std::int8_t>::max(), migratetype)) return false;
    out.migratetype = static_cast<std::int8_t>(migratetype);
  }
  out.accounted = (out.gfp & gfp_bit::account) != 0;
  // Frame 0 is a frame too, but with a null page it means that there was none.
  std::uint64_t page = 0;
  const bool null_page = all.page.empty() || is_null_text(all.page) || (parse_hex(all.page, page) && page == 0);
  out.failed = (out.address == 0 && null_page) || out.address == no_pfn;
  if (out.failed) out.address = 0;
  return true;
}

}  // namespace kmem::tool::trace
