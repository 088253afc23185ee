// Wake-ups and what is deferred, one step of the protocol at a time: few tasks, small worlds, many seeds.
//
// Nobody wakes for no reason here, and the clock hardly moves while somebody can run: who is served later than `soon_ns` after the memory
// was freed was not woken, but looked again when its time was over.
#include <gtest/gtest.h>

#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/exhausted.hpp"
#include "sim/scenario_shadow.hpp"
#include "slab/internal.hpp"

namespace kmem::sim_test {
namespace {

constexpr uint64_t soon_ns = 15'000'000;  // less than whoever could give pages back sleeps at a time
constexpr gfp_t quick = gfp::kernel | gfp::nowarn | gfp::noretry;
constexpr const char* patient = "mem=5M vm.alloc_wait_ms=20000";

simulation::config knobs_of(int nr_cpus, uint32_t signal_chance = 0) {
  simulation::config knobs;
  knobs.nr_cpus = nr_cpus;
  knobs.spurious_chance = 0;
  knobs.signal_chance = signal_chance;
  knobs.max_steps = 60'000'000;
  return knobs;
}

void pause(uint64_t most) {
  for (uint64_t n = simulation::random(most); n != 0; --n) plat::yield_point();
}

int nr_queued(machine& m) KMEM_NO_ANALYSIS {
  int n = 0;
  for (const waiter* one = m.queue.first; one != nullptr; one = one->next) ++n;
  return n;
}
void wait_until_queued(machine& m, int n) {
  while (nr_queued(m) < n) plat::relax(1);
}
void wait_until_asleep(machine& m, const std::vector<int>& tasks) {
  wait_until_queued(m, static_cast<int>(tasks.size()));
  for (const int task : tasks)
    while (simulation::sleeps_on(task) == nullptr) plat::relax(1);
}

/// A world of tasks that wait, and what they have got.
struct waiting_world {
  waiting_world(world& w, const char* parameters, gfp_t all = quick) : full(w.make<exhausted>(w, parameters)), m(full.m) {
    while (page* const p = alloc_pages(m, all | gfp::nowarn | gfp::noretry, order_t(0))) full.taken.push_back(p);
    w.at_end([this] {
      for (const auto& [p, order] : got) free_pages(m, p, order_t(order));
      full.give_all();
      if (const char* const wrong = machine_is_valid(m)) fail_world(wrong);
      KMEM_SIM_CHECK(machine_destroy(m));
    });
  }
  /// Waits for a block; must have it soon after the last free.
  void want(gfp_t mask, unsigned order) {
    page* const p = alloc_pages(m, mask | gfp::nowarn, order_t(order));
    if (p == nullptr) fail_world("NULL, though what it wants was freed");
    if (freed_at_ns != 0 && plat::now_ns() > freed_at_ns + soon_ns) fail_world("nobody woke a waiter that there was something for");
    got.emplace_back(p, order);
  }
  void free(page* p, unsigned order) {
    freed_at_ns = plat::now_ns();
    free_pages(m, p, order_t(order));
    freed_at_ns = plat::now_ns();
  }
  /// A block out of the pages that are taken.
  page* block(unsigned order) {
    const size_t n = size_t{2} << order;  // neighbours, most of them
    full.give_first(n);
    page* const p = alloc_pages(m, quick, order_t(order));
    KMEM_SIM_CHECK(p != nullptr);
    while (page* const one = alloc_pages(m, quick, order_t(0))) full.taken.push_back(one);
    return p;
  }

  exhausted& full;
  machine& m;
  std::vector<std::pair<page*, unsigned>> got;
  uint64_t freed_at_ns = 0;
};

TEST(SimWait, WhoIsRefusedLetsThoseBehindHaveTheTurn) {
  expect_seeds_pass(
      [](world& w) {
        auto& all = w.make<waiting_world>(w, patient);
        auto& large = w.make<page*>(all.block(3));
        auto& tasks = w.make<std::vector<int>>();
        tasks.push_back(w.spawn("large", [&all] { all.want(gfp::kernel, 3); }));
        tasks.push_back(w.spawn("small", [&all] {
          wait_until_queued(all.m, 1);
          all.want(gfp::kernel, 0);
        }));
        w.spawn("frees", [&all, &large, &tasks] {
          wait_until_asleep(all.m, tasks);
          page* const one = all.full.taken.back();
          all.full.taken.pop_back();
          all.free(one, 0);
          while (all.got.empty()) plat::relax(1);
          all.free(large, 3);
        });
      },
      knobs_of(4), 60);
}

TEST(SimWait, WhoIsServedLetsTheNextHaveTheTurn) {
  expect_seeds_pass(
      [](world& w) {
        auto& all = w.make<waiting_world>(w, patient);
        auto& block = w.make<page*>(all.block(2));
        for (int i = 0; i < 4; ++i) w.spawn("wants", [&all] { all.want(gfp::kernel, 0); });
        w.spawn("frees", [&all, &block] {
          wait_until_queued(all.m, 4);
          pause(400);
          all.free(block, 2);  // one free for all four
        });
      },
      knobs_of(4), 60);
}

/// One CPU, and a task that keeps the other one from it as soon as its sleep is over: at any point of what the other one does.
void spawn_urgent(world& w, uint64_t most_ns, std::function<void()> body) {
  const int task = w.spawn("urgent", [most_ns, body = std::move(body)] {
    uint32_t nobody = 0;
    plat::futex_wait(&nobody, 0, 1 + simulation::random(most_ns));
    body();
  });
  simulation::set_realtime(task);
}
simulation::config one_cpu() {
  simulation::config knobs = knobs_of(1);
  knobs.switch_chance = 900;
  return knobs;
}

/// Something is freed, wholly, at any moment at which somebody is about to sleep: a page for a CPU's list, or a block for the zone.
TEST(SimWait, AFreeIsHeardWheneverItComes) {
  expect_seeds_pass(
      [](world& w) {
        auto& all = w.make<waiting_world>(w, patient);
        const unsigned order = w.random(2) == 0 ? 0 : nr_cpu_list_orders;
        page* const last = all.block(order);
        spawn_urgent(w, 130'000, [&all, last, order] { all.free(last, order); });
        w.spawn("wants", [&all] { all.want(gfp::kernel, 0); });
      },
      one_cpu(), 1000);
}

/// Somebody asks, finds nothing and falls asleep at any moment in the middle of a free: to the reserve, without a lock, for one who may
/// have that, or of a page or a block.
TEST(SimWait, WhoFallsAsleepInTheMiddleOfAFreeIsWoken) {
  for (const gfp_t mask : {gfp::kernel | gfp::high, gfp::kernel}) {
    expect_seeds_pass(
        [mask](world& w) {
          auto& all = w.make<waiting_world>(w, patient, mask);
          page* last = all.full.taken.front();  // of NORMAL
          all.full.taken.erase(all.full.taken.begin());
          const unsigned order = mask == gfp::kernel && w.random(2) != 0 ? nr_cpu_list_orders : 0;
          if (order != 0) {
            all.full.taken.push_back(last);
            last = all.block(order);
          }
          spawn_urgent(w, 6'000, [&all, mask] { all.want(mask, 0); });
          w.spawn("frees", [&all, last, order] { all.free(last, order); });
        },
        one_cpu(), 200);
  }
}

/// A handler interrupts a thread that holds the lock of the queue, and frees: the wake-up is left to that thread.
TEST(SimWait, AFreeInAHandlerWhileTheQueueIsLockedIsHeard) {
  expect_seeds_pass(
      [](world& w) {
        auto& all = w.make<waiting_world>(w, patient);
        machine& m = all.m;
        all.full.give_all();
        auto& low = w.make<page*>(alloc_pages(m, quick | gfp::dma, order_t(0)));
        KMEM_SIM_CHECK(low != nullptr);
        for (const gfp_t zone : {gfp::none, gfp::dma})
          while (page* const p = alloc_pages(m, quick | zone, order_t(0))) all.full.taken.push_back(p);
        auto& task = w.make<int>(-1);
        task = w.spawn("wants", [&all] { all.want(gfp::kernel, 0); });
        w.set_handler(task, [&all, &task] {
          if (all.freed_at_ns != 0 || current().depth == 0 || !all.m.queue.lock.is_locked()) return;
          simulation::set_handler(task, nullptr, nullptr);  // or it would wake the sleeper again and again
          const hardirq_guard interrupt;
          page* const one = all.full.taken.front();
          all.full.taken.erase(all.full.taken.begin());
          all.free(one, 0);
        });
        // Turns in vain: a page of a zone that keeps its last ones from the waiter.
        w.spawn("frees", [&all, &m, &low] {
          wait_until_queued(m, 1);
          while (all.got.empty() && all.freed_at_ns == 0) {
            free_pages(m, low, order_t(0));
            low = nullptr;
            while (low == nullptr && all.got.empty()) low = alloc_pages(m, gfp::nowait | gfp::dma | gfp::nowarn, order_t(0));
            pause(300);
          }
          if (low != nullptr) all.full.taken.push_back(low);
        });
      },
      knobs_of(4, 30), 200);
}

/// Objects are deferred by handlers while their thread, or another one, takes the list back.
TEST(SimSlab, WhatIsDeferredIsTakenBackOnce) {
  expect_seeds_pass(
      [](world& w) {
        auto& full = w.make<exhausted>(w, "mem=5M");
        machine& m = full.m;
        full.give_all();
        kmem_cache* const cache = cache_create(m, {.name = "sim_deferred", .object_size = 64, .flags = slab_flags_t::no_merge});
        KMEM_SIM_CHECK(cache != nullptr);
        for (int i = 0; i < 3; ++i) {
          auto& mine = w.make<std::vector<void*>>();
          auto& of_handler = w.make<std::vector<void*>>();
          for (int n = 0; n < 24; ++n) {
            void* const object = cache_alloc(m, *cache, gfp::kernel);
            KMEM_SIM_CHECK(object != nullptr);
            (n % 2 == 0 ? mine : of_handler).push_back(object);
          }
          const int task = w.spawn("frees", [&m, cache, &mine, &of_handler] {
            for (int round = 0; round < 40; ++round) {
              object_batch batch;  // has room for what is written too much
              if (!mine.empty()) {
                put_to_slabs(m, *cache, &mine.back(), 1);
                mine.pop_back();
              }
              if (take_from_slabs(m, *cache, batch, 1) == 1) (simulation::random(3) == 0 ? mine : of_handler).push_back(batch[0]);
            }
          });
          w.set_handler(task, [&m, cache, &of_handler] {
            if (of_handler.empty() || current().depth == 0) return;
            const hardirq_guard interrupt;
            void* const object = of_handler.back();
            of_handler.pop_back();
            put_to_slabs(m, *cache, &object, 1);
          });
          w.at_end([&m, cache, &mine, &of_handler] {
            for (std::vector<void*>* const left : {&mine, &of_handler})
              for (void*& object : *left) put_to_slabs(m, *cache, &object, 1);
          });
        }
        w.at_end([&m, cache] {
          drain_caches(m, true);
          cache_info info;
          for (unsigned i = 0; read_cache_info(m, i, info); ++i)
            if (std::string_view(info.name) == "sim_deferred" && info.active != 0) fail_world("an object that was freed is lost");
          if (cache_destroy(m, cache) != err::ok) fail_world("a cache could not be destroyed at the end");
          if (const char* const wrong = machine_is_valid(m)) fail_world(wrong);
          KMEM_SIM_CHECK(machine_destroy(m));
        });
      },
      knobs_of(2, 60), 60);
}

}  // namespace
}  // namespace kmem::sim_test
