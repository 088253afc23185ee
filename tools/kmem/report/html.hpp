#pragma once

// The report as one self-contained HTML file: styles, pictures (SVG) and script are inside, nothing is fetched.
// It reads without the script too; that adds tooltips, the time slider of the page-block map and the theme switch.

#include <string>

#include "result.hpp"

namespace kmem::tool::report {

[[nodiscard]] std::string html_report(const replay_result& result);

// Two replays side by side. Meant for one trace under two budgets, the larger first.
[[nodiscard]] std::string html_comparison(const replay_result& first, const replay_result& second);

}  // namespace kmem::tool::report
