// What kmem top shows: rates, order, lines that fit, and what each key does.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "report/table.hpp"
#include "top/model.hpp"
#include "top/state.hpp"

namespace kmem::tool::top {
namespace {

constexpr std::uint64_t second = 1'000'000'000;

live::view view_of(pid_t pid, std::uint64_t charged, std::uint64_t time_ns = second, std::uint64_t refills = 0, std::uint64_t events = 1) {
  live::view v;
  v.pid = pid;
  v.command = "program" + std::to_string(pid);
  v.created_ns = 5;
  v.taken_bytes = charged;
  v.events = events;
  v.figures.time_ns = time_ns;
  v.figures.budget = 100 << 20;
  v.figures.live = charged / 2;
  v.figures.refills = refills;
  v.figures.pages_allocated = 2 * refills;
  v.caches.push_back({"kmalloc-64", 64, 10, 20, 5, 4096, refills});
  v.caches.push_back({"kmalloc-4k", 4096, 10, 20, 5, 81920, 0});
  return v;
}
look look_of(std::vector<live::view> views) { return {10 * second, std::move(views)}; }

TEST(top_model, rates_are_measured_between_the_figures) {
  model m;
  m.take(look_of({view_of(1, 4096, second, 100)}));
  EXPECT_FALSE(m.processes()[0].refills.known);
  m.take(look_of({view_of(1, 4096, 3 * second, 300, 9)}));
  ASSERT_TRUE(m.processes()[0].refills.known);
  EXPECT_DOUBLE_EQ(m.processes()[0].refills.per_second, 100);
  EXPECT_DOUBLE_EQ(m.processes()[0].pages.per_second, 200);
  EXPECT_DOUBLE_EQ(m.caches(1)[1].refills.per_second, 100);
  EXPECT_EQ(m.caches(1)[0].name, "kmalloc-4k");  // the largest first
}

TEST(top_model, who_does_nothing_has_a_rate_and_who_writes_nothing_has_none) {
  model m;
  m.take(look_of({view_of(1, 4096, second, 100, 7), view_of(2, 4096, second, 100, 7)}));
  m.take(look_of({view_of(1, 4096, second, 100, 7), view_of(2, 4096, second, 100, 8)}));
  EXPECT_TRUE(m.processes()[0].refills.known);
  EXPECT_EQ(m.processes()[0].refills.per_second, 0);
  EXPECT_FALSE(m.processes()[1].refills.known);
}

TEST(top_model, another_program_begins_anew) {
  model m;
  m.take(look_of({view_of(1, 4096, second, 1000)}));
  live::view next = view_of(1, 4096, 2 * second, 1500, 9);
  next.created_ns = 6;
  m.take(look_of({next}));
  EXPECT_FALSE(m.processes()[0].refills.known);
  m.take(look_of({}));
  EXPECT_TRUE(m.processes().empty());
  EXPECT_TRUE(m.caches(1).empty());
}

TEST(top_model, counts_that_go_backwards_are_no_rate) {
  model m;
  m.take(look_of({view_of(1, 4096, second, 100)}));
  m.take(look_of({view_of(1, 4096, 2 * second, 50, 9)}));
  EXPECT_FALSE(m.processes()[0].refills.known);
}

TEST(top_model, every_column_sorts) {
  model m;
  live::view a = view_of(1, 1000), b = view_of(2, 3000), c = view_of(3, 2000);
  a.figures.budget = 10;
  a.figures.failures = 5;
  b.figures.reserve = 7;
  c.command = "a first one";
  m.take(look_of({c, a, b}));
  const auto order = [&](column by, bool reversed) {
    std::vector<process_row> rows = m.processes();
    sort_processes(rows, by, reversed);
    std::string text;
    for (const process_row& row : rows) text += std::to_string(row.pid);
    return text;
  };
  EXPECT_EQ(order(column::pid, false), "123");
  EXPECT_EQ(order(column::pid, true), "321");
  EXPECT_EQ(order(column::budget, false), "231");
  EXPECT_EQ(order(column::charged, false), "231");
  EXPECT_EQ(order(column::use, false), "123");
  EXPECT_EQ(order(column::live, true), "132");
  EXPECT_EQ(order(column::reserve, false), "213");
  EXPECT_EQ(order(column::nulls, false), "123");
  EXPECT_EQ(order(column::refills, false), "123");
  EXPECT_EQ(order(column::pages, true), "123");
  EXPECT_EQ(order(column::command, false), "312");
  column found{};
  for (unsigned i = 0; i < nr_columns; i++) {
    EXPECT_TRUE(find_column(column_name(static_cast<column>(i)), found));
    EXPECT_EQ(found, static_cast<column>(i));
  }
  EXPECT_FALSE(find_column("nonsense", found));
}

TEST(top_model, numbers_are_short) {
  const std::pair<std::uint64_t, const char*> rows[] = {{0, "0B"},         {999, "999B"},         {1000, "0.98K"},    {1024, "1.00K"},
                                                        {10240, "10.0K"},  {102400, "100K"},      {1 << 20, "1.00M"}, {1023 << 10, "1.00M"},
                                                        {1 << 30, "1.00G"}, {~std::uint64_t{0}, "16.0E"}};
  for (const auto& [bytes, text] : rows) EXPECT_EQ(short_bytes(bytes), text);
}

TEST(top_model, lines_fit_whatever_is_in_them) {
  process_row row;
  row.pid = 4194304;
  row.budget = row.charged = row.live = row.reserve = row.nulls = ~std::uint64_t{0};
  row.refills = row.pages = {true, 1e300};
  row.command = "gr\xc3\xbc\xc3\x9f" "e " + std::string(200, 'x');
  for (std::size_t width = 1; width < 130; width++) EXPECT_EQ(report::display_width(process_line(row, width)), width);
  EXPECT_EQ(fitted("gr\xc3\xbc\xc3\x9f" "e", 3), "gr\xc3\xbc");
  EXPECT_EQ(ascii("gr\xc3\xbc\xc3\x9f" "e"), "gr??e");
}

class top_state : public ::testing::Test {
 protected:
  void SetUp() override {
    s.take(look_of({view_of(1, 1 << 20), view_of(2, 2 << 20), view_of(3, 3 << 20), view_of(4, 4 << 20), view_of(5, 5 << 20)}));
  }
  bool press(key what, char character = '\0') { return s.press({what, character}, look_again); }
  bool type(const std::string& text) {
    bool stays = true;
    for (const char c : text) stays = press(key::character, c);
    return stays;
  }
  std::vector<screen_line> draw(std::size_t width = 80, std::size_t height = 24) { return s.draw(width, height, "12:00:00"); }
  pid_t selected(std::size_t height = 24) {
    for (const screen_line& line : draw(80, height))
      if (line.how == tone::selected) return static_cast<pid_t>(std::stoi(line.text));
    return 0;
  }
  state s;
  bool look_again = false;
};

TEST_F(top_state, no_size_is_too_small_and_every_line_fits) {
  for (std::size_t width = 0; width < 100; width += 3) {
    for (std::size_t height = 0; height < 30; height++) {
      for (const char* keys : {"", "h", "h\r", "\r", "s", "s9"}) {
        state fresh;
        fresh.take(look_of({view_of(1, 1 << 20), view_of(2, 2 << 20)}));
        fresh.draw(width, height, "12:00:00");
        for (const char* c = keys; *c != '\0'; c++)
          fresh.press(*c == '\r' ? key_press{key::enter} : key_press{key::character, *c}, look_again);
        const std::vector<screen_line> lines = fresh.draw(width, height, "12:00:00");
        EXPECT_LE(lines.size(), height);
        for (const screen_line& line : lines) EXPECT_LE(report::display_width(line.text), width);
      }
    }
  }
}

TEST_F(top_state, the_selection_moves_and_the_list_with_it) {
  EXPECT_EQ(selected(), 5);
  press(key::down);
  EXPECT_EQ(selected(), 4);
  press(key::up);
  press(key::up);
  EXPECT_EQ(selected(), 5);
  EXPECT_EQ(selected(5), 5);  // two rows are visible
  press(key::page_down);
  EXPECT_EQ(selected(5), 3);
  press(key::end);
  EXPECT_EQ(selected(5), 1);
  press(key::home);
  EXPECT_EQ(selected(5), 5);
  press(key::down);
  s.take(look_of({view_of(1, 1 << 20), view_of(4, 9 << 20)}));
  EXPECT_EQ(selected(), 4);  // it follows the process
  s.take(look_of({view_of(1, 1 << 20)}));
  EXPECT_EQ(selected(), 1);
  s.take(look_of({}));
  EXPECT_EQ(selected(), 0);
  EXPECT_TRUE(press(key::down) && press(key::page_up) && press(key::enter));
  draw();
}

TEST_F(top_state, caches_are_shown_and_left) {
  draw();
  press(key::enter);
  EXPECT_EQ(draw()[1].text.rfind("CACHE", 0), 0u);
  EXPECT_EQ(draw()[2].text.rfind("kmalloc-4k", 0), 0u);
  press(key::down);
  EXPECT_EQ(draw(80, 4)[2].text.rfind("kmalloc-64", 0), 0u);  // one row is visible
  press(key::up);
  EXPECT_EQ(draw(80, 4)[2].text.rfind("kmalloc-4k", 0), 0u);
  EXPECT_TRUE(press(key::escape));
  EXPECT_NE(draw()[1].text.find("PID"), std::string::npos);
  EXPECT_FALSE(press(key::escape));
}

TEST_F(top_state, the_delay_is_asked_for) {
  type("s0.5");
  EXPECT_EQ(draw().back().text, "seconds between looks: 0.5_");
  press(key::backspace);
  type("25");
  press(key::enter);
  EXPECT_DOUBLE_EQ(s.delay_seconds, 0.25);
  for (const char* wrong : {"0", "x", "99999", "1e9", "-1", "1s"}) {
    type(std::string("d") + wrong);
    press(key::enter);
    EXPECT_DOUBLE_EQ(s.delay_seconds, 0.25);
    EXPECT_NE(draw().back().text.find("is no number of seconds"), std::string::npos) << wrong;
  }
  type("sq");  // not the key that leaves
  EXPECT_TRUE(press(key::escape));
  EXPECT_FALSE(type("q"));
}

TEST_F(top_state, keys_sort) {
  type("p");
  EXPECT_EQ(s.sorted_by, column::pid);
  type("<");
  EXPECT_EQ(s.sorted_by, column::command);
  type(">");
  press(key::right);
  EXPECT_EQ(s.sorted_by, column::budget);
  press(key::left);
  EXPECT_EQ(s.sorted_by, column::pid);
  type("r");
  EXPECT_TRUE(s.reversed);
  for (const auto& [character, by] : {std::pair{'c', column::charged}, {'u', column::use}, {'l', column::live}, {'R', column::reserve},
                                      {'n', column::nulls}, {'f', column::refills}, {'a', column::pages}, {'b', column::budget}}) {
    type(std::string(1, character));
    EXPECT_EQ(s.sorted_by, by);
  }
  EXPECT_FALSE(look_again);
  type(" ");
  EXPECT_TRUE(look_again);
  EXPECT_FALSE(press(key::character, '\x03'));
}

}  // namespace
}  // namespace kmem::tool::top
