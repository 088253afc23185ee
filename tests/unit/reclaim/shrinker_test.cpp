// Shrinkers: the arithmetic against calls recorded in a real kernel, who is asked and who is not, coming and going, OOM notifiers.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "support/thread_sanitizer.hpp"
#include "unit/reclaim/machine_fixture.hpp"

namespace kmem {
namespace {

class shrinkers : public test::machine_fixture {};

/// A cache that answers as it is told and notes what it was asked.
struct scripted : shrinker {
  scripted() {
    count_objects = [](shrinker* self, shrink_control* control) noexcept { return static_cast<scripted*>(self)->on_count(*control); };
    scan_objects = [](shrinker* self, shrink_control* control) noexcept { return static_cast<scripted*>(self)->on_scan(*control); };
    name = "scripted";
  }
  uint64_t on_count(const shrink_control& control) {
    ++nr_counts;
    last_gfp = control.gfp;
    return objects == 0 && empty ? shrink_empty : objects;
  }
  uint64_t on_scan(shrink_control& control) {
    asked.push_back(control.nr_to_scan);
    if (stops) return shrink_stop;
    if (looks_at_less) control.nr_scanned = control.nr_to_scan / 2;
    if (inside) inside();
    const uint64_t freed = control.nr_to_scan < objects ? control.nr_to_scan : objects;
    objects -= freed;
    return freed;
  }
  uint64_t objects = 0;
  bool empty = false, stops = false, looks_at_less = false;
  unsigned nr_counts = 0;
  gfp_t last_gfp = gfp::none;
  std::vector<uint64_t> asked;
  std::function<void()> inside;
};

// ---- arithmetic -------------------------------------------------------------------------------------------------------------------------

/// Plays a recorded run: answers with what the recorded shrinker answered, and compares what it is asked.
struct recorded : shrinker {
  explicit recorded(const nlohmann::json& run) : calls(run.at("calls")) {
    seeks = run.at("seeks");
    batch = run.at("batch");
    count_objects = [](shrinker* self, shrink_control*) noexcept { return static_cast<recorded*>(self)->on_count(); };
    scan_objects = [](shrinker* self, shrink_control* control) noexcept { return static_cast<recorded*>(self)->on_scan(*control); };
  }
  uint64_t on_count() {
    if (in_count) {
      EXPECT_EQ(scans_left(), 0u) << "count " << at << ": scans fewer than recorded";
      ++at;
    }
    in_count = true;
    scan = used = 0;
    return at < calls.size() ? calls[at][0].get<uint64_t>() : 0;
  }
  uint64_t on_scan(const shrink_control& control) {
    const auto& scans = calls[at][1];
    while (scan < scans.size() && used == scans[scan][2].get<uint64_t>()) {
      ++scan;
      used = 0;
    }
    if (scan == scans.size()) {
      ended = true;
      return shrink_stop;
    }
    EXPECT_EQ(control.nr_to_scan, scans[scan][0].get<uint64_t>()) << "count " << at;
    ++used;
    ++nr_scans;
    const int64_t answer = scans[scan][1];
    return answer < 0 ? shrink_stop : static_cast<uint64_t>(answer);
  }
  uint64_t scans_left() const {
    uint64_t left = 0;
    const auto& scans = calls[at][1];
    for (size_t i = scan; i < scans.size(); ++i) left += scans[i][2].get<uint64_t>();
    return left - used;
  }
  const nlohmann::json& calls;
  size_t at = 0, scan = 0;
  uint64_t used = 0, nr_scans = 0;
  bool in_count = false, ended = false;
};

TEST_F(shrinkers, ask_what_a_real_kernel_was_seen_to_ask) {
  std::ifstream file(KMEM_TEST_DATA "/oracle-shrinker.jsonl");
  unsigned nr_runs = 0;
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json run = nlohmann::json::parse(line);
    SCOPED_TRACE(run.at("run").get<std::string>());
    ++nr_runs;
    start("mem=8M");
    recorded s(run);
    // What runs before it had left over. The first such one was not recorded to its end: the least that explains what followed.
    s.nr_deferred = run.at("deferred");
    ASSERT_EQ(add_shrinker(m(), s), err::ok);
    for (unsigned priority = 12; s.at + 1 < s.calls.size() || !s.in_count; --priority) {
      if (run.at("calls").empty()) break;
      run_shrinkers(m(), gfp::kernel, priority);
      ASSERT_FALSE(s.ended && s.at + 1 < s.calls.size()) << "count " << s.at << ": more scans than recorded";
      if (priority == 0) break;
    }
    if (!run.at("calls").empty()) {
      EXPECT_EQ(s.at + 1, s.calls.size());
      // Recordings that were full end in the middle of a priority.
      EXPECT_EQ(s.ended, run.at("cut").get<bool>());
      EXPECT_GT(s.nr_scans, 0u);
    }
    remove_shrinker(m(), s);
    TearDown();
  }
  EXPECT_EQ(nr_runs, 9u);
  start("mem=8M");
}

TEST_F(shrinkers, what_made_no_batch_is_carried_over) {
  start("mem=8M");
  scripted s;
  s.objects = 100'000;
  ASSERT_EQ(add_shrinker(m(), s), err::ok);
  run_shrinkers(m(), gfp::kernel, 12);  // 24 * 2 = 48
  EXPECT_EQ(s.nr_deferred, 48u);
  run_shrinkers(m(), gfp::kernel, 12);
  EXPECT_EQ(s.nr_deferred, 96u);
  EXPECT_TRUE(s.asked.empty());
  run_shrinkers(m(), gfp::kernel, 0);  // 96 + 200 000, at most twice the count
  EXPECT_EQ(s.asked.front(), 128u);
  remove_shrinker(m(), s);
}

TEST_F(shrinkers, stop_and_empty_end_it) {
  start("mem=8M");
  scripted s;
  s.objects = 10'000;
  s.stops = true;
  ASSERT_EQ(add_shrinker(m(), s), err::ok);
  EXPECT_EQ(run_shrinkers(m(), gfp::kernel, 0), 0u);
  EXPECT_EQ(s.asked.size(), 1u) << "no second batch after SHRINK_STOP";
  EXPECT_EQ(s.nr_deferred, 20'000u) << "all of it is still due";
  s.objects = 0;
  s.empty = true;
  EXPECT_EQ(run_shrinkers(m(), gfp::kernel, 0), 0u);
  EXPECT_EQ(s.asked.size(), 1u) << "no scan after SHRINK_EMPTY";
  EXPECT_EQ(s.nr_deferred, 20'000u);
  remove_shrinker(m(), s);
}

TEST_F(shrinkers, what_was_looked_at_counts_not_what_was_asked) {
  start("mem=8M");
  scripted s;
  s.objects = 1'000'000;
  s.looks_at_less = true;
  ASSERT_EQ(add_shrinker(m(), s), err::ok);
  const uint64_t before = m().stats.slabs_scanned.load_relaxed();
  run_shrinkers(m(), gfp::kernel, 10);  // 976 * 2 = 1952: 29 times 64 leave 96
  EXPECT_EQ(s.asked.size(), 29u);
  EXPECT_EQ(m().stats.slabs_scanned.load_relaxed() - before, 29u * 64u);
  EXPECT_EQ(s.nr_deferred, 1952u - 29u * 64u);
  remove_shrinker(m(), s);
}

// ---- who is asked ---------------------------------------------------------------------------------------------------------------------

TEST_F(shrinkers, wrong_ones_are_refused) {
  start("mem=8M");
  scripted good, no_count, no_scan, wrong_needs, wrong_seeks, wrong_batch;
  no_count.count_objects = nullptr;
  no_scan.scan_objects = nullptr;
  wrong_needs.needs = gfp::high;
  wrong_seeks.seeks = -1;
  wrong_batch.batch = -1;
  for (scripted* s : {&no_count, &no_scan, &wrong_needs, &wrong_seeks, &wrong_batch}) EXPECT_EQ(add_shrinker(m(), *s), err::inval);
  EXPECT_EQ(add_shrinker(m(), good), err::ok);
  EXPECT_EQ(add_shrinker(m(), good), err::exist);
  remove_shrinker(m(), good);
  EXPECT_EQ(log(), "");
  remove_shrinker(m(), good);
  EXPECT_NE(log().find("that is not registered (scripted)"), std::string::npos);
}

TEST_F(shrinkers, flags_decide_who_is_asked_and_are_passed_on) {
  start("mem=8M");
  scripted plain, io, fs;
  io.needs = gfp::io;
  fs.needs = gfp::io | gfp::fs;
  for (scripted* s : {&plain, &io, &fs}) {
    s->objects = 10;
    ASSERT_EQ(add_shrinker(m(), *s), err::ok);
  }
  run_shrinkers(m(), gfp::noio, 12);
  EXPECT_EQ(plain.nr_counts, 1u);
  EXPECT_EQ(io.nr_counts + fs.nr_counts, 0u);
  run_shrinkers(m(), gfp::nofs, 12);
  EXPECT_EQ(io.nr_counts, 1u);
  EXPECT_EQ(fs.nr_counts, 0u);
  run_shrinkers(m(), gfp::kernel | gfp::noretry, 12);
  EXPECT_EQ(fs.nr_counts, 1u);
  EXPECT_TRUE(has(fs.last_gfp, gfp::noretry)) << "the caller's own mask";
  for (scripted* s : {&plain, &io, &fs}) remove_shrinker(m(), *s);
}

TEST_F(shrinkers, nobody_is_asked_in_atomic_context) {
  start("mem=8M");
  scripted s;
  s.objects = 1000;
  ASSERT_EQ(add_shrinker(m(), s), err::ok);
  {
    const preempt_guard guard;
    run_shrinkers(m(), gfp::kernel, 0);
  }
  {
    const nest_guard guard;  // a handler that interrupted the allocator
    run_shrinkers(m(), gfp::kernel, 0);
  }
  EXPECT_EQ(s.nr_counts, 0u);
  remove_shrinker(m(), s);
}

/// Objects of a cache that can be done without.
struct object_store : shrinker {
  explicit object_store(machine& owner) : m(owner) {
    count_objects = [](shrinker* self, shrink_control*) noexcept { return uint64_t{static_cast<object_store*>(self)->objects.size()}; };
    scan_objects = [](shrinker* self, shrink_control* control) noexcept {
      auto& store = *static_cast<object_store*>(self);
      uint64_t freed = 0;
      for (; freed < control->nr_to_scan && !store.objects.empty(); ++freed) {
        kfree(store.m, store.objects.back());
        store.objects.pop_back();
      }
      return freed;
    };
  }
  void fill() {
    while (void* const p = kmalloc(m, 1024, gfp::kernel | gfp::nowarn | gfp::noretry)) objects.push_back(p);
  }
  machine& m;
  std::vector<void*> objects;
};

TEST_F(shrinkers, an_allocation_is_served_from_what_they_free) {
  start("mem=8M");
  object_store store(m());
  store.fill();
  const size_t full = store.objects.size();
  ASSERT_EQ(alloc_pages(m(), gfp::kernel | gfp::nowarn, order_t(0)), nullptr);
  ASSERT_EQ(add_shrinker(m(), store), err::ok);
  EXPECT_EQ(alloc_pages(m(), gfp::nowait | gfp::nowarn, order_t(0)), nullptr) << "who may not block asks no shrinker";
  EXPECT_EQ(store.objects.size(), full);
  page* const p = alloc_pages(m(), gfp::kernel | gfp::noretry, order_t(0));
  ASSERT_NE(p, nullptr);
  EXPECT_LT(store.objects.size(), full);
  EXPECT_GT(store.objects.size(), full / 2) << "a share, not everything";
  free_pages(m(), p, order_t(0));
  remove_shrinker(m(), store);
  for (void* const object : store.objects) kfree(m(), object);
}

// Pages that come free and are gone again must not pass for enough.
TEST_F(shrinkers, what_counts_is_what_is_free_not_what_was_freed) {
  start("mem=8M");
  std::vector<page*> held;
  while (page* const p = alloc_pages(m(), gfp::kernel | gfp::nowarn | gfp::noretry, order_t(0))) held.push_back(p);
  scripted busy;  // needs pages for a moment, and frees nothing that counts
  busy.objects = 1 << 20;
  busy.inside = [&] {
    for (unsigned i = 0; i < 4; ++i)
      if (page* const p = alloc_pages(m(), gfp::kernel | gfp::nowarn, order_t(0))) free_pages(m(), p, order_t(0));
  };
  ASSERT_EQ(add_shrinker(m(), busy), err::ok);
  scripted late;  // so few that only later priorities come to them
  late.objects = 600;
  late.inside = [&] {
    for (unsigned i = 0; i < 8 && !held.empty(); ++i, held.pop_back()) free_pages(m(), held.back(), order_t(0));
  };
  ASSERT_EQ(add_shrinker(m(), late), err::ok);
  page* const p = alloc_pages(m(), gfp::kernel | gfp::noretry, order_t(0));
  EXPECT_NE(p, nullptr);
  if (p != nullptr) free_pages(m(), p, order_t(0));
  EXPECT_FALSE(late.asked.empty());
  remove_shrinker(m(), late);
  remove_shrinker(m(), busy);
  for (page* const each : held) free_pages(m(), each, order_t(0));
}

TEST_F(shrinkers, reclaim_is_not_entered_twice_and_the_checker_says_so) {
  start("mem=8M vm.reclaim_checker=1");
  scripted s;
  s.objects = 128;
  bool inner = false;
  s.inside = [&] {
    if (std::exchange(inner, true)) return;
    EXPECT_EQ(run_shrinkers(m(), gfp::nofs, 0), 0u);
    const std::string text = log();
    EXPECT_NE(text.find("BUG: reclaim recursion: GFP_NOFS may reclaim, on a thread that reclaims for GFP_KERNEL"), std::string::npos)
        << text;
    EXPECT_NE(text.find("The outer reclaim was entered here:"), std::string::npos) << text;
    reset_context_rules();
    const uint32_t saved = current().memalloc_scopes;
    memalloc_restore(scope_noreclaim, 0);  // what nobody may do
    page* const p = alloc_pages(m(), gfp::kernel, order_t(0));
    current().memalloc_scopes = saved;
    if (p != nullptr) free_pages(m(), p, order_t(0));
    EXPECT_NE(log().find("GFP_KERNEL may reclaim, on a thread that reclaims for GFP_KERNEL"), std::string::npos);
  };
  ASSERT_EQ(add_shrinker(m(), s), err::ok);
  EXPECT_EQ(run_shrinkers(m(), gfp::kernel, 0), 128u);
  EXPECT_TRUE(inner);
  EXPECT_EQ(s.nr_counts, 1u);
  remove_shrinker(m(), s);
}

TEST_F(shrinkers, work_in_one_is_checked_against_the_mask) {
  start("mem=8M vm.reclaim_checker=1");
  scripted s;
  s.objects = 128;
  s.inside = [] { const fs_work work; };
  ASSERT_EQ(add_shrinker(m(), s), err::ok);
  run_shrinkers(m(), gfp::kernel, 0);
  EXPECT_EQ(log(), "");
  s.objects = 128;
  run_shrinkers(m(), gfp::nofs, 0);
  const std::string text = log();
  EXPECT_NE(text.find("BUG: file system work in reclaim for GFP_NOFS, without __GFP_FS"), std::string::npos) << text;
  EXPECT_NE(text.find("Reclaim was entered here:"), std::string::npos) << text;
  remove_shrinker(m(), s);
}

// ---- coming and going -------------------------------------------------------------

TEST_F(shrinkers, one_may_register_another_and_allocate_inside) {
  start("mem=8M");
  scripted outer, inner;
  outer.objects = 128;
  inner.objects = 1;
  void* kept = nullptr;
  outer.inside = [&] {
    if (kept != nullptr) return;
    EXPECT_EQ(add_shrinker(m(), inner), err::ok);
    kept = kmalloc(m(), 100, gfp::kernel);
    EXPECT_FALSE(may_block(current_gfp(gfp::kernel))) << "no reclaim inside reclaim";
  };
  ASSERT_EQ(add_shrinker(m(), outer), err::ok);
  run_shrinkers(m(), gfp::kernel, 0);
  EXPECT_EQ(inner.nr_counts, 1u) << "on the list while it is gone through";
  kfree(m(), kept);
  remove_shrinker(m(), inner);
  remove_shrinker(m(), outer);
}

TEST_F(shrinkers, one_that_removes_itself_from_inside_is_told_so) {
  start("mem=8M");
  scripted s;
  s.objects = 128;
  s.inside = [&] { remove_shrinker(m(), s); };
  ASSERT_EQ(add_shrinker(m(), s), err::ok);
  run_shrinkers(m(), gfp::kernel, 0);
  EXPECT_NE(log().find("unregisters itself from inside"), std::string::npos);
  s.inside = nullptr;
  remove_shrinker(m(), s);
}

TEST_F(shrinkers, removal_waits_until_nobody_is_inside) {
  start("mem=8M");
  scripted s;
  s.objects = 128;
  std::atomic<bool> entered{false}, go{false}, gone{false};
  s.inside = [&] {
    entered = true;
    while (!go) std::this_thread::yield();
    EXPECT_FALSE(gone) << "unregistered while a thread is inside";
  };
  ASSERT_EQ(add_shrinker(m(), s), err::ok);
  std::thread runs([&] { run_shrinkers(m(), gfp::kernel, 0); });
  while (!entered) std::this_thread::yield();
  std::thread removes([&] {
    remove_shrinker(m(), s);
    gone = true;
  });
  const auto is_leaving = [&] {
    const lock_guard lock(m().shrinkers.lock);
    return s.state == 2;
  };
  while (!is_leaving()) std::this_thread::yield();
  scripted other;
  ASSERT_EQ(add_shrinker(m(), other), err::ok);
  run_shrinkers(m(), gfp::kernel, 0);
  EXPECT_EQ(other.nr_counts, 1u) << "others go on meanwhile";
  EXPECT_EQ(s.nr_counts, 1u) << "a leaving one is not entered any more";
  go = true;
  runs.join();
  removes.join();
  remove_shrinker(m(), other);
}

TEST_F(shrinkers, come_and_go_while_many_threads_reclaim) {
  start("mem=8M");
  constexpr unsigned nr_threads = 3, rounds = 300;
  std::atomic<uint64_t> entered{0};
  struct guarded : shrinker {
    std::atomic<bool> alive{false};
    std::atomic<uint64_t>* entered = nullptr;
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < nr_threads; ++i)
    threads.emplace_back([&] {
      for (unsigned round = 0; round < rounds; ++round) {
        guarded s;
        s.entered = &entered;
        s.count_objects = [](shrinker* self, shrink_control*) noexcept {
          EXPECT_TRUE(static_cast<guarded*>(self)->alive);
          return uint64_t{200};
        };
        s.scan_objects = [](shrinker* self, shrink_control* control) noexcept {
          EXPECT_TRUE(static_cast<guarded*>(self)->alive);
          ++*static_cast<guarded*>(self)->entered;
          return control->nr_to_scan;
        };
        s.alive = true;
        EXPECT_EQ(add_shrinker(m(), s), err::ok);
        run_shrinkers(m(), gfp::kernel, round % 3);
        remove_shrinker(m(), s);
        s.alive = false;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(entered, uint64_t{nr_threads} * rounds);
  EXPECT_EQ(machine_is_valid(m()), nullptr);
}

#if !KMEM_UNDER_TSAN  // which permits no fork with threads
TEST_F(shrinkers, a_child_forgets_what_other_threads_ran) {
  start("mem=8M");
  scripted s;
  s.objects = 128;
  std::atomic<bool> entered{false}, go{false};
  s.inside = [&] {
    entered = true;
    while (!go) std::this_thread::yield();
  };
  ASSERT_EQ(add_shrinker(m(), s), err::ok);
  std::thread runs([&] { run_shrinkers(m(), gfp::kernel, 0); });
  while (!entered) std::this_thread::yield();
  machine_fork_prepare(m());
  const pid_t child = fork();
  if (child == 0) {
    machine_fork_child(m());
    remove_shrinker(m(), s);  // waits for nobody
    _exit(machine_is_valid(m()) == nullptr ? 0 : 1);
  }
  machine_fork_parent(m());
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  go = true;
  runs.join();
  remove_shrinker(m(), s);
}
#endif

// ---- OOM notifiers -----------------------------------------------------------------

struct last_resort : oom_notifier {
  explicit last_resort(machine& owner) : m(owner) {
    notify = [](oom_notifier* self) noexcept -> uint64_t {
      auto& resort = *static_cast<last_resort*>(self);
      ++resort.calls;
      resort.shrinker_asked_before = resort.before != nullptr && resort.before->nr_counts != 0;
      const uint64_t n = resort.pages.size();
      for (page* const p : resort.pages) free_pages(resort.m, p, order_t(0));
      resort.pages.clear();
      return n;
    };
  }
  machine& m;
  scripted* before = nullptr;
  bool shrinker_asked_before = false;
  unsigned calls = 0;
  std::vector<page*> pages;
};

TEST_F(shrinkers, oom_notifiers_are_asked_last) {
  start("mem=8M");
  last_resort resort(m());
  scripted nothing;
  resort.before = &nothing;
  while (page* const p = alloc_pages(m(), gfp::kernel | gfp::nowarn | gfp::noretry, order_t(0))) resort.pages.push_back(p);
  ASSERT_EQ(add_shrinker(m(), nothing), err::ok);
  ASSERT_EQ(add_oom_notifier(m(), resort), err::ok);
  EXPECT_EQ(alloc_pages(m(), gfp::nofs | gfp::nowarn, order_t(0)), nullptr) << "not for who may not call file systems";
  EXPECT_EQ(resort.calls, 0u);
  page* const p = alloc_pages(m(), gfp::kernel, order_t(0));
  EXPECT_NE(p, nullptr);
  EXPECT_EQ(resort.calls, 1u);
  EXPECT_TRUE(resort.shrinker_asked_before);
  if (p != nullptr) free_pages(m(), p, order_t(0));
  remove_oom_notifier(m(), resort);
  remove_shrinker(m(), nothing);
  last_resort without(m());
  without.notify = nullptr;
  EXPECT_EQ(add_oom_notifier(m(), without), err::inval);
}

}  // namespace
}  // namespace kmem
