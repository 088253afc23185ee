// ksoftirqd: the library's thread that runs timers, and softirqs and tasklets that were raised in process context.
//
// States.   stopped -> starting -> running -> stopping -> stopped. It is started where it is first needed, or as soon as a context permits
//           after that (service_wanted), by request_irq() at the latest for handlers. In the child of a fork: stopped, started anew
//           when something needs it; armed timers stay armed until then.
// Locks.    None held while it starts, waits or runs anything.
// Contexts. It runs functions of the program's in softirq context. All signals are blocked in it.
// Ordering. pairs: service_work - who has pushed work exchanges 1 with release, ksoftirqd exchanges 0 with acquire before it looks: it sees
//           the work, or finds 1 when it wants to sleep.
// Kernel.   One thread, not one a CPU; it does the timers as well. Refused by the system, work waits, which is reported.
// Tests.    tests/unit/interrupt/service_test.cpp, tests/sim/interrupt_test.cpp
#include "interrupt/interrupt.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint64_t retry_ns = 1'000'000;  // arbitrary: between attempts to start it
constexpr uint64_t idle_ns = uint64_t{3600} * 1'000'000'000;  // arbitrary: with nothing to do it looks once an hour

void run_service(void*) noexcept {
  interrupts.service_task.store_relaxed(&current());
  while (interrupts.service.load_relaxed() != service_state::stopping) {
    interrupts.service_work.exchange_acquire(0);  // pairs: service_work
    run_global_softirqs();
    const uint64_t wait_ns = run_timers();
    run_global_softirqs();
    if (interrupts.service.load_relaxed() == service_state::stopping) break;
    plat::futex_wait(interrupts.service_work.word(), 0, wait_ns < idle_ns ? wait_ns : idle_ns);
  }
  interrupts.service_task.store_relaxed(nullptr);
}

KMEM_COLD void report_no_thread() noexcept {
  uint32_t missed = 0;
  if (!interrupts.service_reports.allow(plat::now_ns(), missed)) return;
  constexpr const char* text =
      "kmem: the system refuses the thread ksoftirqd: timers and tasklets wait until it can be started; raise the limit of threads";
  printk(log_level::err, text, __builtin_strlen(text));
}

void wake() noexcept {
  if (interrupts.service_work.exchange_release(1) == 0) plat::futex_wake(interrupts.service_work.word(), 1);  // pairs: service_work
}

}  // namespace

void kick_service() noexcept {
  if (interrupts.service.load_relaxed() == service_state::running) return wake();
  interrupts.service_work.exchange_release(1);  // pairs: service_work
  interrupts.service_wanted.store_relaxed(1);
  start_wanted_service(true);
  if (interrupts.service.load_relaxed() != service_state::running) defer_to_task();
}

void start_wanted_service(bool may_start) noexcept {
  if (interrupts.service_wanted.load_relaxed() == 0 || !may_start) return;
  const task_context& task = current();
  if ((task.preempt_count | task.irqs_off | task.depth) != 0 || current_interrupts().in_signal != 0) {
    current().deferred = true;
    return;
  }
  service_state state = service_state::stopped;
  if (plat::now_ns() < interrupts.service_retry_ns.load_relaxed()) {
    current().deferred = true;
    return;
  }
  if (!interrupts.service.try_cmpxchg_relaxed(state, service_state::starting)) {
    if (state != service_state::stopping) interrupts.service_wanted.store_relaxed(0);
    return;
  }
  // Set before the thread runs: it must not find itself stopped.
  interrupts.service_wanted.store_relaxed(0);
  interrupts.service.store_relaxed(service_state::running);
  if (plat::start_thread(interrupts.service_thread, run_service, nullptr, "ksoftirqd")) return wake();
  interrupts.service_retry_ns.store_relaxed(plat::now_ns() + retry_ns);
  interrupts.service_wanted.store_relaxed(1);
  interrupts.service.store_relaxed(service_state::stopped);
  defer_to_task();
  report_no_thread();
}

void stop_interrupt_service() noexcept {
  service_state state = service_state::running;
  if (!interrupts.service.try_cmpxchg_relaxed(state, service_state::stopping)) return;
  wake();
  plat::join_thread(interrupts.service_thread);
  interrupts.service.store_relaxed(service_state::stopped);
}

void report_misuse(const char* function, const char* what, const void* object) noexcept {
  interrupts.misuses.fetch_add_relaxed(1);
  uint32_t missed = 0;
  if (!interrupts.misuse_reports.allow(plat::now_ns(), missed)) return;
  char buffer[256];
  text_writer text(buffer, sizeof buffer);
  text.str("BUG: ").str(function);
  if (object != nullptr) text.str(" (0x").hex(reinterpret_cast<uintptr_t>(object)).str(")");
  text.str(": ").str(what);
  const void* pcs[printk_max_pcs];
  const unsigned nr_pcs = capture_stack(pcs, printk_max_pcs);
  printk(log_level::err, buffer, text.length() < sizeof buffer ? text.length() : sizeof buffer - 1, pcs, nr_pcs);
}

void report_unbalanced(const char* kind, const void* function, uint32_t count_before, uint32_t irqs_before) noexcept {
  task_context& task = current();
  interrupts.misuses.fetch_add_relaxed(1);
  uint32_t missed = 0;
  if (interrupts.misuse_reports.allow(plat::now_ns(), missed)) {
    char buffer[256];
    text_writer text(buffer, sizeof buffer);
    text.str("BUG: entered ").str(kind).str(" 0x").hex(reinterpret_cast<uintptr_t>(function)).str(" with preempt_count ");
    text.hex(count_before, 8).str(", interrupts ").str(irqs_before != 0 ? "off" : "on").str("; left with ");
    text.hex(task.preempt_count, 8).str(", interrupts ").str(task.irqs_off != 0 ? "off" : "on");
    printk(log_level::err, buffer, text.length() < sizeof buffer ? text.length() : sizeof buffer - 1, &function, 1);
  }
  task.preempt_count = count_before;
  task.irqs_off = irqs_before;
}

// Before the machine's locks: who changes users may wait for handlers, and those for these locks.
void interrupt_fork_prepare() noexcept { irq_fork_prepare(); }

// After them, as the lock's rank says. Interrupts are off from here on, so that no handler comes upon locks that its own thread holds.
void interrupt_fork_lock() noexcept {
  interrupts.fork_irqs_off = irqs_set_disabled(true);
  timer_fork_prepare();
}

void interrupt_fork_parent() noexcept { timer_fork_end(); }

void interrupt_fork_child() noexcept {
  if (interrupts.service_task.load_relaxed() != &current() && interrupts.service.load_relaxed() != service_state::stopped) {
    plat::forget_thread(interrupts.service_thread);
    interrupts.service.store_relaxed(service_state::stopped);
    interrupts.service_task.store_relaxed(nullptr);
  }
  softirq_fork_child();
  irq_fork_child();
  const bool wanted = timer_fork_child() || interrupts.softirqs.load_relaxed() != 0;
  interrupts.service_wanted.store_relaxed(wanted ? 1 : 0);
  if (wanted) defer_to_task();
}

// What waited meanwhile runs now, when no lock is held any more. No thread is started inside fork().
void interrupt_fork_end() noexcept {
  current().irqs_off = interrupts.fork_irqs_off ? 1 : 0;
  arch::compiler_barrier();
  if (current().deferred) settle_context(false);
  irq_fork_end();
}

}  // inline namespace
}  // namespace kmem
