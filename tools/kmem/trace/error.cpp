#include "error.hpp"

#include <algorithm>

namespace kmem::tool::trace {

namespace {

// Length of the well-formed UTF-8 sequence that starts at `at`, 0 when there is none.
std::size_t utf8_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t index) { return static_cast<unsigned char>(text[index]); };
  const unsigned first = byte(at);
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
  if (length == 0 || first > 0xf4 || at + length > text.size()) return 0;
  for (std::size_t next = 1; next < length; next++) {
    if ((byte(at + next) & 0xc0) != 0x80) return 0;
  }
  // C1 control characters (U+0080 to U+009F) can drive a terminal like escape sequences do.
  if (first == 0xc2 && byte(at + 1) < 0xa0) return 0;
  return length;
}

void append_escaped(std::string& out, std::string_view text) {
  static constexpr char digits[] = "0123456789abcdef";
  for (std::size_t at = 0; at < text.size();) {
    const auto value = static_cast<unsigned char>(text[at]);
    if (value == '\t') {
      out += ' ';
      at++;
    } else if (value >= 0x20 && value < 0x7f) {
      out += text[at++];
    } else if (const std::size_t length = value < 0x80 ? 0 : utf8_length(text, at); length != 0) {
      out.append(text.substr(at, length));
      at += length;
    } else {
      out += "\\x";
      out += digits[value >> 4];
      out += digits[value & 15];
      at++;
    }
  }
}

}  // namespace

std::string printable(std::string_view line, std::size_t focus, std::size_t limit) {
  std::size_t begin = 0;
  if (line.size() > limit && focus > limit / 2) begin = std::min(focus - limit / 2, line.size() - limit);
  const std::size_t length = std::min(limit, line.size() - begin);
  std::string out;
  if (begin != 0) out += "...";
  append_escaped(out, line.substr(begin, length));
  if (begin + length < line.size()) out += "...";
  return out;
}

std::string quoted(std::string_view value, std::size_t limit) { return "\"" + printable(value, 0, limit) + "\""; }

std::string trace_error::to_string() const {
  std::string out = printable(file, 0, 4096);
  if (line != 0) out += ":" + std::to_string(line);
  if (line != 0 && column != 0) out += ":" + std::to_string(column);
  out += ": " + what;
  if (!text.empty()) out += "\n  line: " + text;
  if (!expected.empty()) out += "\n  expected: " + expected;
  if (!advice.empty()) out += "\n  " + advice;
  return out;
}

}  // namespace kmem::tool::trace
