#include "command.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <kmem/kmem.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "commands.hpp"
#include "engine.hpp"
#include "output_file.hpp"
#include "report/compare.hpp"
#include "report/html.hpp"
#include "report/json.hpp"
#include "report/progress.hpp"
#include "report/text.hpp"
#include "report/units.hpp"

namespace kmem::tool::replay {

namespace {

volatile sig_atomic_t interrupted = 0;

// The first signal asks for an early end with a report, the second one ends the program. While traces are read, one
// ends it: there is nothing to report yet.
void listen_to_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

void complain(std::string_view text) { fmt::print(stderr, "kmem: {}\n", text); }

struct outputs {
  output_file json;
  output_file html;
  output_file compare_html;
};

bool open_outputs(const settings& wanted, outputs& out) {
  const std::array<std::pair<const std::string*, output_file*>, 3> all{
      {{&wanted.json, &out.json}, {&wanted.html, &out.html}, {&wanted.compare_html, &out.compare_html}}};
  for (std::size_t one = 0; one < all.size(); one++) {
    const std::string& path = *all[one].first;
    if (path.empty()) continue;
    for (std::size_t other = 0; other < one; other++) {
      if (path != *all[other].first) continue;
      complain(fmt::format("{} is given for two reports; give each a file of its own", path));
      return false;
    }
    std::string problem;
    if (all[one].second->open(path, problem)) continue;
    complain(problem);
    return false;
  }
  return true;
}

bool read_earlier(const std::string& path, std::optional<report::replay_result>& earlier) {
  if (path.empty()) return true;
  struct stat about {};
  errno = 0;
  std::ifstream from(path, std::ios::binary);
  const bool is_directory = ::stat(path.c_str(), &about) == 0 && S_ISDIR(about.st_mode);
  if (!from || is_directory) {
    const char* const why = std::strerror(is_directory ? EISDIR : errno);
    complain(fmt::format("{}: cannot be read: {}; --compare takes a file that --json has written", path, why));
    return false;
  }
  const std::string text{std::istreambuf_iterator<char>(from), std::istreambuf_iterator<char>()};
  try {
    earlier = report::result_from_json(text);
    return true;
  } catch (const report::json_error& error) {
    complain(fmt::format("{}: {}; --compare takes a file that --json has written", path, error.what()));
    return false;
  }
}

// Parameters that a replay wants otherwise than programs do, unless the user speaks of them. With one thread nothing else runs, so that two
// runs count the same, and nobody could end a sleep. With several, who may sleep does, for as long as others can get ahead meanwhile
// (engine_options::window), and every sleep in the queue is recorded.
std::vector<report::name_value> own_defaults(const settings& wanted, const char* environment) {
  std::vector<report::name_value> out;
  const auto add = [&](const char* name, const char* value) {
    const auto speaks_of_it = [&](const std::string& text) {  // parameters, with spaces between them
      std::istringstream words(text);
      for (std::string word; words >> word;) {
        if (word.substr(0, word.find('=')) == name) {
          return true;
        }
      }
      return false;
    };
    if (!speaks_of_it(environment == nullptr ? "" : environment) &&
        std::none_of(wanted.parameters.begin(), wanted.parameters.end(), speaks_of_it)) {
      out.push_back({name, value});
    }
  };
  if (wanted.threads == 1) {
    add("vm.kswapd", "0");
  } else {
    add("vm.alloc_wait_ms", "10");
  }
  add("vm.sleep_record_ms", "0");
  return out;
}

bool start_allocator(const settings& wanted) {
  std::string cmdline;
  std::string problem;
  if (!make_cmdline(wanted, std::getenv("KMEM_CMDLINE"), cmdline, problem)) {
    complain(problem);
    return false;
  }
  std::array<char, 256> error{};
  if (init(cmdline.c_str(), error.data(), error.size())) return true;
  complain(fmt::format("the allocator cannot start with '{}': {}", cmdline, error.data()));
  return false;
}

// How far the reading of a trace has come, on a terminal.
class reading_line {
 public:
  reading_line(std::string name, bool wanted) : name_(std::move(name)), wanted_(wanted && isatty(STDERR_FILENO) != 0) {}
  ~reading_line() { clear(); }
  reading_line(const reading_line&) = delete;
  reading_line& operator=(const reading_line&) = delete;

  void update(std::uint64_t done, std::uint64_t whole) {
    const int percent = whole == 0 ? 0 : static_cast<int>(done * 100 / whole);
    if (!wanted_ || percent == shown_) return;
    shown_ = percent;
    const std::string how_far = whole == 0 ? report::human_bytes(done) : fmt::format("{} %", percent);
    fmt::print(stderr, "\rreading {} {}\x1b[K", name_, how_far);
  }

 private:
  void clear() const {
    if (shown_ >= 0) fmt::print(stderr, "\r\x1b[K");
  }

  std::string name_;
  bool wanted_;
  int shown_ = -1;
};

// A line of a trace that was left out with --keep-going.
struct left_out {
  std::uint32_t trace;
  std::uint64_t line;
  std::string text;
};
struct loaded {
  plan work;
  std::vector<left_out> problems;
  std::uint64_t problems_total = 0;
};

int load_trace(const std::string& path, const settings& wanted, loaded& out) {
  trace::event_list events;
  trace::load_options options;
  options.keep_going = wanted.keep_going;
  bool good = false;
  {
    reading_line line(path, !wanted.no_progress && !wanted.quiet);
    options.progress = [&](std::uint64_t done, std::uint64_t whole) {
      line.update(done, whole);
      return true;
    };
    good = load_events(path, options, events);
  }
  if (!good) {
    fmt::print(stderr, "{}\n", events.errors.back().to_string());
    return exit_bad_input;
  }
  const auto number = static_cast<std::uint32_t>(out.work.traces.size());
  for (const trace::trace_error& each : events.errors) {
    fmt::print(stderr, "{}\n", each.to_string());
    out.problems.push_back({number, each.line, "left out: " + each.what});
  }
  out.problems_total += events.counts.errors;
  trace::request_list made = trace::make_requests(events);
  if (!made.ok) {
    fmt::print(stderr, "{}\n", made.error.to_string());
    return exit_bad_input;
  }
  if (out.work.add(events, std::move(made))) return exit_ok;
  complain(fmt::format("{}: with it the traces have more than {} requests; replay them one by one", path, trace::no_request));
  return exit_bad_input;
}

int load(const settings& wanted, loaded& out) {
  for (const std::string& path : wanted.traces) {
    const int status = load_trace(path, wanted, out);
    if (status != exit_ok) return status;
  }
  return exit_ok;
}

report::replay_result replay_all(const settings& wanted, engine& runner, const loaded& from) {
  {
    std::optional<report::progress_bar> bar;
    if (!wanted.no_progress && !wanted.quiet) bar.emplace(STDERR_FILENO);
    runner.run([&](const engine_progress& now) {
      if (bar) bar->update({now.requests, from.work.requests.size(), now.requests, now.charged_bytes, now.budget_bytes, now.failed});
      return interrupted == 0;
    });
  }
  report::replay_result result = runner.result();
  result.kmem_version = program_version();
  std::vector<report::name_value> parameters;
  if (!wanted.mem.empty()) parameters.push_back({"mem", wanted.mem});
  for (const std::string& each : wanted.parameters) {
    const std::size_t middle = each.find('=');
    parameters.push_back({each.substr(0, middle), each.substr(middle + 1)});
  }
  for (report::name_value& each : own_defaults(wanted, std::getenv("KMEM_CMDLINE"))) parameters.push_back(std::move(each));
  result.parameters.insert(result.parameters.begin(), parameters.begin(), parameters.end());
  for (const left_out& each : from.problems) result.errors.push_back({each.trace, each.line, each.text});
  result.total.errors += from.problems_total;
  return result;
}

bool write_all(const settings& wanted, const report::replay_result& result, const std::optional<report::replay_result>& earlier,
               outputs& out) {
  bool good = true;
  const auto write = [&](output_file& to, const std::string& text) {
    std::string problem;
    if (to.commit(text, problem)) return;
    complain(problem);
    good = false;
  };
  if (!wanted.quiet && wanted.json != "-" && wanted.html != "-" && wanted.compare_html != "-") {
    const report::text_options options = report::options_for_stream(STDOUT_FILENO);
    std::string text = report::text_report(result, options);
    if (earlier) text += "\n" + report::text_comparison(*earlier, result, options);
    good = print(text);
  }
  if (out.json.is_open()) write(out.json, report::json_text(result));
  if (out.html.is_open()) write(out.html, report::html_report(result));
  if (out.compare_html.is_open()) write(out.compare_html, report::html_comparison(*earlier, result));
  return good;
}

bool check_settings(const settings& wanted) {
  if (wanted.compare_html.empty() || !wanted.compare.empty()) return true;
  complain("--compare-html needs --compare FILE, the run to compare with");
  return false;
}

}  // namespace

bool make_cmdline(const settings& from, const char* environment, std::string& cmdline, std::string& problem) {
  cmdline = environment == nullptr ? "" : environment;
  const auto add = [&](const std::string& text) { cmdline += (cmdline.empty() ? "" : " ") + text; };
  if (!from.mem.empty()) {
    if (std::any_of(from.mem.begin(), from.mem.end(), [](unsigned char c) { return std::isspace(c) != 0; })) {
      problem = fmt::format("--mem '{}': expected a size such as 64M or 1G, a share such as 50%, or auto", from.mem);
      return false;
    }
    add("mem=" + from.mem);
  }
  for (const std::string& each : from.parameters) {
    const std::size_t middle = each.find('=');
    if (middle == std::string::npos || middle == 0 ||
        std::any_of(each.begin(), each.end(), [](unsigned char c) { return std::isspace(c) != 0; })) {
      problem = fmt::format("--param '{}': expected NAME=VALUE without blanks; 'kmem params' lists the names", each);
      return false;
    }
    if (each.substr(0, middle) == "mem" && !from.mem.empty()) {
      problem = fmt::format("--mem {} and --param {} both state the budget; give one of them", from.mem, each);
      return false;
    }
    add(each);
  }
  for (const report::name_value& each : own_defaults(from, environment)) add(each.name + "=" + each.value);
  return true;
}

int run(const settings& wanted) {
  outputs out;
  std::optional<report::replay_result> earlier;
  if (!check_settings(wanted) || !open_outputs(wanted, out) || !read_earlier(wanted.compare, earlier) || !start_allocator(wanted)) {
    return exit_bad_input;
  }
  loaded from;
  const int status = load(wanted, from);
  if (status != exit_ok) return status;
  listen_to_signals();
  engine_options options;
  options.threads = wanted.threads != 0 ? wanted.threads : std::min(from.work.cpus(), threads_max);
  options.touch = wanted.touch;
  options.verify = wanted.verify;
  options.keep_going = wanted.keep_going;
  engine runner(from.work, options);
  std::string problem;
  if (!runner.prepare(problem)) {
    complain(fmt::format("the replay cannot begin: {}; give a larger budget with --mem", problem));
    return exit_bad_input;
  }
  const report::replay_result result = replay_all(wanted, runner, from);
  if (!write_all(wanted, result, earlier, out)) return exit_bad_input;
  if (interrupted != 0 && !result.completed) return exit_interrupted;
  return result.total.errors == 0 ? exit_ok : exit_errors_found;
}

}  // namespace kmem::tool::replay

namespace kmem::tool {

void add_replay_command(CLI::App& program, int& status) {
  const auto wanted = std::make_shared<replay::settings>();
  const CLI::Validator not_empty([](std::string& text) { return text.empty() ? std::string("it is empty") : std::string(); }, "");
  CLI::App* const command =
      program.add_subcommand("replay", "Replay what a traced Linux kernel asked of its allocator, and show what happened");
  command->add_option("TRACE", wanted->traces, "ftrace text with the events of kmem, plain or .gz, .xz, .zst; - for standard input")
      ->required()
      ->type_name("")
      ->check(not_empty);
  command->add_option("--mem", wanted->mem, "budget: 64M, 1G, 50%, or auto (the container's limit or physical memory)")
      ->type_name("SIZE")
      ->check(not_empty);
  command->add_option("--threads", wanted->threads, "threads to replay with; without it as many as the trace has CPUs")
      ->type_name("N")
      ->check(CLI::Range(1u, replay::threads_max));
  command->add_option("--param", wanted->parameters, "a parameter of the allocator, see 'kmem params'; may be given several times")
      ->type_name("NAME=VALUE")
      ->expected(1)
      ->take_all();
  command->add_flag("--touch", wanted->touch, "write to every byte that is allocated");
  command->add_flag("--verify", wanted->verify, "write a pattern to every byte and check it when it is freed");
  command->add_flag("--keep-going", wanted->keep_going, "go on after lines that are not understood and after errors");
  command->add_option("--json", wanted->json, "write everything as JSON; - for standard output")->type_name("FILE")->check(not_empty);
  command->add_option("--html", wanted->html, "write a page with pictures, in one file")->type_name("FILE")->check(not_empty);
  command->add_option("--compare", wanted->compare, "show what differs from an earlier run, of which this is the JSON")
      ->type_name("FILE")
      ->check(not_empty);
  command->add_option("--compare-html", wanted->compare_html, "write that comparison as a page, too")->type_name("FILE")->check(not_empty);
  command->add_flag("--no-progress", wanted->no_progress, "no progress bar on a terminal");
  command->add_flag("--quiet", wanted->quiet, "print nothing but complaints");
  command->footer(
      "Exit code: 0 all is well (allocations that fail are no error), 1 errors were found, 2 an argument, a trace or an\n"
      "output file cannot be used, 130 interrupted. KMEM_CMDLINE is read first, --mem and --param override it.");
  command->callback([wanted, &status] { status = replay::run(*wanted); });
}

}  // namespace kmem::tool
