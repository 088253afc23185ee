// kmem_caches: layout, creation, merging, destruction; set-up and tear-down of the layer.
//
// What for. A cache fixes for good what the paths need: size, alignment, slab order, array and batch sizes, its byte in the class map.
// States.  Published in `caches` under its id, or not. `references` counts its users after merging; the last one destroys it, unless
//          objects are still out: then it stays, whole and usable, and can be destroyed later.
// Locks.   cache_list_lock for `caches`, ids and references; the entry itself is made and freed with no lock held.
// Ordering. A cache's fields are written before it is published under the list lock; users get the pointer from the call that made it.
// Kernel.  Caches merge by the kernel's rule but for two: no cache merges with kmalloc's, and a merged one is not widened, so a request
//          that is larger than the cache it would merge with gets its own. Slabs have one order (there: a smaller one to fall back to).
// Tests.   tests/unit/slab/cache_test.cpp
#include <new>

#include "slab/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr slab_flags_t known_flags = slab_flags_t::hwcache_align | slab_flags_t::cache_dma | slab_flags_t::cache_dma32 |
                                     slab_flags_t::reclaim_account | slab_flags_t::panic | slab_flags_t::no_merge;
constexpr slab_flags_t layout_flags = slab_flags_t::cache_dma | slab_flags_t::cache_dma32 | slab_flags_t::reclaim_account;
constexpr size_t min_object_bytes = sizeof(void*);   // a deferred object carries a link
constexpr size_t slab_bytes_two_kept = 16 * 1024;    // wholly free slabs kept: two up to this size (arbitrary),
constexpr size_t slab_bytes_one_kept = 64 * 1024;    // one up to this, larger ones none: they would be most of an idle process

constexpr slab_flags_t operator&(slab_flags_t a, slab_flags_t b) { return slab_flags_t(uint32_t(a) & uint32_t(b)); }

constexpr size_t clamp(size_t value, size_t least, size_t most) { return value < least ? least : value > most ? most : value; }

size_t max_object_bytes(const slab_allocator& sa) noexcept { return page_size << (sa.max_order - 1); }

/// The alignment that the flags and the kernel's rules give: at most a cache line, halved while two objects fit one half.
size_t object_alignment(const cache_args& args) noexcept {
  size_t align = args.align;
  if (has(args.flags, slab_flags_t::hwcache_align)) {
    size_t line = arch::cache_line_bytes;
    while (args.object_size <= line / 2) line /= 2;
    if (line > align) align = line;
  }
  return align < sizeof(void*) ? sizeof(void*) : align;
}

/// What is wrong with the arguments, or nullptr.
const char* check_arguments(const slab_allocator& sa, const cache_args& args) noexcept {
  if (args.name == nullptr || args.name[0] == '\0') return "a cache needs a name";
  if (args.object_size == 0) return "the object size is 0";
  if (args.object_size > max_object_bytes(sa)) return "the object size is larger than the largest block of pages";
  if (args.align != 0 && !is_power_of_two(args.align)) return "the alignment is not a power of two";
  if (args.align > max_object_bytes(sa)) return "the alignment is larger than the largest block of pages";
  if ((uint32_t(args.flags) & ~uint32_t(known_flags)) != 0) return "unknown flags";
  if (has(args.flags, slab_flags_t::cache_dma) && has(args.flags, slab_flags_t::cache_dma32))
    return "SLAB_CACHE_DMA and SLAB_CACHE_DMA32 exclude each other";
  return nullptr;
}

void copy_name(char (&to)[32], const char* from) noexcept {
  size_t i = 0;
  for (; i + 1 < sizeof to && from[i] != '\0'; ++i) to[i] = from[i];
  to[i] = '\0';
}

/// Computes everything that follows from the arguments. Return: what is wrong, or nullptr.
const char* lay_out(const slab_allocator& sa, const cache_args& args, kmem_cache& cache) noexcept {
  const size_t align = object_alignment(args);
  size_t bytes = args.object_size;
  if (args.constructor != nullptr) {
    bytes = round_up(bytes, sizeof(void*));
    cache.link_offset = static_cast<uint32_t>(bytes);
    bytes += sizeof(void*);
  }
  const size_t size = round_up(bytes < min_object_bytes ? min_object_bytes : bytes, align);
  if (size > max_object_bytes(sa)) return "the object with its alignment is larger than the largest block of pages";
  const unsigned limit = sa.max_order - 1 < slab_order_max ? sa.max_order - 1 : slab_order_max;
  const unsigned order = args.exact_class ? args.slab_order : choose_slab_order(size, limit);
  const size_t slab_bytes = page_size << order;
  cache.size = static_cast<uint32_t>(size);
  cache.magic = index_magic(cache.size);
  cache.slab_order = static_cast<uint8_t>(order);
  cache.capacity = static_cast<uint16_t>(clamp(slab_bytes / size, 1, slab_objects_max));
  cache.shape = {start_magic(cache.size), static_cast<uint32_t>(slab_bytes - 1), cache.capacity * cache.size};
  cache.object_size = static_cast<uint32_t>(args.object_size);
  cache.align = static_cast<uint32_t>(align);
  cache.flags = args.flags;
  cache.slab_gfp = args.slab_gfp;
  if (has(args.flags, slab_flags_t::cache_dma)) cache.slab_gfp |= gfp::dma;
  if (has(args.flags, slab_flags_t::cache_dma32)) cache.slab_gfp |= gfp::dma32;
  if (has(args.flags, slab_flags_t::reclaim_account)) cache.slab_gfp |= gfp::reclaimable;
  cache.constructor = args.constructor;
  cache.references = 1;
  cache.batch = static_cast<uint16_t>(clamp(batch_bytes_max / size, 1, batch_objects_max));
  cache.array_first = static_cast<uint16_t>(clamp(array_bytes_max / size, 2, array_first_objects));
  cache.array_max = static_cast<uint16_t>(clamp(array_bytes_max / size, cache.array_first, array_objects_max));
  cache.empty_max = slab_bytes <= slab_bytes_two_kept ? 2 : slab_bytes <= slab_bytes_one_kept ? 1 : 0;
  cache.barn_objects_max = static_cast<uint32_t>(clamp(barn_bytes_max / size, 0, barn_sheaves * sheaf_objects));
  cache.uses_barn = cache.barn_objects_max != 0;
  copy_name(cache.name, args.name);
  return nullptr;
}

/// Gives the cache an id and makes it known. Return: why not, or nullptr.
const char* publish(slab_allocator& sa, kmem_cache& cache, uint16_t id) noexcept {
  nest_guard guard;
  if (!sa.cache_list_lock.lock_unless_nested()) return "the interrupted code is changing the list of caches";
  uint32_t free_id = id != 0 ? id : first_cache_id;
  if (id == 0)
    while (free_id < max_caches && sa.caches[free_id].load_relaxed() != nullptr) ++free_id;
  const bool found = free_id < max_caches && sa.caches[free_id].load_relaxed() == nullptr;
  if (found) {
    cache.id = static_cast<uint16_t>(free_id);
    cache.class_byte = static_cast<uint8_t>(free_id < nr_array_headers - 1 ? free_id : nr_array_headers - 1);
    if (cache.class_byte != nr_array_headers - 1) sa.shapes[free_id] = cache.shape;
    sa.caches[free_id].store_relaxed(&cache);
    ++sa.nr_caches;
    if (free_id >= sa.caches_end) sa.caches_end = free_id + 1;
  }
  sa.cache_list_lock.unlock();
  return found ? nullptr : "all cache numbers are taken";
}

void unpublish_locked(slab_allocator& sa, kmem_cache& cache) noexcept KMEM_REQUIRES(sa.cache_list_lock) {
  if (cache.class_byte != nr_array_headers - 1) {
    close_arrays(sa, cache.class_byte);
    sa.shapes[cache.class_byte] = {};
  }
  sa.caches[cache.id].store_relaxed(nullptr);
  --sa.nr_caches;
  while (sa.caches_end != 0 && sa.caches[sa.caches_end - 1].load_relaxed() == nullptr) --sa.caches_end;
}

/// A living cache that can serve a request as well, with one more reference.
kmem_cache* find_mergeable(slab_allocator& sa, const cache_args& args) noexcept {
  if (args.constructor != nullptr || has(args.flags, slab_flags_t::no_merge)) return nullptr;
  alignas(kmem_cache) unsigned char storage[sizeof(kmem_cache)];
  kmem_cache& wanted = *new (storage) kmem_cache;
  if (lay_out(sa, args, wanted) != nullptr) return nullptr;
  nest_guard guard;
  if (!sa.cache_list_lock.lock_unless_nested()) return nullptr;
  kmem_cache* found = nullptr;
  for (uint32_t id = first_cache_id; id < sa.caches_end && found == nullptr; ++id) {
    kmem_cache* const c = sa.caches[id].load_relaxed();
    if (c == nullptr || c->built_in || c->constructor != nullptr || has(c->flags, slab_flags_t::no_merge)) continue;
    if (c->size != wanted.size || c->align != wanted.align || c->slab_gfp != wanted.slab_gfp) continue;
    if ((c->flags & layout_flags) != (wanted.flags & layout_flags) || c->object_size < wanted.object_size) continue;
    ++c->references;
    found = c;
  }
  sa.cache_list_lock.unlock();
  return found;
}

/// What both ways of making a cache end in.
kmem_cache* creation_failed(const cache_args& args, err reason, const char* what) noexcept {
  const char* const name = args.name != nullptr ? args.name : "(no name)";
  report_cache_create(name, what);
  if (!has(args.flags, slab_flags_t::panic)) return nullptr;
  char line[160];
  text_writer text(line, sizeof line);
  text.str("kmem_cache_create: Failed to create slab '").str(name).str("'. Error ").sdec(static_cast<int>(reason));
  bug(line, __FILE__, __LINE__);
}

err make_in_place(slab_allocator& sa, kmem_cache& cache, const cache_args& args, const char*& what) noexcept {
  what = check_arguments(sa, args);
  if (what == nullptr) what = lay_out(sa, args, cache);
  if (what != nullptr) return err::inval;
  what = publish(sa, cache, args.id);
  return what == nullptr ? err::ok : err::nomem;
}

err init_boot_cache(slab_allocator& sa, kmem_cache& cache, const char* name, size_t size, size_t align) noexcept {
  const char* what = nullptr;
  const err result = make_in_place(sa, cache, {.name = name, .object_size = size, .align = align}, what);
  cache.built_in = true;
  cache.uses_barn = false;  // a barn needs sheaves, and sheaves need these
  return result;
}

/// Maps the regions (with two of zeroes below), their twin and the slots around them.
err map_arrays(slab_allocator& sa) noexcept {
  const size_t slot_bytes = sa.nr_cpus * sizeof(cpu_slot);
  const size_t set_bytes = (size_t{sa.nr_cpus} + nr_zero_regions) * cpu_region_bytes;
  // Where the machine has arrays for fewer CPUs than there are, sequences are still led to the twin by the system's numbers.
  const size_t numbers = sa.nr_cpus > static_cast<uint32_t>(plat::nr_cpus()) ? sa.nr_cpus : static_cast<uint32_t>(plat::nr_cpus());
  const size_t twin_bytes = (numbers + nr_zero_regions) * cpu_region_bytes;
  // A page more in front, for the slot in front of the first region, and a region more behind the twin, whose address carries a count.
  char* const regions = map_metadata(sa, page_size + set_bytes + twin_bytes + cpu_region_bytes);
  char* const slots = regions != nullptr ? map_metadata(sa, slot_bytes) : nullptr;
  if (slots == nullptr || !charge_metadata(sa, pages_for(slot_bytes).raw())) return err::nomem;
  sa.arrays_base = regions + page_size + nr_zero_regions * cpu_region_bytes;
  sa.stop_base = sa.arrays_base + set_bytes;  // its regions of zeroes lie behind the last array
  // A CPU number of the system must not lead behind the last region.
  sa.has_sections = plat::prepare_sections() && sa.nr_cpus >= static_cast<uint32_t>(plat::nr_cpus());
  sa.regions.store_relaxed(sa.has_sections ? sa.arrays_base : sa.stop_base + 1);
  sa.cpu_slots = reinterpret_cast<cpu_slot*>(slots);
  for (uint32_t cpu = 0; cpu < sa.nr_cpus; ++cpu) new (&sa.cpu_slots[cpu]) cpu_slot;
  return err::ok;
}

uint64_t drain_for_chain(void* context, bool may_wait) noexcept {
  return drain_caches(*static_cast<slab_allocator*>(context), may_wait);
}

void hold_for_waiters(void* context, bool hold) noexcept {
  auto& sa = *static_cast<slab_allocator*>(context);
  hold ? hold_arrays(sa) : release_arrays(sa);
}

uint64_t drain_for_good(slab_allocator& sa, kmem_cache& cache) noexcept {
  aftermath after;
  {
    nest_guard guard;
    const held_arrays held(sa);
    sheaf* sheaves = nullptr;
    drain_cache_nested(sa, cache, 0, after, sheaves);
    free_sheaves_nested(sa, sheaves, after);
    lock_guard hold(sa.cache_list_lock);
    unpublish_locked(sa, cache);
  }
  return finish(sa, &cache, after);
}

}  // namespace

err slab_init(slab_allocator& sa) noexcept {
  err result = map_arrays(sa);
  if (result == err::ok) result = init_boot_cache(sa, sa.cache_cache, "kmem_cache", sizeof(kmem_cache), alignof(kmem_cache));
  if (result == err::ok) result = init_boot_cache(sa, sa.sheaf_cache, "kmem_sheaf", sizeof(sheaf), arch::cache_line_bytes);
  constexpr size_t half_bitmap = (slab_objects_max - bitmap_objects) / 8;
  if (result == err::ok) result = init_boot_cache(sa, sa.bitmap_cache, "kmem_bitmap", half_bitmap, half_bitmap);
  if (result == err::ok)
    result = register_reclaim_ops(
        sa, {.context = &sa, .drain_caches = drain_for_chain, .hold_caches = hold_for_waiters, .report = report_slabs});
  if (result != err::ok) slab_destroy(sa);
  return result;
}

void slab_destroy(slab_allocator& sa) noexcept {
  if (sa.cpu_slots != nullptr) {
    for (uint32_t id = 1; id < max_caches; ++id) {
      kmem_cache* const cache = sa.caches[id].load_relaxed();
      if (cache == nullptr || cache == &sa.cache_cache || cache == &sa.sheaf_cache || cache == &sa.bitmap_cache) continue;
      const bool is_users = !cache->built_in;
      cache_retire(sa, *cache);
      if (is_users) cache_free(sa, sa.cache_cache, cache);
    }
    // Bitmaps and sheaves last: the others gave theirs back. A cache that was never published has id 0.
    for (kmem_cache* const cache : {&sa.bitmap_cache, &sa.sheaf_cache, &sa.cache_cache})
      if (cache->id != 0) cache_retire(sa, *cache);
  }
  sa.regions.store_relaxed(nullptr);
  sa.arrays_base = sa.stop_base = nullptr;
  sa.cpu_slots = nullptr;
  sa.sheaf_pause.store_relaxed(0);
  sa.bad_frees.store_relaxed(0);
  sa.bad_free_reports.reset();
  sa.failure_reports.reset();
}

kmem_cache* cache_create(slab_allocator& sa, const cache_args& args) noexcept {
  check_may_sleep(__FILE__, __LINE__);
  const char* what = check_arguments(sa, args);
  if (what != nullptr) return creation_failed(args, err::inval, what);
  if (kmem_cache* const merged = find_mergeable(sa, args)) return merged;
  void* const storage = cache_alloc(sa, sa.cache_cache, gfp::kernel);
  if (storage == nullptr) return creation_failed(args, err::nomem, "no memory for the cache's description");
  auto* const cache = new (storage) kmem_cache;
  const err result = make_in_place(sa, *cache, args, what);
  if (result == err::ok) return cache;
  cache_free(sa, sa.cache_cache, storage);
  return creation_failed(args, result, what);
}

err cache_init(slab_allocator& sa, kmem_cache& cache, const cache_args& args) noexcept {
  const char* what = nullptr;
  const err result = make_in_place(sa, cache, args, what);
  if (result != err::ok)
    creation_failed(args, result, what);
  else
    cache.built_in = true;
  return result;
}

err cache_destroy(slab_allocator& sa, kmem_cache* cache) noexcept {
  if (cache == nullptr) return err::ok;
  check_may_sleep(__FILE__, __LINE__);
  aftermath after;
  uint64_t nr_out = 0;
  bool is_last = false;
  {
    nest_guard guard;
    if (!sa.cache_list_lock.lock_unless_nested()) return err::busy;
    if (cache->built_in || --cache->references != 0) {
      sa.cache_list_lock.unlock();
      return cache->built_in ? err::inval : err::ok;
    }
    const held_arrays held(sa);
    sheaf* sheaves = nullptr;
    drain_cache_nested(sa, *cache, 0, after, sheaves);
    free_sheaves_nested(sa, sheaves, after);
    {
      lock_guard hold(cache->lock);
      nr_out = cache->nr_objects - cache->nr_free;
    }
    is_last = nr_out == 0;
    if (is_last)
      unpublish_locked(sa, *cache);
    else
      cache->references = 1;
    sa.cache_list_lock.unlock();
  }
  finish(sa, cache, after);
  if (!is_last) {
    report_objects_remaining(*cache, nr_out);
    return err::busy;
  }
  cache->~kmem_cache();
  cache_free(sa, sa.cache_cache, cache);
  return err::ok;
}

void cache_retire(slab_allocator& sa, kmem_cache& cache) noexcept {
  drain_for_good(sa, cache);
  cache.~kmem_cache();
  new (&cache) kmem_cache;
}

}  // inline namespace
}  // namespace kmem
