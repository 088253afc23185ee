// Chooses the budget of a machine: what was stated, else what the tightest container leaves, else physical memory.
//
// Equations. Of a group with limit L that uses U bytes (inactive file cache left out, which the kernel drops before it kills):
//              budget = min(L - headroom, L - headroom / 2 - U), headroom = L / 5
//          so it is 80 % of the limit as long as half of the headroom holds what is used already; the least over all levels counts.
//          Later, as the machine grows, U is what the others in the group use: U less what the machine has resident.
//          Chosen budgets are multiples of 4 MiB, at least min_budget_bytes and at most physical memory.
// States, locks, ordering. None. Context: reads files; may sleep.
// Kernel.  The kernel has what the firmware reports. A process is killed at its container's limit, for which stacks, text, page tables
//          and other processes count as well; hence the headroom. Its size is arbitrary.
// Tests.   tests/unit/memmap/budget_test.cpp
#include "memmap/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint64_t headroom_divisor = 5;

uint64_t least(uint64_t a, uint64_t b) noexcept { return a < b ? a : b; }

/// What a group leaves to a machine when the others in it use `usage`.
uint64_t allowance(uint64_t limit, uint64_t usage) noexcept {
  const uint64_t headroom = limit / headroom_divisor;
  const uint64_t unused = limit - headroom / 2;
  return least(limit - headroom, unused > usage ? unused - usage : 0);
}

nr_pages_t chosen(uint64_t bytes) noexcept {
  bytes = round_down(least(bytes, max_budget_bytes), budget_step_bytes);
  return nr_pages_t((bytes > min_budget_bytes ? bytes : min_budget_bytes) >> page_shift);
}

budget_choice percent_of_what_there_is(const machine_config& config, uint64_t physical) noexcept {
  budget_choice choice{nr_pages_t(0), budget_source::percent_of_physical, 0, 0, physical};
  uint64_t usage = 0;
  const uint64_t limit = config.cgroup ? cgroup_limit(config.path_prefix, usage) : 0;
  uint64_t whole = physical;
  if (limit != 0 && (physical == 0 || limit < physical)) {
    whole = limit;
    choice = {nr_pages_t(0), budget_source::percent_of_cgroup, limit, usage, physical};
  }
  choice.pages = chosen(whole / 100 * config.mem_percent + whole % 100 * config.mem_percent / 100);
  return choice;
}

/// The group that leaves least to a machine that uses `own` bytes of what the group uses.
struct tightest_group {
  uint64_t own = 0;
  uint64_t left = ~uint64_t{0}, limit = 0, usage = 0;
};

void find_tightest_group(const machine_config& config, tightest_group& group) noexcept {
  const auto visit = [](void* context, uint64_t limit, uint64_t usage) noexcept {
    auto& t = *static_cast<tightest_group*>(context);
    const uint64_t left = allowance(limit, usage > t.own ? usage - t.own : 0);
    if (left < t.left) t = {t.own, left, limit, usage};
  };
  for_each_cgroup_limit(config.path_prefix, {&group, visit});
}

}  // namespace

const char* budget_source_name(budget_source source) noexcept {
  switch (source) {
    case budget_source::stated:
      return "mem=";
    case budget_source::percent_of_cgroup:
      return "mem=, a share of the cgroup's limit";
    case budget_source::percent_of_physical:
      return "mem=, a share of physical memory";
    case budget_source::cgroup:
      return "the cgroup's limit";
    case budget_source::physical:
      return "physical memory";
  }
  return "?";
}

budget_choice choose_budget_explained(const machine_config& config) noexcept {
  const uint64_t physical = plat::physical_bytes();
  if (config.mem != 0) return {nr_pages_t(config.mem >> page_shift), budget_source::stated, 0, 0, physical};
  if (config.mem_percent != 0) return percent_of_what_there_is(config, physical);
  tightest_group group;
  if (config.cgroup) find_tightest_group(config, group);
  if (group.limit != 0 && (physical == 0 || group.left < physical))
    return {chosen(group.left), budget_source::cgroup, group.limit, group.usage, physical};
  return {chosen(physical), budget_source::physical, 0, 0, physical};
}

nr_pages_t choose_budget(const machine_config& config) noexcept { return choose_budget_explained(config).pages; }

nr_pages_t budget_left_by_groups(const machine_config& config, uint64_t own_bytes) noexcept {
  tightest_group group;
  group.own = own_bytes;
  find_tightest_group(config, group);
  return nr_pages_t(group.left >> page_shift);
}

}  // inline namespace
}  // namespace kmem
