// How deep an allocation may dig, written from the documentation of the flags and nothing else: no name of the allocator is used here.
#pragma once
#include <cstdint>

namespace kmem::testing {

/// What the documentation distinguishes about a request.
struct dig {
  bool high = false;         // __GFP_HIGH: may use the emergency reserve
  bool memalloc = false;     // __GFP_MEMALLOC: all reserves
  bool nomemalloc = false;   // __GFP_NOMEMALLOC: no reserves, whatever else says so
  bool nofail = false;       // __GFP_NOFAIL: never fail
  bool may_reclaim = false;  // __GFP_DIRECT_RECLAIM: the caller can sleep and reclaim instead
  bool realtime = false;     // SCHED_FIFO or SCHED_RR
  bool last_resort = false;  // everything before the reserve has been tried
};

constexpr dig dig_of(uint32_t mask, bool realtime, bool last_resort) {
  return {(mask & 0x20) != 0, (mask & 0x20000) != 0, (mask & 0x80000) != 0, (mask & 0x8000) != 0, (mask & 0x400) != 0, realtime,
          last_resort};
}

/// "GFP_ATOMIC can use even the last free page"; everybody else stops at min, unless he has nothing else left and a right to more.
constexpr uint64_t floor_by_specification(const dig& d, uint64_t min) {
  if (d.nomemalloc) return min;
  if (d.memalloc) return 0;
  if (d.high && !d.may_reclaim) return 0;
  if (d.last_resort && (d.high || d.nofail)) return 0;
  return min;
}

/// What Linux 6.1 was seen to do: min, 1/2 of min, 3/8 of min, or nothing.
constexpr uint64_t floor_of_linux_6_1(const dig& d, uint64_t min) {
  if (d.memalloc && !d.nomemalloc) return 0;
  const bool may_dig = d.high || (d.realtime && d.may_reclaim) || (d.nofail && d.last_resort && !d.nomemalloc);
  if (!may_dig) return min;
  const uint64_t half = (min + 1) / 2;
  if (d.may_reclaim || d.nomemalloc) return half;
  return half - half / 4;
}

/// Does the lowmem reserve of a zone bind a request that fell back into it? Only memory for freeing memory is above it.
constexpr bool lowmem_reserve_binds(const dig& d) { return !d.memalloc || d.nomemalloc; }

}  // namespace kmem::testing
