#include "escape.hpp"

#include <cstdint>

namespace kmem::tool::report {

namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";  // U+FFFD

bool is_continuation(char byte) noexcept { return (static_cast<unsigned char>(byte) & 0xC0u) == 0x80u; }

void append_escaped(std::string& out, char byte) {
  switch (byte) {
    case '&':
      out += "&amp;";
      break;
    case '<':
      out += "&lt;";
      break;
    case '>':
      out += "&gt;";
      break;
    case '"':
      out += "&quot;";
      break;
    case '\'':
      out += "&#39;";
      break;
    case '\t':
    case '\n':
      out += byte;
      break;
    default:
      if (static_cast<unsigned char>(byte) < 0x20 || byte == 0x7F) {
        out += replacement;
      } else {
        out += byte;
      }
  }
}

std::string escape(std::string_view text, bool breakable) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    if (length == 0) {
      out += replacement;
      text.remove_prefix(1);
      continue;
    }
    if (length == 1) {
      append_escaped(out, text.front());
      if (breakable && text.front() == '|') {
        out += "<wbr>";
      }
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return out;
}

}  // namespace

std::size_t utf8_length(std::string_view text) noexcept {
  if (text.empty()) {
    return 0;
  }
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) {
    return 1;
  }
  const std::size_t length = first >= 0xC2 && first < 0xE0 ? 2 : first >= 0xE0 && first < 0xF0 ? 3 : first >= 0xF0 && first < 0xF5 ? 4 : 0;
  if (length == 0 || text.size() < length) {
    return 0;
  }
  std::uint32_t code = first & (0xFFu >> (length + 1));
  for (std::size_t place = 1; place < length; ++place) {
    if (!is_continuation(text[place])) {
      return 0;
    }
    code = (code << 6) | (static_cast<unsigned char>(text[place]) & 0x3Fu);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xD800 && code < 0xE000;
  const bool control = code < 0xA0;  // C1 controls are no text either
  return overlong || surrogate || control || code > 0x10FFFF ? 0 : length;
}

std::string printable(std::string_view text) {
  std::string out(text);
  for (char& byte : out) {
    if (byte < 0x20 || byte > 0x7E) {
      byte = '?';
    }
  }
  return out;
}

std::string html_escape(std::string_view text) { return escape(text, false); }

std::string html_escape_breakable(std::string_view text) { return escape(text, true); }

std::string script_safe(std::string_view json) {
  std::string out;
  out.reserve(json.size());
  for (const char byte : json) {
    if (byte == '<') {
      out += "\\u003c";
    } else {
      out += byte;
    }
  }
  return out;
}

}  // namespace kmem::tool::report
