// The chain: what an allocation does after the free areas have refused it, in the order of chain_step, each step if its flags permit it.
//
// States.   A request moves forward only: drain_try, reserve, then passes of drain_all, transit, give_back and reclaim while a pass makes
//           progress, then OOM notifiers, then wait, then fail. After every step it tries the zones again. Two go another way: who is
//           behind somebody that waits does so first, and who asks for more than there can ever be fails at once.
// Locks.    None is held between two steps; callbacks run with none held and no nest_guard, so that what they free takes the usual way.
//           Context: any for steps that do not block; the others may sleep.
// Ordering. Waiting: wait.cpp.
// Kernel.   Compaction's place is taken by giving scattered pages back and backing a fresh run of the zone's span.
//           __GFP_NOFAIL with a mask that may not block is a contradiction: reported, NULL. Throttling ends after a tenth of a second
//           for every request; the kernel's has no end for those that may call file systems.
// Tests.    tests/unit/page_alloc/chain_test.cpp, wait_test.cpp
#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint64_t ns_per_ms = 1'000'000;
constexpr uint64_t transit_wait_ns = 20 * ns_per_ms;  // giving a batch back takes less; a bound in case its thread is not run
constexpr uint64_t give_back_pause_ns = 20 * ns_per_ms;  // arbitrary: not to give back in vain all the time
constexpr uint64_t throttle_ns = 100 * ns_per_ms;

}  // namespace

bool permitted(chain_step step, const request& r) noexcept {
  unsigned order = r.order < 255 ? r.order : 255;
  if (step == chain_step::give_back && r.kind == request_kind::charge && order == 0) order = 1;  // pages outside need headroom, not pages
  return step_permitted(step, r.gfp, order_t(order));
}

uint64_t drain(page_allocator& pa, bool may_wait) noexcept {
  uint64_t moved = drain_cpu_pages(pa, may_wait);
  for (const reclaim_ops& ops : pa.ops)
    if (ops.drain_caches != nullptr) moved += ops.drain_caches(ops.context, may_wait);
  // Pages that caches have freed stop in this CPU's list first.
  return moved + (moved != 0 ? drain_cpu_pages(pa, may_wait) : 0);
}

namespace {

bool is_nofail(const request& r) noexcept { return !may_fail(r.gfp); }

/// More than half of what ordinary requests must leave is there.
bool reserve_is_half_full(const page_allocator& pa) noexcept {
  uint64_t free = 0, min = 0;
  for (unsigned i = 0; i <= raw(zone_idx::normal); ++i) {
    if (pa.zones[i].nr_blocks == 0) continue;
    free += zone_free(pa.zones[i]);
    min += pa.zones[i].watermarks[static_cast<unsigned>(watermark::min)];
  }
  return free > min / 2 || min == 0;
}

/// Atomic requests have used up most of the reserve: gives kswapd time before all go reclaiming at once.
void throttle(page_allocator& pa, const request& r) noexcept {
  const uint32_t word = pa.throttle.load_relaxed();  // before kswapd is woken, which may be done with its round at once
  if (reserve_is_half_full(pa) || current().depth != 0 || !wake_kswapd_if_low(pa, r)) return;
  pa.stats.pgscan_direct_throttle.fetch_add_relaxed(1);
  const uint64_t deadline = plat::now_ns() + throttle_ns;
  while (pa.throttle.load_relaxed() == word) {
    const uint64_t now = plat::now_ns();
    if (reserve_is_half_full(pa) || now >= deadline || ended_early(r, now) != wait_outcome::none) return;
    check_schedule();
    plat::futex_wait(pa.throttle.word(), word, deadline - now);
  }
}

uint64_t run_reclaim(page_allocator& pa, const request& r) noexcept {
  uint64_t freed = 0;
  throttle(pa, r);
  step_aside(pa, r, true);
  {
    const memalloc_noreclaim_scope scope;
    for (const reclaim_ops& ops : pa.ops)
      if (ops.reclaim != nullptr) freed += ops.reclaim(ops.context, r.gfp, r.n);
  }
  step_aside(pa, r, false);
  pa.stats.pgscan_direct.fetch_add_relaxed(r.n);
  pa.stats.pgsteal_direct.fetch_add_relaxed(freed);
  if (freed == 0) return 0;
  pa.stats.pgreclaimed.fetch_add_relaxed(freed);
  drain_cpu_pages(pa, true);
  return freed;
}

/// The last resort before waiting or failing. Return: pages freed.
uint64_t run_out_of_memory(page_allocator& pa, const request& r, chain_step& reached) noexcept {
  uint64_t freed = 0;
  const memalloc_noreclaim_scope scope;
  for (const reclaim_ops& ops : pa.ops) {
    if (ops.out_of_memory == nullptr) continue;
    reached = chain_step::oom;
    freed += ops.out_of_memory(ops.context, r.gfp, r.order);
  }
  return freed;
}

bool take_from_pool(page_allocator& pa, request& r) noexcept {
  if (!has(r.gfp, gfp::memalloc) || has(r.gfp, gfp::nomemalloc) || r.kind == request_kind::charge || r.n != 1) return false;
  if (r.highest < zone_idx::normal) return false;
  pfn_t pfn;
  {
    const nest_guard guard;  // against the walk in the child of a handler's fork
    pfn = stack_pop(pa, pa.memalloc_pool);
    if (pfn.is_none()) return false;
    mark_allocated(pa.page_of(pfn), pa.zones[raw(zone_idx::normal)], 0, 1);
  }
  r.run = {};
  r.run.first = pfn;
  r.run.dirty.words[0] = 1;
  r.zone = static_cast<int>(zone_idx::normal);
  pa.stats.pgalloc.fetch_add_relaxed(1);
  return true;
}

bool pages_in_transit(const page_allocator& pa, const request& r) noexcept {
  for (unsigned i = 0; i <= raw(r.highest); ++i)
    if (pa.zones[i].in_transit.load_relaxed() != 0) return true;
  return false;
}

/// A thread that is about to sleep for pages in transit, seen by every free.
class announced_waiter {
 public:
  [[nodiscard]] explicit announced_waiter(page_allocator& pa) noexcept
      : pa_(pa), generation_(pa.queue.generation), sequence_(pa.free_sequence.load_relaxed()) {
    announce_waiter(pa);
  }
  ~announced_waiter() {
    if (generation_ == pa_.queue.generation) retract_waiter(pa_);
  }
  announced_waiter(const announced_waiter&) = delete;
  announced_waiter& operator=(const announced_waiter&) = delete;
  void wait(uint64_t timeout_ns) noexcept { sleep_in_transit(pa_, sequence_, timeout_ns); }

 private:
  page_allocator& pa_;
  const uint32_t generation_;
  const uint32_t sequence_;
};

/// An attempt, unless others come first.
bool attempt_in_turn(page_allocator& pa, request& r) noexcept { return in_turn(pa, r) && attempt(pa, r); }

/// Waits until pages in transit have arrived, or for a bounded time.
bool wait_for_transit(page_allocator& pa, request& r) noexcept {
  const uint64_t deadline = plat::now_ns() + transit_wait_ns;
  while (pages_in_transit(pa, r)) {
    announced_waiter waiter(pa);
    if (attempt_in_turn(pa, r)) return true;
    const uint64_t now = plat::now_ns();
    if (now >= deadline) return false;
    if (pages_in_transit(pa, r)) waiter.wait(deadline - now);
  }
  return attempt_in_turn(pa, r);
}

/// Commits up to n pages of headroom for the request.
uint64_t claim_headroom(zone& z, uint64_t n) noexcept {
  nest_guard guard;
  if (!acquire(z.lock)) return 0;
  const uint64_t headroom = zone_headroom(z), claimed = headroom < n ? headroom : n;
  z.committed.store_relaxed(z.committed.load_relaxed() + claimed);
  add_claimed(z, claimed);
  z.lock.unlock();
  return claimed;
}

/// Gives scattered pages back, so that as many may be backed in one piece. Return: whether the request was served; `given` counts the
/// pages.
bool give_back_and_attempt(page_allocator& pa, request& r, uint64_t& given) noexcept {
  if (r.waiting != nullptr && (!in_turn(pa, r) || plat::now_ns() < r.give_back_at_ns)) return false;
  for (unsigned i = raw(r.highest) + 1; i-- != 0;) {
    zone& z = pa.zones[i];
    if (z.nr_blocks == 0 || (z.fixed_pfns && r.kind != request_kind::charge)) continue;
    if (!above_floor(z, r.n, floor_for(pa, z, r))) continue;
    uint64_t& claim = r.claims[i];
    claim = claim_headroom(z, r.n);
    if (claim < r.n) {
      const uint64_t got = give_back_zone(pa, z, r.n - claim, true, true);
      claim += got;
      given += got;
    }
    const bool done = claim >= r.n && attempt(pa, r);
    release_claims(pa, r);
    if (done) return true;
    r.give_back_at_ns = plat::now_ns() + give_back_pause_ns;
  }
  return false;
}

}  // namespace

bool try_in_turn(page_allocator& pa, request& r) noexcept {
  if (attempt_in_turn(pa, r)) return true;
  uint64_t given = 0;
  return permitted(chain_step::give_back, r) && give_back_and_attempt(pa, r, given);
}

bool blocking_pass(page_allocator& pa, request& r, chain_step& reached, uint64_t& progress) noexcept {
  progress = 0;
  if (permitted(chain_step::drain_all, r)) {
    reached = chain_step::drain_all;
    progress += drain(pa, true);
    if (attempt_in_turn(pa, r)) return true;
  }
  if (permitted(chain_step::transit, r) && pages_in_transit(pa, r)) {
    reached = chain_step::transit;
    if (wait_for_transit(pa, r)) return true;
  }
  if (permitted(chain_step::give_back, r)) {
    reached = chain_step::give_back;
    if (give_back_and_attempt(pa, r, progress)) return true;
  }
  if (permitted(chain_step::reclaim, r)) {
    reached = chain_step::reclaim;
    const uint64_t freed = run_reclaim(pa, r);
    progress += freed;
    if (freed != 0) {
      if (attempt_in_turn(pa, r)) return true;
      if (permitted(chain_step::give_back, r) && give_back_and_attempt(pa, r, progress)) return true;
    }
  }
  return false;
}

namespace {

/// The most pages that a zone which the request may use can ever give to it, and the whole of these zones.
struct prospects {
  uint64_t best = 0, largest = 0, whole = 0;
};
prospects prospects_of(const page_allocator& pa, const request& r) noexcept {
  prospects result;
  for (unsigned i = 0; i <= raw(r.highest); ++i) {
    const zone& z = pa.zones[i];
    if (z.nr_blocks == 0) continue;
    const uint64_t managed = z.managed_most;
    const uint64_t floor = floor_for(pa, z, {r.gfp, r.realtime, permitted(chain_step::reserve, r)}, r.highest);
    const uint64_t most = managed > floor ? managed - floor : 0;
    result.whole += managed;
    if (managed > result.largest) result.largest = managed;
    if (most > result.best) result.best = most;
  }
  return result;
}

/// A request that can never be served, however much is freed.
bool is_hopeless(page_allocator& pa, const request& r) noexcept {
  const prospects of = prospects_of(pa, r);
  if (r.n <= of.best) return false;
  if (!is_nofail(r)) {
    if (!has(r.gfp, gfp::nowarn) && !r.quiet) report_hopeless(r, of.best);
    return true;
  }
  char text[200];
  text_writer(text, sizeof text)
      .str("__GFP_NOFAIL for ")
      .dec(r.n)
      .str(" pages, more than any zone it may use will ever have (")
      .dec(of.largest)
      .str(" pages, of a budget of ")
      .dec(of.whole)
      .str("): raise mem=");
  bug(text, __FILE__, __LINE__);
}

/// Who is behind others waits for its turn before it tries anything. Return: whether it was served.
bool wait_behind(page_allocator& pa, request& r, chain_step& reached) noexcept {
  if (!r.behind) return false;
  r.from_reserve = true;
  r.reserve_step = permitted(chain_step::reserve, r);
  return wait_for_memory(pa, r, reached);
}

bool run_chain(page_allocator& pa, request& r, chain_step& reached) noexcept {
  if (is_hopeless(pa, r)) {
    reached = chain_step::fail;
    return false;
  }
  if (wait_behind(pa, r, reached)) return true;
  reached = chain_step::drain_try;
  drain(pa, false);
  if (attempt(pa, r)) return true;
  r.from_reserve = true;
  if (attempt(pa, r) || take_from_pool(pa, r)) return true;
  if (permitted(chain_step::reserve, r) && (may_use_reserve(r.gfp) || !may_block(r.gfp))) {
    reached = chain_step::reserve;
    r.reserve_step = true;
    if (attempt(pa, r)) return true;
  }
  if (permitted(chain_step::drain_all, r)) {
    pa.stats.allocstall[raw(r.highest)].fetch_add_relaxed(1);
    const unsigned passes = passes_permitted(r.gfp, order_t(r.order < 255 ? r.order : 255));
    uint64_t progress = 1;
    for (unsigned pass = 0; pass < passes && progress != 0; ++pass) {
      if (pass != 0 && ended_early(r, plat::now_ns()) != wait_outcome::none) break;
      if (blocking_pass(pa, r, reached, progress)) return true;
    }
  }
  if (permitted(chain_step::oom, r) && run_out_of_memory(pa, r, reached) != 0) {
    drain_cpu_pages(pa, true);
    uint64_t progress = 0;
    if (attempt(pa, r) || blocking_pass(pa, r, reached, progress)) return true;
  }
  if (is_nofail(r) && permitted(chain_step::reserve, r)) {
    r.reserve_step = true;
    if (attempt(pa, r)) return true;
  }
  if (!r.behind && permitted(chain_step::wait, r) && wait_for_memory(pa, r, reached)) return true;
  // What signal handlers and other CPUs have freed meanwhile.
  drain_deferred(pa);
  return attempt(pa, r);
}

}  // namespace

void release_claims(page_allocator& pa, request& r) noexcept {
  for (unsigned i = 0; i < nr_zones; ++i) {
    if (r.claims[i] == 0) continue;
    zone& z = pa.zones[i];
    bool wake = false;
    {
      nest_guard guard;
      z.lock.lock();  // claims are made by blocking requests only, which are never nested
      z.committed.store_relaxed(z.committed.load_relaxed() - r.claims[i]);
      drop_claimed(z, r.claims[i]);
      wake = somebody_waits(pa);
      z.lock.unlock();
    }
    r.claims[i] = 0;
    if (wake) wake_waiters_but(pa, r.waiting, wake_cause::give_back);
  }
}

bool alloc_slow(page_allocator& pa, request& r) noexcept {
  note_path(path_chain);
  // Only the rule of 6.1 treats real-time threads differently; the question is a system call.
  if (pa.config.policy == reserve_policy::linux6_1) r.realtime = may_block(r.gfp) && !in_interrupt() && plat::realtime_thread();
  chain_step reached = chain_step::lists;
  const bool served = run_chain(pa, r, reached) || take_instead(r);
  if (served && may_block(r.gfp))
    current().last_wait = static_cast<uint8_t>(r.outcome == wait_outcome::served ? r.outcome : wait_outcome::none);
  drain_deferred(pa);
  if (may_block(r.gfp) && !has(r.gfp, gfp::memalloc) && reserve_is_low(pa)) refill_reserve(pa);
  if (!served) fail_request(pa, r, reached, false);
  return served;
}

void end_throttling(page_allocator& pa) noexcept {
  pa.throttle.fetch_add_relaxed(1);
  plat::futex_wake(pa.throttle.word(), 0x7fffffff);
}

const char* chain_step_name(chain_step step) noexcept {
  static constexpr const char* names[nr_chain_steps + 1] = {"lists",     "larger_class", "drain_try", "reserve", "drain_all", "transit",
                                                            "give_back", "reclaim",      "oom",       "wait",    "fail",      "refused"};
  return names[static_cast<unsigned>(step)];
}

}  // inline namespace
}  // namespace kmem
