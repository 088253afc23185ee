#pragma once

// What is read off the allocator while a replay runs: figures over time, page blocks, and the texts of the moment when
// most memory was charged. All threads wait meanwhile, so the figures of a sample belong together and are checked
// against each other.

#include <cstdint>
#include <kmem/info.hpp>
#include <span>
#include <string>
#include <vector>

#include "cache_rows.hpp"
#include "droppable.hpp"
#include "shared.hpp"
#include "worker.hpp"

namespace kmem::tool::replay {

// Where to take samples in requests [first, end): about `wanted`, most of them evenly spaced in trace time, the others
// in numbers of requests, so that a storm of requests is seen too. Ascending.
std::vector<trace::request_index> sample_points(const plan& work, trace::request_index first, trace::request_index end, std::size_t wanted);

// The allocator's own promises about memory, and whether they hold.
struct memory_figures {
  memory_info info;
  std::uint64_t pool_bytes = 0;      // of the reclaimers, neither charged nor free
  std::uint64_t resident_bytes = 0;  // when measured

  // Charged and everything else that may be backed.
  std::uint64_t backed_bytes() const;
};
memory_figures read_memory(bool with_resident);
// Return: what is wrong, one text each.
std::vector<std::string> broken_promises(const memory_figures& figures, bool with_resident);

class sampler : public sample_taker {
 public:
  static constexpr std::size_t maps_wanted = 30;

  sampler(shared_state& state, cache_rows& rows, droppable_pages& droppable) : state_(state), rows_(rows), droppable_(droppable) {}

  // The tallies of the threads that are about to run, of which figures are summed up.
  void watch(std::span<worker* const> workers) { workers_ = workers; }
  // Tallies of threads that have ended.
  void set_base(const tally& base) { base_ = &base; }

  // Before the first request of all, and behind the last one.
  void start();
  void take(trace::request_index next) override;
  void end(trace::request_index next, const std::string& label);

  // What was read.
  std::vector<report::sample> samples;
  std::vector<report::block_snapshot> maps;
  std::vector<std::string> block_caches;
  report::peaks peak;
  std::vector<report::cache_row> peak_caches;
  std::vector<std::string> peak_slabinfo;
  std::vector<std::string> peak_buddyinfo;

 private:
  void take_sample(trace::request_index next, std::uint64_t time_ns, const std::string& label);
  void check(const memory_figures& figures, bool with_resident, trace::request_index next);
  void capture_peak(const report::sample& now);
  report::block_snapshot read_map(const report::sample& now, const std::string& label);
  std::int32_t cache_number(const std::string& name);

  shared_state& state_;
  cache_rows& rows_;
  droppable_pages& droppable_;
  std::span<worker* const> workers_;
  const tally* base_ = nullptr;
  std::uint64_t next_map_ns_ = 0;
  std::uint64_t captured_bytes_ = 0;
  report::block_snapshot peak_map_;
};

// The counters of the library's vmstat, by name.
std::vector<report::name_count> read_vmstat();

// The lines of one of the library's texts.
std::vector<std::string> text_lines(std::size_t (*text)(char*, std::size_t) noexcept);

}  // namespace kmem::tool::replay
