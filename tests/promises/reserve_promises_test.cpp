// Promises about what is kept for bad times: mempools, reservations, the reserve of atomic requests, and kswapd, which sees to it.
#include <cstring>

#include "promises/promise_machine.hpp"

namespace kmem {
namespace {

using test::promise_machine;

/// Waits for another thread to do something; that it takes long says nothing, that it never comes does.
bool eventually(auto&& condition) {
  for (int ms = 0; ms < 10'000; ++ms) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

/// Pages that a callback gives back when it is asked, as a cache of the program's would.
class giving_cache {
 public:
  explicit giving_cache(promise_machine& m) : m_(m), number_(register_callback(*m, {this, drop, gfp::none})) { EXPECT_GE(number_, 0); }
  ~giving_cache() {
    unregister_callback(*m_, number_);
    kswapd_stop(*m_);
    m_.give(pages_);
  }
  giving_cache(const giving_cache&) = delete;
  giving_cache& operator=(const giving_cache&) = delete;

  void add(page* p) {
    if (p == nullptr) return;
    const std::lock_guard<std::mutex> hold(lock_);
    pages_.push_back(p);
  }
  /// Takes pages until no zone is above its low watermark, in a way that wakes nobody.
  void fill_below_low() {
    while (some_zone_above(*m_, watermark::low, 1, zone_idx::normal))
      add(alloc_pages(*m_, gfp::memalloc | gfp::nowarn, order_t(0)));
  }
  void set_generous(bool generous) { generous_ = generous; }
  /// Gives no more than this many pages at a time.
  void set_most(uint64_t most) { most_ = most; }
  uint64_t given() const { return given_; }
  unsigned asked() const { return asked_; }

 private:
  static uint64_t drop(void* context, gfp_t, uint64_t nr_pages) noexcept {
    auto& self = *static_cast<giving_cache*>(context);
    ++self.asked_;
    if (!self.generous_) return 0;
    const std::lock_guard<std::mutex> hold(self.lock_);
    uint64_t freed = 0;
    for (; freed < nr_pages && freed < self.most_ && !self.pages_.empty(); ++freed) {
      free_pages(*self.m_, self.pages_.back(), order_t(0));
      self.pages_.pop_back();
    }
    self.given_ += freed;
    return freed;
  }

  promise_machine& m_;
  std::mutex lock_;
  std::vector<page*> pages_;
  std::atomic<bool> generous_{true};
  std::atomic<uint64_t> given_{0}, most_{~uint64_t{0}};
  std::atomic<unsigned> asked_{0};
  const int number_;
};

bool kswapd_sleeps(promise_machine& m) {
  return m->kswapd.life.load_acquire() == kswapd_life::running && m->kswapd.word.load_relaxed() == 0;  // pairs: kswapd_life
}

// ---- mempools and reservations ----------------------------------------------------------------------------------------------------

// Promise: A mempool never fails for a mask that may block, however little memory there is: it waits for one of the elements that were
// set aside.
TEST(Promises, AMempoolNeverFailsForAMaskThatMayBlock) {
  promise_machine m("mem=16M");
  mempool_source source;
  source.kind = mempool_kind::kmalloc;
  source.size = 3000;
  mempool* const pool = mempool_create(*m, source, 2, gfp::kernel);
  ASSERT_NE(pool, nullptr);
  std::vector<page*> all = m.take_all(gfp::atomic);
  std::vector<void*> objects;
  while (void* const object = kmalloc(*m, 3000, gfp::atomic | gfp::nowarn)) objects.push_back(object);
  // More users than elements, and no memory anywhere: each of them gets through.
  std::atomic<unsigned> served{0}, failed{0};
  std::vector<std::thread> users;
  for (int i = 0; i < 5; ++i)
    users.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        void* const element = mempool_alloc(*pool, gfp::noio);
        ++(element != nullptr ? served : failed);
        if (element == nullptr) continue;
        memset(element, 1, 3000);
        std::this_thread::yield();
        mempool_free(*pool, element);
      }
    });
  for (std::thread& user : users) user.join();
  EXPECT_EQ(served, 100u);
  EXPECT_EQ(failed, 0u);
  for (void* object : objects) kfree(*m, object);
  m.give(all);
  mempool_destroy(*pool);
}

// Promise: What comes back to a mempool is set aside again before anything is freed.
TEST(Promises, WhatComesBackToAMempoolIsSetAsideFirst) {
  promise_machine m("mem=16M");
  mempool_source source;
  source.kind = mempool_kind::kmalloc;
  source.size = 3000;
  mempool* const pool = mempool_create(*m, source, 3, gfp::kernel);
  ASSERT_NE(pool, nullptr);
  void* taken[3];
  {
    const fail_nth_scope nothing_else(1, true);
    for (void*& element : taken) ASSERT_NE(element = mempool_alloc(*pool, gfp::atomic), nullptr);
    EXPECT_EQ(mempool_alloc(*pool, gfp::atomic), nullptr);
    for (void* element : taken) mempool_free(*pool, element);
    for (void*& element : taken) ASSERT_NE(element = mempool_alloc(*pool, gfp::atomic), nullptr);
    for (void* element : taken) mempool_free(*pool, element);
  }
  mempool_destroy(*pool);
}

// Promise: A reservation of n objects cannot fail n times, in any context, whatever else happens; what is not used goes back.
TEST(Promises, AReservationCannotFail) {
  promise_machine m("mem=16M");
  kmem_cache* const cache = cache_create(*m, {.name = "promised", .object_size = 500, .flags = slab_flags_t::no_merge});
  ASSERT_NE(cache, nullptr);
  slab_sheaf* const sheaf = sheaf_prefill(*m, *cache, gfp::kernel, 70);
  ASSERT_NE(sheaf, nullptr);
  std::vector<page*> all = m.take_all(gfp::atomic);
  void* objects[69];
  {
    const fail_nth_scope nothing_else(1, true);
    const nest_guard interrupted;
    const preempt_guard atomic;
    for (void*& object : objects) {
      object = sheaf_alloc(*sheaf, gfp::none);
      ASSERT_NE(object, nullptr) << &object - objects;
      memset(object, 7, 500);
    }
  }
  cache_free_bulk(*m, *cache, 69, objects);
  sheaf_return(sheaf);
  m.give(all);
  EXPECT_EQ(cache_destroy(*m, cache), err::ok) << "the seventieth went back";
}

// ---- the reserve ------------------------------------------------------------------------------------------------------------------

// Promise: After a burst of atomic requests the reserve comes back, backed, from the first pages that are freed.
TEST(Promises, TheReserveComesBackAfterABurst) {
  for (const char* parameters : {"mem=16M", "mem=16M vm.reserve_policy=linux6.1"}) {
    promise_machine m(parameters);
    zone& z = m->zones[2];
    const uint64_t before = z.reserve.nr_pages.load_relaxed();
    ASSERT_GT(before, 50u);
    std::vector<page*> burst = m.take_all(gfp::memalloc);
    ASSERT_EQ(z.reserve.nr_pages.load_relaxed(), 0u);
    while (burst.size() > 10) {
      free_pages(*m, burst.back(), order_t(0));
      burst.pop_back();
    }
    EXPECT_EQ(z.reserve.nr_pages.load_relaxed(), before) << parameters;
    EXPECT_LE(m.take_all(gfp::nowait, 1).size(), 1u);
    m.give(burst);
  }
}

/// Atomic requests in a handler that interrupted the allocator: the free areas are not to be had, so that the reserve has to do.
std::vector<page*> burst_in_a_handler(machine& on) KMEM_NO_ANALYSIS {
  std::vector<page*> burst;
  const nest_guard interrupted;
  zone& normal = on.zones[static_cast<unsigned>(zone_idx::normal)];
  EXPECT_TRUE(normal.lock.try_lock());
  {
    const hardirq_guard handler;
    while (page* const p = alloc_pages(on, gfp::atomic | gfp::nowarn, order_t(0))) burst.push_back(p);
  }
  normal.lock.unlock();
  return burst;
}

// Promise: A reserve of which only a part is backed grows, up to min, when atomic requests empty it, and shrinks again when they do not
// need it.
TEST(Promises, AReserveGrowsWithNeedAndShrinksWithoutIt) {
  for (const char* parameters : {"mem=16M vm.reserve_backed_kbytes=64", "mem=16M vm.reserve_backed_kbytes=64 vm.reserve_policy=linux6.1"}) {
    promise_machine m(parameters);
    zone& z = m->zones[2];
    const uint64_t base = z.reserve.nr_pages.load_relaxed(), min = z.watermarks[0];
    ASSERT_LT(base * 4, min);
    for (int round = 0; round < 10; ++round) {
      std::vector<page*> burst = burst_in_a_handler(*m);
      m.give(burst);
      drain_cpu_pages(*m, true);
      refill_reserve(*m);
    }
    EXPECT_EQ(z.reserve.nr_pages.load_relaxed(), min) << parameters;
    uint64_t now = 1'000'000'000;
    for (int round = 0; round < 20; ++round) decay_reserves(*m, now += reserve_decay_after_ns);
    EXPECT_EQ(z.reserve.nr_pages.load_relaxed(), base) << parameters;
  }
}

// ---- kswapd -----------------------------------------------------------------------------------------------------------------------

// Promise: kswapd wakes when memory is below the low watermark and reclaims until it is above high, so that no allocation has to.
TEST(Promises, KswapdWakesAtLowAndStopsAtHigh) {
  promise_machine m("mem=32M vm.kswapd=1");
  giving_cache cache(m);
  while (some_zone_above(*m, watermark::low, 2, zone_idx::normal)) cache.add(alloc_pages(*m, gfp::kernel, order_t(0)));
  EXPECT_EQ(cache.asked(), 0u) << "above low it is left alone";
  cache.set_most(4);  // so that it is seen where it stops
  for (int i = 0; i < 3; ++i) cache.add(alloc_pages(*m, gfp::kernel, order_t(0)));
  EXPECT_TRUE(eventually([&] { return kswapd_sleeps(m) && cache.asked() != 0; }));
  EXPECT_LE(pages_missing(*m, watermark::high, zone_idx::normal), 3u) << "three pages may have gone since";
  const uint64_t given = cache.given();
  EXPECT_LT(given, 500u) << "and no further";
  page_alloc_totals totals{};
  page_alloc_read_totals(*m, totals);
  EXPECT_EQ(totals.pgreclaimed, 0u) << "nobody else had to";
}

// Promise: kswapd gives up after 16 rounds in a row that freed nothing, and tries again when somebody has freed a page.
TEST(Promises, KswapdGivesUpAndTriesAgainAfterAFree) {
  promise_machine m("mem=32M vm.kswapd=1");
  giving_cache cache(m);
  cache.set_generous(false);
  cache.fill_below_low();
  page* p = alloc_pages(*m, gfp::kernel, order_t(0));
  page* q = alloc_pages(*m, gfp::kernel, order_t(0));
  ASSERT_TRUE(p != nullptr && q != nullptr);
  ASSERT_TRUE(eventually([&] { return kswapd_sleeps(m) && m->kswapd.hopeless.load_acquire() != 0; }));  // pairs: kswapd_hopeless
  EXPECT_EQ(m->kswapd.pageoutrun.load_relaxed(), 16u);
  const unsigned asked = cache.asked();
  for (int i = 0; i < 5; ++i) cache.add(alloc_pages(*m, gfp::nowait | gfp::nowarn, order_t(0)));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(cache.asked(), asked) << "requests are no news";
  cache.set_generous(true);
  free_pages(*m, p, order_t(0));
  cache.add(alloc_pages(*m, gfp::nowait | gfp::nowarn, order_t(0)));
  EXPECT_TRUE(eventually([&] { return some_zone_above(*m, watermark::high, 1, zone_idx::normal); }));
  cache.add(q);
}

// Promise: kswapd fills the reserve and the reclaimers' pool again, though nobody else asks for it.
TEST(Promises, KswapdFillsTheReservesAgain) {
  promise_machine m("mem=32M vm.kswapd=1");
  giving_cache cache(m);
  cache.fill_below_low();
  cache.add(alloc_pages(*m, gfp::kernel, order_t(0)));
  ASSERT_TRUE(eventually([&] { return kswapd_sleeps(m); }));
  std::vector<page*> burst = m.take_all(gfp::memalloc);
  ASSERT_EQ(m->memalloc_pool.nr_pages.load_relaxed(), 0u);
  // Enough comes back for a zone to be above high, and a request that fills nothing itself wakes kswapd.
  while (burst.size() > 600) {
    cache.add(burst.back());
    burst.pop_back();
  }
  free_pages(*m, burst.back(), order_t(0));  // it may have given up during the burst
  burst.pop_back();
  EXPECT_TRUE(eventually([&] {
    // Whoever allocates while memory is short keeps it awake.
    cache.add(alloc_pages(*m, gfp::nowait | gfp::nowarn, order_t(0)));
    return m->memalloc_pool.nr_pages.load_relaxed() == m->memalloc_pool_target;
  }));
  m.give(burst);
}

}  // namespace
}  // namespace kmem
