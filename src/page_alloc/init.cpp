// Laying out a machine: which zone gets which pfns and how much of the budget.
//
// Layout.   Zones lie one after another from pfn 0: DMA, DMA32, NORMAL, HIGHMEM, MOVABLE, each in whole page blocks. Page 0 is unusable,
//           and so is the end of the last block of a zone with fixed pfns whose managed size is no whole number of blocks.
// Equation. sum of managed + metadata_allowance = limit. The allowance holds 9 pages for each block that all managed pages need when
//           packed, a section's share of the flat arrays, and the per-CPU lists. So as long as committed < managed there is an absent
//           page in a block that is paid for, or the allowance still pays for one.
// Span.     NORMAL, HIGHMEM and MOVABLE: 8 times the managed size (arbitrary: what fragmentation may cost before scattered pages are
//           given back), at least 64 MiB more; less when the system refuses. DMA and DMA32: the managed size.
// Locks.    None of importance: nobody else knows the machine yet. Context: may sleep.
// Ordering. None; the machine is published by whoever makes it known.
// Kernel.   Zone sizes come from the firmware there, from the budget here.
// Tests.    tests/unit/page_alloc/init_test.cpp
#include <new>

#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint64_t pages_in_bytes(uint64_t bytes) noexcept { return bytes >> page_shift; }
constexpr uint64_t dma_end = pages_in_bytes(uint64_t{16} << 20), dma32_end = pages_in_bytes(uint64_t{4} << 30);
constexpr uint64_t dma_share = 32;  // of the budget, if nothing else is said
constexpr uint64_t span_factor = 8, span_room = pages_in_bytes(uint64_t{64} << 20);
constexpr uint64_t span_least = pages_in_bytes(uint64_t{8} << 20);  // a machine of two MAX_ORDER blocks
constexpr uint64_t base_page_tables = 8;                            // upper levels of the arena's, the arrays' and the areas' mappings

/// Blocks that hold a zone's managed pages; those of DMA, which always exists, begin with page 0.
constexpr uint64_t blocks_for(unsigned idx, uint64_t managed) noexcept {
  const uint64_t pages = managed + (idx == raw(zone_idx::dma) ? 1 : 0);
  return managed == 0 ? 0 : (pages + pages_per_block - 1) / pages_per_block;
}
constexpr bool is_fixed(unsigned idx) noexcept { return idx < raw(zone_idx::normal); }

struct layout {
  uint64_t managed[nr_zones] = {};
  uint64_t blocks[nr_zones] = {};  // span
  uint64_t allowance = 0;
};

/// Metadata that a zone needs to hold its managed pages, packed.
uint64_t zone_metadata(unsigned idx, uint64_t managed) noexcept {
  if (managed == 0) return 0;
  const uint64_t blocks = blocks_for(idx, managed);
  if (is_fixed(idx)) return blocks * metadata_pages_per_block + section_metadata_pages(static_cast<uint32_t>(blocks));
  const uint64_t sections = (blocks + section_blocks - 1) / section_blocks;
  return blocks * metadata_pages_per_block + sections * section_metadata_pages(section_blocks);
}

uint64_t per_cpu_pages(const layout& l, uint32_t nr_cpus) noexcept {
  uint64_t sum = 0;
  for (const uint64_t managed : l.managed)
    if (managed != 0) sum += pages_for(size_t{nr_cpus} * sizeof(cpu_pages)).raw();
  return sum;
}

/// Shares the budget out. Return: false if the zones asked for leave NORMAL nothing.
bool share_budget(const machine_config& config, uint64_t limit, uint32_t nr_cpus, layout& l) noexcept {
  uint64_t dma = config.zone_dma != 0 ? pages_in_bytes(config.zone_dma) : limit / dma_share;
  if (dma > dma_end - 1) dma = dma_end - 1;
  if (dma >= pages_per_block) dma = round_down(dma + 1, pages_per_block) - 1;  // whole blocks, of which page 0 is none
  l = {};
  l.managed[raw(zone_idx::dma)] = dma;
  const uint64_t dma_span = blocks_for(raw(zone_idx::dma), dma) * pages_per_block;
  uint64_t dma32 = pages_in_bytes(config.zone_dma32);
  if (dma32 > dma32_end - dma_span) dma32 = dma32_end - dma_span;
  l.managed[raw(zone_idx::dma32)] = dma32;
  l.managed[raw(zone_idx::highmem)] = pages_in_bytes(config.zone_highmem);
  l.managed[raw(zone_idx::movable)] = pages_in_bytes(config.zone_movable);
  l.managed[raw(zone_idx::normal)] = 1;  // so that its lists are counted
  uint64_t used = per_cpu_pages(l, nr_cpus) + base_page_tables;
  l.managed[raw(zone_idx::normal)] = 0;
  for (unsigned i = 0; i < nr_zones; ++i) used += l.managed[i] + zone_metadata(i, l.managed[i]);
  if (used >= limit) return false;

  const uint64_t rest = limit - used;
  const auto fits = [&](uint64_t n) { return n + zone_metadata(raw(zone_idx::normal), n) <= rest; };
  uint64_t normal = 0;
  for (uint64_t step = uint64_t{1} << 40; step != 0; step >>= 1)
    if (fits(normal + step)) normal += step;
  if (normal < 64) return false;  // arbitrary: less than any watermark could be
  l.managed[raw(zone_idx::normal)] = normal;
  l.allowance = limit;
  for (const uint64_t managed : l.managed) l.allowance -= managed;
  return true;
}

uint64_t wanted_blocks(const machine_config& config, const layout& l, unsigned idx) noexcept {
  const uint64_t managed = l.managed[idx];
  if (managed == 0) return 0;
  const uint64_t least = blocks_for(idx, managed);
  if (is_fixed(idx)) return least;
  uint64_t span = managed * span_factor;
  if (span < managed + span_room) span = managed + span_room;
  if (config.span != 0) span = pages_in_bytes(config.span) * managed / l.managed[raw(zone_idx::normal)];
  const uint64_t blocks = blocks_for(idx, span);
  return blocks > least ? blocks : least;
}

uint64_t sum_of(const uint64_t (&values)[nr_zones]) noexcept {
  uint64_t sum = 0;
  for (const uint64_t value : values) sum += value;
  return sum;
}

/// Fits the zones into the span that was granted. Return: false if they cannot.
bool fit_span(const machine_config& config, uint64_t span_blocks, uint32_t nr_cpus, uint64_t& limit, layout& l) noexcept {
  for (;;) {
    if (!share_budget(config, limit, nr_cpus, l)) return false;
    uint64_t least = 0;
    for (unsigned i = 0; i < nr_zones; ++i) least += l.blocks[i] = blocks_for(i, l.managed[i]);
    if (least <= span_blocks) {
      // What is left goes to the zones without fixed pfns, as far as they want it.
      uint64_t left = span_blocks - least;
      for (unsigned i = raw(zone_idx::normal); i < nr_zones; ++i) {
        const uint64_t wanted = wanted_blocks(config, l, i);
        if (wanted <= l.blocks[i]) continue;
        const uint64_t more = wanted - l.blocks[i] < left ? wanted - l.blocks[i] : left;
        l.blocks[i] += more;
        left -= more;
      }
      return true;
    }
    const uint64_t over = (least - span_blocks) * pages_per_block;
    if (over >= limit) return false;
    limit -= over;
  }
}

void place_zones(page_allocator& pa, const layout& l) noexcept {
  uint32_t first = 0;
  for (unsigned i = 0; i < nr_zones; ++i) {
    zone& z = *new (&pa.zones[i]) zone;
    z.idx = zone_idx(i);
    z.fixed_pfns = is_fixed(i);
    z.first_block = first;
    z.nr_blocks = static_cast<uint32_t>(l.blocks[i]);
    z.managed_most = l.managed[i];
    z.managed.store_relaxed(l.managed[i]);
    first += z.nr_blocks;
  }
}

/// Takes one page out of circulation for good.
void make_unusable_locked(page_allocator& pa, zone& z, pfn_t pfn) noexcept KMEM_REQUIRES(z.lock) {
  page_block& b = pa.blocks[pfn.raw() / pages_per_block];
  const unsigned i = pfn.raw() % pages_per_block;
  b.absent.words[i / 64] &= ~(uint64_t{1} << (i % 64));
  b.nr_absent = static_cast<uint16_t>(b.nr_absent - 1);
  page& p = pa.page_of(pfn);
  p.kind = page_kind::unusable;
  p.zone = static_cast<uint8_t>(z.idx);
  ++z.unusable;
  relist_locked(pa, z, pfn.raw() / pages_per_block);
}

/// Opens and pays for all blocks of a zone with fixed pfns, and takes out the pages that it does not manage.
bool open_whole_zone(page_allocator& pa, zone& z) noexcept {
  const uint32_t n = z.nr_blocks;
  if (!charge_metadata(pa, uint64_t{n} * metadata_pages_per_block + section_metadata_pages(n))) return false;
  uint32_t opened = 0;
  {
    lock_guard guard(pa.section_lock);
    opened = open_blocks(pa, z.first_block, n);
  }
  if (opened < n) return false;
  lock_guard guard(z.lock);
  add_blocks_locked(pa, z, z.first_block, n);
  for (uint32_t i = n; i-- != 0;) {
    pa.blocks[z.first_block + i].charged_metadata = metadata_pages_per_block;
    relist_locked(pa, z, z.first_block + i);
  }
  if (z.first_block == 0) make_unusable_locked(pa, z, pfn_t());
  const uint32_t end = (z.first_block + n) * pages_per_block;
  const auto surplus = static_cast<uint32_t>(uint64_t{n} * pages_per_block - z.unusable - z.managed_most);
  for (uint32_t i = 1; i <= surplus; ++i) make_unusable_locked(pa, z, pfn_t(end - i));
  return true;
}

bool make_cpu_lists(page_allocator& pa, zone& z) noexcept {
  const size_t bytes = size_t{pa.nr_cpus} * sizeof(cpu_pages);
  char* const area = map_metadata(pa, bytes);
  if (area == nullptr || !charge_metadata(pa, pages_for(bytes).raw())) return false;
  z.per_cpu = reinterpret_cast<cpu_pages*>(area);
  for (uint32_t cpu = 0; cpu < pa.nr_cpus; ++cpu) new (&z.per_cpu[cpu]) cpu_pages;
  return true;
}

void set_targets(page_allocator& pa) noexcept {
  constexpr uint64_t all_pages = uint64_t{1} << 52;  // more than there can be
  const uint64_t keep = pa.config.keep_free_kbytes;
  pa.keep_free_pages = keep == ~uint64_t{0} ? all_pages : pages_in_bytes(keep << 10);
  uint64_t all = 0;
  for (const zone& z : pa.zones) all += z.managed_most == 0 ? 0 : z.watermarks[static_cast<unsigned>(watermark::min)];
  const uint64_t backed = pa.config.reserve_backed_kbytes == ~uint64_t{0} ? all : pages_in_bytes(pa.config.reserve_backed_kbytes << 10);
  for (zone& z : pa.zones) {
    const uint64_t min = z.watermarks[static_cast<unsigned>(watermark::min)];
    z.reserve_base = z.managed_most == 0 ? 0 : backed < all ? min * backed / all : min;
    z.reserve_target.store_relaxed(z.reserve_base);
  }
  constexpr uint64_t pool_least = 4, pool_most = 64, pool_share = 512;  // arbitrary: what one reclaimer needs to free something
  const uint64_t pool = pa.zones[raw(zone_idx::normal)].managed_most / pool_share;
  pa.memalloc_pool_target = pool < pool_least ? pool_least : pool > pool_most ? pool_most : pool;
  // Who has little of the reserve backed wants a small process: the pool is backed as well.
  if (backed < all && pa.memalloc_pool_target > backed / 4) pa.memalloc_pool_target = backed / 4 < pool_least ? pool_least : backed / 4;
}

err set_up(page_allocator& pa, const machine_config& config, uint64_t limit) noexcept {
  layout l;
  if (!fit_span(config, pa.nr_blocks(), pa.nr_cpus, limit, l)) return err::inval;
  pa.limit = nr_pages_t(limit);
  pa.metadata_allowance = l.allowance;
  place_zones(pa, l);
  pa.metadata_pages.store_relaxed(base_page_tables);
  compute_watermarks(pa.zones, config);
  set_targets(pa);
  for (zone& z : pa.zones) {
    compute_cpu_lists(z, pa.nr_cpus);
    if (z.nr_blocks == 0) continue;
    if (!make_cpu_lists(pa, z)) return err::nomem;
    if (z.fixed_pfns && !open_whole_zone(pa, z)) return err::nomem;
  }
  refill_reserve(pa);
  return err::ok;
}

void forget(page_allocator& pa) noexcept {
  for (zone& z : pa.zones) new (&z) zone;
  for (page_stack* stack : {&pa.memalloc_pool, &pa.deferred}) new (stack) page_stack;
  for (reclaim_ops& ops : pa.ops) ops = {};
  pa.has_kswapd = false;
  for (record_slot<alloc_failure>& slot : pa.failures) slot.sequence.store_relaxed(0);
  for (record_slot<sleep_record>& slot : pa.sleeps) slot.sequence.store_relaxed(0);
  pa.failure_sequence.store_relaxed(0);
  pa.sleep_sequence.store_relaxed(0);
  new (&pa.stats) page_alloc_stats;
  for (rate_limit* limit : {&pa.page_failure_reports, &pa.page_order_reports, &pa.group_reports, &pa.bad_page_reports,
                            &pa.deadlock_reports})
    limit->reset();
  pa.metadata_allowance = pa.memalloc_pool_target = 0;
  pa.reserve_grown.store_relaxed(0);
  pa.refilling.store_relaxed(0);
  pa.follows_groups = false;
  pa.fresh_blocks.store_relaxed(0);
  pa.withheld.store_relaxed(0);
  pa.lowered.store_relaxed(0);
  pa.watch.store_relaxed(nullptr);
}

KMEM_COLD err refuse(const char* what, uint64_t limit) noexcept {
  char line[200];
  text_writer text(line, sizeof line);
  text.str("kmem: ").str(what).str(" (budget of ").dec(limit << (page_shift - 10)).str(" KiB)");
  printk(log_level::err, line, text.length() < sizeof line ? text.length() : sizeof line - 1);
  return err::inval;
}

}  // namespace

err page_alloc_init(page_allocator& pa, const machine_config& config) noexcept {
  forget(pa);
  pa.nr_cpus = config.cpus != 0 ? config.cpus : static_cast<uint32_t>(plat::nr_cpus());
  if (pa.nr_cpus > static_cast<uint32_t>(max_cpus)) pa.nr_cpus = static_cast<uint32_t>(max_cpus);
  pa.max_order = config.max_order;
  const budget_choice choice = choose_budget_explained(config);
  const uint64_t limit = choice.pages.raw();
  layout l;
  if (!share_budget(config, limit, pa.nr_cpus, l))
    return refuse("zone_dma=, zone_dma32=, highmem= and movablecore= leave NORMAL no memory", limit);
  uint64_t least = 0;
  for (unsigned i = 0; i < nr_zones; ++i) {
    l.blocks[i] = wanted_blocks(config, l, i);
    if (i != raw(zone_idx::normal)) least += blocks_for(i, l.managed[i]) * pages_per_block;
  }
  least += l.managed[raw(zone_idx::normal)] < span_least ? l.managed[raw(zone_idx::normal)] : span_least;
  err result = memmap_init(pa, config, nr_pages_t(limit), nr_pages_t(sum_of(l.blocks) * pages_per_block), nr_pages_t(least));
  if (result != err::ok) return result;
  result = set_up(pa, config, pa.limit.raw());
  if (result == err::inval) refuse("the zones do not fit into the address space that the system gives", limit);
  if (result != err::ok) page_alloc_destroy(pa);
  pa.follows_groups = result == err::ok && choice.source == budget_source::cgroup;
  return result;
}

void page_alloc_destroy(page_allocator& pa) noexcept {
  memmap_destroy(pa);
  forget(pa);
}

err register_reclaim_ops(page_allocator& pa, const reclaim_ops& ops) noexcept {
  const lock_guard guard(pa.machine_lock);
  for (reclaim_ops& entry : pa.ops) {
    const bool used = entry.drain_caches != nullptr || entry.reclaim != nullptr || entry.out_of_memory != nullptr ||
                      entry.wake_kswapd != nullptr || entry.report != nullptr;
    if (used) continue;
    entry = ops;
    pa.has_kswapd |= ops.wake_kswapd != nullptr;
    return err::ok;
  }
  return err::nomem;
}

}  // inline namespace
}  // namespace kmem
