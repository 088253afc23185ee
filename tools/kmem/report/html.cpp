#include "html.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "compare.hpp"
#include "escape.hpp"
#include "html_parts.hpp"
#include "units.hpp"

namespace kmem::tool::report {

namespace {

[[nodiscard]] std::string fact(std::string_view name, std::string_view value) {
  return value.empty() ? "" : fmt::format("<div><dt>{}</dt><dd>{}</dd></div>", html_escape(name), html_escape(value));
}

[[nodiscard]] std::string facts(const replay_result& result) {
  std::string out;
  for (const trace_info& trace : result.traces) {
    out += fact("Trace", fmt::format("{} ({}, {} events over {})", trace.path, human_bytes(trace.file_bytes), human_count(trace.events),
                                     human_ns(trace.duration_ns)));
    const std::string cpus = trace.cpus == 0 ? "" : fmt::format("{} CPUs", trace.cpus);
    out += fact("Recorded on", trace.kernel.empty() || cpus.empty() ? trace.kernel + cpus : trace.kernel + ", " + cpus);
  }
  out += fact("Threads", result.threads == 0 ? "" : fmt::format("{}", result.threads));
  out += fact("Memory touched", result.touch ? "yes" : "no");
  out += fact("Contents verified", result.verify ? "yes" : "no");
  for (const name_value& parameter : result.parameters) {
    out += fact(parameter.name, parameter.value);
  }
  return "<dl class=\"facts\">" + out + "</dl>";
}

[[nodiscard]] std::string header(const replay_result& result) {
  return fmt::format("<header><h1>{}</h1><p class=\"pill {}\" style=\"margin:0\">{}</p>{}</header>\n", html_escape(title_of(result)),
                     is_clean(result) ? "good" : "bad", html_escape(verdict(result)), facts(result));
}

[[nodiscard]] std::string meter(std::uint64_t part, std::uint64_t whole, std::string_view shade) {
  return fmt::format("<div class=\"meter\"><i class=\"{}\" style=\"width:{:.1f}%\"></i></div>", shade,
                     std::min(100.0, percent(part, whole)));
}

[[nodiscard]] std::string budget_card(std::string_view label, std::uint64_t bytes, std::uint64_t budget, std::string_view shade) {
  const std::string note = budget == 0 ? ""
                                       : fmt::format("{}<span>{} of {}</span>", meter(bytes, budget, shade),
                                                     html_escape(human_percent(percent(bytes, budget))), human_bytes(budget));
  return card(label, human_bytes(bytes), note);
}

[[nodiscard]] std::string speed_card(const replay_result& result) {
  if (result.wall_ns == 0) {
    return card("Speed", "-", fmt::format("{} events", human_count(result.total.events)));
  }
  return card("Speed", short_count(per_second(result.total.events, result.wall_ns)) + "/s",
              fmt::format("{} events in {}", human_count(result.total.events), html_ns(result.wall_ns)));
}

[[nodiscard]] std::string cards(const replay_result& result) {
  const totals& total = result.total;
  std::string out = card("Allocations", human_count(total.allocs), html_escape(human_bytes(total.requested_bytes)) + " asked for");
  out += card("Returned NULL", human_count(total.failed),
              total.failed == 0 ? "nothing failed" : html_escape(human_percent(percent(total.failed, total.allocs))) + " of all",
              total.failed == 0 ? "good" : "bad");
  out += budget_card("Charged, peak", result.peak.charged_bytes, result.budget_bytes, "c1");
  out += budget_card("Live, peak", result.peak.live_bytes, result.budget_bytes, "c2");
  out += budget_card("Metadata, peak", result.peak.metadata_bytes, result.budget_bytes, "c4");
  out += card("Reclaimed", human_bytes(total.dropped_bytes),
              total.dropped_pages == 0
                  ? "no memory was short"
                  : fmt::format("{} pages in {} calls", human_count(total.dropped_pages), human_count(total.reclaim_calls)));
  out += card("Errors", human_count(total.errors), result.verify ? "every object's contents checked" : "contents were not checked",
              total.errors == 0 ? (result.verify ? "good" : "") : "bad");
  out += speed_card(result);
  return "<div class=\"cards\">" + out + "</div>\n";
}

}  // namespace

std::string card(std::string_view label, std::string_view value, std::string_view note, std::string_view shade) {
  return fmt::format("<div class=\"card\"><div class=\"k\">{}</div><div class=\"v {}\">{}</div><div class=\"n\">{}</div></div>",
                     html_escape(label), shade, html_escape(value), note);
}

std::string section(std::string_view id, std::string_view heading, std::string_view lead, std::string_view content) {
  return fmt::format("<section id=\"{}\" aria-labelledby=\"{}-h\"><h2 id=\"{}-h\">{}</h2><p class=\"lead\">{}</p>{}</section>\n", id, id,
                     id, html_escape(heading), lead, content);
}

std::string data_block(std::string_view id, std::string_view json) {
  return fmt::format("<script type=\"application/json\" id=\"{}\">{}</script>\n", id, script_safe(json));
}

std::string legend_item(std::string_view shade, std::string_view text) {
  return fmt::format("<li><i class=\"{}\"></i>{}</li>", shade, html_escape(text));
}

std::string html_ns(std::uint64_t ns) {
  std::string text = human_ns(ns);
  if (text.ends_with(" us")) {
    text.replace(text.size() - 2, 1, "\u00b5");
  }
  return text;
}

std::vector<std::string> class_order(const replay_result& result) {
  std::vector<std::string> order = result.gfp_classes;
  const auto add = [&order](const std::string& name) {
    if (std::find(order.begin(), order.end(), name) == order.end()) {
      order.push_back(name);
    }
  };
  for (const context_row& row : result.by_context) {
    add(row.gfp_class);
  }
  for (const gfp_row& row : result.by_gfp) {
    add(row.gfp_class);
  }
  for (const failure_record& record : result.failures) {
    add(record.gfp_class);
  }
  return order;
}

std::string shade_of(std::size_t number) { return fmt::format("c{}", number % 9 + 1); }

std::string shade_of(alloc_context context) {
  static constexpr const char* shades[] = {"c1", "c3", "c4", "c5"};
  return shades[static_cast<std::size_t>(context) % alloc_context_count];
}

std::string page(std::string_view title, std::string_view navigation, std::string_view body) {
  std::string out = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  out += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n";
  out += fmt::format("<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n", html_escape(title), page_style());
  out += fmt::format(
      "<div class=\"bar\"><div class=\"in\"><a class=\"brand\" href=\"#top\"><b>kmem</b> replay</a><nav aria-label=\"Sections\">{}</nav>"
      "<button id=\"theme\" class=\"needs-js\" type=\"button\">Light / dark</button></div></div>\n",
      navigation);
  out += fmt::format("<main id=\"top\">\n{}</main>\n<div id=\"tip\" role=\"status\"></div>\n<script>{}</script>\n</body>\n</html>\n", body,
                     page_script());
  return out;
}

std::string html_report(const replay_result& result) {
  static constexpr std::string_view navigation =
      "<a href=\"#time\">Memory</a><a href=\"#flags\">Flags</a><a href=\"#failures\">Failures</a><a href=\"#reserve\">Reserve</a>"
      "<a href=\"#sleeps\">Sleeps</a><a href=\"#blocks-section\">Page blocks</a>"
      "<a href=\"#latency\">Latency</a><a href=\"#waste\">Waste</a><a href=\"#details\">Details</a>";
  std::string body = header(result) + cards(result) + time_section(result) + flag_section(result) + failure_section(result) +
                     reserve_section(result) + sleep_html_section(result) + block_section(result) + latency_section(result) +
                     waste_section(result) + detail_section(result);
  body += fmt::format("<footer>Written by kmem replay{}. Sizes are in powers of 1024.</footer>\n",
                      result.kmem_version.empty() ? "" : " " + html_escape(result.kmem_version));
  return page("kmem replay: " + title_of(result), navigation, body);
}

}  // namespace kmem::tool::report
