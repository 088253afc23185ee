// Calls that interrupted another call of the same thread, at every lock that one may hold: nothing is lost, nothing waits.
#include <set>

#include "slab_fixture.hpp"
#include "support/single_step.hpp"

namespace kmem::testing {
namespace {

/// What a signal handler sees when it interrupted a slow path that holds some locks.
enum held : unsigned { slot = 1, barn = 2, cache_lock = 4, list = 8 };

class interrupted {
 public:
  interrupted(slab_allocator& sa, kmem_cache& cache, unsigned locks) KMEM_NO_ANALYSIS : sa_(sa), cache_(cache), locks_(locks) {
    if ((locks_ & list) != 0) sa_.cache_list_lock.lock();
    if ((locks_ & slot) != 0) {
      sa_.cpu_slots[this_cpu(sa_)].lock.lock();
      hold_arrays(sa_);  // who has the lock has stopped an array, or holds all
    }
    if ((locks_ & barn) != 0) cache_.barn_lock.lock();
    if ((locks_ & cache_lock) != 0) cache_.lock.lock();
  }
  ~interrupted() KMEM_NO_ANALYSIS {
    if ((locks_ & cache_lock) != 0) cache_.lock.unlock();
    if ((locks_ & barn) != 0) cache_.barn_lock.unlock();
    if ((locks_ & slot) != 0) {
      release_arrays(sa_);
      sa_.cpu_slots[this_cpu(sa_)].lock.unlock();
    }
    if ((locks_ & list) != 0) sa_.cache_list_lock.unlock();
  }
  interrupted(const interrupted&) = delete;
  interrupted& operator=(const interrupted&) = delete;

 private:
  nest_guard guard_;
  slab_allocator& sa_;
  kmem_cache& cache_;
  unsigned locks_;
};

void fill_with_seven(void* object) noexcept { std::memset(object, 7, 56); }

TEST(nested, allocation_and_free_work_whichever_locks_the_interrupted_frame_holds) {
  for (unsigned locks = 0; locks < 16; ++locks) {
    slab_machine m;
    kmem_cache& cache = m.make(64);
    std::vector<void*> objects;
    for (int i = 0; i < 100; ++i) objects.push_back(cache_alloc(*m, cache, gfp::kernel));
    {
      interrupted frame(*m, cache, locks);
      for (int i = 0; i < 40; ++i) {
        void* const p = cache_alloc(*m, cache, gfp::atomic);
        ASSERT_NE(p, nullptr) << locks;
        std::memset(p, 0x21, 64);
        objects.push_back(p);
      }
      for (int i = 0; i < 60; ++i) {
        cache_free(*m, cache, objects[static_cast<size_t>(i)]);
        if ((locks & cache_lock) == 0) {
          ASSERT_EQ(cache.deferred.load_relaxed(), 0u);
        }
      }
      objects.erase(objects.begin(), objects.begin() + 60);
    }
    ASSERT_EQ(std::set<void*>(objects.begin(), objects.end()).size(), objects.size());
    m.check();
    drain_caches(*m, true);
    EXPECT_EQ(cache.deferred.load_relaxed(), 0u);
    EXPECT_EQ(cache.unlisted.load_relaxed(), 0u);
    EXPECT_EQ(m.info(cache).active, objects.size()) << locks;
    m.check();
    for (void* p : objects) cache_free(*m, cache, p);
    m.destroy(cache);
  }
}

TEST(nested, an_object_from_an_unlisted_slab_can_be_freed_before_the_slab_is_listed) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  void* p = nullptr;
  {
    interrupted frame(*m, cache, slot | barn | cache_lock);
    p = cache_alloc(*m, cache, gfp::atomic);
    ASSERT_NE(p, nullptr);
    EXPECT_NE(cache.unlisted.load_relaxed(), 0u);
    cache_free(*m, cache, p);
    EXPECT_NE(cache.deferred.load_relaxed(), 0u);
    p = cache_alloc(*m, cache, gfp::atomic);
  }
  put_to_slabs(*m, cache, &p, 1);
  m.check();
  EXPECT_EQ(m.info(cache).active, 0u);
  m.destroy(cache);
}

TEST(nested, what_a_constructor_made_survives_the_deferred_list) {
  slab_machine m;
  kmem_cache& cache = m.make(56, slab_flags_t::no_merge, 0, fill_with_seven);
  void* const p = cache_alloc(*m, cache, gfp::kernel);
  {
    interrupted frame(*m, cache, slot | barn | cache_lock);
    cache_free(*m, cache, p);
    ASSERT_NE(cache.deferred.load_relaxed(), 0u);
    for (int i = 0; i < 56; ++i) ASSERT_EQ(static_cast<char*>(p)[i], 7);
  }
  m.check();
  m.destroy(cache);
}

TEST(nested, an_object_deferred_twice_is_reported_and_ends_the_walk) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  void* const a = cache_alloc(*m, cache, gfp::kernel);
  void* const b = cache_alloc(*m, cache, gfp::kernel);
  void* const kept = cache_alloc(*m, cache, gfp::kernel);
  {
    interrupted frame(*m, cache, slot | barn | cache_lock);
    put_to_slabs(*m, cache, &a, 1);
    put_to_slabs(*m, cache, &b, 1);
    put_to_slabs(*m, cache, &a, 1);
  }
  object_batch out;
  take_from_slabs(*m, cache, out, 1);
  EXPECT_GE(m->bad_frees.load_relaxed(), 1u);
  put_to_slabs(*m, cache, out, 1);
  m.check();
  cache_free(*m, cache, kept);
  m.destroy(cache);
}

TEST(nested, a_pointer_into_an_object_is_not_written_through_when_it_cannot_be_freed_at_once) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  auto* const p = static_cast<char*>(cache_alloc(*m, cache, gfp::kernel));
  std::memset(p, 0x44, 64);
  {
    interrupted frame(*m, cache, slot | barn | cache_lock);
    void* const inside = p + 16;
    put_to_slabs(*m, cache, &inside, 1);
    EXPECT_EQ(cache.deferred.load_relaxed(), 0u);
  }
  EXPECT_EQ(m->bad_frees.load_relaxed(), 1u);
  for (int i = 0; i < 64; ++i) ASSERT_EQ(p[i], 0x44);
  cache_free(*m, cache, p);
  m.destroy(cache);
}

TEST(nested, draining_and_figures_do_not_wait_for_the_interrupted_frame) {
  for (unsigned locks = 0; locks < 16; ++locks) {
    slab_machine m;
    kmem_cache& cache = m.make(64);
    std::vector<void*> objects(200);
    cache_alloc_bulk(*m, cache, gfp::kernel, 200, objects.data());
    for (void* p : objects) cache_free(*m, cache, p);
    {
      interrupted frame(*m, cache, locks);
      drain_caches(*m, false);
      cache_info info;
      read_cache_info(*m, 3, info);
    }
    m.check();
    drain_caches(*m, false);
    EXPECT_EQ(m.info(cache).active, 0u);
    m.destroy(cache);
  }
}

#if defined(KMEM_TEST_SINGLE_STEP)
struct interruption {
  slab_allocator* sa = nullptr;
  kmem_cache* cache = nullptr;
  uint64_t at = 0;  // the instruction that is interrupted
};
interruption interruption_now;

/// Makes a slab, takes an object of it and frees it, past the arrays: all of it without a lock if the frame below holds the cache's.
bool make_take_and_free(uint64_t instruction) {
  interruption& now = interruption_now;
  if (instruction != now.at) return true;
  object_at_hand instead(*now.sa, *now.cache);
  page* const head = make_slab(*now.sa, *now.cache, gfp::atomic, true, instead);
  if (head == nullptr) return false;
  object_batch batch;
  const unsigned n = add_slab_and_take(*now.sa, *now.cache, *head, batch, 1);
  put_to_slabs(*now.sa, *now.cache, batch, n);
  return false;
}

TEST(nested, a_slab_made_and_an_object_freed_in_a_handler_after_any_instruction_of_a_free_are_found) {
  slab_machine m;
  kmem_cache& cache = m.make(2048);
  uint64_t steps = 1;
  for (uint64_t at = 0; at < steps; ++at) {
    void* object = cache_alloc(*m, cache, gfp::kernel);
    ASSERT_NE(object, nullptr);
    interruption_now = {&*m, &cache, at};
    steps = run_in_steps(make_take_and_free, [&] { put_to_slabs(*m, cache, &object, 1); });
    steps = steps == at + 1 ? at + 2 : at;
    ASSERT_EQ(m->bad_frees.load_relaxed(), 0u) << "instruction " << at << take_log();
    const char* const wrong = slab_is_valid(*m);
    ASSERT_EQ(wrong, nullptr) << "instruction " << at << ": " << wrong;
  }
  EXPECT_GT(steps, 100u);
  m.destroy(cache);
}
#endif

}  // namespace
}  // namespace kmem::testing
