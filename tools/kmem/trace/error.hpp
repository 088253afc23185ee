#pragma once

// One problem with a trace, worded for the person who typed the command: where, what was found, what was expected,
// what to do about it.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace kmem::tool::trace {

struct trace_error {
  std::string file;
  std::uint64_t line = 0;    // from 1; 0 when the problem has no line (a missing file)
  std::uint32_t column = 0;  // from 1, in bytes; 0 when not known
  std::string what;          // what was found
  std::string expected;      // empty when nothing in particular was
  std::string advice;        // what to do; may be empty
  std::string text;          // the line, shortened and printable

  // "FILE:LINE:COLUMN: WHAT", then one indented line each for the text, the expectation and the advice.
  std::string to_string() const;
};

inline constexpr std::size_t shown_line_bytes = 160;

// A line fit for a terminal: at most `limit` bytes of it around byte `focus`, other bytes than printable ASCII and
// UTF-8 as \xNN, "..." where something was left out.
std::string printable(std::string_view line, std::size_t focus = 0, std::size_t limit = shown_line_bytes);

// A value in quotes, shortened and printable.
std::string quoted(std::string_view value, std::size_t limit = 60);

}  // namespace kmem::tool::trace
