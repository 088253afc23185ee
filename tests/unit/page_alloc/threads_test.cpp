// Real threads on one machine: nothing is handed out twice, nothing is lost, every page comes back.
#include <atomic>
#include <mutex>
#include <random>
#include <thread>

#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::small_config;
using testing::test_machine;

/// Pages that one thread allocates and another one frees.
class exchange {
 public:
  void put(page* p) {
    const std::lock_guard guard(mutex_);
    pages_.push_back(p);
  }
  page* get() {
    const std::lock_guard guard(mutex_);
    if (pages_.empty()) return nullptr;
    page* const p = pages_.back();
    pages_.pop_back();
    return p;
  }

 private:
  std::mutex mutex_;
  std::vector<page*> pages_;
};

/// Marks the pages of a block as its own; whoever frees it looks whether they still are.
void mark(test_machine& m, page* p) {
  for (uint64_t i = 0; i < run_pages(p).raw(); ++i) std::memcpy(m.address(p) + (i << page_shift), &p, sizeof p);
}
bool is_marked(test_machine& m, page* p) {
  for (uint64_t i = 0; i < run_pages(p).raw(); ++i) {
    page* there = nullptr;
    std::memcpy(&there, m.address(p) + (i << page_shift), sizeof there);
    if (there != p) return false;
  }
  return true;
}

void work(test_machine& m, exchange& shared, unsigned seed, unsigned rounds, std::atomic<unsigned>& damaged) {
  std::mt19937 engine(seed);
  const auto random = [&] { return static_cast<unsigned>(engine()); };
  static const gfp_t masks[] = {gfp::kernel, gfp::atomic, gfp::nowait | gfp::movable, gfp::kernel | gfp::comp, gfp::user | gfp::noretry};
  for (unsigned i = 0; i < rounds; ++i) {
    const unsigned draw = random() % 100;
    if (draw < 48) {
      const unsigned order = draw % 8 == 0 ? random() % 10 : random() % 4;
      page* const p = alloc_pages(*m, masks[random() % std::size(masks)] | gfp::nowarn, order_t(order));
      if (p != nullptr) {
        mark(m, p);
        shared.put(p);
      }
    } else if (draw < 52) {
      page* const p = alloc_run(*m, gfp::kernel | gfp::nowarn, nr_pages_t(1 + random() % 800));
      if (p != nullptr) {
        mark(m, p);
        shared.put(p);
      }
    } else if (draw < 97) {
      page* const p = shared.get();
      if (p == nullptr) continue;
      if (!is_marked(m, p)) ++damaged;
      put_page(*m, p);
    } else if (draw == 97) {
      give_back(*m, random() % 3000, random() % 2 != 0);
    } else if (draw == 98) {
      drain_cpu_pages(*m, random() % 2 != 0);
    } else {
      zone_snapshot s;
      snapshot_zone(*m, zone_idx::normal, s);
      if (s.committed > s.managed) ++damaged;
    }
  }
}

void run_threads(const machine_config& config, unsigned rounds) {
  test_machine m(config);
  exchange shared;
  std::atomic<unsigned> damaged{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) threads.emplace_back([&, t] { work(m, shared, t + 1, rounds, damaged); });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(damaged, 0u);
  m.check();
  while (page* const p = shared.get()) put_page(*m, p);
  drain_cpu_pages(*m, true);
  refill_reserve(*m);
  EXPECT_EQ(free_pages_total(*m) + m->memalloc_pool.nr_pages.load_relaxed(), [&] {
    uint64_t managed = 0;
    for (const zone& z : m->zones) managed += z.managed.load_relaxed();
    return managed;
  }());
}

TEST(page_alloc_threads, with_room) { run_threads(small_config(), 4000); }

TEST(page_alloc_threads, at_the_limit) { run_threads(small_config(uint64_t{6} << 20), 4000); }

TEST(page_alloc_threads, on_one_cpu_list) {
  machine_config config = small_config(uint64_t{16} << 20);
  config.cpus = 1;
  config.zone_highmem = uint64_t{2} << 20;
  run_threads(config, 4000);
}

}  // namespace
}  // namespace kmem
