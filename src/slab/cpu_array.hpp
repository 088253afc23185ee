// The per-CPU arrays of free object pointers: memory layout (final), and the commit under a try-lock.
//
// Layout. Region of a CPU: arrays_base + cpu * 64 KiB; CPU numbers -1 and -2 select two regions of zeroes below it. A region starts with
// the headers, 8 bytes a cache id; header 0 is never populated (class byte 0 = "not ours"). The arrays follow, each preceded by a null
// pointer; the last 8 bytes of a region are null. Offsets are in units of 8 bytes from the start of the region.
//     hot word:  cur (low 16) | room (high 16)       push adds and pop subtracts 0xffff0001: cur + 1 and room - 1 in one addition
//     cold word: begin (low 16) | cap (high 16)      objects are slot[begin .. cur);  cur - begin + room == cap
// So one load and one store commit an operation, and hot word 0 is empty (slot[-1] is null) and full (no room) at once: a region that was
// never populated sends every call to the slow path. Arrays are packed into the first 16 KiB and grow by moving further up when hot.
#pragma once
#include "page_alloc/page_alloc.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

inline constexpr size_t cpu_region_bytes = 64 * 1024;
inline constexpr uint32_t cpu_region_slots = cpu_region_bytes / sizeof(void*);
inline constexpr uint32_t nr_array_headers = 256;       // cache ids 1..254 have an array on each CPU; 255: caches without one
inline constexpr uint32_t array_step = 0xffff0001u;

struct array_header {
  atomic<uint32_t> hot;   // cur | room << 16
  uint32_t bounds;        // begin | cap << 16; written by whoever owns the region
};
static_assert(sizeof(array_header) == 8);

/// What surrounds a CPU's region: outside it, since the region's bytes are all spoken for.
struct alignas(arch::cache_line_bytes) cpu_slot {
  ranked_lock lock{lock_rank::cpu_arrays};
  uint32_t next_free_slot = 0;           // first slot of the region that no array uses
  atomic<uint32_t> populated{0};         // headers and first arrays are set up
  uint64_t refills[2] = {};              // slow paths of this CPU: refills, flushes
  uint8_t heat[nr_array_headers] = {};   // refills of a cache since its array grew last
};

}  // inline namespace
}  // namespace kmem
