// Real threads: objects that cross threads and CPUs, drains in between; each object has one owner at a time.
#include <atomic>
#include <thread>

#include "slab_fixture.hpp"

namespace kmem::testing {
namespace {

constexpr unsigned nr_threads = 4;

struct rng {
  uint64_t s;
  uint64_t next() {
    s ^= s << 13;
    s ^= s >> 7;
    return s ^= s << 17;
  }
};

/// Writes an owner over the whole object, and checks that nobody else did.
void mark(void* p, size_t size, uint64_t owner) {
  for (size_t i = 0; i + 8 <= size; i += 8) std::memcpy(static_cast<char*>(p) + i, &owner, 8);
}
bool is_marked(const void* p, size_t size, uint64_t owner) {
  for (size_t i = 0; i + 8 <= size; i += 8) {
    uint64_t value;
    std::memcpy(&value, static_cast<const char*>(p) + i, 8);
    if (value != owner) return false;
  }
  return true;
}

void unpin() {
  cpu_set_t all;
  CPU_ZERO(&all);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) CPU_SET(cpu, &all);
  sched_setaffinity(0, sizeof all, &all);
}

TEST(threads, random_work_with_drains_keeps_every_object_whole) {
  slab_machine m;
  kmem_cache* const caches[3] = {&m.make(16), &m.make(64), &m.make(1000)};
  std::atomic<bool> damaged{false};
  std::atomic<unsigned> running{nr_threads};
  std::vector<std::thread> workers;
  for (unsigned t = 0; t < nr_threads; ++t)
    workers.emplace_back([&, t] {
      unpin();
      rng random{t * 7919 + 13};
      struct held {
        void* p;
        unsigned cache;
        uint64_t owner;
      };
      std::vector<held> mine;
      for (uint64_t i = 0; i < 15000; ++i) {
        const uint64_t dice = random.next();
        if (mine.size() < 400 && (dice & 1) != 0) {
          const unsigned c = static_cast<unsigned>(dice >> 8) % 3;
          void* const p = cache_alloc(*m, *caches[c], (dice & 2) != 0 ? gfp::kernel : gfp::atomic);
          if (p == nullptr) continue;
          mine.push_back({p, c, (uint64_t{t} << 56) | i});
          mark(p, caches[c]->object_size, mine.back().owner);
        } else if (!mine.empty()) {
          const size_t k = (dice >> 8) % mine.size();
          if (!is_marked(mine[k].p, caches[mine[k].cache]->object_size, mine[k].owner)) damaged = true;
          cache_free(*m, *caches[mine[k].cache], mine[k].p);
          mine[k] = mine.back();
          mine.pop_back();
        }
      }
      for (const held& h : mine) {
        if (!is_marked(h.p, caches[h.cache]->object_size, h.owner)) damaged = true;
        cache_free(*m, *caches[h.cache], h.p);
      }
      --running;
    });
  while (running != 0) {
    drain_caches(*m, true);
    for (unsigned i = 0; i < 6; ++i) {
      cache_info info;
      read_cache_info(*m, i, info);
    }
    std::this_thread::yield();
  }
  for (std::thread& t : workers) t.join();
  EXPECT_FALSE(damaged);
  m.check();
  for (kmem_cache* c : caches) {
    EXPECT_EQ(m.info(*c).active, 0u);
    m.destroy(*c);
  }
  EXPECT_EQ(m->bad_frees.load_relaxed(), 0u) << take_log();
}

TEST(threads, a_stream_from_producer_to_consumer_passes_the_barn) {
  slab_machine m;
  kmem_cache& cache = m.make(64);
  constexpr size_t ring_size = 256, total = 30000;
  std::vector<std::atomic<void*>> ring(ring_size);
  std::thread consumer([&] {
    unpin();
    for (size_t i = 0; i < total; ++i) {
      void* p = nullptr;
      while ((p = ring[i % ring_size].exchange(nullptr, std::memory_order_acquire)) == nullptr) std::this_thread::yield();
      uint64_t value;
      std::memcpy(&value, p, 8);
      EXPECT_EQ(value, i);
      cache_free(*m, cache, p);
    }
  });
  for (uint64_t i = 0; i < total; ++i) {
    void* const p = cache_alloc(*m, cache, gfp::kernel);
    ASSERT_NE(p, nullptr);
    std::memcpy(p, &i, 8);
    while (ring[i % ring_size].load(std::memory_order_relaxed) != nullptr) std::this_thread::yield();
    ring[i % ring_size].store(p, std::memory_order_release);
  }
  consumer.join();
  EXPECT_EQ(m.info(cache).active, 0u);
  EXPECT_LT(m.info(cache).slabs, 40u);  // objects came round; the stream is 470 slabs long
  m.destroy(cache);
}

TEST(threads, caches_come_and_go_beside_each_other) {
  slab_machine m;
  std::vector<std::thread> workers;
  for (unsigned t = 0; t < nr_threads; ++t)
    workers.emplace_back([&, t] {
      unpin();
      for (int i = 0; i < 150; ++i) {
        kmem_cache* const cache =
            cache_create(*m, {.name = "passing",
                              .object_size = 64 + 8 * t,
                              .flags = i % 2 == 0 ? slab_flags_t::no_merge : slab_flags_t::none});
        ASSERT_NE(cache, nullptr);
        void* objects[20];
        ASSERT_EQ(cache_alloc_bulk(*m, *cache, gfp::kernel, 20, objects), 20u);
        cache_free_bulk(*m, *cache, 20, objects);
        ASSERT_EQ(cache_destroy(*m, cache), err::ok);
      }
    });
  for (int i = 0; i < 100; ++i) {
    drain_caches(*m, false);
    std::this_thread::yield();
  }
  for (std::thread& t : workers) t.join();
  m.check();
}

}  // namespace
}  // namespace kmem::testing
