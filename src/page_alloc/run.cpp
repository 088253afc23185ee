// Runs of pages: any number, more than a page block too, shrunk and grown in place.
//
// States.   A run is one head with its page count; as a block of 2^order pages, but for the count. A run of more than 512 pages starts on a
//           page block and takes wholly free ones; what its last block has left over stays free.
// Choice.   The lowest blocks that are wholly free side by side, never-opened ones behind the opened part included: address space instead
//           of compaction. A run that is to grow (`room`) gets blocks of its own with free ones behind, which others pass by as long as
//           there are any others: they are on room_list, and come off it when the run is freed or shrinks, or when a request would fail.
// Locks.    The zone's. Context: any for taking and freeing; growing tries once and never waits.
// Ordering. None of its own.
// Kernel.   alloc_contig_pages and alloc_pages_exact in one; a run needs no power of two and keeps no tail.
// Tests.    tests/unit/page_alloc/run_test.cpp, tests/model/page_alloc_random_test.cpp
#include <bit>

#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

/// Blocks that a run of n pages takes from `first` on, and what using them costs.
struct candidate {
  uint32_t first = 0, free_blocks = 0;  // in a row
  uint64_t absent = 0;
  uint32_t metadata = 0;
};

constexpr uint32_t blocks_to_choose = 64;  // arbitrary: a search among places looks at each block so many times at most

uint64_t pages_in(uint64_t n, uint32_t index) noexcept {
  const uint64_t left = n - uint64_t{index} * pages_per_block;
  return left < pages_per_block ? left : pages_per_block;
}

void take_candidate(page_allocator& pa, zone& z, const candidate& c, take_request& request, taken_run& run) noexcept KMEM_REQUIRES(z.lock) {
  run.zero = true;
  const uint64_t n = request.n;
  for (uint32_t i = 0; uint64_t{i} * pages_per_block < n; ++i) {
    page_block& b = pa.blocks[c.first + i];
    request.metadata_credit -= metadata_pages_per_block - b.charged_metadata;
    b.charged_metadata = metadata_pages_per_block;
    taken_run part;
    take_bits_locked(pa, z, c.first + i, 0, static_cast<unsigned>(pages_in(n, i)), request, &part);
    run.zero = run.zero && part.zero;
    if (n <= pages_per_block) run.dirty = part.dirty;
    // The map of dirty pages waits in the words of the block's first descriptors, which nobody else uses now (zero_pages).
    page* const first = &pa.page_of(part.first);
    for (unsigned w = 0; w < 8; ++w) first[w / 4].private_words[w % 4] = part.dirty.words[w];
  }
  run.first = pfn_t(c.first * pages_per_block);
}

/// What lies behind a run that is to grow, up to `blocks` from its first one, is kept for it.
void keep_room(page_allocator& pa, zone& z, uint32_t first, uint32_t blocks, const take_request& request) noexcept KMEM_REQUIRES(z.lock) {
  if (request.room == 0) return;
  for (uint32_t block = first; block < first + blocks; ++block) {
    pa.blocks[block].room = 1;
    relist_locked(pa, z, block);
  }
}

}  // namespace

take_result take_blocks_locked(page_allocator& pa, zone& z, take_request& request, taken_run& run, take_needs& needs) noexcept {
  const uint64_t own = (request.n + pages_per_block - 1) / pages_per_block;
  const uint64_t with_room = (request.n + request.room + pages_per_block - 1) / pages_per_block;
  if (with_room > z.nr_blocks) return take_result::none;
  const auto blocks = static_cast<uint32_t>(with_room);
  const auto align = static_cast<uint32_t>(std::has_single_bit(request.n) ? own : 1);
  const uint32_t end = z.first_block + z.opened_blocks;
  const uint64_t room = zone_headroom(z) + request.claim;
  take_result result = take_result::none;
  candidate c, second_best;
  const bool may_choose = request.room != 0 && blocks <= blocks_to_choose;
  for (uint32_t i = z.first_block; i < end; ++i) {
    const page_block& b = pa.blocks[i];
    const bool usable = b.nr_free + unsigned{b.nr_absent} == pages_per_block && b.room == 0 &&
                        (!request.no_fresh || b.charged_metadata == metadata_pages_per_block);
    if (!usable || (c.free_blocks == 0 && i % align != 0)) {
      c = {};
      continue;
    }
    if (c.free_blocks == 0) c = {i, 0, 0, 0};
    if (c.free_blocks < own) {
      c.absent += count_bits(b.absent, 0, static_cast<unsigned>(pages_in(request.n, c.free_blocks)));
      c.metadata += metadata_pages_per_block - b.charged_metadata;
    }
    if (++c.free_blocks < blocks) continue;
    if (c.absent > room) {
      result = take_result::no_headroom;
      i = c.first;  // the next start may have more backed pages
      c = {};
      continue;
    }
    if (c.metadata > request.metadata_credit) {
      needs.metadata = c.metadata - request.metadata_credit;
      return take_result::needs_metadata;
    }
    if (may_choose && c.absent != 0) {  // a place further up may be backed, and a first touch costs more than a copy
      if (second_best.free_blocks == 0) second_best = c;
      i = c.first;
      c = {};
      continue;
    }
    take_candidate(pa, z, c, request, run);
    keep_room(pa, z, c.first, blocks, request);
    return take_result::ok;
  }
  if (second_best.free_blocks != 0) {
    take_candidate(pa, z, second_best, request, run);
    keep_room(pa, z, second_best.first, blocks, request);
    return take_result::ok;
  }
  if (request.no_fresh || end == z.first_block + z.nr_blocks) return result;
  const uint32_t start = c.free_blocks != 0 ? c.first : static_cast<uint32_t>(round_up(end, align));
  if (uint64_t{start} + blocks > uint64_t{z.first_block} + z.nr_blocks) return result;
  const uint64_t backed = uint64_t{c.free_blocks} * pages_per_block;
  if (request.n > room + (backed > c.absent ? backed - c.absent : 0)) return take_result::no_headroom;
  needs.open_blocks = start + blocks - end;
  return take_result::needs_open;
}

nr_pages_t run_pages(const page* p) noexcept { return nr_pages_t(pages_of_head(*p)); }

void free_run(page_allocator& pa, page* p) noexcept {
  if (p == nullptr) return;
  put_page(pa, p);
}

bool resize_run(page_allocator& pa, page* p, nr_pages_t wanted, gfp_t gfp) noexcept {
  if (wanted.raw() == 0 || p->kind != page_kind::allocated) return false;
  const uint64_t old = p->run.nr_pages, n = wanted.raw();
  if (n == old) return true;
  const pfn_t pfn = pa.pfn_of(p);
  zone& z = zone_of(pa, *p);
  if (n < old) {
    // What is cut off becomes a run of its own and is freed like any other.
    page* const tail = p + n;
    mark_allocated(*tail, z, order_of(old - n), old - n);
    tail->flags = 0;
    tail->next = tail->prev = pfn_t();
    p->run.nr_pages = static_cast<uint32_t>(n);
    p->order = static_cast<uint8_t>(order_of(n));
    if ((p->flags & page_flag_compound) != 0) {
      // Its pages are no tails of a block any more, and the free does not look for any.
      for (uint64_t i = 1; i < old; ++i)
        if (i != n) p[i].kind = page_kind::free;
      p->flags = static_cast<uint8_t>(p->flags & ~page_flag_compound);
    }
    put_page(pa, tail);
    return true;
  }
  if (n > pa.span_pages) return false;
  request r = make_request(pa, gfp, n - old, request_kind::run);
  r.highest = z.idx;  // only this zone can serve it
  const uint64_t floor = floor_for(pa, z, r);
  take_request request;
  request.n = n - old;
  request.type = r.type;
  take_needs needs;
  take_result result = take_result::needs_metadata;
  while (result == take_result::needs_metadata) {
    if (needs.metadata != 0 && !charge_metadata(pa, needs.metadata)) break;
    request.metadata_credit += needs.metadata;
    nest_guard guard;
    if (!acquire(z.lock)) break;
    result = take_result::none;
    if (above_floor(z, n - old, floor)) result = take_range_locked(pa, z, pfn + nr_pages_t(old), n - old, request, needs);
    z.lock.unlock();
  }
  if (request.metadata_credit != 0) refund_metadata(pa, request.metadata_credit, false);
  if (result != take_result::ok) return false;
  pa.stats.pgalloc.fetch_add_relaxed(n - old);
  p->run.nr_pages = static_cast<uint32_t>(n);
  p->order = static_cast<uint8_t>(order_of(n));
  return true;
}

}  // inline namespace
}  // namespace kmem
