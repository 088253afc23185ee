#pragma once

// Names in a report come from a trace file, which anybody may have written: they pass through here on the way out.

#include <cstddef>
#include <string>
#include <string_view>

namespace kmem::tool::report {

// For a terminal: printable ASCII stays, every other byte becomes '?', so that no escape sequence gets through
// and one byte is one column.
[[nodiscard]] std::string printable(std::string_view text);

// For HTML text and double-quoted attributes: & < > " ' become references; control characters and bytes that are
// not UTF-8 become U+FFFD.
[[nodiscard]] std::string html_escape(std::string_view text);

// As html_escape, and the line may break after each '|': gfp strings are long.
[[nodiscard]] std::string html_escape_breakable(std::string_view text);

// JSON text made safe inside <script>: '<' becomes \u003c, which means the same to a JSON parser.
[[nodiscard]] std::string script_safe(std::string_view json);

// Return: the length of the UTF-8 sequence at the start of `text`, 0 when there is no valid one.
[[nodiscard]] std::size_t utf8_length(std::string_view text) noexcept;

}  // namespace kmem::tool::report
