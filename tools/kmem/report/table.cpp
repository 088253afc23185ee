#include "table.hpp"

#include <algorithm>
#include <utility>

namespace kmem::tool::report {

namespace {

[[nodiscard]] const char* code_of(tint shade) noexcept {
  switch (shade) {
    case tint::none:
      return "";
    case tint::bold:
      return "\x1b[1m";
    case tint::dim:
      return "\x1b[2m";
    case tint::red:
      return "\x1b[31m";
    case tint::green:
      return "\x1b[32m";
    case tint::yellow:
      return "\x1b[33m";
    case tint::blue:
      return "\x1b[34m";
    case tint::magenta:
      return "\x1b[35m";
    case tint::cyan:
      return "\x1b[36m";
  }
  return "";
}

void trim_end(std::string& line) {
  const std::size_t last = line.find_last_not_of(' ');
  line.erase(last == std::string::npos ? 0 : last + 1);
}

}  // namespace

std::string tinted(std::string_view text, tint shade, bool colour) {
  if (!colour || shade == tint::none || text.empty()) {
    return std::string(text);
  }
  return code_of(shade) + std::string(text) + "\x1b[0m";
}

std::size_t display_width(std::string_view text) noexcept {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0u) != 0x80u; }));
}

std::vector<std::string> wrapped(std::string_view text, std::size_t width) {
  std::vector<std::string> pieces;
  if (const std::size_t end = text.find('\n'); end != std::string_view::npos) {
    pieces = wrapped(text.substr(0, end), width);
    const std::vector<std::string> rest = wrapped(text.substr(end + 1), width);
    pieces.insert(pieces.end(), rest.begin(), rest.end());
    return pieces;
  }
  const std::size_t last = text.find_last_not_of(' ');
  text = text.substr(0, last == std::string_view::npos ? 0 : last + 1);
  while (width != 0 && text.size() > width) {
    // A blank just behind the last column may be the cut too.
    std::size_t cut = text[width] == ' ' ? width : text.substr(0, width).find_last_of("| ");
    cut = cut == std::string_view::npos ? width : text[cut] == '|' ? cut + 1 : cut;
    cut = cut == 0 ? width : cut;
    pieces.emplace_back(text.substr(0, cut));
    trim_end(pieces.back());
    text.remove_prefix(text.size() > cut && text[cut] == ' ' ? cut + 1 : cut);
  }
  pieces.emplace_back(text);
  return pieces;
}

void text_table::add(std::vector<cell> cells) {
  cells.resize(columns_.size(), cell(""));
  rows_.push_back({std::move(cells), {}});
}

std::vector<std::size_t> text_table::widths() const {
  std::vector<std::size_t> widths;
  for (const column& one : columns_) {
    widths.push_back(display_width(one.heading));
  }
  for (const row& one : rows_) {
    for (std::size_t place = 0; place < one.cells.size(); ++place) {
      for (const std::string& piece : wrapped(one.cells[place].text, columns_[place].max_width)) {
        widths[place] = std::max(widths[place], display_width(piece));
      }
    }
  }
  return widths;
}

void text_table::render_row(std::string& out, const row& one, const std::vector<std::size_t>& widths, bool colour,
                            std::size_t indent) const {
  std::vector<std::vector<std::string>> pieces;
  std::size_t lines = 1;
  for (std::size_t place = 0; place < columns_.size(); ++place) {
    pieces.push_back(wrapped(one.cells[place].text, columns_[place].max_width));
    lines = std::max(lines, pieces.back().size());
  }
  for (std::size_t number = 0; number < lines; ++number) {
    std::string line(indent, ' ');
    for (std::size_t place = 0; place < columns_.size(); ++place) {
      const std::string text = number < pieces[place].size() ? pieces[place][number] : std::string();
      const std::string padding(widths[place] - display_width(text), ' ');
      const std::string shown = tinted(text, one.cells[place].shade, colour);
      line += place == 0 ? "" : "  ";
      line += columns_[place].side == align::left ? shown + padding : padding + shown;
    }
    trim_end(line);
    out += line + "\n";
  }
}

std::string text_table::render(bool colour, std::size_t indent) const {
  const std::vector<std::size_t> column_widths = widths();
  std::string out;
  row headings;
  bool any_heading = false;
  for (const column& one : columns_) {
    headings.cells.emplace_back(one.heading, tint::dim);
    any_heading = any_heading || !one.heading.empty();
  }
  if (any_heading) {
    render_row(out, headings, column_widths, colour, indent);
  }
  for (const row& one : rows_) {
    if (one.cells.empty()) {
      out += std::string(indent, ' ') + tinted(one.note, tint::dim, colour) + "\n";
    } else {
      render_row(out, one, column_widths, colour, indent);
    }
  }
  return out;
}

}  // namespace kmem::tool::report
