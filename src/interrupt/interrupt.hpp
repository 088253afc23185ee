// Front header of the layer `interrupt`: interrupts, softirqs, tasklets and timers as execution contexts. Public face: kmem/interrupt.hpp.
//
// The state is the process's, like the execution contexts of its threads: contexts belong to no machine.
#pragma once
#include <kmem/interrupt.hpp>

#include "base/base.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

inline constexpr unsigned max_irqs = 32;
inline constexpr unsigned max_shared_irq_users = 8;
inline constexpr unsigned nr_tasklet_levels = 2;  // high, ordinary

/// One thread's part: what waits for it. Written by the thread and by signal handlers on it. All zero at the start of a thread.
struct interrupt_task {
  atomic<tasklet*> tasklets[nr_tasklet_levels];  // scheduled here, the last one first
  atomic<uint32_t> softirqs{0};                  // vectors to run
  atomic<uint32_t> irqs{0};                      // numbers that wait
  atomic<uint32_t> irq_counts[max_irqs];         // how often
  uint32_t irqs_running = 0;                     // numbers whose handlers this thread is in
  uint32_t in_signal = 0;                        // handlers of interrupt signals this thread is in
  bool serves = false;                           // one of them runs what they deferred, with signals let through: the others leave it that
  uint32_t in_section = 0;                       // holds the timers' lock
  tasklet* running = nullptr;                    // the tasklet this thread is in
};

struct irq_user {
  irq_handler handler = nullptr;  // nullptr: free
  void* device = nullptr;
  const char* name = nullptr;
};

/// One interrupt number. Its users change only while it is disabled and nobody runs it.
struct irq_line {
  atomic<uint64_t> state{0};  // threads in it, disabled how often, interrupts kept back: see irq.cpp
  atomic<uint32_t> ends{0};   // futex word: raised when somebody leaves it while it is disabled
  irq_user users[max_shared_irq_users];
  bool shared = false;
  bool has_signal = false;
  atomic<uint64_t> handled{0};
  atomic<uint64_t> unhandled{0};
};

enum class service_state : uint32_t { stopped, starting, running, stopping };

/// Everything that is not a thread's own.
struct interrupt_system {
  irq_line lines[max_irqs];
  atomic<uint32_t> changing_lines{0};  // a lock that its holder may sleep under: 1 while somebody changes users
  bool fork_changing_lines = false;

  atomic<void (*)() noexcept> actions[nr_softirqs];
  atomic<uint32_t> softirqs{0};                  // for ksoftirqd
  atomic<tasklet*> tasklets[nr_tasklet_levels];  // for ksoftirqd, the last one first
  atomic<uint32_t> generation{1};                // raised in the child of a fork: see softirq.cpp

  ranked_lock timers_lock{lock_rank::interrupts};
  bool fork_timers_lock = false;
  bool fork_irqs_off = false;
  timer* timers KMEM_GUARDED_BY(timers_lock) = nullptr;                // the earliest one: root of a pairing heap
  timer* running_timer KMEM_GUARDED_BY(timers_lock) = nullptr;
  uint64_t clock KMEM_GUARDED_BY(timers_lock) = 0;                     // jiffies up to which timers have run
  uint32_t timer_waiters KMEM_GUARDED_BY(timers_lock) = 0;
  atomic<const task_context*> timer_runner{nullptr};                   // the thread that runs running_timer
  atomic<uint32_t> timer_ends{0};                                      // futex word

  atomic<service_state> service{service_state::stopped};
  atomic<uint32_t> service_work{0};  // futex word: 1 when there may be something to do
  atomic<uint32_t> service_wanted{0};
  atomic<uint64_t> service_retry_ns{0};
  thread_handle service_thread;
  atomic<const task_context*> service_task{nullptr};
  rate_limit service_reports{uint64_t{10} * 1'000'000'000, 1};
  rate_limit misuse_reports{uint64_t{1} * 1'000'000'000, 10};
  atomic<uint64_t> misuses{0};
};
extern constinit interrupt_system interrupts;

#if defined(KMEM_SIM)
inline constexpr size_t interrupt_task_offset = 256;
static_assert(sizeof(task_context) <= interrupt_task_offset);
static_assert(interrupt_task_offset + sizeof(interrupt_task) <= plat::task_storage_bytes);
inline interrupt_task& current_interrupts() noexcept {
  return *reinterpret_cast<interrupt_task*>(static_cast<char*>(plat::task_storage()) + interrupt_task_offset);
}
#else
namespace interrupt_detail {
extern constinit thread_local interrupt_task this_task __attribute__((tls_model("initial-exec")));
}
inline interrupt_task& current_interrupts() noexcept { return interrupt_detail::this_task; }
#endif

// ---- between the files of the layer ----

/// Notes that something waits for this thread, and has settle_context() called when a count drops or interrupts are on again.
void defer_to_task() noexcept;
/// Does what may be done now of what waits for this thread. `may_start`: the service thread may be started here.
void settle_context(bool may_start) noexcept;
/// Runs this thread's softirqs if it is in none.
void run_softirqs(task_context& task, interrupt_task& mine) noexcept;
/// Takes over what waits for ksoftirqd and runs it. Context: ksoftirqd.
void run_global_softirqs() noexcept;
/// Runs the timers that are due. Return: nanoseconds to the next one. Context: ksoftirqd.
uint64_t run_timers() noexcept;
/// Wakes ksoftirqd, or has it started as soon as the context permits.
void kick_service() noexcept;
/// Starts ksoftirqd if it is wanted and the context permits. `may_start`: it is no signal handler.
void start_wanted_service(bool may_start) noexcept;
/// Reports a wrong call, a few times a second at most; every one counts.
KMEM_COLD void report_misuse(const char* function, const char* what, const void* object) noexcept;

/// A function that was given as one that takes `data`. The detour by void (*)() says that the types differ on purpose.
template <class Function>
auto by_data(Function* function) noexcept {
  return reinterpret_cast<void (*)(uintptr_t)>(reinterpret_cast<void (*)()>(function));
}
KMEM_COLD void report_unbalanced(const char* kind, const void* function, uint32_t count_before, uint32_t irqs_before) noexcept;

/// Runs a function of the program's; it must leave the counts as it found them: reported and put right, as in the kernel.
template <class Call>
void call_checked(const char* kind, const void* function, Call call) noexcept {
  task_context& task = current();
  const uint32_t count = task.preempt_count, irqs = task.irqs_off;
  call();
  if (KMEM_UNLIKELY(task.preempt_count != count || task.irqs_off != irqs)) report_unbalanced(kind, function, count, irqs);
}

// ---- for the layers above ----

/// Ends ksoftirqd; what waits for it stays. Context: may sleep; not ksoftirqd itself.
void stop_interrupt_service() noexcept;
/// As in a new process: for simulations that run many seeds. Context: no other thread.
void reset_interrupts() noexcept;
/// nullptr, or what is wrong with the structures. Context: process.
const char* interrupts_are_valid() noexcept;
/// Timers that are armed. Context: process.
uint64_t nr_armed_timers() noexcept;

void irq_fork_prepare() noexcept;
void irq_fork_end() noexcept;
void irq_fork_child() noexcept;
/// In the child: what other threads ran or were to run is gone with them.
void softirq_fork_child() noexcept;
void timer_fork_prepare() noexcept;
void timer_fork_end() noexcept;
/// Return: whether timers are armed.
bool timer_fork_child() noexcept;

/// fork handlers: prepare before the machine's, lock after it, parent and child before it, end after it.
void interrupt_fork_prepare() noexcept;
void interrupt_fork_lock() noexcept;
void interrupt_fork_parent() noexcept;
void interrupt_fork_child() noexcept;
void interrupt_fork_end() noexcept;

}  // inline namespace
}  // namespace kmem
