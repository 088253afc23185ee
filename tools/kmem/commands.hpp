#pragma once

// The subcommands of the program. Each adds itself to the parser and leaves its exit code in `status` when it ran.

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace kmem::tool {

enum exit_code : int {
  exit_ok = 0,
  exit_errors_found = 1,   // the replay found what must not be
  exit_bad_input = 2,      // an argument, a trace or an output file cannot be used
  exit_not_yet = 3,        // a living process has not acted yet on what it was asked
  exit_interrupted = 130,  // as shells call a program that SIGINT ended
};

void add_replay_command(CLI::App& program, int& status);
void add_gfp_command(CLI::App& program, int& status);
void add_params_command(CLI::App& program, int& status);
void add_top_command(CLI::App& program, int& status);
void add_run_command(CLI::App& program, int& status);
// The arguments without the "--" that stands between the options of `run` and the program. Its options end at the program anyway, and what
// follows it is the program's.
std::vector<std::string> without_separator(int argc, const char* const* argv);
void add_live_commands(CLI::App& program, int& status);  // stat, param, trim

const char* program_version();

// Writes all of it to standard output. Return: false, after a complaint, when that cannot be.
bool print(std::string_view text);

}  // namespace kmem::tool
