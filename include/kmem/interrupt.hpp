// Execution contexts: interrupts (on real-time signals), softirqs, tasklets and timers, so that code for atomic context runs in one.
//
// An interrupt number is a real-time signal: number 0 is SIGRTMIN. Its handler runs in whatever thread the signal interrupts, with the
// hardirq count raised. A thread with interrupts off keeps interrupts for later, each of them, and takes them when they are on again.
// Softirqs and tasklets run at the end of the interrupt, or where local_bh_enable() lets them; those raised in process context run on the
// library's thread "ksoftirqd", which runs timers, too. It is started at the first need.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <kmem/context.hpp>

namespace kmem {

// ---- interrupts -------------------------------------------------------------------------------------------------------------------

enum class irq_return : int { none = 0, handled = 1 };
/// Context: hardirq; may not sleep. Return: whether the interrupt was the device's.
using irq_handler = irq_return (*)(int irq, void* device) noexcept;

inline constexpr uint32_t irq_shared = 0x80;  // IRQF_SHARED: other devices may have the same number

/// Interrupt numbers are below this: 31 with glibc. Context: any.
[[nodiscard]] KMEM_EXPORT int nr_irqs() noexcept;
/// The signal that is interrupt `irq`. Context: any. Return: 0 for a number that is none.
[[nodiscard]] KMEM_EXPORT int irq_signal(int irq) noexcept;

/// Lets `handler` handle an interrupt; `device` tells the users of a shared one apart. Context: may sleep. Return: 0, or -EINVAL (number,
/// no handler, a shared one without a device), -EBUSY (used by somebody who does not share it, or the program handles the signal itself),
/// -ENOMEM (8 devices share it already).
[[nodiscard]] KMEM_EXPORT int request_irq(int irq, irq_handler handler, uint32_t flags, const char* name, void* device) noexcept
    KMEM_EXCLUDES(atomic_context);
/// Ends that and waits until no thread is in the handler. Further signals of an unused number are counted and ignored, since some may be
/// on their way. Context: may sleep; not from the handler.
KMEM_EXPORT void free_irq(int irq, void* device) noexcept KMEM_EXCLUDES(atomic_context);
/// Keeps an interrupt back, in all threads, until enable_irq(); nests. Waits until its handlers have ended. Context: may sleep.
KMEM_EXPORT void disable_irq(int irq) noexcept KMEM_EXCLUDES(atomic_context);
/// The same without waiting. Context: any.
KMEM_EXPORT void disable_irq_nosync(int irq) noexcept;
/// The interrupts that were kept back are delivered to the calling thread. Context: any.
KMEM_EXPORT void enable_irq(int irq) noexcept;
/// Waits until no thread is in a handler of it. Context: may sleep.
KMEM_EXPORT void synchronize_irq(int irq) noexcept KMEM_EXCLUDES(atomic_context);
/// Interrupts the calling thread, as the signal would: at once, or when its interrupts are on again. Context: any.
KMEM_EXPORT void raise_irq(int irq) noexcept;

struct irq_counts {
  uint64_t handled = 0;    // delivered, and a handler said it was its own
  uint64_t unhandled = 0;  // delivered, and nobody said so, or there was no handler any more
};
[[nodiscard]] KMEM_EXPORT irq_counts read_irq_counts(int irq) noexcept;

/// The building blocks of an interrupt handler of one's own; prefer hardirq_guard. irq_exit() runs softirqs that wait. Context: any.
inline void irq_enter() noexcept { preempt_count_add(hardirq_unit); }
inline void irq_exit() noexcept { preempt_count_sub(hardirq_unit); }
/// Prefer bh_guard. local_bh_enable() runs softirqs that wait. Context: any.
inline void local_bh_disable() noexcept { preempt_count_add(softirq_disable_unit); }
inline void local_bh_enable() noexcept { preempt_count_sub(softirq_disable_unit); }

// ---- softirqs ---------------------------------------------------------------------------------------------------------------------

/// The kernel's vectors, in the order in which they run. `hi`, `timer` and `tasklet` are the library's own.
enum class softirq : uint32_t { hi, timer, net_tx, net_rx, block, irq_poll, tasklet, sched, hrtimer, rcu };
inline constexpr uint32_t nr_softirqs = 10;

/// What a vector does. Context: any, before it is raised. Return: 0, or -EINVAL for a vector of the library's own or no action.
[[nodiscard]] KMEM_EXPORT int open_softirq(softirq number, void (*action)() noexcept) noexcept;
/// Has the action run soon: on this thread if it is in an interrupt, a softirq or a bh_guard, else on ksoftirqd. Context: any.
KMEM_EXPORT void raise_softirq(softirq number) noexcept;

// ---- tasklets ---------------------------------------------------------------------------------------------------------------------

/// Flag of a tasklet or a timer: `function` is a void (*)(uintptr_t) and is given `data`.
inline constexpr uint32_t calls_by_data = 1;

/// A function to be run once, soon, in softirq context. The same tasklet never runs on two threads at once. The fields below `data` are the
/// library's. The object must stay until tasklet_kill() has returned.
struct tasklet {
  void (*function)(tasklet& self) noexcept = nullptr;
  uintptr_t data = 0;  // the function's, as it likes
  uint32_t flags = 0;  // calls_by_data or 0
  uint32_t reserved = 0;
  uint64_t state = 0;
  tasklet* next = nullptr;
};

/// Has it run once more if it is not waiting to run already. What was written before is seen by the run. Context: any, signal handlers
/// included. Return: true if it was not waiting.
KMEM_EXPORT bool tasklet_schedule(tasklet& t) noexcept;
/// The same, before all ordinary ones.
KMEM_EXPORT bool tasklet_hi_schedule(tasklet& t) noexcept;
/// It will not start until tasklet_enable(); nests. Waits until a run has ended. Context: may sleep; not from the tasklet itself.
KMEM_EXPORT void tasklet_disable(tasklet& t) noexcept KMEM_EXCLUDES(atomic_context);
/// The same without waiting. Context: any.
KMEM_EXPORT void tasklet_disable_nosync(tasklet& t) noexcept;
/// One that was scheduled meanwhile runs. Context: any.
KMEM_EXPORT void tasklet_enable(tasklet& t) noexcept;
/// Waits until it neither runs nor waits to run; one that is disabled is taken off. Its own attempts to schedule itself fail meanwhile.
/// Context: may sleep; not from the tasklet itself.
KMEM_EXPORT void tasklet_kill(tasklet& t) noexcept KMEM_EXCLUDES(atomic_context);
/// Is it waiting to run? Context: any.
[[nodiscard]] KMEM_EXPORT bool tasklet_scheduled(const tasklet& t) noexcept;

// ---- timers -----------------------------------------------------------------------------------------------------------------------

inline constexpr uint64_t jiffies_per_second = 250;  // HZ
/// Time in ticks of 4 ms. Context: any.
[[nodiscard]] KMEM_EXPORT uint64_t jiffies() noexcept;

/// Flag of a timer: its function runs with interrupts off, and del_timer_sync() may be called in a hard interrupt.
inline constexpr uint32_t timer_irq_safe = 2;

/// A function to be run once, at a time or soon after, in softirq context on ksoftirqd. It may arm the timer again, or free it. The fields
/// below `data` are the library's. Context of all functions: any of the library's contexts; in a signal handler only if it is the handler
/// of an interrupt (elsewhere refused and reported if it interrupted one of them).
struct timer {
  void (*function)(timer& self) noexcept = nullptr;
  uint64_t expires = 0;  // jiffies
  uintptr_t data = 0;    // the function's, as it likes
  uint32_t flags = 0;    // calls_by_data, timer_irq_safe
  uint32_t state = 0;
  uint64_t due = 0;
  timer* child = nullptr;
  timer* next = nullptr;
  timer* previous = nullptr;
};

/// Arms it for `timer.expires`. One that is armed already is reported and left alone.
KMEM_EXPORT void add_timer(timer& t) noexcept;
/// Arms it for `expires`, armed already or not. Return: true if it was.
KMEM_EXPORT bool mod_timer(timer& t, uint64_t expires) noexcept;
/// The same, but only if it is armed.
KMEM_EXPORT bool mod_timer_pending(timer& t, uint64_t expires) noexcept;
/// The same, but only to make it earlier or to arm it.
KMEM_EXPORT bool timer_reduce(timer& t, uint64_t expires) noexcept;
/// Disarms it; its function may still be running. Return: true if it was armed.
KMEM_EXPORT bool del_timer(timer& t) noexcept;
/// The same if its function is not running. Return: 1, 0, or -1 if it is running and nothing was done.
KMEM_EXPORT int try_to_del_timer_sync(timer& t) noexcept;
/// Disarms it and waits until its function has ended. Context: not in a hard interrupt (but for timer_irq_safe) and not in the function
/// (reported; it then does not wait). Return: true if it was armed.
KMEM_EXPORT bool del_timer_sync(timer& t) noexcept;
/// The same for good: from now on it is not armed any more, not by its own function either. Context: as del_timer_sync.
KMEM_EXPORT bool timer_shutdown_sync(timer& t) noexcept;
/// Is it armed? Context: any.
[[nodiscard]] KMEM_EXPORT bool timer_pending(const timer& t) noexcept;

}  // namespace kmem
