#pragma once

// Aligned columns for a terminal.

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kmem::tool::report {

enum class align { left, right };

// Sixteen-colour codes, so that the terminal's own theme decides what they look like.
enum class tint { none, bold, dim, red, green, yellow, blue, magenta, cyan };

// `text` in colour when `colour` is set, unchanged otherwise.
[[nodiscard]] std::string tinted(std::string_view text, tint shade, bool colour);

// Columns that a UTF-8 text takes when every character is one wide; colour codes must not be in it yet.
[[nodiscard]] std::size_t display_width(std::string_view text) noexcept;

class text_table {
 public:
  struct column {
    std::string heading;
    align side = align::right;
    std::size_t max_width = 0;  // longer cells go on in further lines, see `wrapped`; 0: no limit
  };
  struct cell {
    std::string text;
    tint shade = tint::none;
    cell(std::string value, tint colour = tint::none) : text(std::move(value)), shade(colour) {}
    cell(const char* value, tint colour = tint::none) : text(value), shade(colour) {}
  };

  explicit text_table(std::vector<column> columns) : columns_(std::move(columns)) {}

  void add(std::vector<cell> cells);                                           // missing cells are empty
  void add_note(std::string text) { rows_.push_back({{}, std::move(text)}); }  // a dim line of its own
  [[nodiscard]] bool empty() const noexcept { return rows_.empty(); }

  // Every line starts with `indent` spaces, ends without blanks and is not longer than the columns need.
  [[nodiscard]] std::string render(bool colour, std::size_t indent = 2) const;

 private:
  struct row {
    std::vector<cell> cells;
    std::string note;
  };
  [[nodiscard]] std::vector<std::size_t> widths() const;
  void render_row(std::string& out, const row& one, const std::vector<std::size_t>& widths, bool colour, std::size_t indent) const;

  std::vector<column> columns_;
  std::vector<row> rows_;
};

// Cuts `text` at line ends and into pieces of at most `width` columns, after '|' or at a blank where possible; that blank
// and blanks at the end are left out. The text is ASCII. width 0: no limit.
[[nodiscard]] std::vector<std::string> wrapped(std::string_view text, std::size_t width);

}  // namespace kmem::tool::report
