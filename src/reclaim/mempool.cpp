// Mempools: a number of elements set aside when there is memory, so that whoever may block always gets one when there is none.
//
// What for.  An I/O path that allocates must not depend on memory that only I/O would free. Of n elements that are set aside, as many
//            users as there are elements make progress, and each that ends lets the next one go on.
// States.    An element is out, or in a slot. Always, but for threads that are just moving one:
//              elements in slots == curr_nr <= min_nr,   slots of all chunks >= min_nr
//            A free first reserves a place by raising curr_nr, so there always is an empty slot for it; an allocation empties a slot
//            first and lowers curr_nr then. So a free gives an element to its source only when as many are set aside, or just taken,
//            as there should be; elements out plus set aside never fall below min_nr.
// Locks.     None: slots change by exchange and compare-exchange, so a pool may be used from any context, signal handlers that
//            interrupted an operation on it included. A nest_guard tells fork that this thread is in between two steps. The list of
//            a machine's pools is under callbacks_lock.
// Contexts.  mempool_alloc with a mask that blocks sleeps in the end; everything else is as the source allows.
// Ordering.  pairs: mempool_slot - what was written to an element before it came back is seen by who takes it.
//            pairs: mempool_chunks, mempool_min_nr - who sees a larger min_nr sees the slots for it.
//            pairs: mempool_waiters - a waiter raises `waiters`, steps on waiter_fence, looks at all slots, and sleeps on `sequence` as
//            it was before; a free fills a slot, steps on waiter_fence and reads `waiters`. So one of the two sees the other.
//            Whoever leaves after a wait passes a wake-up on while there are elements, so none is lost to who did not need it.
// Kernel.    The same order of attempts and the same 5 seconds between them. There, a spin lock and a stack of elements; a pool of no
//            elements is possible there and has at least one here. __GFP_ZERO is taken off, with a message: elements that come back are
//            not cleared.
// Tests.     tests/unit/reclaim/mempool_test.cpp, tests/sim/sim_mempool_test.cpp
#include <new>

#include "reclaim/reclaim.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint64_t ns_per_second = 1'000'000'000;
constexpr uint64_t wait_ns = 5 * ns_per_second;         // the kernel's: memory may have come free without this pool being told
constexpr uint64_t stall_report_ns = 10 * ns_per_second;
constexpr gfp_t try_gfp = gfp::nomemalloc | gfp::noretry | gfp::nowarn;

constinit rate_limit zero_reports{60 * ns_per_second, 1};  // arbitrary

void say(log_level level, const text_writer& text, const char* line, size_t capacity) noexcept {
  const void* pcs[printk_max_pcs];
  printk(level, line, text.length() < capacity ? text.length() : capacity - 1, pcs, capture_stack(pcs, printk_max_pcs));
}

void* from_source(const mempool& pool, gfp_t gfp) noexcept {
  const mempool_source& source = pool.source;
  switch (source.kind) {
    case mempool_kind::functions:
      return source.alloc(gfp, source.data);
    case mempool_kind::slab:
      return cache_alloc(*pool.owner, *source.cache, gfp);
    case mempool_kind::kmalloc:
      return kmalloc(*pool.owner, source.size, gfp);
    case mempool_kind::pages:
      return alloc_pages(*pool.owner, gfp, order_t(source.order));
  }
  return nullptr;
}

void to_source(const mempool& pool, void* element) noexcept {
  const mempool_source& source = pool.source;
  switch (source.kind) {
    case mempool_kind::functions:
      return source.free(element, source.data);
    case mempool_kind::slab:
      return cache_free(*pool.owner, *source.cache, element);
    case mempool_kind::kmalloc:
      return kfree(*pool.owner, element);
    case mempool_kind::pages:
      return free_pages(*pool.owner, static_cast<page*>(element), order_t(source.order));
  }
}

/// Visits slots until `visit` returns true. Starts below slot `start` of the newest chunk, where the last element lies if none has moved.
template <class Visit>
bool visit_slots(mempool& pool, uint32_t start, Visit visit) noexcept {
  for (mempool_chunk* chunk = pool.chunks.load_acquire(); chunk != nullptr; chunk = chunk->next) {  // pairs: mempool_chunks
    const uint32_t n = chunk->nr_slots, first = start < n ? start : n;
    for (uint32_t i = 0; i < n; ++i)
      if (visit(chunk->slots()[i < first ? first - 1 - i : n - 1 - (i - first)])) return true;
  }
  return false;
}

/// An element that was set aside, or nullptr.
void* take(mempool& pool) noexcept {
  const uint32_t count = pool.curr_nr.load_relaxed();
  if (count == 0) return nullptr;
  const nest_guard nest;
  void* element = nullptr;
  visit_slots(pool, count, [&](atomic<void*>& slot) noexcept {
    if (slot.load_relaxed() != nullptr) element = slot.exchange_acquire(nullptr);  // pairs: mempool_slot
    return element != nullptr;
  });
  if (element != nullptr) pool.curr_nr.fetch_sub_relaxed(1);
  return element;
}

/// Sets an element aside if there are too few. Return: whether it did.
bool put(mempool& pool, void* element) noexcept {
  const nest_guard nest;
  uint32_t count = pool.curr_nr.load_relaxed();
  do {
    if (count >= pool.min_nr.load_acquire()) return false;  // pairs: mempool_min_nr
  } while (!pool.curr_nr.try_cmpxchg_relaxed(count, count + 1));
  const auto fill = [element](atomic<void*>& slot) noexcept {
    void* empty = nullptr;
    return slot.load_relaxed() == nullptr && slot.try_cmpxchg_release(empty, element);  // pairs: mempool_slot
  };
  // There is an empty slot at every moment, but others may take it and leave another one behind the search.
  for (unsigned spins = 0; !visit_slots(pool, count + 1, fill); ++spins) plat::relax(spins);
  return true;
}

/// Frees what is set aside beyond min_nr, after that was lowered.
void trim(mempool& pool) noexcept {
  while (pool.curr_nr.load_relaxed() > pool.min_nr.load_relaxed()) {
    void* const element = take(pool);
    if (element == nullptr) return;  // in somebody's hands, who looks as well
    to_source(pool, element);
  }
}

void wake_one(mempool& pool) noexcept {
  pool.waiter_fence.fetch_sub_acq_rel(1);  // pairs: mempool_waiters
  if (pool.waiters.load_relaxed() == 0) return;
  pool.sequence.fetch_add_relaxed(1);
  plat::futex_wake(pool.sequence.word(), 1);
}

KMEM_COLD void report_stall(const mempool& pool, gfp_t gfp, uint64_t waited_ns) noexcept {
  char name[16], line[300], mask[96];
  plat::thread_name(name, sizeof name);
  format_gfp(gfp, mask, sizeof mask);
  text_writer text(line, sizeof line);
  text.str(name).str(": mempool_alloc() has waited ").dec(waited_ns / ns_per_second).str(" s for an element, mode:0x");
  text.hex(static_cast<uint32_t>(gfp)).ch('(').str(mask).str("): all ").dec(pool.min_nr.load_relaxed());
  text.str(" elements that were set aside are out and none comes back: make the pool larger, or let who holds one go on\n");
  say(log_level::warning, text, line, sizeof line);
}

KMEM_COLD void report_zero() noexcept {
  uint32_t missed = 0;
  if (!zero_reports.allow(plat::now_ns(), missed)) return;
  char line[160];
  text_writer text(line, sizeof line);
  text.str("mempool_alloc(): __GFP_ZERO is taken off, as elements that come back to a pool are not cleared: clear it yourself\n");
  say(log_level::warning, text, line, sizeof line);
}

/// Sleeps until an element comes back, or for 5 seconds. Return: an element that was there before it came to that.
void* wait_for_element(mempool& pool) noexcept {
  const uint32_t before = pool.sequence.load_relaxed();
  pool.waiters.fetch_add_relaxed(1);
  pool.waiter_fence.fetch_sub_acq_rel(1);  // pairs: mempool_waiters
  void* const element = take(pool);
  if (element == nullptr) {
    check_schedule();
    pool.waits.fetch_add_relaxed(1);
    plat::futex_wait(pool.sequence.word(), before, wait_ns);
  }
  pool.waiters.fetch_sub_relaxed(1);
  return element;
}

mempool_chunk* new_chunk(machine& m, uint32_t nr_slots, gfp_t gfp) noexcept {
  void* const memory = kmalloc(m, sizeof(mempool_chunk) + size_t{nr_slots} * sizeof(atomic<void*>), gfp | gfp::zero);
  if (memory == nullptr) return nullptr;
  auto* const chunk = new (memory) mempool_chunk;
  chunk->nr_slots = nr_slots;
  for (uint32_t i = 0; i < nr_slots; ++i) new (&chunk->slots()[i]) atomic<void*>(nullptr);
  return chunk;
}

uint64_t nr_slots(const mempool& pool) noexcept {
  uint64_t total = 0;
  for (const mempool_chunk* chunk = pool.chunks.load_acquire(); chunk != nullptr; chunk = chunk->next)  // pairs: mempool_chunks
    total += chunk->nr_slots;
  return total;
}

void enlist(machine& m, mempool& pool) noexcept {
  const lock_guard lock(m.callbacks_lock);
  pool.next = m.mempools;
  if (pool.next != nullptr) pool.next->previous = &pool;
  m.mempools = &pool;
}

void delist(machine& m, mempool& pool) noexcept {
  const lock_guard lock(m.callbacks_lock);
  if (pool.next != nullptr) pool.next->previous = pool.previous;
  (pool.previous != nullptr ? pool.previous->next : m.mempools) = pool.next;
}

/// Frees everything of a pool that nobody uses.
void dispose(mempool* pool) noexcept {
  machine& m = *pool->owner;
  while (void* const element = take(*pool)) to_source(*pool, element);
  for (mempool_chunk* chunk = pool->chunks.load_acquire(); chunk != nullptr;) {  // pairs: mempool_chunks
    mempool_chunk* const next = chunk->next;
    kfree(m, chunk);
    chunk = next;
  }
  kfree(m, pool);
}

bool is_complete(const mempool_source& source) noexcept {
  const bool good = source.kind == mempool_kind::functions ? source.alloc != nullptr && source.free != nullptr
                    : source.kind == mempool_kind::slab    ? source.cache != nullptr
                                                           : true;
  if (good) return true;
  char line[120];
  text_writer text(line, sizeof line);
  text.str("mempool_create(): a pool needs a function that allocates and one that frees, or a cache\n");
  say(log_level::err, text, line, sizeof line);
  return false;
}

}  // namespace

mempool* mempool_create(machine& m, const mempool_source& source, uint32_t min_nr, gfp_t gfp) noexcept {
  if (!is_complete(source)) return nullptr;
  if (min_nr == 0) min_nr = 1;
  void* const memory = kmalloc(m, sizeof(mempool), gfp);
  if (memory == nullptr) return nullptr;
  auto* const pool = new (memory) mempool;
  pool->owner = &m;
  pool->source = source;
  mempool_chunk* const chunk = new_chunk(m, min_nr, gfp);
  if (chunk != nullptr) {
    pool->chunks.store_release(chunk);    // pairs: mempool_chunks
    pool->min_nr.store_release(min_nr);   // pairs: mempool_min_nr
    while (pool->curr_nr.load_relaxed() < min_nr) {
      void* const element = from_source(*pool, gfp);
      if (element == nullptr) break;
      put(*pool, element);
    }
  }
  if (chunk == nullptr || pool->curr_nr.load_relaxed() < min_nr) {
    dispose(pool);
    return nullptr;
  }
  enlist(m, *pool);
  return pool;
}

void mempool_destroy(mempool& pool) noexcept {
  const uint32_t waiting = pool.waiters.load_relaxed();
  if (waiting != 0) {
    char line[160];
    text_writer text(line, sizeof line);
    text.str("mempool_destroy(): ").dec(waiting).str(" threads wait for an element of it; the pool is kept\n");
    return say(log_level::err, text, line, sizeof line);
  }
  delist(*pool.owner, pool);
  dispose(&pool);
}

void* mempool_alloc(mempool& pool, gfp_t gfp) noexcept {
  const bool may_wait = may_block(gfp);
  if (may_wait) check_may_sleep(__FILE__, __LINE__);
  if (KMEM_UNLIKELY(has(gfp, gfp::zero))) report_zero();
  const gfp_t whole = (gfp & ~(gfp::zero | gfp::nofail)) | try_gfp;
  gfp_t mask = whole & ~(gfp::direct_reclaim | gfp::io);
  uint64_t start = 0, next_report = stall_report_ns;
  for (;;) {
    void* element = from_source(pool, mask);
    if (element == nullptr) element = take(pool);
    if (element == nullptr) {
      if (mask != whole) {
        mask = whole;
        continue;
      }
      // A handler that interrupted the allocator would wait for the frame below it.
      if (!may_wait || current().depth != 0) return nullptr;
      const uint64_t now = plat::now_ns();
      if (start == 0) start = now;
      if (now - start >= next_report) {
        report_stall(pool, gfp, now - start);
        next_report = now - start + stall_report_ns;
      }
      element = wait_for_element(pool);
      if (element == nullptr) continue;
    }
    if (start != 0 && pool.curr_nr.load_relaxed() != 0) wake_one(pool);
    return element;
  }
}

void mempool_free(mempool& pool, void* element) noexcept {
  if (KMEM_UNLIKELY(element == nullptr)) return;
  if (!put(pool, element)) return to_source(pool, element);
  trim(pool);
  wake_one(pool);
}

err mempool_resize(mempool& pool, uint32_t min_nr) noexcept {
  check_may_sleep(__FILE__, __LINE__);
  if (min_nr == 0) min_nr = 1;
  const uint64_t slots = nr_slots(pool);
  if (min_nr > slots) {
    mempool_chunk* const chunk = new_chunk(*pool.owner, static_cast<uint32_t>(min_nr - slots), gfp::kernel);
    if (chunk == nullptr) return err::nomem;
    mempool_chunk* first = pool.chunks.load_relaxed();
    do chunk->next = first;
    while (!pool.chunks.try_cmpxchg_release(first, chunk));  // pairs: mempool_chunks
  }
  pool.min_nr.store_release(min_nr);  // pairs: mempool_min_nr
  trim(pool);
  while (pool.curr_nr.load_relaxed() < pool.min_nr.load_relaxed()) {
    void* const element = from_source(pool, gfp::kernel);
    if (element == nullptr) break;
    mempool_free(pool, element);
  }
  return err::ok;
}

void mempool_read_figures(const mempool& pool, mempool_figures& info) noexcept {
  info.min_nr = pool.min_nr.load_relaxed();
  info.curr_nr = pool.curr_nr.load_relaxed();
  info.waiting = pool.waiters.load_relaxed();
  info.waits = pool.waits.load_relaxed();
}

void mempools_fork_child(machine& m) noexcept {
  const lock_guard lock(m.callbacks_lock);
  for (mempool* pool = m.mempools; pool != nullptr; pool = pool->next) {
    uint32_t there = 0;
    visit_slots(*pool, 0, [&](const atomic<void*>& slot) noexcept {
      there += slot.load_relaxed() != nullptr ? 1u : 0u;
      return false;
    });
    pool->curr_nr.store_relaxed(there);
    pool->waiters.store_relaxed(0);
  }
}

}  // inline namespace
}  // namespace kmem
