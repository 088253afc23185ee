// The command `kmem`.

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <new>

#include "commands.hpp"

int main(int argc, char** argv) {
  using namespace kmem::tool;
  try {
    CLI::App program{"Linux's memory allocator for ordinary processes"};
    int status = exit_ok;
    program.set_version_flag("--version", program_version());
    program.require_subcommand(1);
    program.failure_message([](const CLI::App* app, const CLI::Error& error) {
      return "kmem: " + std::string(error.what()) + "\n'" + app->get_name() + (app->get_name().empty() ? "kmem" : "") +
             " --help' lists what can be given\n";
    });
    program.name("kmem");
    add_replay_command(program, status);
    add_gfp_command(program, status);
    add_params_command(program, status);
    try {
      program.parse(argc, argv);
    } catch (const CLI::Success& wanted) {
      return program.exit(wanted);
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
