// What each page block is used for, for pictures of the memory.
//
// Locks.    The zone's lock for the bitmaps; whoever owns a used page may change its descriptor meanwhile, so what such a page is used
//           for is a guess of that moment. A wrong guess colours a pixel.
// Contexts. May wait for the zone's lock; called outside of slow paths.
// Tests.    tests/unit/debug/blocks_test.cpp
#include "debug/debug.hpp"

#define KMEM_UNSANITIZED __attribute__((no_sanitize_address, no_sanitize_thread, noinline))

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

bool bit(const block_bitmap& bits, unsigned i) noexcept { return (bits.words[i / 64] >> (i % 64) & 1) != 0; }

/// What the descriptor of a page that is not in the free areas says of it and the pages behind it.
struct page_guess {
  page_use use = page_use::pages;
  uint32_t cache_id = 0;  // 0: none
  uint64_t nr_pages = 1;  // descriptors of the others may be out of date
};

KMEM_UNSANITIZED page_guess guess_use(const machine& m, pfn_t pfn) noexcept {
  const page* p = &m.pages[pfn.raw()];
  uint64_t nr_pages = uint64_t{1} << (p->order < 32 ? p->order : 0);
  if (p->kind == page_kind::slab_tail && p->head.raw() < m.span_pages) {  // a slab that began in the block before
    p = &m.pages[p->head.raw()];
    nr_pages = 1;
  }
  switch (p->kind) {
    case page_kind::slab:
      return {page_use::slab, p->slab.cache, nr_pages};
    case page_kind::cpu_list:
      return {page_use::free, 0, nr_pages};
    case page_kind::reserve:
      return {page_use::free, 0, 1};
    case page_kind::deferred:
      return {page_use::free, 0, p->run.nr_pages != 0 ? p->run.nr_pages : 1};
    case page_kind::allocated:
      return {page_use::pages, 0, p->run.nr_pages != 0 ? p->run.nr_pages : 1};
    default:
      return {};
  }
}

/// The id that occurs most, by counting what is left over (exact when one has more than half, close enough to name a picture otherwise).
class majority {
 public:
  void add(uint32_t id) noexcept {
    if (count_ == 0) id_ = id;
    count_ += id_ == id ? 1u : ~0u;
  }
  uint32_t id() const noexcept { return id_; }

 private:
  uint32_t id_ = 0, count_ = 0;
};

void name_cache(machine& m, uint32_t id, char (&name)[32]) noexcept {
  if (id == 0 || id >= max_caches) return;
  const lock_guard lock(m.cache_list_lock);
  const kmem_cache* const cache = m.caches[id].load_relaxed();
  if (cache != nullptr) text_writer(name, sizeof name).str(cache->name);
}

void read_pages(const machine& m, uint32_t number, const page_block& block, block_use& result, majority& caches) noexcept {
  const pfn_t first(number * pages_per_block);
  page_guess guess;
  uint64_t left = 0;  // pages that the last guess still speaks of
  for (unsigned i = 0; i < pages_per_block; ++i) {
    const bool present = bit(block.free, i), absent = bit(block.absent, i);
    if (present || absent) {
      left = 0;
      guess = {present ? page_use::free : page_use::absent, 0, 1};
    } else if (left != 0) {
      --left;
    } else {
      guess = guess_use(m, first + nr_pages_t(i));
      left = guess.nr_pages - 1;
    }
    result.pages[i] = guess.use;
    if (guess.use == page_use::absent) ++result.absent;
    if (guess.use == page_use::free) ++result.free_present;
    if (guess.use == page_use::pages || guess.use == page_use::slab) ++result.used;
    if (guess.use == page_use::slab) {
      ++result.slab;
      caches.add(guess.cache_id);
    }
  }
  result.transit = block.nr_transit < result.used ? block.nr_transit : result.used;
  result.used = static_cast<uint16_t>(result.used - result.transit);
}

}  // namespace

bool read_block_use(machine& m, uint32_t from, block_use& result) noexcept {
  for (uint32_t number = from; number < m.nr_blocks(); ++number) {
    for (zone& z : m.zones) {
      if (number - z.first_block >= z.nr_blocks) continue;
      majority caches;
      {
        const lock_guard lock(z.lock);
        if (number - z.first_block >= z.opened_blocks) break;
        const page_block& block = m.blocks[number];
        result = {};
        result.number = number;
        result.zone = z.idx;
        result.type = static_cast<migratetype>(block.type);
        read_pages(m, number, block, result, caches);
      }
      name_cache(m, caches.id(), result.cache);
      return true;
    }
  }
  return false;
}

}  // inline namespace
}  // namespace kmem
