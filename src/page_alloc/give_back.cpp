// Giving free pages back to the system.
//
// States.   free -> in transit (in no bitmap; counted in nr_transit and in_transit; still committed) -> absent, or free again when the
//           system kept them. Wholly free blocks go in one piece, absent pages included, so that nobody takes those while the range is
//           dropped; their descriptors follow (8 pages of metadata) in zones without fixed pfns. Single pages go in runs of a block.
// Locks.    The zone's lock before and after; none, and no nest_guard, during system calls. Context: may do system calls.
// Ordering. The zone's lock.
// Kernel.   None: a kernel has no one to give memory back to, but balloon drivers, which this resembles.
// Tests.    tests/unit/page_alloc/give_back_test.cpp
#include <bit>

#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr unsigned batch_entries = 16;

/// Pages of one block on their way.
struct leaving {
  uint32_t block;
  uint16_t nr_backed;
  uint16_t nr_pages;
  bool whole;
  bool given;
  block_bitmap bits;    // all of them
  block_bitmap backed;  // those that were free
};

}  // namespace

struct leaving_batch {
  leaving entries[batch_entries];
  unsigned n = 0;
  uint64_t backed = 0;
  const task_context* owner = nullptr;  // the thread that completes it
  leaving_batch* next = nullptr;        // of the zone's list
};

namespace {

void start_locked(page_allocator& pa, zone& z, leaving_batch& out, leaving& entry) noexcept KMEM_REQUIRES(z.lock) {
  page_block& b = pa.blocks[entry.block];
  unlist_locked(pa, z, entry.block);
  entry.nr_backed = entry.nr_pages = 0;
  entry.given = false;
  for (unsigned w = 0; w < 8; ++w) {
    const uint64_t bits = entry.bits.words[w], backed = bits & b.free.words[w];
    entry.nr_backed = static_cast<uint16_t>(entry.nr_backed + std::popcount(backed));
    entry.nr_pages = static_cast<uint16_t>(entry.nr_pages + std::popcount(bits));
    entry.backed.words[w] = backed;
    b.free.words[w] &= ~bits;
    b.absent.words[w] &= ~bits;
    b.zero.words[w] &= ~bits;
  }
  b.nr_free = static_cast<uint16_t>(b.nr_free - entry.nr_backed);
  b.nr_absent = static_cast<uint16_t>(b.nr_absent - (entry.nr_pages - entry.nr_backed));
  b.nr_transit = static_cast<uint16_t>(b.nr_transit + entry.nr_pages);
  z.present_free.store_relaxed(z.present_free.load_relaxed() - entry.nr_backed);
  z.in_transit.store_relaxed(z.in_transit.load_relaxed() + entry.nr_backed);
  relist_locked(pa, z, entry.block);
  out.backed += entry.nr_backed;
  ++out.n;
}

void start_whole_blocks(page_allocator& pa, zone& z, leaving_batch& out, uint64_t n) noexcept KMEM_REQUIRES(z.lock) {
  while (out.n < batch_entries && out.backed < n && z.lists[unused_present_list] != 0) {
    leaving& entry = out.entries[out.n];
    entry.block = z.lists[unused_present_list] - 1;
    entry.whole = true;
    for (uint64_t& word : entry.bits.words) word = ~uint64_t{0};
    start_locked(pa, z, out, entry);
  }
}

/// The first `wanted` free bits of a block, whole words where possible.
block_bitmap some_free_bits(const page_block& b, uint64_t wanted) noexcept {
  block_bitmap bits = {};
  for (unsigned w = 0; w < 8 && wanted != 0; ++w) {
    uint64_t word = b.free.words[w];
    while (static_cast<uint64_t>(std::popcount(word)) > wanted) word &= ~(uint64_t{1} << (63 - std::countl_zero(word)));
    bits.words[w] = word;
    wanted -= static_cast<uint64_t>(std::popcount(word));
  }
  return bits;
}

/// Free pages of partly used blocks, the emptiest first: they are the ones that may come free whole.
void start_single_pages(page_allocator& pa, zone& z, leaving_batch& out, uint64_t n, unsigned nr_fills) noexcept KMEM_REQUIRES(z.lock) {
  for (unsigned fill = 0; fill < nr_fills; ++fill)
    for (unsigned type = 0; type < nr_migratetypes; ++type) {
      const unsigned list = present_lists + type * nr_occupancy_lists + fill;
      while (out.n < batch_entries && out.backed < n && z.lists[list] != 0) {
        leaving& entry = out.entries[out.n];
        entry.block = z.lists[list] - 1;
        entry.whole = false;
        entry.bits = some_free_bits(pa.blocks[entry.block], n - out.backed);
        start_locked(pa, z, out, entry);  // off this list: no backed page is left in it, or the batch is complete
      }
    }
}

/// Drops the pages of one entry. Return: whether the system took all of them.
bool decommit(page_allocator& pa, const leaving& entry) noexcept {
  char* const begin = pa.address_of(pfn_t(entry.block * pages_per_block));
  if (entry.whole) return plat::decommit(pa.arena, begin, block_bytes);
  const auto is_set = [&](unsigned i) { return (entry.bits.words[i / 64] >> (i % 64) & 1) != 0; };
  bool all = true;
  for (unsigned i = 0; i < pages_per_block;) {
    unsigned end = i;
    while (end < pages_per_block && is_set(end)) ++end;
    if (end != i) all = plat::decommit(pa.arena, begin + (size_t{i} << page_shift), size_t{end - i} << page_shift) && all;
    i = end == i ? i + 1 : end;
  }
  return all;
}

bool decommit_descriptors(page_allocator& pa, uint32_t block) noexcept {
  return plat::decommit(pa.descriptors, &pa.pages[size_t{block} * pages_per_block], pages_per_block * sizeof(page));
}

void finish_locked(page_allocator& pa, zone& z, const leaving& entry, bool descriptors_gone) noexcept KMEM_REQUIRES(z.lock) {
  page_block& b = pa.blocks[entry.block];
  for (unsigned w = 0; w < 8; ++w) {
    const uint64_t bits = entry.bits.words[w], kept = entry.given ? 0 : entry.backed.words[w];
    b.free.words[w] |= kept;
    b.absent.words[w] |= bits & ~kept;
  }
  const unsigned kept = entry.given ? 0 : entry.nr_backed;
  b.nr_free = static_cast<uint16_t>(b.nr_free + kept);
  b.nr_absent = static_cast<uint16_t>(b.nr_absent + entry.nr_pages - kept);
  b.nr_transit = static_cast<uint16_t>(b.nr_transit - entry.nr_pages);
  b.longest_order = b.longest_present_order = block_order;
  if (descriptors_gone) b.charged_metadata = static_cast<uint8_t>(b.charged_metadata - (metadata_pages_per_block - 1));
  z.in_transit.store_relaxed(z.in_transit.load_relaxed() - entry.nr_backed);
  z.present_free.store_relaxed(z.present_free.load_relaxed() + kept);
  relist_locked(pa, z, entry.block);
}

/// Does the system calls of a batch and ends it. Return: backed pages that are the system's now; all of them are still committed, for this
/// thread.
uint64_t complete(page_allocator& pa, zone& z, leaving_batch& b, bool keep_descriptors) noexcept {
  bool gone[batch_entries] = {};
  uint64_t given = 0, blocks = 0;
  uint32_t metadata = 0;
  for (unsigned i = 0; i < b.n; ++i) {
    leaving& entry = b.entries[i];
    entry.given = decommit(pa, entry);
    if (!entry.given) continue;
    given += entry.nr_backed;
    if (!entry.whole) continue;
    ++blocks;
    if (keep_descriptors || !decommit_descriptors(pa, entry.block)) continue;
    gone[i] = true;
    metadata += metadata_pages_per_block - 1;
  }
  {
    nest_guard guard;
    z.lock.lock();  // never nested: only blocking requests and threads that trim come here
    for (unsigned i = 0; i < b.n; ++i) finish_locked(pa, z, b.entries[i], gone[i]);
    leaving_batch** link = &z.leaving;
    while (*link != &b) link = &(*link)->next;
    *link = b.next;
    add_claimed(z, given);
    z.lock.unlock();
  }
  if (metadata != 0) uncharge_metadata(pa, metadata);
  pa.stats.pages_given_back.fetch_add_relaxed(given);
  pa.stats.blocks_given_back.fetch_add_relaxed(blocks);
  return given;
}

void release_committed(page_allocator& pa, zone& z, uint64_t n) noexcept {
  bool wake = false;
  {
    nest_guard guard;
    z.lock.lock();
    z.committed.store_relaxed(z.committed.load_relaxed() - n);
    drop_claimed(z, n);
    wake = somebody_waits(pa);
    z.lock.unlock();
  }
  if (wake) wake_waiters(pa, wake_cause::give_back);
}

}  // namespace

void forget_leaving_of_others(zone& z) noexcept {
  const lock_guard hold(z.lock);
  uint64_t own = 0;
  leaving_batch** link = &z.leaving;
  while (*link != nullptr) {
    leaving_batch& b = **link;
    if (b.owner == &current()) {
      own += b.backed;
      link = &b.next;
    } else {
      *link = b.next;
    }
  }
  z.in_transit.store_relaxed(own);
}

uint64_t give_back_zone(page_allocator& pa, zone& z, uint64_t n, bool single_pages, bool keep_committed, unsigned nr_fills) noexcept {
  uint64_t total = 0;
  if (current().depth != 0) return 0;  // system calls have no place in a handler that interrupted the allocator
  while (total < n) {
    leaving_batch b;
    b.owner = &current();
    {
      nest_guard guard;
      z.lock.lock();
      start_whole_blocks(pa, z, b, n - total);
      if (single_pages && b.backed < n - total) start_single_pages(pa, z, b, n - total, nr_fills);
      if (b.n != 0) {
        b.next = z.leaving;
        z.leaving = &b;
      }
      z.lock.unlock();
    }
    if (b.n == 0) break;
    const uint64_t given = complete(pa, z, b, keep_committed || z.fixed_pfns);
    total += given;
    const uint64_t kept = !keep_committed ? 0 : total > n ? given - (total - n) : given;
    release_committed(pa, z, given - kept);
    if (given == 0) break;  // the system takes nothing
  }
  return keep_committed && total > n ? n : total;
}

void make_room_for_block(page_allocator& pa, order_t order, zone_idx highest) noexcept {
  const uint64_t n = nr_pages(order).raw();
  for (unsigned i = raw(highest) + 1; i-- != 0;) {
    zone& z = pa.zones[i];
    if (z.nr_blocks == 0 || z.fixed_pfns || zone_free(z) < n) continue;
    const uint64_t headroom = zone_headroom(z);
    if (headroom >= n || headroom + give_back_zone(pa, z, n - headroom, true, false) >= n) return;
  }
}

uint64_t give_back(page_allocator& pa, uint64_t n, bool single_pages) noexcept {
  drain_cpu_pages(pa, false);
  uint64_t given = 0;
  for (const bool singles : {false, true}) {
    if (singles && !single_pages) break;
    for (unsigned i = nr_zones; i-- != 0 && given < n;)
      if (pa.zones[i].nr_blocks != 0) given += give_back_zone(pa, pa.zones[i], n - given, singles, false);
  }
  return given;
}

}  // inline namespace
}  // namespace kmem
