// `kmem top`: all living processes under kmem, again and again.
//
// Each look asks every process for new figures, without waiting: who comes to a slow path before the next look has written them by then.

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "commands.hpp"
#include "top/model.hpp"
#include "top/state.hpp"
#include "top/terminal.hpp"

namespace kmem::tool {

namespace {

struct top_settings {
  bool batch = false, once = false, reversed = false;
  std::uint64_t looks = 0;  // 0: without end
  double delay_seconds = 2;
  std::string sort = "charged";
  std::vector<int> pids;
};

std::string clock_text() {
  const time_t now = time(nullptr);
  tm parts{};
  localtime_r(&now, &parts);
  return fmt::format("{:02}:{:02}:{:02}", parts.tm_hour, parts.tm_min, parts.tm_sec);
}

top::look look_around(const top_settings& wanted) {
  top::look result;
  for (live::live_process& each : live::find_processes()) {
    if (!wanted.pids.empty() && std::find(wanted.pids.begin(), wanted.pids.end(), each.last.pid) == wanted.pids.end()) continue;
    live::reply ignored;
    each.segment.ask(stat::command::refresh, "", std::chrono::milliseconds(0), ignored);
    result.views.push_back(std::move(each.last));
  }
  result.time_ns = live::now_ns();
  return result;
}

int run_batch(const top_settings& wanted, top::column sorted_by) {
  top::model model;
  for (std::uint64_t n = 1;; n++) {
    model.take(look_around(wanted));
    std::vector<top::process_row> rows = model.processes();
    top::sort_processes(rows, sorted_by, wanted.reversed);
    std::string text = top::title(rows, clock_text(), wanted.delay_seconds, 0) + "\n" + top::process_header(sorted_by, 0) + "\n";
    for (const top::process_row& row : rows) text += top::process_line(row, 0) + "\n";
    if (!print(text)) return exit_bad_input;
    if (n == wanted.looks) return exit_ok;
    std::this_thread::sleep_for(std::chrono::duration<double>(wanted.delay_seconds));
    if (!print("\n")) return exit_bad_input;
  }
}

int run_on_terminal(const top_settings& wanted, top::column sorted_by) {
  top::terminal screen;
  std::string problem;
  if (!screen.open(problem)) {
    fmt::print(stderr, "kmem: {}\n", problem);
    return exit_bad_input;
  }
  top::state state;
  state.delay_seconds = wanted.delay_seconds;
  state.sorted_by = sorted_by;
  state.reversed = wanted.reversed;
  auto next = std::chrono::steady_clock::now();
  std::uint64_t looks = 0;
  for (;;) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= next) {
      if (wanted.looks != 0 && looks == wanted.looks) return exit_ok;
      state.take(look_around(wanted));
      looks++;
      next = now + std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(state.delay_seconds));
    }
    screen.draw(state.draw(screen.width(), screen.height(), clock_text()));
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(next - std::chrono::steady_clock::now()).count();
    bool look_again = false;
    const double delay = state.delay_seconds;
    if (!state.press(screen.wait_for_key(static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000)) + 1), look_again)) return exit_ok;
    if (look_again || delay != state.delay_seconds) next = std::chrono::steady_clock::now();
  }
}

int run_top(top_settings wanted) {
  top::column sorted_by{};
  if (!top::find_column(wanted.sort, sorted_by)) {
    fmt::print(stderr, "kmem: there is no column '{}'; there are", wanted.sort);
    for (unsigned i = 0; i < top::nr_columns; i++) fmt::print(stderr, " {}", top::column_name(static_cast<top::column>(i)));
    fmt::print(stderr, "\n");
    return exit_bad_input;
  }
  if (wanted.once) {
    wanted.batch = true;
    wanted.looks = 1;
  }
  return wanted.batch ? run_batch(wanted, sorted_by) : run_on_terminal(wanted, sorted_by);
}

}  // namespace

void add_top_command(CLI::App& program, int& status) {
  const auto wanted = std::make_shared<top_settings>();
  CLI::App* const command = program.add_subcommand("top", "Watch all living processes under kmem");
  command->add_flag("-b,--batch", wanted->batch, "print text instead of drawing");
  command->add_flag("--once", wanted->once, "print once: --batch --iterations 1");
  command->add_option("-n,--iterations", wanted->looks, "end after so many looks")->type_name("N")->check(CLI::Range(1u, 1'000'000'000u));
  command->add_option("-d,--delay", wanted->delay_seconds, "seconds between looks (default: 2)")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.1, 3600.0));
  command->add_option("--sort", wanted->sort, "by pid, budget, charged (default), use, live, reserve, nulls, refills, pages or command")
      ->type_name("COLUMN");
  command->add_flag("--reverse", wanted->reversed, "the other way round");
  command->add_option("-p,--pid", wanted->pids, "only this process; may be given several times")
      ->type_name("PID")
      ->check(CLI::Range(1, 0x7fffffff))
      ->allow_extra_args(false);
  command->callback([wanted, &status] { status = run_top(*wanted); });
}

}  // namespace kmem::tool
