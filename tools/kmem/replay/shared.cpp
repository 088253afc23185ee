#include "shared.hpp"

#include <fmt/format.h>

#include "pattern.hpp"

namespace kmem::tool::replay {

drop_sort drop_sort_of(trace::gfp_bits gfp) {
  if ((gfp & trace::gfp_bit::write) != 0) return drop_sort::file;
  return (gfp & trace::gfp_bit::zero) != 0 ? drop_sort::swap : drop_sort::clean;
}

void* bytes_of(const trace::request& request, void* memory) {
  return request.kind == trace::request_kind::pages ? page_address(static_cast<const page*>(memory)) : memory;
}

void free_memory(shared_state& state, trace::request_index request, void* memory) {
  const trace::request& from = state.work.requests[request];
  switch (from.kind) {
    case trace::request_kind::pages:
      free_pages(static_cast<page*>(memory), from.order);
      break;
    case trace::request_kind::cache_alloc:
      kmem_cache_free(state.caches[from.cache], memory);
      break;
    default:
      kfree(memory);
      break;
  }
}

void verify_contents(shared_state& state, trace::request_index request, void* memory, const char* when) {
  const trace::request& from = state.work.requests[request];
  const auto* bytes = static_cast<const std::uint8_t*>(bytes_of(from, memory));
  const std::size_t wrong = find_mismatch(bytes, from.size, request);
  if (wrong == from.size) return;
  state.errors.add(state.line_trace(request), from.line,
                   fmt::format("byte {} of {} is 0x{:02x} {}, written was 0x{:02x} (at {})", wrong, from.size, bytes[wrong], when,
                               pattern_byte(wrong, request), fmt::ptr(bytes + wrong)));
}

}  // namespace kmem::tool::replay
