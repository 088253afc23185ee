// Allocation without waiting: one attempt over the zones that a request may use, and the public ways in.
//
// States.   A block comes out of a CPU's list, the free areas or the reserve with kind allocated, one reference, its order and page count
//           in the head. Tails of a block that is not compound are not written: whatever they say is left over, but never "head of
//           something allocated", since every free changes the head's kind. Compound tails name their head.
// Rights.   A zone serves a request while free - n + 1 > floor_for(). Zones are tried from the highest that the flags allow downwards.
// Locks.    Each zone's, one at a time. Metadata is charged and sections are opened between two searches, with no lock held.
//           Context: any; waiting and system calls other than mprotect happen in the chain only.
// Ordering. None of its own: the lists' and zones' locks hand the pages over.
// Kernel.   The first attempt already goes down to min, not low; below low it wakes kswapd, if there is one. Known zero pages are not
//           cleared again for __GFP_ZERO.
// Tests.    tests/unit/page_alloc/alloc_test.cpp, tests/model/page_alloc_random_test.cpp, tests/model/page_alloc_oracle_test.cpp
#include <bit>

#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

void clear(char* begin, size_t bytes) noexcept { __builtin_memset(begin, 0, bytes); }

/// Clears the pages of a block or of the first part of it whose bits are set, run by run.
void clear_dirty(char* begin, const block_bitmap& dirty, unsigned n) noexcept {
  const auto is_dirty = [&](unsigned i) { return (dirty.words[i / 64] >> (i % 64) & 1) != 0; };
  for (unsigned i = 0; i < n;) {
    unsigned end = i;
    while (end < n && is_dirty(end)) ++end;
    if (end != i) clear(begin + (size_t{i} << page_shift), size_t{end - i} << page_shift);
    i = end == i ? i + 1 : end;
  }
}

/// Charges pages outside the arena.
bool take_charge_locked(zone& z, take_request& request) noexcept KMEM_REQUIRES(z.lock) {
  if (request.n > zone_headroom(z) + request.claim) return false;
  const uint64_t claimed = request.n < request.claim ? request.n : request.claim;
  request.claim -= claimed;
  drop_claimed(z, claimed);
  z.committed.store_relaxed(z.committed.load_relaxed() + request.n - claimed);
  add_taken_locked(z, request.n);
  return true;
}

/// Opens blocks; who may block makes room for what the opening costs.
bool open_for(page_allocator& pa, zone& z, const request& r, uint32_t n) noexcept {
  if (open_more(pa, z, n, may_block(r.gfp))) return true;
  if (!may_block(r.gfp)) return false;
  zone& normal = pa.zones[raw(zone_idx::normal)];
  const uint64_t cost = section_metadata_pages(n > section_blocks ? n : section_blocks);
  return give_back_zone(pa, normal, cost, true, false) != 0 && open_more(pa, z, n, true);
}

enum class zone_result : uint8_t { ok, failed, busy };

/// Searches one zone's free areas, paying for and opening blocks as needed.
zone_result take_from_zone(page_allocator& pa, zone& z, request& r, uint64_t floor) noexcept {
  take_request request;
  request.n = r.n;
  request.order = r.order;
  request.type = r.type;
  request.claim = r.claims[raw(z.idx)];
  request.room = r.room;
  note_path(path_page_allocator);
  zone_result outcome = zone_result::failed;
  for (bool again = true; again;) {
    again = false;
    take_needs needs;
    take_result result = take_result::none;
    {
      nest_guard guard;
      if (!acquire(z.lock)) {
        outcome = zone_result::busy;
        break;
      }
      if (above_floor(z, r.n, floor)) {
        if (r.kind == request_kind::charge)
          result = take_charge_locked(z, request) ? take_result::ok : take_result::no_headroom;
        else
          result = take_locked(pa, z, request, r.run, needs);
        if (result == take_result::ok && r.kind != request_kind::charge) mark_allocated(pa.page_of(r.run.first), z, r.order, r.n);
      }
      z.lock.unlock();
    }
    if (result == take_result::ok) outcome = zone_result::ok;
    if (result == take_result::needs_metadata) {
      if (pa.follows_groups && may_block(r.gfp) && current().depth == 0) follow_groups(pa);
      if (charge_metadata_for(pa, r.gfp, needs.metadata))
        request.metadata_credit += needs.metadata;
      else if (request.room != 0)
        request.room = 0;
      else
        request.no_fresh = true;
      again = true;
    }
    if (result == take_result::needs_open) {
      if (!open_for(pa, z, r, needs.open_blocks)) {
        if (request.room == 0) request.no_fresh = true;
        request.room = 0;
      }
      again = true;
    }
    // What was paid for a fresh block has made the zone smaller: perhaps too small for the request, though other blocks would do without
    // it.
    if ((result == take_result::none || result == take_result::no_headroom) && request.metadata_credit != 0) {
      refund_metadata(pa, request.metadata_credit, false);
      request.metadata_credit = 0;
      request.no_fresh = true;
      again = true;
    }
  }
  r.claims[raw(z.idx)] = request.claim;
  if (request.metadata_credit != 0) refund_metadata(pa, request.metadata_credit, false);
  return outcome;
}

bool take_reserve_page(page_allocator& pa, zone& z, request& r, uint64_t floor) noexcept {
  if (r.kind == request_kind::charge || r.n != 1 || !above_floor(z, 1, floor)) return false;
  const pfn_t pfn = reserve_take(pa, z);
  if (!may_block(r.gfp)) note_reserve_use(pa, z);
  if (pfn.is_none()) return false;
  r.run = {};
  r.run.first = pfn;
  r.run.dirty.words[0] = 1;
  pa.stats.pgalloc.fetch_add_relaxed(1);
  return true;
}

bool attempt_zone(page_allocator& pa, zone& z, request& r) noexcept {
  const uint64_t floor = floor_for(pa, z, r);
  if (!above_floor(z, r.n, floor)) return false;
  if (r.kind == request_kind::block && r.order < nr_cpu_list_orders && r.claims[raw(z.idx)] == 0) {
    const pfn_t pfn = cpu_list_take(pa, z, r.order, r.type, has(r.gfp, gfp::cold), floor);
    if (!pfn.is_none()) {
      r.run = {};
      r.run.first = pfn;
      r.run.zero = (pa.page_of(pfn).flags & page_flag_zero) != 0;
      r.run.dirty.words[0] = r.run.zero ? 0 : ~uint64_t{0};
      return true;
    }
  }
  r.run = {};
  const zone_result result = take_from_zone(pa, z, r, floor);
  if (result == zone_result::ok) {
    pa.stats.pgalloc.fetch_add_relaxed(r.n);
    return true;
  }
  // The reserve is where pages lie; who may have them is decided by the watermark. It needs no lock.
  if (result == zone_result::busy || r.from_reserve) {
    if (take_reserve_page(pa, z, r, floor)) return true;
  }
  if (result == zone_result::failed && r.from_reserve && z.reserve.nr_pages.load_relaxed() != 0 && dissolve_reserve(pa, z) != 0) {
    r.run = {};
    if (take_from_zone(pa, z, r, floor) == zone_result::ok) {
      pa.stats.pgalloc.fetch_add_relaxed(r.n);
      return true;
    }
  }
  return false;
}

/// What is left to write in the descriptor of a head: mark_allocated() wrote the rest under the lock.
void finish_head(page& head, gfp_t gfp, bool compound) noexcept {
  const bool movable = gfp_migratetype(gfp) == migratetype::movable;
  head.flags = static_cast<uint8_t>((compound ? page_flag_compound : 0) | (movable ? page_flag_movable : 0));
  head.next = head.prev = pfn_t();
  head.word = 0;
  for (uint64_t& word : head.private_words) word = 0;
}

/// Writes the descriptors of what has been taken.
page* finish(page_allocator& pa, const request& r) noexcept {
  page* const head = &pa.page_of(r.run.first);
  const bool compound = has(r.gfp, gfp::comp) && r.order > 0 && r.kind == request_kind::block;
  finish_head(*head, r.gfp, compound);
  if (compound) {
    for (uint32_t i = 1; i < r.n; ++i) {
      page& tail = head[i];
      tail.kind = page_kind::tail;
      tail.zone = head->zone;
      tail.flags = 0;
      tail.head = r.run.first;
      tail.prev = pfn_t(i);  // distance to the head, for who has no page_allocator at hand
    }
  }
  return head;
}

/// The highest zone that a mask allows on this machine. Without the zone, as in a kernel built without it, the whole of NORMAL will do.
zone_idx highest_zone(const page_allocator& pa, gfp_t gfp) noexcept {
  const zone_idx highest = gfp_zone(gfp);
  return highest < zone_idx::normal && pa.zones[raw(highest)].nr_blocks == 0 ? zone_idx::normal : highest;
}

/// May `n` pages be taken from z without coming below its low watermark?
bool above_low(const zone& z, uint64_t n, zone_idx highest) noexcept {
  return above_floor(z, n, z.watermarks[static_cast<unsigned>(watermark::low)] + z.lowmem_reserve[raw(highest)]);
}

/// The common case without the bookkeeping of the chain: a small block from this CPU's list of the preferred zone.
page* alloc_fast(page_allocator& pa, gfp_t gfp, unsigned order) noexcept {
  const zone_idx highest = highest_zone(pa, gfp);
  unsigned preferred = raw(highest);
  while (pa.zones[preferred].nr_blocks == 0) --preferred;  // DMA always exists
  zone& z = pa.zones[preferred];
  const uint64_t floor = floor_for(pa, z, {gfp}, highest);
  if (!above_floor(z, uint64_t{1} << order, floor)) return nullptr;
  if (KMEM_UNLIKELY(somebody_waits(pa)) && may_block(gfp)) return nullptr;
  if (pa.has_kswapd && has(gfp, gfp::kswapd_reclaim) && !above_low(z, uint64_t{1} << order, highest)) return nullptr;
  const pfn_t pfn = cpu_list_take(pa, z, order, gfp_migratetype(gfp), has(gfp, gfp::cold), floor);
  if (pfn.is_none()) return nullptr;
  page& head = pa.page_of(pfn);
  if (has(gfp, gfp::zero) && (head.flags & page_flag_zero) == 0) clear(pa.address_of(pfn), page_size << order);
  finish_head(head, gfp, false);
  return &head;
}

KMEM_COLD page* refuse_order(page_allocator& pa, request& r) noexcept {
  fail_request(pa, r, chain_step::refused, false);
  return nullptr;
}

/// The checks that every request passes once. `bytes`: of the request. Return: false if a failure is injected.
bool admit(gfp_t gfp, uint64_t bytes) noexcept {
  if (has(gfp, gfp::direct_reclaim)) {
    check_may_sleep(__FILE__, __LINE__);
    check_no_recursion(gfp);
  }
  return !KMEM_UNLIKELY(may_fail(gfp) && should_fail(fail_point::fail_page_alloc, bytes));
}

bool first_attempt(page_allocator& pa, request& r) noexcept {
  wake_kswapd_if_low(pa, r);
  r.behind = goes_behind(pa, r);
  return !r.behind && attempt(pa, r);
}

bool acquire_pages(page_allocator& pa, request& r) noexcept {
  if (!admit(r.gfp, r.n << page_shift)) {
    fail_request(pa, r, chain_step::refused, true);
    return false;
  }
  if (KMEM_UNLIKELY(pa.reserve_grown.load_relaxed() != 0) && may_block(r.gfp) && current().depth == 0) decay_reserves(pa, plat::now_ns());
  const bool served = first_attempt(pa, r) || alloc_slow(pa, r);
  watch_slow_path(pa);
  return served;
}

/// Makes what attempt() or the chain has taken into what the caller wants.
page* hand_over(page_allocator& pa, request& r) noexcept {
  if (r.instead != nullptr && r.instead->taken) return nullptr;
  // Before the descriptors are written: those of a long run hold the map of its dirty pages.
  if (has(r.gfp, gfp::zero) && !r.run.zero) zero_pages(pa, r.run, r.n);
  return finish(pa, r);
}

page* allocate(page_allocator& pa, request& r) noexcept { return acquire_pages(pa, r) ? hand_over(pa, r) : nullptr; }

}  // namespace

void zero_pages(page_allocator& pa, const taken_run& run, uint64_t n) noexcept {
  if (n <= pages_per_block) return clear_dirty(pa.address_of(run.first), run.dirty, static_cast<unsigned>(n));
  for (uint64_t at = 0; at < n; at += pages_per_block) {
    const page* const first = &pa.page_of(run.first + nr_pages_t(at));
    block_bitmap dirty;
    for (unsigned w = 0; w < 8; ++w) dirty.words[w] = first[w / 4].private_words[w % 4];
    const uint64_t count = n - at < pages_per_block ? n - at : pages_per_block;
    clear_dirty(pa.address_of(run.first + nr_pages_t(at)), dirty, static_cast<unsigned>(count));
  }
}

request make_request(const page_allocator& pa, gfp_t gfp, uint64_t n, request_kind kind) noexcept {
  request r;
  r.kind = kind;
  r.asked = gfp;
  r.gfp = current_gfp(gfp);
  r.n = n;
  r.order = order_of(n);
  r.highest = highest_zone(pa, r.gfp);
  r.type = gfp_migratetype(r.gfp);
  return r;
}

bool wake_kswapd_if_low(page_allocator& pa, const request& r) noexcept {
  if (!pa.has_kswapd || !has(r.gfp, gfp::kswapd_reclaim)) return false;
  if (some_zone_above(pa, watermark::low, r.n, r.highest)) return false;
  bool at_work = false;
  for (const reclaim_ops& ops : pa.ops)
    if (ops.wake_kswapd != nullptr) at_work |= ops.wake_kswapd(ops.context, r.gfp, r.order, r.highest);
  return at_work;
}

bool attempt(page_allocator& pa, request& r) noexcept {
  for (unsigned i = raw(r.highest) + 1; i-- != 0;) {
    zone& z = pa.zones[i];
    if (z.nr_blocks == 0 || !attempt_zone(pa, z, r)) continue;
    r.zone = static_cast<int>(i);
    return true;
  }
  return false;
}

namespace {

/// Everything but the common case. `admitted`: the checks are done, with this result.
KMEM_COLD page* alloc_pages_slow(page_allocator& pa, const alloc_request& wanted, bool checked, bool admitted) noexcept {
  const unsigned order = wanted.order.raw();
  request r = make_request(pa, wanted.gfp, uint64_t{1} << (order < 32 ? order : 32), request_kind::block);
  r.bytes = wanted.bytes != 0 ? wanted.bytes : r.n << page_shift;
  r.cache = wanted.cache;
  r.quiet = wanted.quiet;
  r.instead = wanted.instead;
  if (order >= pa.max_order) return refuse_order(pa, r);
  if (!checked) return allocate(pa, r);
  if (!admitted) {
    fail_request(pa, r, chain_step::refused, true);
    return nullptr;
  }
  return first_attempt(pa, r) || alloc_slow(pa, r) ? hand_over(pa, r) : nullptr;
}

}  // namespace

page* alloc_pages_for(page_allocator& pa, const alloc_request& wanted) noexcept {
  const unsigned order = wanted.order.raw();
  const gfp_t gfp = current_gfp(wanted.gfp);
  const bool small = order < nr_cpu_list_orders && order < pa.max_order && !(has(gfp, gfp::comp) && order != 0);
  if (!small) return alloc_pages_slow(pa, wanted, false, false);
  const bool admitted = admit(gfp, page_size << order);
  if (KMEM_LIKELY(admitted)) {
    page* const p = alloc_fast(pa, gfp, order);
    if (KMEM_LIKELY(p != nullptr)) return p;
  }
  return alloc_pages_slow(pa, wanted, true, admitted);
}

page* alloc_pages(page_allocator& pa, gfp_t gfp, order_t order) noexcept { return alloc_pages_for(pa, {gfp, order}); }

page* alloc_run(page_allocator& pa, gfp_t gfp, nr_pages_t n, bool quiet, nr_pages_t room) noexcept {
  if (n.raw() == 0) return nullptr;
  request r = make_request(pa, gfp, n.raw(), request_kind::run);
  r.quiet = quiet;
  r.bytes = n.raw() << page_shift;
  r.room = room.raw();
  if (KMEM_UNLIKELY(n.raw() > pa.span_pages)) {
    if (!may_fail(gfp)) bug("__GFP_NOFAIL for more pages than the whole arena has", __FILE__, __LINE__);
    return refuse_order(pa, r);
  }
  // Small powers of two are blocks like any other and may come from the CPU's list.
  if (r.order < nr_cpu_list_orders && std::has_single_bit(r.n) && r.room == 0) r.kind = request_kind::block;
  r.gfp &= ~gfp::comp;
  return allocate(pa, r);
}

unsigned alloc_pages_bulk(page_allocator& pa, gfp_t gfp, unsigned n, page** array) noexcept {
  unsigned filled = 0;
  bool more = true;
  for (unsigned i = 0; i < n; ++i) {
    if (array[i] == nullptr && more) more = (array[i] = alloc_pages(pa, gfp, order_t(0))) != nullptr;
    if (array[i] != nullptr) ++filled;
  }
  return filled;
}

void* get_free_pages(page_allocator& pa, gfp_t gfp, order_t order) noexcept {
  // Pages with an address at all times only: highmem would be a mistake, which the kernel repairs likewise.
  const page* const p = alloc_pages(pa, gfp & ~gfp::highmem_bit, order);
  return p != nullptr ? pa.address_of(pa.pfn_of(p)) : nullptr;
}

void* get_zeroed_page(page_allocator& pa, gfp_t gfp) noexcept { return get_free_pages(pa, gfp | gfp::zero, order_t(0)); }

void* alloc_pages_exact(page_allocator& pa, size_t size, gfp_t gfp) noexcept {
  const nr_pages_t n = pages_for(size);
  if (n.raw() == 0) return nullptr;
  request r = make_request(pa, gfp & ~(gfp::highmem_bit | gfp::comp), n.raw(), request_kind::run);
  r.bytes = size;
  if (r.order >= pa.max_order) {
    refuse_order(pa, r);
    return nullptr;
  }
  const page* const p = allocate(pa, r);
  return p != nullptr ? pa.address_of(pa.pfn_of(p)) : nullptr;
}

void free_pages_exact(page_allocator& pa, void* address, size_t size) noexcept {
  if (address == nullptr) return;
  if (!pa.contains(address)) return report_bad_page(pa, nullptr, "an address outside the arena was freed");
  if (!pa.is_open(pa.pfn_of(address))) return report_bad_page(pa, nullptr, "an address was freed that was never handed out");
  page* const p = &pa.page_of(pa.pfn_of(address));
  if (is_allocated_head(*p) && pages_of_head(*p) != pages_for(size).raw()) {
    report_bad_page(pa, p, "freed with another size than it was allocated with");
  }
  put_page(pa, p);
}

int charge_pages(page_allocator& pa, gfp_t gfp, nr_pages_t n) noexcept {
  request r = make_request(pa, gfp, n.raw(), request_kind::charge);
  r.bytes = n.raw() << page_shift;
  return acquire_pages(pa, r) ? r.zone : -1;
}

}  // inline namespace
}  // namespace kmem
