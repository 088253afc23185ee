// The reserve of each zone and the reclaimers' pool: single pages that are backed and pre-faulted, on stacks that need no lock.
//
// States.   A page here has kind reserve. The reserve is part of the zone's free pages (not `taken`); which request may have it is
//           decided by watermarks alone. The pool's pages are `taken` for good: neither free nor charged until somebody pops one.
// Refill.   Slow paths that may block fill both up to their targets and fault the pages in. Besides, a freed page goes to a reserve that
//           is not full before anywhere else, touched once: in a process that never blocks the reserve comes back, too.
// Target.   Not all of min need be backed from the start (vm.reserve_backed_kbytes). A reserve that an atomic request has emptied doubles
//           its target, up to min; the half of what it grew by goes after each reserve_decay_after_ns without use, down to the start:
//              reserve_base <= reserve_target <= min
// Locks.    None for push and pop: any context, nested slow paths included. The zone's lock while pages are fetched. A change of two
//           words counts as a slow path (nest_guard), so that the child of a handler's fork finishes it and does not count again.
// Ordering. pairs: page_stack - a push releases the page's link and the pages behind it, the pop that gets it acquires them. The tag makes
//           a head that was popped and pushed again in between differ. A link read from a page that is gone is thrown away by the tag.
// Kernel.   A watermark there is a count; here it is memory: an atomic allocation from the reserve needs no page fault.
// Tests.    tests/unit/page_alloc/reserve_test.cpp
#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint64_t pfn_bits = 0xffffffffu;
constexpr uint64_t tag_unit = uint64_t{1} << 32;
constexpr uint64_t reserve_least = 8;  // pages; arbitrary: the first step of a reserve that began with none, and the last one down

constexpr pfn_t head_of(uint64_t word) noexcept { return pfn_t(static_cast<uint32_t>(word & pfn_bits)); }
constexpr uint64_t word_for(uint64_t old, pfn_t pfn) noexcept { return ((old & ~pfn_bits) + tag_unit) | pfn.raw(); }

/// Backs a page that nobody uses by writing to it.
void touch(page_allocator& pa, pfn_t pfn) noexcept {
  *pa.address_of(pfn) = 0;
  arch::compiler_barrier();
}

/// Takes up to 2^order pages in one piece for a stack. Return: pages, 0 when there are none to have.
uint64_t fetch(page_allocator& pa, zone& z, unsigned order, uint64_t wanted, uint64_t floor, pfn_t& first) noexcept {
  take_request request;
  while (order > 0 && uint64_t{1} << order > wanted) --order;
  request.n = uint64_t{1} << order;
  request.order = order;
  for (;;) {
    take_needs needs;
    taken_run run;
    take_result result = take_result::none;
    {
      nest_guard guard;
      if (!acquire(z.lock)) return 0;
      if (above_floor(z, request.n, floor)) result = take_locked(pa, z, request, run, needs);
      z.lock.unlock();
    }
    if (result == take_result::needs_metadata && charge_metadata(pa, needs.metadata)) {
      request.metadata_credit += needs.metadata;
      continue;
    }
    if (result == take_result::needs_open && open_more(pa, z, needs.open_blocks, true)) continue;
    if (request.metadata_credit != 0) refund_metadata(pa, request.metadata_credit, false);
    request.metadata_credit = 0;
    if (result == take_result::ok) {
      first = run.first;
      return request.n;
    }
    if (!request.no_fresh && (result == take_result::needs_metadata || result == take_result::needs_open)) {
      request.no_fresh = true;
      continue;
    }
    if (order == 0) return 0;
    request.n = uint64_t{1} << --order;
    request.order = order;
  }
}

/// Moves pages from the reserve into the free areas until `left` are left. Return: how many.
uint64_t shrink_to(page_allocator& pa, zone& z, uint64_t left) noexcept {
  nest_guard guard;
  if (!acquire(z.lock)) return 0;
  uint64_t moved = 0;
  for (; z.reserve.nr_pages.load_relaxed() > left; ++moved) {
    const pfn_t pfn = stack_pop(pa, z.reserve);
    if (pfn.is_none()) break;
    pa.page_of(pfn).kind = page_kind::free;
    z.taken.fetch_add_relaxed(1);  // put_locked takes it off again
    put_locked(pa, z, pfn, 1, false);
  }
  z.lock.unlock();
  return moved;
}

void return_pages(page_allocator& pa, zone& z, pfn_t first, uint64_t n) noexcept {
  for (uint64_t i = 0; i < n; ++i) {
    page& p = pa.page_of(first + nr_pages_t(i));
    mark_allocated(p, z, 0, 1);
    p.refcount.store_relaxed(0);
    free_head(pa, &p);
  }
}

/// Fills a stack up to `target`. counted_free: its pages are part of the zone's free pages.
void fill(page_allocator& pa, zone& z, page_stack& stack, uint64_t target, bool counted_free) noexcept {
  constexpr unsigned fetch_order = 5;  // 32 pages are faulted in by one call
  const uint64_t low = z.watermarks[static_cast<unsigned>(watermark::low)];
  // Pages for the reserve stay free, so it may take the last ones; the pool takes from what ordinary requests could have.
  const uint64_t floor = counted_free ? 0 : z.watermarks[static_cast<unsigned>(watermark::min)];
  for (;;) {
    const uint64_t filled = stack.nr_pages.load_relaxed();
    if (filled >= target) return;
    pfn_t first;
    // While they are faulted in they are nobody's. Where little is free, a request that may use all of it misses one at most.
    const unsigned order = zone_free(z) < low + (uint64_t{1} << fetch_order) ? 0 : fetch_order;
    const uint64_t n = fetch(pa, z, order, target - filled, floor, first);
    if (n == 0) return;
    if (!plat::populate(pa.address_of(first), n << page_shift)) {
      return_pages(pa, z, first, n);
      return;
    }
    for (uint64_t i = 0; i < n; ++i) {
      const pfn_t pfn = first + nr_pages_t(i);
      page& p = pa.page_of(pfn);
      const nest_guard guard;
      p.kind = page_kind::reserve;
      p.zone = static_cast<uint8_t>(z.idx);
      p.order = 0;
      p.flags = 0;
      stack_push(pa, stack, pfn);
      if (counted_free) z.taken.fetch_sub_relaxed(1);
    }
    if (counted_free) wake_after_lockless_free(pa);
  }
}

}  // namespace

void stack_push(page_allocator& pa, page_stack& stack, pfn_t pfn) noexcept {
  page& p = pa.page_of(pfn);
  const nest_guard guard;
  stack.nr_pages.fetch_add_relaxed(1);  // before the push, so that it is never less than what can be popped
  uint64_t old = stack.head.load_relaxed();
  do {
    p.refcount.store_relaxed(head_of(old).raw());
  } while (!stack.head.try_cmpxchg_release(old, word_for(old, pfn)));  // pairs: page_stack
}

pfn_t stack_pop(page_allocator& pa, page_stack& stack) noexcept {
  const nest_guard guard;
  uint64_t old = stack.head.load_acquire();  // pairs: page_stack
  for (;;) {
    const pfn_t pfn = head_of(old);
    if (pfn.is_none()) return pfn;
    const pfn_t next(pa.page_of(pfn).refcount.load_relaxed());
    if (stack.head.try_cmpxchg_acquire(old, word_for(old, next))) {  // pairs: page_stack
      pa.page_of(pfn).refcount.store_relaxed(0);
      stack.nr_pages.fetch_sub_relaxed(1);
      return pfn;
    }
    old = stack.head.load_acquire();  // pairs: page_stack
  }
}

pfn_t stack_take_all(page_stack& stack) noexcept {
  uint64_t old = stack.head.load_relaxed();
  while (!head_of(old).is_none())
    if (stack.head.try_cmpxchg_acquire(old, word_for(old, pfn_t()))) return head_of(old);  // pairs: page_stack
  return pfn_t();
}

pfn_t stack_next(page_allocator& pa, pfn_t pfn) noexcept { return pfn_t(pa.page_of(pfn).refcount.exchange_relaxed(0)); }

pfn_t reserve_take(page_allocator& pa, zone& z) noexcept {
  const nest_guard guard;
  const pfn_t pfn = stack_pop(pa, z.reserve);
  if (pfn.is_none()) return pfn;
  z.taken.fetch_add_relaxed(1);
  mark_allocated(pa.page_of(pfn), z, 0, 1);
  pa.stats.reserve_used.fetch_add_relaxed(1);
  return pfn;
}

bool reserve_put(page_allocator& pa, zone& z, pfn_t pfn) noexcept {
  if (z.reserve.nr_pages.load_relaxed() >= z.reserve_target.load_relaxed()) return false;
  touch(pa, pfn);
  const nest_guard guard;
  page& p = pa.page_of(pfn);
  p.kind = page_kind::reserve;
  p.order = 0;
  p.flags = 0;
  stack_push(pa, z.reserve, pfn);
  z.taken.fetch_sub_relaxed(1);
  return true;
}

uint64_t dissolve_reserve(page_allocator& pa, zone& z) noexcept { return shrink_to(pa, z, 0); }

void note_reserve_use(page_allocator& pa, zone& z) noexcept {
  z.reserve_uses.fetch_add_relaxed(1);
  if (z.reserve.nr_pages.load_relaxed() != 0) return;
  const uint64_t most = z.watermarks[static_cast<unsigned>(watermark::min)];
  uint64_t target = z.reserve_target.load_relaxed();
  if (target >= most) return;
  const uint64_t doubled = target < reserve_least ? reserve_least : 2 * target;
  if (z.reserve_target.try_cmpxchg_relaxed(target, doubled < most ? doubled : most)) pa.reserve_grown.store_relaxed(1);
}

namespace {

/// The next step down of a reserve that has grown, if it is time. Return: whether it is still larger than at the start.
bool decay(page_allocator& pa, zone& z, uint64_t now_ns) noexcept {
  uint64_t target = z.reserve_target.load_relaxed();
  if (target <= z.reserve_base) return false;
  uint64_t due = z.reserve_decay_ns.load_relaxed();
  if (now_ns < due || !z.reserve_decay_ns.try_cmpxchg_relaxed(due, now_ns + reserve_decay_after_ns)) return true;
  const uint64_t uses = z.reserve_uses.load_relaxed();
  if (z.reserve_uses_seen.exchange_relaxed(uses) != uses) return true;
  const uint64_t surplus = target - z.reserve_base, next = surplus < reserve_least ? z.reserve_base : z.reserve_base + surplus / 2;
  if (!z.reserve_target.try_cmpxchg_relaxed(target, next)) return true;  // an atomic request needs more just now
  const uint64_t moved = shrink_to(pa, z, next);
  if (moved != 0) give_back_zone(pa, z, moved, true, false);
  return next > z.reserve_base;
}

}  // namespace

bool decay_reserves(page_allocator& pa, uint64_t now_ns) noexcept {
  // Cleared before the zones are looked at, so that a reserve that grows meanwhile is not forgotten.
  if (pa.reserve_grown.exchange_relaxed(0) == 0) return false;
  bool larger = false;
  for (zone& z : pa.zones) larger |= decay(pa, z, now_ns);
  if (larger) pa.reserve_grown.store_relaxed(1);
  return larger;
}

bool reserve_is_low(const page_allocator& pa) noexcept {
  for (const zone& z : pa.zones)
    if (z.reserve.nr_pages.load_relaxed() < z.reserve_target.load_relaxed() / 2) return true;
  return pa.memalloc_pool.nr_pages.load_relaxed() < pa.memalloc_pool_target / 2;
}

void refill_reserve(page_allocator& pa) noexcept {
  if (pa.refilling.exchange_relaxed(1) != 0) return;  // two at once would take twice what is missing
  for (zone& z : pa.zones)
    if (z.nr_blocks != 0) fill(pa, z, z.reserve, z.reserve_target.load_relaxed(), true);
  fill(pa, pa.zones[raw(zone_idx::normal)], pa.memalloc_pool, pa.memalloc_pool_target, false);
  pa.refilling.store_relaxed(0);
}

}  // inline namespace
}  // namespace kmem
