#include "top/state.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>

namespace kmem::tool::top {

namespace {

constexpr double least_delay = 0.1, most_delay = 3600;

constexpr const char* help[] = {
    "q, Esc     leave; Esc also goes back",
    "up, down   select a process; PgUp, PgDn, Home, End",
    "Enter      caches of the selected process",
    "< >        sort by the column to the left, to the right",
    "p b c u l R n f a  by pid, budget, charged, use, live, reserve,",
    "           NULLs, refills, pages",
    "r          the other way round",
    "s, d       seconds between looks",
    "Space      look now",
    "",
    "CHARGED is true at every look. LIVE, RESERVE, NULLS and rates are",
    "what the process has written last: it does when it comes to a slow",
    "path. REFILL/s counts batches of objects that CPUs' arrays fetched,",
    "PAGE/s pages; what the arrays serve themselves nobody counts.",
    "-: not written since the look before.",
};

constexpr struct {
  char character;
  column by;
} sort_keys[] = {{'p', column::pid},     {'b', column::budget}, {'c', column::charged}, {'u', column::use},  {'l', column::live},
                 {'R', column::reserve}, {'n', column::nulls},  {'f', column::refills}, {'a', column::pages}};

}  // namespace

bool state::press_in_prompt(const key_press& pressed) {
  switch (pressed.what) {
    case key::enter: {
      double value = 0;
      const auto [end, error] = std::from_chars(answer_.data(), answer_.data() + answer_.size(), value);
      const bool number = error == std::errc{} && end == answer_.data() + answer_.size();
      asking_delay_ = false;
      if (number && value >= least_delay && value <= most_delay)
        delay_seconds = value;
      else if (!answer_.empty())
        note_ = fmt::format("'{}' is no number of seconds from {} to {}", answer_, least_delay, most_delay);
      return true;
    }
    case key::escape:
      asking_delay_ = false;
      return true;
    case key::backspace:
      if (!answer_.empty()) answer_.pop_back();
      return true;
    case key::character:
      if (answer_.size() < 8 && pressed.character > ' ' && pressed.character < 0x7f) answer_ += pressed.character;
      return true;
    default:
      return true;
  }
}

void state::move_by(long rows) {
  if (caches_of_ != 0) {
    const long at = static_cast<long>(first_cache_) + rows;
    first_cache_ = at < 0 ? 0 : static_cast<std::size_t>(at);
    return;
  }
  if (rows_.empty()) return;
  const auto found = std::find_if(rows_.begin(), rows_.end(), [&](const process_row& row) { return row.pid == selected_; });
  const long now = found == rows_.end() ? 0 : found - rows_.begin();
  const long next = std::clamp(now + rows, 0L, static_cast<long>(rows_.size()) - 1);
  selected_ = rows_[static_cast<std::size_t>(next)].pid;
}

bool state::press_character(char character, bool& look_again) {
  const auto by = static_cast<unsigned>(sorted_by);
  switch (character) {
    case 'q':
    case '\x03':
      return false;
    case 'h':
    case '?':
      help_ = !help_;
      return true;
    case '<':
      sorted_by = static_cast<column>((by + nr_columns - 1) % nr_columns);
      return true;
    case '>':
      sorted_by = static_cast<column>((by + 1) % nr_columns);
      return true;
    case 'r':
      reversed = !reversed;
      return true;
    case 's':
    case 'd':
      asking_delay_ = true;
      answer_.clear();
      return true;
    case ' ':
      look_again = true;
      return true;
    default:
      for (const auto& each : sort_keys)
        if (each.character == character) sorted_by = each.by;
      return true;
  }
}

bool state::press(const key_press& pressed, bool& look_again) {
  if (pressed.what == key::none || pressed.what == key::resize) return true;
  note_.clear();
  if (asking_delay_) return press_in_prompt(pressed);
  const auto page = static_cast<long>(page_);
  switch (pressed.what) {
    case key::up:
      return move_by(-1), true;
    case key::down:
      return move_by(1), true;
    case key::page_up:
      return move_by(-page), true;
    case key::page_down:
      return move_by(page), true;
    case key::home:
      return move_by(-1'000'000'000), true;
    case key::end:
      return move_by(1'000'000'000), true;
    case key::left:
      return press_character('<', look_again);
    case key::right:
      return press_character('>', look_again);
    case key::enter:
      caches_of_ = caches_of_ == 0 ? selected_ : 0;
      first_cache_ = 0;
      return true;
    case key::escape: {
      const bool leave = !help_ && caches_of_ == 0;
      help_ = false;
      caches_of_ = 0;
      return !leave;
    }
    case key::character:
      return press_character(pressed.character, look_again);
    default:
      return true;
  }
}

std::vector<screen_line> state::list_lines(std::size_t width, std::size_t rows) {
  std::vector<screen_line> lines = {{process_header(sorted_by, width), tone::header}};
  page_ = rows > 1 ? rows - 1 : 1;
  auto at = std::find_if(rows_.begin(), rows_.end(), [&](const process_row& row) { return row.pid == selected_; });
  if (at == rows_.end() && !rows_.empty()) {
    at = rows_.begin();
    selected_ = at->pid;
  }
  const auto index = static_cast<std::size_t>(at - rows_.begin());
  if (index < first_) first_ = index;
  if (!rows_.empty() && index >= first_ + page_) first_ = index + 1 - page_;
  if (first_ + page_ > rows_.size()) first_ = rows_.size() > page_ ? rows_.size() - page_ : 0;
  for (std::size_t i = first_; i < rows_.size() && lines.size() <= page_; i++)
    lines.push_back({process_line(rows_[i], width), rows_[i].pid == selected_ ? tone::selected : tone::plain});
  if (rows_.empty()) lines.push_back({fitted("no process shows its figures; 'kmem run PROGRAM' starts one that does", width), tone::note});
  return lines;
}

std::vector<screen_line> state::cache_lines(std::size_t width, std::size_t rows) {
  const std::vector<cache_row> caches = model_.caches(caches_of_);
  std::vector<screen_line> lines = {{cache_header(width), tone::header}};
  page_ = rows > 1 ? rows - 1 : 1;
  const std::size_t last = caches.size() > page_ ? caches.size() - page_ : 0;
  first_cache_ = std::min(first_cache_, last);
  for (std::size_t i = first_cache_; i < caches.size() && lines.size() <= page_; i++) lines.push_back({cache_line(caches[i], width)});
  if (caches.empty()) lines.push_back({fitted("the process has written none yet, or has ended", width), tone::note});
  return lines;
}

std::vector<screen_line> state::help_lines(std::size_t width, std::size_t rows) const {
  std::vector<screen_line> lines;
  for (const char* const line : help)
    if (lines.size() < rows) lines.push_back({fitted(line, width)});
  return lines;
}

std::string state::bottom() const {
  if (asking_delay_) return "seconds between looks: " + answer_ + "_";
  if (!note_.empty()) return note_;
  if (caches_of_ != 0) {
    const live::view* const v = model_.find(caches_of_);
    return fmt::format("caches of {} {}; Enter goes back", caches_of_, v != nullptr ? v->command : "");
  }
  return "q leave  Enter caches  < > sort  r reverse  s seconds  h help";
}

std::vector<screen_line> state::draw(std::size_t width, std::size_t height, const std::string& clock) {
  std::vector<screen_line> lines;
  if (width == 0 || height == 0) return lines;
  rows_ = model_.processes();
  sort_processes(rows_, sorted_by, reversed);
  lines.push_back({title(rows_, clock, delay_seconds, width), tone::title});
  // Title, header and a row come first; the line at the bottom when there is room.
  const bool has_bottom = height >= 4;
  const std::size_t rows = height - 1 - (has_bottom ? 1 : 0);
  const std::vector<screen_line> middle = help_             ? help_lines(width, rows)
                                          : caches_of_ != 0 ? cache_lines(width, rows)
                                                            : list_lines(width, rows);
  for (std::size_t i = 0; i < middle.size() && i < rows; i++) lines.push_back(middle[i]);
  if (has_bottom) {
    while (lines.size() + 1 < height) lines.push_back({});
    lines.push_back({fitted(bottom(), width), tone::note});
  }
  return lines;
}

}  // namespace kmem::tool::top
