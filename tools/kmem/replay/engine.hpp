#pragma once

// Runs a plan against the allocator of this process and says what happened.
//
// Each traced CPU is a thread, or shares one when there are fewer threads; with more threads than CPUs the requests of
// a CPU are dealt out to several in short runs, so that they meet in the allocator more often than in the trace. One
// thread runs the trace exactly in its order, and is bound to the CPU it starts on, so that two runs count the same.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cache_rows.hpp"
#include "droppable.hpp"
#include "messages.hpp"
#include "report/result.hpp"
#include "sampler.hpp"
#include "shared.hpp"

namespace kmem::tool::replay {

struct engine_progress {
  std::uint64_t requests = 0;  // done
  std::uint64_t charged_bytes = 0;
  std::uint64_t budget_bytes = 0;
  std::uint64_t failed = 0;
};

// Which thread runs which requests of [first, end).
std::vector<std::vector<trace::request_index>> deal_requests(const plan& work, trace::request_index first, trace::request_index end,
                                                             unsigned threads);

class engine {
 public:
  engine(const plan& work, const engine_options& options);

  // Makes the caches of the trace. Return: false with the reason: the budget is too small for the replay to begin.
  bool prepare(std::string& problem);

  // Replays everything and frees what is left. `report` is called from this thread a few times a second and may ask to
  // stop by returning false.
  void run(const std::function<bool(const engine_progress&)>& report);

  // After run(). The parameters, title and version are left to the caller.
  report::replay_result result() const;

 private:
  void run_trace(std::size_t trace, const std::function<bool(const engine_progress&)>& report);
  void free_what_is_left(const planned_trace& trace);
  void finish();

  plan const& work_;
  engine_options options_;
  shared_state state_;
  message_collector messages_;
  cache_rows rows_;
  droppable_pages droppable_;
  sampler sampler_;
  tally total_;
  std::uint64_t charged_before_bytes_ = 0;  // before the caches were made
  std::uint64_t violations_before_ = 0;
  std::vector<report::name_count> vmstat_before_;
  std::vector<report::name_count> vmstat_after_;
  std::uint64_t sleeps_before_ = 0;  // records of sleeps
  std::uint64_t sleeps_after_ = 0;
  std::uint64_t wall_ns_ = 0;
  std::uint64_t left_objects_ = 0;
  std::uint64_t left_bytes_ = 0;
  std::uint64_t charged_after_bytes_ = 0;
  bool completed_ = true;
  bool interrupted_ = false;
};

}  // namespace kmem::tool::replay
