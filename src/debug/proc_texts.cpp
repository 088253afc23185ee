// The texts of /proc/slabinfo, buddyinfo, zoneinfo, vmstat, meminfo and vmallocinfo, so that tools that parse those parse these.
//
// Locks.    Only those that the snapshots of the layers below take; none is held while text is written.
// Contexts. May wait for locks; allocates nothing.
// Kernel.   The formats are those of Linux 6.1. Counters that the kernel has no name for begin with kmem_; what does not exist here
//           (NUMA, disks) is left out, or 0 where parsers expect the line.
// Tests.    tests/unit/debug/proc_texts_test.cpp
#include "debug/debug.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr unsigned nr_buddy_orders = 11;  // columns of /proc/buddyinfo

bool exists(const zone& z) noexcept { return z.nr_blocks != 0; }

/// "Node 0, zone   Normal": the name right-aligned in 8 columns.
void zone_head(text_writer& out, zone_idx idx) noexcept {
  const char* const name = zone_name(idx);
  size_t length = 0;
  while (name[length] != '\0') ++length;
  out.str("Node 0, zone ");
  for (; length < 8; ++length) out.ch(' ');
  out.str(name);
}

void kilobytes(text_writer& out, const char* name, uint64_t pages) noexcept {
  out.pad(name, 16).dec(pages << (page_shift - 10), 8).str(" kB\n");
}

void write_zone(machine& m, const zone& z, text_writer& out) noexcept {
  zone_snapshot s;
  snapshot_zone(m, z.idx, s);
  zone_head(out, z.idx);
  const struct {
    const char* name;
    uint64_t value;
  } rows[] = {{"boost", 0},           {"min", s.min},         {"low", s.low},         {"high", s.high},
              {"spanned", s.spanned}, {"present", s.managed}, {"managed", s.managed}, {"cma", 0}};
  out.str("\n  pages free     ").dec(s.free).ch('\n');
  for (const auto& row : rows) out.str("        ").pad(row.name, 9).dec(row.value).ch('\n');
  out.str("        protection: (");
  for (unsigned i = 0; i < nr_zones; ++i) out.str(i == 0 ? "" : ", ").dec(z.lowmem_reserve[i]);
  out.str(")\n      nr_free_pages ").dec(s.free);
  out.str("\n      kmem_charged ").dec(s.charged).str("\n      kmem_free_present ").dec(s.present_free);
  out.str("\n      kmem_transit ").dec(s.in_transit).str("\n      kmem_reserve ").dec(s.reserve).str("\n  pagesets\n");
  for (uint32_t cpu = 0; z.per_cpu != nullptr && cpu < m.nr_cpus; ++cpu) {
    out.str("    cpu: ").dec(cpu).str("\n              count: ").dec(z.per_cpu[cpu].nr_pages.peek());
    out.str("\n              high:  ").dec(z.cpu_high).str("\n              batch: ").dec(z.cpu_batch).ch('\n');
  }
  out.str("  node_unreclaimable:  0\n  start_pfn:           ").dec(uint64_t{z.first_block} * pages_per_block).ch('\n');
}

}  // namespace

const char* migratetype_name(migratetype type) noexcept {
  static constexpr const char* names[nr_migratetypes] = {"Unmovable", "Movable", "Reclaimable"};
  return static_cast<unsigned>(type) < nr_migratetypes ? names[static_cast<unsigned>(type)] : "?";
}

slab_totals count_slab_pages(machine& m) noexcept {
  slab_totals totals;
  for (unsigned id = 0; id < max_caches; ++id) {
    if (m.caches[id].load_relaxed() == nullptr) continue;
    const lock_guard list(m.cache_list_lock);
    kmem_cache* const cache = m.caches[id].load_relaxed();
    if (cache == nullptr) continue;
    const lock_guard lock(cache->lock);
    const uint64_t pages = cache->nr_slabs << cache->slab_order;
    totals.pages += pages;
    if (has(cache->flags, slab_flags_t::reclaim_account)) totals.reclaimable_pages += pages;
  }
  return totals;
}

size_t write_slabinfo(machine& m, char* buffer, size_t capacity) noexcept {
  text_writer out(buffer, capacity);
  out.str("slabinfo - version: 2.1\n");
  out.str("# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>");
  out.str(" : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n");
  cache_info info;
  for (unsigned i = 0; read_cache_info(m, i, info); ++i) {
    out.pad(info.name, 17).ch(' ').dec(info.active, 6).ch(' ').dec(info.total, 6).ch(' ').dec(info.size, 6).ch(' ');
    out.dec(info.objects_per_slab, 4).ch(' ').dec(info.pages_per_slab, 4);
    out.str(" : tunables    0    0    0 : slabdata ").dec(info.slabs, 6).ch(' ').dec(info.slabs, 6).str("      0\n");
  }
  return out.length();
}

size_t write_buddyinfo(machine& m, char* buffer, size_t capacity) noexcept {
  text_writer out(buffer, capacity);
  for (const zone& z : m.zones) {
    if (!exists(z)) continue;
    zone_snapshot s;
    snapshot_zone(m, z.idx, s);
    zone_head(out, z.idx);
    out.ch(' ');
    for (unsigned order = 0; order < nr_buddy_orders; ++order) {
      uint64_t n = 0;
      for (const uint64_t of_type : s.nr_free_runs[order]) n += of_type;
      out.dec(n, 6).ch(' ');
    }
    out.ch('\n');
  }
  return out.length();
}

size_t write_zoneinfo(machine& m, char* buffer, size_t capacity) noexcept {
  text_writer out(buffer, capacity);
  for (const zone& z : m.zones)
    if (exists(z)) write_zone(m, z, out);
  return out.length();
}

void for_each_counter(machine& m, void* context, counter_visitor visit) noexcept {
  const auto counter = [&](const char* name, uint64_t value) { visit(context, name, value); };
  const slab_totals slabs = count_slab_pages(m);
  const page_alloc_stats& s = m.stats;
  counter("nr_free_pages", free_pages_total(m));
  counter("nr_slab_reclaimable", slabs.reclaimable_pages);
  counter("nr_slab_unreclaimable", slabs.pages - slabs.reclaimable_pages);
  counter("pgfree", s.pgfree.load_relaxed());
  static constexpr const char* stall_names[nr_zones] = {"allocstall_dma", "allocstall_dma32", "allocstall_normal", "allocstall_high",
                                                        "allocstall_movable"};
  // By what requests may use, not by where they found it: Movable is counted on machines without that zone, too.
  for (unsigned i = 0; i < nr_zones; ++i) {
    const uint64_t stalls = s.allocstall[i].load_relaxed();
    if (exists(m.zones[i]) || stalls != 0) counter(stall_names[i], stalls);
  }
  counter("pgsteal_kswapd", m.kswapd.pgsteal_kswapd.load_relaxed());
  counter("pgsteal_direct", s.pgsteal_direct.load_relaxed());
  counter("pgscan_kswapd", m.kswapd.pgscan_kswapd.load_relaxed());
  counter("pgscan_direct", s.pgscan_direct.load_relaxed());
  counter("pgscan_direct_throttle", s.pgscan_direct_throttle.load_relaxed());
  counter("slabs_scanned", s.slabs_scanned.load_relaxed());
  counter("kswapd_low_wmark_hit_quickly", m.kswapd.kswapd_low_wmark_hit_quickly.load_relaxed());
  counter("kswapd_high_wmark_hit_quickly", m.kswapd.kswapd_high_wmark_hit_quickly.load_relaxed());
  counter("pageoutrun", m.kswapd.pageoutrun.load_relaxed());
  counter("kmem_kswapd_wakes", m.kswapd.wakes.load_relaxed());
  counter("kmem_kswapd_vain_rounds", m.kswapd.vain_rounds.load_relaxed());
  counter("kmem_kswapd_surrenders", m.kswapd.surrenders.load_relaxed());
  counter("kmem_kswapd_slept_us", kswapd_slept_ns(m) / 1000);
  counter("kmem_charged", charged_pages(m));
  counter("kmem_metadata", m.metadata_pages.load_relaxed());
  counter("kmem_pgalloc", s.pgalloc.load_relaxed());
  counter("kmem_pgalloc_fail", s.pgalloc_fail.load_relaxed());
  counter("kmem_pgreclaimed", s.pgreclaimed.load_relaxed());
  counter("kmem_pages_given_back", s.pages_given_back.load_relaxed());
  counter("kmem_blocks_given_back", s.blocks_given_back.load_relaxed());
  counter("kmem_blocks_opened", s.blocks_opened.load_relaxed());
  counter("kmem_cpu_list_drains", s.cpu_list_drains.load_relaxed());
  counter("kmem_reserve_used", s.reserve_used.load_relaxed());
  counter("kmem_waits", s.waits.load_relaxed());
  counter("kmem_wait_turns", s.wait_turns.load_relaxed());
  counter("kmem_long_sleeps", s.long_sleeps.load_relaxed());
  counter("kmem_deadlocks", s.deadlocks.load_relaxed());
  counter("kmem_oom_notified", s.oom_notified.load_relaxed());
  counter("kmem_deferred_frees", s.deferred_frees.load_relaxed());
  counter("kmem_bad_pages", s.bad_pages.load_relaxed());
}

size_t write_vmstat(machine& m, char* buffer, size_t capacity) noexcept {
  text_writer out(buffer, capacity);
  for_each_counter(m, &out, [](void* context, const char* name, uint64_t value) noexcept {
    static_cast<text_writer*>(context)->str(name).ch(' ').dec(value).ch('\n');
  });
  return out.length();
}

size_t write_meminfo(machine& m, char* buffer, size_t capacity) noexcept {
  text_writer out(buffer, capacity);
  const slab_totals slabs = count_slab_pages(m);
  const uint64_t free = free_pages_total(m);
  kilobytes(out, "MemTotal:", m.limit.raw());
  kilobytes(out, "MemFree:", free);
  kilobytes(out, "MemAvailable:", free);
  kilobytes(out, "Slab:", slabs.pages);
  kilobytes(out, "SReclaimable:", slabs.reclaimable_pages);
  kilobytes(out, "SUnreclaim:", slabs.pages - slabs.reclaimable_pages);
  kilobytes(out, "VmallocUsed:", m.vmalloc_pages.load_relaxed());
  kilobytes(out, "KmemCharged:", charged_pages(m));
  kilobytes(out, "KmemMetadata:", m.metadata_pages.load_relaxed());
  return out.length();
}

size_t write_vmallocinfo(machine& m, char* buffer, size_t capacity, pc_writer write_pc) noexcept {
  text_writer out(buffer, capacity);
  vmap_info info{};
  for (const void* from = nullptr; read_vmap_info(m, from, info);) {
    const auto begin = reinterpret_cast<uintptr_t>(info.begin);
    const uint64_t size = bytes(nr_pages_t(info.nr_pages + 1));  // the kernel counts the guard page behind
    out.str("0x").hex(begin, 16).str("-0x").hex(begin + size, 16).ch(' ').dec(size, 7).ch(' ');
    write_pc(out, info.caller);
    out.str(" pages=").dec(info.nr_pages).str(" vmalloc").str(info.frames ? " frames" : "").str(" N0=").dec(info.nr_pages).ch('\n');
    from = reinterpret_cast<const void*>(begin + size);
  }
  return out.length();
}

}  // inline namespace
}  // namespace kmem
