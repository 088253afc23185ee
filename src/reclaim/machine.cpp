// The machine: every layer set up in order, taken down in the other order, walked and forked as one.
//
// States.   A machine is either set up whole or as it was: machine_init undoes what it did when a layer refuses.
// Locks.    fork takes all locks of all layers: callbacks, vmalloc, the slab layer's, the page allocator's. Each is a leaf or nests
//           downward only among those of its layer and below, so this order cannot deadlock with a thread inside an allocation.
// Contexts. Set-up and tear-down may sleep and do system calls; nobody else may use the machine then.
// Kernel.   A kernel comes up once and never goes down. Here tests and tools make machines by the hundred, and none leaves a mapping
//           behind.
// Tests.    tests/unit/reclaim/machine_test.cpp, fork_test.cpp
#include "reclaim/reclaim.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

uint64_t reclaim_op(void* context, gfp_t gfp, uint64_t nr_pages) noexcept {
  machine& m = *static_cast<machine*>(context);
  // Atomic requests may have left less than min: an ordinary one finds nothing before that is made up for, too.
  const uint64_t wanted = nr_pages + pages_below(m, watermark::min, gfp_zone(gfp));
  const uint64_t freed = run_callbacks(m, gfp, wanted);
  return freed < wanted ? freed + shrink_pages(m, gfp, nr_pages) : freed;
}

uint64_t out_of_memory_op(void* context, gfp_t gfp, unsigned) noexcept { return run_oom_notifiers(*static_cast<machine*>(context), gfp); }

void forget_callbacks(machine& m) noexcept {
  const lock_guard lock(m.callbacks_lock);
  for (machine::callback_entry& entry : m.callbacks) entry = {};
  m.running_callbacks = nullptr;
  m.mempools = nullptr;
  m.nr_callbacks.store_relaxed(0);
  m.next_callback.store_relaxed(0);
}

/// The layers above page_alloc, from the lowest one. Return: err::ok, or why not, with all of them down again.
err init_upper_layers(machine& m) noexcept {
  err result = slab_init(m);
  if (result != err::ok) return result;
  result = kmalloc_init(m);
  if (result == err::ok) {
    result = vmalloc_init(m);
    if (result == err::ok) {
      result = register_reclaim_ops(m, {.context = &m, .reclaim = reclaim_op, .out_of_memory = out_of_memory_op});
      if (result == err::ok) result = kswapd_init(m);
      if (result == err::ok) return result;
      vmalloc_destroy(m);
    }
    kmalloc_destroy(m);
  }
  slab_destroy(m);
  return result;
}

void describe(config_error& error, const machine_config& config, err result) noexcept {
  const budget_choice budget = choose_budget_explained(config);
  text_writer text(error.text, sizeof error.text);
  text.str(result == err::nomem ? "the system gives no memory for a machine" : "no machine can be made");
  text.str(" with a budget of ").dec(budget.pages.raw() << (page_shift - 10)).str(" KiB (from ").str(budget_source_name(budget.source));
  text.str("): ").str(result == err::nomem ? "lower mem= or raise RLIMIT_AS and RLIMIT_DATA" : "raise mem= or make its zones smaller");
}

}  // namespace

void apply_reclaim_checker(const machine_config& config) noexcept {
#if defined(KMEM_DEBUG)
  set_reclaim_checker(config.reclaim_checker != checker_mode::off);
#else
  set_reclaim_checker(config.reclaim_checker == checker_mode::on);
#endif
}

err machine_init(machine& m, const machine_config& config, config_error& error) noexcept {
  if (!config_is_valid(config, error)) return err::inval;
  forget_callbacks(m);
  forget_shrinkers(m);
  err result = page_alloc_init(m, config);
  if (result == err::ok) {
    result = init_upper_layers(m);
    if (result != err::ok) page_alloc_destroy(m);
  }
  if (result != err::ok) {
    describe(error, config, result);
    return result;
  }
  apply_reclaim_checker(config);
  // Otherwise what the program has chosen by set_context_policy() stays.
  if (config.on_broken_context != context_policy::report) set_context_policy(config.on_broken_context);
  for (unsigned point = 0; point < nr_fail_points; ++point)  // after set-up: what fails then is what the user does
    if (config.fail[point].probability != 0) set_fail_attributes(static_cast<fail_point>(point), config.fail[point]);
  return err::ok;
}

bool machine_destroy(machine& m) noexcept {
  kswapd_stop(m);
  const char* const damage = machine_is_valid(m);
  if (damage != nullptr) {
    printk(log_level::err, damage, __builtin_strlen(damage));
    return false;
  }
  vmalloc_destroy(m);
  kmalloc_destroy(m);
  slab_destroy(m);
  page_alloc_destroy(m);
  forget_callbacks(m);
  forget_shrinkers(m);
  return true;
}

const char* machine_is_valid(machine& m) noexcept {
  if (const char* const damage = page_alloc_is_valid(m)) return damage;
  if (const char* const damage = slab_is_valid(m)) return damage;
  if (const char* const damage = vmalloc_is_valid(m)) return damage;
  if (const char* const damage = shrinkers_are_valid(m)) return damage;
  const lock_guard lock(m.callbacks_lock);
  uint32_t used = 0, running = 0, frames = 0;
  for (const machine::callback_entry& entry : m.callbacks) {
    used += entry.used ? 1u : 0u;
    running += entry.running;
  }
  for (const callback_frame* frame = m.running_callbacks; frame != nullptr; frame = frame->next) ++frames;
  if (used != m.nr_callbacks.peek()) return "reclaim: nr_callbacks does not match the used entries";
  if (running != frames) return "reclaim: threads inside callbacks do not match the frames";
  return nullptr;
}

namespace {

void end_fork_level() noexcept {
  arch::compiler_barrier();
  task_context& task = current();
  if (--task.depth == 0) task.fork_levels = 0;
}

}  // namespace

// From the first lock on, what a signal handler, or a fork handler of the program's own, asks of the library on this thread is nested: it
// must not wait for locks that its own thread holds.
void machine_fork_prepare(machine& m) noexcept {
  task_context& task = current();
  if (task.depth++ == 0) task.fork_levels = 1;
  arch::compiler_barrier();
  fork_prepare(m.callbacks_lock, m.callbacks_fork);
  fork_prepare(m.shrinkers.lock, m.shrinkers.fork);
  vmalloc_fork_prepare(m);
  slab_fork_prepare(m);
  page_alloc_fork_prepare(m);
}

void machine_fork_parent(machine& m) noexcept {
  page_alloc_fork_parent(m);
  slab_fork_parent(m);
  vmalloc_fork_parent(m);
  fork_parent(m.shrinkers.lock, m.shrinkers.fork);
  fork_parent(m.callbacks_lock, m.callbacks_fork);
  end_fork_level();
}

void machine_fork_child(machine& m) noexcept {
  page_alloc_fork_child(m);
  slab_fork_child(m);
  vmalloc_fork_child(m);
  const bool alone = m.callbacks_fork.held, nested = current().depth != current().fork_levels;
  fork_child(m.shrinkers.lock, m.shrinkers.fork);
  fork_child(m.callbacks_lock, m.callbacks_fork);
  end_fork_level();
  kswapd_fork_child(m);
  if (!alone) return;
  if (!nested) mempools_fork_child(m);
  shrinkers_fork_child(m);
  // Other threads are gone, and with them what they had been running.
  const lock_guard lock(m.callbacks_lock);
  callback_frame** link = &m.running_callbacks;
  while (*link != nullptr) {
    callback_frame& frame = **link;
    if (frame.thread == &current()) {
      link = &frame.next;
    } else {
      *link = frame.next;
      --m.callbacks[frame.number].running;
    }
  }
}

}  // inline namespace
}  // namespace kmem
