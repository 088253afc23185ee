// `kmem params`: the parameters of the allocator.

#include <fmt/format.h>

#include <kmem/rules.hpp>
#include <string_view>

#include "commands.hpp"
#include "report/table.hpp"
#include "report/text.hpp"

namespace kmem::tool {

namespace {

int run_params() {
  report::text_table table({{"parameter", report::align::left, 30},
                            {"values", report::align::left, 24},
                            {"default", report::align::left, 18},
                            {"", report::align::left, 60}});
  parameter_rule rule;
  for (unsigned index = 0; read_parameter_rule(index, rule); index++) table.add({rule.name, rule.values, rule.default_value, rule.help});
  const report::text_options options = report::options_for_stream(1);
  const bool good = print(fmt::format("{}\nin KMEM_CMDLINE separated by blanks, or one by one with 'kmem replay --param NAME=VALUE'\n",
                                      table.render(options.colour, 0)));
  return good ? exit_ok : exit_bad_input;
}

}  // namespace

void add_params_command(CLI::App& program, int& status) {
  CLI::App* const command = program.add_subcommand("params", "List the parameters of the allocator");
  command->callback([&status] { status = run_params(); });
}

}  // namespace kmem::tool
