// `kmem gfp FLAGS`: a mask in words, as a number, and what it permits.

#include <fmt/format.h>

#include <kmem/gfp.hpp>
#include <kmem/rules.hpp>
#include <memory>
#include <string>
#include <vector>

#include "commands.hpp"
#include "report/table.hpp"
#include "report/text.hpp"
#include "trace/error.hpp"
#include "trace/gfp.hpp"

namespace kmem::tool {

namespace {

struct gfp_settings {
  std::string flags;
  unsigned order = 0;
};

// What is wrong with the text, and which names are like it.
void complain(const std::string& flags, const trace::gfp_result& parsed) {
  std::string text = parsed.bad_part.empty()
                         ? fmt::format("kmem: a name is missing in {}\n", trace::quoted(flags))
                         : fmt::format("kmem: {} is not understood in {}\n", trace::quoted(parsed.bad_part), trace::quoted(flags));
  const std::vector<std::string_view> near = trace::near_gfp_names(parsed.bad_part);
  for (std::size_t index = 0; index < near.size(); index++)
    text += fmt::format("{}{}", index == 0 ? "  did you mean " : " or ", near[index]);
  text += near.empty() ? "" : "?\n";
  text += "  expected names joined by |, as in 'GFP_KERNEL|__GFP_ZERO', or a number as in 0xcc0\n";
  fmt::print(stderr, "{}", text);
}

// The name with the double underscore: a combination may have one bit, too.
std::string_view flag_name(trace::gfp_bits bit) {
  for (const trace::gfp_name& each : trace::gfp_names()) {
    if (each.bits == bit && each.name.starts_with("__")) return each.name;
  }
  return "(no name)";
}

std::string single_flags(trace::gfp_bits bits) {
  std::string text;
  for (unsigned bit = 0; bit < 32; bit++) {
    if ((bits >> bit & 1) != 0) text += (text.empty() ? "" : " | ") + std::string(flag_name(trace::gfp_bits{1} << bit));
  }
  return text.empty() ? "none" : text;
}

std::string steps_table(gfp_t mask, unsigned order, bool colour) {
  report::text_table table({{"step", report::align::left}, {"", report::align::left}, {"", report::align::left, 70}});
  chain_step_rule rule;
  for (unsigned index = 0; read_chain_step_rule(index, mask, order, rule); index++) {
    table.add({rule.name, {rule.permitted ? "yes" : "no", rule.permitted ? report::tint::green : report::tint::red}, rule.about});
  }
  return table.render(colour);
}

std::string describe(trace::gfp_bits bits, unsigned order, const report::text_options& options) {
  const auto known = static_cast<gfp_t>(bits & static_cast<trace::gfp_bits>(gfp::known_bits));
  std::string text = fmt::format("{}  0x{:x}\n  {}\n", trace::format_gfp(bits), bits, single_flags(bits));
  if (static_cast<trace::gfp_bits>(known) != bits) {
    text += fmt::format("  bits without a meaning here: {}\n", trace::format_gfp(bits & ~static_cast<trace::gfp_bits>(known)));
  }
  const auto answer = [](bool yes) { return yes ? "yes" : "no"; };
  text += fmt::format("  may sleep {}, start I/O {}, call file systems {}, use the reserve {}, fail {}; highest zone {}\n",
                      answer(may_block(known)), answer(may_io(known)), answer(may_fs(known)), answer(may_use_reserve(known)),
                      answer(may_fail(known)), highest_zone(known));
  text += fmt::format("\nbefore it returns NULL, a request of order {} may\n", order);
  text += steps_table(known, order, options.colour);
  const unsigned passes = chain_passes(known, order);
  if (may_block(known)) {
    text += passes == 0 ? "  passes over the steps that may sleep: as many as it takes\n"
                        : fmt::format("  passes over the steps that may sleep: {}\n", passes);
  }
  return text;
}

int run_gfp(const gfp_settings& wanted) {
  const trace::gfp_result parsed = trace::parse_gfp(wanted.flags);
  if (!parsed.ok) {
    complain(wanted.flags, parsed);
    return exit_bad_input;
  }
  return print(describe(parsed.bits, wanted.order, report::options_for_stream(1))) ? exit_ok : exit_bad_input;
}

}  // namespace

void add_gfp_command(CLI::App& program, int& status) {
  const auto wanted = std::make_shared<gfp_settings>();
  CLI::App* const command = program.add_subcommand("gfp", "Decode or encode GFP flags and show what they permit");
  command->add_option("FLAGS", wanted->flags, "names joined by | as in 'GFP_KERNEL|__GFP_ZERO', or a number as in 0xcc0")
      ->required()
      ->type_name("");
  command->add_option("--order", wanted->order, "of the request that is asked about")->type_name("N")->check(CLI::Range(0u, 20u));
  command->callback([wanted, &status] { status = run_gfp(*wanted); });
}

}  // namespace kmem::tool
