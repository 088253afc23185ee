#include "top/terminal.hpp"

#include <curses.h>
#include <langinfo.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace kmem::tool::top {

namespace {

enum colour_pair : short { no_pair, title_pair, note_pair };

int attributes_of(tone how, bool colours) {
  switch (how) {
    case tone::title:
      return static_cast<int>(A_BOLD) | (colours ? static_cast<int>(COLOR_PAIR(title_pair)) : 0);
    case tone::header:
    case tone::selected:
      return static_cast<int>(A_REVERSE);
    case tone::note:
      return colours ? static_cast<int>(COLOR_PAIR(note_pair)) : 0;
    case tone::plain:
      return 0;
  }
  return 0;
}

}  // namespace

bool terminal::open(std::string& problem) {
  if (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0) {
    problem = "top: standard input and output are to be a terminal; --batch prints to anything";
    return false;
  }
  std::setlocale(LC_CTYPE, "");
  unicode_ = std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
  screen_ = newterm(nullptr, stdout, stdin);
  if (screen_ == nullptr) {
    const char* const name = std::getenv("TERM");
    problem = std::string("top: the terminal '") + (name != nullptr ? name : "") + "' (TERM) cannot be drawn on; --batch prints instead";
    return false;
  }
  set_escdelay(25);
  raw();  // ^C is a key, so that the terminal is always left as it was
  noecho();
  nonl();
  keypad(stdscr, TRUE);
  curs_set(0);
  colours_ = has_colors() && start_color() == OK && use_default_colors() == OK;
  if (colours_) {
    init_pair(title_pair, COLOR_CYAN, -1);
    init_pair(note_pair, COLOR_YELLOW, -1);
  }
  return true;
}

terminal::~terminal() {
  if (screen_ == nullptr) return;
  endwin();
  delscreen(static_cast<SCREEN*>(screen_));
}

std::size_t terminal::width() const { return static_cast<std::size_t>(COLS > 0 ? COLS : 0); }
std::size_t terminal::height() const { return static_cast<std::size_t>(LINES > 0 ? LINES : 0); }

void terminal::draw(const std::vector<screen_line>& lines) {
  erase();
  for (std::size_t i = 0; i < lines.size() && i < height(); i++) {
    std::string text = unicode_ ? lines[i].text : ascii(lines[i].text);
    const bool whole_line = lines[i].how == tone::header || lines[i].how == tone::selected;
    if (whole_line && text.size() < width()) text.resize(width(), ' ');
    attrset(attributes_of(lines[i].how, colours_));
    mvaddstr(static_cast<int>(i), 0, text.c_str());
  }
  attrset(0);
  refresh();
}

key_press terminal::wait_for_key(int milliseconds) {
  timeout(milliseconds);
  const int code = getch();
  switch (code) {
    case ERR:
      return {};
    case KEY_UP:
      return {key::up};
    case KEY_DOWN:
      return {key::down};
    case KEY_PPAGE:
      return {key::page_up};
    case KEY_NPAGE:
      return {key::page_down};
    case KEY_HOME:
      return {key::home};
    case KEY_END:
      return {key::end};
    case KEY_LEFT:
      return {key::left};
    case KEY_RIGHT:
      return {key::right};
    case KEY_RESIZE:
      return {key::resize};
    case KEY_ENTER:
    case '\r':
    case '\n':
      return {key::enter};
    case KEY_BACKSPACE:
    case 127:
    case 8:
      return {key::backspace};
    case 27:
      return {key::escape};
    case KEY_F(10):
      return {key::character, 'q'};
    default:
      return code >= 0 && code < 128 ? key_press{key::character, static_cast<char>(code)} : key_press{};
  }
}

}  // namespace kmem::tool::top
