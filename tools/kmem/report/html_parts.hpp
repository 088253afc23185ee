#pragma once

// The pieces that the HTML pages are put together from. Each returns balanced HTML with everything escaped.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "result.hpp"

namespace kmem::tool::report {

// ---- shared ----
[[nodiscard]] std::string page(std::string_view title, std::string_view navigation, std::string_view body);
[[nodiscard]] std::string section(std::string_view id, std::string_view heading, std::string_view lead, std::string_view content);
[[nodiscard]] std::string card(std::string_view label, std::string_view value, std::string_view note, std::string_view shade = "");
[[nodiscard]] std::string data_block(std::string_view id, std::string_view json);  // <script type="application/json">
[[nodiscard]] std::string legend_item(std::string_view shade, std::string_view text);
[[nodiscard]] std::string html_ns(std::uint64_t ns);  // with the micro sign
[[nodiscard]] std::string_view page_style();
[[nodiscard]] std::string_view page_script();

// The gfp classes of a result in display order: gfp_classes, then those that occur only in rows.
[[nodiscard]] std::vector<std::string> class_order(const replay_result& result);
// The style class ("c1".."c9") of the nth of a set of categories.
[[nodiscard]] std::string shade_of(std::size_t number);
[[nodiscard]] std::string shade_of(alloc_context context);

// ---- sections of a report ----
[[nodiscard]] std::string time_section(const replay_result& result);
[[nodiscard]] std::string flag_section(const replay_result& result);
[[nodiscard]] std::string failure_section(const replay_result& result);
[[nodiscard]] std::string reserve_section(const replay_result& result);
[[nodiscard]] std::string sleep_html_section(const replay_result& result);
[[nodiscard]] std::string block_section(const replay_result& result);
[[nodiscard]] std::string latency_section(const replay_result& result);
[[nodiscard]] std::string waste_section(const replay_result& result);
[[nodiscard]] std::string detail_section(const replay_result& result);

// At most `limit` samples that keep the peaks of charge: of each stretch the one with the highest charge.
[[nodiscard]] std::vector<sample> thinned(const std::vector<sample>& samples, std::size_t limit);
// The same, of each stretch the one with the least in reserve, then the least free.
[[nodiscard]] std::vector<sample> thinned_to_lows(const std::vector<sample>& samples, std::size_t limit);

}  // namespace kmem::tool::report
