#include "text.hpp"

#include <fmt/format.h>
#include <langinfo.h>
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <cstdlib>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include "compare.hpp"
#include "escape.hpp"
#include "slabinfo.hpp"
#include "table.hpp"
#include "text_parts.hpp"
#include "units.hpp"

namespace kmem::tool::report {

namespace {

constexpr std::size_t gfp_width = 40;  // with the other columns of its tables this stays within 100
constexpr std::size_t bar_width = 40;
constexpr std::size_t line_width = 100;

[[nodiscard]] bool locale_is_utf8() {
  // The program's own locale stays "C"; only the character set of the user's one is looked at.
  const locale_t user = newlocale(LC_CTYPE_MASK, "", nullptr);
  if (user == nullptr) {
    return false;
  }
  const bool utf8 = std::string_view(nl_langinfo_l(CODESET, user)) == "UTF-8";
  freelocale(user);
  return utf8;
}

[[nodiscard]] tint failed_tint(std::uint64_t failed) noexcept { return failed == 0 ? tint::dim : tint::red; }

[[nodiscard]] std::string wrapped_line(std::string_view label, std::string_view text, const text_options& options) {
  std::string out;
  for (const std::string& piece : wrapped(text, line_width - 12)) {
    const std::string name = out.empty() ? fmt::format("  {:<10}", label) : std::string(12, ' ');
    out += tinted(name, tint::dim, options.colour) + piece + "\n";
  }
  return out;
}

[[nodiscard]] std::string trace_line(const trace_info& trace) {
  std::string text = printable(trace.path);
  text += fmt::format(" ({}, {} lines, {} events over {}", human_bytes(trace.file_bytes), human_count(trace.lines),
                      human_count(trace.events), human_ns(trace.duration_ns));
  text += trace.cpus == 0 ? "" : fmt::format(" on {} {}", trace.cpus, trace.cpus == 1 ? "CPU" : "CPUs");
  text += trace.kernel.empty() ? ")" : "; " + printable(trace.kernel) + ")";
  return text;
}

[[nodiscard]] std::string head_section(const replay_result& result, const text_options& options) {
  std::string out = tinted("kmem replay: " + printable(title_of(result)), tint::bold, options.colour) + "\n";
  for (const trace_info& trace : result.traces) {
    out += wrapped_line("trace", trace_line(trace), options);
  }
  std::string run = fmt::format("{} {}", result.threads, result.threads == 1 ? "thread" : "threads");
  run += result.touch ? ", memory touched" : "";
  run += result.verify ? ", contents verified" : "";
  run += result.wall_ns == 0
             ? ""
             : fmt::format(", {} ({} events/s)", human_ns(result.wall_ns), short_count(per_second(result.total.events, result.wall_ns)));
  out += wrapped_line("run", run, options);
  for (const name_value& parameter : result.parameters) {
    out += wrapped_line("parameter", printable(parameter.name) + "=" + printable(parameter.value), options);
  }
  const std::string end = printable(verdict(result));
  for (const std::string& piece : wrapped(end, line_width - 4)) {
    out += "  " + tinted(piece, is_clean(result) ? tint::green : tint::red, options.colour) + "\n";
  }
  return out;
}

[[nodiscard]] std::string budget_section(const replay_result& result, const text_options& options) {
  text_table table({{"", align::left}, {"", align::right}, {"", align::right}, {"", align::left}});
  const auto add = [&](const char* name, std::uint64_t bytes, tint shade) {
    const std::uint64_t budget = result.budget_bytes;
    table.add({name,
               human_bytes(bytes),
               {budget == 0 ? "" : human_percent(percent(bytes, budget)), tint::dim},
               {text_bar(bytes, budget, bar_width, options.unicode), shade}});
  };
  const bool tight = percent(result.peak.charged_bytes + result.peak.metadata_bytes, result.budget_bytes) > 95.0;
  add("charged, peak", result.peak.charged_bytes, tight ? tint::yellow : tint::blue);
  add("live, peak", result.peak.live_bytes, tint::cyan);
  add("metadata, peak", result.peak.metadata_bytes, tint::magenta);
  if (result.peak.arena_resident_bytes != 0) {
    add("resident, peak", result.peak.arena_resident_bytes, tint::none);
  }
  std::string out = heading(fmt::format("Budget {}", human_bytes(result.budget_bytes)), options) + table.render(options.colour);
  const totals& total = result.total;
  if (total.dropped_pages != 0 || total.reclaim_calls != 0) {
    out += fmt::format("  reclaimed: {} in {} pages, {} calls; {} later frees of them ignored\n", human_bytes(total.dropped_bytes),
                       human_count(total.dropped_pages), human_count(total.reclaim_calls), human_count(total.late_frees_of_dropped));
  }
  out += fmt::format("  live at the end of the trace: {} objects, {}; still charged after freeing them: {}\n",
                     human_count(total.live_at_end_objects), human_bytes(total.live_at_end_bytes), human_bytes(total.charged_after_bytes));
  return out;
}

[[nodiscard]] std::string kind_section(const replay_result& result, const text_options& options) {
  text_table table({{"kind", align::left, 32}, {"events"}, {"replayed"}, {"skipped"}, {"failed"}, {"bytes"}});
  for (const kind_row& row : result.by_kind) {
    table.add({printable(row.kind),
               human_count(row.events),
               human_count(row.replayed),
               human_count(row.skipped),
               {human_count(row.failed), failed_tint(row.failed)},
               human_bytes(row.bytes)});
  }
  const totals& total = result.total;
  table.add({{"all", tint::bold},
             {human_count(total.events), tint::bold},
             human_count(total.allocs + total.frees),
             "",
             {human_count(total.failed), failed_tint(total.failed)},
             human_bytes(total.requested_bytes)});
  std::string out = heading("Events", options) + table.render(options.colour);
  out += fmt::format("  {} allocations, {} frees\n", human_count(total.allocs), human_count(total.frees));
  text_table remarks({{"", align::right}, {"", align::left}});
  const auto remark = [&](std::uint64_t count, const char* text) {
    if (count != 0) {
      remarks.add({{human_count(count), tint::dim}, {text, tint::dim}});
    }
  };
  remark(total.unmatched_frees, "frees of objects that the trace never allocated");
  remark(total.implied_frees, "addresses allocated again with no free between: freed first");
  remark(total.null_frees, "kfree(NULL)");
  remark(total.skipped_pages_events, "page events of a slab or a large kmalloc: counted there");
  remark(total.frees_of_failed, "frees of what returned NULL here: ignored");
  remark(total.other_events, "other events, not about memory");
  return out + remarks.render(options.colour);
}

[[nodiscard]] std::string gfp_section(const replay_result& result, const text_options& options) {
  std::vector<const gfp_row*> rows;
  for (const gfp_row& row : result.by_gfp) {
    rows.push_back(&row);
  }
  std::stable_sort(rows.begin(), rows.end(), [](const gfp_row* left, const gfp_row* right) { return left->allocs > right->allocs; });
  text_table table({{"gfp", align::left, gfp_width}, {"allocs"}, {"bytes"}, {"failed"}, {"p50"}, {"p99"}, {"max"}});
  std::size_t shown = 0;
  std::size_t left_out = 0;
  for (const gfp_row* row : rows) {
    if (shown >= limit_of(options) && row->failed == 0) {
      ++left_out;
      continue;
    }
    ++shown;
    table.add({printable(row->gfp),
               human_count(row->allocs),
               human_bytes(row->bytes),
               {human_count(row->failed), failed_tint(row->failed)},
               human_ns(row->latency_ns.percentile(50)),
               human_ns(row->latency_ns.percentile(99)),
               human_ns(row->latency_ns.max())});
  }
  add_rest_note(table, left_out);
  return table.empty() ? "" : heading("Allocations by gfp flags", options) + table.render(options.colour);
}

[[nodiscard]] std::string failed_gfp_table(const replay_result& result, const text_options& options) {
  text_table table({{"gfp", align::left, gfp_width}, {"failed"}, {"of"}, {"share"}, {"last step reached", align::left, 27}});
  std::vector<const gfp_row*> rows;
  for (const gfp_row& row : result.by_gfp) {
    if (row.failed != 0) {
      rows.push_back(&row);
    }
  }
  std::stable_sort(rows.begin(), rows.end(), [](const gfp_row* left, const gfp_row* right) { return left->failed > right->failed; });
  for (const gfp_row* row : rows) {
    std::string steps;
    for (const name_count& step : row->failed_by_step) {
      steps += fmt::format("{}{} {}", steps.empty() ? "" : "\n", human_count(step.count), printable(step.name));
    }
    table.add({printable(row->gfp),
               {human_count(row->failed), tint::red},
               human_count(row->allocs),
               human_percent(percent(row->failed, row->allocs)),
               steps});
  }
  return table.empty() ? "" : table.render(options.colour);
}

[[nodiscard]] std::string context_section(const replay_result& result, const text_options& options) {
  text_table table({{"class", align::left, 28}, {"context", align::left}, {"allocs"}, {"bytes"}, {"failed"}, {"share"}});
  std::string last;
  for (const context_row& row : result.by_context) {
    if (row.allocs == 0 && row.failed == 0) {
      continue;
    }
    table.add({row.gfp_class == last ? "" : printable(row.gfp_class),
               std::string(to_string(row.context)),
               human_count(row.allocs),
               human_bytes(row.bytes),
               {human_count(row.failed), failed_tint(row.failed)},
               {human_percent(percent(row.failed, row.allocs)), failed_tint(row.failed)}});
    last = row.gfp_class;
  }
  return table.empty() ? "" : heading("Allocations by class and context", options) + table.render(options.colour);
}

[[nodiscard]] std::string first_failures(const replay_result& result, const text_options& options) {
  constexpr std::size_t shown = 5;  // enough to see where to look; the reports have all that were kept
  text_table table(
      {{"line"}, {"time"}, {"what", align::left, 18}, {"gfp", align::left, 26}, {"context", align::left}, {"free"}, {"reserve"}});
  for (std::size_t place = 0; place < std::min(shown, result.failures.size()); ++place) {
    const failure_record& record = result.failures[place];
    const std::string what = record.order >= 0 ? fmt::format("order {}", record.order)
                                               : fmt::format("{}\n{}", printable(record.cache), human_bytes(record.size_bytes));
    table.add({human_count(record.line), human_ns(record.time_ns), what, printable(record.gfp), std::string(to_string(record.context)),
               human_bytes(record.free_bytes), human_bytes(record.reserve_bytes)});
  }
  return table.empty() ? "" : tinted("  first failures:", tint::dim, options.colour) + "\n" + table.render(options.colour, 4);
}

[[nodiscard]] std::string failure_section(const replay_result& result, const text_options& options) {
  if (result.total.failed == 0) {
    return "";
  }
  return heading("Failures", options) + failed_gfp_table(result, options) + first_failures(result, options);
}

[[nodiscard]] std::string error_section(const replay_result& result, const text_options& options) {
  if (result.total.errors == 0 && result.errors.empty()) {
    return "";
  }
  std::string out = heading("Errors", options);
  text_table table({{"line"}, {"", align::left, 84}});
  for (const described_error& error : result.errors) {
    table.add({error.line == 0 ? "" : human_count(error.line), {printable(error.text), tint::red}});
  }
  if (result.total.errors > result.errors.size()) {
    table.add_note(fmt::format("... {} in all", human_count(result.total.errors)));
  }
  return out + table.render(options.colour);
}

[[nodiscard]] std::string latency_section(const replay_result& result, const text_options& options) {
  text_table table({{"path", align::left}, {"calls"}, {"p50"}, {"p99"}, {"p99.9"}, {"max"}, {"mean"}});
  for (std::size_t path = 0; path < latency_path_count; ++path) {
    const latency_histogram& one = result.latency_ns[path];
    if (one.count() != 0) {
      table.add({std::string(to_string(static_cast<latency_path>(path))), human_count(one.count()), human_ns(one.percentile(50)),
                 human_ns(one.percentile(99)), human_ns(one.percentile(99.9)), human_ns(one.max()), human_ns(whole_number(one.mean()))});
    }
  }
  return table.empty() ? "" : heading("Latency by path", options) + table.render(options.colour);
}

[[nodiscard]] std::string waste_table(const replay_result& result, bool size_classes, const text_options& options) {
  const std::vector<const cache_row*> rows = caches_by_memory(result, size_classes);
  text_table table({{size_classes ? "size class" : "cache", align::left, 26},
                    {"object"},
                    {"active"},
                    {"total"},
                    {"slabs"},
                    {"memory"},
                    {"rounding"},
                    {"unused"}});
  for (std::size_t place = 0; place < std::min(limit_of(options), rows.size()); ++place) {
    const cache_row& row = *rows[place];
    table.add({printable(row.name), human_bytes(row.object_bytes), human_count(row.active_objects), human_count(row.total_objects),
               human_count(row.slabs), human_bytes(slab_bytes(row)), human_percent(rounding_waste_percent(row)),
               human_percent(slab_waste_percent(row))});
  }
  add_rest_note(table, rows.size() - std::min(limit_of(options), rows.size()));
  if (table.empty()) {
    return "";
  }
  const std::string when = result.cache_moment.empty() ? "" : " " + printable(result.cache_moment);
  return heading((size_classes ? "Waste by size class" : "Waste by cache") + when, options) + table.render(options.colour);
}

[[nodiscard]] std::string info_section(const replay_result& result, const text_options& options) {
  std::string out;
  if (!result.slabinfo.empty()) {
    const std::size_t limit = limit_of(options);
    out += heading("slabinfo", options);
    for (const std::string& line : short_slabinfo(result.slabinfo, limit, line_width - 2)) {
      out += "  " + printable(line) + "\n";
    }
  }
  if (!result.buddyinfo.empty()) {
    out += heading("buddyinfo", options);
    for (const std::string& line : result.buddyinfo) {
      for (const std::string& piece : wrapped(printable(line), line_width - 2)) {
        out += "  " + piece + "\n";
      }
    }
  }
  return out;
}

}  // namespace

text_options options_for_stream(int descriptor) {
  const char* no_colour = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  text_options options;
  options.colour = isatty(descriptor) != 0 && (no_colour == nullptr || *no_colour == '\0') &&
                   (terminal == nullptr || std::string_view(terminal) != "dumb");
  options.unicode = locale_is_utf8();
  return options;
}

std::string heading(std::string_view text, const text_options& options) {
  return "\n" + tinted(text, tint::bold, options.colour) + "\n";
}

std::size_t limit_of(const text_options& options) noexcept { return options.top_rows == 0 ? SIZE_MAX : options.top_rows; }

void add_rest_note(text_table& table, std::size_t left, std::string_view where) {
  if (left != 0) {
    table.add_note(fmt::format("... and {} more, in {}", left, where));
  }
}

std::string text_bar(std::uint64_t value, std::uint64_t whole, std::size_t width, bool unicode) {
  static constexpr const char* parts[] = {"", "\u258f", "\u258e", "\u258d", "\u258c", "\u258b", "\u258a", "\u2589"};
  const double share = whole == 0 ? 0.0 : std::min(1.0, static_cast<double>(value) / static_cast<double>(whole));
  auto eighths = static_cast<std::size_t>(share * static_cast<double>(width * 8) + 0.5);
  eighths = value != 0 && whole != 0 ? std::max<std::size_t>(eighths, 1) : eighths;  // something is never drawn as nothing
  std::string out;
  if (!unicode) {
    const std::size_t full = (eighths + 7) / 8;
    return std::string(full, '#') + std::string(width - full, '.');
  }
  for (std::size_t place = 0; place < eighths / 8; ++place) {
    out += "\u2588";
  }
  out += parts[eighths % 8];
  for (std::size_t place = (eighths + 7) / 8; place < width; ++place) {
    out += "\u2591";
  }
  return out;
}

std::string text_report(const replay_result& result, const text_options& options) {
  std::string out = head_section(result, options) + budget_section(result, options) + kind_section(result, options);
  out += gfp_section(result, options) + context_section(result, options) + failure_section(result, options);
  out += error_section(result, options) + sleep_section(result, options) + reclaim_section(result, options);
  out += latency_section(result, options) + waste_table(result, false, options) + waste_table(result, true, options);
  return out + info_section(result, options);
}

}  // namespace kmem::tool::report
