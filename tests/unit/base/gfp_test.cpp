// Against what a real kernel answered: tests/data/oracle-gfp*.jsonl.
#include "base/gfp.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/context.hpp"

namespace kmem {
namespace {

std::vector<nlohmann::json> oracle_rows(const char* file, const char* kind) {
  std::ifstream in(std::string(KMEM_TEST_DATA "/") + file);
  EXPECT_TRUE(in.is_open()) << file;
  std::vector<nlohmann::json> rows;
  for (std::string line; std::getline(in, line);)
    if (nlohmann::json row = nlohmann::json::parse(line); row.at("t") == kind) rows.push_back(std::move(row));
  EXPECT_FALSE(rows.empty()) << file << " has no row of kind " << kind;
  return rows;
}

gfp_t mask_of(const nlohmann::json& row, const char* field) {
  return gfp_t{static_cast<uint32_t>(std::stoul(row.at(field).get<std::string>(), nullptr, 16))};
}

std::string formatted(gfp_t mask) {
  char buffer[512];
  const size_t length = format_gfp(mask, buffer, sizeof buffer);
  EXPECT_LT(length, sizeof buffer);
  EXPECT_EQ(length, std::string(buffer).size());
  return buffer;
}

TEST(Gfp, MasksAreWrittenAsTheKernelWritesThem) {
  unsigned compared = 0;
  for (const auto& row : oracle_rows("oracle-gfp.jsonl", "gfp")) {
    const gfp_t mask = mask_of(row, "val");
    std::string wanted = row.at("print");
    if (mask == gfp::none) wanted = "none";  // the kernel's trace events write "none", its %pGg an empty text
    // __GFP_COLD is a bit of our own where the kernel has none: only this row has it.
    if (row.at("name") == "__GFP_BITS_MASK") wanted.replace(wanted.find("0x7000000"), std::string::npos, "__GFP_COLD|0x6000000");
    EXPECT_EQ(formatted(mask), wanted) << row.at("name");
    ++compared;
  }
  EXPECT_GE(compared, 40u);
}

TEST(Gfp, NamedMasksHaveTheKernelsValues) {
  const std::pair<const char*, gfp_t> names[] = {
      {"__GFP_DMA", gfp::dma}, {"__GFP_HIGHMEM", gfp::highmem_bit}, {"__GFP_DMA32", gfp::dma32}, {"__GFP_MOVABLE", gfp::movable},
      {"__GFP_RECLAIMABLE", gfp::reclaimable}, {"__GFP_HIGH", gfp::high}, {"__GFP_IO", gfp::io}, {"__GFP_FS", gfp::fs},
      {"__GFP_ZERO", gfp::zero}, {"__GFP_ATOMIC", gfp::atomic_bit}, {"__GFP_DIRECT_RECLAIM", gfp::direct_reclaim},
      {"__GFP_KSWAPD_RECLAIM", gfp::kswapd_reclaim}, {"__GFP_RECLAIM", gfp::reclaim}, {"__GFP_WRITE", gfp::write},
      {"__GFP_NOWARN", gfp::nowarn}, {"__GFP_RETRY_MAYFAIL", gfp::retry_mayfail}, {"__GFP_NOFAIL", gfp::nofail},
      {"__GFP_NORETRY", gfp::noretry}, {"__GFP_MEMALLOC", gfp::memalloc}, {"__GFP_COMP", gfp::comp},
      {"__GFP_NOMEMALLOC", gfp::nomemalloc}, {"__GFP_HARDWALL", gfp::hardwall}, {"__GFP_THISNODE", gfp::thisnode},
      {"__GFP_ACCOUNT", gfp::account}, {"__GFP_ZEROTAGS", gfp::zerotags}, {"GFP_ATOMIC", gfp::atomic}, {"GFP_KERNEL", gfp::kernel},
      {"GFP_KERNEL_ACCOUNT", gfp::kernel_account}, {"GFP_NOWAIT", gfp::nowait}, {"GFP_NOIO", gfp::noio}, {"GFP_NOFS", gfp::nofs},
      {"GFP_USER", gfp::user}, {"GFP_DMA", gfp::dma}, {"GFP_DMA32", gfp::dma32}, {"GFP_HIGHUSER", gfp::highuser},
      {"GFP_HIGHUSER_MOVABLE", gfp::highuser_movable}, {"GFP_ZONEMASK", gfp::zone_bits}};
  const auto rows = oracle_rows("oracle-gfp.jsonl", "gfp");
  for (const auto& [name, mask] : names) {
    bool found = false;
    for (const auto& row : rows) {
      if (row.at("name") != name) continue;
      EXPECT_EQ(static_cast<uint32_t>(mask), static_cast<uint32_t>(mask_of(row, "val"))) << name;
      found = true;
    }
    EXPECT_TRUE(found) << name;
  }
  EXPECT_EQ(gfp::repeat, gfp::retry_mayfail);
}

TEST(Gfp, ZonesOfTheZoneBits) {
  // The x86-64 kernel has no HighMem: it counts DMA, DMA32, Normal, Movable.
  const auto kernel_index = [](zone_idx zone) {
    switch (zone) {
      case zone_idx::dma: return 0;
      case zone_idx::dma32: return 1;
      case zone_idx::normal: return 2;
      case zone_idx::highmem: return 2;
      case zone_idx::movable: return 3;
    }
    return -1;
  };
  unsigned compared = 0;
  for (const auto& row : oracle_rows("oracle-gfp.jsonl", "gfp_zone")) {
    const gfp_t bits = mask_of(row, "bits");
    if (row.contains("bad")) {
      EXPECT_EQ(gfp_zone_is_bad(bits), row.at("bad") == 1) << row;
    } else {
      EXPECT_EQ(kernel_index(gfp_zone(bits)), row.at("zone_idx")) << row;
    }
    ++compared;
  }
  EXPECT_EQ(compared, 24u);
  for (const auto& row : oracle_rows("oracle-gfp.jsonl", "zone"))
    EXPECT_EQ(kernel_index(gfp_zone(mask_of(row, "val"))), row.at("gfp_zone_idx")) << row;
}

TEST(Gfp, ZonesWithHighMemory) {
  // The i386 kernel has no DMA32: it counts DMA, Normal, HighMem, Movable.
  const auto kernel_index = [](zone_idx zone) {
    switch (zone) {
      case zone_idx::dma: return 0;
      case zone_idx::dma32: return 1;
      case zone_idx::normal: return 1;
      case zone_idx::highmem: return 2;
      case zone_idx::movable: return 3;
    }
    return -1;
  };
  for (const auto& row : oracle_rows("oracle-gfp-highmem.jsonl", "zone"))
    EXPECT_EQ(kernel_index(gfp_zone(mask_of(row, "val"))), row.at("gfp_zone_idx")) << row;
}

TEST(Gfp, ContradictoryZoneBitsCountAsTheLowestZoneNamed) {
  EXPECT_EQ(gfp_zone(gfp::dma | gfp::highmem_bit), zone_idx::dma);
  EXPECT_EQ(gfp_zone(gfp::dma32 | gfp::highmem_bit | gfp::movable), zone_idx::dma32);
  EXPECT_EQ(gfp_zone(gfp::dma | gfp::dma32 | gfp::highmem_bit | gfp::movable), zone_idx::dma);
}

TEST(Gfp, Mobility) {
  for (const char* file : {"oracle-gfp.jsonl", "oracle-gfp-highmem.jsonl"})
    for (const auto& row : oracle_rows(file, "zone"))
      EXPECT_EQ(static_cast<int>(gfp_migratetype(mask_of(row, "val"))), row.at("migratetype")) << row;
  EXPECT_EQ(gfp_migratetype(gfp::movable | gfp::reclaimable), migratetype::unmovable);
}

TEST(Gfp, WhoMayBlock) {
  const auto rows = oracle_rows("oracle-gfp.jsonl", "pred");
  const auto& allowed = rows.at(0).at("gfpflags_allow_blocking");
  const std::pair<const char*, gfp_t> masks[] = {
      {"KERNEL", gfp::kernel}, {"ATOMIC", gfp::atomic}, {"NOWAIT", gfp::nowait}, {"NOIO", gfp::noio}, {"NOFS", gfp::nofs}};
  for (const auto& [name, mask] : masks) EXPECT_EQ(may_block(mask), allowed.at(name) == 1) << name;
  EXPECT_EQ(allowed.size(), std::size(masks));
}

TEST(Gfp, ScopesOfTheThreadTakeRightsAway) {
  for (const auto& row : oracle_rows("oracle-gfp.jsonl", "scope")) {
    ASSERT_EQ(row.at("in"), "GFP_KERNEL");
    const uint32_t bits = row.at("scope") == "noio" ? scope_noio : scope_nofs;
    const uint32_t saved = memalloc_save(bits);
    EXPECT_EQ(current_gfp(gfp::kernel), mask_of(row, "out")) << row;
    memalloc_restore(bits, saved);
    EXPECT_EQ(current_gfp(gfp::kernel), gfp::kernel);
  }
}

TEST(Gfp, Predicates) {
  EXPECT_TRUE(may_io(gfp::nofs) && !may_io(gfp::noio) && !may_io(gfp::atomic));
  EXPECT_TRUE(may_fs(gfp::kernel) && !may_fs(gfp::nofs));
  EXPECT_TRUE(may_use_reserve(gfp::atomic) && !may_use_reserve(gfp::kernel));
  EXPECT_TRUE(may_use_reserve(gfp::kernel | gfp::memalloc));
  EXPECT_FALSE(may_use_reserve(gfp::atomic | gfp::nomemalloc));
  EXPECT_TRUE(may_fail(gfp::kernel) && !may_fail(gfp::kernel | gfp::nofail));
}

TEST(Gfp, ATextThatDoesNotFitIsCutAndItsLengthTold) {
  char buffer[12];
  EXPECT_EQ(format_gfp(gfp::kernel | gfp::zero, buffer, sizeof buffer), std::string("GFP_KERNEL|__GFP_ZERO").size());
  EXPECT_STREQ(buffer, "GFP_KERNEL|");
  EXPECT_EQ(formatted(gfp_t{0x80000000u}), "0x80000000");
  EXPECT_EQ(formatted(gfp::kernel | gfp::cold), "GFP_KERNEL|__GFP_COLD");
}

}  // namespace
}  // namespace kmem
