// The command `kmem`.

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <new>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "commands.hpp"

namespace {

bool has_command(const CLI::App& program, const std::string& name) {
  const auto all = program.get_subcommands([](const CLI::App*) { return true; });
  return std::any_of(all.begin(), all.end(), [&](const CLI::App* each) { return each->get_name() == name; });
}

}  // namespace

int main(int argc, char** argv) {
  using namespace kmem::tool;
  try {
    CLI::App program{"Linux's memory allocator for ordinary processes"};
    int status = exit_ok;
    program.set_version_flag("--version", program_version());
    program.require_subcommand(1);
    program.failure_message([](const CLI::App* app, const CLI::Error& error) {
      std::string command = app->get_name();
      for (const CLI::App* each : app->get_subcommands()) command += " " + each->get_name();
      return "kmem: " + std::string(error.what()) + "\n'" + command + " --help' lists what can be given\n";
    });
    program.name("kmem");
    add_replay_command(program, status);
    add_gfp_command(program, status);
    add_params_command(program, status);
    add_run_command(program, status);
    add_live_commands(program, status);
    add_top_command(program, status);
    if (argc > 1 && argv[1][0] != '-' && !has_command(program, argv[1])) {
      std::fprintf(stderr, "kmem: there is no command '%s'\n'kmem --help' lists the commands\n", argv[1]);
      return exit_bad_input;
    }
    try {
      std::vector<std::string> arguments = without_separator(argc, argv);
      std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
      program.parse(std::move(arguments));
    } catch (const CLI::Success& wanted) {
      std::ostringstream text;
      const int wanted_status = program.exit(wanted, text, std::cerr);
      return print(text.str()) ? wanted_status : exit_bad_input;
    } catch (const CLI::ParseError& error) {
      program.exit(error);
      return exit_bad_input;
    }
    return status;
  } catch (const std::bad_alloc&) {
    std::fputs("kmem: there is not enough memory to hold the trace and the results\n", stderr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kmem: %s\n", error.what());
  }
  return exit_bad_input;
}
