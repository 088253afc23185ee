#include "sampler.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

namespace kmem::tool::replay {

namespace {

constexpr std::size_t samples_per_resident = 20;  // residency is asked page by page
// A peak is captured anew when it is that much higher: the captures cost more than a sample.
constexpr std::uint64_t peak_step_bytes = 64 * 1024;
constexpr std::uint64_t peak_step_share = 128;

report::block_info to_report(const page_block_info& block, std::int32_t cache) {
  report::block_info out;
  out.index = static_cast<std::uint32_t>(block.number);
  out.used_pages = block.used_pages;
  out.present_pages = static_cast<std::uint32_t>(block.used_pages + block.free_present_pages + block.transit_pages);
  if (block.used_pages == 0) {
    out.owner = block.transit_pages != 0 ? report::block_owner::in_transit : report::block_owner::free_present;
  } else if (block.slab_pages == 0) {
    out.owner = report::block_owner::pages;
  } else {
    out.owner = block.slab_pages == block.used_pages ? report::block_owner::slab : report::block_owner::mixed;
    out.cache = cache;
  }
  return out;
}

}  // namespace

std::vector<trace::request_index> sample_points(const plan& work, trace::request_index first, trace::request_index end,
                                                std::size_t wanted) {
  std::vector<trace::request_index> points;
  if (first == end) return points;
  const std::size_t by_count = std::max<std::size_t>(wanted / 4, 1);
  const std::size_t by_time = std::max<std::size_t>(wanted - by_count, 1);
  for (std::size_t number = 0; number < by_count; number++) {
    points.push_back(first + static_cast<trace::request_index>((end - first) * static_cast<std::uint64_t>(number) / by_count));
  }
  const std::uint64_t start = work.time_of(first);
  const std::uint64_t whole = std::max<std::uint64_t>(work.traces[work.trace_of(first)].info.duration_ns, 1);
  std::size_t number = 0;
  for (trace::request_index index = first; index < end; index++) {
    const std::uint64_t passed = std::max(work.time_of(index), start) - start;
    const auto slice = static_cast<std::size_t>(static_cast<double>(passed) / static_cast<double>(whole) * static_cast<double>(by_time));
    if (slice < number && index != first) continue;
    points.push_back(index);
    number = slice + 1;
  }
  std::sort(points.begin(), points.end());
  points.erase(std::unique(points.begin(), points.end()), points.end());
  return points;
}

std::uint64_t memory_figures::backed_bytes() const {
  return info.charged_bytes + info.free_present_bytes + info.cpu_list_bytes + info.reserve_bytes + info.transit_bytes + pool_bytes;
}

memory_figures read_memory(bool with_resident) {
  memory_figures out;
  if (!read_memory_info(out.info)) return out;
  for (unsigned zone = 0; zone < out.info.nr_zones; zone++) {
    const zone_info& each = out.info.zones[zone];
    const std::uint64_t known = each.charged_pages + each.free_pages + each.cpu_list_pages;
    out.pool_bytes += each.managed_pages > known ? (each.managed_pages - known) * page_bytes : 0;
  }
  if (with_resident) out.resident_bytes = resident_bytes();
  return out;
}

std::vector<std::string> broken_promises(const memory_figures& figures, bool with_resident) {
  std::vector<std::string> broken;
  const memory_info& info = figures.info;
  if (info.charged_bytes + info.metadata_bytes > info.limit_bytes) {
    broken.push_back(fmt::format("charged {} + metadata {} is more than the budget of {} bytes", info.charged_bytes, info.metadata_bytes,
                                 info.limit_bytes));
  }
  if (with_resident && figures.resident_bytes > figures.backed_bytes()) {
    broken.push_back(fmt::format(
        "{} bytes are resident, more than charged {} + free present {} + CPU lists {} + reserve {} + in transit {} + reclaimers' pool {}",
        figures.resident_bytes, info.charged_bytes, info.free_present_bytes, info.cpu_list_bytes, info.reserve_bytes, info.transit_bytes,
        figures.pool_bytes));
  }
  return broken;
}

std::vector<std::string> text_lines(std::size_t (*text)(char*, std::size_t) noexcept) {
  std::string buffer;
  std::size_t wanted = text(nullptr, 0);
  do {
    buffer.resize(wanted + 1);
    wanted = text(buffer.data(), buffer.size());
  } while (wanted >= buffer.size());
  buffer.resize(wanted);
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < buffer.size();) {
    const std::size_t end = std::min(buffer.find('\n', at), buffer.size());
    lines.push_back(buffer.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

std::vector<report::name_count> read_vmstat() {
  std::vector<report::name_count> out;
  for (const std::string& line : text_lines(vmstat_text)) {
    const std::size_t middle = line.find(' ');
    if (middle != std::string::npos) out.push_back({line.substr(0, middle), std::strtoull(line.c_str() + middle, nullptr, 10)});
  }
  return out;
}

std::int32_t sampler::cache_number(const std::string& name) {
  if (name.empty()) return -1;
  const auto found = std::find(block_caches.begin(), block_caches.end(), name);
  const auto number = static_cast<std::int32_t>(found - block_caches.begin());
  if (found == block_caches.end()) block_caches.push_back(name);
  return number;
}

report::block_snapshot sampler::read_map(const report::sample& now, const std::string& label) {
  report::block_snapshot map;
  map.time_ns = now.time_ns;
  map.events = now.events;
  map.label = label;
  page_block_info block;
  for (std::uint64_t from = 0; read_page_block(from, block); from = block.number + 1) {
    if (block.used_pages + block.free_present_pages + block.transit_pages == 0) continue;
    map.blocks.push_back(to_report(block, block.slab_pages == 0 ? -1 : cache_number(block.cache)));
  }
  return map;
}

void sampler::check(const memory_figures& figures, bool with_resident, trace::request_index next) {
  const bool inside = next < state_.work.requests.size();
  for (std::string& each : broken_promises(figures, with_resident)) {
    state_.errors.add(inside ? state_.line_trace(next) : 0, inside ? state_.work.requests[next].line : 0, std::move(each));
  }
}

void sampler::capture_peak(const report::sample& now) {
  if (now.charged_bytes <= peak.charged_bytes && !peak_slabinfo.empty()) return;
  peak.charged_bytes = std::max(peak.charged_bytes, now.charged_bytes);
  peak.charged_time_ns = now.time_ns;
  const std::uint64_t step = std::max(peak_step_bytes, captured_bytes_ / peak_step_share);
  if (now.charged_bytes < captured_bytes_ + step && !peak_slabinfo.empty()) return;
  captured_bytes_ = now.charged_bytes;
  peak_caches = rows_.snapshot();
  peak_slabinfo = text_lines(slabinfo_text);
  peak_buddyinfo = text_lines(buddyinfo_text);
  peak_map_ = read_map(now, "charged peak");
}

void sampler::take_sample(trace::request_index next, std::uint64_t time_ns, const std::string& label) {
  const bool with_resident = samples.size() % samples_per_resident == 0 || !label.empty();
  const memory_figures figures = read_memory(with_resident);
  check(figures, with_resident, next);
  report::sample now;
  now.time_ns = time_ns;
  now.events = next;
  now.live_bytes = state_.figures.live_bytes.load(std::memory_order_relaxed);
  now.charged_bytes = figures.info.charged_bytes;
  now.metadata_bytes = figures.info.metadata_bytes;
  now.budget_bytes = figures.info.limit_bytes;
  now.free_present_bytes = figures.info.free_present_bytes + figures.info.cpu_list_bytes;
  now.reserve_bytes = figures.info.reserve_bytes;
  for (unsigned zone = 0; zone < figures.info.nr_zones; zone++) {
    const zone_info& each = figures.info.zones[zone];
    now.free_bytes += each.free_pages * page_bytes;
    now.min_bytes += each.min_pages * page_bytes;
    now.low_bytes += each.low_pages * page_bytes;
    now.high_bytes += each.high_pages * page_bytes;
  }
  now.arena_resident_bytes = figures.resident_bytes;
  now.droppable_bytes = state_.figures.all_droppable_bytes();
  now.dropped_bytes = droppable_.dropped_pages() * page_bytes;
  now.failed_by_class.resize(state_.work.gfp_classes.size());
  const auto add = [&](const tally& counts) {
    now.failed += counts.failed;
    now.sleeps += counts.sleeps.size();
    for (std::size_t row = 0; row < now.failed_by_class.size(); row++) now.failed_by_class[row] += counts.failed_by_class[row];
  };
  if (base_ != nullptr) add(*base_);
  for (const worker* const each : workers_) add(each->counts());
  peak.metadata_bytes = std::max(peak.metadata_bytes, figures.info.metadata_bytes);
  peak.arena_resident_bytes = std::max(peak.arena_resident_bytes, figures.resident_bytes);
  capture_peak(now);
  const std::uint64_t whole =
      state_.work.traces.empty() ? 0 : state_.work.traces.back().offset_ns + state_.work.traces.back().info.duration_ns;
  if (!label.empty() || now.time_ns >= next_map_ns_) {
    maps.push_back(read_map(now, label));
    while (next_map_ns_ <= now.time_ns) next_map_ns_ += std::max<std::uint64_t>(whole / maps_wanted, 1);
  }
  samples.push_back(std::move(now));
}

void sampler::start() { take_sample(0, 0, "start"); }

void sampler::take(trace::request_index next) { take_sample(next, state_.work.time_of(next), ""); }

void sampler::end(trace::request_index next, const std::string& label) {
  const planned_trace& last = state_.work.traces[state_.work.trace_of(next == 0 ? 0 : next - 1)];
  take_sample(next, last.offset_ns + last.info.duration_ns, label);
  if (label.empty()) return;
  const auto behind =
      std::upper_bound(maps.begin(), maps.end(), peak_map_,
                       [](const report::block_snapshot& left, const report::block_snapshot& right) { return left.events < right.events; });
  maps.insert(behind, peak_map_);
}

}  // namespace kmem::tool::replay
