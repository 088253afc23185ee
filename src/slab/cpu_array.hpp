// The per-CPU arrays of free object pointers: memory layout, and the two sequences that take and give one object.
//
// Layout. Region of a CPU: arrays_base + cpu * 64 KiB; CPU numbers -1 and -2 select two regions of zeroes below it, with a null in front.
// A region starts with the headers, 8 bytes a cache id; headers 0 and 255 are never populated (class byte 0 = "not ours", 255 = "see the
// descriptor"). The arrays follow, each preceded by a null pointer; the last 8 bytes of a region are null. Offsets are in units of 8 bytes
// from the start of the region.
//     hot word:  cur (low 16) | room (high 16)       push adds and pop subtracts 0xffff0001: cur + 1 and room - 1 in one addition
//     cold word: begin (low 16) | cap (high 16)      objects are slot[begin .. cur);  cur - begin + room == cap
// So one load and one store commit an operation, and hot word 0 is empty (slot[-1] is null) and full (no room) at once: a region that was
// never populated sends every call to the slow path. Arrays are packed into the first 16 KiB and grow by moving further up when hot.
//
// Commit. An allocation pops and a free pushes by a restartable sequence (arch/section.hpp) on the region that `regions` selects: the store
// of the hot word is its last instruction, so whoever is preempted, moved or interrupted before it starts again.
// Everything else - batches, growing, draining, walks - owns the array while it works:
//     the array of the CPU it runs on:  the slot's lock, and the array stopped: a sequence stores 0 into the hot word, which every other
//                                       sequence of that CPU finds empty and full; afterwards the new word is stored
//     any array:                        the slot's lock, while the arrays are held: `regions` points to a twin of zeroes, and a fence has
//                                       broken off every sequence that had read it before
// Who waits for memory holds the arrays, so that each free takes the slow path and tells him: a free for which nobody waits pays nothing.
// Without sequences (no rseq, ThreadSanitizer) the arrays are held for good, and the slot's lock, which is only tried, is all there is.
#pragma once
#include "page_alloc/page_alloc.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

inline constexpr size_t cpu_region_bytes = 64 * 1024;
inline constexpr uint32_t cpu_region_slots = cpu_region_bytes / sizeof(void*);
inline constexpr uint32_t nr_array_headers = 256;       // cache ids 1..254 have an array on each CPU; 255: caches without one
inline constexpr uint32_t nr_zero_regions = 2;          // below the region of CPU 0
inline constexpr uint32_t array_step = 0xffff0001u;
inline constexpr uint32_t array_first_objects = 8;      // capacity at the start: all arrays of 83 classes fit 8 KiB
inline constexpr uint32_t array_objects_max = 256;      // capacity of the hottest arrays, further bounded by array_bytes_max
inline constexpr size_t array_bytes_max = 16 * 1024;    // objects of one array are worth at most this, but two may always be held
inline constexpr uint8_t array_heat_to_grow = 8;        // slow paths since it grew last; arbitrary: a burst of 8 batches

struct array_header {
  atomic<uint32_t> hot;   // cur | room << 16
  uint32_t bounds;        // begin | cap << 16; written by whoever owns the region
};
static_assert(sizeof(array_header) == 8);
static_assert(cpu_region_bytes == size_t{1} << arch::section_region_shift);
inline constexpr uint32_t first_array_slot = nr_array_headers * sizeof(array_header) / sizeof(void*);

/// What surrounds a CPU's region: outside it, since the region's bytes are all spoken for.
struct alignas(arch::cache_line_bytes) cpu_slot {
  ranked_lock lock{lock_rank::cpu_arrays};
  uint32_t next_free_slot KMEM_GUARDED_BY(lock) = first_array_slot;  // first slot of the region that no array uses
  atomic<uint32_t> populated{0};         // pages of the region that are counted as metadata and may be touched
  atomic<uint32_t> wanted{1};            // pages that the arrays would need to grow
  uint64_t refills[2] KMEM_GUARDED_BY(lock) = {};              // slow paths of this CPU: refills, flushes
  uint8_t heat[nr_array_headers] KMEM_GUARDED_BY(lock) = {};   // slow paths of a cache since its array grew last
};

inline array_header* array_headers(char* region) noexcept { return reinterpret_cast<array_header*>(region); }
inline void** array_slots(char* region) noexcept { return reinterpret_cast<void**>(region); }

/// The newest object of array `id` of this CPU. Context: any. Return: nullptr when it is empty, stopped or held.
KMEM_ALWAYS_INLINE void* array_pop(const atomic<char*>& regions, uint32_t id) noexcept {
#if defined(KMEM_SIM)
  for (;;) {
    const plat::section_mark mark = plat::section_begin();
    char* const region = regions.load_relaxed() + ptrdiff_t{mark.cpu} * static_cast<ptrdiff_t>(cpu_region_bytes);
    atomic<uint32_t>& hot = array_headers(region)[id].hot;
    const uint32_t word = hot.load_acquire();  // pairs: owned_array
    void* const object = array_slots(region)[static_cast<int32_t>(word & 0xffff) - 1];
    if (!plat::section_intact(mark)) continue;
    if (object == nullptr) return nullptr;
    hot.poke(word - array_step);  // commit
    return object;
  }
#else
  return arch::section_pop(plat::section_area, regions.raw(), id);
#endif
}

/// Adds an object to array `id` of this CPU. Context: any. Return: false when it is full, stopped or held.
KMEM_ALWAYS_INLINE bool array_push(const atomic<char*>& regions, uint32_t id, void* object) noexcept {
#if defined(KMEM_SIM)
  for (;;) {
    const plat::section_mark mark = plat::section_begin();
    char* const region = regions.load_relaxed() + ptrdiff_t{mark.cpu} * static_cast<ptrdiff_t>(cpu_region_bytes);
    atomic<uint32_t>& hot = array_headers(region)[id].hot;
    const uint32_t word = hot.load_acquire();  // pairs: owned_array
    uint32_t next;
    if (!plat::section_intact(mark)) continue;
    if (!__builtin_add_overflow(word, array_step, &next)) return false;  // no carry out of room: it was 0
    array_slots(region)[word & 0xffff] = object;
    plat::yield_point();
    if (!plat::section_intact(mark)) continue;
    hot.poke(next);  // commit
    return true;
  }
#else
  return arch::section_push(plat::section_area, regions.raw(), id, object);
#endif
}

/// Stops array `id` in the region of `cpu`. Context: the slot's lock is held. Return: false when this thread runs on another CPU; else
/// `word` is what its hot word was.
KMEM_ALWAYS_INLINE bool array_stop(char* region, uint32_t cpu, uint32_t id, uint32_t& word) noexcept {
  atomic<uint32_t>& hot = array_headers(region)[id].hot;
#if defined(KMEM_SIM)
  for (;;) {
    const plat::section_mark mark = plat::section_begin();
    if (static_cast<uint32_t>(mark.cpu) != cpu) return false;
    const uint32_t was = hot.load_relaxed();
    if (!plat::section_intact(mark)) continue;
    hot.poke(0);  // commit
    word = was;
    return true;
  }
#else
  return arch::section_stop(plat::section_area, cpu, hot.raw(), word);
#endif
}

}  // inline namespace
}  // namespace kmem
