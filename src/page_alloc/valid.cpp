// Looking at a zone as a whole: the snapshot for texts, and the walk that proves the structures consistent.
//
// What for. page_alloc_is_valid() compares four descriptions of the same pages: the bitmaps, the heads in the descriptors, the
//           lists, and the counters. Every page of an open block must be exactly one of: free, absent, part of what exactly one head
//           covers, in transit, unusable.
// Locks.    All CPU lists of a zone, then the zone. Pages that are handed out must not change meanwhile (their owners write their kinds),
//           so the walk is for moments when nobody allocates or frees. The snapshot may be taken at any time. Context: may sleep.
// Ordering. None of its own.
// Kernel.   The kernel has no such walk (only checks of single pages).
// Tests.    tests/unit/page_alloc/valid_test.cpp plants one mistake of each kind.
#include <bit>

#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr unsigned nr_snapshot_orders = 11;

/// Counts the maximal aligned runs of set bits.
void count_runs(const block_bitmap& bits, unsigned type, zone_snapshot& s) noexcept {
  block_bitmap left = bits;
  for (unsigned order = block_order + 1; order-- != 0;) {
    const unsigned size = 1u << order;
    for (unsigned first = 0; first < pages_per_block; first += size) {
      if (count_bits(left, first, size) != size) continue;
      for (unsigned w = first / 64; w <= (first + size - 1) / 64; ++w) left.words[w] &= ~word_mask(w, first, size);
      ++s.nr_free_runs[order][type];
    }
  }
}

/// The first n bits that are set.
block_bitmap first_bits(const block_bitmap& bits, uint64_t n) noexcept {
  block_bitmap result = {};
  for (unsigned w = 0; w < 8; ++w)
    for (uint64_t rest = bits.words[w]; rest != 0 && n != 0; rest &= rest - 1, --n) result.words[w] |= rest & (~rest + 1);
  return result;
}

void count_free_runs_locked(page_allocator& pa, zone& z, zone_snapshot& s) noexcept KMEM_REQUIRES(z.lock) {
  // Absent pages count as far as they may be backed.
  uint64_t headroom = zone_headroom(z);
  bool previous_whole = false;  // an even block that is wholly usable waits for its neighbour
  unsigned previous_type = 0;
  for (uint32_t i = z.first_block; i < z.first_block + z.opened_blocks; ++i) {
    const page_block& b = pa.blocks[i];
    block_bitmap usable = first_bits(b.absent, headroom);
    headroom -= count_bits(usable, 0, pages_per_block);
    for (unsigned w = 0; w < 8; ++w) usable.words[w] |= b.free.words[w];
    const bool whole = count_bits(usable, 0, pages_per_block) == pages_per_block;
    if (i % 2 != 0 && previous_whole && whole) {
      --s.nr_free_runs[block_order][previous_type];
      ++s.nr_free_runs[block_order + 1][previous_type];
    } else {
      count_runs(usable, b.type, s);
    }
    previous_whole = i % 2 == 0 && whole;
    previous_type = b.type;
  }
  // The rest is where blocks have not been opened yet.
  for (unsigned order = nr_snapshot_orders; order-- != 0;) {
    s.nr_free_runs[order][0] += headroom >> order;
    headroom &= (uint64_t{1} << order) - 1;
  }
  s.nr_free_runs[0][0] += z.reserve.nr_pages.load_relaxed();
}

void read_counters(const page_allocator& pa, const zone& z, zone_snapshot& s) noexcept {
  s.managed = z.managed.load_relaxed();
  s.spanned = uint64_t{z.nr_blocks} * pages_per_block;
  s.charged = zone_charged(pa, z);
  s.free = zone_free(z);
  s.present_free = z.present_free.load_relaxed();
  s.in_cpu_lists = zone_in_cpu_lists(pa, z);
  s.in_transit = z.in_transit.load_relaxed();
  s.reserve = z.reserve.nr_pages.load_relaxed();
  s.pool = z.idx == zone_idx::normal ? pa.memalloc_pool.nr_pages.load_relaxed() : 0;
  s.committed = z.committed.load_relaxed();
  s.min = z.watermarks[static_cast<unsigned>(watermark::min)];
  s.low = z.watermarks[static_cast<unsigned>(watermark::low)];
  s.high = z.watermarks[static_cast<unsigned>(watermark::high)];
}

/// What a walk over a zone's blocks adds up.
struct totals {
  uint64_t free = 0, absent = 0, covered = 0, in_cpu_lists = 0, in_stacks = 0, transit = 0, unusable = 0, listed = 0, should_be_listed = 0;
  uint64_t covered_ahead = 0;  // pages of the next blocks that a run which began before covers
};

bool is_head(page_kind kind) noexcept {
  return kind == page_kind::allocated || kind == page_kind::slab || kind == page_kind::cpu_list || kind == page_kind::reserve ||
         kind == page_kind::unusable || kind == page_kind::deferred;
}

uint64_t pages_covered(const page& p) noexcept {
  if (p.kind == page_kind::reserve || p.kind == page_kind::unusable) return 1;
  return p.kind == page_kind::allocated || p.kind == page_kind::deferred ? p.run.nr_pages : uint64_t{1} << p.order;
}

const char* check_head(const zone& z, const page& p, totals& sum) noexcept {
  const uint64_t n = pages_covered(p);
  if (n == 0) return "a head that covers no page";
  switch (p.kind) {
    case page_kind::cpu_list:
      sum.in_cpu_lists += n;
      break;
    case page_kind::reserve:
      sum.in_stacks += n;
      break;
    case page_kind::unusable:
      sum.unusable += n;
      return nullptr;
    default:
      sum.covered += n;
  }
  return p.zone == static_cast<uint8_t>(z.idx) ? nullptr : "a head that names another zone";
}

/// Every page of a block is exactly one thing.
const char* check_pages(page_allocator& pa, const zone& z, uint32_t block, totals& sum) noexcept {
  const page_block& b = pa.blocks[block];
  unsigned uncovered = 0;
  for (unsigned i = 0; i < pages_per_block; ++i) {
    const uint64_t bit = uint64_t{1} << (i % 64);
    const bool usable = ((b.free.words[i / 64] | b.absent.words[i / 64]) & bit) != 0;
    if (sum.covered_ahead != 0) {
      --sum.covered_ahead;
      if (usable) return "a free page inside something handed out";
      continue;
    }
    // Descriptors of a block that was never paid for, or given back, are all zero and need not be touched to know it.
    const page* const p = b.charged_metadata == metadata_pages_per_block ? &pa.page_of(pfn_t(block * pages_per_block + i)) : nullptr;
    const bool head = p != nullptr && is_head(p->kind);
    if (usable && head) return "a free page whose descriptor heads something";
    if (usable) continue;
    if (!head) {
      ++uncovered;
      continue;
    }
    if (const char* const wrong = check_head(z, *p, sum)) return wrong;
    sum.covered_ahead = pages_covered(*p) - 1;
  }
  return uncovered == b.nr_transit ? nullptr : "pages that are neither free nor part of anything";
}

const char* check_block(page_allocator& pa, const zone& z, uint32_t block, totals& sum) noexcept {
  const page_block& b = pa.blocks[block];
  if (b.opened == 0) return "a block below opened_blocks that is not open";
  for (unsigned w = 0; w < 8; ++w) {
    if ((b.free.words[w] & b.absent.words[w]) != 0) return "a page both backed and absent";
    if ((b.zero.words[w] & ~b.free.words[w]) != 0) return "a zero bit of a page that is not free";
  }
  if (count_bits(b.free, 0, pages_per_block) != b.nr_free) return "nr_free of a block";
  if (count_bits(b.absent, 0, pages_per_block) != b.nr_absent) return "nr_absent of a block";
  if (b.list != list_for(b)) return "a block on the wrong list";
  if (b.list != 0) ++sum.should_be_listed;
  if (b.type >= nr_migratetypes) return "a block of no type";
  for (unsigned order = 0; order <= block_order; ++order) {
    if (find_run(b.free, order) >= 0 && b.longest_present_order < order) return "longest_present_order of a block is too small";
    block_bitmap usable;
    for (unsigned w = 0; w < 8; ++w) usable.words[w] = b.free.words[w] | b.absent.words[w];
    if (find_run(usable, order) >= 0 && b.longest_order < order) return "longest_order of a block is too small";
  }
  sum.free += b.nr_free;
  sum.absent += b.nr_absent;
  sum.transit += b.nr_transit;
  return check_pages(pa, z, block, sum);
}

const char* check_lists(page_allocator& pa, const zone& z, totals& sum) noexcept KMEM_REQUIRES(z.lock) {
  for (unsigned list = 0; list < nr_block_lists; ++list) {
    uint32_t previous = 0;
    for (uint32_t next = z.lists[list]; next != 0; next = pa.blocks[next - 1].next) {
      const page_block& b = pa.blocks[next - 1];
      if (b.list != list + 1) return "a list with a block of another list";
      if (b.prev != previous) return "a block list whose links disagree";
      if (b.longest_order > z.list_usable_order[list] || b.longest_present_order > z.list_present_order[list])
        return "a list's longest order is too small";
      if (next - 1 - z.first_block >= z.nr_blocks) return "a block of another zone";
      if (++sum.listed > z.nr_blocks) return "a block list that has no end";
      previous = next;
    }
  }
  return sum.listed == sum.should_be_listed ? nullptr : "a block that no list leads to";
}

const char* check_cpu_list(page_allocator& pa, const zone& z, const cpu_pages& cpu, uint64_t& pages) noexcept KMEM_REQUIRES(cpu.lock) {
  uint64_t sum = 0;
  for (const auto& lists : cpu.lists)
    for (unsigned order = 0; order < nr_cpu_list_orders; ++order) {
      const cpu_pages::list& list = lists[order];
      uint32_t blocks = 0;
      pfn_t previous;
      for (pfn_t pfn = list.warm; !pfn.is_none(); pfn = pa.page_of(pfn).next) {
        const page& p = pa.page_of(pfn);
        if (p.kind != page_kind::cpu_list || p.order != order || p.zone != static_cast<uint8_t>(z.idx))
          return "a CPU list with a page that is not its";
        if (p.prev != previous) return "a CPU list whose links disagree";
        if (++blocks > list.nr_blocks) return "a CPU list with more blocks than it counts";
        previous = pfn;
      }
      if (previous != list.cold) return "a CPU list whose cold end is not its end";
      if (blocks != list.nr_blocks) return "nr_blocks of a CPU list";
      sum += uint64_t{blocks} << order;
    }
  pages += sum;
  return sum == cpu.nr_pages.load_relaxed() ? nullptr : "nr_pages of a CPU";
}

const char* check_counters(const page_allocator& pa, const zone& z, const totals& sum, uint64_t cpu_pages_listed) noexcept {
  uint64_t stacked = z.reserve.nr_pages.load_relaxed();
  if (z.idx == zone_idx::normal) stacked += pa.memalloc_pool.nr_pages.load_relaxed();
  if (sum.covered_ahead != 0) return "something handed out that reaches past its zone";
  if (sum.free != z.present_free.load_relaxed()) return "present_free";
  if (sum.in_cpu_lists != cpu_pages_listed) return "pages marked as in CPU lists that are in none";
  if (sum.in_stacks != stacked) return "pages marked as reserve that are in no reserve";
  if (sum.unusable != z.unusable) return "unusable pages";
  const uint64_t charged = zone_charged(pa, z), committed = z.committed.load_relaxed(), taken = z.taken.load_relaxed();
  if (sum.covered > charged) return "more pages handed out than charged";
  const uint64_t not_taken = sum.free + z.reserve.nr_pages.load_relaxed() + z.in_transit.load_relaxed() + current().claimed[raw(z.idx)];
  if (committed != taken + not_taken) return "committed";
  if (committed > z.managed.load_relaxed()) return "more committed than managed";
  return nullptr;
}

const char* check_zone_locked(page_allocator& pa, zone& z) noexcept KMEM_REQUIRES(z.lock) {
  totals sum;
  for (uint32_t i = 0; i < z.opened_blocks; ++i)
    if (const char* const wrong = check_block(pa, z, z.first_block + i, sum)) return wrong;
  if (const char* const wrong = check_lists(pa, z, sum)) return wrong;
  uint64_t listed = 0;
  for (unsigned cpu = 0; cpu < pa.nr_cpus; ++cpu) {
    cpu_pages& c = z.per_cpu[cpu];
    if (!c.lock.try_lock()) return "a CPU list is busy: the walk is for quiet moments";
    const char* const wrong = check_cpu_list(pa, z, c, listed);
    c.lock.unlock();
    if (wrong != nullptr) return wrong;
  }
  return check_counters(pa, z, sum, listed);
}

}  // namespace

void snapshot_zone(page_allocator& pa, zone_idx idx, zone_snapshot& result) noexcept {
  zone& z = pa.zones[raw(idx)];
  result = {};
  if (z.nr_blocks == 0) return;
  nest_guard guard;
  if (acquire(z.lock)) {
    read_counters(pa, z, result);
    count_free_runs_locked(pa, z, result);
    z.lock.unlock();
  } else {
    read_counters(pa, z, result);
  }
}

const char* page_alloc_is_valid(page_allocator& pa) noexcept {
  drain_deferred(pa);
  uint64_t managed = 0;
  for (zone& z : pa.zones) {
    if (z.nr_blocks == 0) continue;
    managed += z.managed.load_relaxed();
    const char* wrong = nullptr;
    {
      nest_guard guard;
      if (!acquire(z.lock)) return "a zone is busy: the walk is for quiet moments";
      wrong = check_zone_locked(pa, z);
      z.lock.unlock();
    }
    if (wrong != nullptr) return wrong;
  }
  return managed + pa.metadata_pages.load_relaxed() > pa.limit.raw() ? "managed pages and metadata exceed the limit" : nullptr;
}

uint64_t charged_pages(const page_allocator& pa) noexcept {
  uint64_t sum = 0;
  for (const zone& z : pa.zones)
    if (z.nr_blocks != 0) sum += zone_charged(pa, z);
  return sum;
}

uint64_t free_pages_total(const page_allocator& pa) noexcept {
  uint64_t sum = 0;
  for (const zone& z : pa.zones) sum += zone_free(z);
  return sum;
}

uint64_t nr_freed_pages(const page_allocator& pa) noexcept {
  uint64_t freed = pa.stats.pgfree.load_relaxed();
  for (const zone& z : pa.zones)
    for (unsigned cpu = 0; z.nr_blocks != 0 && cpu < pa.nr_cpus; ++cpu) freed += z.per_cpu[cpu].nr_freed.load_relaxed();
  return freed;
}

void page_alloc_read_totals(const page_allocator& pa, page_alloc_totals& totals) noexcept {
  const page_alloc_stats& s = pa.stats;
  uint64_t allocstall = 0;
  for (const atomic<uint64_t>& of_zone : s.allocstall) allocstall += of_zone.load_relaxed();
  totals = {s.pgalloc.load_relaxed(),          s.pgfree.load_relaxed(),
            s.pgalloc_fail.load_relaxed(),     allocstall,
            s.pages_given_back.load_relaxed(), s.blocks_given_back.load_relaxed(),
            s.blocks_opened.load_relaxed(),    0,
            s.cpu_list_drains.load_relaxed(),  s.reserve_used.load_relaxed(),
            s.pgreclaimed.load_relaxed(),      s.waits.load_relaxed(),
            s.deferred_frees.load_relaxed(),   s.bad_pages.load_relaxed()};
  for (const zone& z : pa.zones)
    for (unsigned cpu = 0; z.nr_blocks != 0 && cpu < pa.nr_cpus; ++cpu) {
      totals.cpu_list_hits += z.per_cpu[cpu].nr_hits.load_relaxed();
      totals.pgalloc += z.per_cpu[cpu].nr_allocated.load_relaxed();
      totals.pgfree += z.per_cpu[cpu].nr_freed.load_relaxed();
    }
}

}  // inline namespace
}  // namespace kmem
