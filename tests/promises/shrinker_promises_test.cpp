// Promises about shrinkers and OOM notifiers: who is asked, for what, and when.
#include "promises/promise_machine.hpp"

namespace kmem {
namespace {

using test::promise_machine;

/// A cache of objects that can be done without, and what it was asked.
class object_cache {
 public:
  explicit object_cache(promise_machine& m, gfp_t needs = gfp::none) : m_(m) {
    shrinker_.count_objects = [](shrinker* self, shrink_control* control) noexcept -> uint64_t {
      auto& cache = *static_cast<object_cache*>(self->private_data);
      ++cache.counts;
      cache.mask = control->gfp;
      return cache.objects_.size();
    };
    shrinker_.scan_objects = [](shrinker* self, shrink_control* control) noexcept -> uint64_t {
      auto& cache = *static_cast<object_cache*>(self->private_data);
      ++cache.scans;
      if (cache.stops) return shrink_stop;
      uint64_t freed = 0;
      for (; freed < control->nr_to_scan && !cache.objects_.empty(); ++freed) {
        kfree(*cache.m_, cache.objects_.back());
        cache.objects_.pop_back();
      }
      return freed;
    };
    shrinker_.private_data = this;
    shrinker_.needs = needs;
    EXPECT_EQ(add_shrinker(*m, shrinker_), err::ok);
  }
  ~object_cache() {
    if (shrinker_.state != 0) remove_shrinker(*m_, shrinker_);
    for (void* const object : objects_) kfree(*m_, object);
  }
  object_cache(const object_cache&) = delete;
  object_cache& operator=(const object_cache&) = delete;
  /// Takes all memory that an ordinary request can have, without asking anybody for it.
  void fill() {
    const memalloc_noreclaim_scope scope;
    while (objects_.size() < most_) {
      void* const object = kmalloc(*m_, 1024, gfp::kernel | gfp::nomemalloc | gfp::nowarn);
      if (object == nullptr) break;
      objects_.push_back(object);
    }
  }
  size_t size() const { return objects_.size(); }
  shrinker& registered() { return shrinker_; }

  unsigned counts = 0, scans = 0;
  bool stops = false;
  gfp_t mask = gfp::none;

 private:
  static constexpr size_t most_ = 1 << 20;
  promise_machine& m_;
  shrinker shrinker_;
  std::vector<void*> objects_;
};

void expect_served(promise_machine& m, gfp_t mask) {
  page* const p = alloc_pages(*m, mask, order_t(0));
  EXPECT_NE(p, nullptr);
  if (p != nullptr) free_pages(*m, p, order_t(0));
}

// Promise: An allocation that may block is served from what shrinkers free, a share of their objects at a time.
TEST(Promises, ShrinkersGiveAShareBeforeAnAllocationFails) {
  promise_machine m("mem=16M");
  object_cache cache(m);
  cache.fill();
  const size_t full = cache.size();
  expect_served(m, gfp::kernel);
  EXPECT_LT(cache.size(), full);
  EXPECT_GT(cache.size(), full / 2);
}

// Promise: A shrinker that needs I/O or file systems is not asked by an allocation whose mask, or scope, does not permit them.
TEST(Promises, ShrinkersAreAskedOnlyForWhatTheMaskPermits) {
  promise_machine m("mem=16M");
  object_cache io(m, gfp::io), fs(m, gfp::fs);
  fs.fill();
  EXPECT_EQ(alloc_pages(*m, gfp::noio | gfp::nowarn, order_t(0)), nullptr);
  EXPECT_EQ(io.counts, 0u);
  EXPECT_EQ(alloc_pages(*m, gfp::nofs | gfp::nowarn, order_t(0)), nullptr);
  EXPECT_GT(io.counts, 0u);
  {
    const memalloc_nofs_scope scope;
    EXPECT_EQ(alloc_pages(*m, gfp::kernel | gfp::nowarn, order_t(0)), nullptr);
  }
  EXPECT_EQ(fs.counts, 0u);
  expect_served(m, gfp::kernel);
  EXPECT_GT(fs.counts, 0u);
}

// Promise: A shrinker is told the flags of the allocation that it is asked for.
TEST(Promises, ShrinkersAreToldTheMask) {
  promise_machine m("mem=16M");
  object_cache cache(m);
  cache.fill();
  expect_served(m, gfp::nofs | gfp::noretry);
  EXPECT_EQ(cache.mask, gfp::nofs | gfp::noretry);
}

// Promise: What was due but made no batch is asked for later.
TEST(Promises, WhatMadeNoBatchIsAskedForLater) {
  promise_machine m("mem=64M");
  object_cache cache(m);
  cache.fill();
  ASSERT_GT(cache.size(), size_t{1} << 15);
  const uint64_t count = cache.size(), rounds = 100, each = (count >> 12) * 4 / default_seeks;
  for (unsigned round = 0; round < rounds; ++round) run_shrinkers(*m, gfp::kernel, 12);
  ASSERT_EQ(cache.scans, 0u) << "what is due at this priority makes no batch";
  run_shrinkers(*m, gfp::kernel, 1);
  EXPECT_EQ(cache.scans, ((count >> 1) * 4 / default_seeks + (rounds * each >> 1)) / static_cast<uint64_t>(shrink_batch));
}

// Promise: A shrinker that says SHRINK_STOP is asked no further batch.
TEST(Promises, AShrinkerThatStopsIsLeftAlone) {
  promise_machine m("mem=16M");
  object_cache cache(m);
  cache.fill();
  cache.stops = true;
  run_shrinkers(*m, gfp::kernel, 0);
  EXPECT_EQ(cache.scans, 1u);
}

// Promise: unregister_shrinker returns when nobody is inside the shrinker, and not before.
TEST(Promises, UnregisteringAShrinkerWaitsUntilNobodyIsInside) {
  promise_machine m("mem=16M");
  std::atomic<bool> entered{false}, go{false}, removed{false}, was_removed{false};
  struct slow : shrinker {
    std::atomic<bool>*entered, *go, *removed, *was_removed;
  } s{};
  s.entered = &entered;
  s.go = &go;
  s.removed = &removed;
  s.was_removed = &was_removed;
  s.seeks = default_seeks;
  s.count_objects = [](shrinker*, shrink_control*) noexcept { return uint64_t{1000}; };
  s.scan_objects = [](shrinker* self, shrink_control*) noexcept {
    auto& me = *static_cast<slow*>(self);
    *me.entered = true;
    while (!*me.go) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    *me.was_removed = me.removed->load();
    return shrink_stop;
  };
  ASSERT_EQ(add_shrinker(*m, s), err::ok);
  std::thread runs([&] { run_shrinkers(*m, gfp::kernel, 0); });
  while (!entered) std::this_thread::yield();
  std::thread removes([&] {
    remove_shrinker(*m, s);
    removed = true;
  });
  go = true;
  runs.join();
  removes.join();
  EXPECT_FALSE(was_removed);
}

// Promise: OOM notifiers are asked after everything else, and only for an allocation that may call file systems or may not fail.
TEST(Promises, OomNotifiersAreAskedLast) {
  promise_machine m("mem=16M");
  object_cache cache(m);
  struct last : oom_notifier {
    promise_machine* m = nullptr;
    std::vector<page*> pages;
    unsigned calls = 0, shrinker_scans = 0;
    object_cache* cache = nullptr;
  } n;
  n.m = &m;
  n.cache = &cache;
  n.notify = [](oom_notifier* self) noexcept -> uint64_t {
    auto& me = *static_cast<last*>(self);
    ++me.calls;
    me.shrinker_scans = me.cache->counts;
    const uint64_t freed = me.pages.size();
    me.m->give(me.pages);
    return freed;
  };
  n.pages = m.take_all(gfp::kernel | gfp::noretry);
  ASSERT_EQ(add_oom_notifier(*m, n), err::ok);
  EXPECT_EQ(alloc_pages(*m, gfp::nofs | gfp::nowarn, order_t(0)), nullptr);
  EXPECT_EQ(n.calls, 0u);
  expect_served(m, gfp::kernel);
  EXPECT_EQ(n.calls, 1u);
  EXPECT_GT(n.shrinker_scans, 0u);
  remove_oom_notifier(*m, n);
  m.give(n.pages);
}

/// A shrinker that does something once each time it is asked to scan.
struct doing : shrinker {
  explicit doing(void (*what)(promise_machine& m), promise_machine& m) : machine_of(m), act(what) {
    count_objects = [](shrinker*, shrink_control*) noexcept { return uint64_t{1}; };
    scan_objects = [](shrinker* self, shrink_control*) noexcept {
      auto& me = *static_cast<doing*>(self);
      me.act(me.machine_of);
      return shrink_stop;
    };
    EXPECT_EQ(add_shrinker(*m, *this), err::ok);
  }
  ~doing() { remove_shrinker(*machine_of, *this); }
  promise_machine& machine_of;
  void (*act)(promise_machine& m);
};

// Promise: The reclaim checker reports file system work that is done while a thread reclaims without __GFP_FS, with both places.
TEST(Promises, TheCheckerReportsWorkThatTheMaskForbids) {
  promise_machine m("mem=16M vm.reclaim_checker=1");
  const doing writes([](promise_machine&) { const fs_work work; }, m);
  run_shrinkers(*m, gfp::kernel, 0);
  EXPECT_EQ(m.log(), "");
  run_shrinkers(*m, gfp::nofs, 0);
  EXPECT_NE(m.log().find("BUG: file system work in reclaim for GFP_NOFS"), std::string::npos) << m.log();
  EXPECT_NE(m.log().find("Reclaim was entered here:"), std::string::npos) << m.log();
}

// Promise: The reclaim checker reports file system work inside a nofs scope, with the place where the scope was entered.
TEST(Promises, TheCheckerReportsWorkInAScopeThatForbidsIt) {
  promise_machine m("mem=16M vm.reclaim_checker=1");
  {
    const memalloc_nofs_scope scope;
    const fs_work work;
  }
  EXPECT_NE(m.log().find("BUG: file system work inside a nofs scope"), std::string::npos) << m.log();
  EXPECT_NE(m.log().find("The scope was entered here:"), std::string::npos) << m.log();
}

// Promise: Reclaim is never entered inside reclaim, and the reclaim checker reports who tries, with both places.
TEST(Promises, ReclaimIsNeverEnteredInsideReclaim) {
  promise_machine m("mem=16M vm.reclaim_checker=1");
  static unsigned depth, deepest;
  depth = deepest = 0;
  const doing recursive(
      [](promise_machine& inside) {
        if (++depth > deepest) deepest = depth;
        if (depth < 3) run_shrinkers(*inside, gfp::kernel, 0);
        --depth;
      },
      m);
  run_shrinkers(*m, gfp::noio, 0);
  EXPECT_EQ(deepest, 1u);
  EXPECT_NE(m.log().find("BUG: reclaim recursion: GFP_KERNEL may reclaim, on a thread that reclaims for GFP_NOIO"), std::string::npos)
      << m.log();
  EXPECT_NE(m.log().find("The outer reclaim was entered here:"), std::string::npos) << m.log();
}

}  // namespace
}  // namespace kmem
