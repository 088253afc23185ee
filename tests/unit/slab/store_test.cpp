// Slabs: what a refill brings and in which order, which slab it takes from, bitmaps, layout, how many empty slabs stay.
#include <algorithm>
#include <set>

#include "slab_fixture.hpp"

namespace kmem::testing {
namespace {

/// All objects straight from the slabs, past arrays and barn.
unsigned take(slab_allocator& sa, kmem_cache& cache, void** out, unsigned n) { return take_from_slabs(sa, cache, out, n); }
page& head_of(slab_allocator& sa, const kmem_cache& cache, const void* p) { return sa.page_of(slab_head(sa, cache, p)); }
void add_slab(slab_allocator& sa, kmem_cache& cache) {
  object_at_hand instead(sa, cache);
  page* const head = make_slab(sa, cache, gfp::kernel, true, instead);
  ASSERT_NE(head, nullptr);
  nest_guard guard;
  lock_guard hold(cache.lock);
  add_slab_locked(sa, cache, *head);
}

TEST(store, a_refill_comes_in_address_order_whatever_the_order_of_the_frees) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  add_slab(*m, cache);
  object_batch out;
  for (uint64_t seed = 1; seed < 40; ++seed) {
    ASSERT_EQ(take(*m, cache, out, 64), 64u);
    ASSERT_TRUE(std::is_sorted(out, out + 64));
    for (unsigned i = 63; i > 0; --i) std::swap(out[i], out[(i * seed * 7919) % (i + 1)]);
    for (unsigned i = 0; i < 64; ++i) put_to_slabs(*m, cache, out + i, 1);
  }
  m.check();
  m.destroy(cache);
}

TEST(store, a_refill_of_any_length_writes_its_objects_and_no_more_than_three_slots_beyond) {
  slab_machine m;
  kmem_cache& cache = m.make(48);
  // Bitmaps of every kind of word: each third, each second, all but a few.
  for (const unsigned keep_every : {2u, 3u, 5u, 64u}) {
    add_slab(*m, cache);
    std::vector<void*> all(85 + take_spare);
    ASSERT_EQ(take(*m, cache, all.data(), 85), 85u);
    std::vector<void*> kept;
    std::set<void*> freed;
    for (unsigned i = 0; i < 85; ++i) {
      if (i % keep_every == 0) {
        kept.push_back(all[i]);
      } else {
        put_to_slabs(*m, cache, &all[i], 1);
        freed.insert(all[i]);
      }
    }
    for (unsigned n = 1; n <= batch_objects_max; ++n) {
      void* const guard = &cache;
      std::vector<void*> out(batch_objects_max + take_spare + 2, guard);
      const unsigned got = take(*m, cache, out.data(), n);
      ASSERT_EQ(got, std::min<size_t>(n, freed.size()));
      const std::set<void*> taken(out.begin(), out.begin() + got);
      ASSERT_EQ(taken.size(), got);
      for (void* p : taken) ASSERT_TRUE(freed.count(p)) << "not a free object";
      for (size_t i = got + take_spare; i < out.size(); ++i) ASSERT_EQ(out[i], guard) << "slot " << i << " of a refill of " << n;
      put_to_slabs(*m, cache, out.data(), got);
      const char* const wrong = slab_is_valid(*m);
      ASSERT_EQ(wrong, nullptr) << wrong;
    }
    for (void* p : kept) put_to_slabs(*m, cache, &p, 1);
    cache_shrink(*m, cache);
  }
  m.destroy(cache);
}

TEST(store, the_fullest_slab_serves_first) {
  slab_machine m;
  kmem_cache& cache = m.make(256);  // 16 objects a slab
  std::vector<void*> objects(48 + take_spare);
  for (int i = 0; i < 3; ++i) add_slab(*m, cache);
  ASSERT_EQ(take(*m, cache, objects.data(), 48), 48u);
  std::sort(objects.begin(), objects.begin() + 48);
  // Slab 0 gets 12 free, slab 1 gets 3, slab 2 gets 8.
  const unsigned free[3] = {12, 3, 8};
  std::set<void*> out(objects.begin(), objects.begin() + 48);
  for (unsigned s = 0; s < 3; ++s)
    for (unsigned i = 0; i < free[s]; ++i) {
      put_to_slabs(*m, cache, &objects[s * 16 + i], 1);
      out.erase(objects[s * 16 + i]);
    }
  object_batch got;
  ASSERT_EQ(take(*m, cache, got, 3), 3u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(&head_of(*m, cache, got[i]), &head_of(*m, cache, objects[16]));
    out.insert(got[i]);
  }
  ASSERT_EQ(take(*m, cache, got, 8), 8u);
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(&head_of(*m, cache, got[i]), &head_of(*m, cache, objects[32]));
    out.insert(got[i]);
  }
  m.check();
  for (void* p : out) put_to_slabs(*m, cache, &p, 1);
  m.destroy(cache);
}

TEST(store, free_objects_are_neither_read_nor_written) {
  slab_machine m;
  for (const size_t size : {size_t{8}, size_t{64}, size_t{1024}, size_t{8192}}) {
    kmem_cache& cache = m.make(size);
    std::vector<char*> objects;
    for (int i = 0; i < 700; ++i) {
      objects.push_back(static_cast<char*>(cache_alloc(*m, cache, gfp::kernel)));
      std::memset(objects.back(), 0x5a, size);
    }
    char* const first = objects[100];
    for (char* p : objects) cache_free(*m, cache, p);
    // Its slab may be gone; if it is still a slab, the bytes are as they were left.
    if (cache_of(*m, first) == &cache) {
      for (size_t i = 0; i < size; ++i) ASSERT_EQ(first[i], 0x5a) << size << " at " << i;
    }
    m.destroy(cache);
  }
}

TEST(store, eight_byte_objects_fill_their_page_with_a_second_half_of_the_bitmap) {
  slab_machine m;
  kmem_cache& cache = m.make(8);
  EXPECT_EQ(cache.capacity, 512);
  std::set<void*> all;
  for (int i = 0; i < 512; ++i) all.insert(cache_alloc(*m, cache, gfp::kernel));
  EXPECT_EQ(all.size(), 512u);
  EXPECT_EQ(m.info(cache).slabs, 1u);
  EXPECT_EQ(m.info(m->bitmap_cache).active, 1u);
  const uintptr_t first = reinterpret_cast<uintptr_t>(*all.begin()), last = reinterpret_cast<uintptr_t>(*all.rbegin());
  EXPECT_EQ(first % page_size, 0u);
  EXPECT_EQ(last - first, 511u * 8);
  m.check();
  for (void* p : all) cache_free(*m, cache, p);
  cache_shrink(*m, cache);
  EXPECT_EQ(m.info(m->bitmap_cache).active, 0u);
  m.destroy(cache);
}

TEST(store, without_a_second_half_of_the_bitmap_half_a_page_serves) {
  slab_machine m;
  kmem_cache& cache = m.make(8);
  auto pages = m.exhaust_pages();
  put_page(*m, pages.back());  // one page: for the slab, and none for its bitmap
  pages.pop_back();
  std::set<void*> all;
  while (void* p = cache_alloc(*m, cache, gfp::atomic | gfp::nowarn)) all.insert(p);
  EXPECT_EQ(all.size(), 256u);
  m.check();
  void* beyond = static_cast<char*>(*all.begin()) + 256 * 8;
  const uint64_t refused = m->bad_frees.load_relaxed();
  for (int i = 0; i < 20; ++i) cache_free(*m, cache, beyond);
  drain_caches(*m, true);
  EXPECT_GT(m->bad_frees.load_relaxed(), refused);
  take_log();
  for (void* p : all) cache_free(*m, cache, p);
  m.give_pages(pages);
  m.destroy(cache);
}

TEST(store, few_empty_slabs_stay_and_large_ones_none) {
  slab_machine m;
  const struct {
    size_t size;
    unsigned kept;
  } cases[] = {{64, 2}, {4096, 2}, {8192, 1}, {32768, 0}};
  for (const auto& c : cases) {
    kmem_cache& cache = m.make(c.size);
    std::vector<void*> objects(cache.capacity * 6u);
    ASSERT_EQ(cache_alloc_bulk(*m, cache, gfp::kernel, objects.size(), objects.data()), objects.size());
    for (void* p : objects) put_to_slabs(*m, cache, &p, 1);
    EXPECT_LE(m.info(cache).slabs, c.kept + 2u) << c.size;
    {
      const lock_guard hold(cache.lock);
      EXPECT_EQ(cache.nr_empty, c.kept) << c.size;
    }
    m.destroy(cache);
  }
}

TEST(store, sizes_orders_and_alignment_follow_the_rules) {
  slab_machine m;
  for (size_t size = 1; size <= 40000; size += size < 600 ? 1 : 97) {
    kmem_cache& cache = m.make(size);
    const size_t slab_bytes = page_size << cache.slab_order;
    ASSERT_GE(cache.size, size);
    ASSERT_EQ(cache.size % 8, 0u);
    ASSERT_LT(cache.size, size + 8);
    ASSERT_GE(cache.capacity, cache.size > 32768 ? 1u : 4u) << size;
    const size_t tail = slab_bytes - size_t{cache.capacity} * cache.size;
    ASSERT_LE(tail * (cache.size <= 32768 ? 8 : 2), slab_bytes) << size;
    ASSERT_LE(cache.capacity, 512u);
    ASSERT_TRUE(cache.capacity <= 256 || cache.size == 8);
    for (uint32_t i = 0; i < cache.capacity; ++i) ASSERT_EQ((uint64_t{i} * cache.size * cache.magic) >> 32, i);
    m.destroy(cache);
  }
}

TEST(store, an_object_of_the_largest_size_is_a_slab_of_its_own) {
  slab_machine m;
  kmem_cache& cache = m.make(size_t{2} << 20);
  EXPECT_EQ(cache.capacity, 1);
  void* const a = cache_alloc(*m, cache, gfp::kernel);
  void* const b = cache_alloc(*m, cache, gfp::kernel);
  ASSERT_NE(a, nullptr);
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a) % (size_t{2} << 20), 0u);
  std::memset(a, 1, size_t{2} << 20);
  cache_free(*m, cache, a);
  cache_free(*m, cache, b);
  m.destroy(cache);
}

}  // namespace
}  // namespace kmem::testing
