// Watermarks, lowmem reserves, and how deep each set of flags may dig.
//
// Equations. min_free_kbytes = sqrt(16 * kbytes of DMA, DMA32 and NORMAL), 128 .. 262144; shared over these zones by managed size.
//            step = max(share / 4, managed * watermark_scale_factor / 10000); low = min + step; high = low + step.
//            HIGHMEM keeps managed / 1024, 32 .. 128 pages as its min: its pages are of no use to an atomic caller.
//            lowmem_reserve of zone i against requests of highest zone j: sum of managed of zones i+1 .. j, / ratio[i].
// Depth.     A request may take n pages if free - n + 1 > floor + lowmem_reserve. The floor is min, or:
//              policy spec:     0 for GFP_ATOMIC and __GFP_HIGH without direct reclaim; 0 for __GFP_HIGH with direct reclaim and for
//                               __GFP_NOFAIL once the chain has come to the reserve.
//              policy linux6.1: min/2 for __GFP_HIGH and for real-time threads that may reclaim; a quarter less of that for
//                               __GFP_HIGH without direct reclaim.
//              both: 0, and no lowmem reserve, for __GFP_MEMALLOC. __GFP_NOMEMALLOC takes the right of MEMALLOC and NOFAIL, of HIGH
//              (spec) and of the extra quarter (linux6.1) away.
// Locks.     None; read-only after init.
// Kernel.    The rule of 6.1 was read off a running kernel, for each flag, as the number of free pages at the first failure.
// Tests.     tests/model/page_alloc_oracle_test.cpp, against tests/model/gfp_model.hpp and the answers of a real kernel
#include <bit>

#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint64_t min_free_least_kbytes = 128, min_free_most_kbytes = 262144;
constexpr unsigned kbytes_shift = page_shift - 10;
// At most 8 batches (2 MiB) in a CPU's lists, where the kernel keeps its low watermark's worth: memory in lists counts as used.
constexpr uint64_t cpu_high_batches = 8;

uint64_t square_root(uint64_t n) noexcept {
  uint64_t root = 0;
  for (uint64_t bit = uint64_t{1} << 31; bit != 0; bit >>= 1)
    if ((root | bit) * (root | bit) <= n) root |= bit;
  return root;
}

constexpr uint64_t clamp(uint64_t value, uint64_t least, uint64_t most) noexcept {
  return value < least ? least : value > most ? most : value;
}

/// a * b / c without overflow for page counts: a, b < 2^32.
constexpr uint64_t share(uint64_t a, uint64_t b, uint64_t c) noexcept { return c == 0 ? 0 : a * b / c; }

/// MOVABLE is carved out of the highest zone there is, and counts as high memory if that is HIGHMEM.
bool is_high(const zone (&zones)[nr_zones], unsigned idx) noexcept {
  if (idx == raw(zone_idx::highmem)) return true;
  return idx == raw(zone_idx::movable) && zones[raw(zone_idx::highmem)].managed_most != 0;
}

}  // namespace

void compute_watermarks(zone (&zones)[nr_zones], const machine_config& config) noexcept {
  uint64_t buffer_pages = 0, low_pages = 0;  // of zones up to NORMAL; of all that are not high memory
  for (unsigned i = 0; i < nr_zones; ++i) {
    if (i <= raw(zone_idx::normal)) buffer_pages += zones[i].managed_most;
    if (!is_high(zones, i)) low_pages += zones[i].managed_most;
  }
  uint64_t min_kbytes = config.min_free_kbytes;
  if (min_kbytes == 0) min_kbytes = clamp(square_root((buffer_pages << kbytes_shift) * 16), min_free_least_kbytes, min_free_most_kbytes);
  const uint64_t min_pages = min_kbytes >> kbytes_shift;

  for (unsigned i = 0; i < nr_zones; ++i) {
    zone& z = zones[i];
    const uint64_t managed = z.managed_most;
    const uint64_t part = share(min_pages, managed, low_pages);
    const uint64_t min = is_high(zones, i) ? clamp(managed / 1024, 32, 128) : part;
    const uint64_t by_size = share(managed, config.watermark_scale_factor, 10000);
    const uint64_t step = part / 4 > by_size ? part / 4 : by_size;
    z.watermarks[static_cast<unsigned>(watermark::min)] = min;
    z.watermarks[static_cast<unsigned>(watermark::low)] = min + step;
    z.watermarks[static_cast<unsigned>(watermark::high)] = min + 2 * step;

    uint64_t above = 0;
    for (unsigned j = 0; j < nr_zones; ++j) {
      if (j > i) above += zones[j].managed_most;
      const uint32_t ratio = config.lowmem_reserve_ratio[i];
      z.lowmem_reserve[j] = j <= i || ratio == 0 || managed == 0 ? 0 : above / ratio;
    }
  }
}

void compute_cpu_lists(zone& z, uint32_t nr_cpus) noexcept {
  constexpr uint64_t most_batch_pages = (uint64_t{1} << 20) >> page_shift;  // the kernel's 1 MiB
  uint64_t batch = z.managed_most / 1024;
  if (batch > most_batch_pages) batch = most_batch_pages;
  batch /= 4;
  if (batch < 1) batch = 1;
  batch = std::bit_floor(batch + batch / 2) - 1;
  if (batch < 1) batch = 1;
  uint64_t high = z.watermarks[static_cast<unsigned>(watermark::low)] / nr_cpus;
  if (high < batch * 4) high = batch * 4;
  if (high > batch * cpu_high_batches) high = batch * cpu_high_batches;
  z.cpu_batch = static_cast<uint32_t>(batch);
  z.cpu_high = static_cast<uint32_t>(high);
}

uint64_t watermark_floor(const page_allocator& pa, const zone& z, const watermark_request& request) noexcept {
  const uint64_t min = z.watermarks[static_cast<unsigned>(watermark::min)];
  const gfp_t gfp = request.gfp;
  const bool at_the_end = request.reserve_step && !may_fail(gfp) && !has(gfp, gfp::nomemalloc);
  if (has(gfp, gfp::memalloc) && !has(gfp, gfp::nomemalloc)) return 0;
  if (pa.config.policy == reserve_policy::spec) {
    if (at_the_end) return 0;
    if (!may_use_reserve(gfp)) return min;
    return !may_block(gfp) || request.reserve_step ? 0 : min;
  }
  const bool privileged = has(gfp, gfp::high) || (request.realtime && may_block(gfp)) || at_the_end;
  if (!privileged) return min;
  const uint64_t half = min - min / 2;
  const bool no_wait = !may_block(gfp) && !has(gfp, gfp::nomemalloc);
  return no_wait ? half - half / 4 : half;
}

namespace {

/// Free pages that a zone must have more than, so that a request for `highest` finds it above a watermark.
uint64_t mark_for(const zone& z, watermark mark, zone_idx highest) noexcept {
  return z.watermarks[static_cast<unsigned>(mark)] + z.lowmem_reserve[raw(highest)];
}

}  // namespace

bool some_zone_above(const page_allocator& pa, watermark mark, uint64_t n, zone_idx highest) noexcept {
  for (unsigned i = lowest_counted(highest); i <= raw(highest); ++i)
    if (pa.zones[i].nr_blocks != 0 && above_floor(pa.zones[i], n, mark_for(pa.zones[i], mark, highest))) return true;
  return false;
}

uint64_t pages_missing(const page_allocator& pa, watermark mark, zone_idx highest) noexcept {
  uint64_t least = ~uint64_t{0};
  for (unsigned i = lowest_counted(highest); i <= raw(highest); ++i) {
    const zone& z = pa.zones[i];
    if (z.nr_blocks == 0) continue;
    const uint64_t wanted = mark_for(z, mark, highest) + 1, free = zone_free(z);
    const uint64_t missing = free < wanted ? wanted - free : 0;
    if (missing < least) least = missing;
  }
  return least != ~uint64_t{0} ? least : 0;
}

uint64_t pages_below(const page_allocator& pa, watermark mark, zone_idx highest) noexcept {
  uint64_t sum = 0;
  for (unsigned i = 0; i <= raw(highest); ++i) {
    const uint64_t wanted = mark_for(pa.zones[i], mark, highest), free = zone_free(pa.zones[i]);
    if (pa.zones[i].nr_blocks != 0 && free < wanted) sum += wanted - free;
  }
  return sum;
}

uint64_t floor_for(const page_allocator& pa, const zone& z, const watermark_request& wanted, zone_idx highest) noexcept {
  const uint64_t floor = watermark_floor(pa, z, wanted);
  if (has(wanted.gfp, gfp::memalloc) && !has(wanted.gfp, gfp::nomemalloc)) return floor;
  return floor + z.lowmem_reserve[raw(highest)];
}

}  // inline namespace
}  // namespace kmem
