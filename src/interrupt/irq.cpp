// Interrupts: numbers whose handlers run in the thread that a real-time signal interrupts, or in which raise_irq() is called.
//
// States.   A line's word holds three counts: threads in its handlers (bits 0-15), how often it is disabled (16-31) and interrupts that
//           came meanwhile (32-63). One step enters or keeps back, so an interrupt is either handled or counted for enable_irq().
//           Of a thread: irq_counts[] of what waits for it. An arriving interrupt is counted there first; with interrupts on it is taken
//           at once, else where they are on again. Each is handled once: none is merged with another.
// Locks.    changing_lines, a word that its holder sleeps under: who adds or removes users. They change only while the line is disabled
//           and nobody is in it, so handlers read them without a lock.
// Contexts. Handlers: hardirq, interrupts off. In a real signal all interrupt signals are blocked while handlers run and open again,
//           as they were, while softirqs run: so at most one handler is stacked on softirqs on one handler.
// Ordering. pairs: irq_line - who leaves a line, or enables it, releases; who enters it, or sees that nobody is in it, acquires.
//           changing_lines - a lock. Within a thread: single relaxed steps, since only its own signal handlers come in between.
// Kernel.   Edges that arrive while interrupts are off are all delivered; a controller there keeps one. An interrupt hits whatever thread
//           the signal is delivered to, which is this library's "CPU". Unused numbers stay handled, since signals may be on their way.
// Tests.    tests/unit/interrupt/irq_test.cpp, tests/sim/interrupt_test.cpp
#include <bit>
#include <new>

#include "interrupt/interrupt.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

constinit interrupt_system interrupts;

#if !defined(KMEM_SIM)
namespace interrupt_detail {
constinit thread_local interrupt_task this_task;
}
#endif

namespace {

constexpr uint64_t one_inside = 1, one_disable = uint64_t{1} << 16, one_latched = uint64_t{1} << 32;
constexpr uint64_t recheck_ns = 1'000'000'000;  // arbitrary: waiters look again even if nobody wakes them

constexpr uint32_t inside(uint64_t state) noexcept { return static_cast<uint32_t>(state & 0xffff); }
constexpr uint32_t disables(uint64_t state) noexcept { return static_cast<uint32_t>(state >> 16 & 0xffff); }
constexpr uint32_t latched(uint64_t state) noexcept { return static_cast<uint32_t>(state >> 32); }

bool is_irq(int irq) noexcept { return irq >= 0 && irq < nr_irqs(); }
constexpr uint32_t bit(int irq) noexcept { return 1u << irq; }

/// Return: true if the thread is in the line now; else the interrupt was kept for enable_irq().
bool enter_line(irq_line& line) noexcept {
  uint64_t state = line.state.load_relaxed();
  for (;;) {
    if (disables(state) != 0) {
      if (line.state.try_cmpxchg_release(state, state + one_latched)) return false;  // pairs: irq_line
    } else if (line.state.try_cmpxchg_acquire(state, state + one_inside)) {  // pairs: irq_line
      return true;
    }
  }
}

void leave_line(irq_line& line) noexcept {
  uint64_t state = line.state.load_relaxed();
  while (!line.state.try_cmpxchg_release(state, state - one_inside)) {  // pairs: irq_line
  }
  if (disables(state) == 0) return;
  line.ends.fetch_add_relaxed(1);
  plat::futex_wake(line.ends.word(), 0x7fffffff);
}

/// Calls the handlers of one interrupt. Context: hardirq.
void handle(int irq) noexcept {
  irq_line& line = interrupts.lines[irq];
  if (!enter_line(line)) return;
  interrupt_task& mine = current_interrupts();
  const uint32_t running = mine.irqs_running;
  mine.irqs_running = running | bit(irq);
  bool was_handled = false;
  for (const irq_user& user : line.users) {
    if (user.handler == nullptr) continue;
    call_checked("irq handler", reinterpret_cast<const void*>(user.handler),
                 [&] { was_handled |= user.handler(irq, user.device) == irq_return::handled; });
  }
  (was_handled ? line.handled : line.unhandled).fetch_add_relaxed(1);
  mine.irqs_running = running;
  leave_line(line);
}

/// Handles what waits for this thread. Context: interrupts on.
void run_irqs(task_context& task, interrupt_task& mine) noexcept {
  while (const uint32_t waiting = mine.irqs.load_relaxed()) {
    const int irq = std::countr_zero(waiting);
    task.irqs_off = 1;  // what arrives from here on is counted
    arch::compiler_barrier();
    {
      const call_site none(nullptr, 0);
      mine.irqs.fetch_and_relaxed(~bit(irq));  // before the count is taken: a bit too many is harmless
      task.preempt_count += hardirq_unit;
      for (uint32_t n = mine.irq_counts[irq].exchange_relaxed(0); n != 0; --n) handle(irq);
      task.preempt_count -= hardirq_unit;
    }
    arch::compiler_barrier();
    task.irqs_off = 0;
    arch::compiler_barrier();
  }
}

void count_irq(interrupt_task& mine, int irq, uint32_t times) noexcept {
  mine.irq_counts[irq].fetch_add_relaxed(times);
  mine.irqs.fetch_or_relaxed(bit(irq));
  defer_to_task();
}

// ---- signals ----

/// Are there softirqs that may run here?
bool wants_service(const task_context& task, const interrupt_task& mine) noexcept {
  return mine.softirqs.load_relaxed() != 0 && (task.preempt_count & (softirq_mask | hardirq_mask)) == 0;
}

bool on_interrupt(int irq) noexcept {
  task_context& task = current();
  interrupt_task& mine = current_interrupts();
  count_irq(mine, irq, 1);
  if (task.irqs_off != 0) return false;
  ++mine.in_signal;
  run_irqs(task, mine);
  --mine.in_signal;
  // Were each handler to let signals through for what it deferred, there would be as many frames as signals wait.
  if (mine.serves) return false;
  mine.serves = wants_service(task, mine);
  return mine.serves;
}

void after_interrupt() noexcept {
  interrupt_task& mine = current_interrupts();
  ++mine.in_signal;
  settle_context(false);
  --mine.in_signal;
}

bool after_interrupt_again() noexcept {
  interrupt_task& mine = current_interrupts();
  mine.serves = wants_service(current(), mine);
  return mine.serves;
}

constexpr irq_entry entry{on_interrupt, after_interrupt, after_interrupt_again};

// ---- users ----

/// The right to change users of lines. Context: may sleep.
class changing_lines {
 public:
  [[nodiscard]] changing_lines() noexcept {
    while (interrupts.changing_lines.exchange_acquire(1) != 0)  // pairs: changing_lines
      plat::futex_wait(interrupts.changing_lines.word(), 1, recheck_ns);
  }
  ~changing_lines() {
    interrupts.changing_lines.store_release(0);  // pairs: changing_lines
    plat::futex_wake(interrupts.changing_lines.word(), 1);
  }
  changing_lines(const changing_lines&) = delete;
  changing_lines& operator=(const changing_lines&) = delete;
};

void disable_line(irq_line& line) noexcept {
  uint64_t state = line.state.load_relaxed();
  while (!line.state.try_cmpxchg_relaxed(state, state + one_disable)) {
  }
}

/// Waits until nobody is in a line that is disabled; a line that is not may never be found empty, so it is disabled for the time.
void wait_until_empty(irq_line& line) noexcept {
  for (;;) {
    const uint32_t seen = line.ends.load_relaxed();
    if (inside(line.state.load_acquire()) == 0) return;  // pairs: irq_line
    plat::futex_wait(line.ends.word(), seen, recheck_ns);
  }
}

/// Return: false if it was not disabled.
bool enable_line(int irq) noexcept {
  irq_line& line = interrupts.lines[irq];
  uint64_t state = line.state.load_relaxed();
  uint32_t kept = 0;
  for (;;) {
    if (disables(state) == 0) return false;
    kept = disables(state) == 1 ? latched(state) : 0;
    const uint64_t wanted = state - one_disable - kept * one_latched;
    if (line.state.try_cmpxchg_release(state, wanted)) break;  // pairs: irq_line
  }
  if (kept == 0) return true;
  count_irq(current_interrupts(), irq, kept);
  if (current().irqs_off == 0) settle_context(true);
  return true;
}

/// Checks that a wait for a line's handlers is not one for the caller's own frame.
bool may_wait_for(int irq, const char* function) noexcept {
  if ((current_interrupts().irqs_running & bit(irq)) == 0) return true;
  report_misuse(function, "called by a handler of the same interrupt, for which it would wait", nullptr);
  return false;
}

int add_user(irq_line& line, const irq_user& wanted, bool shared) noexcept {
  irq_user* place = nullptr;
  bool used = false;
  for (irq_user& user : line.users) {
    used |= user.handler != nullptr;
    if (user.handler == nullptr && place == nullptr) place = &user;
  }
  if (used && !(shared && line.shared)) return static_cast<int>(err::busy);
  if (place == nullptr) return static_cast<int>(err::nomem);
  *place = wanted;
  line.shared = shared;
  return 0;
}

}  // namespace

void defer_to_task() noexcept {
  set_settle_hook(&settle_context);
  current().deferred = true;
}

// `deferred` is cleared before it is looked whether there is something, and set again for what has to wait on.
void settle_context(bool may_start) noexcept {
  task_context& task = current();
  interrupt_task& mine = current_interrupts();
  task.deferred = false;
  arch::compiler_barrier();
  if (task.irqs_off == 0) run_irqs(task, mine);
  if (task.irqs_off == 0 && (task.preempt_count & (softirq_mask | hardirq_mask)) == 0) run_softirqs(task, mine);
  start_wanted_service(may_start);
  if (mine.irqs.load_relaxed() != 0 || mine.softirqs.load_relaxed() != 0) task.deferred = true;
}

void reset_interrupts() noexcept {
  new (&interrupts) interrupt_system{};
  new (&current_interrupts()) interrupt_task{};
}

namespace {

/// What a dead thread left of a line in the child of a fork: only this thread's own frames are still in it.
void fork_line(irq_line& line, bool mine_is_inside) noexcept {
  const uint64_t state = line.state.load_relaxed();
  line.state.store_relaxed((state & ~uint64_t{0xffff}) | (mine_is_inside ? 1 : 0));
}

}  // namespace

void irq_fork_prepare() noexcept {
  // A handler that interrupted request_irq() on this very thread must not wait for it.
  interrupts.fork_changing_lines = current_interrupts().in_signal == 0;
  if (!interrupts.fork_changing_lines) return;
  while (interrupts.changing_lines.exchange_acquire(1) != 0)  // pairs: changing_lines
    plat::futex_wait(interrupts.changing_lines.word(), 1, recheck_ns);
}

void irq_fork_end() noexcept {
  if (!interrupts.fork_changing_lines) return;
  interrupts.fork_changing_lines = false;
  interrupts.changing_lines.store_release(0);  // pairs: changing_lines
  plat::futex_wake(interrupts.changing_lines.word(), 1);
}

void irq_fork_child() noexcept {
  interrupt_task& mine = current_interrupts();
  for (unsigned irq = 0; irq < max_irqs; ++irq) {
    fork_line(interrupts.lines[irq], (mine.irqs_running & 1u << irq) != 0);
    mine.irq_counts[irq].store_relaxed(0);  // pending signals are the parent's
  }
  mine.irqs.store_relaxed(0);
}

}  // inline namespace

int nr_irqs() noexcept {
  const int signals = plat::nr_irq_signals();
  return signals < static_cast<int>(max_irqs) ? signals : static_cast<int>(max_irqs);
}

int irq_signal(int irq) noexcept { return is_irq(irq) ? plat::irq_signal(irq) : 0; }

int request_irq(int irq, irq_handler handler, uint32_t flags, const char* name, void* device) noexcept {
  check_may_sleep(__FILE__, __LINE__);
  const bool shared = (flags & irq_shared) != 0;
  if (!is_irq(irq) || handler == nullptr || (flags & ~irq_shared) != 0) return static_cast<int>(err::inval);
  if (shared && device == nullptr) return static_cast<int>(err::inval);
  int result = 0;
  irq_line& line = interrupts.lines[irq];
  {
    const changing_lines change;
    disable_line(line);
    wait_until_empty(line);
    result = add_user(line, {handler, device, name}, shared);
    if (result == 0 && !line.has_signal) {
      set_settle_hook(&settle_context);
      line.has_signal = plat::take_irq_signal(irq, entry);
      if (!line.has_signal) {
        for (irq_user& user : line.users) user = {};
        result = static_cast<int>(err::busy);
      }
    }
  }
  enable_line(irq);
  // Handlers cannot start it when they need it for the first time.
  if (result == 0) {
    interrupts.service_wanted.store_relaxed(1);
    start_wanted_service(true);
  }
  return result;
}

void free_irq(int irq, void* device) noexcept {
  check_may_sleep(__FILE__, __LINE__);
  if (!is_irq(irq)) return report_misuse("free_irq", "no such interrupt number", nullptr);
  if (!may_wait_for(irq, "free_irq")) return;
  irq_line& line = interrupts.lines[irq];
  bool found = false;
  {
    const changing_lines change;
    disable_line(line);
    wait_until_empty(line);
    for (irq_user& user : line.users) {
      if (found || user.handler == nullptr || user.device != device) continue;
      user = {};
      found = true;
    }
  }
  enable_line(irq);
  if (!found) report_misuse("free_irq", "nobody has requested the interrupt for this device", device);
}

void disable_irq_nosync(int irq) noexcept {
  if (!is_irq(irq)) return report_misuse("disable_irq", "no such interrupt number", nullptr);
  disable_line(interrupts.lines[irq]);
}

void disable_irq(int irq) noexcept {
  check_may_sleep(__FILE__, __LINE__);
  disable_irq_nosync(irq);
  if (is_irq(irq) && may_wait_for(irq, "disable_irq")) wait_until_empty(interrupts.lines[irq]);
}

void enable_irq(int irq) noexcept {
  if (!is_irq(irq)) return report_misuse("enable_irq", "no such interrupt number", nullptr);
  if (!enable_line(irq)) report_misuse("enable_irq", "unbalanced: the interrupt is not disabled", nullptr);
}

void synchronize_irq(int irq) noexcept {
  check_may_sleep(__FILE__, __LINE__);
  if (!is_irq(irq)) return report_misuse("synchronize_irq", "no such interrupt number", nullptr);
  if (!may_wait_for(irq, "synchronize_irq")) return;
  disable_line(interrupts.lines[irq]);
  wait_until_empty(interrupts.lines[irq]);
  enable_line(irq);
}

void raise_irq(int irq) noexcept {
  if (!is_irq(irq)) return report_misuse("raise_irq", "no such interrupt number", nullptr);
  count_irq(current_interrupts(), irq, 1);
  if (current().irqs_off == 0) settle_context(true);
}

irq_counts read_irq_counts(int irq) noexcept {
  if (!is_irq(irq)) return {};
  return {interrupts.lines[irq].handled.load_relaxed(), interrupts.lines[irq].unhandled.load_relaxed()};
}

}  // namespace kmem
