#pragma once

// The report on a terminal: tables of at most 100 columns.

#include <cstddef>
#include <string>

#include "result.hpp"

namespace kmem::tool::report {

struct text_options {
  bool colour = false;
  bool unicode = true;        // bars from block characters; '#' and '.' otherwise
  std::size_t top_rows = 12;  // longest lists are cut here; rows with failures always show. 0: everything
};

// Return: options for a stream: colour when it is a terminal, NO_COLOR is unset or empty and TERM is not "dumb";
// block characters when the locale's character set is UTF-8.
[[nodiscard]] text_options options_for_stream(int descriptor);

[[nodiscard]] std::string text_report(const replay_result& result, const text_options& options);

// What differs between two replays, by flag and context. Meant for one trace under two budgets, the larger first.
[[nodiscard]] std::string text_comparison(const replay_result& first, const replay_result& second, const text_options& options);

// A bar of `width` columns, `value` of `whole` filled. A value above the whole fills it.
[[nodiscard]] std::string text_bar(std::uint64_t value, std::uint64_t whole, std::size_t width, bool unicode);

}  // namespace kmem::tool::report
