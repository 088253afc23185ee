// What the main load does not reach: many CPUs, other zones and backings, a platform that refuses, waiting, lost wake-ups, losing a race.
#include <gtest/gtest.h>

#include <iterator>
#include <map>
#include <vector>

#include "page_alloc/internal.hpp"
#include "sim/exhausted.hpp"
#include "sim/scenario_world.hpp"

namespace kmem::sim_test {
namespace {

simulation::config cpus(int nr) {
  simulation::config knobs;
  knobs.nr_cpus = nr;
  knobs.signal_chance = 1;
  knobs.max_steps = 60'000'000;
  return knobs;
}

TEST(SimSpecial, TwoHundredAndFiftySixCpus) {
  coverage seen;
  load wanted;
  wanted.parameters = {"mem=24M"};
  wanted.nr_tasks = 24;
  wanted.rounds = 12;
  wanted.tight = 100;
  simulation::config knobs = cpus(256);
  knobs.migrate_chance = 100;
  expect_load_passes(wanted, knobs, 12, seen);
}

TEST(SimSpecial, ZonesOfAllKinds) {
  coverage seen;
  load wanted;
  wanted.parameters = {"mem=8M highmem=2M", "mem=8M highmem=1M movablecore=1M", "mem=8M zone_dma=3M zone_dma32=1M", "mem=6M zone_dma=4M",
                       "mem=8M zone_dma=1M highmem=2M vm.reserve_policy=linux6.1"};
  expect_load_passes(wanted, cpus(8), 80, seen);
  if (runs_few_seeds()) return;
  EXPECT_GT(seen.exact_nulls, 0u);
}

TEST(SimSpecial, FramesOfAMemfd) {
  coverage seen;
  load wanted;
  wanted.parameters = {"mem=6M backing=memfd", "mem=10M backing=memfd max_order=10"};
  expect_load_passes(wanted, cpus(8), 60, seen);
}

TEST(SimSpecial, APlatformThatRefusesNowAndThen) {
  coverage seen;
  load wanted;
  wanted.parameters = {"mem=6M", "mem=12M", "mem=8M backing=memfd"};
  wanted.platform_failures = 150;
  expect_load_passes(wanted, cpus(8), 80, seen);
  if (runs_few_seeds()) return;
  EXPECT_GT(seen.platform_failures, 0u);
}

TEST(SimSpecial, TasksThatWaitForMemory) {
  coverage seen;
  load wanted;
  wanted.parameters = {"mem=5M vm.alloc_wait_ms=1", "mem=6M vm.alloc_wait_ms=20"};
  wanted.tight = 100;
  wanted.waits = true;
  wanted.rounds = 25;
  expect_load_passes(wanted, cpus(8), 40, seen);
  if (runs_few_seeds()) return;
  EXPECT_GT(seen.waits, 0u);
}

TEST(SimSpecial, ManyTasksThatWantTheSameOnTwoCpus) {
  coverage seen;
  load wanted;
  wanted.parameters = {"mem=12M"};
  wanted.narrow = true;
  wanted.tight = 0;
  wanted.forks = 0;
  wanted.greed = 65;
  simulation::config knobs = cpus(2);
  knobs.signal_chance = 15;
  expect_load_passes(wanted, knobs, 150, seen);
  if (runs_few_seeds()) return;
  EXPECT_GT(seen.deferred, 0u);
}

/// Runs so long that each of them needs blocks that are not open yet. They are never written, so no memory is needed for them.
TEST(SimSpecial, SectionsAreOpenedOnce) {
  expect_seeds_pass(
      [](world& w) {
        auto& m = w.make<machine>();
        auto& got = w.make<std::map<uint32_t, page*>>();
        machine_config config;
        config.kswapd = kswapd_mode::off;  // unless a test asks for it
        config_error error;
        KMEM_SIM_CHECK(parse_config("mem=1G", config, error));
        config.cgroup = false;
        KMEM_SIM_CHECK(machine_init(m, config, error) == err::ok);
        for (int i = 0; i < 6; ++i)
          w.spawn("takes", [&] {
            for (int round = 0; round < 4; ++round) {
              const uint64_t n = pages_per_block * (1 + simulation::random(16));
              page* const p = alloc_run(m, gfp::kernel | gfp::nowarn, nr_pages_t(n));
              KMEM_SIM_CHECK(p != nullptr);
              const uint32_t first = m.pfn_of(p).raw();
              const auto after = got.lower_bound(first);
              KMEM_SIM_CHECK(after == got.end() || after->first >= first + n);
              KMEM_SIM_CHECK(after == got.begin() || std::prev(after)->first + run_pages(std::prev(after)->second).raw() <= first);
              got.emplace(first, p);
            }
          });
        w.at_end([&] {
          if (const char* const wrong = machine_is_valid(m)) fail_world(wrong);
          for (const auto& [first, p] : got) free_run(m, p);
          KMEM_SIM_CHECK(machine_destroy(m));
        });
      },
      cpus(4), 60);
}

// ---- a machine that cannot be made ---------------------------------------------------------------------------------------------------

unsigned calls_until_failure = 0;

bool fail_nth_call(simulation::platform_call, size_t) noexcept { return calls_until_failure != 0 && --calls_until_failure == 0; }

TEST(SimSpecial, AMachineThatCannotBeMadeLeavesNothing) {
  bool made = false;
  for (unsigned nth = 1; !made && nth < 200; ++nth) {
    const result r = run_seed(
        [&](world& w) {
          auto& m = w.make<machine>();
          machine_config config;
          config.kswapd = kswapd_mode::off;  // unless a test asks for it
          config_error error;
          KMEM_SIM_CHECK(parse_config("mem=6M cpus=2", config, error));
          config.cgroup = false;
          simulation::set_fail_hook(fail_nth_call);
          calls_until_failure = nth;
          const err first = machine_init(m, config, error);
          const bool reached = calls_until_failure == 0;
          calls_until_failure = 0;
          made = !reached;
          if (first != err::ok) {
            KMEM_SIM_CHECK(error.text[0] != '\0' && simulation::nr_areas() == 0);
            KMEM_SIM_CHECK(machine_init(m, config, error) == err::ok);
          }
          // Refused or not, the machine that there is now works.
          void* const p = kmalloc(m, 1000, gfp::kernel);
          KMEM_SIM_CHECK(p != nullptr);
          kfree(m, p);
          KMEM_SIM_CHECK(machine_destroy(m) && simulation::nr_areas() == 0);
        },
        nth);
    EXPECT_FALSE(r.failed) << "call number " << nth << ": " << r.why << r.output;
    if (r.failed) return;
  }
  EXPECT_TRUE(made) << "machine_init makes more platform calls than were tried";
}

// ---- waking ---------------------------------------------------------------------------------------------------------------------------

/// Nothing is left but the reserve, a stack without a lock. Pages come off it and go back as fast as tasks can; the one that was its head
/// often becomes it again, while the one below it is still out.
TEST(SimSpecial, PagesOfTheReserveHaveOneOwnerEach) {
  expect_seeds_pass(
      [](world& w) {
        auto& full = w.make<exhausted>(w, "mem=5M");
        auto& owned = w.make<std::map<uint32_t, int>>();
        machine& m = full.m;
        for (int i = 0; i < 4; ++i)
          w.spawn("pops", [&m, &owned, i] {
            page_stack& stack = m.zones[2].reserve;
            const auto pop = [&] {
              const pfn_t pfn = stack_pop(m, stack);
              if (!pfn.is_none()) KMEM_SIM_CHECK(owned.emplace(pfn.raw(), i).second);
              return pfn;
            };
            const auto push = [&](pfn_t pfn) {
              if (pfn.is_none()) return;
              KMEM_SIM_CHECK(owned.erase(pfn.raw()) == 1);
              stack_push(m, stack, pfn);
            };
            for (int round = 0; round < 40; ++round) {
              const pfn_t head = pop(), below = pop();
              push(head);
              if (page* const p = simulation::random(4) == 0 ? alloc_pages(m, gfp::atomic | gfp::nowarn, order_t(0)) : nullptr)
                free_pages(m, p, order_t(0));
              push(below);
            }
          });
        w.at_end([&full] {
          if (const char* const wrong = machine_is_valid(full.m)) fail_world(wrong);
          full.give_all();
          KMEM_SIM_CHECK(machine_destroy(full.m));
        });
      },
      cpus(4), 100);
}

TEST(SimSpecial, EveryFreeWakesWhoeverWaits) {
  for (const int how : {0, 1, 2, 3}) {  // a page, a block, objects, an area
    SCOPED_TRACE(how);
    simulation::config knobs = cpus(4);
    knobs.spurious_chance = 0;  // it must not live on them
    knobs.signal_chance = 0;
    expect_seeds_pass(
        [how](world& w) {
          auto& full = w.make<exhausted>(w, "mem=5M vm.alloc_wait_ms=20000");
          auto& freed_at_ns = w.make<uint64_t>(0u);
          machine& m = full.m;
          // What will be freed is set aside by giving pages back and taking them in the form wanted.
          auto& last = w.make<std::vector<void*>>();
          full.give_first(16);
          constexpr gfp_t mask = gfp::kernel | gfp::nowarn | gfp::noretry;
          if (how == 0) last.push_back(alloc_pages(m, mask, order_t(0)));
          if (how == 1) last.push_back(alloc_pages(m, mask, order_t(2)));
          if (how == 2)
            for (int i = 0; i < 8; ++i) last.push_back(kmalloc(m, 512, mask));
          if (how == 3) last.push_back(vmalloc(m, 2 * page_size, mask, nullptr));
          for (void* const one : last) KMEM_SIM_CHECK(one != nullptr);
          while (page* const p = alloc_pages(m, mask, order_t(0))) full.taken.push_back(p);
          w.spawn("waits", [&] {
            page* const p = alloc_pages(m, gfp::kernel | gfp::nowarn, order_t(0));
            KMEM_SIM_CHECK(p != nullptr);
            // Whoever sleeps looks again after a second at the latest: being served sooner means having been woken.
            KMEM_SIM_CHECK(freed_at_ns == 0 || plat::now_ns() - freed_at_ns < 500'000'000);
            full.taken.push_back(p);
          });
          w.spawn("frees", [&, how] {
            for (uint64_t pause = simulation::random(3000); pause != 0; --pause) plat::yield_point();
            freed_at_ns = plat::now_ns();
            if (how == 0) free_pages(m, static_cast<page*>(last[0]), order_t(0));
            if (how == 1) free_pages(m, static_cast<page*>(last[0]), order_t(2));
            if (how == 2)
              for (void* const one : last) kfree(m, one);
            if (how == 3) vfree(m, last[0]);
          });
          w.at_end([&] {
            full.give_all();
            KMEM_SIM_CHECK(machine_is_valid(m) == nullptr && machine_destroy(m));
          });
        },
        knobs, 60);
  }
}

// ---- losing a race ----------------------------------------------------------------------------------------------------------------------

/// Tasks that only allocate. Nobody frees anything, so once somebody got NULL, no allocation that begins later may succeed: its page was
/// there, in the zone or in some CPU's list, while the other one said that there was none.
TEST(SimSpecial, WhoeverOnlyLosesRacesGetsNoNull) {
  for (const gfp_t mask : {gfp::kernel, gfp::kernel | gfp::noretry}) {
    expect_seeds_pass(
        [mask](world& w) {
          auto& full = w.make<exhausted>(w, "mem=5M");
          auto& got = w.make<std::vector<page*>>();
          auto& first_null = w.make<uint64_t>(~uint64_t{0});  // when it was returned, in steps
          machine& m = full.m;
          full.give_first(20 + w.random(60));
          for (zone& z : m.zones) {  // lists that take much at once, as on a large machine
            z.cpu_batch = 16;
            z.cpu_high = 64;
          }
          for (int i = 0; i < 6; ++i)
            w.spawn("takes", [&, mask] {
              for (;;) {
                const uint64_t begun = simulation::steps();
                page* const p = alloc_pages(m, mask | gfp::nowarn, order_t(0));
                if (p == nullptr) break;
                got.push_back(p);
                if (begun > first_null) fail_world("a page was to be had, though somebody got NULL before and nothing was freed since");
              }
              if (simulation::steps() < first_null) first_null = simulation::steps();
            });
          w.at_end([&] {
            for (page* const one : got) free_pages(m, one, order_t(0));
            full.give_all();
            KMEM_SIM_CHECK(machine_is_valid(m) == nullptr && machine_destroy(m));
          });
        },
        cpus(8), 150);
  }
}

// ---- the checker
// --------------------------------------------------------------------------------------------------------------------------

TEST(SimSpecial, TheCheckerSeesWhatIsLeft) {
  const result r = run_seed(
      [](world& w) {
        auto& full = w.make<exhausted>(w, "mem=5M");
        machine& m = full.m;
        ask page_ask, block_ask, object_ask;
        page_ask.gfp = block_ask.gfp = object_ask.gfp = gfp::kernel;
        block_ask.pages = 8;
        object_ask.kind = ask::what::kmalloc_object;
        object_ask.size = 100;
        const auto sees = [&](ask asked, gfp_t mask) {
          simulation::run_alone(true);
          asked.gfp = mask;
          const bool left = !left_over(m, asked).empty();
          simulation::run_alone(false);
          return left;
        };
        // Nothing above min; the reserve for those who may.
        KMEM_SIM_CHECK(!sees(page_ask, gfp::kernel) && !sees(block_ask, gfp::kernel) && !sees(object_ask, gfp::kernel));
        KMEM_SIM_CHECK(sees(page_ask, gfp::atomic) && sees(object_ask, gfp::atomic) && sees(page_ask, gfp::kernel | gfp::high));
        KMEM_SIM_CHECK(!sees(page_ask, gfp::kernel | gfp::high | gfp::nomemalloc) && sees(page_ask, gfp::nowait | gfp::memalloc));
        std::vector<page*> reserve;
        while (page* const p = alloc_pages(m, gfp::atomic | gfp::nowarn, order_t(0))) reserve.push_back(p);
        KMEM_SIM_CHECK(!sees(page_ask, gfp::atomic) && !sees(object_ask, gfp::atomic) && sees(page_ask, gfp::nowait | gfp::memalloc));
        for (page* const p : reserve) free_pages(m, p, order_t(0));
        // One page in a CPU's list. Eight scattered ones are a block for whoever may block.
        free_pages(m, full.taken.back(), order_t(0));
        full.taken.pop_back();
        KMEM_SIM_CHECK(sees(page_ask, gfp::kernel) && sees(page_ask, gfp::nowait) && !sees(block_ask, gfp::kernel));
        for (size_t i = 0; i < 8; ++i) {
          const size_t at = i * 40;
          free_pages(m, full.taken[at], order_t(0));
          full.taken[at] = full.taken.back();
          full.taken.pop_back();
        }
        KMEM_SIM_CHECK(sees(block_ask, gfp::kernel) && !sees(block_ask, gfp::nowait));
        // A free object in an array, and a slab that only holds such.
        void* const object = kmalloc(m, 100, gfp::kernel);
        KMEM_SIM_CHECK(object != nullptr);
        while (page* const p = alloc_pages(m, gfp::kernel | gfp::nowarn | gfp::noretry, order_t(0))) full.taken.push_back(p);
        KMEM_SIM_CHECK(!sees(page_ask, gfp::kernel) && sees(object_ask, gfp::nowait));
        kfree(m, object);
        KMEM_SIM_CHECK(sees(page_ask, gfp::kernel) && sees(page_ask, gfp::nowait));
        full.give_all();
        KMEM_SIM_CHECK(machine_destroy(m));
      },
      1);
  EXPECT_FALSE(r.failed) << r.why << r.output;
}

}  // namespace
}  // namespace kmem::sim_test
