#include "live/summary.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "report/table.hpp"
#include "report/units.hpp"

namespace kmem::tool::live {

namespace {

std::string share_of(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? "" : report::human_percent(100 * static_cast<double>(part) / static_cast<double>(whole));
}

std::string cache_table(const view& v, const report::text_options& options) {
  std::vector<cache> caches = v.caches;
  std::stable_sort(caches.begin(), caches.end(), [](const cache& a, const cache& b) { return a.slab_bytes > b.slab_bytes; });
  report::text_table table({{"cache", report::align::left}, {"size"}, {"active"}, {"total"}, {"in CPU arrays"}, {"slabs"}});
  for (const cache& c : caches) {
    if (c.total == 0) continue;
    table.add({c.name, report::human_count(c.size), report::human_count(c.active), report::human_count(c.total),
               report::human_count(c.in_arrays), report::human_bytes(c.slab_bytes)});
    if (options.top_rows != 0 && &c - caches.data() + 1 == static_cast<std::ptrdiff_t>(options.top_rows)) {
      table.add_note("the largest; 'kmem stat PID slabinfo' has all");
      break;
    }
  }
  return table.empty() ? "" : "\n" + table.render(options.colour);
}

}  // namespace

std::string age_note(const view& v, std::uint64_t now, std::uint64_t fresh_ns) {
  if (v.torn) return "these figures were being written for too long to be read in one piece: some may be wrong";
  if (v.figures.time_ns == 0) return "only 'budget' and 'charged' are known: the process has shown nothing else yet";
  const std::uint64_t age = v.age_ns(now);
  if (age < fresh_ns) return "";
  return fmt::format("all but 'charged' are {} old: the process has not come to the allocator's slow path since it was asked",
                     report::human_ns(age));
}

std::string summary_text(const view& v, std::uint64_t now, const report::text_options& options) {
  const stat::figures& f = v.figures;
  report::text_table table({{"", report::align::left}, {""}, {""}, {"", report::align::left}});
  const auto row = [&](const char* name, std::uint64_t bytes, const std::string& about) {
    table.add({name, report::human_bytes(bytes), share_of(bytes, f.budget), about});
  };
  row("budget", f.budget, "");
  row("charged", v.charged_now(), fmt::format("peak {}", report::human_bytes(std::max(f.charged_peak, v.charged_now()))));
  row("live", f.live, "handed out to the program");
  row("metadata", f.metadata, "");
  row("free", f.free, "");
  row("reserve", f.reserve, fmt::format("of {} wanted", report::human_bytes(f.reserve_wanted)));
  row("in CPU lists", f.in_cpu_lists, "");
  row("backed", f.backed, "may be resident");
  table.add({"NULLs", report::human_count(f.failures)});
  table.add({"reclaimed", report::human_bytes(f.reclaimed)});
  std::string text = fmt::format("process {}  {}\n{}", v.pid, v.command, table.render(options.colour, 0));
  const std::string note = age_note(v, now);
  if (!note.empty()) text += "  " + report::tinted(note, report::tint::yellow, options.colour) + "\n";
  return text + cache_table(v, options);
}

nlohmann::ordered_json summary_json(const view& v, std::uint64_t now) {
  const stat::figures& f = v.figures;
  nlohmann::ordered_json json = {{"pid", v.pid},
                                 {"command", v.command},
                                 {"figures_age_ns", f.time_ns != 0 ? nlohmann::ordered_json(v.age_ns(now)) : nlohmann::ordered_json()},
                                 {"torn", v.torn},
                                 {"budget", f.budget},
                                 {"charged", v.charged_now()},
                                 {"charged_peak", std::max(f.charged_peak, v.charged_now())},
                                 {"live", f.live},
                                 {"metadata", f.metadata},
                                 {"free", f.free},
                                 {"backed", f.backed},
                                 {"in_cpu_lists", f.in_cpu_lists},
                                 {"reserve", f.reserve},
                                 {"reserve_wanted", f.reserve_wanted},
                                 {"nulls", f.failures},
                                 {"reclaimed", f.reclaimed},
                                 {"pages_allocated", f.pages_allocated},
                                 {"pages_freed", f.pages_freed},
                                 {"refills", f.refills},
                                 {"flushes", f.flushes},
                                 {"slow_paths", v.events}};
  nlohmann::ordered_json counters = nlohmann::ordered_json::object();
  for (const counter& each : v.counters) counters[each.name] = each.value;
  json["vmstat"] = counters;
  nlohmann::ordered_json caches = nlohmann::ordered_json::array();
  for (const cache& c : v.caches) {
    caches.push_back({{"name", c.name},
                      {"size", c.size},
                      {"active", c.active},
                      {"total", c.total},
                      {"in_cpu_arrays", c.in_arrays},
                      {"slab_bytes", c.slab_bytes},
                      {"refills", c.refills}});
  }
  json["caches"] = caches;
  return json;
}

}  // namespace kmem::tool::live
