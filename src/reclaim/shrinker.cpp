// Shrinkers: how many objects each is asked for, and how they come and go while others run them.
//
// Equations. count: what count_objects says. delta = (count >> priority) * 4 / seeks, or count / 2 for seeks 0.
//            due = (deferred >> priority) + delta, at most 2 * count; scanned in batches while due >= batch or due >= count.
//            deferred afterwards = what was deferred + delta - scanned, at least 0 and at most 2 * count.
// States.    A shrinker is unregistered, registered, or leaving: still linked, since threads inside it go on from it to the next one, but
//            not entered any more; who unregisters waits until nobody is inside, and unlinks it then.
//            Always, under the lock: sum of running over both lists == frames.
// Locks.     shrinker_state::lock, never held while a shrinker runs: it may register others, allocate and free.
// Contexts.  On the thread whose allocation is short of memory, or on kswapd; never in atomic context or a handler that interrupted the
//            allocator. Inside one nothing reclaims (scope_noreclaim), so a shrinker is not entered again by its own allocations.
// Kernel.    Its arithmetic, seen in sequences of calls recorded there (tests/data/oracle-shrinker.jsonl). Neither nodes nor memory groups.
//            What is deferred is one number for all callers. Page cache and user pages are callbacks here, asked before (callbacks.cpp).
// Tests.     tests/unit/reclaim/shrinker_test.cpp
#include "reclaim/reclaim.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint64_t recheck_ns = 100'000'000;  // arbitrary: who waits for the end of one looks again even if nobody wakes him
constexpr uint32_t state_unregistered = 0, state_registered = 1, state_leaving = 2;

void complain(const char* what, const char* name) noexcept {
  char text[200];
  text_writer line(text, sizeof text);
  line.str("kmem: ").str(what);
  if (name != nullptr) line.str(" (").str(name).ch(')');
  const void* pcs[printk_max_pcs];
  printk(log_level::err, text, line.length() < sizeof text ? line.length() : sizeof text - 1, pcs, capture_stack(pcs, printk_max_pcs));
}

/// Both kinds are lists of the same shape; these are their ends.
template <class Entry>
struct list_ends {
  Entry*& first;
  Entry*& last;
};
list_ends<shrinker> ends_of(shrinker_state& state, shrinker*) noexcept KMEM_REQUIRES(state.lock) { return {state.first, state.last}; }
list_ends<oom_notifier> ends_of(shrinker_state& state, oom_notifier*) noexcept KMEM_REQUIRES(state.lock) {
  return {state.first_notifier, state.last_notifier};
}
atomic<uint32_t>& count_of(shrinker_state& state, shrinker*) noexcept { return state.nr_shrinkers; }
atomic<uint32_t>& count_of(shrinker_state& state, oom_notifier*) noexcept { return state.nr_notifiers; }
const char* name_of(const shrinker& s) noexcept { return s.name; }
const char* name_of(const oom_notifier&) noexcept { return nullptr; }

template <class Entry>
err add(shrinker_state& state, Entry& e) noexcept {
  check_may_sleep(__FILE__, __LINE__);
  const nest_guard nest;
  if (!state.lock.lock_unless_nested()) return err::busy;
  const bool fresh = e.state == state_unregistered;
  if (fresh) {
    list_ends<Entry> ends = ends_of(state, &e);
    e.next = nullptr;
    e.previous = ends.last;
    e.running = 0;
    (ends.last != nullptr ? ends.last->next : ends.first) = &e;
    ends.last = &e;
    e.state = state_registered;
    count_of(state, &e).fetch_add_relaxed(1);
  }
  state.lock.unlock();
  return fresh ? err::ok : err::exist;
}

template <class Entry>
void unlink(shrinker_state& state, Entry& e) noexcept KMEM_REQUIRES(state.lock) {
  list_ends<Entry> ends = ends_of(state, &e);
  (e.previous != nullptr ? e.previous->next : ends.first) = e.next;
  (e.next != nullptr ? e.next->previous : ends.last) = e.previous;
  e.next = e.previous = nullptr;
  e.state = state_unregistered;
  count_of(state, &e).fetch_sub_relaxed(1);
}

template <class Entry>
void remove(shrinker_state& state, Entry& e) noexcept {
  check_may_sleep(__FILE__, __LINE__);
  bool known = false, inside = false;
  {
    const lock_guard lock(state.lock);
    known = e.state == state_registered;
    for (const shrinker_frame* f = state.frames; f != nullptr; f = f->next) inside |= f->thread == &current() && f->inside == &e;
    if (known && !inside) e.state = state_leaving;
  }
  if (!known) return complain("a shrinker or OOM notifier is unregistered that is not registered", name_of(e));
  if (inside) return complain("a shrinker or OOM notifier unregisters itself from inside, where it cannot be waited for", name_of(e));
  for (;;) {
    const uint32_t ends = state.ends.load_relaxed();
    {
      const lock_guard lock(state.lock);
      if (e.running == 0) return unlink(state, e);
    }
    plat::futex_wait(state.ends.word(), ends, recheck_ns);
  }
}

void enter(shrinker_state& state, shrinker_frame& frame, const void* inside, uint32_t& running) noexcept KMEM_REQUIRES(state.lock) {
  ++running;
  frame = {state.frames, &current(), inside, &running};
  state.frames = &frame;
}

void leave(shrinker_state& state, shrinker_frame& frame) noexcept KMEM_REQUIRES(state.lock) {
  shrinker_frame** link = &state.frames;
  while (*link != &frame) link = &(*link)->next;
  *link = frame.next;
  --*frame.running;
}

/// Goes through a list while it changes: each entry that may run is entered, run without the lock, and left for the next one.
template <class Entry, class May, class Run>
void for_each_entered(shrinker_state& state, Entry* tag, May may, Run run) noexcept {
  shrinker_frame frame;
  Entry* inside = nullptr;
  for (;;) {
    bool left = false;
    Entry* next = nullptr;
    {
      const lock_guard lock(state.lock);
      next = inside != nullptr ? inside->next : ends_of(state, tag).first;
      if (inside != nullptr) {
        leave(state, frame);
        left = true;
        state.ends.fetch_add_relaxed(1);
      }
      while (next != nullptr && (next->state != state_registered || !may(*next))) next = next->next;
      if (next != nullptr) enter(state, frame, next, next->running);
    }
    if (left) plat::futex_wake(state.ends.word(), 0x7fffffff);
    if (next == nullptr) return;
    inside = next;
    const uint32_t count_before = preempt_count();
    const uint32_t saved = memalloc_save(scope_noreclaim);
    run(*next);
    memalloc_restore(scope_noreclaim, saved);
    if (preempt_count() != count_before) complain("a shrinker or OOM notifier returned in another context than it was called in", nullptr);
  }
}

bool may_run_here() noexcept { return current().depth == 0 && !in_atomic(); }

uint64_t least(uint64_t a, uint64_t b) noexcept { return a < b ? a : b; }

/// What is deferred is taken whole; what others defer at the same time is added to.
uint64_t take_deferred(shrinker_state& state, shrinker& s) noexcept {
  const lock_guard lock(state.lock);
  const uint64_t deferred = s.nr_deferred;
  s.nr_deferred = 0;
  return deferred;
}
void add_deferred(shrinker_state& state, shrinker& s, uint64_t n) noexcept {
  const lock_guard lock(state.lock);
  s.nr_deferred += n;
}

uint64_t share_of(const shrinker& s, uint64_t count, unsigned priority) noexcept {
  return s.seeks != 0 ? (count >> priority) * 4 / static_cast<uint64_t>(s.seeks) : count / 2;
}

/// Asks one shrinker for its share. Return: objects freed.
uint64_t shrink(machine& m, shrinker& s, gfp_t gfp, unsigned priority) noexcept {
  shrink_control control;
  control.gfp = gfp;
  const uint64_t count = s.count_objects(&s, &control);
  if (count == 0 || count == shrink_empty) return 0;
  const uint64_t deferred = take_deferred(m.shrinkers, s), delta = share_of(s, count, priority);
  uint64_t due = least((deferred >> priority) + delta, 2 * count);
  const uint64_t batch = s.batch != 0 ? static_cast<uint64_t>(s.batch) : static_cast<uint64_t>(shrink_batch);
  uint64_t freed = 0, scanned = 0;
  while (due >= batch || due >= count) {
    control.nr_to_scan = control.nr_scanned = least(batch, due);
    const uint64_t got = s.scan_objects(&s, &control);
    if (got == shrink_stop) break;
    freed += got;
    m.stats.slabs_scanned.fetch_add_relaxed(control.nr_scanned);
    due -= least(due, control.nr_scanned);
    scanned += control.nr_scanned;
    if (control.nr_scanned == 0) break;  // it would be asked for ever
  }
  const uint64_t all = deferred + delta;
  add_deferred(m.shrinkers, s, least(all > scanned ? all - scanned : 0, 2 * count));
  return freed;
}

}  // namespace

err add_shrinker(machine& m, shrinker& s) noexcept {
  const bool right = s.count_objects != nullptr && s.scan_objects != nullptr && s.batch >= 0 && s.seeks >= 0 && s.flags == 0;
  if (!right || (s.needs & ~(gfp::io | gfp::fs)) != gfp::none) return err::inval;
  return add(m.shrinkers, s);
}
void remove_shrinker(machine& m, shrinker& s) noexcept { remove(m.shrinkers, s); }

uint64_t run_shrinkers(machine& m, gfp_t gfp, unsigned priority) noexcept {
  if (m.shrinkers.nr_shrinkers.load_relaxed() == 0 || !may_run_here() || !check_no_recursion(gfp)) return 0;
  const reclaim_region region(gfp);
  uint64_t freed = 0;
  for_each_entered(
      m.shrinkers, static_cast<shrinker*>(nullptr), [&](const shrinker& s) { return (s.needs & ~gfp) == gfp::none; },
      [&](shrinker& s) { freed += shrink(m, s, gfp, priority); });
  // Objects that were freed are in arrays and slabs that may be wholly free by now.
  if (freed != 0) {
    drain_caches(m, true);
    drain_cpu_pages(m, true);
  }
  return freed;
}

uint64_t shrink_pages(machine& m, gfp_t gfp, uint64_t nr_pages) noexcept {
  if (m.shrinkers.nr_shrinkers.load_relaxed() == 0 || !may_run_here()) return 0;
  const uint64_t before = nr_freed_pages(m);
  // Pages that came free may be gone again, to others or to the shrinkers themselves: what counts is what is free.
  for (unsigned priority = reclaim_priority_first + 1; priority-- != 0;)
    if (run_shrinkers(m, gfp, priority) != 0 && some_zone_above(m, watermark::min, nr_pages, gfp_zone(gfp))) break;
  return nr_freed_pages(m) - before;
}

err add_oom_notifier(machine& m, oom_notifier& n) noexcept { return n.notify != nullptr ? add(m.shrinkers, n) : err::inval; }
void remove_oom_notifier(machine& m, oom_notifier& n) noexcept { remove(m.shrinkers, n); }

uint64_t run_oom_notifiers(machine& m, gfp_t gfp) noexcept {
  if (m.shrinkers.nr_notifiers.load_relaxed() == 0 || !may_run_here() || !check_no_recursion(gfp)) return 0;
  const reclaim_region region(gfp);
  uint64_t freed = 0;
  for_each_entered(
      m.shrinkers, static_cast<oom_notifier*>(nullptr), [](const oom_notifier&) { return true; },
      [&](oom_notifier& n) {
        m.stats.oom_notified.fetch_add_relaxed(1);
        freed += n.notify(&n);
      });
  if (freed != 0) drain_caches(m, true);
  return freed;
}

void forget_shrinkers(machine& m) noexcept {
  const lock_guard lock(m.shrinkers.lock);
  while (m.shrinkers.first != nullptr) unlink(m.shrinkers, *m.shrinkers.first);
  while (m.shrinkers.first_notifier != nullptr) unlink(m.shrinkers, *m.shrinkers.first_notifier);
  m.shrinkers.frames = nullptr;
}

const char* shrinkers_are_valid(machine& m) noexcept {
  const lock_guard lock(m.shrinkers.lock);
  uint32_t running = 0, frames = 0, number = 0;
  for (const shrinker* s = m.shrinkers.first; s != nullptr; s = s->next, ++number) {
    running += s->running;
    if ((s->next != nullptr ? s->next->previous : m.shrinkers.last) != s) return "the list of shrinkers is broken";
  }
  if (number != m.shrinkers.nr_shrinkers.load_relaxed()) return "nr_shrinkers differs from the shrinkers on the list";
  for (const oom_notifier* n = m.shrinkers.first_notifier; n != nullptr; n = n->next) running += n->running;
  for (const shrinker_frame* f = m.shrinkers.frames; f != nullptr; f = f->next) ++frames;
  return running != frames ? "shrinkers are said to run that nobody is inside of" : nullptr;
}

void shrinkers_fork_child(machine& m) noexcept {
  const lock_guard lock(m.shrinkers.lock);
  shrinker_frame** link = &m.shrinkers.frames;
  while (*link != nullptr) {
    shrinker_frame& frame = **link;
    if (frame.thread == &current()) {
      link = &frame.next;
    } else {
      *link = frame.next;
      --*frame.running;
    }
  }
  // Who was taking one off is gone, too: it stays off.
  for (shrinker *s = m.shrinkers.first, *next = nullptr; s != nullptr; s = next) {
    next = s->next;
    if (s->state == state_leaving && s->running == 0) unlink(m.shrinkers, *s);
  }
  for (oom_notifier *n = m.shrinkers.first_notifier, *next = nullptr; n != nullptr; n = next) {
    next = n->next;
    if (n->state == state_leaving && n->running == 0) unlink(m.shrinkers, *n);
  }
}

}  // inline namespace
}  // namespace kmem
