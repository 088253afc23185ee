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

  /// What descriptors say of a page that is not in the free areas, and the cache it belongs to (0: none).
  struct page_guess {
    page_use use = page_use::pages;
    uint32_t cache_id = 0;
  };

  KMEM_UNSANITIZED page_guess guess_use(const machine& m, pfn_t pfn) noexcept {
    const page* p = &m.pages[pfn.raw()];
    switch (p->kind) {
      case page_kind::slab_tail:
        p = p->head.raw() < m.span_pages ? &m.pages[p->head.raw()] : p;
        return {page_use::slab, p->kind == page_kind::slab ? p->slab.cache : uint32_t{0}};
      case page_kind::slab:
        return {page_use::slab, p->slab.cache};
      case page_kind::free:
      case page_kind::cpu_list:
      case page_kind::reserve:
        return {page_use::free, 0};
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
    for (unsigned i = 0; i < pages_per_block; ++i) {
      page_guess guess{page_use::absent, 0};
      if (bit(block.free, i)) {
        guess.use = page_use::free;
      } else if (!bit(block.absent, i)) {
        guess = guess_use(m, first + nr_pages_t(i));
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

  bool read_block_use(machine & m, uint32_t from, block_use & result) noexcept {
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
