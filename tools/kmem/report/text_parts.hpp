#pragma once

// Pieces that the report on a terminal is put together from.

#include <cstddef>
#include <string>
#include <string_view>

#include "result.hpp"
#include "table.hpp"
#include "text.hpp"

namespace kmem::tool::report {

[[nodiscard]] std::string heading(std::string_view text, const text_options& options);
[[nodiscard]] std::size_t limit_of(const text_options& options) noexcept;
void add_rest_note(text_table& table, std::size_t left, std::string_view where = "the JSON and HTML reports");

// ---- sections; empty when there is nothing to tell ----
[[nodiscard]] std::string sleep_section(const replay_result& result, const text_options& options);
[[nodiscard]] std::string reclaim_section(const replay_result& result, const text_options& options);

}  // namespace kmem::tool::report
