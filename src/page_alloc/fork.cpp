// fork: the child gets a copy in which no lock is held and no structure is half changed.
//
// How.      prepare takes every lock of the layer, in rank order, so that no other thread is inside one while the memory is copied. Which
//           ones it has is kept, since a handler that interrupted this thread's own slow path can only try: what it does not get is held
//           by the frame below it, which goes on in parent and child alike, or by a thread that is gone in the child, whose change stays
//           half done (documented: fork in a handler that interrupted the allocator is safe only in a process with one thread).
//           Counts that change without a lock may be off by what other threads were just doing: the child counts again, unless a handler
//           forks that interrupted such a change, which is finished in the child. Pages that other threads had out or on their way back
//           to the system stay lost to it; what is committed for the forking thread (task_context::claimed) is not.
// Locks.    machine, CPU lists by zone and number, zones, section, wait queue. Debug builds count held locks per rank; here the count is
//           put aside.
// Ordering. The locks'.
// Kernel.   None: a kernel does not copy itself.
// Tests.    tests/unit/page_alloc/fork_test.cpp
#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

/// All locks of the layer in rank order, each with its number.
template <class Visit>
void for_each_lock(page_allocator& pa, Visit visit) noexcept {
  uint32_t number = 0;
  visit(pa.machine_lock, number++);
  for (zone& z : pa.zones)
    for (unsigned cpu = 0; cpu < pa.nr_cpus; ++cpu, ++number)
      if (z.nr_blocks != 0) visit(z.per_cpu[cpu].lock, number);
  for (zone& z : pa.zones) visit(z.lock, number++);
  visit(pa.section_lock, number++);
  visit(pa.queue.lock, number);
}

/// Counts a stack; there is only one thread now.
void recount(page_allocator& pa, page_stack& stack) noexcept {
  uint32_t n = 0;
  for (pfn_t pfn(static_cast<uint32_t>(stack.head.load_relaxed())); !pfn.is_none(); pfn = pfn_t(pa.page_of(pfn).refcount.load_relaxed()))
    ++n;
  stack.nr_pages.store_relaxed(n);
}

bool was_taken(const page_allocator& pa, uint32_t number) noexcept { return (pa.fork_locks[number / 64] >> (number % 64) & 1) != 0; }

}  // namespace

// Taking locks that the function does not release is beyond the analysis.
void page_alloc_fork_prepare(page_allocator& pa) noexcept KMEM_NO_ANALYSIS {
  for (uint64_t& word : pa.fork_locks) word = 0;
  const uint64_t held = current().held_ranks;
  const nest_guard guard;
  for_each_lock(pa, [&](ranked_lock& lock, uint32_t number) KMEM_NO_ANALYSIS {
    if (!lock.lock_for_fork()) return;
    current().held_ranks = held;
    pa.fork_locks[number / 64] |= uint64_t{1} << (number % 64);
  });
}

void page_alloc_fork_parent(page_allocator& pa) noexcept KMEM_NO_ANALYSIS {
  const uint64_t held = current().held_ranks;
  for_each_lock(pa, [&](ranked_lock& lock, uint32_t number) KMEM_NO_ANALYSIS {
    if (!was_taken(pa, number)) return;
    current().held_ranks = uint64_t{1} << (static_cast<unsigned>(lock.rank()) * held_bits);
    lock.unlock();
  });
  current().held_ranks = held;
}

void page_alloc_fork_child(page_allocator& pa) noexcept {
  // Only what prepare has taken: the rest belongs to the frame below, which releases it.
  for_each_lock(pa, [&](ranked_lock& lock, uint32_t number) {
    if (was_taken(pa, number) || current().depth == current().fork_levels) lock.reinit_after_fork();
  });
  forget_waiters(pa);
  pa.refilling.store_relaxed(0);
  if (current().depth != current().fork_levels) return;  // the frame below counts on what it has seen
  recount(pa, pa.memalloc_pool);
  recount(pa, pa.deferred);
  for (zone& z : pa.zones) {
    recount(pa, z.reserve);
    forget_leaving_of_others(z);
    const uint64_t not_taken = z.present_free.load_relaxed() + z.in_transit.load_relaxed() + z.reserve.nr_pages.load_relaxed();
    z.taken.store_relaxed(z.committed.load_relaxed() - not_taken - current().claimed[raw(z.idx)]);
  }
}

}  // inline namespace
}  // namespace kmem
