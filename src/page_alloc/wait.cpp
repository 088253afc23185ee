// Waiting for memory: a queue in which attempts are made in the order of arrival, and from which no wake-up is lost.
//
// States.   A waiter is asleep (word 0), due (word 1: it is its turn, or one of its conditions came), trying, or away (inside a reclaim
//           callback). A free gives the turn to the first waiter that is not away. Who has the turn takes it back (word 0), tries, and
//           - served, or leaving for whatever reason: gives it to the next one;
//           - refused: gives it to the next one whose needs are not at least its own, since all others would be refused as well.
//           So nobody is woken in vain but for a chain of ever easier requests, and whoever sleeps with memory left has been passed over
//           by nobody of the same needs.
//           Who asks for pages to make objects of may have an object as well (request::instead). A free of one gives the turn to the
//           first waiter for this kind; that one, served or leaving, gives it to the next of the kind as well, as there may be more.
//           Objects are not kept for those who wait: who comes by takes what is at hand.
// Order.    Reclaimers (a MEMALLOC mask) first, then by arrival. A waiter tries only while nobody is before it who is as easy to serve:
//           who may use the same zones or more, leaving no more free there, and wants no more pages. The same goes for requests that
//           arrive (goes_behind), but for those that may not wait. Who leaves at its deadline tries once more out of turn: NULL with pages
//           left would be untrue.
// Locks.    The queue's, last in rank, so that a free may wake whatever it holds; never over a sleep. Waiting: process context only, not
//           in a handler that interrupted the allocator. Waking: any; a handler that finds the lock taken leaves a note (`missed`), and
//           whoever holds the lock looks for it after having released it.
// Ordering. pairs: page_waiters - announce_waiter() against frees. It raises `waiters`, steps on waiter_fence, and takes and drops every
//           CPU list's and zone's lock before the waiter tries. A free changes what the waiter looks at under one of these locks and reads
//           `waiters` before it drops the lock; frees without a lock step on waiter_fence in between. So either the attempt finds the page,
//           or the free finds the waiter, and sets its word under the queue's lock: the futex then does not let it sleep.
//           pairs: missed_wakes - the note is set before the lock is tried and taken after it is free, both by read-modify-writes of one
//           word: either the handler gets the lock, or the holder gets the note.
//           pairs: wait_conditions - wait_stop() and a waiter that goes to sleep each set their bit of `state`: one sees the other's.
// Kernel.   Allocations there do not queue: each reclaims and retries for itself. Nothing like a deadline exists; fatal signals end the
//           wait of some.
// Tests.    tests/unit/page_alloc/wait_test.cpp, chain_test.cpp; tests/sim/scenario_special_test.cpp
#include <limits>

#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint64_t ns_per_ms = 1'000'000;
constexpr uint64_t stall_report_ns = 10'000 * ns_per_ms;
constexpr uint64_t longest_sleep_ns = 1'000 * ns_per_ms;  // a bound in case a wake-up is lost all the same
constexpr uint64_t deadlock_ns = 1'000 * ns_per_ms;
constexpr uint64_t poll_ns = 10 * ns_per_ms;
constexpr uint64_t for_ever = ~uint64_t{0};

// ---- needs --------------------------------------------------------------------------------------------------------------------------

wait_needs needs_of(const page_allocator& pa, const request& r, bool reserve_step) noexcept {
  wait_needs needs;
  needs.n = r.n;
  needs.order = r.kind == request_kind::charge ? 0 : r.order;
  for (unsigned i = 0; i <= raw(r.highest); ++i) {
    const zone& z = pa.zones[i];
    if (z.nr_blocks == 0) continue;
    needs.zones[i] = true;
    needs.floors[i] = floor_for(pa, z, {r.gfp, r.realtime, reserve_step}, r.highest);
  }
  return needs;
}

/// Would whatever serves `a` serve `b` as well?
bool is_as_easy(const wait_needs& b, const wait_needs& a) noexcept {
  if (b.n > a.n || b.order > a.order) return false;
  for (unsigned i = 0; i < nr_zones; ++i)
    if (a.zones[i] && (!b.zones[i] || b.floors[i] > a.floors[i])) return false;
  return true;
}

bool somebody_before_locked(const page_allocator& pa, const wait_needs& needs, const waiter* end) noexcept KMEM_REQUIRES(pa.queue.lock) {
  for (const waiter* w = pa.queue.first; w != end; w = w->next)
    if (!w->away && is_as_easy(w->needs, needs)) return true;
  return false;
}

// ---- turns --------------------------------------------------------------------------------------------------------------------------

/// What is to be woken when the queue's lock is free again.
struct due_wakes {
  uint32_t* word = nullptr;
  uint32_t* second = nullptr;
  bool transit = false;
};

struct waker {
  int thread = 0;
  wake_cause cause = wake_cause::none;
  char name[16] = {};
};

waker this_thread(wake_cause does) noexcept {
  waker me;
  me.thread = plat::thread_id();
  me.cause = does;
  if (inside_reclaim() != nullptr) me.cause = wake_cause::reclaim;
  if (current().is_kswapd) me.cause = wake_cause::kswapd;
  plat::thread_name(me.name, sizeof me.name);
  return me;
}

waiter* not_away(waiter* w) noexcept {
  while (w != nullptr && w->away) w = w->next;
  return w;
}

/// The first from `w` on that is not away and would be served by a `what`.
waiter* first_for(waiter* w, const void* what) noexcept {
  while (w != nullptr && (w->away || w->what != what)) w = w->next;
  return w;
}

/// Tells a waiter that it is its turn: by the doing of `by`, or of this thread, which `does` that. The two system calls that name this
/// thread do not sleep.
void give_turn_locked(page_allocator& pa, waiter* w, const waker* by, wake_cause does, due_wakes& due) noexcept
    KMEM_REQUIRES(pa.queue.lock) {
  if (w == nullptr || w->word.load_relaxed() != 0) return;
  const waker who = by != nullptr ? *by : this_thread(does);
  w->waker = who.thread;
  w->cause = who.cause;
  __builtin_memcpy(w->waker_name, who.name, sizeof who.name);
  w->word.store_relaxed(1);
  (due.word == nullptr ? due.word : due.second) = w->word.word();
  pa.stats.wait_turns.fetch_add_relaxed(1);
}

/// Memory has come free: pages and objects as `bits` say, and something that is `what`. Pages, because this thread `does` that.
void note_free_locked(page_allocator& pa, uint32_t bits, const void* what, const waiter* except, wake_cause does,
                      due_wakes& due) noexcept KMEM_REQUIRES(pa.queue.lock) {
  bits |= pa.queue.missed.exchange_acq_rel(0);  // pairs: missed_wakes
  if ((bits & missed_objects) != 0) {
    // Of which kind is not known: everybody looks whose alternative it may be. Rare, so the wakes may take their time under the lock.
    for (waiter* w = pa.queue.first; w != nullptr; w = w->next) {
      if (w->away || w->what == nullptr) continue;
      due_wakes one;
      give_turn_locked(pa, w, nullptr, wake_cause::object, one);
      if (one.word != nullptr) plat::futex_wake(one.word, 1);
    }
  } else if (what != nullptr) {
    give_turn_locked(pa, first_for(pa.queue.first, what), nullptr, wake_cause::object, due);
  }
  if ((bits & missed_pages) == 0) return;
  pa.free_sequence.fetch_add_relaxed(1);
  due.transit = pa.queue.transit_sleepers != 0;
  waiter* w = not_away(pa.queue.first);
  if (w != nullptr && w == except) w = not_away(w->next);
  give_turn_locked(pa, w, nullptr, does, due);
}

/// The waiters may be gone by now: a wake of a word that nobody sleeps on does nothing.
void deliver(page_allocator& pa, const due_wakes& due) noexcept {
  if (due.word != nullptr) plat::futex_wake(due.word, 1);
  if (due.second != nullptr) plat::futex_wake(due.second, 1);
  if (due.transit) plat::futex_wake(pa.free_sequence.word(), std::numeric_limits<int>::max());
}

/// Return: false if the lock could not be had; its holder will do it.
bool note_free(page_allocator& pa, uint32_t bits, const void* what, const waiter* except, wake_cause does) noexcept {
  due_wakes due;
  {
    const nest_guard guard;
    if (guard.nested()) {
      pa.queue.missed.fetch_or_acq_rel(what != nullptr ? bits | missed_objects : bits);  // pairs: missed_wakes
      if (!pa.queue.lock.try_lock()) return false;
      note_free_locked(pa, 0, nullptr, except, does, due);
      pa.queue.lock.unlock();
    } else {
      const lock_guard hold(pa.queue.lock);
      note_free_locked(pa, bits, what, except, does, due);
    }
  }
  deliver(pa, due);
  return true;
}

/// After each release of the queue's lock: wakes for those who could not have it.
void settle_missed(page_allocator& pa) noexcept {
  while (const uint32_t bits = pa.queue.missed.exchange_acq_rel(0))  // pairs: missed_wakes
    if (!note_free(pa, bits, nullptr, nullptr, wake_cause::page)) return;
}

// ---- a place in the queue -----------------------------------------------------------------------------------------------------------

/// The thread's place among those who wait, from construction to destruction.
class queue_place {
 public:
  [[nodiscard]] queue_place(page_allocator& pa, request& r) noexcept : pa_(pa), r_(r) {
    me_.needs = needs_of(pa, r, r.reserve_step);
    me_.front = has(r.gfp, gfp::memalloc);
    if (r.instead != nullptr) me_.what = r.instead->what;
    me_.conditions = current().conditions;
    me_.since_ns = plat::now_ns();
    publish();
    enter();
    r_.waiting = &me_;
  }
  ~queue_place() {
    r_.waiting = nullptr;
    leave();
    unpublish();
  }
  queue_place(const queue_place&) = delete;
  queue_place& operator=(const queue_place&) = delete;

  /// Takes the turn back: what is freed from now on gives a new one.
  void begin_turn() noexcept {
    {
      const lock_guard hold(pa_.queue.lock);
      has_turn_ = me_.word.load_relaxed() != 0;
      if (has_turn_) {
        ++turns_;
        woken_by_.thread = me_.waker;
        woken_by_.cause = me_.cause;
        __builtin_memcpy(woken_by_.name, me_.waker_name, sizeof me_.waker_name);
      }
      me_.word.store_relaxed(0);
    }
    settle_missed(pa_);
  }

  /// The turn in hand, if there is one, was in vain: the next one that could still be served has it.
  void pass_on() noexcept {
    if (!has_turn_) return;
    due_wakes due;
    {
      const lock_guard hold(pa_.queue.lock);
      if (me_.generation != pa_.queue.generation) return;
      waiter* next = not_away(me_.next);
      while (next != nullptr && is_as_easy(me_.needs, next->needs)) next = not_away(next->next);
      give_turn_locked(pa_, next, origin(), wake_cause::left, due);
    }
    deliver(pa_, due);
    settle_missed(pa_);
  }

  futex_end sleep_until_due(uint64_t timeout_ns, bool interruptible) noexcept {
    check_schedule();
    pa_.stats.waits.fetch_add_relaxed(1);
    const uint64_t begin = plat::now_ns();
    uint32_t* const word = me_.word.word();
    const futex_end how = interruptible ? plat::futex_wait_interruptible(word, 0, timeout_ns) : plat::futex_wait(word, 0, timeout_ns);
    slept_ns_ += plat::now_ns() - begin;
    return how;
  }

  /// In the child of a fork, where the queue is empty: enters it anew. A handler that interrupted the sleep may have forked.
  void stay() noexcept {
    if (me_.generation != pa_.queue.generation) enter();
  }

  /// Has every thread of the process waited for more than a second? Only the first one asks. Return: how many they are, or 0.
  uint32_t count_deadlocked(uint64_t now_ns) noexcept {
    uint32_t waiting = 0;
    {
      const lock_guard hold(pa_.queue.lock);
      if (pa_.queue.first != &me_) return 0;
      for (const waiter* w = pa_.queue.first; w != nullptr; w = w->next) waiting += now_ns - w->since_ns >= deadlock_ns ? 1u : 0u;
    }
    settle_missed(pa_);
    const int threads = plat::nr_threads() - static_cast<int>(plat::nr_service_threads());
    return threads > 0 && waiting >= static_cast<uint32_t>(threads) ? waiting : 0;
  }

  /// Of the time asleep: its own reclaim in the queue does not count, and who was served at once has not slept.
  void keep_record(wait_outcome outcome) noexcept {
    if (slept_ns_ == 0 || slept_ns_ < pa_.config.sleep_record_ms * ns_per_ms) return;
    pa_.stats.long_sleeps.fetch_add_relaxed(1);
    sleep_record record;
    record.time_ns = me_.since_ns;
    record.slept_ns = slept_ns_;
    record.gfp = r_.gfp;
    record.order = r_.order;
    record.pages = r_.n;
    record.bytes = r_.bytes;
    record.wakes = turns_;
    const waker me = this_thread(wake_cause::none);
    record.thread = me.thread;
    __builtin_memcpy(record.comm, me.name, sizeof me.name);
    record.waker = woken_by_.thread;
    record.cause = woken_by_.cause;
    __builtin_memcpy(record.waker_comm, woken_by_.name, sizeof woken_by_.name);
    record.outcome = outcome;
    keep_sleep_record(pa_, record);
  }

  uint64_t since_ns() const noexcept { return me_.since_ns; }

 private:
  /// Who freed the memory that the turn in hand is about; nullptr: this thread itself passes on.
  const waker* origin() const noexcept { return has_turn_ ? &woken_by_ : nullptr; }

  void enter() noexcept {
    {
      const lock_guard hold(pa_.queue.lock);
      me_.generation = pa_.queue.generation;
      waiter* after = pa_.queue.last;
      while (me_.front && after != nullptr && !after->front) after = after->prev;
      me_.prev = after;
      me_.next = after != nullptr ? after->next : pa_.queue.first;
      (after != nullptr ? after->next : pa_.queue.first) = &me_;
      (me_.next != nullptr ? me_.next->prev : pa_.queue.last) = &me_;
    }
    settle_missed(pa_);
    announce_waiter(pa_);
  }

  void leave() noexcept {
    if (me_.generation != pa_.queue.generation) return;
    due_wakes due;
    {
      const lock_guard hold(pa_.queue.lock);
      waiter* const next = me_.next;
      (me_.prev != nullptr ? me_.prev->next : pa_.queue.first) = next;
      (next != nullptr ? next->prev : pa_.queue.last) = me_.prev;
      give_turn_locked(pa_, not_away(next), origin(), wake_cause::left, due);
      if (me_.what != nullptr) give_turn_locked(pa_, first_for(pa_.queue.first, me_.what), origin(), wake_cause::left, due);
    }
    retract_waiter(pa_);
    deliver(pa_, due);
    settle_missed(pa_);
  }

  void publish() noexcept {
    for (wait_conditions* c = current().conditions; c != nullptr; c = c->outer) {
      if ((c->state.load_relaxed() & wait_asleep) != 0) continue;  // a wait inside a wait: the outer one is woken
      c->where.store_relaxed(&pa_);
      c->state.fetch_or_acq_rel(wait_asleep);  // pairs: wait_conditions
      published_ = true;
    }
  }
  void unpublish() noexcept {
    for (wait_conditions* c = current().conditions; published_ && c != nullptr; c = c->outer) c->state.fetch_and_relaxed(~wait_asleep);
  }

  page_allocator& pa_;
  request& r_;
  waiter me_;
  waker woken_by_;  // of the last turn
  bool has_turn_ = false;
  uint32_t turns_ = 0;
  uint64_t slept_ns_ = 0;
  bool published_ = false;
};

// ---- how long -----------------------------------------------------------------------------------------------------------------------

struct wait_limit {
  uint64_t until_ns = 0;
  wait_outcome then = wait_outcome::exhausted;
};

wait_limit limit_of(const page_allocator& pa, const request& r, uint64_t now_ns) noexcept {
  if (!may_fail(r.gfp)) return {for_ever, wait_outcome::none};
  wait_limit limit{now_ns, wait_outcome::exhausted};
  if (plat::single_threaded()) return limit;  // nobody else could free
  uint64_t deadline = 0;
  for (const wait_conditions* c = current().conditions; c != nullptr; c = c->outer)
    if (c->deadline_ns != 0 && (deadline == 0 || c->deadline_ns < deadline)) deadline = c->deadline_ns;
  if (deadline == for_ever) --deadline;  // a long time, but it may fail
  if (deadline != 0) return {deadline, wait_outcome::timed_out};
  uint64_t wait_ms = pa.config.alloc_wait_ms;
  if (has(r.gfp, gfp::retry_mayfail)) wait_ms *= retry_mayfail_waits;
  limit.until_ns += wait_ms * ns_per_ms;
  return limit;
}

bool is_interruptible(const request& r) noexcept {
  if (!may_fail(r.gfp)) return false;
  for (const wait_conditions* c = current().conditions; c != nullptr; c = c->outer)
    if (c->interruptible) return true;
  return false;
}

void note_interrupt() noexcept {
  for (wait_conditions* c = current().conditions; c != nullptr; c = c->outer) c->interrupted |= c->interruptible;
}

/// How the wait ends now. Return: none if it goes on.
wait_outcome end_of_wait(const request& r, const wait_limit& limit, uint64_t now_ns) noexcept {
  if (limit.until_ns == for_ever) return wait_outcome::none;
  const wait_outcome early = ended_early(r, now_ns);
  if (early != wait_outcome::none) return early;
  return now_ns >= limit.until_ns ? limit.then : wait_outcome::none;
}

/// The longest that one sleep may take.
uint64_t sleep_time(const request& r, const wait_limit& limit, uint64_t next_report_ns, uint64_t now_ns) noexcept {
  const uint64_t until = limit.until_ns == for_ever ? next_report_ns : limit.until_ns;
  uint64_t timeout = until - now_ns;
  if (r.give_back_at_ns > now_ns && timeout > r.give_back_at_ns - now_ns) timeout = r.give_back_at_ns - now_ns;
  return timeout < longest_sleep_ns ? timeout : longest_sleep_ns;
}

/// An attempt, if it is the thread's turn. Return: whether it was served.
bool take_turn(page_allocator& pa, request& r, queue_place& place) noexcept {
  place.begin_turn();
  if (take_instead(r)) return true;
  if (try_in_turn(pa, r)) return true;
  place.pass_on();
  return false;
}

/// Return: served, or why it gave up.
wait_outcome wait_in_queue(page_allocator& pa, request& r, queue_place& place, const wait_limit& limit) noexcept {
  uint64_t next_report = place.since_ns() + stall_report_ns, next_count = place.since_ns() + deadlock_ns;
  for (bool reclaims = r.behind;; reclaims = true) {
    if (take_turn(pa, r, place)) return wait_outcome::served;
    if (reclaims) {
      uint64_t progress = 0;
      chain_step step = chain_step::wait;
      if (blocking_pass(pa, r, step, progress)) return wait_outcome::served;
      if (take_turn(pa, r, place)) return wait_outcome::served;
    }
    uint64_t now = plat::now_ns();
    const wait_outcome end = end_of_wait(r, limit, now);
    if (end != wait_outcome::none) return end;
    if (limit.until_ns == for_ever && now >= next_report) {
      report_stall(pa, r, now - place.since_ns());
      next_report = now + stall_report_ns;
    }
    const futex_end how = place.sleep_until_due(sleep_time(r, limit, next_report, now), is_interruptible(r));
    place.stay();
    if (how == futex_end::interrupted) note_interrupt();
    now = plat::now_ns();
    if (now < next_count) continue;
    next_count = now + deadlock_ns;
    if (const uint32_t threads = place.count_deadlocked(now); threads != 0) {
      pa.stats.deadlocks.fetch_add_relaxed(1);
      report_deadlock(pa, r, threads);
    }
  }
}

/// In a handler that interrupted the allocator nobody may queue; who may not fail looks again and again.
bool poll_for_memory(page_allocator& pa, request& r) noexcept {
  if (may_fail(r.gfp)) return false;
  for (;;) {
    check_schedule();
    uint32_t nobody = 0;
    plat::futex_wait(&nobody, 0, poll_ns);
    uint64_t progress = 0;
    chain_step step = chain_step::wait;
    if (take_instead(r) || attempt(pa, r) || blocking_pass(pa, r, step, progress)) return true;
  }
}

}  // namespace

void wake_waiters_but(page_allocator& pa, const waiter* except, wake_cause cause) noexcept {
  if (note_free(pa, missed_pages, nullptr, except, cause)) settle_missed(pa);
}

void wake_waiters_for(page_allocator& pa, const void* what) noexcept {
  if (note_free(pa, what != nullptr ? 0 : missed_objects, what, nullptr, wake_cause::object)) settle_missed(pa);
}

void wake_waiters(page_allocator& pa, wake_cause cause) noexcept { wake_waiters_but(pa, nullptr, cause); }

void wake_waiters(page_allocator& pa) noexcept { wake_waiters(pa, wake_cause::page); }

void announce_waiter(page_allocator& pa) noexcept {
  pa.waiters.fetch_add_relaxed(1);
  pa.waiter_fence.fetch_sub_acq_rel(1);  // pairs: page_waiters
  for (const reclaim_ops& ops : pa.ops)
    if (ops.hold_caches != nullptr) ops.hold_caches(ops.context, true);
  drain(pa, true);                       // takes and drops the lock of every CPU list
  for (zone& z : pa.zones) {
    nest_guard guard;
    if (acquire(z.lock)) z.lock.unlock();
  }
}

void retract_waiter(page_allocator& pa) noexcept {
  pa.waiters.fetch_sub_relaxed(1);
  for (const reclaim_ops& ops : pa.ops)
    if (ops.hold_caches != nullptr) ops.hold_caches(ops.context, false);
}

void sleep_in_transit(page_allocator& pa, uint32_t sequence, uint64_t timeout_ns) noexcept {
  if (current().depth != 0) return plat::relax(1);  // in a handler that interrupted the allocator: its caller looks again
  const uint32_t generation = pa.queue.generation;
  bool sleeps = false;
  {
    const lock_guard hold(pa.queue.lock);
    sleeps = pa.free_sequence.load_relaxed() == sequence;
    pa.queue.transit_sleepers += sleeps ? 1 : 0;
  }
  settle_missed(pa);
  if (!sleeps) return;
  check_schedule();
  pa.stats.waits.fetch_add_relaxed(1);
  plat::futex_wait(pa.free_sequence.word(), sequence, timeout_ns);
  {
    const lock_guard hold(pa.queue.lock);
    if (generation == pa.queue.generation) --pa.queue.transit_sleepers;
  }
  settle_missed(pa);
}

bool in_turn(page_allocator& pa, const request& r) noexcept {
  if (r.waiting == nullptr) return true;
  bool before = false;
  {
    const lock_guard hold(pa.queue.lock);
    before = r.waiting->generation == pa.queue.generation && somebody_before_locked(pa, r.waiting->needs, r.waiting);
  }
  settle_missed(pa);
  return !before;
}

bool goes_behind(page_allocator& pa, const request& r) noexcept {
  if (KMEM_LIKELY(!somebody_waits(pa)) || !permitted(chain_step::wait, r)) return false;
  if (has(r.gfp, gfp::memalloc) || current().depth != 0) return false;
  const uint64_t now = plat::now_ns();
  if (end_of_wait(r, limit_of(pa, r, now), now) != wait_outcome::none) return false;
  bool before = false;
  {
    const lock_guard hold(pa.queue.lock);
    before = somebody_before_locked(pa, needs_of(pa, r, permitted(chain_step::reserve, r)), nullptr);
  }
  settle_missed(pa);
  return before;
}

void step_aside(page_allocator& pa, const request& r, bool aside) noexcept {
  if (r.waiting == nullptr) return;
  due_wakes due;
  {
    const lock_guard hold(pa.queue.lock);
    r.waiting->away = aside;
    // A turn that it has been given and not taken yet is the next one's.
    if (aside && r.waiting->word.load_relaxed() != 0 && r.waiting->generation == pa.queue.generation)
      give_turn_locked(pa, not_away(r.waiting->next), nullptr, wake_cause::left, due);
  }
  deliver(pa, due);
  settle_missed(pa);
}

bool wait_for_memory(page_allocator& pa, request& r, chain_step& reached) noexcept {
  const uint64_t now = plat::now_ns();
  const wait_limit limit = limit_of(pa, r, now);
  const wait_outcome at_once = end_of_wait(r, limit, now);
  if (at_once != wait_outcome::none) {
    r.outcome = at_once;
    return false;
  }
  reached = chain_step::wait;
  if (current().depth != 0) return poll_for_memory(pa, r);
  {
    queue_place place(pa, r);
    r.outcome = wait_in_queue(pa, r, place, limit);
    place.keep_record(r.outcome);
  }
  return r.outcome == wait_outcome::served;
}

wait_outcome ended_early(const request& r, uint64_t now_ns) noexcept {
  if (!may_fail(r.gfp)) return wait_outcome::none;
  for (const wait_conditions* c = current().conditions; c != nullptr; c = c->outer) {
    if ((c->state.load_relaxed() & wait_stopped) != 0) return wait_outcome::stopped;
    if (c->interrupted) return wait_outcome::interrupted;
    if (c->deadline_ns != 0 && now_ns >= c->deadline_ns) return wait_outcome::timed_out;
  }
  return wait_outcome::none;
}

void forget_waiters(page_allocator& pa) noexcept {
  if (!pa.queue.lock.try_lock()) return;  // of the frame that this handler interrupted: it is in the queue, and goes on
  pa.waiters.store_relaxed(0);
  pa.queue.first = pa.queue.last = nullptr;
  pa.queue.transit_sleepers = 0;
  pa.queue.missed.store_relaxed(0);
  ++pa.queue.generation;
  pa.queue.lock.unlock();
}

// ---- scopes -------------------------------------------------------------------------------------------------------------------------

void wait_enter(wait_conditions& conditions, uint64_t deadline_ns, bool interruptible) noexcept {
  conditions.deadline_ns = deadline_ns;
  conditions.interruptible = interruptible;
  task_context& task = current();
  conditions.outer = task.conditions;
  task.conditions = &conditions;
  task.last_wait = static_cast<uint8_t>(wait_outcome::none);
}

void wait_leave(wait_conditions& conditions) noexcept {
  task_context& task = current();
  if (task.conditions != &conditions) bug("a wait scope was closed that is not the thread's innermost one", __FILE__, __LINE__);
  task.conditions = conditions.outer;
}

void wait_stop(wait_conditions& conditions) noexcept {
  const uint32_t before = conditions.state.fetch_or_acq_rel(wait_stopped);  // pairs: wait_conditions
  if ((before & wait_asleep) == 0) return;
  page_allocator& pa = *conditions.where.load_relaxed();
  uint32_t* word = nullptr;
  {
    const lock_guard hold(pa.queue.lock);
    for (waiter* w = pa.queue.first; w != nullptr; w = w->next)
      for (const wait_conditions* c = w->conditions; c != nullptr; c = c->outer)
        if (c == &conditions) {
          due_wakes due;
          give_turn_locked(pa, w, nullptr, wake_cause::stop, due);
          word = w->word.word();
        }
  }
  if (word != nullptr) plat::futex_wake(word, 1);
  settle_missed(pa);
}

const char* wake_cause_name(wake_cause cause) noexcept {
  static constexpr const char* names[nr_wake_causes] = {"none",      "page",    "object", "drain", "room",
                                                        "give_back", "reclaim", "kswapd", "left",  "stop"};
  return names[static_cast<unsigned>(cause)];
}

wait_outcome last_wait() noexcept { return static_cast<wait_outcome>(current().last_wait); }

}  // inline namespace
}  // namespace kmem
