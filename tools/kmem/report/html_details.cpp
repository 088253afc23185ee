// Waste by cache and size class, events by kind, and the /proc-like texts.

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "escape.hpp"
#include "html_parts.hpp"
#include "units.hpp"

namespace kmem::tool::report {

namespace {

constexpr std::size_t top_caches = 14;

[[nodiscard]] std::string waste_row(const cache_row& row, std::uint64_t largest) {
  const std::uint64_t held = slab_bytes(row);
  const std::uint64_t unused = slab_waste_bytes(row);
  const std::string tip =
      fmt::format("{}\n{} in {} slabs of {} pages\n{} in use, {} unused ({})\n{} of {} objects active", row.name, human_bytes(held),
                  human_count(row.slabs), row.pages_per_slab, human_bytes(held - unused), human_bytes(unused),
                  human_percent(slab_waste_percent(row)), human_count(row.active_objects), human_count(row.total_objects));
  std::string out = fmt::format("<tr><td class=\"l name\"><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td>", html_escape(row.name),
                                human_bytes(row.object_bytes), human_count(row.active_objects), human_bytes(held));
  out += fmt::format(
      "<td class=\"l\"><div class=\"stack\" data-tip=\"{}\"><i class=\"c2\" style=\"width:{:.2f}%\"></i><i class=\"hatch\" "
      "style=\"width:{:.2f}%\">"
      "</i></div></td>",
      html_escape(tip), percent(held - unused, largest), percent(unused, largest));
  out += fmt::format("<td>{}</td><td>{}</td></tr>", html_escape(human_percent(slab_waste_percent(row))),
                     html_escape(human_percent(rounding_waste_percent(row))));
  return out;
}

[[nodiscard]] std::string waste_table(const std::vector<const cache_row*>& rows, std::size_t from, std::size_t to, std::string_view name) {
  const std::uint64_t largest = rows.empty() ? 0 : slab_bytes(*rows.front());
  std::string out = fmt::format(
      "<div class=\"scroll\"><table><thead><tr><th class=\"l\">{}</th><th>Object</th><th>Active</th><th>Memory</th>"
      "<th class=\"l\">In use and unused</th><th>Unused</th><th>Rounding</th></tr></thead><tbody>",
      name);
  for (std::size_t place = from; place < to; ++place) {
    out += waste_row(*rows[place], largest);
  }
  return out + "</tbody></table></div>";
}

[[nodiscard]] std::string waste_part(const replay_result& result, bool size_classes) {
  const std::vector<const cache_row*> rows = caches_by_memory(result, size_classes);
  if (rows.empty()) {
    return "";
  }
  std::uint64_t held = 0;
  std::uint64_t unused = 0;
  for (const cache_row* row : rows) {
    held += slab_bytes(*row);
    unused += slab_waste_bytes(*row);
  }
  const std::size_t shown = std::min(top_caches, rows.size());
  const char* name = size_classes ? "Size class" : "Cache";
  std::string out = fmt::format("<h3>{}: {} in slabs, {} unused ({})</h3>", size_classes ? "Size classes of kmalloc" : "Named caches",
                                human_bytes(held), human_bytes(unused), html_escape(human_percent(percent(unused, held))));
  out += waste_table(rows, 0, shown, name);
  if (shown < rows.size()) {
    out += fmt::format("<details><summary>{} smaller ones</summary>{}</details>", rows.size() - shown,
                       waste_table(rows, shown, rows.size(), name));
  }
  return out;
}

[[nodiscard]] std::string kind_table(const replay_result& result) {
  std::string out =
      "<div class=\"scroll\"><table><thead><tr><th class=\"l\">Event</th><th>In the trace</th><th>Replayed</th><th>Skipped</th>"
      "<th>Failed</th><th>Bytes</th></tr></thead><tbody>";
  for (const kind_row& row : result.by_kind) {
    out += fmt::format(
        "<tr><td class=\"l name\"><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td class=\"{}\">{}</td><td>{}</td></tr>",
        html_escape(row.kind), human_count(row.events), human_count(row.replayed), human_count(row.skipped),
        row.failed == 0 ? "zero" : "badn", human_count(row.failed), human_bytes(row.bytes));
  }
  const totals& total = result.total;
  out += fmt::format("<tr class=\"total\"><td class=\"l\">All</td><td>{}</td><td>{}</td><td></td><td>{}</td><td>{}</td></tr>",
                     human_count(total.events), human_count(total.allocs + total.frees), human_count(total.failed),
                     human_bytes(total.requested_bytes));
  return out + "</tbody></table></div>";
}

[[nodiscard]] std::string bookkeeping_table(const totals& total) {
  struct line {
    const char* text;
    std::uint64_t count;
  };
  const line lines[] = {{"Frees of objects that the trace never allocated", total.unmatched_frees},
                        {"Addresses allocated again with no free between; freed first", total.implied_frees},
                        {"kfree(NULL)", total.null_frees},
                        {"Page events of a slab or a large kmalloc, counted there", total.skipped_pages_events},
                        {"Frees of what returned NULL here, ignored", total.frees_of_failed},
                        {"Frees of what had been reclaimed, ignored", total.late_frees_of_dropped},
                        {"Other events, not about memory", total.other_events},
                        {"Objects live at the end of the trace", total.live_at_end_objects}};
  std::string out = "<table><tbody>";
  for (const line& one : lines) {
    out += fmt::format("<tr><td class=\"l\">{}</td><td class=\"{}\">{}</td></tr>", html_escape(one.text), one.count == 0 ? "zero" : "",
                       human_count(one.count));
  }
  out += fmt::format(
      "<tr><td class=\"l\">Bytes of these</td><td>{}</td></tr><tr><td class=\"l\">Still charged after they were freed</td><td>{}</td></tr>",
      human_bytes(total.live_at_end_bytes), human_bytes(total.charged_after_bytes));
  return out + "</tbody></table>";
}

[[nodiscard]] std::string text_details(std::string_view name, const std::vector<std::string>& lines) {
  if (lines.empty()) {
    return "";
  }
  std::string text;
  for (const std::string& line : lines) {
    text += html_escape(line) + "\n";
  }
  return fmt::format("<details><summary>{}<small>{} lines</small></summary><pre tabindex=\"0\">{}</pre></details>", name, lines.size(),
                     text);
}

}  // namespace

std::string waste_section(const replay_result& result) {
  const std::string moment = result.cache_moment.empty() ? "" : " Taken " + html_escape(result.cache_moment) + ".";
  const std::string lead = "Memory of slabs that no object occupies, and what rounding up to the object size costs on top." + moment;
  const std::string content = waste_part(result, false) + waste_part(result, true);
  return section("waste", "Waste by cache and size class", lead, content.empty() ? "<p class=\"none\">No cache was used.</p>" : content);
}

std::string detail_section(const replay_result& result) {
  return section("details", "Details", "What the trace held, how it was accounted for, and the allocator's own tables.",
                 "<div class=\"cols\"><div>" + kind_table(result) + "</div><div>" + bookkeeping_table(result.total) + "</div></div>" +
                     text_details("slabinfo", result.slabinfo) + text_details("buddyinfo", result.buddyinfo));
}

}  // namespace kmem::tool::report
