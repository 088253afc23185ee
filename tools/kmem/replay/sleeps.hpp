#pragma once

// From the sleeps that the threads noted to the tables of the report.

#include <cstdint>
#include <span>
#include <string>

#include "plan.hpp"
#include "report/result.hpp"
#include "tally.hpp"

namespace kmem::tool::replay {

// Whose requests a thread of the replay makes: "CPU 1", or "CPUs 1, 3" where it makes those of several.
std::string cpus_of_thread(unsigned thread, unsigned threads, std::uint32_t cpus);

// `records`: how many sleeps the library recorded meanwhile.
report::sleep_figures sum_up_sleeps(const plan& work, std::span<const noted_sleep> sleeps, unsigned threads, std::uint64_t records);

}  // namespace kmem::tool::replay
