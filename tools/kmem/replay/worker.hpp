#pragma once

// One thread of a replay: runs its requests, times them, counts what happened.

#include <cstdint>
#include <kmem/info.hpp>
#include <span>

#include "cache_rows.hpp"
#include "droppable.hpp"
#include "gate.hpp"
#include "shared.hpp"
#include "tally.hpp"

namespace kmem::tool::replay {

// What a sample point does; called by one thread while the others wait.
class sample_taker {
 public:
  virtual ~sample_taker() = default;
  virtual void take(trace::request_index next) = 0;
};

class worker {
 public:
  worker(shared_state& state, cache_rows& rows, droppable_pages& droppable, unsigned number);

  // The thread's own name is its key to the failure records: no two threads may share it.
  void run(gate& order, sample_taker& samples, std::span<const trace::request_index> requests);

  const tally& counts() const { return counts_; }

 private:
  void run_one(trace::request_index index);
  void allocate(trace::request_index index, const trace::request& request);
  void served(trace::request_index index, const trace::request& request, void* memory);
  void failed(trace::request_index index, const trace::request& request, std::uint64_t failures_before);
  void check_and_fill(trace::request_index index, const trace::request& request, void* memory);
  void free(trace::request_index index, const trace::request& request);
  void timed_free(trace::request_index target, const trace::request& request, void* memory);
  gfp_t mask_of(const trace::request& request);
  void* call(const trace::request& request, gfp_t gfp) const;
  bool find_failure(std::uint64_t before, allocation_failure& found) const;
  void note_sleeps(trace::request_index index, const trace::request& request, std::uint64_t sleeps_before);
  void keep_failure(trace::request_index index, const trace::request& request, const char* step, const allocation_failure& why);
  std::uint64_t time_since(std::uint64_t start) const;
  outcome_tally& context_cell(trace::request_index index, const trace::request& request);

  shared_state& state_;
  cache_rows& rows_;
  droppable_pages& droppable_;
  unsigned number_;
  std::int32_t thread_id_ = 0;
  tally counts_;
};

// The name of a replay thread, at most 15 characters.
std::string thread_name(unsigned number);

}  // namespace kmem::tool::replay
