// Timers: functions that ksoftirqd runs in softirq context at a time or soon after.
//
// States.   A timer is armed (in the heap, timer::state 1), running (interrupt_system::running_timer), both or neither. state 2: shut down
//           for good. The heap is a pairing heap through the timers themselves, ordered by `due`: `child` is the first of its children,
//           `next` the next sibling, `previous` the sibling before or the parent.
// Locks.    timers_lock, a leaf, taken with interrupts off and inside a nest_guard: a handler of an interrupt never finds its own thread
//           holding it, and an allocation in any other signal handler waits for no lock. No function of the program's runs under it.
// Contexts. Any of the library's. A signal handler that is no interrupt may have interrupted a holder: found out (in_section), refused.
// Ordering. The lock's. timer_pending() is a hint.
// Kernel.   A heap, exact to the tick, instead of wheels that are up to an eighth late. One thread runs all timers; a function is never run
//           on two threads. A time that is past means the next tick, as there. TIMER_DEFERRABLE, TIMER_PINNED: no CPU is idle or given.
// Tests.    tests/unit/interrupt/timer_test.cpp, tests/sim/interrupt_test.cpp
#include "interrupt/interrupt.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint64_t tick_ns = 1'000'000'000 / jiffies_per_second;
constexpr uint64_t recheck_ns = 1'000'000'000;
constexpr uint32_t armed = 1, shut_down = 2;

/// a before b, also where the counter wraps around.
bool before(uint64_t a, uint64_t b) noexcept { return static_cast<int64_t>(a - b) < 0; }

atomic<uint32_t>& state_of(timer& t) noexcept { return reinterpret_cast<atomic<uint32_t>&>(t.state); }
bool is_armed(timer& t) noexcept { return (state_of(t).load_relaxed() & armed) != 0; }

/// The timers' lock, with what protects against this thread's own handlers. Converts to false where the thread holds it already.
/// (For the analysis it always holds the lock: who finds false returns.)
class KMEM_SCOPED_CAPABILITY section {
 public:
  [[nodiscard]] explicit section(const char* function, const void* object) noexcept KMEM_ACQUIRE(interrupts.timers_lock) KMEM_NO_ANALYSIS
      : mine_(current_interrupts()), entered_(mine_.in_section == 0) {
    if (!entered_) {
      report_misuse(function, "called by a signal handler that is no interrupt's and interrupted the timers", object);
      return;
    }
    irqs_were_off_ = irqs_set_disabled(true);
    ++current().depth;
    mine_.in_section = 1;
    arch::compiler_barrier();
    interrupts.timers_lock.lock();
  }
  ~section() KMEM_RELEASE() KMEM_NO_ANALYSIS {
    if (!entered_) return;
    interrupts.timers_lock.unlock();
    arch::compiler_barrier();
    mine_.in_section = 0;
    --current().depth;
    irqs_set_disabled(irqs_were_off_);
  }
  section(const section&) = delete;
  section& operator=(const section&) = delete;
  explicit operator bool() const noexcept { return entered_; }

 private:
  interrupt_task& mine_;
  bool entered_;
  bool irqs_were_off_ = false;
};

// ---- the heap ----

timer* meld(timer* a, timer* b) noexcept {
  if (a == nullptr) return b;
  if (b == nullptr) return a;
  if (before(b->due, a->due)) {
    timer* const swapped = a;
    a = b;
    b = swapped;
  }
  b->previous = a;
  b->next = a->child;
  if (b->next != nullptr) b->next->previous = b;
  a->child = b;
  a->next = a->previous = nullptr;
  return a;
}

/// Makes one heap of a list of siblings: pairs from the front, then all of them from the back.
timer* meld_siblings(timer* first) noexcept {
  timer* pairs = nullptr;
  while (first != nullptr) {
    timer* const second = first->next;
    timer* const rest = second != nullptr ? second->next : nullptr;
    first->next = first->previous = nullptr;
    if (second != nullptr) second->next = second->previous = nullptr;
    timer* const pair = meld(first, second);
    pair->next = pairs;
    pairs = pair;
    first = rest;
  }
  timer* root = nullptr;
  while (pairs != nullptr) {
    timer* const next = pairs->next;
    pairs->next = nullptr;
    root = meld(root, pairs);
    pairs = next;
  }
  return root;
}

void remove(timer& t) noexcept KMEM_REQUIRES(interrupts.timers_lock) {
  timer* const children = meld_siblings(t.child);
  if (interrupts.timers == &t) {
    interrupts.timers = children;
  } else {
    (t.previous->child == &t ? t.previous->child : t.previous->next) = t.next;
    if (t.next != nullptr) t.next->previous = t.previous;
    interrupts.timers = meld(interrupts.timers, children);
  }
  t.child = t.next = t.previous = nullptr;
  state_of(t).fetch_and_relaxed(~armed);
}

/// Return: true if it is the earliest one now, so that ksoftirqd has to look.
bool insert(timer& t, uint64_t expires) noexcept KMEM_REQUIRES(interrupts.timers_lock) {
  t.expires = expires;
  t.due = before(interrupts.clock, expires) ? expires : interrupts.clock + 1;
  t.child = t.next = t.previous = nullptr;
  state_of(t).fetch_or_relaxed(armed);
  interrupts.timers = meld(interrupts.timers, &t);
  return interrupts.timers == &t;
}

/// Arms a timer. `only`: nullptr or a condition on an armed one. Return: true if it was armed.
enum class arm_when : uint8_t { always, if_armed, if_earlier };
bool arm(const char* function, timer& t, uint64_t expires, arm_when when) noexcept {
  bool was_armed = false, earliest = false, no_function = false;
  {
    const section in(function, &t);
    if (!in) return false;
    was_armed = is_armed(t);
    no_function = t.function == nullptr;
    const bool wanted = when == arm_when::always || (when == arm_when::if_armed ? was_armed : !was_armed || before(expires, t.expires));
    if (!wanted || no_function || (state_of(t).load_relaxed() & shut_down) != 0) {
      earliest = false;
    } else {
      if (was_armed) remove(t);
      earliest = insert(t, expires);
    }
  }
  if (no_function) report_misuse(function, "the timer has no function", &t);
  if (earliest) kick_service();
  return was_armed;
}

/// Disarms a timer unless it runs and `unless_running`. Return: 1, 0 or -1.
int disarm(const char* function, timer& t, bool unless_running, uint32_t new_state) noexcept {
  const section in(function, &t);
  if (!in) return 0;
  state_of(t).fetch_or_relaxed(new_state);
  if (unless_running && interrupts.running_timer == &t) return -1;
  const bool was_armed = is_armed(t);
  if (was_armed) remove(t);
  return was_armed ? 1 : 0;
}

/// Waits until the function that runs has ended.
void wait_for_runner(const char* function, timer& t) noexcept {
  uint32_t seen = 0;
  {
    const section in(function, &t);
    if (!in || interrupts.running_timer != &t) return;
    ++interrupts.timer_waiters;
    seen = interrupts.timer_ends.load_relaxed();
  }
  plat::futex_wait(interrupts.timer_ends.word(), seen, recheck_ns);
  const section in(function, &t);
  if (in) --interrupts.timer_waiters;
}

bool disarm_and_wait(const char* function, timer& t, uint32_t new_state) noexcept {
  if ((current().preempt_count & hardirq_mask) != 0 && (t.flags & timer_irq_safe) == 0) {
    report_misuse(function, "called in a hard interrupt, which may have interrupted the function that it would wait for", &t);
    return disarm(function, t, false, new_state) == 1;
  }
  for (bool was_armed = false;;) {
    const int result = disarm(function, t, true, new_state);
    if (result >= 0) return was_armed || result == 1;
    if (interrupts.timer_runner.load_relaxed() == &current()) {
      report_misuse(function, "called by the timer's own function, for which it would wait", &t);
      return disarm(function, t, false, new_state) == 1;
    }
    wait_for_runner(function, t);
  }
}

constexpr uint64_t no_timer = ~uint64_t{0};

/// A timer taken out of the heap; its own memory is the function's from here on.
struct due_timer {
  timer* object = nullptr;
  void (*function)(timer&) noexcept = nullptr;
  uintptr_t data = 0;
  uint32_t flags = 0;
};

/// Takes the first timer that is due by `now`. Return: false if there is none, with the time to the next one.
bool take_due(uint64_t now, due_timer& taken, uint64_t& wait_ns) noexcept {
  const section in("ksoftirqd", nullptr);
  timer* const t = interrupts.timers;
  // From here on a time that is past means the next tick.
  if (before(interrupts.clock, now)) interrupts.clock = now;
  wait_ns = no_timer;
  if (t == nullptr) return false;
  if (before(now, t->due)) {
    const uint64_t at = t->due * tick_ns, now_ns = plat::now_ns();
    wait_ns = at > now_ns ? at - now_ns : 1;
    return false;
  }
  remove(*t);
  interrupts.running_timer = t;
  interrupts.timer_runner.store_relaxed(&current());
  taken = {t, t->function, t->data, t->flags};
  return true;
}

void run_one(const due_timer& taken) noexcept {
  task_context& task = current();
  task.preempt_count += softirq_unit;
  arch::compiler_barrier();
  const bool irq_safe = (taken.flags & timer_irq_safe) != 0;
  if (irq_safe) irqs_set_disabled(true);
  call_checked("timer", reinterpret_cast<const void*>(taken.function), [&] {
    if ((taken.flags & calls_by_data) != 0)
      by_data(taken.function)(taken.data);
    else
      taken.function(*taken.object);
  });
  if (irq_safe) irqs_set_disabled(false);
  bool waiters = false;
  {
    const section in("ksoftirqd", nullptr);
    interrupts.running_timer = nullptr;
    interrupts.timer_runner.store_relaxed(nullptr);
    interrupts.timer_ends.fetch_add_relaxed(1);
    waiters = interrupts.timer_waiters != 0;
  }
  if (waiters) plat::futex_wake(interrupts.timer_ends.word(), 0x7fffffff);
  preempt_count_sub(softirq_unit);  // tasklets that it scheduled run here
}

}  // namespace

uint64_t run_timers() noexcept {
  const uint64_t now = jiffies();
  uint64_t wait_ns = no_timer;
  for (due_timer taken; take_due(now, taken, wait_ns);) run_one(taken);
  return wait_ns;
}

void timer_fork_prepare() noexcept KMEM_NO_ANALYSIS {
  interrupt_task& mine = current_interrupts();
  const bool free = mine.in_section == 0;
  if (free) {
    mine.in_section = 1;
    arch::compiler_barrier();
    interrupts.timers_lock.lock();
  }
  interrupts.fork_timers_lock = free;
}

void timer_fork_end() noexcept KMEM_NO_ANALYSIS {
  if (!interrupts.fork_timers_lock) return;
  interrupts.fork_timers_lock = false;
  interrupts.timers_lock.unlock();
  arch::compiler_barrier();
  current_interrupts().in_section = 0;
}

bool timer_fork_child() noexcept KMEM_NO_ANALYSIS {
  interrupts.timer_waiters = 0;
  if (interrupts.timer_runner.load_relaxed() != &current()) {
    interrupts.running_timer = nullptr;
    interrupts.timer_runner.store_relaxed(nullptr);
  }
  const bool any = interrupts.timers != nullptr;
  timer_fork_end();
  return any;
}

namespace {

/// Walks the heap without recursion or marks: depth first through `previous`. Return: timers, or what is wrong.
uint64_t count_timers(const char*& damage) noexcept KMEM_REQUIRES(interrupts.timers_lock) {
  uint64_t n = 0;
  timer* t = interrupts.timers;
  while (t != nullptr) {
    ++n;
    if ((t->state & armed) == 0) damage = "timers: one in the heap is not armed";
    if (t->child != nullptr && (t->child->previous != t || before(t->child->due, t->due))) damage = "timers: a child is out of order";
    if (t->next != nullptr && t->next->previous != t) damage = "timers: siblings are linked wrongly";
    if (damage != nullptr) return n;
    if (t->child != nullptr) {
      t = t->child;
      continue;
    }
    while (t != nullptr && t->next == nullptr) {  // up: the first sibling's `previous` is the parent
      while (t->previous != nullptr && t->previous->child != t) t = t->previous;
      t = t->previous;
    }
    if (t != nullptr) t = t->next;
  }
  return n;
}

}  // namespace

const char* interrupts_are_valid() noexcept {
  const char* damage = nullptr;
  const section in("interrupts_are_valid", nullptr);
  if (!in) return "timers: looked at by a signal handler that interrupted them";
  count_timers(damage);
  return damage;
}

uint64_t nr_armed_timers() noexcept {
  const char* damage = nullptr;
  const section in("nr_armed_timers", nullptr);
  return in ? count_timers(damage) : 0;
}

}  // inline namespace

uint64_t jiffies() noexcept { return plat::now_ns() / tick_ns; }

void add_timer(timer& t) noexcept {
  if (is_armed(t)) return report_misuse("add_timer", "the timer is armed already; use mod_timer", &t);
  arm("add_timer", t, t.expires, arm_when::always);
}
bool mod_timer(timer& t, uint64_t expires) noexcept { return arm("mod_timer", t, expires, arm_when::always); }
bool mod_timer_pending(timer& t, uint64_t expires) noexcept { return arm("mod_timer_pending", t, expires, arm_when::if_armed); }
bool timer_reduce(timer& t, uint64_t expires) noexcept { return arm("timer_reduce", t, expires, arm_when::if_earlier); }
bool del_timer(timer& t) noexcept { return disarm("del_timer", t, false, 0) == 1; }
int try_to_del_timer_sync(timer& t) noexcept { return disarm("try_to_del_timer_sync", t, true, 0); }
bool del_timer_sync(timer& t) noexcept { return disarm_and_wait("del_timer_sync", t, 0); }
bool timer_shutdown_sync(timer& t) noexcept { return disarm_and_wait("timer_shutdown_sync", t, shut_down); }
bool timer_pending(const timer& t) noexcept { return is_armed(const_cast<timer&>(t)); }

}  // namespace kmem
