// What a real Linux 6.1 kernel answered (tests/data/oracle-*.jsonl), asked of this allocator; and the rule for reserves against gfp_model.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "model/gfp_model.hpp"
#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using nlohmann::json;
using testing::dig;
using testing::dig_of;
using testing::held_pages;
using testing::test_machine;

std::vector<json> rows(const std::string& file, const std::string& kind) {
  std::ifstream in(std::string(KMEM_TEST_DATA) + "/" + file);
  std::vector<json> result;
  for (std::string line; std::getline(in, line);) {
    json row = json::parse(line);
    if (row.at("t") == kind) result.push_back(std::move(row));
  }
  EXPECT_FALSE(result.empty()) << file << ' ' << kind;
  return result;
}

gfp_t mask_of(const json& value) { return gfp_t(static_cast<uint32_t>(std::stoul(value.get<std::string>(), nullptr, 16))); }

zone_idx zone_named(const std::string& name) {
  if (name == "DMA") return zone_idx::dma;
  if (name == "DMA32") return zone_idx::dma32;
  if (name == "Normal") return zone_idx::normal;
  if (name == "HighMem") return zone_idx::highmem;
  EXPECT_EQ(name, "Movable");
  return zone_idx::movable;
}

machine_config exact_config(reserve_policy policy) {
  machine_config config = testing::small_config(uint64_t{12} << 20);
  config.policy = policy;
  config.span = 1;  // raised to the managed size
  config.cpus = 1;
  return config;
}

// ---- zones ---------------------------------------------------------------------------------------------------------------------

void expect_zones(const machine_config& config, const char* file, bool has_dma32) {
  test_machine m(config);
  for (const json& row : rows(file, "zone")) {
    const gfp_t mask = mask_of(row.at("val"));
    SCOPED_TRACE(row.at("gfp").get<std::string>());
    page* const p = alloc_pages(*m, mask, order_t(0));
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(zone_idx(p->zone), zone_named(row.at("got")));
    EXPECT_EQ(m->blocks[m->pfn_of(p).raw() / pages_per_block].type, row.at("migratetype").get<unsigned>());
    free_pages(*m, p, order_t(0));
  }
  // A request of the highest kind goes down the zonelist as the zones run out.
  std::vector<zone_idx> fallback;
  held_pages held(*m);
  for (page* p; (p = held.take(gfp::highuser_movable | gfp::noretry | gfp::nowarn)) != nullptr;)
    if (std::find(fallback.begin(), fallback.end(), zone_idx(p->zone)) == fallback.end()) fallback.push_back(zone_idx(p->zone));
  std::vector<zone_idx> expected;
  for (const json& row : rows(file, "zonelist"))
    if (row.at("list") == 0 && (has_dma32 || row.at("zone") != "DMA32")) expected.push_back(zone_named(row.at("zone")));
  EXPECT_EQ(fallback, expected);
}

TEST(oracle, each_mask_gets_its_pages_from_the_zone_that_the_kernel_takes) {
  machine_config config = testing::small_config(uint64_t{48} << 20);
  config.zone_dma = uint64_t{8} << 20;  // several blocks, so that each mobility has one
  config.zone_dma32 = uint64_t{8} << 20;
  expect_zones(config, "oracle-zones.jsonl", true);
}

TEST(oracle, with_high_memory_too) {
  machine_config config = testing::small_config(uint64_t{48} << 20);
  config.zone_dma = uint64_t{8} << 20;
  config.zone_highmem = uint64_t{8} << 20;
  expect_zones(config, "oracle-zones-highmem.jsonl", false);
}

// ---- watermarks ----------------------------------------------------------------------------------------------------------------

TEST(oracle, watermarks_and_lowmem_reserves_follow_from_the_managed_sizes) {
  zone zones[nr_zones];
  // This kernel has no DMA32, so its zones 0..3 are ours 0, 2, 3, 4.
  const std::vector<json> infos = rows("oracle-zones-highmem.jsonl", "zoneinfo");
  for (const json& row : infos) zones[raw(zone_named(row.at("zone")))].managed_most = row.at("managed").get<uint64_t>();
  machine_config config;
  compute_watermarks(zones, config);
  const unsigned ours[] = {0, 2, 3, 4};
  for (const json& row : infos) {
    zone& z = zones[raw(zone_named(row.at("zone")))];
    SCOPED_TRACE(row.at("zone").get<std::string>());
    EXPECT_EQ(z.watermarks[0], row.at("min").get<uint64_t>());
    EXPECT_EQ(z.watermarks[1], row.at("low").get<uint64_t>());
    EXPECT_EQ(z.watermarks[2], row.at("high").get<uint64_t>());
    for (unsigned i = 0; i < 4; ++i) EXPECT_EQ(z.lowmem_reserve[ours[i]], row.at("lowmem_reserve")[i].get<uint64_t>()) << i;
    compute_cpu_lists(z, 1);
    EXPECT_EQ(z.cpu_batch, row.at("pcp_batch").get<uint32_t>());
    EXPECT_LE(z.cpu_high, std::max(row.at("pcp_high").get<uint32_t>(), 4 * z.cpu_batch));
  }
}

TEST(oracle, the_steps_between_watermarks_are_the_kernels) {
  for (const json& row : rows("oracle-zones.jsonl", "zoneinfo")) {
    const auto managed = row.at("managed").get<uint64_t>(), min = row.at("min").get<uint64_t>();
    if (managed == 0) continue;
    zone zones[nr_zones];
    zones[raw(zone_idx::normal)].managed_most = managed;
    machine_config config;
    config.min_free_kbytes = min * 4;  // this zone's share
    compute_watermarks(zones, config);
    const zone& z = zones[raw(zone_idx::normal)];
    EXPECT_EQ(z.watermarks[0], min);
    EXPECT_EQ(z.watermarks[1], row.at("low").get<uint64_t>());
    EXPECT_EQ(z.watermarks[2], row.at("high").get<uint64_t>());
  }
}

// ---- orders --------------------------------------------------------------------------------------------------------------------

TEST(oracle, orders_have_the_kernels_shape) {
  test_machine m;
  for (const json& row : rows("oracle-orders.jsonl", "order_alloc")) {
    const auto order = row.at("order").get<unsigned>();
    SCOPED_TRACE(order);
    const gfp_t mask = gfp::kernel | (row.at("nowarn") == 1 ? gfp::nowarn : gfp::none);
    page* const p = alloc_pages(*m, mask, order_t(order));
    ASSERT_EQ(p != nullptr, row.at("res") == "ok");
    if (p == nullptr) continue;
    uint64_t unreferenced_tails = 0;
    for (uint64_t i = 1; i < uint64_t{1} << order; ++i) unreferenced_tails += p[i].refcount.load_relaxed() == 0;
    EXPECT_EQ(m->pfn_of(p).raw() % (1u << order) == 0, row.at("pfn_aligned") == 1);
    EXPECT_EQ((p->flags & page_flag_compound) != 0, row.at("compound") == 1);
    EXPECT_EQ(unreferenced_tails, row.at("tail_refcount0").get<uint64_t>());
    EXPECT_EQ(p->refcount.load_relaxed(), row.at("head_count").get<uint32_t>());
    free_pages(*m, p, order_t(order));
  }
}

TEST(oracle, an_extra_reference_keeps_the_block) {
  const std::vector<json> expected = rows("oracle-orders.jsonl", "extra_ref");
  test_machine m;
  page* const p = alloc_pages(*m, gfp::kernel | gfp::comp, order_t(2));
  ASSERT_NE(p, nullptr);
  get_page(p);
  const uint64_t charged = charged_pages(*m);
  free_pages(*m, p, order_t(2));
  EXPECT_EQ(charged - charged_pages(*m), expected[0].at("freed_tail_pages_with_ref_held").get<uint64_t>());
  EXPECT_EQ(p->refcount.load_relaxed(), expected[0].at("head_count").get<uint32_t>());
  put_page(*m, p);
  EXPECT_EQ(p->refcount.load_relaxed(), expected[1].at("after_put").get<uint32_t>());
  EXPECT_EQ(charged_pages(*m), 0u);
}

// ---- how deep each flag may dig ---------------------------------------------------------------------------------------------------

/// Takes single pages with `mask` until there is none; every list is drained then. Return: free pages of the zone.
uint64_t free_at_first_failure(test_machine& m, gfp_t mask, zone_idx idx) {
  held_pages held(*m);
  held.exhaust(mask);
  EXPECT_EQ(zone_in_cpu_lists(*m, m.at(idx)), 0u);
  m.check();
  return zone_free(m.at(idx));
}

TEST(oracle, linux_6_1_stops_where_the_kernel_stopped) {
  std::vector<json> zones_at_failure;
  std::ifstream in(std::string(KMEM_TEST_DATA) + "/oracle-lowmem.jsonl");
  unsigned compared = 0;
  for (std::string line; std::getline(in, line);) {
    const json row = json::parse(line);
    if (row.at("t") == "lowmem") {
      zones_at_failure.push_back(row);
      continue;
    }
    const std::vector<json> at_failure = std::exchange(zones_at_failure, {});
    if (row.at("order") != 0) continue;  // there fragmentation decided
    const std::string flags = row.at("flags");
    SCOPED_TRACE(flags);
    gfp_t mask = mask_of(row.at("gfp"));
    const bool realtime = flags.find("SCHED_FIFO") != std::string::npos;
    const bool noreclaim = flags.find("PF_MEMALLOC") != std::string::npos;
    test_machine m(exact_config(reserve_policy::linux6_1));
    const bool dma_only = has(mask, gfp::dma);
    for (const json& z : at_failure) {
      const bool dma = z.at("zone") == "DMA";
      if (dma_only != dma) continue;
      zone& ours = m.at(dma ? zone_idx::dma : zone_idx::normal);
      // A thread cannot be made real-time without privileges: the rule itself is asked.
      const uint64_t free = realtime ? watermark_floor(*m, ours, {mask, true, false}) : [&] {
        const uint32_t saved = noreclaim ? memalloc_save(scope_noreclaim) : 0;
        const uint64_t result = free_at_first_failure(m, mask, ours.idx);
        if (noreclaim) memalloc_restore(scope_noreclaim, saved);
        return result;
      }();
      const double kernels = z.at("free").get<double>() / z.at("min").get<double>();
      const double mine = static_cast<double>(free) / static_cast<double>(ours.watermarks[0]);
      // The kernel takes batches of 3, and both round.
      EXPECT_NEAR(mine, kernels, 3 / z.at("min").get<double>() + 1 / static_cast<double>(ours.watermarks[0]));
      ++compared;
    }
  }
  EXPECT_EQ(compared, 20u);
}

TEST(gfp_model, watermark_floor_is_the_models_for_every_combination_of_flags) {
  for (const reserve_policy policy : {reserve_policy::spec, reserve_policy::linux6_1}) {
    test_machine m(exact_config(policy));
    const uint32_t bits[] = {0x20, 0x200, 0x400, 0x800, 0x4000, 0x8000, 0x10000, 0x20000, 0x80000, 0x40, 0x80};
    for (uint32_t set = 0; set < 1u << std::size(bits); ++set)
      for (unsigned more = 0; more < 4; ++more) {
        uint32_t mask = 0;
        for (unsigned i = 0; i < std::size(bits); ++i) mask |= (set >> i & 1) != 0 ? bits[i] : 0;
        const bool realtime = (more & 1) != 0, last_resort = (more & 2) != 0;
        const dig d = dig_of(mask, realtime, last_resort);
        for (const zone& z : m->zones) {
          const uint64_t expected = policy == reserve_policy::spec ? testing::floor_by_specification(d, z.watermarks[0])
                                                                   : testing::floor_of_linux_6_1(d, z.watermarks[0]);
          ASSERT_EQ(watermark_floor(*m, z, {gfp_t(mask), realtime, last_resort}), expected) << std::hex << mask;
        }
      }
  }
}

TEST(gfp_model, allocations_really_stop_at_the_models_floor) {
  const uint32_t bits[] = {0x20, 0x400, 0x20000, 0x80000, 0x200};
  for (const reserve_policy policy : {reserve_policy::spec, reserve_policy::linux6_1})
    for (uint32_t set = 0; set < 1u << std::size(bits); ++set) {
      uint32_t mask = 0x10000;  // NORETRY
      for (unsigned i = 0; i < std::size(bits); ++i) mask |= (set >> i & 1) != 0 ? bits[i] : 0;
      SCOPED_TRACE(mask);
      test_machine m(exact_config(policy));
      held_pages held(*m);
      held.exhaust(gfp_t(mask));
      const dig d = dig_of(mask, false, true);
      for (const zone_idx idx : {zone_idx::dma, zone_idx::normal}) {
        const zone& z = m.at(idx);
        uint64_t floor = policy == reserve_policy::spec ? testing::floor_by_specification(d, z.watermarks[0])
                                                        : testing::floor_of_linux_6_1(d, z.watermarks[0]);
        if (testing::lowmem_reserve_binds(d)) floor += z.lowmem_reserve[raw(zone_idx::normal)];
        EXPECT_EQ(zone_free(z), floor) << raw(idx);
      }
      EXPECT_EQ(m->memalloc_pool.nr_pages.load_relaxed() == 0, !testing::lowmem_reserve_binds(d));
    }
}

}  // namespace
}  // namespace kmem
