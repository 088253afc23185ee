// Per-CPU page lists: blocks of order 0 to 3 that were freed a moment ago, or fetched in a batch, in front of each zone.
//
// States.   A block on a list has kind cpu_list and its order in its head; it is out of the free areas (`taken`), but not charged. The
//           warm end has what was freed last, or the lowest address of a batch; the cold end is flushed first and serves __GFP_COLD.
//           nr_pages = sum of nr_blocks << order <= cpu_high, but for the one block that makes it flush.
// Locks.    The CPU's own, only ever tried on the fast path: busy (another thread on this CPU, or the frame that a signal handler
//           interrupted) means that the caller goes to the zone. The zone's lock nests inside for refill and flush. Context: any.
// Ordering. A free, and who fetches a batch, asks whether somebody waits after it has taken a lock that every waiter takes after
//           announcing itself (wait.cpp).
// Kernel.   A batch never takes the zone below the caller's floor, so the depth of each flag is exact; at most 8 batches are kept.
// Tests.    tests/unit/page_alloc/cpu_lists_test.cpp
#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

void push_end(page_allocator& pa, cpu_pages::list& list, pfn_t pfn, bool warm) noexcept {
  page& p = pa.page_of(pfn);
  const pfn_t neighbour = warm ? list.warm : list.cold;
  p.next = warm ? neighbour : pfn_t();
  p.prev = warm ? pfn_t() : neighbour;
  if (neighbour.is_none()) {
    list.warm = list.cold = pfn;
  } else if (warm) {
    pa.page_of(neighbour).prev = pfn;
    list.warm = pfn;
  } else {
    pa.page_of(neighbour).next = pfn;
    list.cold = pfn;
  }
  ++list.nr_blocks;
}

pfn_t pop_end(page_allocator& pa, cpu_pages::list& list, bool warm) noexcept {
  const pfn_t pfn = warm ? list.warm : list.cold;
  if (pfn.is_none()) return pfn;
  page& p = pa.page_of(pfn);
  const pfn_t neighbour = warm ? p.next : p.prev;
  if (neighbour.is_none())
    list.warm = list.cold = pfn_t();
  else if (warm)
    pa.page_of(list.warm = neighbour).prev = pfn_t();
  else
    pa.page_of(list.cold = neighbour).next = pfn_t();
  --list.nr_blocks;
  p.next = p.prev = pfn_t();
  return pfn;
}

void add_pages(cpu_pages& cpu, uint32_t n) noexcept { cpu.nr_pages.store_relaxed(cpu.nr_pages.load_relaxed() + n); }
void sub_pages(cpu_pages& cpu, uint32_t n) noexcept { cpu.nr_pages.store_relaxed(cpu.nr_pages.load_relaxed() - n); }

/// Fetches up to a batch in address order, as far as `floor` allows.
void refill(page_allocator& pa, zone& z, cpu_pages& cpu, unsigned order, migratetype type, uint64_t floor) noexcept
    KMEM_REQUIRES(cpu.lock) {
  note_path(path_page_allocator);
  if (!acquire(z.lock)) return;
  const uint64_t size = uint64_t{1} << order;
  uint32_t blocks = z.cpu_batch >> order;
  // While somebody waits, what a batch takes too much would lie where neither a free nor the waiter looks for it.
  if (blocks < 1 || somebody_waits(pa)) blocks = 1;
  cpu_pages::list& list = cpu.lists[raw(type)][order];
  for (; blocks != 0 && above_floor(z, size, floor); --blocks) {
    take_request request;
    request.n = size;
    request.order = order;
    request.type = type;
    taken_run run;
    take_needs needs;
    if (take_locked(pa, z, request, run, needs) != take_result::ok) break;
    page& head = pa.page_of(run.first);
    head.kind = page_kind::cpu_list;
    head.order = static_cast<uint8_t>(order);
    head.zone = static_cast<uint8_t>(z.idx);
    head.flags = run.zero ? page_flag_zero : 0;
    push_end(pa, list, run.first, false);
    add_pages(cpu, static_cast<uint32_t>(size));
  }
  z.lock.unlock();
}

void put_block(page_allocator& pa, zone& z, cpu_pages& cpu, pfn_t pfn, unsigned order) noexcept KMEM_REQUIRES(cpu.lock, z.lock) {
  page& head = pa.page_of(pfn);
  const bool zero = (head.flags & page_flag_zero) != 0;
  head.kind = page_kind::free;
  head.flags = 0;
  sub_pages(cpu, 1u << order);
  put_locked(pa, z, pfn, uint64_t{1} << order, zero);
}

/// Flushes a batch of pages from the cold ends, from the list that grew first.
void flush(page_allocator& pa, zone& z, cpu_pages& cpu, unsigned type, unsigned order) noexcept KMEM_REQUIRES(cpu.lock) {
  if (!acquire(z.lock)) return;
  uint32_t left = z.cpu_batch;
  for (unsigned i = 0; left != 0 && i < nr_migratetypes * nr_cpu_list_orders; ++i) {
    const unsigned t = (type + i / nr_cpu_list_orders) % nr_migratetypes, o = (order + i) % nr_cpu_list_orders;
    cpu_pages::list& list = cpu.lists[t][o];
    while (left != 0 && list.nr_blocks != 0) {
      put_block(pa, z, cpu, pop_end(pa, list, false), o);
      left -= left < 1u << o ? left : 1u << o;
    }
  }
  z.lock.unlock();
}

cpu_pages* this_cpu(page_allocator& pa, zone& z) noexcept {
  const auto cpu = static_cast<uint32_t>(plat::cpu());
  return cpu < pa.nr_cpus ? &z.per_cpu[cpu] : nullptr;
}

}  // namespace

pfn_t cpu_list_take(page_allocator& pa, zone& z, unsigned order, migratetype type, bool cold, uint64_t floor) noexcept {
  nest_guard guard;
  cpu_pages* const cpu = this_cpu(pa, z);
  if (cpu == nullptr || !cpu->lock.try_lock()) return pfn_t();
  cpu_pages::list& list = cpu->lists[raw(type)][order];
  if (list.nr_blocks != 0)
    cpu->nr_hits.store_relaxed(cpu->nr_hits.load_relaxed() + 1);
  else
    refill(pa, z, *cpu, order, type, floor);
  const pfn_t pfn = pop_end(pa, list, !cold);
  if (!pfn.is_none()) {
    sub_pages(*cpu, 1u << order);
    cpu->nr_allocated.store_relaxed(cpu->nr_allocated.load_relaxed() + (uint64_t{1} << order));
    mark_allocated(pa.page_of(pfn), z, order, uint64_t{1} << order);
  }
  cpu->lock.unlock();
  return pfn;
}

bool cpu_list_put(page_allocator& pa, zone& z, page& p) noexcept {
  nest_guard guard;
  cpu_pages* const cpu = this_cpu(pa, z);
  if (cpu == nullptr || !cpu->lock.try_lock()) return false;
  if (somebody_waits(pa)) {
    cpu->lock.unlock();
    return false;
  }
  const unsigned order = p.order;
  const pfn_t pfn = pa.pfn_of(&p);
  const unsigned type = pa.blocks[pfn.raw() / pages_per_block].type;
  p.kind = page_kind::cpu_list;
  p.flags = 0;
  push_end(pa, cpu->lists[type][order], pfn, true);
  cpu->nr_freed.store_relaxed(cpu->nr_freed.load_relaxed() + (uint64_t{1} << order));
  add_pages(*cpu, 1u << order);
  if (cpu->nr_pages.load_relaxed() > z.cpu_high) flush(pa, z, *cpu, type, order);
  cpu->lock.unlock();
  return true;
}

uint64_t drain_cpu_list(page_allocator& pa, zone& z, unsigned cpu_number, bool may_wait) noexcept {
  cpu_pages& cpu = z.per_cpu[cpu_number];
  if (cpu.nr_pages.load_relaxed() == 0 && !may_wait) return 0;
  nest_guard guard;
  // Waiting is for those who are about to sleep: they must know that no free passed them by (see somebody_waits).
  if (!acquire_or_try(cpu.lock, may_wait, 1)) return 0;
  uint64_t moved = 0;
  if (cpu.nr_pages.load_relaxed() != 0 && acquire(z.lock)) {
    for (auto& lists : cpu.lists)
      for (unsigned order = 0; order < nr_cpu_list_orders; ++order)
        while (lists[order].nr_blocks != 0) {
          put_block(pa, z, cpu, pop_end(pa, lists[order], false), order);
          moved += uint64_t{1} << order;
        }
    z.lock.unlock();
  }
  cpu.lock.unlock();
  return moved;
}

uint64_t drain_cpu_pages(page_allocator& pa, bool may_wait) noexcept {
  uint64_t moved = 0;
  for (zone& z : pa.zones) {
    if (z.nr_blocks == 0) continue;
    for (unsigned cpu = 0; cpu < pa.nr_cpus; ++cpu) moved += drain_cpu_list(pa, z, cpu, may_wait);
  }
  if (moved != 0) {
    pa.stats.cpu_list_drains.fetch_add_relaxed(1);
    if (somebody_waits(pa)) wake_waiters(pa, wake_cause::drain);
  }
  moved += drain_deferred(pa);
  return moved;
}

uint64_t zone_in_cpu_lists(const page_allocator& pa, const zone& z) noexcept {
  uint64_t sum = 0;
  for (unsigned cpu = 0; z.nr_blocks != 0 && cpu < pa.nr_cpus; ++cpu) sum += z.per_cpu[cpu].nr_pages.load_relaxed();
  return sum;
}

uint64_t zone_charged(const page_allocator& pa, const zone& z) noexcept {
  uint64_t not_charged = zone_in_cpu_lists(pa, z);
  if (z.idx == zone_idx::normal) not_charged += pa.memalloc_pool.nr_pages.load_relaxed();
  const uint64_t taken = z.taken.load_relaxed();
  return taken > not_charged ? taken - not_charged : 0;
}

}  // inline namespace
}  // namespace kmem
