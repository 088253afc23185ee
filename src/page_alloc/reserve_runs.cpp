// Runs of the reserve: pages in one piece for who cannot have the zone's lock, because it has interrupted its holder.
//
// What for. A signal handler may want more than a page where no lock can be had. The reserve's single pages would not do.
// States.   A run here has kind reserve_run and its length in its head. As single pages of the reserve its pages are free (not `taken`),
//           committed and in no bitmap; they need not be backed, and at first are not. They are as long as page blocks where there are
//           any. Who takes from a run cuts off what it needs, and what is left on both sides are pieces, which are looked at first. A free
//           that cannot have the lock makes a piece of what it frees, up to the target. When anything was taken or put (`runs_due`), the
//           next slow path that interrupted nobody fetches runs anew, if the zone has plenty, and only then gives the pieces back to the
//           free areas: a handler that interrupts it finds runs, too. Who finds nothing else dissolves all, so that they cost nobody a
//           page.
// Equation. Of runs and of pieces: nr_pages == sum of the lengths of those on the stack, but while one is pushed or popped.
// Locks.    None for taking and putting: any context, but for the walk of the stack by one request at a time, which is why a request
//           that finds its piece missing may have been passed over by another one that looks at the same moment. The zone's lock for
//           dissolving and fetching.
// Ordering. pairs: page_stack - as in reserve.cpp; the head's length is written before the push.
// Kernel.   None: an interrupt cannot come upon the holder of a zone's lock there, which is taken with interrupts off.
// Tests.    tests/unit/page_alloc/reserve_runs_test.cpp, tests/programs/preload_signals.py
#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr unsigned looked_at_most = 16;              // runs that one request looks at; arbitrary
constexpr uint64_t large_zone = uint64_t{64} << (20 - page_shift);  // from 64 MiB on four whole runs, from half of it two; arbitrary
constexpr uint64_t run_most = pages_per_block;
constexpr uint64_t run_least = 8;  // where free pages are scattered so much, none are set aside; arbitrary

/// Context: inside a nest_guard.
void push_run(page_allocator& pa, zone& z, run_stack& to, pfn_t first, uint64_t n) noexcept {
  page& p = pa.page_of(first);
  p.kind = page_kind::reserve_run;
  p.zone = static_cast<uint8_t>(z.idx);
  p.order = static_cast<uint8_t>(order_of(n));
  p.flags = 0;
  p.run = {static_cast<uint32_t>(n)};
  stack_push(pa, to.stack, first);
  to.nr_pages.fetch_add_relaxed(n);
  z.taken.fetch_sub_relaxed(n);
}

/// The first run of a stack, `taken`, or none. Context: inside a nest_guard.
pfn_t pop_run(page_allocator& pa, zone& z, run_stack& from) noexcept {
  const pfn_t run = stack_pop(pa, from.stack);
  if (run.is_none()) return run;
  const uint64_t n = pa.page_of(run).run.nr_pages;
  from.nr_pages.fetch_sub_relaxed(n);
  z.taken.fetch_add_relaxed(n);
  return run;
}

uint64_t length_of(const page_allocator& pa, pfn_t run) noexcept { return pa.pages[run.raw()].run.nr_pages; }

/// Where in a run an aligned piece begins. Return: none if the run has none.
pfn_t piece_of(const page_allocator& pa, pfn_t run, uint64_t n, unsigned order) noexcept {
  const uint64_t first = round_up(uint64_t{run.raw()}, uint64_t{1} << order);
  return first + n <= run.raw() + length_of(pa, run) ? pfn_t(static_cast<uint32_t>(first)) : pfn_t();
}

/// Cuts a piece off one of the first runs of a stack that have one. Context: inside a nest_guard.
pfn_t take_from(page_allocator& pa, zone& z, run_stack& from, uint64_t n, unsigned order) noexcept {
  pfn_t aside[looked_at_most], found;
  unsigned nr_aside = 0;
  while (found.is_none() && nr_aside < looked_at_most) {
    const pfn_t run = pop_run(pa, z, from);
    if (run.is_none()) break;
    found = piece_of(pa, run, n, order);
    if (found.is_none()) {
      aside[nr_aside++] = run;
      continue;
    }
    const uint64_t before = found.raw() - run.raw(), behind = length_of(pa, run) - before - n;
    mark_allocated(pa.page_of(found), z, order, n);
    if (before != 0) push_run(pa, z, z.run_pieces, run, before);
    if (behind != 0) push_run(pa, z, z.run_pieces, found + nr_pages_t(n), behind);
  }
  for (; nr_aside != 0; --nr_aside) push_run(pa, z, from, aside[nr_aside - 1], length_of(pa, aside[nr_aside - 1]));
  return found;
}

uint64_t dissolve(page_allocator& pa, zone& z, run_stack& which) noexcept {
  const nest_guard guard;
  if (!acquire(z.lock)) return 0;
  uint64_t moved = 0;
  for (;;) {
    const pfn_t run = pop_run(pa, z, which);
    if (run.is_none()) break;
    const uint64_t n = length_of(pa, run);
    pa.page_of(run).kind = page_kind::free;
    put_locked(pa, z, run, n, false);
    moved += n;
  }
  z.lock.unlock();
  return moved;
}

uint64_t count_on(const page_allocator& pa, const page_stack& stack) noexcept {
  uint64_t sum = 0;
  for (pfn_t run(static_cast<uint32_t>(stack.head.load_relaxed())); !run.is_none();) {
    sum += length_of(pa, run);
    run = pfn_t(pa.pages[run.raw()].refcount.load_relaxed());
  }
  return sum;
}

/// Is there so much free that runs may be set aside?
bool has_plenty(const zone& z) noexcept {
  return zone_free(z) > z.watermarks[static_cast<unsigned>(watermark::high)] + 2 * z.run_target;
}

}  // namespace

void set_run_targets(page_allocator& pa) noexcept {
  zone& z = pa.zones[raw(zone_idx::normal)];
  z.run_target = z.managed_most >= large_zone ? 4 * run_most : z.managed_most >= large_zone / 2 ? 2 * run_most : 0;
}

pfn_t reserve_take_run(page_allocator& pa, zone& z, uint64_t n, unsigned order) noexcept {
  const nest_guard guard;
  pfn_t found = take_from(pa, z, z.run_pieces, n, order);
  if (found.is_none()) found = take_from(pa, z, z.runs, n, order);
  pa.runs_due.store_relaxed(1);
  return found;
}

bool reserve_put_run(page_allocator& pa, page* p) noexcept {
  zone& z = zone_of(pa, *p);
  const uint64_t n = pages_of_head(*p);
  if (run_pages_of(z) + n > z.run_target) return false;
  const nest_guard guard;
  push_run(pa, z, z.run_pieces, pa.pfn_of(p), n);
  pa.runs_due.store_relaxed(1);
  return true;
}

uint64_t dissolve_runs(page_allocator& pa, zone& z) noexcept {
  if (KMEM_LIKELY(run_pages_of(z) == 0)) return 0;
  pa.runs_due.store_relaxed(1);
  const uint64_t pieces = dissolve(pa, z, z.run_pieces);
  return pieces + dissolve(pa, z, z.runs);
}

void settle_runs(page_allocator& pa) noexcept {
  zone& z = pa.zones[raw(zone_idx::normal)];
  if (z.run_target == 0 || !has_plenty(z) || pa.runs_due.exchange_relaxed(0) == 0) return;
  while (z.runs.nr_pages.load_relaxed() < z.run_target && has_plenty(z)) {
    pfn_t first;
    const bool has_room = zone_headroom(z) > 2 * z.run_target;
    const uint64_t n = fetch_pages(pa, z, {.order = block_order, .wanted = run_most, .prefer_absent = has_room}, first);
    if (n == 0) break;
    {
      const nest_guard guard;
      push_run(pa, z, z.runs, first, n);
    }
    if (n < run_least) break;
  }
  if (z.run_pieces.nr_pages.load_relaxed() != 0) dissolve(pa, z, z.run_pieces);
}

void recount_runs(page_allocator& pa, zone& z) noexcept {
  for (run_stack* each : {&z.runs, &z.run_pieces}) each->nr_pages.store_relaxed(count_on(pa, each->stack));
}

bool runs_are_counted(const page_allocator& pa, const zone& z) noexcept {
  for (const run_stack* each : {&z.runs, &z.run_pieces})
    if (each->nr_pages.load_relaxed() != count_on(pa, each->stack)) return false;
  return true;
}

}  // inline namespace
}  // namespace kmem
