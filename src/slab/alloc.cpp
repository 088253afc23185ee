// Allocation and freeing of objects: the fast path's entry, refill, flush, bulk.
//
// What for. The order in which an object is looked for, and in which a free one is put away:
//              array of this CPU - barn - slabs of the cache - a new slab - whatever is at hand anywhere (before any NULL)
// Locks.   Any context. Each step takes one lock at a time and only tries it in a nested call (a signal handler above a slow path); a
//          step that finds its lock busy leaves the object to the next one. A nested allocation that finds nothing makes a slab from the
//          page allocator's reserve; a nested free that finds nothing goes on the deferred list.
// Ordering. Objects change hands under locks only.
// Kernel.  The might_sleep check and the fail point come first, on every call, as there. __GFP_ZERO with a constructor is refused here;
//          the kernel warns. A free is checked for its cache and for being an object's start at once, and for being free already when
//          it comes back to its slab (in debug builds at once): until then an object that was freed twice may be handed out twice.
// Tests.   tests/unit/slab/alloc_test.cpp, tests/unit/slab/bulk_test.cpp, tests/unit/slab/nested_test.cpp, tests/model/slab_*_test.cpp
#include "slab/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

KMEM_COLD void report_zero_with_constructor(const kmem_cache& cache) noexcept {
  char line[160];
  text_writer text(line, sizeof line);
  text.str("kmem_cache ").str(cache.name).str(": __GFP_ZERO is refused: a constructor has made its objects; allocate without it\n");
  printk(log_level::warning, line, text.length() < sizeof line ? text.length() : sizeof line - 1);
}

/// The checks that come before every allocation. Return: false if it is to fail.
bool may_allocate(slab_allocator& sa, const kmem_cache& cache, gfp_t gfp) noexcept {
  if (may_block(gfp)) {
    const task_context& task = current();
    if (KMEM_UNLIKELY((task.preempt_count | task.irqs_off) != 0)) check_may_sleep(__FILE__, __LINE__);
  }
  if (KMEM_UNLIKELY(cache.constructor != nullptr && has(gfp, gfp::zero))) {
    report_zero_with_constructor(cache);
    keep_failure(sa, gfp, cache.object_size, cache.name);
    return false;
  }
  if (KMEM_LIKELY(has(gfp, gfp::nofail) || !should_fail(fail_point::failslab, cache.object_size))) return true;
  keep_failure(sa, gfp, cache.object_size, cache.name);
  return false;
}

/// Is it worth a fence to look into the arrays of `cache`? When nobody frees meanwhile, no is no.
bool some_array_may_have_objects(const slab_allocator& sa, const kmem_cache& cache) noexcept {
  if (!sa.has_sections) return true;  // nor is there a fence to save
  for (uint32_t cpu = 0; cpu < sa.nr_cpus; ++cpu)
    if (array_may_have_objects(sa, cpu, cache.class_byte)) return true;
  return false;
}

/// The first object of a batch for the caller, the others into this CPU's array; what does not fit goes back.
void* keep_rest(slab_allocator& sa, kmem_cache& cache, void* const* batch, unsigned n) noexcept {
  cache.stats.refills.fetch_add_relaxed(1);
  const unsigned left = push_local_batch(sa, cache, batch + 1, n - 1);
  if (KMEM_UNLIKELY(left != 0)) put_to_slabs(sa, cache, batch + 1, left);
  return batch[0];
}

/// Objects without asking for pages. Return: how many.
unsigned take_batch(slab_allocator& sa, kmem_cache& cache, void** out, unsigned n) noexcept {
  const unsigned got = take_from_barn(sa, cache, out, n);
  return got != 0 ? got : take_from_slabs(sa, cache, out, n);
}

__attribute__((noinline)) void* refill(slab_allocator& sa, kmem_cache& cache, gfp_t gfp, bool quiet, object_at_hand* other) noexcept {
  object_batch batch;
  note_path(path_slab_refill);
  // What would be left over for the array goes back to the slabs while somebody waits.
  const unsigned want = KMEM_LIKELY(sa.waiters.load_relaxed() == 0) ? prepare_refill(sa, cache) : 1;
  unsigned got = take_batch(sa, cache, batch, want);
  if (KMEM_UNLIKELY(got == 0)) {
    if (current().depth != 0) {
      // The frame below may hold the locks that were busy. Objects in other arrays are cheaper than pages of the reserve.
      void* const object = cache_alloc_at_hand(sa, cache);
      if (object != nullptr) return object;
    }
    note_path(path_page_allocator);
    object_at_hand own(sa, cache);
    object_at_hand& instead = other != nullptr ? *other : own;
    page* const head = make_slab(sa, cache, gfp, quiet, instead);
    if (head == nullptr) {
      void* const object = instead.taken ? instead.object : cache_alloc_at_hand(sa, cache);
      if (object == nullptr && !quiet) cache.stats.failures.fetch_add_relaxed(1);
      return object;
    }
    got = add_slab_and_take(sa, cache, *head, batch, want);
  }
  watch_slow_path(sa);
  return keep_rest(sa, cache, batch, got);
}

bool belongs_to(slab_allocator& sa, const kmem_cache& cache, const void* object) noexcept {
  if (KMEM_UNLIKELY(!sa.contains(object))) return false;
  const uint8_t byte = sa.class_map[sa.pfn_of(object).raw()];
  return byte == cache.class_byte && (KMEM_LIKELY(byte != nr_array_headers - 1) || cache_of(sa, object) == &cache);
}

/// The checks before an object goes where it can be handed out again. Whether it is free already a release build sees when it comes back
/// to its slab.
KMEM_ALWAYS_INLINE bool free_is_fine(slab_allocator& sa, kmem_cache& cache, void* object) noexcept {
  const char* what = nullptr;
  if (KMEM_UNLIKELY(!is_object_start(sa, cache.shape, object))) what = "not the start of an object";
#if defined(KMEM_DEBUG)
  else if (!object_is_valid(sa, cache, object) || is_in_local_array(sa, cache, object))
    what = "Object already free";
#endif
  if (KMEM_UNLIKELY(what != nullptr)) report_bad_free(sa, &cache, object, what);
  return what == nullptr;
}

__attribute__((noinline)) void free_slow(slab_allocator& sa, kmem_cache& cache, void* object) noexcept {
  object_batch batch;
  bool pushed = false;
  unsigned n = prepare_flush(sa, cache, object, batch, pushed);
  if (!pushed) batch[n++] = object;
  if (n != 0) flush_objects(sa, cache, batch, n);
}

}  // namespace

void flush_objects(slab_allocator& sa, kmem_cache& cache, void* const* objects, unsigned n) noexcept {
  cache.stats.flushes.fetch_add_relaxed(1);
  const unsigned left = put_to_barn(sa, cache, objects, n);
  if (left != 0) put_to_slabs(sa, cache, objects, left);
  watch_slow_path(sa);
}

void* cache_alloc_unchecked(slab_allocator& sa, kmem_cache& cache, gfp_t gfp, bool quiet, object_at_hand* instead) noexcept {
  void* const object = pop_local(sa, cache);
  return KMEM_LIKELY(object != nullptr) ? object : refill(sa, cache, gfp, quiet, instead);
}

void* cache_alloc(slab_allocator& sa, kmem_cache& cache, gfp_t gfp) noexcept {
  if (KMEM_LIKELY(asks_nothing(gfp)))
    if (void* const object = array_pop(sa.regions, cache.class_byte); KMEM_LIKELY(object != nullptr)) return object;
  if (KMEM_UNLIKELY(!may_allocate(sa, cache, gfp))) return nullptr;
  void* const object = cache_alloc_unchecked(sa, cache, gfp, false);
  if (KMEM_UNLIKELY(object == nullptr))
    report_slab_failure(sa, cache, gfp);
  else if (has(gfp, gfp::zero))
    __builtin_memset(object, 0, cache.object_size);
  return object;
}

void* cache_alloc_at_hand(slab_allocator& sa, kmem_cache& cache) noexcept {
  object_batch batch;
  batch[0] = pop_local(sa, cache);
  if (batch[0] != nullptr) return batch[0];
  if (take_batch(sa, cache, batch, 1) != 0) return batch[0];
  if (cache.class_byte == nr_array_headers - 1) return nullptr;
  if (!some_array_may_have_objects(sa, cache)) return nullptr;
  nest_guard guard;
  const held_arrays held(sa);
  for (uint32_t cpu = 0; cpu < sa.nr_cpus; ++cpu)
    if (take_from_cpu(sa, cpu, cache.class_byte, batch, 1) != 0) return batch[0];
  return nullptr;
}

object_at_hand::object_at_hand(slab_allocator& allocator, kmem_cache& wanted) noexcept : sa(allocator), cache(wanted) {
  what = &cache;
  take = [](alternative& self) noexcept {
    auto& here = static_cast<object_at_hand&>(self);
    here.object = cache_alloc_at_hand(here.sa, here.cache);
    return here.object != nullptr;
  };
}

void cache_free_unchecked(slab_allocator& sa, kmem_cache& cache, void* object) noexcept {
  if (KMEM_UNLIKELY(!free_is_fine(sa, cache, object))) return;
  if (KMEM_LIKELY(push_local(sa, cache, object))) return;
  free_slow(sa, cache, object);
}

void cache_free(slab_allocator& sa, kmem_cache& cache, void* object) noexcept {
  if (object == nullptr) return;
  if (KMEM_UNLIKELY(!belongs_to(sa, cache, object))) return report_wrong_cache(sa, cache, object);
  cache_free_unchecked(sa, cache, object);
}

size_t cache_alloc_bulk(slab_allocator& sa, kmem_cache& cache, gfp_t gfp, size_t n, void** objects) noexcept {
  if (n == 0 || KMEM_UNLIKELY(!may_allocate(sa, cache, gfp))) return 0;
  size_t got = pop_local_batch(sa, cache, objects, n);
  while (got < n) {
    object_batch batch;
    const size_t left = n - got;
    const auto want = static_cast<unsigned>(left < batch_objects_max ? left : batch_objects_max);
    const unsigned took = take_batch(sa, cache, batch, want);
    for (unsigned i = 0; i < took; ++i) objects[got++] = batch[i];
    if (took != 0) continue;
    void* const object = refill(sa, cache, gfp, false, nullptr);
    if (object == nullptr) {
      cache_free_bulk(sa, cache, got, objects);
      report_slab_failure(sa, cache, gfp);
      return 0;
    }
    objects[got++] = object;
    got += pop_local_batch(sa, cache, objects + got, n - got);
  }
  if (has(gfp, gfp::zero))
    for (size_t i = 0; i < n; ++i) __builtin_memset(objects[i], 0, cache.object_size);
  return n;
}

void cache_free_bulk(slab_allocator& sa, kmem_cache& cache, size_t n, void** objects) noexcept {
  void* batch[batch_objects_max];
  unsigned filled = 0;
  for (size_t i = 0; i < n; ++i) {
    if (objects[i] == nullptr) continue;
    if (KMEM_UNLIKELY(!belongs_to(sa, cache, objects[i]))) {
      report_wrong_cache(sa, cache, objects[i]);
      continue;
    }
    if (KMEM_UNLIKELY(!free_is_fine(sa, cache, objects[i]))) continue;
    batch[filled++] = objects[i];
    if (filled < batch_objects_max && i + 1 < n) continue;
    const unsigned left = push_local_batch(sa, cache, batch, filled);
    if (left != 0) flush_objects(sa, cache, batch, left);
    filled = 0;
  }
  if (filled != 0) flush_objects(sa, cache, batch, filled);
}

kmem_cache* cache_of(slab_allocator& sa, const void* object) noexcept {
  if (!sa.contains(object)) return nullptr;
  const pfn_t pfn = sa.pfn_of(object);
  const uint8_t byte = sa.class_map[pfn.raw()];
  if (KMEM_LIKELY(byte != 0 && byte != nr_array_headers - 1)) return sa.caches[byte].load_relaxed();
  if (byte == 0) return nullptr;
  const page* p = &sa.page_of(pfn);
  if (p->kind == page_kind::slab_tail) p = &sa.page_of(p->head);
  return p->kind == page_kind::slab ? sa.caches[p->slab.cache].load_relaxed() : nullptr;
}

bool object_is_valid(slab_allocator& sa, const kmem_cache& cache, const void* object) noexcept {
  if (!belongs_to(sa, cache, object) || !is_object_start(sa, cache.shape, object)) return false;
  const pfn_t head_pfn = slab_head(sa, cache, object);
  page& head = sa.page_of(head_pfn);
  const auto offset = static_cast<uint64_t>(static_cast<const char*>(object) - sa.address_of(head_pfn));
  const auto index = static_cast<unsigned>((offset * cache.magic) >> 32);
  kmem_cache& owner = *sa.caches[cache.id].load_relaxed();
  nest_guard guard;
  if (!owner.lock.lock_unless_nested()) return true;  // cannot tell; the check at flush will
  const bool is_there = head.kind == page_kind::slab && index < head.slab.capacity;
  const bool is_out = is_there && (bitmap_word(head, index / 64) >> (index & 63) & 1) == 0;
  owner.lock.unlock();
  return is_out;
}

}  // inline namespace
}  // namespace kmem
