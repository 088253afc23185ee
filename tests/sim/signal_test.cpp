// A signal at each scheduling point of what the allocator does, one after the other: its handler allocates and frees on the same thread,
// small and large, while another thread works as well. There is memory for everybody, so no NULL is right.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "sim/sim_driver.hpp"
// After the driver: the front header of all layers that a machine is made of.
#include "reclaim/reclaim.hpp"

namespace kmem::sim_test {
namespace {

constexpr std::array<size_t, 7> handler_sizes = {8, 24, 700, 5000, 40'000, 300'000, 1'500'000};  // the last one is too large for DMA

struct block {
  unsigned char* begin = nullptr;
  size_t size = 0;
};
unsigned char fill_of(size_t size) { return static_cast<unsigned char>(size * 11 + 5); }

/// The machine, and what each side holds.
struct interrupted_world {
  explicit interrupted_world(world& w) : m(w.make<machine>()) {
    machine_config config;
    config.kswapd = kswapd_mode::off;
    config.cgroup = false;
    config_error error;
    KMEM_SIM_CHECK(parse_config("mem=48M cpus=2", config, error));
    KMEM_SIM_CHECK(machine_init(m, config, error) == err::ok);
    w.at_end([this] {
      for (std::vector<block>* each : {&mine, &others, &of_handler})
        for (block& b : *each) give(b);
      settle();
      KMEM_SIM_CHECK(charged_pages(m) == charged_before && m.bad_frees.load_relaxed() == 0);
      if (const char* const wrong = machine_is_valid(m)) simulation::fail(wrong);
      KMEM_SIM_CHECK(machine_destroy(m));
    });
    settle();
    charged_before = charged_pages(m);
  }

  void settle() {
    drain_caches(m, true);
    drain_cpu_pages(m, true);
    drain_caches(m, true);
  }

  block take(size_t size, gfp_t mask) {
    const block b{static_cast<unsigned char*>(kmalloc_huge(m, size, 1, mask | gfp::nowarn)), size};
    if (b.begin == nullptr)
      simulation::fail(("NULL for " + std::to_string(size) + " bytes" + (current().depth != 0 ? " in a nested handler" : "")).c_str());
    std::memset(b.begin, fill_of(size), size);
    return b;
  }
  void give(block& b) {
    if (b.begin == nullptr) return;
    const bool intact = std::all_of(b.begin, b.begin + b.size, [&b](unsigned char c) { return c == fill_of(b.size); });
    if (!intact) simulation::fail("memory was changed while somebody held it");
    kfree(m, b.begin);
    b = {};
  }
  void take(std::vector<block>& list, size_t size, unsigned n) {
    while (n-- != 0) list.push_back(take(size, gfp::kernel));
  }
  void give_last(std::vector<block>& list, size_t n) {
    while (n-- != 0 && !list.empty()) {
      give(list.back());
      list.pop_back();
    }
  }

  void handler() {
    std::vector<block> fresh;
    for (const size_t size : handler_sizes) fresh.push_back(take(size, gfp::atomic));
    for (block& b : of_handler) give(b);  // what the interrupted code has left for it
    of_handler = std::move(fresh);
    ++handled;
  }
  void other_task() {
    for (int i = 0; i < 30; ++i) {
      take(others, 1 + simulation::random(simulation::random(4) == 0 ? 30'000 : 300), 1);
      if (others.size() > 8) give_last(others, 4);
    }
  }

  machine& m;
  uint64_t charged_before = 0;
  std::vector<block> mine, others, of_handler;
  unsigned handled = 0;
};

struct operation {
  const char* name;
  void (*prepare)(interrupted_world&);
  void (*run)(interrupted_world&);
};

const operation operations[] = {
    {"Refill", [](interrupted_world&) {}, [](interrupted_world& i) { i.take(i.mine, 24, 1); }},
    {"NewSlab", [](interrupted_world& i) { i.settle(); }, [](interrupted_world& i) { i.take(i.mine, 5000, 2); }},
    {"Flush", [](interrupted_world& i) { i.take(i.mine, 24, 40); }, [](interrupted_world& i) { i.give_last(i.mine, 20); }},
    {"SlabsThatComeFree", [](interrupted_world& i) { i.take(i.mine, 700, 24); },
     [](interrupted_world& i) {
       i.give_last(i.mine, 24);
       drain_caches(i.m, true);
     }},
    {"LargeBlocks", [](interrupted_world&) {},
     [](interrupted_world& i) {
       i.take(i.mine, 300'000, 2);
       i.give_last(i.mine, 2);
     }},
    {"Growth", [](interrupted_world&) {},
     [](interrupted_world& i) {
       void* p = nullptr;
       for (const size_t size : {16u, 3000u, 40'000u, 70'000u, 20u}) KMEM_SIM_CHECK((p = krealloc(i.m, p, size, gfp::kernel)) != nullptr);
       kfree(i.m, p);
     }},
    {"GivingBack", [](interrupted_world& i) { i.take(i.mine, 100'000, 10), i.give_last(i.mine, 10); },
     [](interrupted_world& i) { give_back(i.m, 100, true); }},
    {"ACacheThatComesAndGoes", [](interrupted_world&) {},
     [](interrupted_world& i) {
       kmem_cache* const cache = cache_create(i.m, {.name = "passing", .object_size = 200, .flags = slab_flags_t::no_merge});
       KMEM_SIM_CHECK(cache != nullptr);
       void* const object = cache_alloc(i.m, *cache, gfp::kernel);
       KMEM_SIM_CHECK(object != nullptr);
       cache_free(i.m, *cache, object);
       KMEM_SIM_CHECK(cache_destroy(i.m, cache) == err::ok);
     }},
    {"AnArea", [](interrupted_world&) {},
     [](interrupted_world& i) {
       void* const area = vmalloc(i.m, 30'000, gfp::kernel, nullptr);
       KMEM_SIM_CHECK(area != nullptr);
       vfree(i.m, area);
     }},
    {"Figures", [](interrupted_world&) {},
     [](interrupted_world& i) {
       cache_info info;
       for (unsigned n = 0; n < 5; ++n) KMEM_SIM_CHECK(read_cache_info(i.m, n, info));
       zone_snapshot snapshot;
       snapshot_zone(i.m, zone_idx::normal, snapshot);
     }},
    {"AFork", [](interrupted_world&) {},
     [](interrupted_world& i) {
       machine_fork_prepare(i.m);
       machine_fork_parent(i.m);
     }},
};

/// One world, in which the task is interrupted at its `point`-th scheduling point of the operation. Return: through `points`, how many the
/// operation has.
void interrupt(world& w, const operation& what, uint64_t point, bool contended, uint64_t* points) {
  auto& i = w.make<interrupted_world>(w);
  const int task = w.spawn("interrupted", [&i, &what, point, points] {
    for (const size_t size : handler_sizes) i.of_handler.push_back(i.take(size, gfp::kernel));
    what.prepare(i);
    const int self = simulation::running_task();
    const uint64_t before = simulation::points_of(self);
    if (point != 0) simulation::interrupt_at(self, point);
    what.run(i);
    if (points != nullptr) *points = simulation::points_of(self) - before;
  });
  w.set_handler(task, [&i] { i.handler(); });
  if (contended) w.spawn("other", [&i] { i.other_task(); });
}

class SimSignal : public ::testing::TestWithParam<std::tuple<size_t, bool>> {};

TEST_P(SimSignal, ArrivesAtEveryPoint) {
  const operation& what = operations[std::get<0>(GetParam())];
  const bool contended = std::get<1>(GetParam());
  simulation::config knobs;
  knobs.nr_cpus = 2;
  knobs.max_steps = 20'000'000;
  uint64_t points = 0;
  const result first = run_seed([&](world& w) { interrupt(w, what, 0, contended, &points); }, 1, knobs);
  ASSERT_FALSE(first.failed) << first.why;
  ASSERT_GT(points, 0u);
  // In the full mode each of them.
  const uint64_t stride = std::getenv("KMEM_TEST_FULL") != nullptr ? 1 : points < 2000 ? 7 : 1 + points / 300;
  expect_seeds_pass([&](world& w) { interrupt(w, what, 1 + (w.seed() - 1) * stride, contended, nullptr); }, knobs, points / stride + 1);
}

INSTANTIATE_TEST_SUITE_P(Operations, SimSignal,
                         ::testing::Combine(::testing::Range(size_t{0}, std::size(operations)), ::testing::Bool()),
                         [](const ::testing::TestParamInfo<std::tuple<size_t, bool>>& info) {
                           return std::string(operations[std::get<0>(info.param)].name) + (std::get<1>(info.param) ? "Contended" : "Alone");
                         });

}  // namespace
}  // namespace kmem::sim_test
