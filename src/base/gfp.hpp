// GFP flags: bit values of Linux 6.1 (the oracle tables), predicates, zone and mobility of a mask.
//
// One underscore-free name per bit (`gfp::io` is the kernel's __GFP_IO) and the combinations under their kernel names in lower
// case. The public header include/kmem/gfp.hpp defines the type and the names, since users spell them too.
#pragma once
#include <kmem/gfp.hpp>

#include <array>

#include "base/types.hpp"

namespace kmem {

/// Zones in the order of their pfns; a fallback goes to lower numbers only.
enum class zone_idx : uint8_t { dma, dma32, normal, highmem, movable };
inline constexpr unsigned nr_zones = 5;

/// Mobility of the pages of a page block.
enum class migratetype : uint8_t { unmovable, movable, reclaimable };
inline constexpr unsigned nr_migratetypes = 3;

namespace gfp_detail {

/// The highest zone that the four zone bits allow; contradictory ones count as the lowest zone named.
constexpr zone_idx zone_of_bits(gfp_t bits) noexcept {
  if (has(bits, gfp::dma)) return zone_idx::dma;
  if (has(bits, gfp::dma32)) return zone_idx::dma32;
  if (has(bits, gfp::highmem_bit)) return has(bits, gfp::movable) ? zone_idx::movable : zone_idx::highmem;
  return zone_idx::normal;  // movable alone asks for no zone: it is a promise about the page, not about the address
}

struct zone_choice {
  zone_idx zone;
  bool bad;
};

inline constexpr std::array<zone_choice, 16> zone_table = [] {
  std::array<zone_choice, 16> table{};
  for (uint32_t bits = 0; bits < table.size(); ++bits) {
    const uint32_t named = bits & 7u;  // dma, highmem, dma32: at most one of them makes sense
    table[bits] = {zone_of_bits(gfp_t{bits}), (named & (named - 1)) != 0};
  }
  return table;
}();

}  // namespace gfp_detail

/// The highest zone that a mask allows. Contradictory zone bits (gfp_zone_is_bad) count as the lowest zone named.
constexpr zone_idx gfp_zone(gfp_t gfp) noexcept { return gfp_detail::zone_table[static_cast<uint32_t>(gfp & gfp::zone_bits)].zone; }
/// True for combinations of zone bits that mean nothing, such as DMA with HIGHMEM.
constexpr bool gfp_zone_is_bad(gfp_t gfp) noexcept { return gfp_detail::zone_table[static_cast<uint32_t>(gfp & gfp::zone_bits)].bad; }
/// The mobility a mask promises. MOVABLE with RECLAIMABLE is a contradiction and counts as unmovable, which promises nothing.
constexpr migratetype gfp_migratetype(gfp_t gfp) noexcept {
  constexpr migratetype by_bits[4] = {migratetype::unmovable, migratetype::movable, migratetype::reclaimable, migratetype::unmovable};
  return by_bits[static_cast<uint32_t>(gfp) >> 3 & 3u];
}

/// Writes a mask in the kernel's form ("GFP_ATOMIC|__GFP_ZERO"; "none" for 0), truncated and NUL-terminated.
/// Return: characters wanted, NUL excluded: more than capacity - 1 when truncated.
size_t format_gfp(gfp_t gfp, char* buffer, size_t capacity) noexcept;

}  // namespace kmem
