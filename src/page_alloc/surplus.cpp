// Surplus: backed pages that nobody uses go back to the system as a program frees, not only when memory is short.
//
// What for. A process that has freed what it held should not stay as large as it ever was, and one whose sizes drift should not keep a hole
//          for each size that it has passed. There is no thread that could do it later: the free that makes the surplus gives it back.
// States.  A zone keeps keep_free_pages, an eighth of what is taken, and `regretted`. What is free and backed above that is surplus.
//          Whole blocks go at once, and what is free in blocks that are less than half used: a block costs 70 us to give back and 700 us
//          to fault in again. So that programs which fill and empty their heap again and again pay once: absent pages that are taken soon
//          after others were given back count as regretted, and that many more are kept from then on, until a window shows that they are
//          not used. Single pages between used ones cost as much to give back as to fault in: of fuller blocks only those go that a whole
//          window saw unused, and a bounded number in each.
//          A heap that has shrunk to half is drained of what caches hold at hand, a bounded number of times in each window: single objects
//          in arrays and barns and empty slabs, each in another block, would keep what they lie in.
// Locks.   None held; the zone's is taken by give_back_zone(). Not in nested calls, in atomic context, or while somebody waits: there
//          everything free is wanted, and giving back is the chain's own step.
// Ordering. None: the counters are hints, and a lost update shifts a threshold.
// Kernel.  None: a kernel has no one to give memory back to.
// Tests.   tests/unit/page_alloc/surplus_test.cpp
#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint64_t window_ns = 1'000'000'000;    // arbitrary: between looks whether something was used
constexpr uint64_t windows_of_regret = 8;        // arbitrary: who comes back later than so many windows would have paid in any case
constexpr uint64_t singles_per_window = 8192;    // about 20 ms of each second
constexpr uint32_t drains_per_window = 16;       // about 1 ms of each second
constexpr unsigned half_used = nr_occupancy_lists / 2;
constexpr uint32_t looks_between_windows = 64;   // arbitrary: reading the clock at every free would cost as much as the free

constexpr uint64_t above(uint64_t value, uint64_t bound) noexcept { return value > bound ? value - bound : 0; }

uint64_t kept(const page_allocator& pa, const zone& z) noexcept { return surplus_bound(pa, z) + z.regretted.load_relaxed(); }

/// The end of a window: what it saw unused is regretted no longer, and single pages of it go.
void end_window(page_allocator& pa, zone& z, uint64_t nr_windows) noexcept {
  const uint64_t unused = z.present_low.load_relaxed();
  z.present_low.store_relaxed(z.present_free.load_relaxed());
  z.drains_left.store_relaxed(drains_per_window);
  z.given_lately.store_relaxed(nr_windows >= windows_of_regret ? 0 : z.given_lately.load_relaxed() / 2);
  const uint64_t spare = above(unused, surplus_bound(pa, z)), regretted = z.regretted.load_relaxed();
  z.regretted.store_relaxed(above(regretted, spare));
  const uint64_t singles = above(spare, regretted);
  if (singles != 0) give_back_zone(pa, z, singles < singles_per_window ? singles : singles_per_window, true, false);
}

/// Has the heap shrunk so much that what caches hold at hand is more than they need?
bool has_shrunk(const page_allocator& pa, zone& z) noexcept {
  const uint64_t taken = z.taken.load_relaxed();
  if (z.taken_high.load_relaxed() < pa.keep_free_pages + 2 * taken || z.drains_left.load_relaxed() == 0) return false;
  z.taken_high.store_relaxed(taken);
  z.drains_left.fetch_sub_relaxed(1);
  return true;
}

}  // namespace

void give_back_surplus_slow(page_allocator& pa, zone& z) noexcept {
  const uint64_t present = z.present_free.load_relaxed();
  const bool often = present < z.surplus_seen.load_relaxed() + surplus_step;
  if (often && z.surplus_looks.fetch_add_relaxed(1) % looks_between_windows != 0) return;
  const task_context& task = current();
  if (z.fixed_pfns || somebody_waits(pa) || (task.depth | task.preempt_count | task.irqs_off) != 0) return;
  const uint64_t now = plat::now_ns();
  uint64_t began = z.surplus_window_ns.load_relaxed();
  if (now - began >= window_ns && z.surplus_window_ns.try_cmpxchg_relaxed(began, now)) end_window(pa, z, (now - began) / window_ns);
  if (has_shrunk(pa, z)) drain(pa, false);
  const uint64_t surplus = above(z.present_free.load_relaxed(), kept(pa, z));
  if (surplus >= surplus_step) z.given_lately.fetch_add_relaxed(give_back_zone(pa, z, surplus, true, false, half_used));
  const uint64_t left = z.present_free.load_relaxed(), bound = kept(pa, z);
  z.surplus_seen.store_relaxed(left > bound ? left : bound);
}

}  // inline namespace
}  // namespace kmem
