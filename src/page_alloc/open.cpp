// Opening sections of the arena, the metadata account, and what the cgroup's limit leaves as the machine grows.
//
// States.   A zone's blocks are opened forward, section by section. An open block joins its zone as wholly absent, its descriptors
//           unpaid; the first use of a block charges 9 pages (8 of descriptors, 1 page table), giving it back whole returns 8.
// Equation. managed(NORMAL) = managed_most - max(0, metadata - allowance) - withheld, so that
//           sum of managed + metadata + withheld <= limit always. A charge past the allowance succeeds, and pages are withheld, only if
//           committed(NORMAL) <= managed(NORMAL) still holds afterwards.
//           withheld = limit - what the groups leave now, read again before every second fresh page block (4 MiB of growth).
// Return.   Metadata that goes makes NORMAL larger again, which serves those who wait like a free; where its lock cannot be had a note
//           (managed_due) asks the next slow path for it. What a request charged for itself in vain wakes nobody: those who wait would
//           do the same and wake each other for ever. Who looked meanwhile looks again after a second.
// Locks.    NORMAL's zone lock for charges past the allowance; within it a compare-and-swap, any context. section_lock over mprotect only.
//           Both are taken one after the other, never nested. Callers that may not block try section_lock a bounded number of times.
// Ordering. None: counters; the lock orders the ones that belong together.
//           The groups' files are read with no lock held, by callers that may block.
// Kernel.   There, descriptors are made at boot for all memory. Here they are part of the budget and come and go with their block.
// Tests.    tests/unit/page_alloc/metadata_test.cpp, tests/unit/page_alloc/open_test.cpp
#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr unsigned nested_tries = 64;     // arbitrary: about 3 us of pauses; the holder may be the frame below us, which cannot run
constexpr unsigned no_wait_tries = 4000;  // arbitrary: an mprotect takes a few microseconds, and relax() yields now and then

bool try_some_times(ranked_lock& lock, unsigned tries) noexcept KMEM_TRY_ACQUIRE(true, lock) {
  for (unsigned i = 0; i < tries; ++i) {
    if (lock.try_lock()) return true;
    plat::relax(i);
  }
  return false;
}

constexpr uint32_t blocks_between_readings = 2;

/// What NORMAL has less than it could have.
uint64_t excess(const page_allocator& pa, uint64_t metadata) noexcept {
  return (metadata > pa.metadata_allowance ? metadata - pa.metadata_allowance : 0) + pa.withheld.load_relaxed();
}

uint64_t managed_with(const page_allocator& pa, const zone& normal, uint64_t metadata) noexcept {
  const uint64_t over = excess(pa, metadata);
  return normal.managed_most > over ? normal.managed_most - over : 0;
}

/// After metadata has gone. Return: false if the lock cannot be had.
bool grow_managed(page_allocator& pa, bool wakes) noexcept {
  bool wake = false;
  {
    const nest_guard guard;
    zone& normal = pa.zones[raw(zone_idx::normal)];
    if (!acquire(normal.lock)) return false;
    const uint64_t before = normal.managed.load_relaxed();
    update_managed_locked(pa, normal);
    wake = wakes && normal.managed.load_relaxed() > before && somebody_waits(pa);
    normal.lock.unlock();
  }
  if (wake) wake_waiters(pa, wake_cause::room);
  return true;
}

void note_peak(page_allocator& pa, uint64_t metadata) noexcept {
  uint64_t peak = pa.metadata_peak.load_relaxed();
  while (metadata > peak && !pa.metadata_peak.try_cmpxchg_relaxed(peak, metadata)) continue;
}

bool charge_locked(page_allocator& pa, zone& normal, uint64_t n) noexcept KMEM_REQUIRES(normal.lock) {
  uint64_t old = pa.metadata_pages.load_relaxed();
  do {
    if (normal.committed.load_relaxed() + excess(pa, old + n) > normal.managed_most) return false;
  } while (!pa.metadata_pages.try_cmpxchg_relaxed(old, old + n));
  update_managed_locked(pa, normal);
  note_peak(pa, old + n);
  return true;
}

/// Pages of the machine that the groups count: what may be touched, but no more than the process has resident.
uint64_t own_pages(const page_allocator& pa) noexcept {
  uint64_t own = pa.metadata_pages.load_relaxed();
  for (const zone& z : pa.zones) own += z.committed.load_relaxed();
  char path[300], text[128];
  text_writer(path, sizeof path).str(pa.config.path_prefix).str("/proc/self/statm");
  if (plat::read_file(path, text, sizeof text) <= 0) return own;
  const char* at = text;
  while (*at != ' ' && *at != '\0') ++at;
  uint64_t resident = 0;
  for (at += *at == ' ' ? 1 : 0; *at >= '0' && *at <= '9'; ++at) resident = resident * 10 + static_cast<uint64_t>(*at - '0');
  return resident != 0 && resident < own ? resident : own;
}

/// Withholds `wanted` pages of the limit from NORMAL, or as many of them as are not committed. Return: how many of them are missing.
uint64_t withhold(page_allocator& pa, uint64_t wanted) noexcept {
  nest_guard guard;
  zone& normal = pa.zones[raw(zone_idx::normal)];
  if (!acquire(normal.lock)) return 0;
  const uint64_t before = pa.withheld.load_relaxed();
  const uint64_t could = before + zone_headroom(normal);
  pa.withheld.store_relaxed(wanted < could ? wanted : could);
  update_managed_locked(pa, normal);
  const bool wake = wanted < before && somebody_waits(pa);
  normal.lock.unlock();
  if (wake) wake_waiters(pa, wake_cause::room);
  return wanted > could ? wanted - could : 0;
}

KMEM_COLD void report_withheld(page_allocator& pa, uint64_t left) noexcept {
  uint32_t missed = 0;
  if (!pa.group_reports.allow(plat::now_ns(), missed)) return;
  char line[200];
  text_writer text(line, sizeof line);
  text.str("kmem: the cgroup's limit leaves ").dec(left << (page_shift - 10)).str(" KiB now, less than the budget of ");
  text.dec(pa.limit.raw() << (page_shift - 10)).str(" KiB that it left at the start");
  printk(log_level::info, line, text.length() < sizeof line ? text.length() : sizeof line - 1);
}

}  // namespace

void follow_groups(page_allocator& pa) noexcept {
  if (pa.fresh_blocks.fetch_add_relaxed(1) + 1 < blocks_between_readings) return;
  pa.fresh_blocks.store_relaxed(0);
  const uint64_t left = budget_left_by_groups(pa.config, own_pages(pa) << page_shift).raw();
  const uint64_t limit = pa.limit.raw(), by_groups = left < limit ? limit - left : 0, lowered = pa.lowered.load_relaxed();
  const uint64_t wanted = by_groups > lowered ? by_groups : lowered;
  if (wanted == 0 && pa.withheld.load_relaxed() == 0) return;
  if (by_groups > lowered) report_withheld(pa, left);
  const uint64_t missing = withhold(pa, wanted);
  if (missing != 0 && give_back_zone(pa, pa.zones[raw(zone_idx::normal)], missing, true, false) != 0) withhold(pa, wanted);
}

uint64_t set_budget(page_allocator& pa, nr_pages_t limit) noexcept {
  const uint64_t wanted = limit < pa.limit ? (pa.limit - limit).raw() : 0;
  const uint64_t before = pa.withheld.load_relaxed();
  uint64_t missing = withhold(pa, wanted);
  if (missing != 0 && give_back_zone(pa, pa.zones[raw(zone_idx::normal)], missing, true, false) != 0) missing = withhold(pa, wanted);
  if (missing != 0) {
    withhold(pa, before);
    return missing;
  }
  pa.lowered.store_relaxed(wanted);
  return 0;
}

nr_pages_t budget_now(const page_allocator& pa) noexcept {
  const nr_pages_t withheld(pa.withheld.load_relaxed());
  return withheld < pa.limit ? pa.limit - withheld : nr_pages_t(0);
}

bool acquire(ranked_lock& lock) noexcept {
  if (KMEM_UNLIKELY(current().depth > 1)) return try_some_times(lock, nested_tries);
  lock.lock();
  return true;
}

bool acquire_or_try(ranked_lock& lock, bool may_wait, unsigned tries) noexcept {
  if (may_wait) return acquire(lock);
  return try_some_times(lock, tries);
}

void add_blocks_locked(page_allocator& pa, zone& z, uint32_t first, uint32_t n) noexcept {
  for (uint32_t i = n; i-- != 0;) {  // backwards: the lowest block ends up first on the list
    page_block& b = pa.blocks[first + i];
    for (uint64_t& word : b.absent.words) word = ~uint64_t{0};
    b.nr_absent = pages_per_block;
    b.longest_order = block_order;
    b.longest_present_order = 0;
    b.opened = 1;
    relist_locked(pa, z, first + i);
  }
  z.opened_blocks += n;
}

void update_managed_locked(page_allocator& pa, zone& normal) noexcept {
  normal.managed.store_relaxed(managed_with(pa, normal, pa.metadata_pages.load_relaxed()));
}

bool charge_metadata(page_allocator& pa, uint64_t n) noexcept {
  uint64_t old = pa.metadata_pages.load_relaxed();
  while (old + n <= pa.metadata_allowance) {
    if (!pa.metadata_pages.try_cmpxchg_relaxed(old, old + n)) continue;
    note_peak(pa, old + n);
    return true;
  }
  nest_guard guard;
  zone& normal = pa.zones[raw(zone_idx::normal)];
  if (!acquire(normal.lock)) return false;
  const bool charged = charge_locked(pa, normal, n);
  normal.lock.unlock();
  return charged;
}

bool charge_metadata_for(page_allocator& pa, gfp_t gfp, uint64_t n) noexcept {
  if (charge_metadata(pa, n)) return true;
  if (!may_block(current_gfp(gfp))) return false;
  return give_back_zone(pa, pa.zones[raw(zone_idx::normal)], n, true, false) != 0 && charge_metadata(pa, n);
}

bool charge_becomes_metadata(page_allocator& pa, int zone_number, nr_pages_t n) noexcept {
  zone& normal = pa.zones[raw(zone_idx::normal)];
  if (zone_number != static_cast<int>(raw(zone_idx::normal))) return false;
  bool wake = false;
  {
    const nest_guard guard;
    if (!acquire(normal.lock)) return false;
    normal.committed.store_relaxed(normal.committed.load_relaxed() - n.raw());
    normal.taken.fetch_sub_relaxed(n.raw());
    // The room is there: committed pages and what NORMAL lacks fit before, and the former have just become less by what the latter grows.
    const bool charged = charge_locked(pa, normal, n.raw());
    KMEM_ASSERT(charged);
    static_cast<void>(charged);
    wake = somebody_waits(pa);  // within the allowance they are free pages now
    normal.lock.unlock();
  }
  if (wake) wake_waiters(pa, wake_cause::room);
  return true;
}

void uncharge_metadata(page_allocator& pa, uint64_t n) noexcept {
  refund_metadata(pa, n, true);
}

void refund_metadata(page_allocator& pa, uint64_t n, bool wakes) noexcept {
  const uint64_t old = pa.metadata_pages.fetch_sub_relaxed(n);
  KMEM_ASSERT(old >= n);
  const zone& normal = pa.zones[raw(zone_idx::normal)];
  if (KMEM_LIKELY(normal.managed.load_relaxed() >= managed_with(pa, normal, old - n))) return;
  if (grow_managed(pa, wakes)) return;
  pa.managed_due.store_relaxed(1);
  if (wakes) wake_after_lockless_free(pa);
}

void settle_managed(page_allocator& pa) noexcept {
  if (KMEM_LIKELY(pa.managed_due.load_relaxed() == 0) || pa.managed_due.exchange_relaxed(0) == 0) return;
  if (!grow_managed(pa, true)) pa.managed_due.store_relaxed(1);
}

namespace {

bool read_opened(zone& z, uint32_t& opened) noexcept {
  const nest_guard guard;
  if (!acquire(z.lock)) return false;
  opened = z.opened_blocks;
  z.lock.unlock();
  return true;
}

/// Opens blocks [first, first + n). Return: how many of them are open now.
uint32_t open_locked(page_allocator& pa, uint32_t first, uint32_t n, bool may_wait) noexcept {
  const nest_guard guard;
  if (!acquire_or_try(pa.section_lock, may_wait, no_wait_tries)) return 0;
  const uint32_t got = open_blocks(pa, first, n);
  pa.section_lock.unlock();
  return got;
}

/// Return: false if somebody else was faster, which does no harm, or the lock could not be had.
bool add_opened(page_allocator& pa, zone& z, uint32_t opened, uint32_t n) noexcept {
  const nest_guard guard;
  if (!acquire(z.lock)) return false;
  const bool first = z.opened_blocks == opened;
  if (first) add_blocks_locked(pa, z, z.first_block + opened, n);
  z.lock.unlock();
  return first;
}

}  // namespace

// The guards end with each lock: metadata is charged like anybody else's, and waits for NORMAL's lock unless this is a handler.
bool open_more(page_allocator& pa, zone& z, uint32_t n, bool may_wait) noexcept {
  uint32_t opened = 0;
  if (!read_opened(z, opened)) return false;
  const uint32_t left = z.nr_blocks - opened;
  if (n > left) return false;
  uint32_t count = n > section_blocks ? n : section_blocks;
  if (count > left) count = left;
  const uint32_t first = z.first_block + opened;

  // Under rlimits or strict accounting a smaller piece may be granted where a whole section is not.
  uint32_t got = 0, paid = 0;
  for (;; count = n) {
    paid = section_metadata_pages(count);
    if (charge_metadata(pa, paid)) {
      got = open_locked(pa, first, count, may_wait);
      if (got >= n) break;
      refund_metadata(pa, paid, false);
      got = 0;
    }
    if (count == n) return false;
  }
  if (!add_opened(pa, z, opened, got)) {
    refund_metadata(pa, paid, false);
    return true;  // look again
  }
  pa.stats.blocks_opened.fetch_add_relaxed(got);
  return true;
}

}  // inline namespace
}  // namespace kmem
