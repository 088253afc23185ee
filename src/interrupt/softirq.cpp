// Softirqs and tasklets.
//
// States.   A vector is pending for one thread or for ksoftirqd. A tasklet's word: flags below, a count of disables (bits 16-31) and a
//           generation (32-63). scheduled: it is in exactly one list, or parked, or the thread that runs it puts it into its list (again).
//           parked: found disabled, tasklet_enable() puts it into a list. running: one thread is in its function. Lists belong to a thread
//           and its signal handlers, or to ksoftirqd, which takes its list whole.
// Locks.    None, so that any signal handler may schedule.
// Contexts. Softirqs run where a thread's softirq and hardirq counts drop to 0 with interrupts on, and on ksoftirqd. After 10 rounds at one
//           place the rest goes to ksoftirqd, as in the kernel.
// Ordering. pairs: tasklet - every change of the word is a read-modify-write with acquire and release, so all of them are in order: a run
//           sees what was written before it was scheduled and what the run before it did, and who puts the tasklet into a list comes
//           after all that was done with its link in the list before. global_tasklets, global_softirqs - a push releases, ksoftirqd's
//           taking acquires. softirq_action - set, then raised.
// Fork.     The child raises the generation: words of an older one count as neither scheduled nor running, since what was in other threads'
//           lists is gone with them. Its own lists and ksoftirqd's are stamped anew.
// Kernel.   A disabled tasklet is parked where the kernel runs in circles until it is enabled, and tasklet_kill() takes it off where the
//           kernel waits. One that runs elsewhere is left to its runner instead of being tried again and again.
// Tests.    tests/unit/interrupt/softirq_test.cpp, tests/sim/interrupt_test.cpp
#include <bit>

#include "interrupt/interrupt.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr unsigned max_rounds = 10;  // the kernel's MAX_SOFTIRQ_RESTART
constexpr uint64_t recheck_ns = 1'000'000'000;

constexpr uint64_t scheduled = 1, running = 2, again = 4, parked = 8, waiters = 16, high = 32, killing = 64;
constexpr uint64_t one_disable = 1 << 16, disables = 0xffff'0000;

constexpr uint32_t vector_bit(softirq number) noexcept { return 1u << static_cast<uint32_t>(number); }
constexpr uint32_t tasklet_vectors[nr_tasklet_levels] = {vector_bit(softirq::hi), vector_bit(softirq::tasklet)};
constexpr unsigned level_of(uint64_t word) noexcept { return (word & high) != 0 ? 0 : 1; }

/// The word as an atomic: the public header cannot include <atomic>.
atomic<uint64_t>& word_of(tasklet& t) noexcept {
  static_assert(sizeof(atomic<uint64_t>) == sizeof(uint64_t) && alignof(atomic<uint64_t>) == alignof(uint64_t));
  return reinterpret_cast<atomic<uint64_t>&>(t.state);
}

/// The flags as a futex word.
uint32_t* futex_word(tasklet& t) noexcept {
  static_assert(std::endian::native == std::endian::little);
  return reinterpret_cast<uint32_t*>(&t.state);
}

/// The word as it counts now: what threads of a parent before a fork did with it is gone.
uint64_t as_now(uint64_t word) noexcept {
  const uint64_t generation = interrupts.generation.load_relaxed();
  if (word >> 32 == generation) return word;
  const uint64_t kept = word & (disables | ((word & parked) != 0 ? scheduled | parked | high : 0));
  return kept | generation << 32;
}

template <class Next>
uint64_t change(tasklet& t, Next next) noexcept {
  atomic<uint64_t>& word = word_of(t);
  uint64_t seen = word.load_relaxed();
  for (;;) {
    const uint64_t before = as_now(seen);
    if (word.try_cmpxchg_acq_rel(seen, next(before))) return before;  // pairs: tasklet
  }
}

void wake_waiters(tasklet& t, uint64_t before) noexcept {
  if ((before & waiters) != 0) plat::futex_wake(futex_word(t), 0x7fffffff);
}

// ---- lists ----

void push(atomic<tasklet*>& head, tasklet& t) noexcept {
  tasklet* first = head.load_relaxed();
  do t.next = first;
  while (!head.try_cmpxchg_release(first, &t));  // pairs: global_tasklets
}

/// Takes a list whole. Return: its tasklets, the one pushed first at the front.
tasklet* take_all(atomic<tasklet*>& head) noexcept {
  tasklet* newest = head.exchange_acquire(nullptr);  // pairs: global_tasklets
  tasklet* oldest = nullptr;
  while (newest != nullptr) {
    tasklet* const next = newest->next;
    newest->next = oldest;
    oldest = newest;
    newest = next;
  }
  return oldest;
}

bool in_interrupt_context() noexcept { return (current().preempt_count & (softirq_mask | hardirq_mask)) != 0; }

void add_softirqs_here(interrupt_task& mine, uint32_t vectors) noexcept {
  mine.softirqs.fetch_or_relaxed(vectors);
  defer_to_task();
}

void add_softirqs_for_service(uint32_t vectors) noexcept {
  interrupts.softirqs.fetch_or_release(vectors);  // pairs: global_softirqs
  kick_service();
}

/// Puts a scheduled tasklet where it will run.
void enqueue(tasklet& t, unsigned level) noexcept {
  if (in_interrupt_context()) {
    interrupt_task& mine = current_interrupts();
    push(mine.tasklets[level], t);
    add_softirqs_here(mine, tasklet_vectors[level]);
  } else {
    push(interrupts.tasklets[level], t);
    add_softirqs_for_service(tasklet_vectors[level]);
  }
}

// ---- running ----

/// Return: true if this thread is to run it now.
bool start_run(tasklet& t) noexcept {
  atomic<uint64_t>& word = word_of(t);
  uint64_t seen = word.load_relaxed();
  for (;;) {
    const uint64_t before = as_now(seen);
    if ((before & disables) != 0) {
      if (word.try_cmpxchg_acq_rel(seen, before | parked)) return false;  // pairs: tasklet
    } else if ((before & running) != 0) {
      if (word.try_cmpxchg_acq_rel(seen, before | again)) return false;  // pairs: tasklet
    } else if (word.try_cmpxchg_acq_rel(seen, (before & ~(scheduled | high | waiters)) | running)) {  // pairs: tasklet
      wake_waiters(t, before);
      return true;
    }
  }
}

void run_one(interrupt_task& mine, tasklet& t) noexcept {
  if (!start_run(t)) return;
  tasklet* const outer = mine.running;
  mine.running = &t;
  call_checked("tasklet", reinterpret_cast<const void*>(t.function), [&] {
    if ((t.flags & calls_by_data) != 0)
      by_data(t.function)(t.data);
    else
      t.function(t);
  });
  mine.running = outer;
  const uint64_t before = change(t, [](uint64_t w) { return w & ~(running | again | waiters); });
  // From here on it may be gone, unless it is this thread's to queue.
  if ((before & again) != 0) enqueue(t, level_of(before));
  wake_waiters(t, before);
}

void run_tasklets(interrupt_task& mine, unsigned level) noexcept {
  for (tasklet* t = take_all(mine.tasklets[level]); t != nullptr;) {
    tasklet* const next = t->next;
    run_one(mine, *t);
    t = next;
  }
}

void run_vector(interrupt_task& mine, unsigned number) noexcept {
  if (number == static_cast<unsigned>(softirq::hi)) return run_tasklets(mine, 0);
  if (number == static_cast<unsigned>(softirq::tasklet)) return run_tasklets(mine, 1);
  void (*const action)() noexcept = interrupts.actions[number].load_acquire();  // pairs: softirq_action
  if (action != nullptr) call_checked("softirq", reinterpret_cast<const void*>(action), [&] { action(); });
}

/// Too much for this place: the rest is ksoftirqd's.
KMEM_COLD void hand_over(interrupt_task& mine) noexcept {
  const uint32_t vectors = mine.softirqs.exchange_relaxed(0);
  for (unsigned level = 0; level < nr_tasklet_levels; ++level)
    for (tasklet* t = take_all(mine.tasklets[level]); t != nullptr;) {
      tasklet* const next = t->next;
      push(interrupts.tasklets[level], *t);
      t = next;
    }
  add_softirqs_for_service(vectors);
}

bool schedule(tasklet& t, bool wants_high) noexcept {
  if (t.function == nullptr) {
    report_misuse("tasklet_schedule", "the tasklet has no function", &t);
    return false;
  }
  const uint64_t before = change(t, [wants_high](uint64_t w) {
    if ((w & (scheduled | killing)) != 0) return w;  // written all the same: the run is to see what came before
    return w | scheduled | (wants_high ? high : 0);
  });
  if ((before & (scheduled | killing)) != 0) return false;
  enqueue(t, wants_high ? 0 : 1);
  return true;
}

/// Waits while a tasklet has one of the flags, but takes a parked one off. Context: process.
void wait_until_without(tasklet& t, uint64_t flags) noexcept {
  atomic<uint64_t>& word = word_of(t);
  uint64_t seen = word.load_acquire();  // pairs: tasklet
  while ((as_now(seen) & flags) != 0) {
    const uint64_t before = as_now(seen);
    if ((flags & scheduled) != 0 && (before & parked) != 0) {
      const uint64_t wanted = before & ~(scheduled | parked | high);
      if (word.try_cmpxchg_acquire(seen, wanted)) seen = wanted;  // pairs: tasklet
      continue;
    }
    if (!word.try_cmpxchg_acquire(seen, before | waiters)) continue;  // pairs: tasklet
    plat::futex_wait(futex_word(t), static_cast<uint32_t>(before | waiters), recheck_ns);
    seen = word.load_acquire();  // pairs: tasklet
  }
}

bool may_wait_for(const tasklet& t, const char* function) noexcept {
  if (current_interrupts().running != &t) return true;
  report_misuse(function, "called by the tasklet itself, for which it would wait", &t);
  return false;
}

/// Stamps a tasklet that is in a list of the child's own.
void stamp(tasklet* t, uint64_t generation) noexcept {
  for (; t != nullptr; t = t->next) {
    atomic<uint64_t>& word = word_of(*t);
    const uint64_t before = word.load_relaxed();
    word.store_relaxed((before & (scheduled | high | disables)) | generation << 32);
  }
}

}  // namespace

void run_softirqs(task_context& task, interrupt_task& mine) noexcept {
  if (mine.softirqs.load_relaxed() == 0) return;
  const call_site none(nullptr, 0);
  for (unsigned round = 0; mine.softirqs.load_relaxed() != 0; ++round) {
    if (round == max_rounds) return hand_over(mine);
    task.preempt_count += softirq_unit;
    arch::compiler_barrier();
    for (uint32_t vectors = mine.softirqs.exchange_relaxed(0); vectors != 0; vectors &= vectors - 1)
      run_vector(mine, static_cast<unsigned>(std::countr_zero(vectors)));
    arch::compiler_barrier();
    // Who raises one between the last look and here finds the count raised and leaves it to the next round.
    task.preempt_count -= softirq_unit;
    arch::compiler_barrier();
  }
}

void run_global_softirqs() noexcept {
  task_context& task = current();
  interrupt_task& mine = current_interrupts();
  const uint32_t vectors = interrupts.softirqs.exchange_acquire(0);  // pairs: global_softirqs
  if (vectors == 0) return;
  for (unsigned level = 0; level < nr_tasklet_levels; ++level)
    for (tasklet* t = take_all(interrupts.tasklets[level]); t != nullptr;) {
      tasklet* const next = t->next;
      push(mine.tasklets[level], *t);
      t = next;
    }
  mine.softirqs.fetch_or_relaxed(vectors);
  run_softirqs(task, mine);
}

void softirq_fork_child() noexcept {
  interrupt_task& mine = current_interrupts();
  const uint64_t generation = interrupts.generation.fetch_add_relaxed(1) + uint64_t{1};
  for (unsigned level = 0; level < nr_tasklet_levels; ++level) {
    stamp(mine.tasklets[level].load_relaxed(), generation);
    stamp(interrupts.tasklets[level].load_relaxed(), generation);
  }
  if (mine.running == nullptr) return;
  atomic<uint64_t>& word = word_of(*mine.running);
  word.store_relaxed((word.load_relaxed() & (scheduled | high | disables)) | running | generation << 32);
}

}  // inline namespace

int open_softirq(softirq number, void (*action)() noexcept) noexcept {
  const auto index = static_cast<uint32_t>(number);
  const bool own = number == softirq::hi || number == softirq::timer || number == softirq::tasklet;
  if (index >= nr_softirqs || own || action == nullptr) return static_cast<int>(err::inval);
  interrupts.actions[index].store_release(action);  // pairs: softirq_action
  return 0;
}

void raise_softirq(softirq number) noexcept {
  if (static_cast<uint32_t>(number) >= nr_softirqs) return report_misuse("raise_softirq", "no such vector", nullptr);
  if (in_interrupt_context())
    add_softirqs_here(current_interrupts(), vector_bit(number));
  else
    add_softirqs_for_service(vector_bit(number));
}

bool tasklet_schedule(tasklet& t) noexcept { return schedule(t, false); }
bool tasklet_hi_schedule(tasklet& t) noexcept { return schedule(t, true); }

void tasklet_disable_nosync(tasklet& t) noexcept {
  change(t, [](uint64_t w) { return w + one_disable; });
}

void tasklet_disable(tasklet& t) noexcept {
  check_may_sleep(__FILE__, __LINE__);
  tasklet_disable_nosync(t);
  if (may_wait_for(t, "tasklet_disable")) wait_until_without(t, running);
}

void tasklet_enable(tasklet& t) noexcept {
  const uint64_t before = change(t, [](uint64_t w) {
    if ((w & disables) == 0) return w;
    w -= one_disable;
    return (w & disables) == 0 ? w & ~parked : w;
  });
  if ((before & disables) == 0) return report_misuse("tasklet_enable", "unbalanced: the tasklet is not disabled", &t);
  if ((before & disables) == one_disable && (before & parked) != 0) enqueue(t, level_of(before));
}

void tasklet_kill(tasklet& t) noexcept {
  check_may_sleep(__FILE__, __LINE__);
  if (!may_wait_for(t, "tasklet_kill")) return;
  change(t, [](uint64_t w) { return w | killing; });
  wait_until_without(t, scheduled | running);
  change(t, [](uint64_t w) { return w & ~killing; });
}

bool tasklet_scheduled(const tasklet& t) noexcept { return (as_now(word_of(const_cast<tasklet&>(t)).load_relaxed()) & scheduled) != 0; }

}  // namespace kmem
