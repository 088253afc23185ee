#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/single_threaded.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "machine_fixture.hpp"
#include "support/thread_sanitizer.hpp"

namespace kmem {
namespace {

/// A cache of the test's: pages that a callback gives back, or not.
struct hoard {
  machine* m = nullptr;
  std::mutex lock;
  std::vector<page*> pages;
  std::atomic<unsigned> calls{0}, calls_by_kswapd{0};
  std::atomic<uint64_t> given{0};
  std::atomic<bool> generous{true};
  std::atomic<uint64_t> extra{0};  // pages given beyond what is asked for
  std::atomic<bool> signals_blocked{true};

  static uint64_t drop(void* context, gfp_t gfp, uint64_t nr_pages) noexcept {
    auto& self = *static_cast<hoard*>(context);
    char name[16];
    plat::thread_name(name, sizeof name);
    ++self.calls;
    if (std::string(name) == "kswapd0") {
      ++self.calls_by_kswapd;
      EXPECT_EQ(gfp, gfp::kernel);
      EXPECT_NE(current().memalloc_scopes & scope_noreclaim, 0u);
      sigset_t blocked;
      pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
      if (sigismember(&blocked, SIGTERM) != 1) self.signals_blocked = false;
    }
    if (!self.generous) return 0;
    const std::lock_guard<std::mutex> hold(self.lock);
    uint64_t freed = 0;
    for (; freed < nr_pages + self.extra && !self.pages.empty(); ++freed) {
      free_pages(*self.m, self.pages.back(), order_t(0));
      self.pages.pop_back();
    }
    self.given += freed;
    return freed;
  }
  void add(page* p) {
    const std::lock_guard<std::mutex> hold(lock);
    pages.push_back(p);
  }
};

class kswapd_test : public test::machine_fixture {
 protected:
  void start_with_hoard(const char* parameters) {
    start(parameters);
    hoard_.m = &m();
    number_ = register_callback(m(), {&hoard_, hoard::drop, gfp::none});
    ASSERT_GE(number_, 0);
  }
  void TearDown() override {
    if (number_ >= 0) unregister_callback(m(), number_);
    kswapd_stop(m());
    for (page* p : hoard_.pages) free_pages(m(), p, order_t(0));
    machine_fixture::TearDown();
  }
  /// Takes pages for the hoard until no zone is above its low watermark, so that the next request wakes kswapd.
  void go_below_low() {
    while (some_zone_above(m(), watermark::low, 1, zone_idx::normal)) {
      page* const p = alloc_pages(m(), gfp::memalloc | gfp::nowarn, order_t(0));  // neither wakes nor reclaims
      ASSERT_NE(p, nullptr);
      hoard_.add(p);
    }
  }
  static void wait_for(auto&& condition) {
    while (!condition()) std::this_thread::yield();
  }
  bool sleeps() { return m().kswapd.word.load_relaxed() == 0; }
  bool runs() { return m().kswapd.life.load_acquire() == kswapd_life::running; }
  hoard& caches() { return hoard_; }

 private:
  hoard hoard_;
  int number_ = -1;
};

TEST_F(kswapd_test, wakes_at_low_and_stops_at_high) {
  start_with_hoard("mem=32M vm.kswapd=1");
  while (some_zone_above(m(), watermark::low, 2, zone_idx::normal)) {
    page* const p = alloc_pages(m(), gfp::kernel, order_t(0));
    ASSERT_NE(p, nullptr);
    caches().add(p);
  }
  EXPECT_FALSE(runs()) << "above low nobody needs it";
  EXPECT_EQ(caches().calls, 0u);
  for (int i = 0; i < 2; ++i) caches().add(alloc_pages(m(), gfp::kernel, order_t(0)));
  wait_for([&] { return runs() && caches().calls_by_kswapd != 0 && sleeps(); });
  EXPECT_LE(pages_missing(m(), watermark::high, zone_idx::normal), 2u);  // two pages may have gone since
  // No more than it was short of, give or take what is asked for at least.
  uint64_t gap = 0;
  for (const zone& z : m().zones) gap += z.watermarks[2] - z.watermarks[1];
  EXPECT_LE(caches().given, gap + 64);
  EXPECT_TRUE(caches().signals_blocked);
  EXPECT_GE(m().kswapd.pageoutrun.load_relaxed(), 1u);
  EXPECT_GE(m().kswapd.pgsteal_kswapd.load_relaxed(), caches().given);
  EXPECT_EQ(m().kswapd.wakes.load_relaxed(), 1u);
  EXPECT_EQ(m().kswapd.surrenders.load_relaxed(), 0u);
  const uint64_t slept = kswapd_slept_ns(m());
  wait_for([&] { return kswapd_slept_ns(m()) > slept; });
}

TEST_F(kswapd_test, requests_that_may_not_wait_wake_it_but_do_not_start_it) {
  start_with_hoard("mem=32M vm.kswapd=1");
  go_below_low();
  page* p = alloc_pages(m(), gfp::atomic, order_t(0));
  caches().add(p);
  EXPECT_FALSE(runs());
  preempt_count_add(preempt_unit);
  caches().add(alloc_pages(m(), gfp::nowait, order_t(0)));
  preempt_count_sub(preempt_unit);
  EXPECT_FALSE(runs());
  caches().add(alloc_pages(m(), gfp::kernel, order_t(0)));
  EXPECT_TRUE(runs());
  wait_for([&] { return sleeps() && some_zone_above(m(), watermark::high, 1, zone_idx::normal); });
  const uint64_t rounds = m().kswapd.pageoutrun.load_relaxed();
  go_below_low();
  caches().add(alloc_pages(m(), gfp::atomic, order_t(0)));
  wait_for([&] {
    return m().kswapd.pageoutrun.load_relaxed() > rounds && sleeps() && some_zone_above(m(), watermark::high, 1, zone_idx::normal);
  });
}

TEST_F(kswapd_test, gives_up_after_sixteen_rounds_and_tries_again_after_a_free) {
  start_with_hoard("mem=32M vm.kswapd=1");
  caches().generous = false;
  go_below_low();
  page* p = alloc_pages(m(), gfp::kernel | gfp::noretry, order_t(0));
  wait_for([&] { return m().kswapd.hopeless.load_acquire() != 0 && sleeps(); });
  EXPECT_EQ(m().kswapd.pageoutrun.load_relaxed(), kswapd_rounds);
  const unsigned calls = caches().calls_by_kswapd;
  EXPECT_EQ(calls, kswapd_rounds * 12);  // at each priority once
  EXPECT_EQ(m().kswapd.vain_rounds.load_relaxed(), kswapd_rounds);
  EXPECT_EQ(m().kswapd.surrenders.load_relaxed(), 1u);
  EXPECT_EQ(m().kswapd.wakes.load_relaxed(), 1u);
  // Requests alone are no reason to try again.
  std::vector<page*> more;
  for (int i = 0; i < 20; ++i) more.push_back(alloc_pages(m(), gfp::nowait, order_t(0)));
  EXPECT_EQ(caches().calls_by_kswapd, calls);
  EXPECT_EQ(m().kswapd.pageoutrun.load_relaxed(), kswapd_rounds);
  // A free is.
  ASSERT_NE(p, nullptr);
  free_pages(m(), p, order_t(0));
  p = alloc_pages(m(), gfp::nowait, order_t(0));
  wait_for([&] { return m().kswapd.pageoutrun.load_relaxed() > kswapd_rounds && sleeps(); });
  EXPECT_EQ(m().kswapd.pageoutrun.load_relaxed(), kswapd_rounds + 1) << "one round for a free";
  EXPECT_EQ(m().kswapd.vain_rounds.load_relaxed(), kswapd_rounds + 1);
  EXPECT_EQ(m().kswapd.surrenders.load_relaxed(), 2u);
  EXPECT_EQ(m().kswapd.wakes.load_relaxed(), 2u);
  EXPECT_NE(m().kswapd.hopeless.load_acquire(), 0u);
  // And when there is something to get, it gets it.
  caches().generous = true;
  ASSERT_NE(p, nullptr);
  free_pages(m(), p, order_t(0));
  p = alloc_pages(m(), gfp::nowait, order_t(0));
  wait_for([&] { return some_zone_above(m(), watermark::high, 1, zone_idx::normal) && sleeps(); });
  EXPECT_EQ(m().kswapd.hopeless.load_acquire(), 0u);
  if (p != nullptr) free_pages(m(), p, order_t(0));
  for (page* q : more)
    if (q != nullptr) free_pages(m(), q, order_t(0));
}

TEST_F(kswapd_test, a_shrinker_that_frees_only_what_it_allocates_itself_is_no_progress) {
  static machine* owner;
  static std::atomic<unsigned> scans;
  start_with_hoard("mem=32M vm.kswapd=1");
  owner = &m();
  scans = 0;
  shrinker churning;
  churning.count_objects = [](shrinker*, shrink_control*) noexcept -> uint64_t { return 100'000; };
  churning.scan_objects = [](shrinker*, shrink_control*) noexcept -> uint64_t {
    ++scans;
    if (page* const own = alloc_pages(*owner, gfp::kernel | gfp::nowarn, order_t(0))) free_pages(*owner, own, order_t(0));
    return 0;
  };
  ASSERT_EQ(add_shrinker(m(), churning), err::ok);
  caches().generous = false;
  go_below_low();
  page* const p = alloc_pages(m(), gfp::kernel | gfp::noretry, order_t(0));
  wait_for([&] { return m().kswapd.surrenders.load_relaxed() != 0; });
  EXPECT_GE(m().kswapd.vain_rounds.load_relaxed(), kswapd_rounds);
  EXPECT_GT(scans, 0u);
  remove_shrinker(m(), churning);
  if (p != nullptr) free_pages(m(), p, order_t(0));
}

TEST_F(kswapd_test, fills_the_reserves_again) {
  start_with_hoard("mem=32M vm.kswapd=1");
  go_below_low();
  caches().add(alloc_pages(m(), gfp::kernel, order_t(0)));
  wait_for([&] { return runs() && caches().calls_by_kswapd != 0 && sleeps(); });
  caches().generous = false;
  std::vector<page*> burst;
  while (page* const p = alloc_pages(m(), gfp::memalloc | gfp::nowarn, order_t(0))) burst.push_back(p);
  zone& z = m().zones[2];
  ASSERT_EQ(z.reserve.nr_pages.load_relaxed(), 0u);
  ASSERT_EQ(m().memalloc_pool.nr_pages.load_relaxed(), 0u);
  for (page* p : burst) caches().add(p);
  caches().extra = 500;  // zone DMA may be the one that is above high
  caches().generous = true;
  page* const p = alloc_pages(m(), gfp::nowait | gfp::nowarn, order_t(0));  // fills nothing itself, but wakes kswapd
  if (p != nullptr) caches().add(p);
  wait_for([&] { return sleeps() && some_zone_above(m(), watermark::high, 1, zone_idx::normal); });
  EXPECT_EQ(z.reserve.nr_pages.load_relaxed(), z.reserve_target.load_relaxed());
  EXPECT_EQ(m().memalloc_pool.nr_pages.load_relaxed(), m().memalloc_pool_target);
}

// A burst of atomic requests has left nothing: before an ordinary one finds a page, all of min must be there again.
TEST_F(kswapd_test, a_request_that_reclaims_itself_makes_up_for_what_is_missing_to_min) {
  start_with_hoard("mem=32M vm.kswapd=0");
  caches().generous = false;
  while (page* const p = alloc_pages(m(), gfp::atomic | gfp::nowarn, order_t(0))) caches().add(p);
  caches().generous = true;
  page* const p = alloc_pages(m(), gfp::kernel | gfp::noretry, order_t(0));
  EXPECT_NE(p, nullptr);
  if (p != nullptr) caches().add(p);
  EXPECT_FALSE(some_zone_above(m(), watermark::high, 1, zone_idx::normal)) << "no more than that";
}

TEST_F(kswapd_test, makes_room_for_blocks_that_atomic_requests_ask_for) {
  start_with_hoard("mem=32M vm.kswapd=1");
  // All memory backed and free in scattered pages.
  std::vector<page*> all;
  while (page* const p = alloc_pages(m(), gfp::nowait | gfp::nowarn, order_t(0))) all.push_back(p);
  for (page* p : all) caches().add(p);
  caches().add(alloc_pages(m(), gfp::kernel, order_t(0)));
  wait_for([&] { return runs() && sleeps(); });
  go_below_low();
  const uint64_t rounds = m().kswapd.pageoutrun.load_relaxed();
  page* block = alloc_pages(m(), gfp::atomic | gfp::nowarn, order_t(4));  // may fail; kswapd knows now
  wait_for([&] { return m().kswapd.pageoutrun.load_relaxed() > rounds && sleeps(); });
  if (block != nullptr) free_pages(m(), block, order_t(4));
  block = alloc_pages(m(), gfp::atomic | gfp::nowarn, order_t(4));
  EXPECT_NE(block, nullptr);
  free_pages(m(), block, order_t(4));
}

TEST_F(kswapd_test, is_off_when_it_is_off) {
  start_with_hoard("mem=32M vm.kswapd=0");
  go_below_low();
  caches().add(alloc_pages(m(), gfp::kernel, order_t(0)));
  EXPECT_FALSE(m().has_kswapd);
  EXPECT_FALSE(runs());
  EXPECT_EQ(caches().calls, 0u);
}

TEST_F(kswapd_test, a_process_with_one_thread_stays_so_unless_it_was_stated) {
  start_with_hoard("mem=32M vm.kswapd=0");
  // In a child that has never made a thread.
  const pid_t child = fork();
  if (child == 0) {
    auto& is_single = *reinterpret_cast<char*>(&__libc_single_threaded);
    is_single = 1;
    auto* const one = new machine;
    config_error error;
    if (machine_init(*one, test::config_of("mem=16M vm.kswapd=auto"), error) != err::ok) _exit(2);
    while (some_zone_above(*one, watermark::low, 1, zone_idx::normal)) (void)alloc_pages(*one, gfp::memalloc | gfp::nowarn, order_t(0));
    (void)alloc_pages(*one, gfp::kernel | gfp::noretry | gfp::nowarn, order_t(0));
    if (one->kswapd.life.load_acquire() != kswapd_life::none) _exit(3);
    is_single = 0;
    (void)alloc_pages(*one, gfp::kernel | gfp::noretry | gfp::nowarn, order_t(0));
    _exit(one->kswapd.life.load_acquire() == kswapd_life::running ? 0 : 4);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST_F(kswapd_test, starts_again_in_the_child_of_a_fork) {
  start_with_hoard("mem=32M vm.kswapd=1");
  go_below_low();
  caches().add(alloc_pages(m(), gfp::kernel, order_t(0)));
  wait_for([&] { return runs() && sleeps(); });
  machine_fork_prepare(m());
  const pid_t child = fork();
  if (child == 0) {
    machine_fork_child(m());
    if (runs() || plat::nr_service_threads() != 0) _exit(2);
#if !KMEM_UNDER_TSAN  // whose run time refuses threads there
    const unsigned before = caches().calls_by_kswapd;
    go_below_low();
    caches().add(alloc_pages(m(), gfp::kernel, order_t(0)));
    if (!runs()) _exit(3);
    wait_for([&] { return caches().calls_by_kswapd > before && sleeps(); });
#endif
    kswapd_stop(m());
    _exit(machine_is_valid(m()) == nullptr ? 0 : 4);
  }
  machine_fork_parent(m());
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_TRUE(runs());
}

TEST_F(kswapd_test, a_refused_thread_is_reported_and_does_no_harm) {
  start_with_hoard("mem=32M vm.kswapd=1");
  go_below_low();
  std::thread([&] {
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_NPROC, &before), 0);
    rlimit none = before;
    none.rlim_cur = 0;
    ASSERT_EQ(geteuid() == 0 ? syscall(SYS_setresuid, 65534, 65534, 65534) : 0, 0);  // root is exempt; only this thread changes
    ASSERT_EQ(setrlimit(RLIMIT_NPROC, &none), 0);
    for (int i = 0; i < 3; ++i) {
      page* const p = alloc_pages(m(), gfp::kernel, order_t(0));
      EXPECT_NE(p, nullptr);
      caches().add(p);
    }
    setrlimit(RLIMIT_NPROC, &before);
  }).join();
  EXPECT_FALSE(runs());
  const std::string text = log();
  EXPECT_NE(text.find("refuses a thread for kswapd"), std::string::npos) << text;
  EXPECT_EQ(text.find("refuses"), text.rfind("refuses")) << "once";
  m().kswapd.start_after_ns.store_relaxed(0);
  caches().add(alloc_pages(m(), gfp::kernel, order_t(0)));
  EXPECT_TRUE(runs());
}

TEST_F(kswapd_test, many_threads_under_pressure) {
  start_with_hoard("mem=32M vm.kswapd=1 vm.alloc_wait_ms=1000");
  std::vector<std::thread> threads;
  std::atomic<unsigned> failures{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 6000; ++i) {
        page* const p = alloc_pages(m(), i % 8 == 0 ? gfp::atomic | gfp::nowarn : gfp::kernel, order_t(0));
        if (p != nullptr)
          caches().add(p);
        else if (i % 8 != 0)
          ++failures;
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(failures, 0u);
  EXPECT_GT(caches().calls_by_kswapd, 0u);
  const char* const damage = (kswapd_stop(m()), machine_is_valid(m()));
  EXPECT_EQ(damage, nullptr) << damage;
}

TEST_F(kswapd_test, ends_and_starts_again) {
  start_with_hoard("mem=32M vm.kswapd=1");
  for (int round = 0; round < 5; ++round) {
    go_below_low();
    caches().add(alloc_pages(m(), gfp::kernel, order_t(0)));
    EXPECT_TRUE(runs());
    kswapd_stop(m());  // asleep, about to sleep or at work
    EXPECT_FALSE(runs());
    EXPECT_EQ(plat::nr_service_threads(), 0u);
  }
  kswapd_stop(m());
}

TEST_F(kswapd_test, may_be_ended_by_several_at_once) {
  start_with_hoard("mem=32M vm.kswapd=1");
  for (int round = 0; round < 20; ++round) {
    go_below_low();
    caches().add(alloc_pages(m(), gfp::kernel, order_t(0)));
    EXPECT_TRUE(runs());
    std::vector<std::thread> threads;
    std::atomic<int> still_running{0};
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        kswapd_stop(m());
        if (m().kswapd.life.load_acquire() != kswapd_life::none) ++still_running;
      });
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(still_running, 0);
    EXPECT_EQ(plat::nr_service_threads(), 0u);
  }
}

}  // namespace
}  // namespace kmem
