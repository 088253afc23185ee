// GFP names of traces to bits and back.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "include/kmem/gfp.hpp"
#include "tools/kmem/trace/gfp.hpp"

namespace kmem::tool::trace {
namespace {

using testing::Contains;
using testing::IsEmpty;

gfp_bits bits_of(std::string_view text) {
  const gfp_result result = parse_gfp(text);
  EXPECT_TRUE(result.ok) << text;
  return result.bits;
}

// The values that a 6.1 kernel answers, and the names of other versions.
const std::vector<std::pair<std::string, gfp_bits>> values = {
    {"__GFP_DMA", 0x1},
    {"GFP_DMA", 0x1},
    {"__GFP_HIGHMEM", 0x2},
    {"__GFP_DMA32", 0x4},
    {"GFP_DMA32", 0x4},
    {"__GFP_MOVABLE", 0x8},
    {"__GFP_RECLAIMABLE", 0x10},
    {"__GFP_HIGH", 0x20},
    {"__GFP_IO", 0x40},
    {"__GFP_FS", 0x80},
    {"__GFP_ZERO", 0x100},
    {"__GFP_ATOMIC", 0x200},
    {"__GFP_DIRECT_RECLAIM", 0x400},
    {"__GFP_KSWAPD_RECLAIM", 0x800},
    {"__GFP_RECLAIM", 0xc00},
    {"__GFP_WAIT", 0xc00},
    {"__GFP_WRITE", 0x1000},
    {"__GFP_NOWARN", 0x2000},
    {"__GFP_RETRY_MAYFAIL", 0x4000},
    {"__GFP_REPEAT", 0x4000},
    {"__GFP_NOFAIL", 0x8000},
    {"__GFP_NORETRY", 0x10000},
    {"__GFP_MEMALLOC", 0x20000},
    {"__GFP_COMP", 0x40000},
    {"__GFP_NOMEMALLOC", 0x80000},
    {"__GFP_HARDWALL", 0x100000},
    {"__GFP_THISNODE", 0x200000},
    {"__GFP_ACCOUNT", 0x400000},
    {"__GFP_ZEROTAGS", 0x800000},
    {"__GFP_COLD", 0x1000000},
    {"__GFP_SKIP_ZERO", 0x2000000},
    {"__GFP_SKIP_KASAN_UNPOISON", 0x4000000},
    {"__GFP_SKIP_KASAN_POISON", 0x8000000},
    {"__GFP_SKIP_KASAN", 0xc000000},
    {"__GFP_NOLOCKDEP", 0x10000000},
    {"__GFP_NO_OBJ_EXT", 0x20000000},
    {"__GFP_OTHER_NODE", 0x40000000},
    {"__GFP_NOTRACK", 0x80000000},
    {"GFP_ATOMIC", 0xa20},
    {"GFP_KERNEL", 0xcc0},
    {"GFP_KERNEL_ACCOUNT", 0x400cc0},
    {"GFP_NOWAIT", 0x800},
    {"GFP_NOIO", 0xc00},
    {"GFP_NOFS", 0xc40},
    {"GFP_USER", 0x100cc0},
    {"GFP_HIGHUSER", 0x100cc2},
    {"GFP_HIGHUSER_MOVABLE", 0x100cca},
    {"GFP_TEMPORARY", 0xcd0},
    {"GFP_TRANSHUGE_LIGHT", 0x1c20ca},
    {"GFP_TRANSHUGE", 0x1c24ca},
    {"none", 0},
};

TEST(trace_gfp, every_name_has_the_value_of_the_kernel) {
  for (const auto& [name, bits] : values) EXPECT_EQ(bits_of(name), bits) << name;
}

TEST(trace_gfp, every_known_name_is_in_the_list_of_values) {
  std::vector<std::pair<std::string, gfp_bits>> known;
  for (const gfp_name& each : gfp_names()) known.emplace_back(each.name, each.bits);
  EXPECT_THAT(known, testing::UnorderedElementsAreArray(values));
}

TEST(trace_gfp, bits_are_those_of_the_library) {
  const auto raw = [](gfp_t flags) { return static_cast<gfp_bits>(flags); };
  EXPECT_EQ(bits_of("GFP_KERNEL"), raw(gfp::kernel));
  EXPECT_EQ(bits_of("GFP_ATOMIC"), raw(gfp::atomic));
  EXPECT_EQ(bits_of("GFP_HIGHUSER_MOVABLE"), raw(gfp::highuser_movable));
  EXPECT_EQ(bits_of("__GFP_COLD"), raw(gfp::cold));
  EXPECT_EQ(bits_of("__GFP_NOMEMALLOC|__GFP_MEMALLOC"), raw(gfp::nomemalloc | gfp::memalloc));
}

TEST(trace_gfp, parts_are_joined) {
  EXPECT_EQ(bits_of("GFP_KERNEL|__GFP_ZERO"), 0xdc0u);
  EXPECT_EQ(bits_of("GFP_KERNEL|0x400000|__GFP_ZERO"), 0x400dc0u);
  EXPECT_EQ(bits_of("0xcc0"), 0xcc0u);
  EXPECT_EQ(bits_of("0XCC0"), 0xcc0u);
  EXPECT_EQ(bits_of("3264"), 0xcc0u);
  EXPECT_EQ(bits_of("0"), 0u);
  EXPECT_EQ(bits_of("0xffffffff"), 0xffffffffu);
}

TEST(trace_gfp, what_is_not_a_flag_is_named_with_its_place) {
  const std::vector<std::pair<std::string, std::pair<std::size_t, std::string>>> bad = {
      {"GFP_KERNEL|__GFP_ZEROO", {11, "__GFP_ZEROO"}},
      {"GFP_KERNAL", {0, "GFP_KERNAL"}},
      {"", {0, ""}},
      {"GFP_KERNEL|", {11, ""}},
      {"|GFP_KERNEL", {0, ""}},
      {"GFP_KERNEL|0xzz", {11, "0xzz"}},
      {"0x", {0, "0x"}},
      {"0x100000000", {0, "0x100000000"}},
      {"GFP_KERNEL | __GFP_ZERO", {0, "GFP_KERNEL "}},
      {"gfp_kernel", {0, "gfp_kernel"}},
      {"-1", {0, "-1"}},
  };
  for (const auto& [text, where] : bad) {
    const gfp_result result = parse_gfp(text);
    EXPECT_FALSE(result.ok) << text;
    EXPECT_EQ(result.bad_offset, where.first) << text;
    EXPECT_EQ(result.bad_part, where.second) << text;
  }
}

TEST(trace_gfp, near_names_are_offered) {
  EXPECT_THAT(near_gfp_names("GFP_KERNAL"), Contains("GFP_KERNEL"));
  EXPECT_EQ(near_gfp_names("__GFP_ZEROO").front(), "__GFP_ZERO");
  EXPECT_EQ(near_gfp_names("gfp_atomic").front(), "GFP_ATOMIC");
  EXPECT_THAT(near_gfp_names("xyzzy"), IsEmpty());
  EXPECT_THAT(near_gfp_names(std::string(100000, 'G')), IsEmpty());
  EXPECT_LE(near_gfp_names("__GFP_IOO").size(), 3u);
}

TEST(trace_gfp, sets_are_written_as_the_kernel_writes_them) {
  EXPECT_EQ(format_gfp(0), "none");
  EXPECT_EQ(format_gfp(0xcc0), "GFP_KERNEL");
  EXPECT_EQ(format_gfp(0xb20), "GFP_ATOMIC|__GFP_ZERO");
  EXPECT_EQ(format_gfp(0x400cc0), "GFP_KERNEL_ACCOUNT");
  EXPECT_EQ(format_gfp(0x140cca), "GFP_HIGHUSER_MOVABLE|__GFP_COMP");
  EXPECT_EQ(format_gfp(0xcc1), "GFP_KERNEL|GFP_DMA");
  EXPECT_EQ(format_gfp(0x20), "__GFP_HIGH");
  EXPECT_EQ(format_gfp(0x400), "__GFP_DIRECT_RECLAIM");
  EXPECT_EQ(format_gfp(0xcc0 | 0x1000000), "GFP_KERNEL|__GFP_COLD");
}

TEST(trace_gfp, every_set_survives_writing_and_reading) {
  std::uint32_t random = 12345;
  for (int round = 0; round < 20000; round++) {
    random = random * 1664525 + 1013904223;
    const gfp_bits bits = round < 32 ? gfp_bits{1} << round : random;
    EXPECT_EQ(bits_of(format_gfp(bits)), bits) << std::hex << bits;
  }
}

TEST(trace_gfp, class_is_the_combination_without_modifiers) {
  EXPECT_EQ(gfp_class(bits_of("GFP_KERNEL|__GFP_ZERO|__GFP_NOWARN")), "GFP_KERNEL");
  EXPECT_EQ(gfp_class(bits_of("GFP_ATOMIC|__GFP_NOWARN")), "GFP_ATOMIC");
  EXPECT_EQ(gfp_class(bits_of("GFP_NOWAIT|__GFP_NORETRY")), "GFP_NOWAIT");
  EXPECT_EQ(gfp_class(bits_of("GFP_TRANSHUGE_LIGHT")), "GFP_TRANSHUGE_LIGHT");
  EXPECT_EQ(gfp_class(bits_of("__GFP_IO|__GFP_FS|__GFP_NOWARN")), "other");
  EXPECT_EQ(gfp_class(bits_of("GFP_DMA")), "other");
  EXPECT_EQ(gfp_class(0), "none");
}

}  // namespace
}  // namespace kmem::tool::trace
