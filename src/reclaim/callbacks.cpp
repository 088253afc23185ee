// Reclaim callbacks: an application's caches give memory back before an allocation fails.
//
// States.   An entry is unused, used, or leaving (unused, but threads are still inside it: its number is not given out again). Always,
//           under callbacks_lock:   sum of running over the entries == frames in running_callbacks,   nr_callbacks == used entries
// Locks.    callbacks_lock, never held while a callback runs, so a callback may register others, allocate and free.
// Contexts. Callbacks run on the thread whose allocation is short of memory, in process context with no lock of the library's held: never
//           in atomic context, and never inside a handler that interrupted the allocator. What they allocate may use the reserves and
//           does not reclaim (scope_noreclaim), so the step is not reached again inside one.
// Kernel.   Shrinkers count first and are asked for a share by their seeks; here a callback is told how many pages are missing, and the
//           callbacks are asked in turn until enough came back.
// Tests.    tests/unit/reclaim/callbacks_test.cpp
#include "reclaim/reclaim.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint64_t recheck_ns = 100'000'000;  // arbitrary: unregister looks again even if nobody wakes it

void complain(const char* what, int number) noexcept {
  char text[160];
  text_writer line(text, sizeof text);
  line.str("kmem: ").str(what).str(" (number ").sdec(number).ch(')');
  const void* pcs[printk_max_pcs];
  printk(log_level::err, text, line.length(), pcs, capture_stack(pcs, printk_max_pcs));
}

/// Is callback `number` usable with `gfp`? Then the thread is inside it, and `frame` says so.
bool enter_callback(machine& m, unsigned number, gfp_t gfp, callback_frame& frame, reclaim_callback& callback) noexcept {
  const lock_guard lock(m.callbacks_lock);
  machine::callback_entry& entry = m.callbacks[number];
  if (!entry.used || (entry.callback.needs & ~gfp) != gfp::none) return false;
  ++entry.running;
  callback = entry.callback;
  frame = {m.running_callbacks, &current(), number};
  m.running_callbacks = &frame;
  return true;
}

void leave_callback(machine& m, callback_frame& frame) noexcept {
  {
    const lock_guard lock(m.callbacks_lock);
    callback_frame** link = &m.running_callbacks;
    while (*link != &frame) link = &(*link)->next;
    *link = frame.next;
    --m.callbacks[frame.number].running;
    m.callback_ends.fetch_add_relaxed(1);
  }
  plat::futex_wake(m.callback_ends.word(), 0x7fffffff);
}

/// Runs one callback. Return: pages it says it freed.
uint64_t call(const reclaim_callback& callback, unsigned number, gfp_t gfp, uint64_t nr_pages) noexcept {
  const uint32_t count_before = preempt_count();
  const uint32_t saved = memalloc_save(scope_noreclaim);
  const uint64_t freed = callback.reclaim(callback.context, gfp, nr_pages);
  memalloc_restore(scope_noreclaim, saved);
  if (preempt_count() != count_before)
    complain("a reclaim callback returned in another context than it was called in", static_cast<int>(number));
  return freed;
}

}  // namespace

uint64_t run_callbacks(machine& m, gfp_t gfp, uint64_t nr_pages) noexcept {
  if (m.nr_callbacks.load_relaxed() == 0) return 0;
  const task_context& task = current();
  if (task.depth != 0 || in_atomic() || !check_no_recursion(gfp)) return 0;
  const reclaim_region region(gfp);
  const uint32_t start = m.next_callback.fetch_add_relaxed(1);
  uint64_t freed = 0;
  bool any = false;
  for (unsigned i = 0; i < nr_reclaim_callbacks && freed < nr_pages; ++i) {
    const unsigned number = (start + i) % nr_reclaim_callbacks;
    callback_frame frame;
    reclaim_callback callback;
    if (!enter_callback(m, number, gfp, frame, callback)) continue;
    any = true;
    const uint64_t got = call(callback, number, gfp, nr_pages - freed);
    leave_callback(m, frame);
    freed = got < ~freed ? freed + got : ~uint64_t{0};
  }
  // Objects that a callback has freed, or needed for a moment, are in arrays and slabs that may be wholly free by now.
  const uint64_t drained = any ? drain_caches(m, true) : 0;
  return freed != 0 ? freed : drained;
}

int register_callback(machine& m, const reclaim_callback& callback) noexcept {
  check_may_sleep(__FILE__, __LINE__);
  if (callback.reclaim == nullptr || (callback.needs & ~(gfp::io | gfp::fs)) != gfp::none) return static_cast<int>(err::inval);
  const nest_guard nest;
  if (!m.callbacks_lock.lock_unless_nested()) return static_cast<int>(err::busy);
  int number = static_cast<int>(err::nomem);
  for (unsigned i = 0; i < nr_reclaim_callbacks && number < 0; ++i) {
    machine::callback_entry& entry = m.callbacks[i];
    if (entry.used || entry.running != 0) continue;
    entry.callback = callback;
    entry.used = true;
    m.nr_callbacks.fetch_add_relaxed(1);
    number = static_cast<int>(i);
  }
  m.callbacks_lock.unlock();
  return number;
}

void unregister_callback(machine& m, int number) noexcept {
  check_may_sleep(__FILE__, __LINE__);
  bool known = false, from_itself = false;
  if (number >= 0 && static_cast<unsigned>(number) < nr_reclaim_callbacks) {
    const lock_guard lock(m.callbacks_lock);
    machine::callback_entry& entry = m.callbacks[number];
    known = entry.used;
    if (known) {
      entry.used = false;
      m.nr_callbacks.fetch_sub_relaxed(1);
      for (const callback_frame* frame = m.running_callbacks; frame != nullptr; frame = frame->next)
        from_itself |= frame->thread == &current() && frame->number == static_cast<unsigned>(number);
    }
  }
  if (!known) return complain("unregister_reclaim() of a callback that is not registered", number);
  if (from_itself) return complain("unregister_reclaim() from the callback itself, which cannot be waited for", number);
  for (;;) {
    uint32_t running = 0, ends = 0;
    {
      const lock_guard lock(m.callbacks_lock);
      running = m.callbacks[number].running;
      ends = m.callback_ends.load_relaxed();
    }
    if (running == 0) return;
    plat::futex_wait(m.callback_ends.word(), ends, recheck_ns);
  }
}

}  // inline namespace
}  // namespace kmem
