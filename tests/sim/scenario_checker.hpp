// The checker of NULLs: looks at the whole machine while everything stands still, and says what an allocation that failed could have had.
//
// It is written from the rules (which flag permits which step, how deep each flag may dig into a zone, what counts as free), not from the
// allocator's code, and reads the structures themselves: bitmaps, CPU lists, arrays, barns, slabs.
//
// What counts as left over:
//   a page        free, or in a CPU list, or in the reserve if the flags may use it, or of a slab whose objects are all free or cached; or
//   not
//                 backed, while the budget has room for it - and the zone stays above the floor of the flags
//   a block       the same for 2^order aligned pages in one piece; if the flags may block, scattered free pages count as room in the budget
//   an object     in an array, a barn or a slab of its cache (kmalloc: of a larger class, too), or a slab's pages
// What somebody who was stopped in the middle holds in his hands, or has locked against those who may not wait, does not count.
#pragma once
#include <string>

#include "reclaim/reclaim.hpp"

namespace kmem::sim_test {

/// A request as its caller made it.
struct ask {
  enum class what : uint8_t { block, run, kmalloc_object, cache_object };
  what kind = what::block;
  gfp_t gfp = gfp::none;        // scopes applied
  uint64_t pages = 1;           // block, run
  size_t size = 0;              // kmalloc_object
  kmem_cache* cache = nullptr;  // cache_object
};

/// What a request that got NULL could have had. Empty: nothing. Context: nobody else runs (simulation::run_alone).
std::string left_over(machine& m, const ask& asked);
/// What somebody who sleeps for memory should be woken for. Neither what only giving scattered pages back would bring, nor objects of
/// larger classes: those are looked at again by the clock.
std::string left_for_sleeper(machine& m, const ask& asked);
/// The same for a request of one page from a handler that interrupted the allocator, which may take no lock: only the reserve counts.
std::string left_over_in_reserve(machine& m, const ask& asked);

/// The highest zone of a mask, by the table of the kernel's documentation.
unsigned highest_zone(gfp_t mask);
/// The zone whose span holds a page.
unsigned zone_number_of(const machine& m, const void* address);
std::string describe(const ask& asked);

}  // namespace kmem::sim_test
