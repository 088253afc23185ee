#pragma once

// The rows of a comparison, joined by name: what the terminal and HTML comparisons show.

#include <cstdint>
#include <string>
#include <vector>

#include "result.hpp"

namespace kmem::tool::report {

struct outcome {
  std::uint64_t allocs = 0;
  std::uint64_t failed = 0;
};

struct outcome_pair {
  std::string name;    // gfp string, gfp class, context or step
  std::string detail;  // context of a class, else empty
  outcome first;
  outcome second;
};

// Rows whose outcomes differ in failures first, then by allocations; rows that are all zero are left out.
[[nodiscard]] std::vector<outcome_pair> compare_by_gfp(const replay_result& first, const replay_result& second);
[[nodiscard]] std::vector<outcome_pair> compare_by_context(const replay_result& first, const replay_result& second);
[[nodiscard]] std::vector<outcome_pair> compare_by_step(const replay_result& first, const replay_result& second);

// One sentence about how a run ended: "all 443 996 allocations were served".
[[nodiscard]] std::string verdict(const replay_result& result);

// True when nothing failed, nothing was inconsistent and the replay went to the end.
[[nodiscard]] bool is_clean(const replay_result& result) noexcept;

// Sums of failed allocations by the last step reached, most frequent first.
[[nodiscard]] std::vector<name_count> failed_by_step(const replay_result& result);

}  // namespace kmem::tool::report
