// vmalloc areas: mappings of their own whose pages count in the budget.
//
// States.   An area is being built (its maker's alone), in the tree, queued (its first bytes link it on vfree_deferred, and it stays in the
//           tree), or taken out and being undone (its freer's alone). Always, under vmalloc_lock:
//               sum of nr_pages over the tree == vmalloc_pages
//           Each page of an area in the tree is charged to a zone; its page tables are charged as metadata, or to DMA where NORMAL,
//           which metadata is taken from, had no room.
// Locks.    vmalloc_lock guards the tree and is a leaf: nothing is allocated, freed or mapped under it. A handler that interrupted another
//           slow path only tries it: vmalloc then fails, vfree queues.
// Contexts. vmalloc and vfree may sleep; vfree elsewhere queues.
// Ordering. pairs: vfree_deferred - a push releases the link written into the area, the exchange that takes all of them acquires it.
// Kernel.   There every area maps page frames. Here an anonymous machine cannot (a private anonymous page has no second address), so an
//           area is fresh memory of the system's, known to be zero: vzalloc writes nothing. A vfree that may not sleep is queued whatever
//           forbids it; the kernel queues only in interrupts, and reports the rest, as this does too.
// Tests.    tests/unit/vmalloc/, tests/fault/vmalloc_fail_nth_test.cpp
#include "vmalloc/vmalloc.hpp"

#include "vmalloc/area_tree.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr size_t table_shift = 21;  // one page table maps 2 MiB

/// Page tables that nobody else may need: one for each 2 MiB touched, and the tables of tables beyond the first.
uint64_t tables_for(const char* begin, uint64_t nr_pages) noexcept {
  const auto first = reinterpret_cast<uintptr_t>(begin) >> table_shift;
  const auto last = (reinterpret_cast<uintptr_t>(begin) + (nr_pages << page_shift) - 1) >> table_shift;
  return (last - first + 1) + ((last >> 9) - (first >> 9));
}

void warn(log_level level, const char* what, const void* p) noexcept {
  char text[160];
  text_writer line(text, sizeof text);
  line.str(what);
  if (p != nullptr) line.str(" (0x").hex(reinterpret_cast<uintptr_t>(p)).ch(')');
  const void* pcs[printk_max_pcs];
  printk(level, text, line.length(), pcs, capture_stack(pcs, printk_max_pcs));
}

/// "NAME: vmalloc error: size N, WHY, mode:0x...(GFP_...)"
void report_failure(vmalloc_allocator& va, size_t size, gfp_t gfp, const char* why) noexcept {
  uint32_t missed = 0;
  if (has(gfp, gfp::nowarn) || !va.vmalloc_reports.allow(plat::now_ns(), missed)) return;
  char name[16], mask[200], text[400];
  plat::thread_name(name, sizeof name);
  format_gfp(gfp, mask, sizeof mask);
  text_writer line(text, sizeof text);
  line.str(name).str(": vmalloc error: size ").dec(size).str(", ").str(why).str(", mode:0x").hex(static_cast<uint32_t>(gfp)).ch('(');
  line.str(mask).ch(')');
  if (missed != 0) line.str("; ").dec(missed).str(" such messages were left out before");
  const void* pcs[printk_max_pcs];
  printk(log_level::warning, text, line.length() < sizeof text ? line.length() : sizeof text - 1, pcs, capture_stack(pcs, printk_max_pcs));
}

/// Injected failure of a mapping; NOFAIL is passed over, as by the other fail points.
bool refuse_mapping(gfp_t gfp, size_t size) noexcept { return may_fail(gfp) && should_fail(fail_point::fail_mmap, size); }

/// Where descriptors and lists of frames come from: the caller's right to wait, and none of his zones.
gfp_t descriptor_gfp(gfp_t gfp) noexcept {
  return (gfp & (gfp::reclaim | gfp::io | gfp::fs | gfp::high | gfp::atomic_bit | gfp::memalloc | gfp::nomemalloc | gfp::nofail |
                 gfp::noretry | gfp::retry_mayfail)) |
         gfp::nowarn;
}

/// Charges an area's page tables; where the budget has no room the chain of `gfp` makes some. What it has got is kept: if it were given
/// back to be charged as something else, others would take it, and who may wait would fail before its time.
bool charge_tables(vmalloc_allocator& va, vmap_area& area, gfp_t gfp) noexcept {
  area.table_zone = -1;
  if (charge_metadata_for(va, gfp, area.table_pages)) return true;
  const nr_pages_t n(area.table_pages);
  const int zone = charge_pages(va, descriptor_gfp(gfp), n);
  if (zone < 0) return false;
  if (!charge_becomes_metadata(va, zone, n)) area.table_zone = zone;
  return true;
}

void uncharge_tables(vmalloc_allocator& va, const vmap_area& area) noexcept {
  if (area.table_zone < 0)
    uncharge_metadata(va, area.table_pages);
  else
    uncharge_pages(va, area.table_zone, nr_pages_t(area.table_pages));
}

gfp_t page_gfp(gfp_t gfp) noexcept {
  const gfp_t mask = gfp | gfp::nowarn;  // the area is reported, not its pages
  return has(mask, gfp::dma | gfp::dma32) ? mask : mask | gfp::highmem_bit;
}

void free_frames(vmalloc_allocator& va, vmap_area& area, uint64_t n) noexcept {
  for (uint64_t i = 0; i < n; ++i)
    if (area.frames[i] != nullptr) put_page(va, area.frames[i]);
  kvfree(va, area.frames);
  area.frames = nullptr;
}

/// Fills area.frames. Return: false with nothing kept.
bool get_frames(vmalloc_allocator& va, vmap_area& area, gfp_t gfp) noexcept {
  area.frames = static_cast<page**>(kvmalloc(va, area.nr_pages * sizeof(page*), descriptor_gfp(gfp) | gfp::zero, area.caller));
  if (area.frames == nullptr) return false;
  for (uint64_t done = 0; done < area.nr_pages;) {
    const uint64_t left = area.nr_pages - done;
    const auto want = static_cast<unsigned>(left < pages_per_block ? left : pages_per_block);
    const unsigned got = alloc_pages_bulk(va, page_gfp(gfp), want, area.frames + done);
    if (got == 0) {
      free_frames(va, area, done);
      return false;
    }
    done += got;
  }
  return true;
}

/// Maps area.frames at area.begin, neighbouring frames by one call.
bool map_all_frames(vmalloc_allocator& va, const vmap_area& area, gfp_t gfp) noexcept {
  for (uint64_t i = 0; i < area.nr_pages;) {
    const pfn_t first = va.pfn_of(area.frames[i]);
    uint64_t run = 1;
    while (i + run < area.nr_pages && va.pfn_of(area.frames[i + run]) == first + nr_pages_t(run)) ++run;
    const size_t run_bytes = bytes(nr_pages_t(run));
    if (refuse_mapping(gfp, run_bytes)) return false;
    if (!plat::map_frames(area.begin + (i << page_shift), size_t{first.raw()} << page_shift, va.arena, run_bytes)) return false;
    i += run;
  }
  return true;
}

/// Gives the pages of an area back, which may be mapped or not.
void drop_pages(vmalloc_allocator& va, vmap_area& area) noexcept {
  if (area.frames != nullptr) return free_frames(va, area, area.nr_pages);
  uncharge_pages(va, area.zone, nr_pages_t(area.nr_pages));
}

/// Charges and maps the pages of area. Return: nullptr, or what could not be had, with nothing kept.
const char* back_area(vmalloc_allocator& va, vmap_area& area, gfp_t gfp) noexcept {
  if (va.config.kind == backing::memfd) {
    area.zone = -1;
    if (!get_frames(va, area, gfp)) return "failed to allocate pages";
    if (map_all_frames(va, area, gfp)) return nullptr;
    free_frames(va, area, area.nr_pages);
    keep_failure(va, gfp, area.size);
    return "failed to map pages";
  }
  area.zone = charge_pages(va, page_gfp(gfp), nr_pages_t(area.nr_pages));
  if (area.zone < 0) return "failed to allocate pages";
  const size_t area_bytes = bytes(nr_pages_t(area.nr_pages));
  if (!refuse_mapping(gfp, area_bytes) && plat::open(area.begin, area_bytes)) return nullptr;
  uncharge_pages(va, area.zone, nr_pages_t(area.nr_pages));
  keep_failure(va, gfp, area.size);
  return "failed to map pages";
}

/// Address space, page tables and pages for an area. Return: nullptr, or what could not be had, with nothing kept.
const char* build_area(vmalloc_allocator& va, vmap_area& area, gfp_t gfp) noexcept {
  const size_t mapping_bytes = bytes(nr_pages_t(area.nr_pages + 2));
  char* const mapping = refuse_mapping(gfp, mapping_bytes) ? nullptr : static_cast<char*>(plat::map_guarded(mapping_bytes));
  if (mapping == nullptr) {
    keep_failure(va, gfp, area.size);
    return "vm_struct allocation failed: no address space";
  }
  area.begin = mapping + page_size;
  area.table_pages = tables_for(area.begin, area.nr_pages);
  const char* failed = "failed to allocate page tables";
  if (charge_tables(va, area, gfp)) {
    failed = back_area(va, area, gfp);
    if (failed == nullptr) return nullptr;
    uncharge_tables(va, area);
  }
  plat::unmap(mapping, mapping_bytes);
  return failed;
}

/// Undoes an area that is in no tree. Return: pages freed.
uint64_t destroy_area(vmalloc_allocator& va, vmap_area& area) noexcept {
  const uint64_t nr = area.nr_pages;
  plat::unmap(area.begin - page_size, bytes(nr_pages_t(nr + 2)));
  drop_pages(va, area);
  uncharge_tables(va, area);
  cache_free(va, va.vmap_cache, &area);
  return nr;
}

bool publish_area(vmalloc_allocator& va, vmap_area& area) noexcept {
  const nest_guard nest;
  if (!va.vmalloc_lock.lock_unless_nested()) return false;
  area.priority = area_priority(va.area_numbers++);
  insert_area(va.areas, area);
  va.vmalloc_pages.fetch_add_relaxed(area.nr_pages);
  va.vmalloc_lock.unlock();
  return true;
}

/// Takes the area that begins at p out of the tree. `locked` is false when the lock could not be had. Return: nullptr if there is none.
vmap_area* take_area(vmalloc_allocator& va, const void* p, bool& locked) noexcept {
  const nest_guard nest;
  locked = false;
  if (!va.vmalloc_lock.lock_unless_nested()) return nullptr;
  locked = true;
  vmap_area* const area = remove_area(va.areas, static_cast<const char*>(p));
  if (area != nullptr) va.vmalloc_pages.fetch_sub_relaxed(area->nr_pages);
  va.vmalloc_lock.unlock();
  return area;
}

/// Does an area begin at p? True as well when the lock could not be had: it is checked again when the queue is drained.
bool may_be_area(vmalloc_allocator& va, const void* p) noexcept {
  const nest_guard nest;
  if (!va.vmalloc_lock.lock_unless_nested()) return true;
  const vmap_area* const area = find_area(va.areas, static_cast<const char*>(p));
  const bool found = area != nullptr && area->begin == p;
  va.vmalloc_lock.unlock();
  return found;
}

/// Queues an area through its own first bytes: no memory and no lock is needed.
void defer_vfree(vmalloc_allocator& va, char* p) noexcept {
  if (!may_be_area(va, p)) return warn(log_level::err, "Trying to vfree() nonexistent vm area", p);
  char* head = va.vfree_deferred.load_relaxed();
  do *reinterpret_cast<char**>(p) = head;
  while (!va.vfree_deferred.try_cmpxchg_release(head, p));  // pairs: vfree_deferred
}

uint64_t free_area_at(vmalloc_allocator& va, const void* p) noexcept {
  bool locked = false;
  vmap_area* const area = take_area(va, p, locked);
  if (area != nullptr) return destroy_area(va, *area);
  if (locked) {
    warn(log_level::err, "Trying to vfree() nonexistent vm area", p);
  } else {
    defer_vfree(va, static_cast<char*>(const_cast<void*>(p)));
  }
  return 0;
}

uint64_t drain_op(void* context, bool may_wait) noexcept {
  return may_wait ? drain_deferred_vfree(*static_cast<vmalloc_allocator*>(context)) : 0;
}

}  // namespace

err vmalloc_init(vmalloc_allocator& va) noexcept {
  {
    const lock_guard lock(va.vmalloc_lock);
    va.areas = nullptr;
    va.area_numbers = 0;
  }
  va.vmalloc_pages.store_relaxed(0);
  va.vfree_deferred.store_relaxed(nullptr);
  va.vmalloc_reports.reset();
  cache_args args;
  args.name = "vmap_area";
  args.object_size = sizeof(vmap_area);
  args.align = alignof(vmap_area);
  const err result = cache_init(va, va.vmap_cache, args);
  if (result != err::ok) return result;
  return register_reclaim_ops(va, {.context = &va, .drain_caches = drain_op});
}

void vmalloc_destroy(vmalloc_allocator& va) noexcept {
  drain_deferred_vfree(va);
  for (;;) {
    const char* begin = nullptr;
    {
      const lock_guard lock(va.vmalloc_lock);
      if (va.areas != nullptr) begin = va.areas->begin;
    }
    if (begin == nullptr) break;
    free_area_at(va, begin);
  }
  cache_retire(va, va.vmap_cache);
}

void* vmalloc(vmalloc_allocator& va, size_t size, gfp_t gfp, const void* caller) noexcept {
  if (check_may_sleep(__FILE__, __LINE__) && va.vfree_deferred.load_relaxed() != nullptr) drain_deferred_vfree(va);
  if (size == 0) {
    warn(log_level::warning, "WARNING: vmalloc() of 0 bytes", nullptr);
    return nullptr;
  }
  const nr_pages_t n = pages_for(size);
  if (n > va.limit) {
    report_failure(va, size, gfp, "exceeds total pages");
    keep_failure(va, gfp, size);
    return nullptr;
  }
  for (;;) {
    const char* failed = "vm_struct allocation failed";
    auto* const area = static_cast<vmap_area*>(cache_alloc(va, va.vmap_cache, descriptor_gfp(gfp)));
    if (area != nullptr) {
      *area = {};
      area->nr_pages = n.raw();
      area->caller = caller;
      area->size = size;
      failed = build_area(va, *area, gfp);
      if (failed == nullptr) {
        if (publish_area(va, *area)) return area->begin;
        destroy_area(va, *area);
        return nullptr;  // in a handler that interrupted the holder of the lock, where nothing can be waited for
      }
      cache_free(va, va.vmap_cache, area);
    }
    report_failure(va, size, gfp, failed);
    if (may_fail(gfp)) return nullptr;
    uint32_t nobody = 0;
    plat::futex_wait(&nobody, 0, 10'000'000);  // arbitrary: NOFAIL tries a hundred times a second
  }
}

void vfree(vmalloc_allocator& va, const void* p) noexcept {
  if (p == nullptr) return;
  if ((reinterpret_cast<uintptr_t>(p) & (page_size - 1)) != 0) return warn(log_level::err, "Trying to vfree() bad address", p);
  char* const begin = static_cast<char*>(const_cast<void*>(p));
  if (in_interrupt() || current().depth != 0) return defer_vfree(va, begin);
  if (!check_may_sleep(__FILE__, __LINE__)) return defer_vfree(va, begin);
  free_area_at(va, p);
  if (va.vfree_deferred.load_relaxed() != nullptr) drain_deferred_vfree(va);
}

uint64_t drain_deferred_vfree(vmalloc_allocator& va) noexcept {
  if (va.vfree_deferred.load_relaxed() == nullptr) return 0;
  uint64_t freed = 0;
  char* next = va.vfree_deferred.exchange_acquire(nullptr);  // pairs: vfree_deferred
  while (next != nullptr) {
    char* const begin = next;
    next = *reinterpret_cast<char**>(begin);
    freed += free_area_at(va, begin);
  }
  return freed;
}

bool is_vmalloc_addr(vmalloc_allocator& va, const void* p) noexcept {
  const nest_guard nest;
  if (!va.vmalloc_lock.lock_unless_nested()) return !is_zero_or_null(p) && !va.contains(p);
  const vmap_area* const area = find_area(va.areas, static_cast<const char*>(p));
  const bool inside = area != nullptr && area->begin <= p;
  va.vmalloc_lock.unlock();
  return inside;
}

size_t vmalloc_size(vmalloc_allocator& va, const void* p) noexcept {
  vmap_info info{};
  return read_vmap_info(va, p, info) && info.begin == p ? bytes(nr_pages_t(info.nr_pages)) : 0;
}

bool read_vmap_info(vmalloc_allocator& va, const void* from, vmap_info& result) noexcept {
  const nest_guard nest;
  if (!va.vmalloc_lock.lock_unless_nested()) return false;
  const vmap_area* area = find_area(va.areas, static_cast<const char*>(from));
  if (area != nullptr && area->begin < from) area = find_area(va.areas, area_end(*area));
  if (area != nullptr) result = {area->begin, area->size, area->nr_pages, area->frames != nullptr, area->caller};
  va.vmalloc_lock.unlock();
  return area != nullptr;
}

const char* vmalloc_is_valid(vmalloc_allocator& va) noexcept {
  const lock_guard lock(va.vmalloc_lock);
  uint64_t pages = 0;
  const char* end_before = nullptr;
  for (const vmap_area* area = find_area(va.areas, nullptr); area != nullptr; area = find_area(va.areas, area_end(*area))) {
    if (area->nr_pages == 0 || area->size > bytes(nr_pages_t(area->nr_pages))) return "vmalloc: an area's size does not fit its pages";
    if (area->begin - page_size < end_before) return "vmalloc: areas overlap or are out of order";
    if ((area->left != nullptr && (area->left->priority > area->priority || area->left->begin >= area->begin)) ||
        (area->right != nullptr && (area->right->priority > area->priority || area->right->begin <= area->begin)))
      return "vmalloc: the tree of areas is not a treap";
    if ((area->zone < 0) != (area->frames != nullptr)) return "vmalloc: an area is neither charged nor has frames";
    pages += area->nr_pages;
    end_before = area_end(*area) + page_size;
  }
  if (pages != va.vmalloc_pages.peek()) return "vmalloc: vmalloc_pages does not match the areas";
  return nullptr;
}

// Taking a lock that the function does not release is beyond the analysis.
void fork_prepare(ranked_lock& lock, fork_lock& state) noexcept KMEM_NO_ANALYSIS {
  const uint64_t ranks = current().held_ranks;
  const nest_guard nest;
  state.held = lock.lock_for_fork();
  current().held_ranks = ranks;
}

void fork_parent(ranked_lock& lock, fork_lock& state) noexcept KMEM_NO_ANALYSIS {
  if (!state.held) return;
  state.held = false;
  const uint64_t ranks = current().held_ranks;
  current().held_ranks = uint64_t{1} << (static_cast<unsigned>(lock.rank()) * held_bits);
  lock.unlock();
  current().held_ranks = ranks;
}

void fork_child(ranked_lock& lock, fork_lock& state) noexcept {
  // What prepare did not get belongs to the frame below, which goes on in the child and releases it.
  if (state.held) lock.reinit_after_fork();
  state.held = false;
}

void vmalloc_fork_prepare(vmalloc_allocator& va) noexcept { fork_prepare(va.vmalloc_lock, va.vmalloc_fork); }
void vmalloc_fork_parent(vmalloc_allocator& va) noexcept { fork_parent(va.vmalloc_lock, va.vmalloc_fork); }
void vmalloc_fork_child(vmalloc_allocator& va) noexcept { fork_child(va.vmalloc_lock, va.vmalloc_fork); }

}  // inline namespace
}  // namespace kmem
