// Freeing: reference counts, and where the pages of a block go when the last reference is dropped.
//
// States.   allocated or slab (reference count >= 1) -> reserve, cpu_list or free. The head's `order` and run say how many pages there
//           are, so a free needs to be told nothing, and a wrong order is only reported. On the way there it may be deferred.
// Way.      A single page goes to a reserve that is not full; blocks of order <= 3 to this CPU's list; everything else, and all while
//           somebody waits for memory, to the free areas. Where no lock can be had (a signal handler that interrupted the allocator) the
//           head goes on the lock-free list `deferred`, drained by the next slow path on its way out.
// Locks.    The CPU's list (tried), the zone. Context: any.
// Ordering. pairs: page_refs - each drop of a reference releases what its owner wrote, the last one acquires all of it.
//           pairs: page_waiters - see somebody_waits() and wait.cpp.
// Kernel.   There, freeing a block of single pages whose head is still referenced frees the tails at once. Here nothing is freed before
//           the last reference, and then all of it.
// Tests.    tests/unit/page_alloc/free_test.cpp, tests/unit/page_alloc/nested_test.cpp
#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

void defer(page_allocator& pa, page* p) noexcept {
  pa.stats.deferred_frees.fetch_add_relaxed(1);
  p->kind = page_kind::deferred;  // its reference count is a link from now on: a second free must not touch it
  stack_push(pa, pa.deferred, pa.pfn_of(p));
  wake_after_lockless_free(pa);
}

/// All that was deferred, off the account of the stack at once: the child of a fork counts again what is on it.
pfn_t take_deferred(page_allocator& pa) noexcept {
  const nest_guard guard;
  const pfn_t first = stack_take_all(pa.deferred);
  uint32_t n = 0;
  for (pfn_t pfn = first; !pfn.is_none(); pfn = pfn_t(pa.page_of(pfn).refcount.load_relaxed())) ++n;
  pa.deferred.nr_pages.fetch_sub_relaxed(n);
  return first;
}

/// Takes pages outside the arena off a zone's account.
bool try_uncharge(page_allocator& pa, zone& z, uint64_t n) noexcept {
  bool wake = false;
  {
    nest_guard guard;
    if (!acquire(z.lock)) return false;
    z.committed.store_relaxed(z.committed.load_relaxed() - n);
    z.taken.fetch_sub_relaxed(n);
    wake = somebody_waits(pa);
    z.lock.unlock();
  }
  if (wake) wake_waiters(pa);
  return true;
}

/// Return: false if the zone's lock could not be had; nothing has changed then.
bool free_to_zone(page_allocator& pa, page* p) noexcept {
  zone& z = zone_of(pa, *p);
  const uint64_t n = pages_of_head(*p);
  bool wake = false;
  {
    nest_guard guard;
    if (!acquire(z.lock)) return false;
    p->kind = page_kind::free;
    p->flags = 0;
    put_locked(pa, z, pa.pfn_of(p), n, false);
    wake = somebody_waits(pa);
    z.lock.unlock();
  }
  if (wake) wake_waiters(pa);
  return true;
}

}  // namespace

void wake_after_lockless_free(page_allocator& pa) noexcept {
  pa.waiter_fence.fetch_sub_acq_rel(1);  // pairs: page_waiters
  if (somebody_waits(pa)) wake_waiters(pa);
}

void wake_after_lockless_free_of(page_allocator& pa, const void* what) noexcept {
  pa.waiter_fence.fetch_sub_acq_rel(1);  // pairs: page_waiters
  if (somebody_waits(pa)) wake_waiters_for(pa, what);
}

void free_head(page_allocator& pa, page* p) noexcept {
  zone& z = zone_of(pa, *p);
  const uint64_t n = pages_of_head(*p);
  // Tails that still named their head would lead a wild free to whatever lies there next.
  if (KMEM_UNLIKELY((p->flags & page_flag_compound) != 0))
    for (uint64_t i = 1; i < n; ++i) p[i].kind = page_kind::free;
  if (n == 1 && reserve_put(pa, z, pa.pfn_of(p))) {
    pa.stats.pgfree.fetch_add_relaxed(1);
    return wake_after_lockless_free(pa);
  }
  // What a run that shrank has cut off may have the length of a block, but not its alignment.
  const bool is_block = p->order < nr_cpu_list_orders && n == uint64_t{1} << p->order && pa.pfn_of(p).raw() % n == 0;
  if (is_block && cpu_list_put(pa, z, *p)) return give_back_surplus(pa, z);
  pa.stats.pgfree.fetch_add_relaxed(n);
  if (!free_to_zone(pa, p)) return defer(pa, p);
  drain_deferred(pa);
  give_back_surplus(pa, z);
  watch_slow_path(pa);
}

void uncharge_pages(page_allocator& pa, int zone_number, nr_pages_t n) noexcept {
  zone& z = pa.zones[zone_number];
  if (!try_uncharge(pa, z, n.raw())) {
    z.deferred_uncharge.fetch_add_relaxed(n.raw());
    wake_after_lockless_free(pa);
  }
}

uint64_t drain_deferred(page_allocator& pa) noexcept {
  if (current().depth != 0) return 0;
  settle_managed(pa);
  uint64_t freed = 0;
  for (zone& z : pa.zones) {
    if (KMEM_LIKELY(z.deferred_uncharge.load_relaxed() == 0)) continue;
    const uint64_t n = z.deferred_uncharge.exchange_relaxed(0);
    if (try_uncharge(pa, z, n))
      freed += n;
    else
      z.deferred_uncharge.fetch_add_relaxed(n);
  }
  if (KMEM_LIKELY(pa.deferred.nr_pages.load_relaxed() == 0)) return freed;
  for (pfn_t pfn = take_deferred(pa); !pfn.is_none();) {
    page* const p = &pa.page_of(pfn);
    pfn = stack_next(pa, pfn);
    p->kind = page_kind::allocated;
    freed += pages_of_head(*p);
    if (!free_to_zone(pa, p)) defer(pa, p);
  }
  return freed;
}

void free_pages(page_allocator& pa, page* p, order_t order) noexcept {
  if (p == nullptr) return;
  if (KMEM_UNLIKELY(!is_allocated_head(*p))) return report_bad_page(pa, p, "freed, but not allocated");
  if (KMEM_UNLIKELY(p->order != order.raw())) report_bad_page(pa, p, "freed with another order than it was allocated with");
  put_page(pa, p);
}

void get_page(page* p) noexcept {
  if (p->kind == page_kind::tail) p -= p->prev.raw();
  p->refcount.fetch_add_relaxed(1);
}

void put_page(page_allocator& pa, page* p) noexcept {
  if (p->kind == page_kind::tail) p = compound_head(pa, p);
  if (KMEM_UNLIKELY(!is_allocated_head(*p))) return report_bad_page(pa, p, "released, but not allocated");
  const uint32_t before = p->refcount.fetch_sub_acq_rel(1);  // pairs: page_refs
  if (before > 1) return;
  if (KMEM_UNLIKELY(before == 0)) {
    p->refcount.fetch_add_relaxed(1);
    return report_bad_page(pa, p, "released more often than it was referenced");
  }
  if (KMEM_UNLIKELY(p->kind == page_kind::slab)) {
    // Its objects may be out. The slab layer itself turns a slab into an allocated block before it frees it.
    p->refcount.fetch_add_relaxed(1);
    return report_bad_page(pa, p, "freed, but it is a slab's");
  }
  free_head(pa, p);
}

void split_page(page_allocator& pa, page* p, order_t order) noexcept {
  KMEM_CHECK(p->kind == page_kind::allocated && p->order == order.raw() && (p->flags & page_flag_compound) == 0);
  const uint32_t references = p->refcount.load_relaxed();
  for (uint64_t i = 0; i < nr_pages(order).raw(); ++i) {
    page& q = p[i];
    mark_allocated(q, zone_of(pa, *p), 0, 1);
    q.flags = p->flags;
    q.next = q.prev = pfn_t();
    q.word = i == 0 ? q.word : 0;
    q.refcount.store_relaxed(references);
  }
}

zone_idx page_zone_idx(page_allocator& pa, const page* p) noexcept { return zone_of_pfn(pa, pa.pfn_of(p)).idx; }

page* compound_head(page_allocator& pa, page* p) noexcept { return p->kind == page_kind::tail ? &pa.page_of(p->head) : p; }

void free_pages_at(page_allocator& pa, void* address, order_t order) noexcept {
  if (address == nullptr) return;
  if (KMEM_UNLIKELY(!pa.contains(address))) return report_bad_page(pa, nullptr, "an address outside the arena was freed");
  if (KMEM_UNLIKELY(!pa.is_open(pa.pfn_of(address)))) return report_bad_page(pa, nullptr, "an address was freed that was never handed out");
  free_pages(pa, &pa.page_of(pa.pfn_of(address)), order);
}

}  // inline namespace
}  // namespace kmem
