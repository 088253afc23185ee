// GFP flags: bit values of Linux 6.1 (the oracle tables), predicates, zone and mobility of a mask.
//
// One underscore-free name per bit (`gfp::io` is the kernel's __GFP_IO) and the combinations under their kernel names in lower
// case. The public header include/kmem/gfp.hpp defines the type and the names, since users spell them too.
#pragma once
#include <kmem/gfp.hpp>

#include "base/types.hpp"

namespace kmem {

/// Zones in the order of their pfns; a fallback goes to lower numbers only.
enum class zone_idx : uint8_t { dma, dma32, normal, highmem, movable };
inline constexpr unsigned nr_zones = 5;

/// Mobility of the pages of a page block.
enum class migratetype : uint8_t { unmovable, movable, reclaimable };
inline constexpr unsigned nr_migratetypes = 3;

/// The highest zone that a mask allows. Contradictory zone bits (bad_zone_bits) count as the lowest zone named.
zone_idx gfp_zone(gfp_t gfp) noexcept;
/// True for combinations of zone bits that mean nothing, such as DMA with HIGHMEM.
bool gfp_zone_is_bad(gfp_t gfp) noexcept;
migratetype gfp_migratetype(gfp_t gfp) noexcept;

/// Writes a mask in the kernel's form ("GFP_ATOMIC|__GFP_ZERO"). Return: characters written, NUL excluded.
size_t format_gfp(gfp_t gfp, char* buffer, size_t capacity) noexcept;

}  // namespace kmem
