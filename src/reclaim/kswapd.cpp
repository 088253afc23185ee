// kswapd: a thread that frees memory before allocations have to do it themselves.
//
// What for.  Below the low watermark somebody must reclaim. kswapd does until a zone is above high again, so that most allocations that
//            may sleep need not, and those that may not sleep find pages above min.
// States.    No thread -> starting -> running -> stopping; back to none when it has been stopped, when the system refuses a thread, and in
//            the child of a fork. A running one is asleep (word 0), or wanted or at work (word 1). It may have given up: after
//            kswapd_rounds rounds in a row without progress it sleeps until pages were freed by somebody else, and then tries once for
//            each time.
// Round.     Drain every CPU; then, for priorities 12 to 1: ask the callbacks with GFP_KERNEL until one of the zones that
//            were asked for is above its high watermark. A priority that frees what is missing is kept. After it: room for a block of the
//            order asked for, and the reserves filled. In between, and when there is nothing to do, reserves that have grown shrink again.
// Locks.     None held while it works; callbacks run as in direct reclaim.
// Contexts.  Waking: any, signal handlers included. Starting the thread: process context that may block, outside of the allocator's own
//            slow paths and of reclaim, since the C library may allocate for it. All signals are blocked in the thread. What runs on it may
//            use the reserves and does not reclaim (memalloc_noreclaim_scope).
// Ordering.  pairs: kswapd_word - who wakes it writes what he wants and then exchanges the word for 1; kswapd exchanges it for 0 and then
//            looks whether somebody wants something. Both are read-modify-writes of one word: one of the two sees the other.
//            pairs: kswapd_hopeless - who sees that it has given up sees since which count of frees.
//            pairs: kswapd_life - who stops the thread sees its handle.
// Kernel.    The same watermarks, priorities, rounds and short sleep before a long one. Here a thread in a process: it starts when it is
//            first needed, and by default only if there is another thread. There is one a machine, and no compaction: room for a block
//            is made by giving scattered pages back. DMA and DMA32 count only for who asks for them; there, what low zones keep from
//            other requests has that effect on machines of the usual sizes. Once it has given up, a free lets it try one round, not
//            sixteen.
// Tests.     tests/unit/reclaim/kswapd_test.cpp, tests/promises/reserve_promises_test.cpp, tests/sim/sim_kswapd_test.cpp
#include "reclaim/reclaim.hpp"

#include <new>

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr unsigned first_priority = 12;                // the kernel's DEF_PRIORITY
constexpr uint64_t pages_least = 32;                   // asked for at once (the kernel's SWAP_CLUSTER_MAX)
constexpr uint64_t short_sleep_ns = 100'000'000;       // the kernel's HZ / 10
constexpr uint64_t forever_ns = ~uint64_t{0};
constexpr uint64_t poll_ns = 1'000'000;                // arbitrary: for the end that another thread waits for
constexpr uint64_t start_again_ns = 1'000'000'000;     // arbitrary: after the system has refused a thread

constinit rate_limit start_reports{60'000'000'000, 1};  // arbitrary

/// What those who woke it want.
struct work {
  unsigned order = 0;
  zone_idx highest = zone_idx::dma;
};

bool is_balanced(const machine& m, const work& w) noexcept {
  return some_zone_above(m, watermark::high, uint64_t{1} << w.order, w.highest);
}

void raise_to(atomic<uint32_t>& word, uint32_t value) noexcept {
  uint32_t now = word.load_relaxed();
  while (now < value && !word.try_cmpxchg_relaxed(now, value)) {
  }
}

/// Adds what was asked for meanwhile. Return: whether there was anything.
bool take_work(kswapd_state& k, work& w) noexcept {
  const uint32_t highest = k.highest.exchange_relaxed(0), order = k.order.exchange_relaxed(0);
  if (highest == 0) return false;
  if (order > w.order) w.order = order;
  if (highest - 1 > static_cast<uint32_t>(w.highest)) w.highest = static_cast<zone_idx>(highest - 1);
  return true;
}

// ---- rounds -------------------------------------------------------------------------------------------------------------------

/// One pass over everything that can free. Return: pages freed.
uint64_t reclaim_once(machine& m, uint64_t wanted, unsigned priority) noexcept {
  uint64_t freed = run_callbacks(m, gfp::kernel, wanted);
  if (freed < wanted) {
    // A shrinker that allocates and frees what it needs itself frees pages, too, for ever: only with objects of its own it is progress.
    const uint64_t before = nr_freed_pages(m);
    if (run_shrinkers(m, gfp::kernel, priority) != 0) freed += nr_freed_pages(m) - before;
  }
  m.kswapd.pgscan_kswapd.fetch_add_relaxed(wanted);
  m.kswapd.pgsteal_kswapd.fetch_add_relaxed(freed);
  if (freed != 0) drain_cpu_pages(m, true);
  return freed;
}

/// Return: pages freed; `balanced`: whether a zone is above high.
uint64_t run_round(machine& m, const work& w, bool& balanced) noexcept {
  m.kswapd.pageoutrun.fetch_add_relaxed(1);
  drain_caches(m, true);
  drain_cpu_pages(m, true);
  uint64_t freed = 0;
  balanced = is_balanced(m, w);
  for (unsigned priority = first_priority; priority >= 1 && !balanced && m.kswapd.stop.load_relaxed() == 0;) {
    const uint64_t missing = pages_missing(m, watermark::high, w.highest) + (uint64_t{1} << w.order) - 1;
    const uint64_t wanted = missing < pages_least ? pages_least : missing;
    const uint64_t got = reclaim_once(m, wanted, priority);
    freed += got;
    if (got < wanted) --priority;
    balanced = is_balanced(m, w);
  }
  if (w.order != 0) make_room_for_block(m, order_t(w.order), w.highest);
  refill_reserve(m);
  end_throttling(m);
  return freed;
}

/// Rounds until a zone is above high, or there is no hope.
void run_rounds(machine& m, work& w) noexcept {
  kswapd_state& k = m.kswapd;
  if (k.hopeless.load_relaxed() != 0) {
    k.failures = kswapd_rounds - 1;
    k.hopeless.store_relaxed(0);
  }
  while (k.stop.load_relaxed() == 0) {
    take_work(k, w);
    // Before the round: what is freed while it runs is a reason to try again.
    const uint64_t frees = nr_freed_pages(m);
    bool balanced = false;
    const uint64_t freed = run_round(m, w, balanced);
    if (balanced) return;
    k.failures = freed != 0 ? 0 : k.failures + 1;
    if (freed == 0) k.vain_rounds.fetch_add_relaxed(1);
    if (k.failures < kswapd_rounds) continue;
    k.surrenders.fetch_add_relaxed(1);
    k.hopeless_at.store_relaxed(frees);
    k.hopeless.store_release(1);  // pairs: kswapd_hopeless
    return;
  }
}

// ---- sleeping -----------------------------------------------------------------------------------------------------------------

/// It has given up, and nobody has freed a page since.
bool without_hope(const machine& m) noexcept {
  const kswapd_state& k = m.kswapd;
  return k.hopeless.load_acquire() != 0 && nr_freed_pages(m) == k.hopeless_at.load_relaxed();  // pairs: kswapd_hopeless
}

/// Sleeps while nobody wants anything, at most `timeout_ns`. Return: whether somebody does.
bool sleep_unless_wanted(machine& m, uint64_t timeout_ns) noexcept {
  kswapd_state& k = m.kswapd;
  const uint64_t end = timeout_ns == forever_ns ? forever_ns : plat::now_ns() + timeout_ns;
  while (k.word.load_relaxed() == 0) {
    const uint64_t now = plat::now_ns();
    if (now >= end) return false;
    wait_or_serve(m, k.word.word(), end == forever_ns ? forever_ns : end - now);
  }
  return true;
}

/// Goes to sleep and returns when there is work, added to `w`, or when the thread is to end.
void rest(machine& m, work& w) noexcept {
  kswapd_state& k = m.kswapd;
  const uint64_t begin = plat::now_ns();
  k.asleep_since.store_relaxed(begin);
  k.word.exchange_acq_rel(0);  // pairs: kswapd_word
  // What was asked for while it worked; but if it has given up, a request alone is no reason to try again.
  bool wanted = k.stop.load_relaxed() != 0 || (k.highest.load_relaxed() != 0 && !without_hope(m));
  if (!wanted && k.hopeless.load_relaxed() == 0) {
    wanted = sleep_unless_wanted(m, short_sleep_ns);
    if (wanted) {
      k.wakes.fetch_add_relaxed(1);
      m.kswapd.kswapd_low_wmark_hit_quickly.fetch_add_relaxed(1);
    } else if (!is_balanced(m, w)) {
      m.kswapd.kswapd_high_wmark_hit_quickly.fetch_add_relaxed(1);
      wanted = true;
    }
  }
  if (!wanted) w = {};
  while (!wanted) {
    const bool again = decay_reserves(m, plat::now_ns());
    wanted = sleep_unless_wanted(m, again ? reserve_decay_after_ns : forever_ns);
    if (wanted) k.wakes.fetch_add_relaxed(1);
  }
  k.asleep_since.store_relaxed(0);
  k.slept_ns.fetch_add_relaxed(plat::now_ns() - begin);
  k.word.exchange_acq_rel(1);  // pairs: kswapd_word
}

void run_kswapd(void* argument) noexcept {
  machine& m = *static_cast<machine*>(argument);
  const memalloc_noreclaim_scope scope;
  current().is_kswapd = true;
  work w;
  // Who started it has something to do for it.
  m.kswapd.wakes.fetch_add_relaxed(1);
  m.kswapd.word.exchange_acq_rel(1);  // pairs: kswapd_word
  while (m.kswapd.stop.load_relaxed() == 0) {
    run_rounds(m, w);
    rest(m, w);
  }
}

// ---- starting and waking --------------------------------------------------------------------------------------------------------

KMEM_COLD void report_refused() noexcept {
  uint32_t missed = 0;
  if (!start_reports.allow(plat::now_ns(), missed)) return;
  constexpr const char* text =
      "kmem: the system refuses a thread for kswapd: allocations that may sleep reclaim themselves; raise RLIMIT_NPROC or the cgroup's "
      "pids.max, or set vm.kswapd=0";
  printk(log_level::warning, text, __builtin_strlen(text));
}

/// Starts the thread if that may be done here. Return: whether it runs.
bool start(machine& m, gfp_t gfp) noexcept {
  kswapd_state& k = m.kswapd;
  if (!may_block(gfp) || current().depth != 0 || in_atomic()) return false;
  if (m.config.kswapd == kswapd_mode::when_threaded && plat::single_threaded()) return false;
  const uint64_t now = plat::now_ns();
  if (now < k.start_after_ns.load_relaxed()) return false;
  kswapd_life none = kswapd_life::none;
  if (!k.life.try_cmpxchg_acquire(none, kswapd_life::starting)) return false;  // pairs: kswapd_life
  const bool started = plat::start_thread(k.thread, run_kswapd, &m, "kswapd0");
  if (!started) {
    k.start_after_ns.store_relaxed(now + start_again_ns);
    report_refused();
  }
  k.life.store_release(started ? kswapd_life::running : kswapd_life::none);  // pairs: kswapd_life
  return started;
}

bool wake_op(void* context, gfp_t gfp, unsigned order, zone_idx highest) noexcept {
  machine& m = *static_cast<machine*>(context);
  kswapd_state& k = m.kswapd;
  if (without_hope(m)) return false;
  raise_to(k.order, order < m.max_order ? order : 0);  // what no block can be made for is not its work
  raise_to(k.highest, static_cast<uint32_t>(highest) + 1);
  if (k.life.load_relaxed() != kswapd_life::running) return start(m, gfp);
  if (k.word.exchange_acq_rel(1) == 0) plat::futex_wake(k.word.word(), 1);  // pairs: kswapd_word
  return true;
}

void forget(kswapd_state& k) noexcept {
  k.word.store_relaxed(0);
  k.stop.store_relaxed(0);
  k.order.store_relaxed(0);
  k.highest.store_relaxed(0);
  k.hopeless.store_relaxed(0);
  k.start_after_ns.store_relaxed(0);
  k.asleep_since.store_relaxed(0);
  k.failures = 0;
  k.life.store_release(kswapd_life::none);  // pairs: kswapd_life
}

}  // namespace

err kswapd_init(machine& m) noexcept {
  forget(m.kswapd);
  if (m.config.kswapd == kswapd_mode::off) return err::ok;
  reclaim_ops ops;
  ops.context = &m;
  ops.wake_kswapd = wake_op;
  return register_reclaim_ops(m, ops);
}

uint64_t kswapd_slept_ns(const machine& m) noexcept {
  const uint64_t since = m.kswapd.asleep_since.load_relaxed(), now = plat::now_ns();
  return m.kswapd.slept_ns.load_relaxed() + (since != 0 && now > since ? now - since : 0);
}

void kswapd_stop(machine& m) noexcept {
  kswapd_state& k = m.kswapd;
  if (current().is_kswapd) return;  // it cannot wait for itself
  for (;;) {
    kswapd_life life = k.life.load_acquire();  // pairs: kswapd_life
    if (life == kswapd_life::none || life == kswapd_life::starting) return;
    if (life == kswapd_life::running && k.life.try_cmpxchg_acquire(life, kswapd_life::stopping)) break;  // pairs: kswapd_life
    uint32_t nobody = 0;
    plat::futex_wait(&nobody, 0, poll_ns);  // somebody else stops it
  }
  k.stop.store_relaxed(1);
  if (k.word.exchange_acq_rel(1) == 0) plat::futex_wake(k.word.word(), 1);  // pairs: kswapd_word
  plat::join_thread(k.thread);
  forget(k);
}

void kswapd_fork_child(machine& m) noexcept {
  plat::forget_thread(m.kswapd.thread);
  forget(m.kswapd);
}

}  // inline namespace
}  // namespace kmem
