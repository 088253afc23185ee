// kmalloc, kfree and their relatives: size classes over slabs, runs of whole pages above them.
//
// What for. A size picks a class (a slab cache); what is larger than any class gets exactly the pages that it needs. What kmalloc handed
//          out is known by the class map: the class's number, or 255 for the first page of a run, whose descriptor carries the owner's
//          flag. So kfree reads one byte and refuses everything else.
// Chain.   A request that its class cannot serve: the class with all steps of the page allocator that the flags permit - a free object of
//          a larger class - pages of its own, where that takes a smaller block than the class's slabs do - once more its class, with a
//          report - a larger object again. NULL only after all of this.
// Locks.   None of its own; other_caches is filled by one compare-and-swap.
// Ordering. pairs: kmalloc_other_cache - the cache is made before its pointer is published.
// Kernel.  83 classes instead of 14; large requests take whole pages, not powers of two of them; krealloc gives memory back when more
//          than half would be wasted; kfree of a page that kmalloc did not hand out is refused (there: a warning, and the page is freed).
// Tests.   tests/unit/kmalloc/kmalloc_test.cpp, krealloc_test.cpp, large_test.cpp, oracle_test.cpp, tests/model/slab_promise_test.cpp
#include "kmalloc/kmalloc.hpp"

#include <new>

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint8_t run_class_byte = nr_array_headers - 1;   // "see the descriptor"

kmalloc_type type_of(gfp_t gfp) noexcept {
  if (KMEM_LIKELY(!has(gfp, gfp::dma | gfp::reclaimable))) return kmalloc_type::normal;
  return has(gfp, gfp::dma) ? kmalloc_type::dma : kmalloc_type::reclaimable;
}

/// "kmalloc-1k", "kmalloc-rcl-96", "dma-kmalloc-512", as the kernel names them.
void write_name(char (&name)[32], kmalloc_type type, size_t size) noexcept {
  text_writer text(name, sizeof name);
  text.str(type == kmalloc_type::dma ? "dma-kmalloc-" : type == kmalloc_type::reclaimable ? "kmalloc-rcl-" : "kmalloc-");
  if (size >= 1024 && is_power_of_two(size))
    text.dec(size >> 10).ch('k');
  else
    text.dec(size);
}

cache_args args_of(const char* name, kmalloc_type type, unsigned number) noexcept {
  cache_args args;
  args.name = name;
  args.object_size = size_of_class(number);
  args.exact_class = true;
  args.slab_order = size_classes[number - 1].slab_order;
  if (type == kmalloc_type::dma) args.flags = slab_flags_t::cache_dma;
  if (type == kmalloc_type::reclaimable) args.flags = slab_flags_t::reclaim_account;
  return args;
}

atomic<kmem_cache*>& other_cache(kmalloc_allocator& ka, kmalloc_type type, unsigned number) noexcept {
  return ka.other_caches[static_cast<unsigned>(type) - 1][number - 1];
}

void drop_other_cache(kmalloc_allocator& ka, kmem_cache* cache) noexcept {
  cache_retire(ka, *cache);
  cache_free(ka, ka.cache_cache, cache);
}

KMEM_COLD kmem_cache* make_other_cache(kmalloc_allocator& ka, kmalloc_type type, unsigned number, gfp_t gfp) noexcept {
  if (current().depth != 0) return nullptr;  // losing the race below takes locks that the frame below may hold
  const gfp_t own_gfp = gfp & ~(gfp::dma | gfp::reclaimable | gfp::zero);
  void* const storage = cache_alloc_unchecked(ka, ka.cache_cache, own_gfp, true);
  if (storage == nullptr) return nullptr;
  auto* const cache = new (storage) kmem_cache;
  char name[32];
  write_name(name, type, size_of_class(number));
  if (cache_init(ka, *cache, args_of(name, type, number)) != err::ok) {
    cache_free(ka, ka.cache_cache, storage);
    return nullptr;
  }
  kmem_cache* there = nullptr;
  if (other_cache(ka, type, number).try_cmpxchg_release(there, cache)) return cache;  // pairs: kmalloc_other_cache
  drop_other_cache(ka, cache);  // somebody else was faster
  return other_cache(ka, type, number).load_acquire();  // pairs: kmalloc_other_cache
}

/// The cache of a class. Return: nullptr when it does not exist yet and cannot be made now.
kmem_cache* cache_for(kmalloc_allocator& ka, unsigned number, gfp_t gfp) noexcept {
  const kmalloc_type type = type_of(gfp);
  if (KMEM_LIKELY(type == kmalloc_type::normal)) return &ka.kmalloc_caches[number - 1];
  kmem_cache* cache = other_cache(ka, type, number).load_acquire();  // pairs: kmalloc_other_cache
  if (KMEM_UNLIKELY(cache == nullptr)) cache = make_other_cache(ka, type, number, gfp);
  // Reclaimable only says what kind of object it is; any cache will do. DMA is a promise.
  if (cache == nullptr && type == kmalloc_type::reclaimable) cache = &ka.kmalloc_caches[number - 1];
  return cache;
}

/// The cache of a class if it exists.
kmem_cache* existing_cache(kmalloc_allocator& ka, unsigned number, kmalloc_type type) noexcept {
  if (type == kmalloc_type::normal) return &ka.kmalloc_caches[number - 1];
  return other_cache(ka, type, number).load_acquire();  // pairs: kmalloc_other_cache
}

void* clear(void* object, size_t size, gfp_t gfp) noexcept {
  if (object != nullptr && has(gfp, gfp::zero)) __builtin_memset(object, 0, size);
  return object;
}

// ---- runs of pages ----------------------------------------------------------------------------------------------------------------

void* adopt_run(kmalloc_allocator& ka, page* p) noexcept {
  if (p == nullptr) return nullptr;
  const pfn_t pfn = ka.pfn_of(p);
  p->flags |= page_flag_owner;
  ka.class_map[pfn.raw()] = run_class_byte;
  return ka.address_of(pfn);
}

/// The head page of the run that starts at `address`, or nullptr.
page* run_at(kmalloc_allocator& ka, const void* address) noexcept {
  if (!ka.contains(address) || (reinterpret_cast<uintptr_t>(address) & (page_size - 1)) != 0) return nullptr;
  const pfn_t pfn = ka.pfn_of(address);
  if (ka.class_map[pfn.raw()] != run_class_byte) return nullptr;
  page& p = ka.page_of(pfn);
  return p.kind == page_kind::allocated && (p.flags & page_flag_owner) != 0 ? &p : nullptr;
}

void release_run(kmalloc_allocator& ka, page* p) noexcept {
  ka.class_map[ka.pfn_of(p).raw()] = 0;
  p->flags = static_cast<uint8_t>(p->flags & ~page_flag_owner);
  free_run(ka, p);
}

/// Whole pages for `size`, aligned to `align` (a power of two). `room`: pages behind them to grow into.
void* alloc_large(kmalloc_allocator& ka, size_t size, size_t align, gfp_t gfp, bool quiet, nr_pages_t room = nr_pages_t(0)) noexcept {
  if (KMEM_UNLIKELY(has(gfp, bad_slab_gfp))) gfp = fix_slab_gfp(gfp);
  const uint64_t n = pages_for(size).raw();
  uint64_t whole = n;
  if (run_alignment(n) < align >> page_shift) {
    // Runs of a power of two are naturally aligned; what is too much goes back at once.
    whole = align >> page_shift;
    while (whole < n) whole *= 2;
  }
  page* const p = alloc_run(ka, gfp & ~gfp::movable, nr_pages_t(whole), quiet, room);
  if (p != nullptr && whole != n) resize_run(ka, p, nr_pages_t(n), gfp);
  return adopt_run(ka, p);
}

// ---- when a class cannot serve ------------------------------------------------------------------------------------------------------

/// A free object of a larger class with the alignment.
void* take_larger(kmalloc_allocator& ka, unsigned number, size_t align, gfp_t gfp) noexcept {
  for (unsigned larger = number + 1; larger <= nr_size_classes; ++larger) {
    if ((size_of_class(larger) & (align - 1)) != 0) continue;
    kmem_cache* const cache = existing_cache(ka, larger, type_of(gfp));
    void* const object = cache != nullptr ? cache_alloc_at_hand(ka, *cache) : nullptr;
    if (object != nullptr) return clear(object, cache->object_size, gfp);
  }
  return nullptr;
}

/// An object of the class or a larger one: whichever, it is cleared if that was asked for.
struct class_at_hand : object_at_hand {
  class_at_hand(kmalloc_allocator& allocator, kmem_cache& own, unsigned class_number, size_t alignment, gfp_t mask) noexcept
      : object_at_hand(allocator, own), ka(allocator), number(class_number), align(alignment), gfp(mask) {
    take = [](alternative& self) noexcept {
      auto& here = static_cast<class_at_hand&>(self);
      here.object = clear(cache_alloc_at_hand(here.ka, here.cache), here.cache.object_size, here.gfp);
      if (here.object == nullptr) here.object = take_larger(here.ka, here.number, here.align, here.gfp);
      return here.object != nullptr;
    };
  }
  kmalloc_allocator& ka;
  unsigned number;
  size_t align;
  gfp_t gfp;
};

/// Pages of its own for a small object. `instead`: what ends its waiting besides.
void* take_pages(kmalloc_allocator& ka, size_t size, size_t align, gfp_t gfp, bool quiet, object_at_hand* instead) noexcept {
  const order_t order = order_for(size > align ? size : align);
  const gfp_t pages_gfp = gfp & ~(gfp::movable | gfp::comp | bad_slab_gfp);
  page* const p = alloc_pages_for(ka, {.gfp = pages_gfp, .order = order, .bytes = size, .quiet = quiet, .instead = instead});
  if (p == nullptr) return nullptr;
  resize_run(ka, p, pages_for(size), gfp);
  return adopt_run(ka, p);
}

/// The part of a mask that finds what is there. Who may block makes one pass over the chain, at the end: until then he has no more rights
/// than who may not, and less than who has them for that reason.
constexpr gfp_t without_waiting(gfp_t gfp) noexcept {
  return may_block(gfp) ? gfp & ~(gfp::nofail | gfp::direct_reclaim | gfp::high) : gfp & ~gfp::nofail;
}

KMEM_COLD void* kmalloc_slow(kmalloc_allocator& ka, unsigned number, size_t size, size_t align, gfp_t gfp, bool quiet) noexcept {
  // Objects of the class itself have their natural alignment anyway; what stands in for them must be looked for.
  const size_t natural = is_power_of_two(size) ? size : size_t{16};
  if (align < natural) align = natural;
  // If pages of its own take a smaller block than the class's slabs, the last attempt is for these.
  const bool smaller = order_for(size > align ? size : align).raw() < size_classes[number - 1].slab_order;
  void* result = take_larger(ka, number, align, gfp);
  if (result == nullptr && smaller) result = take_pages(ka, size, align, without_waiting(gfp), true, nullptr);
  if (result != nullptr) return result;
  kmem_cache* const cache = cache_for(ka, number, gfp);
  if (cache == nullptr) return alloc_large(ka, size, align, gfp, quiet);  // a DMA request before its cache could be made
  class_at_hand instead(ka, *cache, number, align, gfp);
  if (smaller && may_block(gfp)) {
    result = take_pages(ka, size, align, gfp, quiet, &instead);
    if (result == nullptr && (instead.taken || instead.take(instead))) result = instead.object;
  } else {
    result = clear(cache_alloc_unchecked(ka, *cache, gfp, quiet, &instead), cache->object_size, gfp);
    if (result == nullptr) result = take_larger(ka, number, align, gfp);
  }
  if (result == nullptr && !quiet) report_slab_failure(ka, *cache, gfp);
  return result;
}

/// The checks that come before every allocation from a class. Return: false if it is to fail.
bool may_allocate(kmalloc_allocator& ka, size_t size, gfp_t gfp, bool quiet) noexcept {
  if (may_block(gfp)) {
    const task_context& task = current();
    if (KMEM_UNLIKELY((task.preempt_count | task.irqs_off) != 0)) check_may_sleep(__FILE__, __LINE__);
  }
  if (KMEM_LIKELY(has(gfp, gfp::nofail) || !should_fail(fail_point::failslab, size))) return true;
  if (!quiet) keep_failure(ka, gfp, size);
  return false;
}

KMEM_ALWAYS_INLINE void* alloc_class(kmalloc_allocator& ka, unsigned number, size_t size, size_t align, gfp_t gfp, bool quiet) noexcept {
  if (KMEM_UNLIKELY(!may_allocate(ka, size, gfp, quiet))) return nullptr;
  kmem_cache* const cache = cache_for(ka, number, gfp);
  if (KMEM_LIKELY(cache != nullptr)) {
    void* const object = cache_alloc_unchecked(ka, *cache, without_waiting(gfp), true);
    if (KMEM_LIKELY(object != nullptr)) return clear(object, cache->object_size, gfp);
  }
  return kmalloc_slow(ka, number, size, align, gfp, quiet);
}

KMEM_COLD void report_refused(kmalloc_allocator& ka, size_t size, size_t align, gfp_t gfp) noexcept {
  uint32_t missed = 0;
  if (has(gfp, gfp::nowarn) || !ka.failure_reports.allow(plat::now_ns(), missed)) return;
  char line[300], names[120];
  format_gfp(gfp, names, sizeof names);
  text_writer text(line, sizeof line);
  text.str("WARNING: kmalloc of ").dec(size).str(" bytes, gfp=0x").hex(static_cast<uint32_t>(gfp)).str("(").str(names);
  if (align > span_step_bytes)
    text.str("): aligned to ").dec(align).str(" bytes, which is more than ").dec(span_step_bytes).str(", the most there is\n");
  else
    text.str("): more than kmalloc_max (").dec(ka.kmalloc_max_bytes).str(" bytes); use vmalloc, or raise kmalloc_max=\n");
  const void* pcs[printk_max_pcs];
  const unsigned nr_pcs = capture_stack(pcs, printk_max_pcs);
  printk(log_level::warning, line, text.length() < sizeof line ? text.length() : sizeof line - 1, pcs, nr_pcs);
}

KMEM_COLD void report_invalid_free(kmalloc_allocator& ka, const void* p, const char* function) noexcept {
  ka.bad_frees.fetch_add_relaxed(1);
  uint32_t missed = 0;
  if (!ka.bad_free_reports.allow(plat::now_ns(), missed)) return;
  char line[240];
  text_writer text(line, sizeof line);
  text.str(function).str(" of invalid pointer 0x").hex(reinterpret_cast<uintptr_t>(p), 16);
  text.str(!ka.contains(p) ? ": it lies outside the arena" : ": nothing that kmalloc handed out begins there, or it is free already");
  text.str(". It was not freed.\n");
  const void* pcs[printk_max_pcs];
  const unsigned nr_pcs = capture_stack(pcs, printk_max_pcs);
  printk(log_level::err, line, text.length() < sizeof line ? text.length() : sizeof line - 1, pcs, nr_pcs);
}

/// Allocation of any size. `limited`: by kmalloc_max. `quiet`: the caller has something else to try.
void* alloc_any(kmalloc_allocator& ka, size_t size, size_t align, gfp_t gfp, bool limited, bool quiet) noexcept {
  // Addresses are aligned as page numbers are up to the arena's own alignment, and no further. Beyond the span no run can exist; the
  // arithmetic on pages stays below 2^52.
  if (KMEM_UNLIKELY(align > span_step_bytes || (limited && size > ka.kmalloc_max_bytes) || (size >> page_shift) >= ka.span_pages)) {
    report_refused(ka, size, align, gfp);
    if (!quiet) keep_failure(ka, gfp, size);
    return nullptr;
  }
  if (size == 0) {
    if (align <= reinterpret_cast<uintptr_t>(zero_size_ptr)) return zero_size_ptr;
    size = 1;
  }
  if (size <= size_class_max && align <= size_class_max) {
    const unsigned number = align <= 8 ? size_class_of(size) : aligned_size_class_of(size, align);
    return alloc_class(ka, number, size, align, gfp, quiet);
  }
  return alloc_large(ka, size, align, gfp, quiet);
}

/// Can `size` bytes stay where ksize(old) bytes are?
bool fits_in_place(size_t size, size_t usable) noexcept { return size <= usable && size >= usable / 2; }

/// A run that outgrew its place once will do so again: pages behind the next place, so that the bytes are copied one time in four
/// doublings. Smaller ones than growing_bytes are copied faster than a block of their own is faulted in.
constexpr size_t growing_bytes = 1 << 20;
nr_pages_t room_for(kmalloc_allocator& ka, size_t size, size_t usable) noexcept {
  if (size <= usable || usable < growing_bytes) return nr_pages_t(0);
  const uint64_t wanted = pages_for(size).raw() * 15, most = ka.span_pages / 16;
  return nr_pages_t(wanted < most ? wanted : most);
}

/// A run's new size in place: classes take over below their largest size.
bool resize_in_place(kmalloc_allocator& ka, const void* old, size_t size, size_t usable, gfp_t gfp) noexcept {
  page* const p = size > size_class_max ? run_at(ka, old) : nullptr;
  if (p == nullptr || !resize_run(ka, p, pages_for(size), gfp)) return false;
  const size_t now = bytes(run_pages(p));
  if (now > usable && has(gfp, gfp::zero)) __builtin_memset(static_cast<char*>(const_cast<void*>(old)) + usable, 0, now - usable);
  return true;
}

void* realloc_any(kmalloc_allocator& ka, const void* old, size_t size, gfp_t gfp, bool limited, bool quiet) noexcept {
  if (is_zero_or_null(old)) return alloc_any(ka, size, 1, gfp, limited, quiet);
  if (size == 0) {
    kfree(ka, old);
    return zero_size_ptr;
  }
  const size_t usable = ksize(ka, old);
  if (KMEM_UNLIKELY(usable == 0)) {
    report_invalid_free(ka, old, "krealloc");
    return nullptr;
  }
  void* const same = const_cast<void*>(old);
  const bool too_large = limited && size > ka.kmalloc_max_bytes;
  if (!too_large && (fits_in_place(size, usable) || resize_in_place(ka, old, size, usable, gfp))) return same;
  // A smaller object is a favour: without it everything stays as it is.
  const bool shrinks = size <= usable;
  constexpr gfp_t favour_without = gfp::nofail | gfp::direct_reclaim | gfp::high | gfp::memalloc;
  const nr_pages_t room = too_large ? nr_pages_t(0) : room_for(ka, size, usable);
  void* const result = room.raw() != 0 && (size >> page_shift) < ka.span_pages
                           ? alloc_large(ka, size, 1, gfp, quiet, room)
                           : alloc_any(ka, size, 1, shrinks ? (gfp & ~favour_without) | gfp::nowarn : gfp, limited, quiet || shrinks);
  if (result == nullptr) return shrinks ? same : nullptr;
  __builtin_memcpy(result, old, shrinks ? size : usable);
  kfree(ka, old);
  return result;
}

}  // namespace

err kmalloc_init(kmalloc_allocator& ka) noexcept {
  ka.kmalloc_max_bytes = ka.config.kmalloc_max != 0 ? ka.config.kmalloc_max : page_size << (ka.max_order - 1);
  ka.class_max_bytes = ka.kmalloc_max_bytes < size_class_max ? ka.kmalloc_max_bytes : size_class_max;
  ka.at_once_max_bytes = ka.kmalloc_max_bytes < small_class_max ? ka.kmalloc_max_bytes : small_class_max;
  for (unsigned number = 1; number <= nr_size_classes; ++number) {
    char name[32];
    write_name(name, kmalloc_type::normal, size_of_class(number));
    cache_args args = args_of(name, kmalloc_type::normal, number);
    args.id = static_cast<uint16_t>(number);
    const err result = cache_init(ka, ka.kmalloc_caches[number - 1], args);
    if (result == err::ok) continue;
    kmalloc_destroy(ka);
    return result;
  }
  return err::ok;
}

void kmalloc_destroy(kmalloc_allocator& ka) noexcept {
  for (auto& row : ka.other_caches)
    for (atomic<kmem_cache*>& entry : row) {
      if (kmem_cache* const cache = entry.load_relaxed()) drop_other_cache(ka, cache);
      entry.store_relaxed(nullptr);
    }
  for (kmem_cache& cache : ka.kmalloc_caches)
    if (cache.id != 0) cache_retire(ka, cache);
  ka.kmalloc_max_bytes = 0;
  ka.class_max_bytes = 0;
  ka.at_once_max_bytes = 0;
}

void* kmalloc(kmalloc_allocator& ka, size_t size, gfp_t gfp) noexcept {
  if (KMEM_LIKELY(asks_nothing(gfp)))
    if (void* const object = alloc_at_once(ka, size); KMEM_LIKELY(object != nullptr)) return object;
  return kmalloc_beyond_arrays(ka, size, gfp);
}

void* kmalloc_beyond_arrays(kmalloc_allocator& ka, size_t size, gfp_t gfp) noexcept {
  if (KMEM_LIKELY(size - 1 < ka.class_max_bytes)) return alloc_class(ka, size_class_of(size), size, 1, gfp, false);
  return alloc_any(ka, size, 1, gfp, true, false);
}

void* kmalloc_aligned(kmalloc_allocator& ka, size_t size, size_t align, gfp_t gfp) noexcept {
  KMEM_CHECK(is_power_of_two(align));
  return alloc_any(ka, size, align, gfp, true, false);
}

void* kmalloc_quietly(kmalloc_allocator& ka, size_t size, size_t align, gfp_t gfp) noexcept {
  KMEM_CHECK(is_power_of_two(align));
  return alloc_any(ka, size, align, gfp | gfp::nowarn, true, true);
}

void* kmalloc_huge(kmalloc_allocator& ka, size_t size, size_t align, gfp_t gfp) noexcept {
  KMEM_CHECK(is_power_of_two(align));
  return alloc_any(ka, size, align, gfp, false, false);
}

void* krealloc(kmalloc_allocator& ka, const void* old, size_t size, gfp_t gfp) noexcept {
  return realloc_any(ka, old, size, gfp, true, false);
}
void* krealloc_quietly(kmalloc_allocator& ka, const void* old, size_t size, gfp_t gfp) noexcept {
  return realloc_any(ka, old, size, gfp | gfp::nowarn, true, true);
}
void* krealloc_huge(kmalloc_allocator& ka, const void* old, size_t size, gfp_t gfp) noexcept {
  return realloc_any(ka, old, size, gfp, false, false);
}

void kfree(kmalloc_allocator& ka, const void* p) noexcept {
  if (KMEM_UNLIKELY(!free_at_once(ka, const_cast<void*>(p)))) kfree_beyond_arrays(ka, p);
}

void kfree_beyond_arrays(kmalloc_allocator& ka, const void* p) noexcept {
  if (KMEM_UNLIKELY(is_zero_or_null(p))) return;
  void* const object = const_cast<void*>(p);
  if (kmem_cache* const cache = cache_of(ka, p)) return cache_free_unchecked(ka, *cache, object);
  page* const run = run_at(ka, p);
  if (KMEM_UNLIKELY(run == nullptr)) return report_invalid_free(ka, p, "kfree");
  release_run(ka, run);
}

size_t ksize(kmalloc_allocator& ka, const void* p) noexcept {
  if (is_zero_or_null(p)) return 0;
  if (const kmem_cache* const cache = cache_of(ka, p)) {
    if (!is_object_start(ka, cache->shape, p)) return 0;  // or what is cleared or copied would reach into the neighbour
    return cache->constructor != nullptr ? cache->object_size : cache->size;  // what a constructor made ends where the object does
  }
  const page* const run = run_at(ka, p);
  return run != nullptr ? bytes(run_pages(run)) : 0;
}

void kfree_sensitive(kmalloc_allocator& ka, const void* p) noexcept {
  if (is_zero_or_null(p)) return;
  const size_t size = ksize(ka, p);
  if (KMEM_UNLIKELY(size == 0)) return report_invalid_free(ka, p, "kfree_sensitive");
  __builtin_memset(const_cast<void*>(p), 0, size);
  arch::compiler_barrier();  // the stores stay, dead or not
  kfree(ka, p);
}

size_t kmalloc_size_roundup(size_t size) noexcept {
  if (size == 0) return 0;
  if (size <= size_class_max) return size_of_class(size_class_of(size));
  return bytes(pages_for(size));
}

}  // inline namespace
}  // namespace kmem
