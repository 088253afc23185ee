// The per-CPU arrays: the two sequences on bare memory, and opening, growing and resetting inside a machine.
#include <sched.h>

#include "slab_fixture.hpp"

namespace kmem::testing {
namespace {

#if KMEM_HAS_SECTIONS
/// The region of the CPU that the thread stays on, with zeroes below it, as in a machine.
struct bare_region {
  std::vector<void*> words = std::vector<void*>(2 * cpu_region_slots, nullptr);
  char* base = reinterpret_cast<char*>(words.data() + cpu_region_slots);
  atomic<char*> regions{nullptr};
  cpu_set_t before;
  bare_region() {
    const int cpu = plat::cpu();
    sched_getaffinity(0, sizeof before, &before);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<unsigned>(cpu), &one);
    EXPECT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_TRUE(plat::prepare_sections());
    regions.store_relaxed(base - static_cast<ptrdiff_t>(cpu_region_bytes) * cpu);
  }
  ~bare_region() { sched_setaffinity(0, sizeof before, &before); }
  bare_region(const bare_region&) = delete;
  bare_region& operator=(const bare_region&) = delete;
  void open(uint32_t id, uint32_t begin, uint32_t cap) {
    array_headers(base)[id].bounds = begin | cap << 16;
    array_headers(base)[id].hot.store_relaxed(begin | cap << 16);
  }
  uint32_t hot(uint32_t id) { return array_headers(base)[id].hot.load_relaxed(); }
};

void* object(uintptr_t n) { return reinterpret_cast<void*>(n * 16); }

TEST(array, a_region_of_zeroes_is_empty_and_full_at_once) {
  bare_region region;
  for (uint32_t id = 0; id < nr_array_headers; ++id) {
    EXPECT_EQ(array_pop(region.regions, id), nullptr);
    EXPECT_FALSE(array_push(region.regions, id, object(1)));
  }
  for (const void* word : region.words) EXPECT_EQ(word, nullptr);
}

TEST(array, pops_come_in_reverse_order_of_pushes_for_every_capacity) {
  for (uint32_t cap = 1; cap <= array_objects_max; ++cap) {
    bare_region region;
    region.open(7, first_array_slot + 1, cap);
    for (uint32_t i = 1; i <= cap; ++i) ASSERT_TRUE(array_push(region.regions, 7, object(i)));
    ASSERT_FALSE(array_push(region.regions, 7, object(cap + 1)));
    ASSERT_EQ(region.hot(7), first_array_slot + 1 + cap);  // no room left
    for (uint32_t i = cap; i >= 1; --i) ASSERT_EQ(array_pop(region.regions, 7), object(i));
    ASSERT_EQ(array_pop(region.regions, 7), nullptr);
    ASSERT_EQ(region.hot(7), (first_array_slot + 1) | cap << 16);
  }
}

TEST(array, an_operation_is_one_addition_to_the_hot_word) {
  bare_region region;
  region.open(1, 300, 8);
  const uint32_t before = region.hot(1);
  array_push(region.regions, 1, object(1));
  EXPECT_EQ(region.hot(1), before + 0xffff0001u);
  array_pop(region.regions, 1);
  EXPECT_EQ(region.hot(1), before);
}

TEST(array, neighbours_do_not_touch_each_other) {
  bare_region region;
  region.open(1, first_array_slot + 1, 4);
  region.open(2, first_array_slot + 6, 4);
  for (uintptr_t i = 1; i <= 4; ++i) {
    ASSERT_TRUE(array_push(region.regions, 1, object(i)));
    ASSERT_TRUE(array_push(region.regions, 2, object(10 + i)));
  }
  EXPECT_FALSE(array_push(region.regions, 1, object(5)));
  EXPECT_EQ(array_slots(region.base)[first_array_slot + 5], nullptr);
  for (uintptr_t i = 4; i >= 1; --i) EXPECT_EQ(array_pop(region.regions, 2), object(10 + i));
  EXPECT_EQ(array_pop(region.regions, 2), nullptr);
  EXPECT_EQ(array_pop(region.regions, 1), object(4));
}

TEST(array, a_stopped_array_is_empty_and_full_and_whoever_stopped_it_has_its_word) {
  bare_region region;
  region.open(3, first_array_slot + 1, 4);
  ASSERT_TRUE(array_push(region.regions, 3, object(1)));
  const auto cpu = static_cast<uint32_t>(plat::cpu());
  const uint32_t before = region.hot(3);
  uint32_t word = 0;
  EXPECT_FALSE(array_stop(region.base, cpu + 1, 3, word)) << "of another CPU";
  EXPECT_EQ(region.hot(3), before);
  ASSERT_TRUE(array_stop(region.base, cpu, 3, word));
  EXPECT_EQ(word, before);
  EXPECT_EQ(region.hot(3), 0u);
  EXPECT_EQ(array_pop(region.regions, 3), nullptr);
  EXPECT_FALSE(array_push(region.regions, 3, object(2)));
  array_headers(region.base)[3].hot.store_relaxed(word);
  EXPECT_EQ(array_pop(region.regions, 3), object(1));
}
#endif

TEST(array, held_arrays_send_everybody_to_the_slow_path_until_the_last_holder_lets_go) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  void* const p = cache_alloc(*m, cache, gfp::kernel);
  char* const open = m->regions.load_relaxed();
  EXPECT_EQ(open == m->arrays_base, m->has_sections);
  hold_arrays(*m);
  hold_arrays(*m);
  EXPECT_EQ(array_pop(m->regions, cache.class_byte), nullptr);
  EXPECT_FALSE(array_push(m->regions, cache.class_byte, p));
  release_arrays(*m);
  EXPECT_EQ(array_pop(m->regions, cache.class_byte), nullptr);
  release_arrays(*m);
  EXPECT_EQ(m->regions.load_relaxed(), open);
  EXPECT_EQ(push_local(*m, cache, p), true);
  EXPECT_EQ(pop_local(*m, cache), p);
  cache_free(*m, cache, p);
  m.destroy(cache);
}

TEST(array, a_cold_array_is_small_and_a_hot_one_grows_to_its_bound) {
  slab_machine m;
  for (const size_t size : {size_t{8}, size_t{64}, size_t{256}, size_t{1024}, size_t{4096}, size_t{32768}}) {
    kmem_cache& cache = m.make(size);
    cache_free(*m, cache, cache_alloc(*m, cache, gfp::kernel));
    const uint32_t cpu = this_cpu(*m);
    const auto cap = [&] { return array_headers(cpu_region(*m, cpu))[cache.class_byte].bounds >> 16; };
    EXPECT_EQ(cap(), size <= 2048 ? 8u : size == 4096 ? 4u : 2u) << size;
    std::vector<void*> out;
    for (int round = 0; round < 60; ++round) {
      for (int i = 0; i < 300; ++i) out.push_back(cache_alloc(*m, cache, gfp::kernel));
      for (void* p : out) cache_free(*m, cache, p);
      out.clear();
      if (round == 30) m.check();
    }
    const size_t bound = array_bytes_max / size;
    EXPECT_EQ(cap(), bound > 256 ? 256u : bound < 2 ? 2u : bound) << size;
    m.check();
    m.destroy(cache);
    drain_caches(*m, true);  // the next cache gets the same id, and would inherit the large array
  }
}

TEST(array, all_caches_with_small_arrays_fit_sixteen_kib) {
  slab_machine m;
  std::vector<kmem_cache*> caches;
  for (int i = 0; i < 150; ++i) {
    kmem_cache& cache = m.make(64);
    void* const p = cache_alloc(*m, cache, gfp::kernel);
    cache_free(*m, cache, p);
    cache_free(*m, cache, cache_alloc(*m, cache, gfp::kernel));
    caches.push_back(&cache);
  }
  cpu_slot& slot = m->cpu_slots[this_cpu(*m)];
  EXPECT_LE(slot.populated.load_relaxed(), 4u);
  EXPECT_LE(slot.next_free_slot * sizeof(void*), 16u * 1024);
  m.check();
  for (kmem_cache* cache : caches) m.destroy(*cache);
}

TEST(array, creating_and_destroying_caches_does_not_use_a_region_up) {
  slab_machine m;
  uint32_t used = 0;
  for (int i = 0; i < 3000; ++i) {
    kmem_cache& cache = m.make(i % 2 == 0 ? 64 : 4096);
    cache_free(*m, cache, cache_alloc(*m, cache, gfp::kernel));
    m.destroy(cache);
    if (i == 100) used = m->cpu_slots[this_cpu(*m)].next_free_slot;
  }
  EXPECT_EQ(m->cpu_slots[this_cpu(*m)].next_free_slot, used);
}

TEST(array, a_full_region_leaves_the_other_caches_without_arrays_but_working) {
  slab_machine m;
  std::vector<kmem_cache*> caches;
  std::vector<void*> out;
  for (int i = 0; i < 100; ++i) {
    kmem_cache& cache = m.make(64);
    caches.push_back(&cache);
    for (int round = 0; round < 40; ++round) {
      for (int k = 0; k < 300; ++k) out.push_back(cache_alloc(*m, cache, gfp::kernel));
      for (void* p : out) cache_free(*m, cache, p);
      out.clear();
    }
  }
  EXPECT_LE(m->cpu_slots[this_cpu(*m)].next_free_slot, cpu_region_slots - 1);
  EXPECT_GT(m->cpu_slots[this_cpu(*m)].next_free_slot, cpu_region_slots - 300);
  m.check();
  kmem_cache& late = m.make(64);
  void* const p = cache_alloc(*m, late, gfp::kernel);
  EXPECT_NE(p, nullptr);
  cache_free(*m, late, p);
  m.destroy(late);
  for (kmem_cache* cache : caches) m.destroy(*cache);
}

TEST(array, draining_makes_hot_arrays_small_again) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  std::vector<void*> out;
  for (int round = 0; round < 40; ++round) {
    for (int k = 0; k < 300; ++k) out.push_back(cache_alloc(*m, cache, gfp::kernel));
    for (void* p : out) cache_free(*m, cache, p);
    out.clear();
  }
  EXPECT_GT(m->cpu_slots[this_cpu(*m)].next_free_slot, first_array_slot + 256);
  drain_caches(*m, true);
  EXPECT_EQ(m->cpu_slots[this_cpu(*m)].next_free_slot, first_array_slot);
  void* const p = cache_alloc(*m, cache, gfp::kernel);
  EXPECT_EQ(array_headers(cpu_region(*m, this_cpu(*m)))[cache.class_byte].bounds >> 16, array_first_objects);
  cache_free(*m, cache, p);
  m.destroy(cache);
}

TEST(array, pages_of_a_region_are_counted_before_they_are_touched) {
  slab_machine m;
  const uint64_t before = m->metadata_pages.load_relaxed();
  kmem_cache& cache = m.make(16);
  std::vector<void*> out;
  for (int round = 0; round < 60; ++round) {
    for (int k = 0; k < 300; ++k) out.push_back(cache_alloc(*m, cache, gfp::kernel));
    for (void* p : out) cache_free(*m, cache, p);
    out.clear();
  }
  const cpu_slot& slot = m->cpu_slots[this_cpu(*m)];
  EXPECT_GE(slot.populated.load_relaxed() * page_size, m->cpu_slots[this_cpu(*m)].next_free_slot * sizeof(void*));
  EXPECT_GE(m->metadata_pages.load_relaxed(), before + slot.populated.load_relaxed());
  m.destroy(cache);
}

TEST(array, a_batch_push_is_popped_in_address_order_and_says_what_is_left) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  std::vector<void*> objects(12);
  ASSERT_EQ(cache_alloc_bulk(*m, cache, gfp::kernel, objects.size(), objects.data()), objects.size());
  drain_caches(*m, true);
  ASSERT_EQ(prepare_refill(*m, cache), array_first_objects / 2);
  EXPECT_EQ(push_local_batch(*m, cache, objects.data(), 12), 4u);
  for (int i = 4; i < 12; ++i) EXPECT_EQ(pop_local(*m, cache), objects[static_cast<size_t>(i)]);
  EXPECT_EQ(pop_local(*m, cache), nullptr);
  cache_free_bulk(*m, cache, objects.size(), objects.data());
  m.destroy(cache);
}

}  // namespace
}  // namespace kmem::testing
