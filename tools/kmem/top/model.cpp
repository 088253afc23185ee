#include "top/model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

namespace kmem::tool::top {

namespace {

struct column_info {
  const char* name;
  const char* heading;
  int width;  // negative: left-aligned; 0: the rest
};
constexpr std::array<column_info, nr_columns> columns = {{{"pid", "PID", 7},
                                                         {"budget", "BUDGET", 6},
                                                         {"charged", "CHARGED", 7},
                                                         {"use", "USE%", 5},
                                                         {"live", "LIVE", 6},
                                                         {"reserve", "RESERVE", 7},
                                                         {"nulls", "NULLS", 6},
                                                         {"refills", "REFILL/s", 8},
                                                         {"pages", "PAGE/s", 7},
                                                         {"command", "COMMAND", 0}}};

std::string aligned(const std::string& text, int width) {
  if (width == 0) return text;
  return fmt::format("{:>{}}", text, width);
}

std::string join(const std::array<std::string, nr_columns>& cells) {
  std::string line;
  for (unsigned i = 0; i < nr_columns; i++) line += (i == 0 ? "" : " ") + aligned(cells[i], columns[i].width);
  return line;
}

std::string short_number(double value) {
  constexpr const char* units[] = {"", "k", "M", "G", "T", "P"};
  unsigned unit = 0;
  for (; value >= 9999.5 && unit + 1 < std::size(units); unit++) value /= 1000;
  return unit == 0 || value >= 99.95 ? fmt::format("{:.0f}{}", value, units[unit]) : fmt::format("{:.1f}{}", value, units[unit]);
}
std::string rate_text(const rate& r) { return r.known ? short_number(r.per_second) : "-"; }

double share(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : 100 * static_cast<double>(part) / static_cast<double>(whole);
}

rate rate_between(std::uint64_t before, std::uint64_t after, const live::view& older, const live::view& newer) {
  if (newer.figures.time_ns > older.figures.time_ns && older.figures.time_ns != 0 && after >= before) {
    return {true, static_cast<double>(after - before) * 1e9 / static_cast<double>(newer.figures.time_ns - older.figures.time_ns)};
  }
  return {newer.events == older.events, 0};  // nothing has happened: that is known without figures
}

process_row row_of(const live::view& v, std::uint64_t now) {
  process_row row;
  row.pid = v.pid;
  row.command = v.command;
  row.budget = v.figures.budget;
  row.charged = v.charged_now();
  row.live = v.figures.live;
  row.live_known = v.figures.time_ns != 0;
  row.reserve = v.figures.reserve;
  row.nulls = v.figures.failures;
  row.age_ns = v.age_ns(now);
  return row;
}

}  // namespace

void model::take(look now) {
  before_.clear();
  for (live::view& old : now_.views) {
    const auto next = std::find_if(now.views.begin(), now.views.end(), [&](const live::view& v) { return v.pid == old.pid; });
    const bool same_program = next != now.views.end() && next->created_ns == old.created_ns;
    if (same_program) before_[old.pid] = std::move(old);
  }
  now_ = std::move(now);
  processes_.clear();
  for (const live::view& v : now_.views) {
    process_row row = row_of(v, now_.time_ns);
    if (const auto before = before_.find(v.pid); before != before_.end()) {
      const live::view& b = before->second;
      row.refills = rate_between(b.figures.refills, v.figures.refills, b, v);
      row.pages = rate_between(b.figures.pages_allocated, v.figures.pages_allocated, b, v);
    }
    processes_.push_back(std::move(row));
  }
}

const live::view* model::find(pid_t pid) const {
  const auto found = std::find_if(now_.views.begin(), now_.views.end(), [&](const live::view& v) { return v.pid == pid; });
  return found == now_.views.end() ? nullptr : &*found;
}

std::vector<cache_row> model::caches(pid_t pid) const {
  std::vector<cache_row> rows;
  const live::view* const v = find(pid);
  if (v == nullptr) return rows;
  const auto before = before_.find(pid);
  for (const live::cache& c : v->caches) {
    cache_row row{c.name, c.size, c.active, c.total, c.in_arrays, c.slab_bytes, {}};
    if (before != before_.end()) {
      const std::vector<live::cache>& old = before->second.caches;
      const auto same = std::find_if(old.begin(), old.end(), [&](const live::cache& each) { return each.name == c.name; });
      row.refills = rate_between(same == old.end() ? 0 : same->refills, c.refills, before->second, *v);
    }
    rows.push_back(std::move(row));
  }
  std::stable_sort(rows.begin(), rows.end(), [](const cache_row& a, const cache_row& b) { return a.slab_bytes > b.slab_bytes; });
  return rows;
}

const char* column_name(column which) { return columns[static_cast<unsigned>(which)].name; }

bool find_column(const std::string& name, column& result) {
  for (unsigned i = 0; i < nr_columns; i++) {
    if (name != columns[i].name) continue;
    result = static_cast<column>(i);
    return true;
  }
  return false;
}

void sort_processes(std::vector<process_row>& rows, column by, bool reversed) {
  const auto before = [by](const process_row& a, const process_row& b) {
    switch (by) {
      case column::pid:
        return a.pid < b.pid;
      case column::budget:
        return a.budget > b.budget;
      case column::charged:
        return a.charged > b.charged;
      case column::use:
        return share(a.charged, a.budget) > share(b.charged, b.budget);
      case column::live:
        return a.live > b.live;
      case column::reserve:
        return a.reserve > b.reserve;
      case column::nulls:
        return a.nulls > b.nulls;
      case column::refills:
        return a.refills.per_second > b.refills.per_second;
      case column::pages:
        return a.pages.per_second > b.pages.per_second;
      case column::command:
        return a.command < b.command;
    }
    return false;
  };
  std::sort(rows.begin(), rows.end(), [](const process_row& a, const process_row& b) { return a.pid < b.pid; });
  if (reversed)
    std::stable_sort(rows.begin(), rows.end(), [&](const process_row& a, const process_row& b) { return before(b, a); });
  else
    std::stable_sort(rows.begin(), rows.end(), before);
}

std::string short_bytes(std::uint64_t bytes) {
  constexpr const char* units[] = {"B", "K", "M", "G", "T", "P", "E"};
  auto value = static_cast<double>(bytes);
  unsigned unit = 0;
  for (; value >= 999.5 && unit + 1 < std::size(units); unit++) value /= 1024;
  if (unit == 0 || value >= 99.95) return fmt::format("{:.0f}{}", value, units[unit]);
  return value >= 9.995 ? fmt::format("{:.1f}{}", value, units[unit]) : fmt::format("{:.2f}{}", value, units[unit]);
}

std::string fitted(const std::string& text, std::size_t width) {
  if (width == 0) return text;
  std::size_t columns_used = 0, end = 0;
  while (end < text.size()) {
    std::size_t next = end + 1;
    while (next < text.size() && (static_cast<unsigned char>(text[next]) & 0xc0) == 0x80) next++;
    if (++columns_used > width) break;
    end = next;
  }
  return text.substr(0, end);
}

std::string ascii(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) result += c;
    if (byte >= 0xc0) result += '?';
  }
  return result;
}

std::string process_header(column sorted_by, std::size_t width) {
  std::array<std::string, nr_columns> cells;
  for (unsigned i = 0; i < nr_columns; i++) cells[i] = columns[i].heading;
  std::string& marked = cells[static_cast<unsigned>(sorted_by)];
  std::transform(marked.begin(), marked.end(), marked.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return fitted(join(cells), width);
}

std::string process_line(const process_row& row, std::size_t width) {
  return fitted(join({std::to_string(row.pid), short_bytes(row.budget), short_bytes(row.charged),
                      fmt::format("{:.1f}", std::min(share(row.charged, row.budget), 999.9)), row.live_known ? short_bytes(row.live) : "-",
                      row.live_known ? short_bytes(row.reserve) : "-", short_number(static_cast<double>(row.nulls)),
                      rate_text(row.refills), rate_text(row.pages), row.command}),
                width);
}

std::string cache_header(std::size_t width) {
  return fitted(fmt::format("{:<20} {:>7} {:>8} {:>8} {:>5} {:>7} {:>8} {:>8}", "CACHE", "SIZE", "ACTIVE", "TOTAL", "USE%", "SLABS",
                            "IN ARRAY", "REFILL/s"),
                width);
}

std::string cache_line(const cache_row& row, std::size_t width) {
  return fitted(fmt::format("{:<20} {:>7} {:>8} {:>8} {:>5.1f} {:>7} {:>8} {:>8}", fitted(row.name, 20), row.size,
                            short_number(static_cast<double>(row.active)), short_number(static_cast<double>(row.total)),
                            std::min(share(row.active, row.total), 999.9), short_bytes(row.slab_bytes),
                            short_number(static_cast<double>(row.in_arrays)), rate_text(row.refills)),
                width);
}

std::string title(const std::vector<process_row>& rows, const std::string& clock, double delay_seconds, std::size_t width) {
  std::uint64_t charged = 0, budget = 0;
  for (const process_row& row : rows) {
    charged += row.charged;
    budget += row.budget;
  }
  const char* const plural = rows.size() == 1 ? "" : "es";
  return fitted(fmt::format("kmem top - {}  {} process{}, {} charged of {}, every {:.1f} s", clock, rows.size(), plural,
                            short_bytes(charged), short_bytes(budget), delay_seconds),
                width);
}

}  // namespace kmem::tool::top
