// The page descriptor and the page-block descriptor: flat arrays parallel to the arena, where zero means "absent".
#pragma once
#include "base/base.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

/// What a page frame is at the moment. Changed only by the layer that owns the page in that state.
enum class page_kind : uint8_t {
  absent,     // not backed; reads as zero when touched; may be handed out
  free,       // backed, in its zone's free areas
  cpu_list,   // backed, in a CPU's page list
  reserve,    // backed and pre-faulted, in the zone's reserve or the reclaimers' pool
  transit,    // on its way back to the system: nobody's until it is absent
  allocated,  // head of an allocated block or run (`order`, `nr_pages`)
  tail,       // inside an allocated block; `head` says of which
  slab,       // head of a slab
  slab_tail,  // inside a slab
  unusable,   // never handed out (page 0, holes)
  deferred,   // head of what was freed where no lock could be had; else as `allocated`, but its refcount links the deferred list
};

/// 64 bytes a page: 32 of state and 32 that are the free-object bitmap when the page heads a slab.
struct alignas(arch::cache_line_bytes) page {
  atomic<uint32_t> refcount;  // users of an allocated block; head pages only
  page_kind kind;             // zone lock while free; its owner otherwise
  uint8_t order;              // of the block this page heads
  uint8_t zone;               // zone_idx; of heads and compound tails
  uint8_t flags;              // page_flag_*
  pfn_t next, prev;           // links of whatever list the page is on; none: 0
  union {
    struct {                  // kind == slab; under the cache's lock
      uint16_t nr_free;       // set bits of the bitmap
      uint16_t capacity;      // objects of the slab
      uint16_t cache;         // kmem_cache id
      uint8_t hint;           // no bitmap word below this one is non-zero
      uint8_t bucket;         // occupancy list the slab is on, plus one; 0: none
    } slab;
    struct {                  // kind == allocated, deferred (head)
      uint32_t nr_pages;      // of the block or run
    } run;
    pfn_t head;               // kind == tail, slab_tail
  };
  uint64_t word;              // owner's: private value of an allocated page, extended class of a slab
  union {
    uint64_t free_objects[4]; // kind == slab: bit set = object free
    uint64_t private_words[4];// kind == allocated: the user's
  };
};
static_assert(sizeof(page) == 64);

inline constexpr uint8_t page_flag_zero = 1;      // known to be all zero
inline constexpr uint8_t page_flag_compound = 2;  // head of a compound page
inline constexpr uint8_t page_flag_movable = 4;   // allocated as movable
inline constexpr uint8_t page_flag_owner = 128;   // free for the owner's use

inline constexpr unsigned pages_per_block = 512;  // a page block is 2 MiB: one page table, one huge page
inline constexpr size_t block_bytes = pages_per_block * page_size;

/// One bit a page of a page block.
struct block_bitmap {
  uint64_t words[pages_per_block / 64];
};

/// A page block. All fields under its zone's lock.
struct alignas(arch::cache_line_bytes) page_block {
  block_bitmap free;      // backed and free
  block_bitmap absent;    // not backed and free to be handed out (in a block that was never opened: no bit set)
  block_bitmap zero;      // subset of `free`: known to be all zero
  uint16_t nr_free;       // bits of free
  uint16_t nr_absent;     // bits of absent
  uint16_t nr_transit;    // pages being given back
  uint8_t type;           // migratetype
  uint8_t list;           // which list of the zone the block is on, plus one; 0: none
  uint32_t next, prev;    // block numbers plus one; 0: none
  uint8_t opened;         // readable and writable, descriptors valid
  uint8_t charged_metadata;  // its descriptors and page table are counted in the budget
  uint8_t longest_order;  // no aligned run of a larger order is usable in it (an upper bound)
  uint8_t longest_present_order;  // the same of backed pages
  uint8_t room;           // kept for the run before it, or in it, to grow into
  uint8_t unused_[35];
};
static_assert(sizeof(page_block) == 256);

}  // inline namespace
}  // namespace kmem
