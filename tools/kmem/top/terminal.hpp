#pragma once

// The terminal, by ncurses; nothing else includes its headers, which define macros for half of the dictionary.

#include <string>
#include <vector>

#include "top/state.hpp"

namespace kmem::tool::top {

class terminal {
 public:
  // Return: false, with `problem` set, if there is none that can be drawn on. As it was again when the object goes.
  bool open(std::string& problem);
  terminal() = default;
  ~terminal();
  terminal(const terminal&) = delete;
  terminal& operator=(const terminal&) = delete;

  std::size_t width() const;
  std::size_t height() const;
  void draw(const std::vector<screen_line>& lines);
  key_press wait_for_key(int milliseconds);

 private:
  void* screen_ = nullptr;
  bool colours_ = false;
  bool unicode_ = false;
};

}  // namespace kmem::tool::top
