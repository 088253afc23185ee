// The simulation's memory: real, checked, and refused by chance.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "sim/sim_driver.hpp"

namespace kmem::sim_test {
namespace {

using testing::HasSubstr;

constexpr size_t megabyte = size_t{1} << 20;

/// Runs `body` as the only task. Return: why it failed, or empty.
std::string run_alone(std::function<void()> body, simulation::config knobs = {}) {
  return run_seed([&](world& w) { w.spawn("task", body); }, 1, knobs).why;
}

TEST(SimMemory, OpenedMemoryIsThereAndDecommitZeroesIt) {
  for (const backing kind : {backing::anon, backing::memfd}) {
    const std::string why = run_alone([kind] {
      address_reservation r = plat::reserve(64 * megabyte, 2 * megabyte, kind);
      KMEM_SIM_CHECK(r.base != nullptr && r.bytes == 64 * megabyte);
      KMEM_SIM_CHECK(reinterpret_cast<uintptr_t>(r.base) % (2 * megabyte) == 0);
      KMEM_SIM_CHECK(plat::open(r.base, megabyte));
      KMEM_SIM_CHECK(plat::populate(r.base, megabyte));
      std::memset(r.base, 0x5a, megabyte);
      KMEM_SIM_CHECK(plat::decommit(r, r.base + page_size, page_size));
      KMEM_SIM_CHECK(r.base[page_size - 1] == 0x5a && r.base[2 * page_size] == 0x5a);
      for (size_t i = 0; i < page_size; ++i) KMEM_SIM_CHECK(r.base[page_size + i] == 0);
      plat::release(r);
      KMEM_SIM_CHECK(r.base == nullptr && simulation::nr_areas() == 0);
    });
    EXPECT_EQ(why, "");
  }
}

TEST(SimMemory, MemoryOpenedForReadingIsZeroAndIsNoOpenedMemory) {
  EXPECT_EQ(run_alone([] {
    address_reservation r = plat::reserve(megabyte, page_size, backing::anon);
    KMEM_SIM_CHECK(plat::open_for_reading(r.base, r.bytes));
    KMEM_SIM_CHECK(r.base[0] == 0 && r.base[r.bytes - 1] == 0);
    KMEM_SIM_CHECK(plat::open(r.base, page_size));
    r.base[0] = 1;
    plat::decommit(r, r.base + page_size, page_size);
  }).find("misuse of memory"), 0u);
}

TEST(SimMemory, FramesOfAMemfdReservationHaveASecondAddress) {
  EXPECT_EQ(run_alone([] {
    address_reservation r = plat::reserve(4 * megabyte, page_size, backing::memfd);
    KMEM_SIM_CHECK(plat::open(r.base, megabyte));
    auto* second = static_cast<char*>(plat::map_guarded(4 * page_size));
    KMEM_SIM_CHECK(plat::map_frames(second + page_size, 8 * page_size, r, page_size));
    r.base[8 * page_size + 5] = 'x';
    KMEM_SIM_CHECK(second[page_size + 5] == 'x');
    plat::unmap(second, 4 * page_size);
    plat::release(r);
    KMEM_SIM_CHECK(simulation::nr_areas() == 0);
  }), "");
}

TEST(SimMemory, PlacesAreTheSameInEveryRun) {
  void* places[2] = {};
  for (void*& place : places)
    EXPECT_EQ(run_alone([&place] {
      (void)plat::reserve(megabyte, page_size, backing::anon);
      place = plat::reserve(megabyte, page_size, backing::anon).base;
    }), "");
  EXPECT_EQ(places[0], places[1]);
}

struct misuse_case {
  const char* name;
  std::function<void(address_reservation&)> body;
  const char* text;
};

TEST(SimMemory, MisuseFailsTheWorldAndSaysWhat) {
  char local[2 * page_size];
  char* const page = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(local) + page_size - 1) & ~(page_size - 1));
  const misuse_case cases[] = {
      {"open elsewhere", [&](address_reservation&) { plat::open(page, page_size); }, "open outside of any reservation"},
      {"open past the end", [](address_reservation& r) { plat::open(r.base + r.bytes - page_size, 2 * page_size); }, "open outside"},
      {"reading rights for what is open",
       [](address_reservation& r) { plat::open_for_reading(r.base, r.bytes); }, "would close what is open"},
      {"open half a page", [](address_reservation& r) { plat::open(r.base, page_size / 2); }, "not whole pages"},
      {"decommit of closed pages", [](address_reservation& r) { plat::decommit(r, r.base + 8 * page_size, page_size); }, "never opened"},
      {"decommit across the end of the opened part",
       [](address_reservation& r) { plat::decommit(r, r.base + 3 * page_size, 2 * page_size); },
       "never opened"},
      {"populate of closed pages", [](address_reservation& r) { plat::populate(r.base + 8 * page_size, page_size); }, "never opened"},
      {"release twice",
       [](address_reservation& r) { address_reservation copy = r; plat::release(copy); plat::release(r); }, "never reserved"},
      {"unmap of a reservation", [](address_reservation& r) { plat::unmap(r.base, r.bytes); }, "unmap of a part, or of a reservation"},
      {"frames of anonymous memory",
       [](address_reservation& r) {
         void* at = plat::map_guarded(page_size);
         plat::map_frames(at, 0, r, page_size);
       },
       "no part of a memfd reservation"},
  };
  for (const misuse_case& each : cases) {
    const std::string why = run_alone([&each] {
      address_reservation r = plat::reserve(megabyte, page_size, backing::anon);
      KMEM_SIM_CHECK(plat::open(r.base, 2 * page_size) && plat::open(r.base + 2 * page_size, 2 * page_size));
      each.body(r);
    });
    EXPECT_THAT(why, HasSubstr(each.text)) << each.name;
    EXPECT_THAT(why, HasSubstr("misuse of memory")) << each.name;
  }
}

TEST(SimMemory, NeighbouringOpenedRangesMergeInAnyOrder) {
  EXPECT_EQ(run_alone([] {
    address_reservation r = plat::reserve(megabyte, page_size, backing::anon);
    for (const size_t page : {4u, 0u, 2u, 1u, 3u}) KMEM_SIM_CHECK(plat::open(r.base + page * page_size, page_size));
    KMEM_SIM_CHECK(plat::decommit(r, r.base, 5 * page_size));
    plat::release(r);
  }), "");
}

TEST(SimMemory, CallsFailByChanceAndTheSameSeedFailsTheSameOnes) {
  simulation::config knobs;
  knobs.fail_chance[static_cast<unsigned>(simulation::platform_call::open)] = 500;
  std::string runs[2];
  for (std::string& outcome : runs)
    EXPECT_EQ(run_alone([&outcome] {
      address_reservation r = plat::reserve(megabyte, page_size, backing::anon);
      for (size_t i = 0; i < 40; ++i) outcome += plat::open(r.base + i * page_size, page_size) ? 'y' : 'n';
    }, knobs), "");
  EXPECT_EQ(runs[0], runs[1]);
  EXPECT_THAT(runs[0], HasSubstr("y"));
  EXPECT_THAT(runs[0], HasSubstr("n"));
}

TEST(SimMemory, AHookDecidesWhichCallFails) {
  EXPECT_EQ(run_alone([] {
    simulation::set_fail_hook([](simulation::platform_call call, size_t) noexcept { return call == simulation::platform_call::reserve; });
    KMEM_SIM_CHECK(plat::reserve(megabyte, page_size, backing::anon).base == nullptr);
    simulation::set_fail_hook([](simulation::platform_call, size_t bytes) noexcept { return bytes > megabyte; });
    KMEM_SIM_CHECK(plat::map_guarded(2 * megabyte) == nullptr);
    KMEM_SIM_CHECK(plat::map_guarded(megabyte) != nullptr);
  }), "");
}

TEST(SimMemory, TheNextWorldStartsWithoutMappings) {
  EXPECT_EQ(run_alone([] { (void)plat::reserve(megabyte, page_size, backing::memfd); }), "");
  EXPECT_EQ(run_alone([] { KMEM_SIM_CHECK(simulation::nr_areas() == 0); }), "");
}

}  // namespace
}  // namespace kmem::sim_test
