#include "tally.hpp"

namespace kmem::tool::replay {

void tally::merge(const tally& other) {
  for (std::size_t row = 0; row < by_gfp.size(); row++) {
    by_gfp[row].outcome.merge(other.by_gfp[row].outcome);
    by_gfp[row].latency.merge(other.by_gfp[row].latency);
    for (const auto& [step, count] : other.by_gfp[row].failed_by_step) by_gfp[row].add_step(step, count);
  }
  for (std::size_t row = 0; row < by_context.size(); row++) by_context[row].merge(other.by_context[row]);
  for (std::size_t row = 0; row < by_cache.size(); row++) {
    by_cache[row].allocs += other.by_cache[row].allocs;
    by_cache[row].failed += other.by_cache[row].failed;
    by_cache[row].requested_bytes += other.by_cache[row].requested_bytes;
    by_cache[row].allocated_bytes += other.by_cache[row].allocated_bytes;
  }
  for (std::size_t row = 0; row < failed_by_class.size(); row++) failed_by_class[row] += other.failed_by_class[row];
  for (std::size_t path = 0; path < latency.size(); path++) latency[path].merge(other.latency[path]);
  for (std::size_t kind = 0; kind < by_kind.size(); kind++) {
    by_kind[kind].replayed += other.by_kind[kind].replayed;
    by_kind[kind].failed += other.by_kind[kind].failed;
    by_kind[kind].bytes += other.by_kind[kind].bytes;
  }
  failures.insert(failures.end(), other.failures.begin(), other.failures.end());
  sleeps.insert(sleeps.end(), other.sleeps.begin(), other.sleeps.end());
  allocs += other.allocs;
  frees += other.frees;
  failed += other.failed;
  requested_bytes += other.requested_bytes;
  frees_of_failed += other.frees_of_failed;
  late_frees += other.late_frees;
  early_boot += other.early_boot;
  nofail += other.nofail;
  unknown_bits += other.unknown_bits;
}

}  // namespace kmem::tool::replay
