// The rules of the core as data for help texts, tables and tests of other programs.
//
// What for. One table decides which flag permits which step (page_alloc/rights.hpp), one names the parameters
//          (memmap/config.cpp); this shows both.
// Contexts. Any; nothing is started. Tests. tests/unit/face_cxx/rules_test.cpp
#include <kmem/rules.hpp>

#include "face_cxx/face_cxx.hpp"

namespace kmem {
namespace {

constexpr const char* about_step[nr_chain_steps] = {
    "per-CPU lists, free areas and lower zones, down to the watermark",
    "a free object of a larger class, for kmalloc",
    "drain what needs no waiting, and look again",
    "go below the min watermark and into the reserve",
    "drain every CPU, free the empty slabs of all caches",
    "wait for pages on their way back to the system",
    "give scattered pages back and back a contiguous block",
    "shrinkers and registered reclaim callbacks",
    "OOM notifiers",
    "sleep until somebody frees, if vm.alloc_wait_ms allows or for as long as it takes with __GFP_NOFAIL",
    "return NULL",
};

order_t bounded(unsigned order) noexcept { return order_t(order < 255 ? order : 255); }

}  // namespace

bool check_parameters(const char* cmdline, char* error, size_t error_capacity) noexcept {
  machine_config config;
  config_error why;
  if (parse_config(cmdline, config, why)) return true;
  text_writer(error, error_capacity).str(why.text);
  return false;
}

bool read_parameter_rule(unsigned index, parameter_rule& result) noexcept {
  const std::span<const parameter_info> all = parameters();
  if (index >= all.size()) return false;
  const parameter_info& one = all[index];
  result = {one.name, one.values, one.default_value, one.example, one.help};
  return true;
}

bool read_chain_step_rule(unsigned index, gfp_t gfp, unsigned order, chain_step_rule& result) noexcept {
  if (index >= nr_chain_steps) return false;
  const auto step = static_cast<chain_step>(index);
  result = {chain_step_name(step), about_step[index], step_permitted(step, gfp, bounded(order))};
  return true;
}

const char* highest_zone(gfp_t gfp) noexcept { return zone_name(gfp_zone(gfp)); }

unsigned chain_passes(gfp_t gfp, unsigned order) noexcept {
  const unsigned passes = passes_permitted(gfp, bounded(order));
  return passes == ~0u ? 0 : passes;
}

}  // namespace kmem
