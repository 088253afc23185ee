// Who slept for memory, how long and for what, and who woke whom.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "escape.hpp"
#include "html_parts.hpp"
#include "units.hpp"

namespace kmem::tool::report {

namespace {

constexpr std::size_t parties_shown = 16;  // rows and columns of the matrix; the JSON report has all

[[nodiscard]] std::string length_bars(const sleep_figures& slept) {
  const std::vector<decade_row> rows = by_decade(slept.length_ns);
  std::uint64_t most = 1;
  for (const decade_row& row : rows) {
    most = std::max(most, row.count);
  }
  std::string out = "<div class=\"scroll\"><table><thead><tr><th class=\"l\">Length</th><th></th><th>Sleeps</th></tr></thead><tbody>";
  for (const decade_row& row : rows) {
    const std::uint64_t end = row.low_ns > UINT64_MAX / 10 ? UINT64_MAX : row.low_ns * 10;
    out += fmt::format(
        "<tr><td class=\"l name\">{} to {}</td><td style=\"width:60%\"><div class=\"meter\"><i class=\"c8\" "
        "style=\"width:{:.1f}%\"></i></div></td><td>{}</td></tr>",
        html_ns(row.low_ns), html_ns(end), percent(row.count, most), human_count(row.count));
  }
  return out + "</tbody></table></div>";
}

[[nodiscard]] std::string sleep_table(const std::vector<sleep_row>& rows, const char* heading, bool code) {
  std::string out = fmt::format(
      "<div class=\"scroll\"><table><thead><tr><th class=\"l\">{}</th><th>Sleeps</th><th>Served</th><th>Pages</th><th>p50</th><th>p99</th>"
      "<th>max</th></tr></thead><tbody>",
      heading);
  for (const sleep_row& row : rows) {
    const std::string name = code ? "<code>" + html_escape_breakable(row.name) + "</code>" : html_escape(row.name);
    out += fmt::format("<tr><td class=\"l\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>", name,
                       human_count(row.sleeps), human_count(row.served), human_count(row.pages), html_ns(row.length_ns.percentile(50)),
                       html_ns(row.length_ns.percentile(99)), html_ns(row.length_ns.max()));
  }
  return out + "</tbody></table></div>";
}

struct matrix_cell {
  std::uint64_t wakes = 0;
  std::uint64_t slept_ns = 0;
  std::map<std::string, std::uint64_t> causes;
};

// The names that occur most often, no more than are shown.
[[nodiscard]] std::vector<std::string> parties(const std::vector<wake_row>& wakes, std::string wake_row::*who) {
  std::map<std::string, std::uint64_t> counts;
  for (const wake_row& row : wakes) {
    counts[row.*who] += row.wakes;
  }
  std::vector<std::pair<std::uint64_t, std::string>> order;
  for (const auto& [name, count] : counts) {
    order.emplace_back(count, name);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto& left, const auto& right) { return left.first > right.first; });
  std::vector<std::string> out;
  for (std::size_t place = 0; place < std::min(parties_shown, order.size()); ++place) {
    out.push_back(order[place].second);
  }
  // "CPU 2" before "CPU 10".
  std::sort(out.begin(), out.end(), [](const std::string& left, const std::string& right) {
    return left.size() != right.size() ? left.size() < right.size() : left < right;
  });
  return out;
}

[[nodiscard]] std::string cell_html(const std::string& waker, const std::string& sleeper, const matrix_cell& cell, std::uint64_t most) {
  if (cell.wakes == 0) {
    return "<td class=\"zero\">\u00b7</td>";
  }
  std::string tip = waker + " woke " + sleeper;
  std::string did;  // most often
  std::uint64_t often = 0;
  for (const auto& [cause, count] : cell.causes) {
    const std::string text(cause_text(cause));
    if (text.empty()) {
      continue;
    }
    tip += fmt::format("\n{} {}", human_count(count), text);
    did = count > often ? text : did;
    often = std::max(often, count);
  }
  tip += "\nslept " + html_ns(cell.slept_ns);
  return fmt::format("<td class=\"heat\" style=\"--h:var(--c8);--o:{:.2f}\" data-tip=\"{}\" tabindex=\"0\">{}<small>{}</small></td>",
                     0.08 + 0.4 * static_cast<double>(cell.wakes) / static_cast<double>(most), html_escape(tip), human_count(cell.wakes),
                     html_escape(did));
}

[[nodiscard]] std::string wake_matrix(const std::vector<wake_row>& wakes) {
  if (wakes.empty()) {
    return "";
  }
  std::map<std::pair<std::string, std::string>, matrix_cell> cells;
  std::uint64_t most = 1, all = 0, shown = 0;
  for (const wake_row& row : wakes) {
    all += row.wakes;
    matrix_cell& cell = cells[{row.waker, row.sleeper}];
    cell.wakes += row.wakes;
    cell.slept_ns += row.slept_ns;
    cell.causes[row.cause] += row.wakes;
    most = std::max(most, cell.wakes);
  }
  const std::vector<std::string> sleepers = parties(wakes, &wake_row::sleeper);
  std::string out = "<h3>Who woke whom</h3><div class=\"scroll\"><table><thead><tr><th class=\"l\">Waker \\ sleeper</th>";
  for (const std::string& name : sleepers) {
    out += fmt::format("<th>{}</th>", html_escape(name));
  }
  out += "</tr></thead><tbody>";
  for (const std::string& waker : parties(wakes, &wake_row::waker)) {
    out += fmt::format("<tr><td class=\"l name\">{}</td>", html_escape(waker));
    for (const std::string& sleeper : sleepers) {
      const matrix_cell& cell = cells[{waker, sleeper}];
      shown += cell.wakes;
      out += cell_html(waker, sleeper, cell, most);
    }
    out += "</tr>";
  }
  out += "</tbody></table></div>";
  if (shown != all) {
    out += fmt::format("<p class=\"none\">{} of {} wake-ups are in this table; all are in the JSON report.</p>", human_count(shown),
                       human_count(all));
  }
  return out;
}

[[nodiscard]] std::string sleep_cards(const replay_result& result) {
  const latency_histogram& length = result.sleeps.length_ns;
  std::string out = card("Sleeps", human_count(length.count()), html_ns(length.sum()) + " in all");
  out += card("Median", html_ns(length.percentile(50)), "p99 " + html_ns(length.percentile(99)));
  out += card("Longest", html_ns(length.max()), "");
  const std::uint64_t deadlocks = vmstat_of(result, "kmem_deadlocks");
  out += card("Everybody waited", human_count(deadlocks), "times that every thread was seen to wait", deadlocks == 0 ? "good" : "bad");
  return "<div class=\"cards\">" + out + "</div>";
}

}  // namespace

std::string sleep_html_section(const replay_result& result) {
  const std::string lead =
      "An allocation that may sleep does when nothing else helps; whoever frees next wakes the first in the queue.";
  const sleep_figures& slept = result.sleeps;
  const std::string lost = slept.unrecorded == 0
                               ? ""
                               : fmt::format("<p class=\"none\">Of {} more sleeps no record was left.</p>", human_count(slept.unrecorded));
  if (slept.length_ns.count() == 0) {
    const std::string none = sleeps_without_record(result) ? "<p class=\"none\">No sleep was long enough for a record.</p>"
                                                           : "<p class=\"ok\">No allocation had to sleep.</p>";
    return section("sleeps", "Sleeping for memory", lead, lost.empty() ? none : lost);
  }
  const auto columns = [](const std::string& left, const std::string& right) {
    return "<div class=\"cols\"><div>" + left + "</div><div>" + right + "</div></div>";
  };
  return section("sleeps", "Sleeping for memory", lead,
                 sleep_cards(result) + lost +
                     columns("<h3>By length</h3>" + length_bars(slept), "<h3>By end</h3>" + sleep_table(slept.by_end, "Ended", false)) +
                     wake_matrix(slept.wakes) + "<h3>By flags</h3>" + sleep_table(slept.by_gfp, "Flags", true) +
                     columns("<h3>By CPU of the trace</h3>" + sleep_table(slept.by_cpu, "CPU", false),
                             "<h3>By what was waited for</h3>" + sleep_table(slept.by_pages, "Pages", false)));
}

}  // namespace kmem::tool::report
