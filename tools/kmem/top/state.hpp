#pragma once

// What the live view shows next, key by key; knows no terminal.

#include <string>
#include <vector>

#include "top/model.hpp"

namespace kmem::tool::top {

enum class key : std::uint8_t { none, up, down, page_up, page_down, home, end, enter, escape, backspace, left, right, resize, character };
struct key_press {
  key what = key::none;
  char character = '\0';
};

enum class tone : std::uint8_t { plain, title, header, selected, note };
struct screen_line {
  std::string text;
  tone how = tone::plain;
};

class state {
 public:
  double delay_seconds = 2;
  column sorted_by = column::charged;
  bool reversed = false;

  void take(look now) { model_.take(std::move(now)); }
  // Return: false when the view is to be left. `look_again`: figures are wanted now.
  bool press(const key_press& pressed, bool& look_again);
  // At most `height` lines of at most `width` columns. Remembers both for the keys that move by pages.
  std::vector<screen_line> draw(std::size_t width, std::size_t height, const std::string& clock);

 private:
  bool press_in_prompt(const key_press& pressed);
  bool press_character(char character, bool& look_again);
  void move_by(long rows);
  std::vector<screen_line> list_lines(std::size_t width, std::size_t rows);
  std::vector<screen_line> cache_lines(std::size_t width, std::size_t rows);
  std::vector<screen_line> help_lines(std::size_t width, std::size_t rows) const;
  std::string bottom() const;

  model model_;
  std::vector<process_row> rows_;  // as drawn
  pid_t selected_ = 0;
  std::size_t first_ = 0;          // row of the list at the top of the screen
  std::size_t first_cache_ = 0;
  std::size_t page_ = 1;           // rows of the list that are visible
  pid_t caches_of_ = 0;            // not 0: the caches of this process are shown
  bool help_ = false;
  bool asking_delay_ = false;
  std::string answer_;
  std::string note_;
};

}  // namespace kmem::tool::top
