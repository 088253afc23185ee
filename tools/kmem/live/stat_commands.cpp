// `kmem stat`, `kmem param` and `kmem trim`: one living process.
//
// A process acts on what it is asked at its next slow path, unless it has a thread that waits for requests. Who asks waits a while, and
// says so if nothing has happened by then.

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <string>

#include "commands.hpp"
#include "live/segment.hpp"
#include "live/summary.hpp"
#include "report/text.hpp"
#include "report/units.hpp"

namespace kmem::tool {

namespace {

constexpr double forever_seconds = 1e9;

struct live_settings {
  int pid = 0;
  std::string what;  // a text; a parameter
  double wait_seconds = 1;
  bool json = false;
};

std::chrono::milliseconds patience(const live_settings& wanted) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(wanted.wait_seconds * 1000));
}

int complain(const std::string& text) {
  fmt::print(stderr, "kmem: {}\n", text);
  return exit_bad_input;
}

// What happened to a request that was not served. `does`: what it will do.
int say_unserved(const live_settings& wanted, live::ask_end end, const live::reply& answer, const std::string& does) {
  switch (end) {
    case live::ask_end::gone:
      return complain(fmt::format("process {} has ended", wanted.pid));
    case live::ask_end::busy:
      fmt::print(stderr, "kmem: process {} has not come to what it was asked before ({}); nothing was asked now\n", wanted.pid,
                 answer.text);
      return exit_not_yet;
    default:
      fmt::print(stderr,
                 "kmem: process {} has not answered within {} s. It has no thread for that, and acts at its next slow path: when it "
                 "allocates or frees more than its CPU's arrays hold. {}; '--wait SECONDS' waits longer\n",
                 wanted.pid, wanted.wait_seconds, does);
      return exit_not_yet;
  }
}

int status_of(stat::reply reply) {
  return reply == stat::reply::done ? exit_ok : reply == stat::reply::refused ? exit_errors_found : exit_bad_input;
}

int run_text(const live_settings& wanted, live::live_process& process) {
  live::reply answer;
  const live::ask_end end = process.segment.ask(stat::command::text, wanted.what, patience(wanted), answer);
  if (end != live::ask_end::served) return say_unserved(wanted, end, answer, "The text is made then, for the next who asks");
  if (answer.status != stat::reply::done) {
    complain(live::printable(answer.text.data(), answer.text.size()));
    return status_of(answer.status);
  }
  if (!print(answer.text)) return exit_bad_input;
  if (answer.cut) fmt::print(stderr, "kmem: the text is longer than the segment holds; its end is missing\n");
  return answer.cut ? exit_errors_found : exit_ok;
}

int run_summary(const live_settings& wanted, live::live_process& process) {
  live::reply answer;
  std::string error;
  const live::ask_end end = process.segment.ask(stat::command::refresh, "", patience(wanted), answer);
  if (end == live::ask_end::gone) return say_unserved(wanted, end, answer, "");
  if (!process.segment.read(process.last, error)) return complain(error);
  const std::uint64_t now = live::now_ns();
  if (wanted.json) return print(live::summary_json(process.last, now).dump(2) + "\n") ? exit_ok : exit_bad_input;
  return print(live::summary_text(process.last, now, report::options_for_stream(1))) ? exit_ok : exit_bad_input;
}

int run_stat(const live_settings& wanted) {
  live::live_process process;
  std::string error;
  if (!live::find_process(wanted.pid, process, error)) return complain(error);
  if (!wanted.what.empty() && wanted.json) return complain("--json is for the figures; a text comes as it is");
  return wanted.what.empty() ? run_summary(wanted, process) : run_text(wanted, process);
}

int run_param(const live_settings& wanted) {
  live::live_process process;
  std::string error;
  if (wanted.what.size() >= sizeof stat::segment::argument) return complain("the parameter is too long");
  if (!live::find_process(wanted.pid, process, error)) return complain(error);
  const bool change = wanted.what.find('=') != std::string::npos;
  live::reply answer;
  const live::ask_end end = process.segment.ask(change ? stat::command::set : stat::command::get, wanted.what, patience(wanted), answer);
  if (end != live::ask_end::served)
    return say_unserved(wanted, end, answer, change ? "The parameter will be changed then" : "Its value is not known until then");
  const std::string text = live::printable(answer.text.data(), answer.text.size());
  if (answer.status == stat::reply::done) return print(text + "\n") ? exit_ok : exit_bad_input;
  complain(text);
  return status_of(answer.status);
}

int run_trim(const live_settings& wanted) {
  live::live_process process;
  std::string error;
  if (!live::find_process(wanted.pid, process, error)) return complain(error);
  live::reply answer;
  const live::ask_end end = process.segment.ask(stat::command::trim, "", patience(wanted), answer);
  if (end != live::ask_end::served) return say_unserved(wanted, end, answer, "Its free memory is given back then");
  std::uint64_t bytes = 0;
  for (const char c : answer.text)
    if (c >= '0' && c <= '9') bytes = bytes * 10 + static_cast<std::uint64_t>(c - '0');
  return print(fmt::format("{} given back to the system\n", report::human_bytes(bytes))) ? exit_ok : exit_bad_input;
}

CLI::App* add_command(CLI::App& program, const char* name, const char* about, live_settings& wanted) {
  CLI::App* const command = program.add_subcommand(name, about);
  command->add_option("PID", wanted.pid, "the process")->required()->type_name("")->check(CLI::Range(1, 0x7fffffff));
  command->add_option("--wait", wanted.wait_seconds, "how long to wait for the process to act; 0: not at all (default: 1)")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.0, forever_seconds));
  command->footer(
      "exit status: 0 done; 1 refused by the process; 2 wrong argument, or no such process;\n"
      "3 the process has not acted yet: it will at its next slow path");
  return command;
}

}  // namespace

void add_live_commands(CLI::App& program, int& status) {
  const auto of_stat = std::make_shared<live_settings>();
  CLI::App* const stat = add_command(program, "stat", "Show the memory of a living process", *of_stat);
  stat->add_option("TEXT", of_stat->what, "slabinfo, buddyinfo, zoneinfo, vmstat, meminfo or vmallocinfo; none: a summary")->type_name("");
  stat->add_flag("--json", of_stat->json, "the figures as JSON");
  stat->callback([of_stat, &status] { status = run_stat(*of_stat); });

  const auto of_param = std::make_shared<live_settings>();
  CLI::App* const param = add_command(program, "param", "Read or change a parameter of a living process", *of_param);
  param->add_option("NAME[=VALUE]", of_param->what, "as in KMEM_CMDLINE; 'kmem params' lists all")->required()->type_name("");
  param->callback([of_param, &status] { status = run_param(*of_param); });

  const auto of_trim = std::make_shared<live_settings>();
  CLI::App* const trim = add_command(program, "trim", "Make a living process give its free memory back to the system", *of_trim);
  trim->callback([of_trim, &status] { status = run_trim(*of_trim); });
}

}  // namespace kmem::tool
