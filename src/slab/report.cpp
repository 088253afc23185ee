// What the slab layer says: refused frees, failed allocations, caches that cannot be made or destroyed.
//
// What for. The kernel's texts where it has them, so that whoever knows those finds what he expects, with our own numbers.
// Locks.   Called with no lock held, but for report_slabs, which tries each cache's lock. Context: any.
// Ordering. None.
// Kernel.  One record a report; addresses are printed in the clear, since they are the process's own. A failed allocation's "min order"
//          is its default order: there is none to fall back to.
// Tests.   tests/unit/slab/report_test.cpp
#include "slab/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr char thick_line[] = "=============================================================================\n";
constexpr char thin_line[] = "-----------------------------------------------------------------------------\n\n";

void log(log_level level, const text_writer& text, const char* buffer, size_t capacity, bool with_stack) noexcept {
  const void* pcs[printk_max_pcs];
  const unsigned nr_pcs = with_stack ? capture_stack(pcs, printk_max_pcs) : 0;
  printk(level, buffer, text.length() < capacity ? text.length() : capacity - 1, pcs, nr_pcs);
}

text_writer& address(text_writer& text, const void* p) noexcept { return text.str("0x").hex(reinterpret_cast<uintptr_t>(p), 16); }

void append_task(text_writer& text) noexcept {
  char name[16];
  plat::thread_name(name, sizeof name);
  text.str("CPU: ").dec(static_cast<uint64_t>(plat::cpu())).str(" PID: ").dec(static_cast<uint64_t>(plat::thread_id()));
  text.str(" Comm: ").str(name).str("\nCall Trace:\n");
}

bool may_report(slab_allocator& sa) noexcept {
  uint32_t missed = 0;
  if (!sa.bad_free_reports.allow(plat::now_ns(), missed)) return false;
  if (missed != 0) {
    char line[80];
    text_writer text(line, sizeof line);
    text.str("slab: ").dec(missed).str(" reports suppressed\n");
    log(log_level::warning, text, line, sizeof line, false);
  }
  return true;
}

/// A cache's name as the kernel prints it, or what stands for an address that belongs to none.
const char* name_of(const kmem_cache* cache) noexcept { return cache != nullptr ? cache->name : "(no cache)"; }

struct cache_sums {
  uint64_t slabs = 0, objects = 0, free = 0;
};
bool read_sums(kmem_cache& cache, cache_sums& sums) noexcept {
  nest_guard guard;
  if (!cache.lock.lock_unless_nested()) return false;
  sums = {cache.nr_slabs, cache.nr_objects, cache.nr_free};
  cache.lock.unlock();
  return true;
}

}  // namespace

void report_bad_free(slab_allocator& sa, const kmem_cache* cache, const void* object, const char* what) noexcept {
  sa.bad_frees.fetch_add_relaxed(1);
  if (!may_report(sa)) return;
  if (cache == nullptr) cache = cache_of(sa, object);
  char buffer[printk_record_bytes];
  text_writer text(buffer, sizeof buffer);
  text.str(thick_line).str("BUG ").str(name_of(cache)).str(" (Not tainted): ").str(what).ch('\n').str(thin_line);
  address(text.str("Object "), object);
  if (cache != nullptr) {
    const pfn_t head = slab_head(sa, *cache, object);
    const auto offset = static_cast<uint64_t>(static_cast<const char*>(object) - sa.address_of(head));
    address(text.str(" @offset=").dec(offset).str(" of slab "), sa.address_of(head));
    text.str(" objects=").dec(cache->capacity).str(" size=").dec(cache->size);
  }
  text.str("\nIt was not freed.\n");
  append_task(text);
  log(log_level::err, text, buffer, sizeof buffer, true);
}

void report_wrong_cache(slab_allocator& sa, const kmem_cache& cache, const void* object) noexcept {
  sa.bad_frees.fetch_add_relaxed(1);
  if (!may_report(sa)) return;
  const kmem_cache* const owner = cache_of(sa, object);
  char buffer[printk_record_bytes];
  text_writer text(buffer, sizeof buffer);
  if (owner != nullptr)
    text.str("cache_from_obj: Wrong slab cache. ").str(cache.name).str(" but object is from ").str(owner->name).ch('\n');
  else
    text.str("kmem_cache_free: invalid pointer for ").str(cache.name).str(": it lies in no slab\n");
  address(text.str("object pointer: "), object).str("\nIt was not freed.\n");
  append_task(text);
  log(log_level::err, text, buffer, sizeof buffer, true);
}

void report_objects_remaining(kmem_cache& cache, uint64_t nr_out) noexcept {
  char buffer[printk_record_bytes];
  cache_sums sums;
  read_sums(cache, sums);
  text_writer text(buffer, sizeof buffer);
  text.str(thick_line).str("BUG ").str(cache.name).str(" (Not tainted): Objects remaining in ").str(cache.name);
  text.str(" on __kmem_cache_shutdown()\n");
  text.str(thin_line).str("Slabs ").dec(sums.slabs).str(" objects=").dec(sums.objects).str(" used=").dec(nr_out);
  text.str("\nkmem_cache_destroy ").str(cache.name).str(": Slab cache still has objects; it is kept\n");
  append_task(text);
  log(log_level::err, text, buffer, sizeof buffer, true);
}

void report_cache_create(const char* name, const char* what) noexcept {
  char buffer[240];
  text_writer text(buffer, sizeof buffer);
  text.str("kmem_cache_create(").str(name).str(") failed: ").str(what).ch('\n');
  log(log_level::warning, text, buffer, sizeof buffer, false);
}

KMEM_COLD gfp_t fix_slab_gfp(gfp_t gfp) noexcept {
  const gfp_t bad = gfp & bad_slab_gfp;
  const gfp_t fixed = gfp & ~bad;
  char buffer[300], names[120];
  text_writer text(buffer, sizeof buffer);
  format_gfp(bad, names, sizeof names);
  text.str("Unexpected gfp: 0x").hex(static_cast<uint32_t>(bad)).str(" (").str(names).str("). Fixing up to gfp: 0x");
  format_gfp(fixed, names, sizeof names);
  text.hex(static_cast<uint32_t>(fixed)).str(" (").str(names).str("). Fix your code!\n");
  log(log_level::warning, text, buffer, sizeof buffer, true);
  return fixed;
}

void report_slab_failure(slab_allocator& sa, kmem_cache& cache, gfp_t gfp) noexcept {
  uint32_t missed = 0;
  if (has(gfp, gfp::nowarn) || !sa.failure_reports.allow(plat::now_ns(), missed)) return;
  cache_sums sums;
  const bool known = read_sums(cache, sums);
  char buffer[printk_record_bytes], names[160];
  format_gfp(gfp, names, sizeof names);
  text_writer text(buffer, sizeof buffer);
  text.str("SLUB: Unable to allocate memory on node -1, gfp=0x").hex(static_cast<uint32_t>(gfp)).str("(").str(names).str(")\n");
  text.str("  cache: ").str(cache.name).str(", object size: ").dec(cache.object_size).str(", buffer size: ").dec(cache.size);
  text.str(", default order: ").dec(cache.slab_order).str(", min order: ").dec(cache.slab_order).ch('\n');
  if (known) text.str("  node 0: slabs: ").dec(sums.slabs).str(", objs: ").dec(sums.objects).str(", free: ").dec(sums.free).ch('\n');
  if (missed != 0) text.str("  (").dec(missed).str(" such reports suppressed)\n");
  log(log_level::warning, text, buffer, sizeof buffer, false);
}

void report_slabs(void* context, gfp_t) noexcept {
  auto& sa = *static_cast<slab_allocator*>(context);
  constexpr unsigned nr_lines = 5;  // arbitrary: the ones that matter fit a record
  struct line {
    kmem_cache* cache;
    cache_sums sums;
    uint64_t bytes;
  } largest[nr_lines] = {};
  nest_guard guard;
  if (!sa.cache_list_lock.lock_unless_nested()) return;
  for (uint32_t id = 1; id < sa.caches_end; ++id) {
    kmem_cache* const cache = sa.caches[id].load_relaxed();
    line one{cache, {}, 0};
    if (cache == nullptr || !cache->lock.try_lock()) continue;
    one.sums = {cache->nr_slabs, cache->nr_objects, cache->nr_free};
    cache->lock.unlock();
    one.bytes = one.sums.slabs * (page_size << cache->slab_order);
    for (unsigned i = 0; i < nr_lines; ++i)
      if (one.bytes > largest[i].bytes) {
        const line displaced = largest[i];
        largest[i] = one;
        one = displaced;
      }
  }
  char buffer[printk_record_bytes];
  text_writer text(buffer, sizeof buffer);
  text.str("Largest slab caches:\nName                      Used KiB    Total KiB\n");
  for (const line& each : largest) {
    if (each.bytes == 0) break;
    const uint64_t used = (each.sums.objects - each.sums.free) * each.cache->size;
    text.pad(each.cache->name, 22).dec(used >> 10, 12).dec(each.bytes >> 10, 13).ch('\n');
  }
  sa.cache_list_lock.unlock();
  log(log_level::warning, text, buffer, sizeof buffer, false);
}

}  // inline namespace
}  // namespace kmem
