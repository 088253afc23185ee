#pragma once

// What the pages of a trace are for. An mm_page_alloc is not always a request of its own: the kernel's slab allocator
// takes pages to carve objects from, and a large kmalloc is served by pages. Replaying those would count them twice.
//
// Two rules decide:
// - By address. Kernels map all memory at one place, so the address of an object tells its page frame once the start
//   of that mapping is known. It is found by vote: wherever an allocation follows a page allocation that fits it (below),
//   the difference of the two is a candidate, and nearly all candidates agree. Then a page is a slab page when an
//   object was seen on it while it was allocated, whatever lay between the two events.
// - By order, when addresses are hashed or too few agree, and for page allocations that failed and so have no frame:
//   a page allocation fits the object allocation that follows it on the same CPU, in the same task and the same kind of
//   context, within a few events of that context, when its flags are those that the slab allocator makes of the object's
//   flags: __GFP_NOWARN|__GFP_NORETRY added, __GFP_NOFAIL, __GFP_ZERO and __GFP_ACCOUNT removed, __GFP_COMP exactly for
//   orders above 0, and for a first try at a high order __GFP_NOMEMALLOC instead of the reclaim bits. It fits a large
//   kmalloc when size and flags agree.
//
// What this cannot see: slab pages of objects that are allocated and freed in bulk only, since those emit no event
// (they are taken for direct requests); pages of a slab whose objects come from a lost part of the trace. Without
// addresses, slab pages whose object is allocated much later or from another context also count as direct. Pages of
// 4 KiB are assumed.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "ftrace.hpp"

namespace kmem::tool::trace {

inline constexpr std::uint64_t page_shift = 12;
inline constexpr std::uint64_t page_size = std::uint64_t{1} << page_shift;
// Above this, kmalloc takes pages (SLUB's limit: two pages).
inline constexpr std::uint64_t kmalloc_max_cache_bytes = 2 * page_size;

enum class page_use : std::uint8_t {
  direct,         // a request of its own
  slab,           // carved into objects
  kmalloc_large,  // handed out whole by kmalloc
};

struct page_classes {
  // By index of the event; meaningful for page_alloc events.
  std::vector<page_use> use;
  // Where the kernel mapped frame 0, if the trace tells.
  std::optional<std::uint64_t> direct_map;
  // How the vote went: candidates in all, and for the winner.
  std::uint64_t votes = 0;
  std::uint64_t votes_for = 0;
};

struct classify_options {
  bool by_address = true;  // false: go by order alone, as for hashed pointers
};

page_classes classify_pages(std::span<const event> events, const classify_options& options = {});

// Could the slab allocator have asked for these pages to make room for this object?
bool fits_slab(const event& pages, const event& object);

// Are these the pages of this large kmalloc?
bool fits_kmalloc_large(const event& pages, const event& object);

}  // namespace kmem::tool::trace
