// The execution context of a thread: counts, interrupts off, memalloc scopes, and the rules about sleeping.
//
// States.   One task_context a thread, all zero at its start; guards raise and restore, so counts are back when all scopes are closed.
//           A count that would fall below zero stays as it is and is a broken rule like the others.
// Rules.    may-sleep: no count raised and interrupts not off. Every break is counted; the policy says what else happens: a report
//           of each kind at most once a second, nothing, or a report and the end of the process.
// Locks.    None; any context. A report inside a report is only counted.
// Ordering. None: words of the own thread, and counters that order nothing.
// Kernel.   in_atomic() here includes "interrupts off", which the kernel's leaves to irqs_disabled(); the reports' in_atomic() field
//           is the kernel's. schedule() raises the preempt count itself before it looks, so one spin lock held reads 0x00000002.
//           noreclaim is applied to the mask (current_gfp), not looked up in the task by the page allocator.
// Tests.    tests/unit/base/context_test.cpp
#include "base/context.hpp"

#include "base/bug.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

#if !defined(KMEM_SIM)
namespace base_detail {
constinit thread_local task_context this_task;
}
#endif

namespace {

constexpr uint64_t report_interval_ns = 1'000'000'000;  // the kernel's: one second

/// One kind of broken rule and the rate limit of its reports.
struct rule {
  const char* name;
  rate_limit limit{report_interval_ns, 1};
};
constinit rule sleep_rule{"might_sleep"};
constinit rule schedule_rule{"schedule"};
constinit rule count_rule{"preempt_count"};
constinit rule recursion_rule{"reclaim recursion"};
constinit rule violation_rule{"reclaim violation"};

constinit atomic<uint64_t> violations{0};
constinit atomic<uint32_t> policy{static_cast<uint32_t>(context_policy::report)};

/// The lines every report ends with, before the program counters.
void append_task(text_writer& text) noexcept {
  char name[16];
  plat::thread_name(name, sizeof name);
  text.str("CPU: ").dec(static_cast<uint64_t>(plat::cpu()));
  text.str(" PID: ").dec(static_cast<uint64_t>(plat::thread_id())).str(" Comm: ").str(name).str("\nCall Trace:\n");
}

/// Counts a break of `broken` and reports it as the policy wants; `describe` writes the lines that are its own.
template <class Describe>
KMEM_COLD void report(rule& broken, Describe describe, const earlier_place* earlier = nullptr) noexcept {
  violations.fetch_add_relaxed(1);
  const auto what = static_cast<context_policy>(policy.load_relaxed());
  task_context& task = current();
  if (what == context_policy::count || task.in_report) return;
  uint32_t missed = 0;
  if (!broken.limit.allow(plat::now_ns(), missed) && what != context_policy::abort) return;
  task.in_report = true;
  char buffer[512];
  if (missed != 0) {
    text_writer note(buffer, sizeof buffer);
    note.str(broken.name).str(": ").dec(missed).str(" reports suppressed\n");
    printk(log_level::warning, buffer, note.length());
  }
  text_writer text(buffer, sizeof buffer);
  describe(text);
  append_task(text);
  const void* pcs[printk_max_pcs];
  const unsigned nr_pcs = capture_stack(pcs, printk_max_pcs);
  printk(log_level::err, buffer, text.length() < sizeof buffer ? text.length() : sizeof buffer - 1, pcs, nr_pcs);
  if (earlier != nullptr && earlier->nr_pcs != 0)
    printk(log_level::err, earlier->text, __builtin_strlen(earlier->text), earlier->pcs, earlier->nr_pcs);
  task.in_report = false;
  if (what == context_policy::abort) plat::die();
}

constinit atomic<settle_hook> hook{nullptr};

KMEM_COLD void settle(bool may_start) noexcept {
  const settle_hook call = hook.load_relaxed();
  if (call != nullptr) call(may_start);
}

bool is_atomic(const task_context& task) noexcept { return (task.preempt_count | task.irqs_off) != 0; }

}  // namespace

void set_settle_hook(settle_hook wanted) noexcept { hook.store_relaxed(wanted); }

bool check_may_sleep(const char* file, int line) noexcept {
  if (KMEM_LIKELY(!is_atomic(current()))) return true;
  if (current().site_file != nullptr) {
    file = current().site_file;
    line = current().site_line;
  }
  report(sleep_rule, [&](text_writer& text) {
    const task_context& task = current();
    char name[16];
    plat::thread_name(name, sizeof name);
    text.str("BUG: sleeping function called from invalid context at ").str(file).ch(':').sdec(line);
    text.str("\nin_atomic(): ").dec(task.preempt_count != 0 ? 1 : 0).str(", irqs_disabled(): ").dec(task.irqs_off);
    text.str(", non_block: 0, pid: ").dec(static_cast<uint64_t>(plat::thread_id())).str(", name: ").str(name);
    text.str("\npreempt_count: ").hex(task.preempt_count).str(", expected: 0\n");
  });
  return false;
}

bool check_schedule() noexcept {
  if (KMEM_LIKELY(!is_atomic(current()))) return true;
  report(schedule_rule, [](text_writer& text) {
    char name[16];
    plat::thread_name(name, sizeof name);
    text.str("BUG: scheduling while atomic: ").str(name).ch('/').dec(static_cast<uint64_t>(plat::thread_id()));
    text.str("/0x").hex(current().preempt_count + preempt_unit, 8).ch('\n');
  });
  return false;
}

void report_reclaim_rule(reclaim_rule which, const char* what, const earlier_place& earlier) noexcept {
  report(which == reclaim_rule::recursion ? recursion_rule : violation_rule, [&](text_writer& text) { text.str(what); }, &earlier);
}

void reset_context_rules() noexcept {
  violations.store_relaxed(0);
  policy.store_relaxed(static_cast<uint32_t>(context_policy::report));
  for (rule* each : {&sleep_rule, &schedule_rule, &count_rule, &recursion_rule, &violation_rule}) each->limit.reset();
}

}  // inline namespace

uint32_t preempt_count() noexcept { return current().preempt_count; }
bool irqs_disabled() noexcept { return current().irqs_off != 0; }
bool in_atomic() noexcept { return is_atomic(current()); }
bool in_interrupt() noexcept { return (current().preempt_count & (softirq_mask | hardirq_mask)) != 0; }

void preempt_count_add(uint32_t units) noexcept {
  current().preempt_count += units;
  arch::compiler_barrier();
}

void preempt_count_sub(uint32_t units) noexcept {
  arch::compiler_barrier();
  task_context& task = current();
  // Each field on its own: a whole count that is large enough may still borrow from the next field.
  const auto field_is_short = [&](uint32_t mask) { return (task.preempt_count & mask) < (units & mask); };
  if (KMEM_LIKELY(!field_is_short(preempt_mask) && !field_is_short(softirq_mask) && !field_is_short(hardirq_mask))) {
    task.preempt_count -= units;
    arch::compiler_barrier();
    // Where an interrupt ends, a signal handler may: a thread cannot be started there.
    if (KMEM_UNLIKELY(task.deferred)) settle((units & (hardirq_mask | softirq_unit)) == 0);
    return;
  }
  report(count_rule, [&](text_writer& text) {
    text.str("BUG: preempt_count underflow: ").hex(task.preempt_count).str(" - ").hex(units).ch('\n');
  });
}

bool irqs_set_disabled(bool disabled) noexcept {
  arch::compiler_barrier();
  task_context& task = current();
  const bool before = task.irqs_off != 0;
  task.irqs_off = disabled ? 1 : 0;
  arch::compiler_barrier();
  if (KMEM_UNLIKELY(!disabled && before && task.deferred)) settle(true);
  return before;
}

void might_sleep(const char* file, int line) noexcept { check_may_sleep(file, line); }

void set_context_policy(context_policy wanted) noexcept { policy.store_relaxed(static_cast<uint32_t>(wanted)); }
uint64_t context_violations() noexcept { return violations.load_relaxed(); }

uint32_t memalloc_save(uint32_t scope_bits) noexcept {
  task_context& task = current();
  const uint32_t before = task.memalloc_scopes;
  task.memalloc_scopes = before | scope_bits;
  const uint32_t entered = scope_bits & ~before;
  if ((entered & (scope_noio | scope_nofs)) != 0) note_scopes(entered);
  return before & scope_bits;
}

void memalloc_restore(uint32_t scope_bits, uint32_t saved) noexcept {
  task_context& task = current();
  task.memalloc_scopes = (task.memalloc_scopes & ~scope_bits) | (saved & scope_bits);
}

gfp_t current_gfp(gfp_t mask) noexcept {
  const uint32_t scopes = current().memalloc_scopes;
  if (KMEM_LIKELY(scopes == 0)) return mask;
  if ((scopes & scope_noio) != 0) mask &= ~(gfp::io | gfp::fs);
  if ((scopes & scope_nofs) != 0) mask &= ~gfp::fs;
  if ((scopes & scope_noreclaim) != 0) mask = (mask | gfp::memalloc) & ~gfp::direct_reclaim;
  return mask;
}

}  // namespace kmem
