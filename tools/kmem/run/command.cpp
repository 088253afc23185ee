// `kmem run`: a program under libkmem-malloc.so and a budget.
//
// Without a wish for its last figures kmem becomes the program itself: then there is nothing that could forward wrongly. With it, the
// program is a child (supervise.hpp), told by stat=keep: to leave its figures behind.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <kmem/rules.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "commands.hpp"
#include "live/segment.hpp"
#include "live/summary.hpp"
#include "replay/output_file.hpp"
#include "report/units.hpp"
#include "run/program.hpp"
#include "run/supervise.hpp"

namespace kmem::tool {

namespace {

constexpr int exit_cannot_run = 125;  // kmem itself, as env(1) and timeout(1) say it
constexpr int exit_not_started = 126;

struct run_settings {
  std::string mem, json;
  std::vector<std::string> parameters;
  bool stat_on_exit = false;
};

int complain(const std::string& text, int status) {
  fmt::print(stderr, "kmem: {}\n", text);
  return status;
}

// KMEM_CMDLINE for the program: what is there, and the words of this command, which count more.
std::string command_line(const run_settings& wanted) {
  const char* const before = std::getenv("KMEM_CMDLINE");
  std::string line = before != nullptr ? before : "";
  const auto add = [&line](const std::string& word) { line += (line.empty() ? "" : " ") + word; };
  if (!wanted.mem.empty()) add("mem=" + wanted.mem);
  for (const std::string& each : wanted.parameters) add(each);
  return line;
}

// Return: what is wrong; empty if nothing is.
std::string check_words(const run_settings& wanted) {
  for (const std::string& each : wanted.parameters)
    if (each.find('=') == std::string::npos || each.find_first_of(" \t\r\n") != std::string::npos)
      return "--param " + each + ": NAME=VALUE is expected, without blanks";
  if (wanted.mem.find_first_of(" \t\r\n=") != std::string::npos)
    return "--mem " + wanted.mem + ": a size, a percentage or auto is expected";
  return "";
}

bool prepare_environment(const run_settings& wanted, std::string& problem) {
  std::string searched;
  const std::string library = run::find_library(searched);
  if (library.empty()) {
    problem = "libkmem-malloc.so is not in " + searched + ": build or install it";
    return false;
  }
  if (library.find_first_of(": \t\n") != std::string::npos) {
    problem = library + ": the loader takes no library whose path has blanks or colons in it";
    return false;
  }
  const char* const before = std::getenv("LD_PRELOAD");
  const std::string preload = before != nullptr && *before != '\0' ? library + ":" + before : library;
  setenv("LD_PRELOAD", preload.c_str(), 1);
  const std::string line = command_line(wanted);
  char error[200];
  if (!check_parameters(line.c_str(), error, sizeof error)) {
    problem = error;
    return false;
  }
  if (!line.empty()) setenv("KMEM_CMDLINE", line.c_str(), 1);
  return true;
}

void keep_own_figures() {
  const char* const before = std::getenv("KMEM_CMDLINE");
  const std::string line = fmt::format("{}{}stat=keep:{}", before != nullptr ? before : "", before != nullptr ? " " : "", getpid());
  setenv("KMEM_CMDLINE", line.c_str(), 1);
}

std::string end_of(const run::outcome& child) {
  return child.signal != 0 ? fmt::format("ended by signal {} ({})", child.signal, strsignal(child.signal))
                           : fmt::format("exit status {}", child.code);
}

std::string last_figures(const live::view& v, const run::outcome& child) {
  const stat::figures& f = v.figures;
  const std::string budget = fmt::format("kmem: {}; budget {}", end_of(child), report::human_bytes(f.budget));
  if (f.time_ns == 0) return fmt::format("{}, charged {}; it has left no other figures\n", budget, report::human_bytes(v.charged_now()));
  return fmt::format("{}, peak charged {}, at the end charged {} and live {}; NULLs {}, reclaimed {}\n", budget,
                     report::human_bytes(std::max(f.charged_peak, v.charged_now())), report::human_bytes(v.charged_now()),
                     report::human_bytes(f.live), report::human_count(f.failures), report::human_bytes(f.reclaimed));
}

std::string json_of(const live::view& v, bool found, const run::outcome& child) {
  nlohmann::ordered_json json = {{"exit_status", child.signal != 0 ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(child.code)},
                                 {"signal", child.signal != 0 ? nlohmann::ordered_json(child.signal) : nlohmann::ordered_json(nullptr)},
                                 {"figures", found ? live::summary_json(v, live::now_ns()) : nlohmann::ordered_json(nullptr)}};
  return json.dump(2) + "\n";
}

int run_with_figures(const run_settings& wanted, const std::string& path, const std::vector<std::string>& arguments) {
  replay::output_file json;
  std::string problem;
  if (!wanted.json.empty() && !json.open(wanted.json, problem)) return complain(problem, exit_cannot_run);
  live::view v;
  bool found = false;
  const run::outcome child = run::run_supervised(path, arguments, keep_own_figures,
                                                 [&](const run::outcome& ended) { found = live::take_left_behind(ended.pid, v); });
  if (!child.started) return complain(fmt::format("{}: cannot be started: {}", path, std::strerror(child.error)), exit_not_started);
  if (wanted.stat_on_exit) {
    const std::string nothing = fmt::format("kmem: {}; the program has left no figures: it has allocated nothing\n", end_of(child));
    fmt::print(stderr, "{}", found ? last_figures(v, child) : nothing);
  }
  if (json.is_open() && !json.commit(json_of(v, found, child), problem)) return complain(problem, exit_cannot_run);
  return run::end_like(child);
}

int run_program(const run_settings& wanted, const std::vector<std::string>& arguments) {
  if (arguments.empty()) return complain("run: a program is missing, as in 'kmem run --mem 512M -- program argument'", exit_cannot_run);
  if (arguments[0].starts_with("-"))
    return complain(arguments[0] + " is no option of run; a program of that name is given with its folder, as in ./-x", exit_bad_input);
  std::string problem = check_words(wanted);
  if (!problem.empty()) return complain(problem, exit_cannot_run);
  const run::program_file program = run::find_program(arguments[0]);
  if (!program.problem.empty()) return complain(program.problem, program.status);
  if (!prepare_environment(wanted, problem)) return complain(problem, exit_cannot_run);
  if (wanted.stat_on_exit || !wanted.json.empty()) return run_with_figures(wanted, program.path, arguments);
  std::vector<char*> pointers;
  for (const std::string& each : arguments) pointers.push_back(const_cast<char*>(each.c_str()));
  pointers.push_back(nullptr);
  execv(program.path.c_str(), pointers.data());
  return complain(fmt::format("{}: cannot be started: {}", program.path, std::strerror(errno)), exit_not_started);
}

}  // namespace

std::vector<std::string> without_separator(int argc, const char* const* argv) {
  std::vector<std::string> all(argv + (argc > 0 ? 1 : 0), argv + argc);
  if (all.empty() || all[0] != "run") return all;
  for (std::size_t i = 1; i < all.size() && all[i].starts_with("-"); i++) {
    if (all[i] == "--") {
      all.erase(all.begin() + static_cast<std::ptrdiff_t>(i));
      break;
    }
    if (all[i] == "--mem" || all[i] == "--param" || all[i] == "--json") i++;  // its value
  }
  return all;
}

void add_run_command(CLI::App& program, int& status) {
  const auto wanted = std::make_shared<run_settings>();
  CLI::App* const command = program.add_subcommand("run", "Run PROGRAM [ARGUMENTS] with a budget");
  command->prefix_command();
  command->add_option("--mem", wanted->mem, "the budget: a size as in 512M, a percentage, or auto")->type_name("SIZE");
  command->add_option("--param", wanted->parameters, "a parameter; may be given several times")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  command->add_flag("--stat-on-exit", wanted->stat_on_exit, "print the budget, the peak and what failed to stderr when it ends");
  command->add_option("--json", wanted->json, "write its last figures as JSON; - is stdout")->type_name("FILE");
  command->footer(
      "then the program and its arguments, after -- if you like\n"
      "exit status: the program's; kmem ends by the same signal. 125 kmem failed, 126 not to be run, 127 not found");
  command->callback([wanted, command, &status] { status = run_program(*wanted, command->remaining()); });
}

}  // namespace kmem::tool
