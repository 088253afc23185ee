// Mempools under every interleaving that seeds find: nobody fails or waits though he need not, nothing is lost, handlers included.
#include <gtest/gtest.h>

#include "reclaim/reclaim.hpp"
#include "sim/sim_driver.hpp"

namespace kmem::sim_test {
namespace {

constexpr uint64_t ns_per_second = 1'000'000'000;

/// A source of numbered elements that can be dry; no memory is behind them.
struct numbers {
  static constexpr unsigned most = 64;
  atomic<uint32_t> made{0}, freed{0}, dry{0};
  atomic<uint32_t> owners[most + 1];

  static void* alloc(gfp_t, void* data) noexcept {
    auto& self = *static_cast<numbers*>(data);
    if (self.dry.load_relaxed() != 0 || self.made.load_relaxed() >= most) return nullptr;
    return reinterpret_cast<void*>(uintptr_t{self.made.fetch_add_relaxed(1)} + 1);
  }
  static void free(void*, void* data) noexcept { static_cast<numbers*>(data)->freed.fetch_add_relaxed(1); }
  void hold(void* element) { KMEM_SIM_CHECK(owners[reinterpret_cast<uintptr_t>(element)].fetch_add_relaxed(1) == 0); }
  void release(void* element) { KMEM_SIM_CHECK(owners[reinterpret_cast<uintptr_t>(element)].fetch_sub_relaxed(1) == 1); }
};

struct pool_world {
  machine m;
  numbers source;
  mempool* pool = nullptr;

  void start(uint32_t min_nr) {
    machine_config config;
    config.kswapd = kswapd_mode::off;  // unless a test asks for it
    config.cgroup = false;
    config.mem = 8 << 20;
    config_error error;
    KMEM_SIM_CHECK(machine_init(m, config, error) == err::ok);
    mempool_source from;
    from.alloc = numbers::alloc;
    from.free = numbers::free;
    from.data = &source;
    pool = mempool_create(m, from, min_nr, gfp::kernel);
    KMEM_SIM_CHECK(pool != nullptr);
  }
  void use(gfp_t gfp) {
    void* const element = mempool_alloc(*pool, gfp);
    if (element == nullptr) {
      KMEM_SIM_CHECK(!may_block(gfp));
      return;
    }
    source.hold(element);
    plat::yield_point();
    source.release(element);
    mempool_free(*pool, element);
  }
  void end(uint32_t min_nr) {
    mempool_figures info;
    mempool_read_figures(*pool, info);
    KMEM_SIM_CHECK(info.curr_nr == min_nr && info.waiting == 0);
    KMEM_SIM_CHECK(source.made.load_relaxed() - source.freed.load_relaxed() == min_nr);
    mempool_destroy(*pool);
    KMEM_SIM_CHECK(source.made.load_relaxed() == source.freed.load_relaxed());
    KMEM_SIM_CHECK(machine_destroy(m));
  }
};

TEST(SimMempool, NobodyWaitsForAnElementThatIsThere) {
  simulation::config knobs;
  knobs.spurious_chance = 0;
  knobs.signal_chance = 20;
  expect_seeds_pass(
      [](world& w) {
        auto& p = w.make<pool_world>();
        p.start(2);
        p.source.dry.store_relaxed(1);
        const uint64_t begin = plat::now_ns();
        for (int i = 0; i < 4; ++i) {
          const int task = w.spawn("user", [&p] { for (int round = 0; round < 6; ++round) p.use(gfp::kernel); });
          w.set_handler(task, [&p] { p.use(gfp::atomic); });
        }
        w.at_end([&p, begin] {
          // A wake-up that was lost would cost the 5 seconds after which everybody looks again.
          KMEM_SIM_CHECK(plat::now_ns() - begin < ns_per_second);
          p.end(2);
        });
      },
      knobs, 400);
}

// Of two users of one element the second may come to wait just when the first brings it back for the last time.
TEST(SimMempool, TheLastElementThatComesBackIsNotMissed) {
  simulation::config knobs;
  knobs.spurious_chance = 0;
  knobs.nr_cpus = 2;
  expect_seeds_pass(
      [](world& w) {
        auto& p = w.make<pool_world>();
        p.start(1);
        p.source.dry.store_relaxed(1);
        const uint64_t begin = plat::now_ns();
        for (int i = 0; i < 2; ++i) w.spawn("user", [&p] { p.use(gfp::kernel); });
        w.at_end([&p, begin] {
          KMEM_SIM_CHECK(plat::now_ns() - begin < ns_per_second);
          p.end(1);
        });
      },
      knobs, 1000);
}

TEST(SimMempool, ResizingLosesNothing) {
  simulation::config knobs;
  knobs.signal_chance = 20;
  expect_seeds_pass(
      [](world& w) {
        auto& p = w.make<pool_world>();
        p.start(2);
        for (int i = 0; i < 3; ++i) {
          const int task = w.spawn("user", [&p] { for (int round = 0; round < 4; ++round) p.use(gfp::kernel); });
          w.set_handler(task, [&p] { p.use(gfp::atomic); });
        }
        w.spawn("resizer", [&p] {
          for (const uint32_t n : {4u, 1u, 6u, 3u}) KMEM_SIM_CHECK(mempool_resize(*p.pool, n) == err::ok);
        });
        w.at_end([&p] {
          KMEM_SIM_CHECK(mempool_resize(*p.pool, 3) == err::ok);
          p.end(3);
        });
      },
      knobs, 400);
}

TEST(SimMempool, AWaiterThatNobodyServesSaysSoEveryTenSeconds) {
  const result r = run_seed(
      [](world& w) {
        auto& p = w.make<pool_world>();
        p.start(1);
        auto& all_out = w.make<atomic<uint32_t>>(0u);
        w.spawn("owner", [&p, &all_out] {
          void* const held = mempool_alloc(*p.pool, gfp::kernel);
          p.source.dry.store_relaxed(1);
          void* const last = mempool_alloc(*p.pool, gfp::atomic);
          KMEM_SIM_CHECK(held != nullptr && last != nullptr);
          all_out.store_relaxed(1);
          atomic<uint32_t> word{0};
          plat::futex_wait(word.word(), 0, 25 * ns_per_second);
          mempool_free(*p.pool, last);
          mempool_free(*p.pool, held);
        });
        w.spawn("waiter", [&p, &all_out] {
          while (all_out.load_relaxed() == 0) plat::relax(0);
          p.use(gfp::kernel);
        });
        w.at_end([&p] { p.end(1); });
      },
      3, {.spurious_chance = 0});
  EXPECT_FALSE(r.failed) << r.why;
  EXPECT_NE(r.output.find("waiter: mempool_alloc() has waited 10 s"), std::string::npos) << r.output;
  EXPECT_NE(r.output.find("waited 20 s"), std::string::npos) << r.output;
  EXPECT_EQ(r.output.find("waited 30 s"), std::string::npos) << r.output;
}

}  // namespace
}  // namespace kmem::sim_test
