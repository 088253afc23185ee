#include "sim/scenario_checker.hpp"

#include <algorithm>
#include <bit>
#include <map>
#include <set>
#include <sstream>
#include <vector>

#include "slab/internal.hpp"
// After slab/internal.hpp: both layers have one.
#include "page_alloc/internal.hpp"

namespace kmem::sim_test {
namespace {

enum class frame : uint8_t { taken, present, absent, reserve };

/// A zone as it would be if everything that can be drained had been drained.
struct zone_picture {
  uint64_t managed = 0, taken = 0, committed = 0, present = 0;
  uint64_t from_lists = 0, from_deferred = 0, from_slabs = 0;  // what draining brings
  bool fixed = false;
  uint32_t opened = 0, blocks = 0, first_block = 0;
  std::vector<frame> frames;   // of the opened blocks
  std::vector<uint32_t> cost;  // metadata pages that using a block costs
  uint64_t min = 0, lowmem[nr_zones] = {};
};

/// Where the free objects of all caches are.
struct object_census {
  std::map<uint32_t, uint64_t> in_hand;        // slab head -> objects of it in arrays, barns and deferred lists
  std::map<const kmem_cache*, uint64_t> free;  // objects that a cache could hand out
};

class picture {
 public:
  picture(machine& m, bool for_sleeper) : m_(m), for_sleeper_(for_sleeper) {
    for (unsigned i = 0; i < nr_zones; ++i) draw_zone(i);
    count_objects();
    for (unsigned i = 0; i < nr_zones; ++i) draw_lists(i);
    draw_empty_slabs();
  }

  const zone_picture& zone_at(unsigned i) const { return zones_[i]; }
  bool for_sleeper() const { return for_sleeper_; }
  uint64_t free_objects(const kmem_cache& cache) const {
    const auto found = objects_.free.find(&cache);
    return found == objects_.free.end() ? 0 : found->second;
  }

  /// Pages in one piece that a request could have. Return: where, or an empty text.
  std::string pages_for_request(gfp_t mask, uint64_t n, bool aligned) const {
    for (unsigned i = highest_zone(mask) + 1; i-- != 0;)
      if (std::string found = in_zone(i, mask, n, aligned); !found.empty()) return found;
    if (n == 1 && has(mask, gfp::memalloc) && !has(mask, gfp::nomemalloc) && highest_zone(mask) >= 2 &&
        m_.memalloc_pool.nr_pages.peek() != 0)
      return "a page in the reclaimers' pool";
    return {};
  }

 private:
  void draw_zone(unsigned number) {
    const zone& z = m_.zones[number];
    zone_picture& p = zones_[number];
    p.managed = z.managed.peek();
    p.taken = z.taken.peek();
    p.committed = z.committed.peek();
    p.fixed = z.fixed_pfns;
    p.first_block = z.first_block;
    p.blocks = z.nr_blocks;
    read_opened(z, p);
    p.min = z.watermarks[0];
    for (unsigned i = 0; i < nr_zones; ++i) p.lowmem[i] = z.lowmem_reserve[i];
    p.frames.assign(size_t{p.opened} * pages_per_block, frame::taken);
    for (uint32_t block = 0; block < p.opened; ++block) {
      const page_block& b = m_.blocks[p.first_block + block];
      p.cost.push_back(metadata_pages_per_block - b.charged_metadata);
      for (unsigned i = 0; i < pages_per_block; ++i) {
        const uint64_t bit = uint64_t{1} << (i % 64);
        if ((b.free.words[i / 64] & bit) != 0) set(p, block * pages_per_block + i, frame::present);
        if ((b.absent.words[i / 64] & bit) != 0) set(p, block * pages_per_block + i, frame::absent);
      }
    }
  }
  static void read_opened(const zone& z, zone_picture& p) KMEM_NO_ANALYSIS { p.opened = z.opened_blocks; }

  static void set(zone_picture& p, size_t index, frame what) {
    if (p.frames[index] == frame::present) --p.present;
    if (what == frame::present) ++p.present;
    p.frames[index] = what;
  }

  /// Pages that come free: 2^order or a run, from `pfn` on.
  void release(unsigned number, uint32_t pfn, uint64_t n, uint64_t zone_picture::*source) {
    zone_picture& p = zones_[number];
    for (uint64_t i = 0; i < n; ++i) set(p, pfn - p.first_block * pages_per_block + i, frame::present);
    p.taken -= n;
    p.*source += n;
  }

  void draw_lists(unsigned number) KMEM_NO_ANALYSIS {
    zone& z = m_.zones[number];
    if (z.nr_blocks == 0) return;
    for (uint32_t cpu = 0; cpu < m_.nr_cpus; ++cpu) {
      const cpu_pages& lists = z.per_cpu[cpu];
      if (lists.lock.is_locked()) continue;
      for (const auto& by_order : lists.lists)
        for (unsigned order = 0; order < nr_cpu_list_orders; ++order)
          for (pfn_t pfn = by_order[order].warm; !pfn.is_none(); pfn = m_.page_of(pfn).next)
            release(number, pfn.raw(), uint64_t{1} << order, &zone_picture::from_lists);
    }
    for_each_on(z.reserve, [&](page& p) { set(zones_[number], m_.pfn_of(&p).raw() - z.first_block * pages_per_block, frame::reserve); });
    for_each_on(m_.deferred, [&](page& p) {
      if (p.zone == number) release(number, m_.pfn_of(&p).raw(), pages_of_head(p), &zone_picture::from_deferred);
    });
    zones_[number].taken -= z.deferred_uncharge.peek();
    zones_[number].committed -= z.deferred_uncharge.peek();
  }

  template <class Visit>
  void for_each_on(const page_stack& stack, Visit visit) {
    for (auto pfn = static_cast<uint32_t>(stack.head.peek()); pfn != 0;) {
      page& p = m_.page_of(pfn_t(pfn));
      pfn = p.refcount.peek();
      visit(p);
    }
  }

  void note_object(const kmem_cache& cache, const void* object) {
    ++objects_.in_hand[slab_head(m_, cache, object).raw()];
    ++objects_.free[&cache];
  }

  void count_array(const kmem_cache& cache, uint32_t cpu) {
    if (m_.cpu_slots[cpu].lock.is_locked() || m_.cpu_slots[cpu].populated.peek() == 0) return;
    char* const region = cpu_region(m_, cpu);
    const array_header& header = array_headers(region)[cache.class_byte];
    const uint32_t hot = header.hot.peek();
    if (hot == 0) return;
    for (uint32_t i = header.bounds & 0xffff; i < (hot & 0xffff); ++i) note_object(cache, array_slots(region)[i]);
  }

  void count_barn(const kmem_cache& cache) KMEM_NO_ANALYSIS {
    if (!cache.uses_barn || cache.barn_lock.is_locked()) return;
    for (const sheaf* list : {cache.barn, cache.spare_sheaves})
      for (const sheaf* one = list; one != nullptr; one = one->next) {
        for (uint32_t i = 0; i < one->nr_objects; ++i) note_object(cache, one->objects[i]);
        note_object(m_.sheaf_cache, one);
      }
  }

  void count_objects() {
    for (const auto& slot : m_.caches) {
      const kmem_cache* const cache = slot.peek();
      if (cache == nullptr) continue;
      for (uint32_t cpu = 0; cpu < m_.nr_cpus && cache->class_byte != nr_array_headers - 1; ++cpu) count_array(*cache, cpu);
      count_barn(*cache);
      for (auto object = reinterpret_cast<char*>(cache->deferred.peek()); object != nullptr;) {
        char* const next = reinterpret_cast<char*>(deferred_link(*cache, object));
        note_object(*cache, object);
        object = next;
      }
      for (pfn_t pfn(static_cast<uint32_t>(cache->unlisted.peek())); !pfn.is_none(); pfn = m_.page_of(pfn).next)
        unlisted_.insert(pfn.raw());
    }
    for_each_slab([&](unsigned, page& head, const kmem_cache& cache) {
      if (!cache.lock.is_locked()) objects_.free[&cache] += head.slab.nr_free;
    });
  }

  /// All slabs but those in somebody's hands.
  template <class Visit>
  void for_each_slab(Visit visit) {
    for (unsigned i = 0; i < nr_zones; ++i)
      for (uint32_t block = 0; block < zones_[i].opened; ++block) {
        if (zones_[i].cost[block] != 0) continue;
        for (unsigned k = 0; k < pages_per_block; ++k) {
          const pfn_t pfn((zones_[i].first_block + block) * pages_per_block + k);
          page& head = m_.page_of(pfn);
          if (m_.class_map[pfn.raw()] == 0 || head.kind != page_kind::slab) continue;
          const kmem_cache* const cache = m_.caches[head.slab.cache].peek();
          if (cache == nullptr) continue;
          if (head.slab.bucket == 0 && head.slab.nr_free == head.slab.capacity && unlisted_.count(pfn.raw()) == 0) continue;
          visit(i, head, *cache);
        }
      }
  }

  /// Slabs that draining would empty; their bitmaps are objects themselves and may empty others.
  void draw_empty_slabs() {
    std::set<uint32_t> gone;
    for (int round = 0; round < 2; ++round)
      for_each_slab([&](unsigned number, page& head, const kmem_cache& cache) {
        const uint32_t pfn = m_.pfn_of(&head).raw();
        const auto found = objects_.in_hand.find(pfn);
        const uint64_t in_hand = found == objects_.in_hand.end() ? 0 : found->second;
        if (cache.lock.is_locked() || head.slab.nr_free + in_hand != head.slab.capacity || !gone.insert(pfn).second) return;
        release(number, pfn, uint64_t{1} << head.order, &zone_picture::from_slabs);
        if (head.word != 0) ++objects_.in_hand[slab_head(m_, m_.bitmap_cache, reinterpret_cast<void*>(head.word)).raw()];
      });
  }

  uint64_t floor_of(unsigned number, gfp_t mask) const {
    const zone_picture& p = zones_[number];
    const bool no_reserves = has(mask, gfp::nomemalloc), blocks = has(mask, gfp::direct_reclaim);
    if (has(mask, gfp::memalloc) && !no_reserves) return 0;
    uint64_t floor = p.min;
    if (m_.config.policy == reserve_policy::spec) {
      if (has(mask, gfp::high) && !no_reserves) floor = 0;
    } else if (has(mask, gfp::high)) {
      floor -= floor / 2;
      if (!blocks && !no_reserves) floor -= floor / 4;
    }
    return floor + p.lowmem[highest_zone(mask)];
  }

  /// Could the budget pay for so many pages of metadata?
  bool can_pay(uint64_t cost, bool blocks) const {
    const uint64_t wanted = m_.metadata_pages.peek() + cost;
    if (cost == 0 || wanted <= m_.metadata_allowance) return true;
    const zone_picture& normal = zones_[2];
    const uint64_t room_made = blocks ? normal.present : 0;
    return normal.committed - room_made + (wanted - m_.metadata_allowance) <= m_.zones[2].managed_most;
  }
  uint64_t managed_after(unsigned number, uint64_t cost) const {
    const uint64_t wanted = m_.metadata_pages.peek() + cost;
    if (number != 2 || cost == 0 || wanted <= m_.metadata_allowance) return zones_[number].managed;
    const uint64_t over = wanted - m_.metadata_allowance;
    return m_.zones[2].managed_most > over ? m_.zones[2].managed_most - over : 0;
  }

  struct candidate {
    uint64_t absent = 0, present = 0, cost = 0;
  };

  bool affordable(unsigned number, gfp_t mask, uint64_t n, const candidate& c) const {
    const zone_picture& p = zones_[number];
    const bool blocks = has(mask, gfp::direct_reclaim) && !has(mask, gfp::memalloc);
    const uint64_t managed = managed_after(number, c.cost);
    if (!can_pay(c.cost, blocks) || managed < p.taken || managed - p.taken < n + floor_of(number, mask)) return false;
    uint64_t room = managed > p.committed ? managed - p.committed : 0;
    if (blocks && !for_sleeper_ && !p.fixed && n > 1) room += p.present - c.present;
    return c.absent <= room;
  }

  /// Looks at the pages [first, first + slot) of the zone: all usable? Absent and present ones are counted among the first n.
  bool usable(unsigned number, gfp_t mask, size_t first, uint64_t slot, uint64_t n, candidate& c) const {
    const zone_picture& p = zones_[number];
    const bool reserve_too = has(mask, gfp::high | gfp::memalloc) && !has(mask, gfp::nomemalloc);
    for (size_t i = 0; i < slot; ++i) {
      const size_t at = first + i;
      const bool open = at < p.frames.size();
      const frame what = open ? p.frames[at] : frame::absent;
      if (what == frame::taken || (what == frame::reserve && !reserve_too)) return false;
      if (i >= n) continue;
      if (what == frame::absent) ++c.absent;
      if (what == frame::present) ++c.present;
      if (at % pages_per_block == 0 || i == 0) c.cost += open ? p.cost[at / pages_per_block] : metadata_pages_per_block;
    }
    return true;
  }

  std::string in_zone(unsigned number, gfp_t mask, uint64_t n, bool aligned) const {
    const zone_picture& p = zones_[number];
    if (p.blocks == 0) return {};
    const bool long_run = n > pages_per_block;
    const uint64_t slot = long_run ? (n + pages_per_block - 1) / pages_per_block * pages_per_block : std::bit_ceil(n);
    const uint64_t step = long_run ? (aligned ? slot : pages_per_block) : slot;
    const size_t zone_start = size_t{p.first_block} * pages_per_block, end = size_t{p.blocks} * pages_per_block;
    for (size_t pfn = (zone_start + step - 1) / step * step; pfn - zone_start + slot <= end; pfn += step) {
      const size_t first = pfn - zone_start;
      candidate c;
      if (!usable(number, mask, first, slot, n, c)) continue;
      const size_t last_block = (first + slot - 1) / pages_per_block;
      if (last_block >= p.opened) c.cost += section_metadata_pages(static_cast<uint32_t>(last_block + 1 - p.opened));
      if (!affordable(number, mask, n, c)) {
        if (first >= p.frames.size()) break;  // all further ones are like it
        continue;
      }
      std::ostringstream text;
      text << n << " pages at pfn " << pfn << " of zone " << number << " (" << c.present << " present, " << c.absent << " absent, metadata "
           << c.cost << "); managed " << p.managed << ", taken once drained " << p.taken << " (lists " << p.from_lists << ", deferred "
           << p.from_deferred << ", slabs " << p.from_slabs << "), committed " << p.committed << ", present " << p.present << ", floor "
           << floor_of(number, mask);
      return text.str();
    }
    return {};
  }

  machine& m_;
  const bool for_sleeper_;
  zone_picture zones_[nr_zones];
  object_census objects_;
  std::set<uint32_t> unlisted_;
};

/// The flags that reach the page allocator when a slab is made.
gfp_t slab_mask(gfp_t mask, gfp_t of_cache) {
  return (mask & ~(gfp::zero | gfp::movable | gfp::highmem_bit | gfp::dma | gfp::dma32 | gfp::comp)) | of_cache;
}

std::string object_left(machine& m, const picture& now, const ask& asked) {
  if (asked.kind == ask::what::cache_object) {
    if (const uint64_t n = now.free_objects(*asked.cache)) return std::to_string(n) + " free objects of the cache";
    return now.pages_for_request(slab_mask(asked.gfp, asked.cache->slab_gfp), uint64_t{1} << asked.cache->slab_order, true);
  }
  const bool dma = has(asked.gfp, gfp::dma), reclaimable = !dma && has(asked.gfp, gfp::reclaimable);
  if (asked.size > size_class_max)
    return now.pages_for_request(slab_mask(asked.gfp, dma ? gfp::dma : gfp::none), pages_for(asked.size).raw(), false);
  const unsigned first = size_class_of(asked.size);
  for (unsigned number = first; number <= nr_size_classes; ++number) {
    // A power of two is naturally aligned, in whatever class it lies.
    if (is_power_of_two(asked.size) && size_of_class(number) % asked.size != 0) continue;
    const kmem_cache* cache = &m.kmalloc_caches[number - 1];
    if (dma || reclaimable) cache = m.other_caches[dma ? 1 : 0][number - 1].peek();
    const uint64_t n = cache != nullptr ? now.free_objects(*cache) : 0;
    if (n != 0) return std::to_string(n) + " free objects of " + cache->name;
    if (now.for_sleeper()) break;
  }
  const gfp_t mask = slab_mask(asked.gfp, dma ? gfp::dma : gfp::none);
  const unsigned slab_order = size_classes[first - 1].slab_order, own_order = order_for(asked.size).raw();
  return now.pages_for_request(mask, uint64_t{1} << std::min(slab_order, own_order), true);
}

}  // namespace

unsigned highest_zone(gfp_t mask) {
  if (has(mask, gfp::dma)) return 0;
  if (has(mask, gfp::dma32)) return 1;
  if (has(mask, gfp::highmem_bit)) return has(mask, gfp::movable) ? 4 : 3;
  return 2;
}

unsigned zone_number_of(const machine& m, const void* address) {
  const uint32_t block = m.pfn_of(address).raw() / pages_per_block;
  for (unsigned i = 0; i < nr_zones; ++i)
    if (block - m.zones[i].first_block < m.zones[i].nr_blocks) return i;
  return nr_zones;
}

namespace {

std::string left_in(machine& m, const picture& now, const ask& asked) {
  if (asked.kind == ask::what::block) return now.pages_for_request(asked.gfp, asked.pages, true);
  if (asked.kind == ask::what::run) return now.pages_for_request(asked.gfp, asked.pages, std::has_single_bit(asked.pages));
  return object_left(m, now, asked);
}

}  // namespace

std::string left_over(machine& m, const ask& asked) { return left_in(m, picture(m, false), asked); }
std::string left_for_sleeper(machine& m, const ask& asked) { return left_in(m, picture(m, true), asked); }

std::string left_over_in_reserve(machine& m, const ask& asked) {
  const bool may = has(asked.gfp, gfp::high) && !has(asked.gfp, gfp::nomemalloc) && m.config.policy == reserve_policy::spec;
  if (asked.kind != ask::what::block || asked.pages != 1 || !may) return {};
  for (unsigned i = highest_zone(asked.gfp) + 1; i-- != 0;) {
    const zone& z = m.zones[i];
    const uint64_t managed = z.managed.peek(), taken = z.taken.peek();
    const bool above = managed > taken && managed - taken > z.lowmem_reserve[highest_zone(asked.gfp)];
    if (above && z.reserve.nr_pages.peek() != 0 && static_cast<uint32_t>(z.reserve.head.peek()) != 0)
      return std::to_string(z.reserve.nr_pages.peek()) + " pages in the reserve of zone " + std::to_string(i);
  }
  return {};
}

std::string describe(const ask& asked) {
  char flags[200];
  format_gfp(asked.gfp, flags, sizeof flags);
  std::ostringstream text;
  switch (asked.kind) {
    case ask::what::block:
      text << "alloc_pages of " << asked.pages << " pages";
      break;
    case ask::what::run:
      text << "alloc_run of " << asked.pages << " pages";
      break;
    case ask::what::kmalloc_object:
      text << "kmalloc(" << asked.size << ")";
      break;
    case ask::what::cache_object:
      text << "kmem_cache_alloc from " << asked.cache->name << " (" << asked.cache->size << ")";
      break;
  }
  text << ", " << flags;
  return text.str();
}

}  // namespace kmem::sim_test
