// Slabs: which objects are free, lists of slabs by how full they are, making slabs and giving them back.
//
// What for. Behind the arrays and the barn every object that is not handed out is a set bit in the bitmap of its slab. Nothing is written
//          into free objects, so a heap overflow or a use after free cannot lead the allocator astray, and refill comes in address order.
// States.  Of a slab: unlisted (made or waiting to be adopted), on partial[0..7] by free share, on partial[8] when wholly free, full (on
//          no list).
// Equations, under the lock: nr_free == sum of the slabs' nr_free == set bits; nr_objects == sum of capacities; nr_empty == length of
//          partial[8].
// Locks.   kmem_cache::lock, plain operations under it. Where it cannot be had (a nested call whose frame below may hold it) a free
//          object goes on the deferred list, through its own first bytes, and a new slab on the unlisted list; whoever gets the lock
//          next takes both lists whole, so there is no pop of one and no ABA. Pages are asked for and given back with no lock and no
//          nest_guard held.
// Ordering. pairs: deferred_objects, unlisted_slabs - a push releases the link (and the slab's descriptor), the exchange acquires them.
// Kernel.  There free objects form lists through themselves and each slab has a word updated by cmpxchg. Here one lock a cache behind
//          batches; per-object atomics were several times slower. A slab has a fixed size; there is no second, smaller order to fall back
//          to. The bitmap holds 256 objects. A page of 8-byte objects has 512: the other half of its bitmap is a 32-byte object of
//          `bitmap_cache`; when that cannot be had the slab works with half of its objects.
// Tests.   tests/unit/slab/store_test.cpp, tests/unit/slab/nested_test.cpp, tests/model/slab_model_test.cpp
#include <bit>

#include "slab/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

/// What of a request's mask concerns the pages: how hard to try. Zone and mobility are the cache's.
constexpr gfp_t slab_gfp_mask = gfp::reclaim | gfp::io | gfp::fs | gfp::high | gfp::atomic_bit | gfp::nowarn | gfp::retry_mayfail |
                                gfp::nofail | gfp::noretry | gfp::memalloc | gfp::nomemalloc | gfp::hardwall | gfp::thisnode | gfp::account;

void link(slab_allocator& sa, kmem_cache& cache, page& head, unsigned bucket) noexcept KMEM_REQUIRES(cache.lock) {
  const pfn_t pfn = sa.pfn_of(&head), first = cache.partial[bucket];
  head.prev = pfn_t();
  head.next = first;
  if (!first.is_none()) sa.page_of(first).prev = pfn;
  cache.partial[bucket] = pfn;
  head.slab.bucket = static_cast<uint8_t>(bucket + 1);
  ++cache.nr_listed;
  if (bucket == nr_slab_buckets) ++cache.nr_empty;
}

void unlink(slab_allocator& sa, kmem_cache& cache, page& head) noexcept KMEM_REQUIRES(cache.lock) {
  const unsigned bucket = head.slab.bucket - 1u;
  if (head.prev.is_none())
    cache.partial[bucket] = head.next;
  else
    sa.page_of(head.prev).next = head.next;
  if (!head.next.is_none()) sa.page_of(head.next).prev = head.prev;
  head.next = head.prev = pfn_t();
  head.slab.bucket = 0;
  --cache.nr_listed;
  if (bucket == nr_slab_buckets) --cache.nr_empty;
}

/// Puts a slab on the list that its free share asks for.
void relist(slab_allocator& sa, kmem_cache& cache, page& head) noexcept KMEM_REQUIRES(cache.lock) {
  if (head.slab.nr_free == 0) {
    if (head.slab.bucket != 0) unlink(sa, cache, head);
    return;
  }
  const unsigned bucket = slab_bucket(head);
  if (head.slab.bucket == bucket + 1) return;
  if (head.slab.bucket != 0) unlink(sa, cache, head);
  link(sa, cache, head, bucket);
}

/// Takes a wholly free slab off the cache, for finish() to give back.
void remove_slab(slab_allocator& sa, kmem_cache& cache, page& head, aftermath& after) noexcept KMEM_REQUIRES(cache.lock) {
  if (head.slab.bucket != 0) unlink(sa, cache, head);
  --cache.nr_slabs;
  cache.nr_objects -= head.slab.capacity;
  cache.nr_free -= head.slab.capacity;
  cache.stats.slabs_freed.fetch_add_relaxed(1);
  head.next = after.slabs;
  after.slabs = sa.pfn_of(&head);
}

void note_bad(aftermath& after, void* object, const char* what) noexcept {
  if (after.nr_bad < sizeof after.bad / sizeof after.bad[0]) after.bad[after.nr_bad] = {object, what};
  ++after.nr_bad;
}

/// Marks one object free in its slab.
void put_object(slab_allocator& sa, kmem_cache& cache, void* object, pfn_t head_pfn, unsigned empty_max, aftermath& after) noexcept
    KMEM_REQUIRES(cache.lock) {
  page& head = sa.page_of(head_pfn);
  if (KMEM_UNLIKELY(head.kind != page_kind::slab || head.slab.cache != cache.id))
    return note_bad(after, object, "its slab is free already");
  const auto offset = static_cast<uint64_t>(static_cast<char*>(object) - sa.address_of(head_pfn));
  const auto index = static_cast<uint32_t>((offset * cache.magic) >> 32);
  if (KMEM_UNLIKELY(uint64_t{index} * cache.size != offset || index >= head.slab.capacity))
    return note_bad(after, object, "not the start of an object");
  uint64_t& word = bitmap_word(head, index / 64);
  const uint64_t bit = uint64_t{1} << (index & 63);
  if (KMEM_UNLIKELY((word & bit) != 0)) return note_bad(after, object, "Object already free");
  word |= bit;
  if (index / 64 < head.slab.hint) head.slab.hint = static_cast<uint8_t>(index / 64);
  ++head.slab.nr_free;
  ++cache.nr_free;
  if (head.slab.nr_free == head.slab.capacity && cache.nr_empty >= empty_max)
    remove_slab(sa, cache, head, after);
  else
    relist(sa, cache, head);
}

/// Takes up to `n` objects of one slab, words from low to high. A word that goes out whole is written four objects at a time; what a
/// store past its last object leaves behind is overwritten by the next one, or lies in the spare slots. Return: how many.
unsigned take_from_slab(slab_allocator& sa, kmem_cache& cache, page& head, void** out, unsigned n) noexcept KMEM_REQUIRES(cache.lock) {
  char* const base = sa.address_of(sa.pfn_of(&head));
  const size_t size = cache.size;
  unsigned got = 0, w = head.slab.hint;
  const unsigned want = n < head.slab.nr_free ? n : head.slab.nr_free;
  while (got < want) {
    uint64_t& word = bitmap_word(head, w);
    uint64_t bits = word;
    const auto count = static_cast<unsigned>(std::popcount(bits));
    char* const first = base + size_t{w} * 64 * size;
    if (count <= want - got) {
      word = 0;
      void** to = out + got;
      for (unsigned i = 0; i < count; i += 4, to += 4)
        for (unsigned j = 0; j < 4; ++j) {
          to[j] = first + static_cast<size_t>(std::countr_zero(bits)) * size;
          bits &= bits - 1;
        }
      got += count;
      ++w;
    } else {
      for (; got < want; bits &= bits - 1) out[got++] = first + static_cast<size_t>(std::countr_zero(bits)) * size;
      word = bits;
    }
  }
  head.slab.hint = static_cast<uint8_t>(w);
  head.slab.nr_free = static_cast<uint16_t>(head.slab.nr_free - want);
  return want;
}

/// Turns a new block into a slab of `capacity` free objects.
void format_slab(slab_allocator& sa, kmem_cache& cache, page& head, void* more_bits, unsigned capacity) noexcept {
  const pfn_t pfn = sa.pfn_of(&head);
  const uint32_t nr = 1u << cache.slab_order;
  head.kind = page_kind::slab;
  head.order = cache.slab_order;
  head.next = head.prev = pfn_t();
  head.slab = {static_cast<uint16_t>(capacity), static_cast<uint16_t>(capacity), cache.id, 0, 0};
  head.word = reinterpret_cast<uint64_t>(more_bits);
  for (unsigned w = 0; w < 4 || w * 64 < capacity; ++w) {
    const unsigned before = w * 64;
    const unsigned left = capacity > before ? capacity - before : 0;
    bitmap_word(head, w) = left >= 64 ? ~uint64_t{0} : (uint64_t{1} << left) - 1;
  }
  for (uint32_t i = 1; i < nr; ++i) {
    page& tail = (&head)[i];
    tail.kind = page_kind::slab_tail;
    tail.head = pfn;
  }
  for (uint32_t i = 0; i < nr; ++i) sa.class_map[pfn.raw() + i] = cache.class_byte;
  if (cache.constructor == nullptr) return;
  char* const base = sa.address_of(pfn);
  for (unsigned i = 0; i < capacity; ++i) cache.constructor(base + size_t{i} * cache.size);
}

/// Gives one slab back to the page allocator. Return: pages.
uint64_t free_slab(slab_allocator& sa, page& head) noexcept {
  const pfn_t pfn = sa.pfn_of(&head);
  const order_t order(head.order);
  const auto nr = static_cast<uint32_t>(nr_pages(order).raw());
  void* const more_bits = reinterpret_cast<void*>(head.word);
  for (uint32_t i = 0; i < nr; ++i) sa.class_map[pfn.raw() + i] = 0;
  for (uint32_t i = 1; i < nr; ++i) (&head)[i].kind = page_kind::free;  // of no meaning behind a head, but no slab's any more
  head.kind = page_kind::allocated;
  head.next = head.prev = pfn_t();
  head.run = {nr};
  head.word = 0;
  free_pages(sa, &head, order);
  if (more_bits != nullptr) cache_free(sa, sa.bitmap_cache, more_bits);
  return nr;
}

/// Pushes on a list that is taken whole: the link first, then the head.
void push_deferred(kmem_cache& cache, void* object) noexcept {
  uint64_t head = cache.deferred.load_relaxed();
  do {
    deferred_link(cache, object) = head;
  } while (!cache.deferred.try_cmpxchg_release(head, reinterpret_cast<uint64_t>(object)));  // pairs: deferred_objects
}

void push_unlisted(slab_allocator& sa, kmem_cache& cache, page& head) noexcept {
  uint64_t first = cache.unlisted.load_relaxed();
  do {
    head.next = pfn_t(static_cast<uint32_t>(first));
  } while (!cache.unlisted.try_cmpxchg_release(first, sa.pfn_of(&head).raw()));  // pairs: unlisted_slabs
}

/// What a nested call deferred while this thread or another one held the lock.
void settle_if_deferred(slab_allocator& sa, kmem_cache& cache) noexcept {
  if (KMEM_LIKELY((cache.deferred.load_relaxed() | cache.unlisted.load_relaxed()) == 0)) return;
  aftermath after;
  {
    nest_guard guard;
    if (guard.nested() || !cache.lock.try_lock()) return;
    settle_locked(sa, cache, after);
    cache.lock.unlock();
  }
  finish(sa, &cache, after);
}

}  // namespace

void defer_object(slab_allocator& sa, kmem_cache& cache, void* object, aftermath& after) noexcept {
  const auto offset = static_cast<uint64_t>(static_cast<char*>(object) - sa.address_of(slab_head(sa, cache, object)));
  if (((offset * cache.magic) >> 32) * cache.size != offset) return note_bad(after, object, "not the start of an object");
  push_deferred(cache, object);
}

page* make_slab(slab_allocator& sa, kmem_cache& cache, gfp_t gfp, bool quiet, alternative& instead) noexcept {
  if (KMEM_UNLIKELY(has(gfp, bad_slab_gfp))) gfp = fix_slab_gfp(gfp);
  unsigned capacity = cache.capacity;
  void* more_bits = nullptr;
  if (capacity > bitmap_objects) {
    more_bits = cache_alloc_unchecked(sa, sa.bitmap_cache, internal_gfp, true);
    if (more_bits == nullptr) capacity = bitmap_objects;
  }
  alloc_request wanted = {.gfp = (gfp & slab_gfp_mask) | cache.slab_gfp,
                          .order = order_t(cache.slab_order),
                          .bytes = cache.object_size,
                          .cache = cache.name,
                          .quiet = quiet || more_bits != nullptr,
                          .instead = &instead};
  page* head = alloc_pages_for(sa, wanted);
  if (KMEM_UNLIKELY(head == nullptr && more_bits != nullptr)) {
    // The bitmap may have taken the last page: without it the chain can drain it, for a slab of half the objects.
    cache_free(sa, sa.bitmap_cache, more_bits);
    if (instead.taken) return nullptr;
    more_bits = nullptr;
    capacity = bitmap_objects;
    wanted.quiet = quiet;
    head = alloc_pages_for(sa, wanted);
  }
  if (KMEM_UNLIKELY(head == nullptr)) return nullptr;
  format_slab(sa, cache, *head, more_bits, capacity);
  cache.stats.slabs_made.fetch_add_relaxed(1);
  return head;
}

void add_slab_locked(slab_allocator& sa, kmem_cache& cache, page& head) noexcept {
  ++cache.nr_slabs;
  cache.nr_objects += head.slab.capacity;
  cache.nr_free += head.slab.nr_free;
  relist(sa, cache, head);
}

void settle_locked(slab_allocator& sa, kmem_cache& cache, aftermath& after) noexcept {
  // The objects are taken first and put last: every slab that one of them lies in was pushed before it, so it is among the slabs that are
  // taken then, or listed already.
  void* object = nullptr;
  if (KMEM_UNLIKELY(cache.deferred.load_relaxed() != 0))
    object = reinterpret_cast<void*>(cache.deferred.exchange_acquire(0));  // pairs: deferred_objects
  if (KMEM_UNLIKELY(cache.unlisted.load_relaxed() != 0)) {
    pfn_t next(static_cast<uint32_t>(cache.unlisted.exchange_acquire(0)));  // pairs: unlisted_slabs
    while (!next.is_none()) {
      page& head = sa.page_of(next);
      next = head.next;
      head.next = pfn_t();
      add_slab_locked(sa, cache, head);
    }
  }
  // An object freed twice may have made the list a ring; more steps than objects are none of a list.
  for (uint64_t steps_left = cache.nr_objects; object != nullptr && steps_left != 0; --steps_left) {
    void* const next = reinterpret_cast<void*>(deferred_link(cache, object));
    put_object(sa, cache, object, slab_head(sa, cache, object), cache.empty_max, after);
    object = next;
  }
}

unsigned take_objects_locked(slab_allocator& sa, kmem_cache& cache, void** out, unsigned n) noexcept {
  unsigned got = 0;
  for (unsigned bucket = 0; bucket <= nr_slab_buckets && got < n;) {
    if (cache.partial[bucket].is_none()) {
      ++bucket;
      continue;
    }
    page& head = sa.page_of(cache.partial[bucket]);
    const unsigned took = take_from_slab(sa, cache, head, out + got, n - got);
    cache.nr_free -= took;
    got += took;
    relist(sa, cache, head);
  }
  return got;
}

void put_objects_locked(slab_allocator& sa, kmem_cache& cache, void* const* objects, const pfn_t* heads, unsigned n, unsigned empty_max,
                        aftermath& after) noexcept {
  for (unsigned i = 0; i < n; ++i) put_object(sa, cache, objects[i], heads[i], empty_max, after);
}

void trim_empty_locked(slab_allocator& sa, kmem_cache& cache, unsigned empty_max, aftermath& after) noexcept {
  while (cache.nr_empty > empty_max) remove_slab(sa, cache, sa.page_of(cache.partial[nr_slab_buckets]), after);
}

uint64_t finish(slab_allocator& sa, kmem_cache* cache, aftermath& after) noexcept {
  // Reports first: the class map still knows whose the slabs were.
  if (KMEM_UNLIKELY(after.nr_bad != 0)) {
    const unsigned kept = sizeof after.bad / sizeof after.bad[0], told = after.nr_bad < kept ? after.nr_bad : kept;
    for (unsigned i = 0; i < told; ++i) report_bad_free(sa, cache, after.bad[i].object, after.bad[i].what);
    sa.bad_frees.fetch_add_relaxed(after.nr_bad - told);
    after.nr_bad = 0;
  }
  uint64_t pages = 0;
  if (KMEM_UNLIKELY(after.wakes)) wake_waiters_for(sa, cache);
  after.wakes = false;
  while (!after.slabs.is_none()) {
    page& head = sa.page_of(after.slabs);
    after.slabs = head.next;
    pages += free_slab(sa, head);
  }
  return pages;
}

unsigned take_from_slabs(slab_allocator& sa, kmem_cache& cache, void** out, unsigned n) noexcept {
  aftermath after;
  unsigned got = 0;
  {
    nest_guard guard;
    if (!cache.lock.lock_unless_nested()) return 0;
    settle_locked(sa, cache, after);
    got = take_objects_locked(sa, cache, out, n);
    cache.lock.unlock();
  }
  finish(sa, &cache, after);
  settle_if_deferred(sa, cache);
  return got;
}

void put_to_slabs(slab_allocator& sa, kmem_cache& cache, void* const* objects, unsigned n) noexcept {
  pfn_t heads[batch_objects_max];
  for (unsigned i = 0; i < n; ++i) {
    heads[i] = slab_head(sa, cache, objects[i]);
    arch::prefetch_write(&sa.page_of(heads[i]));
  }
  aftermath after;
  bool locked = false;
  {
    nest_guard guard;
    locked = cache.lock.lock_unless_nested();
    if (KMEM_LIKELY(locked)) {
      settle_locked(sa, cache, after);
      // While somebody waits for memory, empty slabs are of more use to him.
      after.wakes = sa.waiters.load_relaxed() != 0;
      put_objects_locked(sa, cache, objects, heads, n, after.wakes ? 0 : cache.empty_max, after);
      cache.lock.unlock();
    } else {
      for (unsigned i = 0; i < n; ++i) defer_object(sa, cache, objects[i], after);
    }
  }
  if (!locked) wake_after_lockless_free_of(sa, &cache);
  finish(sa, &cache, after);
  settle_if_deferred(sa, cache);
}

unsigned add_slab_and_take(slab_allocator& sa, kmem_cache& cache, page& head, void** out, unsigned n) noexcept {
  aftermath after;
  unsigned got = 0;
  bool unlisted = false;
  {
    nest_guard guard;
    if (KMEM_LIKELY(cache.lock.lock_unless_nested())) {
      settle_locked(sa, cache, after);
      add_slab_locked(sa, cache, head);
      got = take_objects_locked(sa, cache, out, n);
      after.wakes = head.slab.nr_free != 0 && sa.waiters.load_relaxed() != 0;
      cache.lock.unlock();
    } else {
      // Nobody else knows the slab: the lowest object is taken without a lock.
      out[0] = sa.address_of(sa.pfn_of(&head));
      bitmap_word(head, 0) &= ~uint64_t{1};
      --head.slab.nr_free;
      got = 1;
      push_unlisted(sa, cache, head);
      unlisted = true;
    }
  }
  if (unlisted) wake_after_lockless_free_of(sa, &cache);
  finish(sa, &cache, after);
  settle_if_deferred(sa, cache);
  return got;
}

}  // inline namespace
}  // namespace kmem
