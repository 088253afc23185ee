// The validity walk itself: every kind of damage, planted, is found and named; taken away again, the walk is silent.
#include <functional>
#include <sys/wait.h>
#include <unistd.h>

#include "slab_fixture.hpp"

namespace kmem::testing {
namespace {

struct scene {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  std::vector<void*> objects;
  scene() {
    for (int i = 0; i < 150; ++i) objects.push_back(cache_alloc(*m, cache, gfp::kernel));
    for (int i = 0; i < 20; ++i) give(objects.back());
    for (int i = 0; i < 10; ++i) {
      void* p = objects.back();
      objects.pop_back();
      put_to_slabs(*m, cache, &p, 1);
    }
    std::vector<void*> to_barn(objects.end() - 8, objects.end());
    objects.resize(objects.size() - 8);
    EXPECT_EQ(put_to_barn(*m, cache, to_barn.data(), 8), 0u);
  }
  ~scene() {
    for (void* p : objects) cache_free(*m, cache, p);
    m.destroy(cache);
  }
  void give(void* p) {
    objects.pop_back();
    cache_free(*m, cache, p);
  }
  page& head() { return m->page_of(slab_head(*m, cache, objects.front())); }
  array_header& header() { return array_headers(cpu_region(*m, this_cpu(*m)))[cache.class_byte]; }
  void** slots() { return array_slots(cpu_region(*m, this_cpu(*m))); }
  /// Changes something, expects the walk to say `what`, and changes it back.
  template <class T>
  void plant(T& place, T value, const char* what) {
    const T before = place;
    place = value;
    const char* const said = slab_is_valid(*m);
    EXPECT_TRUE(said != nullptr && std::string(said).find(what) != std::string::npos)
        << "planted: " << what << "; said: " << (said != nullptr ? said : "nothing");
    place = before;
    m.check();
  }
};

TEST(check, damaged_slabs_are_found) {
  scene s;
  page& head = s.head();
  s.plant(head.slab.nr_free, static_cast<uint16_t>(head.slab.nr_free + 1), "count of free objects and bitmap differ");
  s.plant(head.slab.capacity, static_cast<uint16_t>(63), "wrong capacity");
  s.plant(head.free_objects[3], uint64_t{1}, "a bit beyond the capacity is set");
  s.plant(head.word, uint64_t{8}, "second half of a bitmap");
  s.plant(s.m->class_map[s.m->pfn_of(&head).raw()], uint8_t{7}, "");
}

TEST(check, damaged_lists_and_counts_are_found) {
  scene s;
  page* listed = nullptr;
  for (const pfn_t pfn : s.cache.partial)
    if (!pfn.is_none()) listed = &s.m->page_of(pfn);
  ASSERT_NE(listed, nullptr);
  s.plant(listed->slab.bucket, static_cast<uint8_t>(listed->slab.bucket == 1 ? 2 : 1), "wrong list");
  s.plant(listed->slab.hint, static_cast<uint8_t>(3), "below the hint");
  s.plant(listed->prev, pfn_t(5), "links disagree");
  s.plant(listed->slab.cache, static_cast<uint16_t>(1), "another cache");
  s.plant(listed->kind, page_kind::allocated, "");
  s.plant(s.cache.nr_slabs, s.cache.nr_slabs + 1, "slabs are counted wrong");
  s.plant(s.cache.nr_objects, s.cache.nr_objects + 1, "objects are counted wrong");
  s.plant(s.cache.nr_free, s.cache.nr_free + 1, "free objects are counted wrong");
  s.plant(s.cache.nr_empty, s.cache.nr_empty + 1, "wholly free slabs are counted wrong");
  s.plant(s.cache.nr_listed, s.cache.nr_listed + 1, "fewer slabs on the lists");
}

TEST(check, damaged_arrays_are_found) {
  scene s;
  const uint32_t cur = s.header().hot.load_relaxed() & 0xffff, begin = s.header().bounds & 0xffff;
  ASSERT_GT(cur, begin + 1);
  s.plant(s.slots()[cur - 1], s.slots()[cur - 2], "in two places");
  s.plant(s.slots()[cur - 1], s.cache.barn->objects[0], "in two places");
  s.plant(s.slots()[cur - 1], static_cast<void*>(&s), "foreign pointer");
  s.plant(s.slots()[cur - 1], static_cast<void*>(static_cast<char*>(s.slots()[cur - 1]) + 8), "pointer into an object");
  s.plant(s.slots()[begin - 1], static_cast<void*>(&s), "null below an array");
  s.plant(s.slots()[-1], static_cast<void*>(&s), "null above a region");
  s.plant(s.header().bounds, s.header().bounds + (1u << 16), "does not add up");
  s.plant(s.header().bounds, uint32_t{3}, "outside its region");
}

TEST(check, damaged_barns_are_found) {
  scene s;
  s.plant(s.cache.barn_objects, s.cache.barn_objects + 1, "a barn is counted wrong");
  s.plant(s.cache.nr_barn, s.cache.nr_barn + 1, "a barn is counted wrong");
  s.plant(s.cache.barn->nr_objects, uint32_t{0}, "empty or overfull");
  s.plant(s.cache.barn->objects[1], s.cache.barn->objects[0], "in two places");
}

TEST(check, an_object_that_is_free_in_its_slab_and_in_an_array_is_found) {
  scene s;
  void* const p = s.slots()[(s.header().hot.load_relaxed() & 0xffff) - 1];
  page& head = s.m->page_of(slab_head(*s.m, s.cache, p));
  const auto index = static_cast<unsigned>((static_cast<char*>(p) - s.m->address_of(s.m->pfn_of(&head))) / 64);
  head.free_objects[index / 64] |= uint64_t{1} << (index % 64);
  ++head.slab.nr_free;
  ++s.cache.nr_free;
  const char* const said = slab_is_valid(*s.m);
  EXPECT_NE(said, nullptr);
  head.free_objects[index / 64] &= ~(uint64_t{1} << (index % 64));
  --head.slab.nr_free;
  --s.cache.nr_free;
}

TEST(fork, the_child_finds_every_lock_free_and_everything_in_order) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  std::vector<void*> objects(100);
  cache_alloc_bulk(*m, cache, gfp::kernel, 100, objects.data());
  slab_fork_prepare(*m);
  page_alloc_fork_prepare(*m);
  const pid_t child = fork();
  if (child == 0) {
    page_alloc_fork_child(*m);
    slab_fork_child(*m);
    bool fine = slab_is_valid(*m) == nullptr;
    for (void* p : objects) cache_free(*m, cache, p);
    fine = fine && drain_caches(*m, true) != 0 && cache_alloc(*m, cache, gfp::kernel) != nullptr && slab_is_valid(*m) == nullptr;
    _exit(fine ? 0 : 1);
  }
  page_alloc_fork_parent(*m);
  slab_fork_parent(*m);
  int status = 1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(m.info(cache).active, 100u);
  cache_free_bulk(*m, cache, 100, objects.data());
  m.destroy(cache);
}

TEST(fork, a_handler_that_interrupted_the_allocator_can_fork) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  void* const p = cache_alloc(*m, cache, gfp::kernel);
  {
    nest_guard interrupted;
    const lock_guard held(cache.lock);
    slab_fork_prepare(*m);
    EXPECT_TRUE(m->cache_list_lock.is_locked());
    slab_fork_parent(*m);
    EXPECT_FALSE(m->cache_list_lock.is_locked());
    EXPECT_TRUE(cache.lock.is_locked());
  }
  cache_free(*m, cache, p);
  m.destroy(cache);
}

}  // namespace
}  // namespace kmem::testing
