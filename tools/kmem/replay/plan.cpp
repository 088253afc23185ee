#include "plan.hpp"

#include <algorithm>
#include <kmem/gfp.hpp>
#include <limits>
#include <numeric>
#include <utility>

namespace kmem::tool::replay {

namespace {

constexpr const char* further_flags = "(further flags)";

bool same_shape(const planned_cache& left, const planned_cache& right) {
  return left.name == right.name && left.object_bytes == right.object_bytes && left.align == right.align &&
         left.reclaim_account == right.reclaim_account && left.dma == right.dma;
}

}  // namespace

report::alloc_context context_of(const trace::request& request) {
  using trace::call_context;
  if (request.early_boot) return report::alloc_context::task;
  if ((request.context.bits & (call_context::hardirq | call_context::nmi)) != 0) return report::alloc_context::hardirq;
  if ((request.context.bits & call_context::softirq) != 0) return report::alloc_context::softirq;
  return request.context.atomic() ? report::alloc_context::task_atomic : report::alloc_context::task;
}

trace::gfp_bits known_bits(trace::gfp_bits bits) { return bits & static_cast<trace::gfp_bits>(gfp::known_bits); }

std::uint16_t plan::gfp_row(trace::gfp_bits bits) {
  for (std::size_t row = 0; row < gfps.size(); row++) {
    if (gfps[row].bits == bits || row == gfp_rows_max - 1) return static_cast<std::uint16_t>(row);
  }
  planned_gfp made;
  const bool last = gfps.size() == gfp_rows_max - 1;
  made.bits = last ? 0 : bits;
  made.text = last ? further_flags : trace::format_gfp(bits);
  const std::string name(last ? "other" : trace::gfp_class(bits));
  const auto found = std::find(gfp_classes.begin(), gfp_classes.end(), name);
  made.gfp_class = static_cast<std::size_t>(found - gfp_classes.begin());
  if (found == gfp_classes.end()) gfp_classes.push_back(name);
  gfps.push_back(std::move(made));
  return static_cast<std::uint16_t>(gfps.size() - 1);
}

std::uint32_t plan::cache_index(const trace::cache_info& info) {
  planned_cache made{info.name, std::max<std::uint64_t>(info.object_size, 1), info.align, info.reclaim_account, info.dma, info.named};
  const auto found = std::find_if(caches.begin(), caches.end(), [&](const planned_cache& each) { return same_shape(each, made); });
  const auto index = static_cast<std::uint32_t>(found - caches.begin());
  if (found == caches.end()) caches.push_back(std::move(made));
  return index;
}

bool plan::add(const trace::event_list& events, trace::request_list made) {
  if (made.requests.size() >= trace::no_request - requests.size()) return false;
  const auto first = static_cast<trace::request_index>(requests.size());
  std::vector<std::uint32_t> cache_of;
  cache_of.reserve(made.caches.size());
  for (const trace::cache_info& each : made.caches) cache_of.push_back(cache_index(each));
  requests.reserve(requests.size() + made.requests.size());
  gfp_of.reserve(gfp_of.size() + made.requests.size());
  trace::gfp_bits last_bits = 0;
  std::uint16_t last_row = std::numeric_limits<std::uint16_t>::max();
  for (trace::request each : made.requests) {
    if (each.target != trace::no_request) each.target += first;
    if (each.cache != trace::no_cache) each.cache = cache_of[each.cache];
    std::uint16_t row = 0;
    if (each.kind != trace::request_kind::free) {
      if (each.gfp != last_bits || last_row == std::numeric_limits<std::uint16_t>::max()) last_row = gfp_row(each.gfp);
      last_bits = each.gfp;
      row = last_row;
    }
    requests.push_back(each);
    gfp_of.push_back(row);
  }
  planned_trace about;
  about.info = {events.file,
                events.compression,
                events.file_bytes,
                events.counts.lines,
                events.counts.all_events(),
                made.last_ns - made.first_ns,
                made.counts.cpus,
                events.kernel};
  about.lines = events.counts;
  about.counts = made.counts;
  about.first = first;
  about.end = static_cast<trace::request_index>(requests.size());
  about.first_ns = made.first_ns;
  about.offset_ns = traces.empty() ? 0 : traces.back().offset_ns + traces.back().info.duration_ns;
  traces.push_back(std::move(about));
  order_classes();
  return true;
}

void plan::order_classes() {
  std::vector<std::uint64_t> allocs(gfp_classes.size());
  for (std::size_t index = 0; index < requests.size(); index++) {
    if (requests[index].kind != trace::request_kind::free) allocs[gfps[gfp_of[index]].gfp_class]++;
  }
  std::vector<std::size_t> order(gfp_classes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto is_rest = [&](std::size_t index) { return gfp_classes[index] == "other" || gfp_classes[index] == "none"; };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t left, std::size_t right) {
    if (is_rest(left) != is_rest(right)) return is_rest(right);
    return allocs[left] > allocs[right];
  });
  std::vector<std::size_t> place(order.size());
  std::vector<std::string> sorted;
  for (std::size_t index = 0; index < order.size(); index++) {
    place[order[index]] = index;
    sorted.push_back(gfp_classes[order[index]]);
  }
  gfp_classes = std::move(sorted);
  for (planned_gfp& each : gfps) each.gfp_class = place[each.gfp_class];
}

std::uint32_t plan::cpus() const {
  std::uint32_t most = 1;
  for (const planned_trace& each : traces) most = std::max(most, each.counts.cpus);
  return most;
}

std::uint32_t plan::trace_of(trace::request_index request) const {
  std::uint32_t index = 0;
  while (index + 1 < traces.size() && request >= traces[index].end) index++;
  return index;
}

std::uint64_t plan::time_of(trace::request_index request) const {
  const planned_trace& from = traces[trace_of(request)];
  const std::uint64_t at = requests[request].timestamp_ns;
  return from.offset_ns + (at > from.first_ns ? at - from.first_ns : 0);
}

}  // namespace kmem::tool::replay
