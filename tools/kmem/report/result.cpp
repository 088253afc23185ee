#include "result.hpp"

#include <algorithm>
#include <utility>

#include "units.hpp"

namespace kmem::tool::report {

std::string_view to_string(alloc_context context) noexcept {
  switch (context) {
    case alloc_context::task:
      return "task";
    case alloc_context::task_atomic:
      return "task, atomic";
    case alloc_context::softirq:
      return "softirq";
    case alloc_context::hardirq:
      return "hardirq";
  }
  return "unknown";
}

std::string_view to_string(latency_path path) noexcept {
  switch (path) {
    case latency_path::per_cpu:
      return "per-CPU";
    case latency_path::slab_refill:
      return "slab refill";
    case latency_path::page_allocator:
      return "page allocator";
    case latency_path::slow_chain:
      return "slow chain";
    case latency_path::free:
      return "free";
  }
  return "unknown";
}

std::string_view to_string(block_owner owner) noexcept {
  switch (owner) {
    case block_owner::free_present:
      return "free, present";
    case block_owner::slab:
      return "slab";
    case block_owner::pages:
      return "pages";
    case block_owner::mixed:
      return "mixed";
    case block_owner::reserve:
      return "reserve";
    case block_owner::large:
      return "large";
    case block_owner::in_transit:
      return "in transit";
  }
  return "unknown";
}

double percent(std::uint64_t part, std::uint64_t whole) noexcept {
  return whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

double rounding_waste_percent(const cache_row& row) noexcept {
  return row.allocated_bytes > row.requested_bytes ? percent(row.allocated_bytes - row.requested_bytes, row.allocated_bytes) : 0.0;
}

std::uint64_t slab_bytes(const cache_row& row) noexcept { return row.slabs * row.pages_per_slab * page_bytes; }

std::uint64_t slab_waste_bytes(const cache_row& row) noexcept {
  const std::uint64_t used = row.active_objects * row.object_bytes;
  const std::uint64_t held = slab_bytes(row);
  return held > used ? held - used : 0;
}

double slab_waste_percent(const cache_row& row) noexcept { return percent(slab_waste_bytes(row), slab_bytes(row)); }

std::string_view cause_text(std::string_view cause) noexcept {
  static constexpr std::pair<std::string_view, std::string_view> texts[] = {
      {"none", ""},
      {"page", "freed pages"},
      {"object", "freed an object"},
      {"drain", "emptied CPU lists"},
      {"room", "made room in the budget"},
      {"give_back", "gave memory back"},
      {"reclaim", "reclaimed for itself"},
      {"kswapd", "reclaimed"},
      {"left", "left the queue"},
      {"stop", "asked to stop"},
  };
  for (const auto& [name, text] : texts) {
    if (name == cause) {
      return text;
    }
  }
  return cause;
}

std::uint64_t direct_reclaims(const replay_result& result) noexcept {
  std::uint64_t sum = 0;
  for (const name_count& one : result.vmstat) {
    sum += one.name.starts_with("allocstall_") ? one.count : 0;
  }
  return sum;
}

std::vector<decade_row> by_decade(const latency_histogram& histogram) {
  std::vector<decade_row> out;
  const std::vector<latency_histogram::bucket> buckets = histogram.filled_buckets();
  std::size_t next = 0;
  for (std::uint64_t low = 1; next < buckets.size(); low *= 10) {
    decade_row row{low, 0};
    for (; next < buckets.size() && (std::min(buckets[next].high, histogram.max()) / 10 < low || low > UINT64_MAX / 100); ++next) {
      row.count += buckets[next].count;
    }
    if (row.count != 0 || !out.empty()) {
      out.push_back(row);
    }
  }
  return out;
}

std::uint64_t vmstat_of(const replay_result& result, std::string_view name) noexcept {
  for (const name_count& one : result.vmstat) {
    if (one.name == name) {
      return one.count;
    }
  }
  return 0;
}

bool sleeps_without_record(const replay_result& result) noexcept {
  return result.sleeps.length_ns.count() == 0 && result.sleeps.unrecorded == 0 && vmstat_of(result, "kmem_waits") != 0;
}

const sample* lowest_reserve(const replay_result& result) noexcept {
  const sample* lowest = nullptr;
  bool any = false;
  for (const sample& one : result.samples) {
    any = any || one.reserve_bytes != 0;
    if (lowest == nullptr || one.reserve_bytes < lowest->reserve_bytes) {
      lowest = &one;
    }
  }
  return any ? lowest : nullptr;
}

std::vector<const cache_row*> caches_by_memory(const replay_result& result, bool size_classes) {
  std::vector<const cache_row*> rows;
  for (const cache_row& row : result.by_cache) {
    if (row.size_class == size_classes && (row.allocs != 0 || row.slabs != 0)) {
      rows.push_back(&row);
    }
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [](const cache_row* left, const cache_row* right) { return slab_bytes(*left) > slab_bytes(*right); });
  return rows;
}

std::string title_of(const replay_result& result) {
  if (!result.title.empty()) {
    return result.title;
  }
  std::string names;
  for (const trace_info& trace : result.traces) {
    const std::size_t slash = trace.path.find_last_of('/');
    names += names.empty() ? "" : ", ";
    names += slash == std::string::npos ? trace.path : trace.path.substr(slash + 1);
  }
  return (names.empty() ? std::string("replay") : names) + " in " + human_bytes(result.budget_bytes);
}

}  // namespace kmem::tool::report
