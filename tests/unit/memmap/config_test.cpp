// The table of parameters: every one is parsed into its field, errors say what would be right, and all or nothing is applied.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "memmap/memmap.hpp"

namespace kmem {
namespace {

using testing::HasSubstr;

constexpr uint64_t kib = 1024, mib = 1024 * kib, gib = 1024 * mib, tib = 1024 * gib;

bool same(const fail_attributes& a, const fail_attributes& b) {
  return a.probability == b.probability && a.interval == b.interval && a.times == b.times && a.space == b.space && a.seed == b.seed;
}

bool same(const machine_config& a, const machine_config& b) {
  for (unsigned i = 0; i < nr_fail_points; ++i)
    if (!same(a.fail[i], b.fail[i])) return false;
  return a.mem == b.mem && a.mem_percent == b.mem_percent && a.span == b.span && a.kind == b.kind && a.max_order == b.max_order &&
         a.policy == b.policy && a.zone_dma == b.zone_dma && a.zone_dma32 == b.zone_dma32 && a.zone_highmem == b.zone_highmem &&
         a.zone_movable == b.zone_movable && a.min_free_kbytes == b.min_free_kbytes &&
         a.watermark_scale_factor == b.watermark_scale_factor &&
         std::equal(std::begin(a.lowmem_reserve_ratio), std::end(a.lowmem_reserve_ratio), std::begin(b.lowmem_reserve_ratio)) &&
         a.reserve_backed_kbytes == b.reserve_backed_kbytes && a.keep_free_kbytes == b.keep_free_kbytes &&
         a.kmalloc_max == b.kmalloc_max && a.alloc_wait_ms == b.alloc_wait_ms &&
         a.sleep_record_ms == b.sleep_record_ms && a.kswapd == b.kswapd && a.reclaim_checker == b.reclaim_checker &&
         a.on_broken_context == b.on_broken_context && a.cpus == b.cpus && a.stat == b.stat && a.stat_keep == b.stat_keep &&
         a.cgroup == b.cgroup && std::string(a.path_prefix) == b.path_prefix;
}

machine_config parsed(const std::string& cmdline, machine_config config = {}) {
  config_error error;
  EXPECT_TRUE(parse_config(cmdline.c_str(), config, error)) << cmdline << ": " << error.text;
  return config;
}

/// The message for a command line that must be refused and change nothing.
std::string refused(const std::string& cmdline) {
  machine_config config;
  config.mem = 77 * mib;
  config.cpus = 3;
  const machine_config before = config;
  config_error error;
  EXPECT_FALSE(parse_config(cmdline.c_str(), config, error)) << cmdline;
  EXPECT_TRUE(same(config, before)) << cmdline << " changed something";
  EXPECT_NE(error.text[0], '\0') << cmdline;
  return error.text;
}

TEST(ParseSizeTest, ReadsDigitsWithAUnit) {
  const auto size = [](const std::string& text) {
    uint64_t bytes = 0;
    EXPECT_TRUE(parse_size(text.data(), text.size(), bytes)) << text;
    return bytes;
  };
  EXPECT_EQ(size("0"), 0u);
  EXPECT_EQ(size("0T"), 0u);
  EXPECT_EQ(size("4096"), 4096u);
  EXPECT_EQ(size("12K"), 12 * kib);
  EXPECT_EQ(size("12k"), 12 * kib);
  EXPECT_EQ(size("512M"), 512 * mib);
  EXPECT_EQ(size("512m"), 512 * mib);
  EXPECT_EQ(size("3G"), 3 * gib);
  EXPECT_EQ(size("3g"), 3 * gib);
  EXPECT_EQ(size("2T"), 2 * tib);
  EXPECT_EQ(size("2t"), 2 * tib);
  EXPECT_EQ(size("18446744073709551615"), ~uint64_t{0});
  EXPECT_EQ(size("16777215T"), 16777215 * tib);
  EXPECT_EQ(size("00000000000000000000000000000000001K"), kib);
}

TEST(ParseSizeTest, RefusesEverythingElse) {
  uint64_t bytes = 42;
  for (const std::string text : {"", "K", "M", " 1", "1 ", "-1", "+1", "1KB", "1KiB", "1.5M", "0x10", "M1", "1MM", "1P",
                                 "18446744073709551616", "16777216T", "99999999999999999999999", "1,0"})
    EXPECT_FALSE(parse_size(text.data(), text.size(), bytes)) << text;
  EXPECT_EQ(bytes, 42u) << "untouched";
  EXPECT_TRUE(parse_size("12Kxyz", 3, bytes)) << "only `length` characters are read";
  EXPECT_EQ(bytes, 12 * kib);
}

TEST(ParseConfigTest, ReadsEveryParameterIntoItsField) {
  machine_config expected;
  expected.mem = 512 * mib;
  expected.span = 4 * gib;
  expected.kind = backing::memfd;
  expected.max_order = 10;
  expected.policy = reserve_policy::linux6_1;
  expected.zone_dma = 4 * mib;
  expected.zone_dma32 = 64 * mib;
  expected.zone_highmem = 32 * mib;
  expected.zone_movable = 16 * mib;
  expected.min_free_kbytes = 4096;
  expected.watermark_scale_factor = 100;
  const uint32_t ratio[] = {1, 2, 3, 4, 5};
  std::copy(std::begin(ratio), std::end(ratio), expected.lowmem_reserve_ratio);
  expected.reserve_backed_kbytes = 128;
  expected.keep_free_kbytes = 16384;
  expected.kmalloc_max = 128 * kib;
  expected.alloc_wait_ms = 250;
  expected.sleep_record_ms = 25;
  expected.kswapd = kswapd_mode::off;
  expected.reclaim_checker = checker_mode::on;
  expected.on_broken_context = context_policy::abort;
  expected.cpus = 8;
  expected.cgroup = false;
  expected.stat = true;
  expected.stat_keep = 4711;
  expected.fail[0] = {10, 2, 5, 4096, 1};
  expected.fail[1] = {20, 3, -1, 0, 1};
  expected.fail[2] = {100, 1, 1, 65536, 1};
  const std::string cmdline =
      "mem=512M span=4G backing=memfd max_order=10 vm.reserve_policy=linux6.1 zone_dma=4M zone_dma32=64M highmem=32M movablecore=16M "
      "vm.min_free_kbytes=4096 vm.watermark_scale_factor=100 vm.lowmem_reserve_ratio=1,2,3,4,5 vm.reserve_backed_kbytes=128 "
      "vm.keep_free_kbytes=16384 "
      "kmalloc_max=128K vm.alloc_wait_ms=250 vm.sleep_record_ms=25 vm.kswapd=0 vm.reclaim_checker=1 context_policy=abort cpus=8 cgroup=0 "
      "stat=keep:4711 failslab=2,10,4096,5 fail_page_alloc=3,20,0,-1 fail_mmap=1,100,65536,1";
  EXPECT_TRUE(same(parsed(cmdline), expected));
  for (const parameter_info& p : parameters()) EXPECT_THAT(cmdline, HasSubstr(std::string(p.name) + "=")) << "add it to this test";

  std::string defaults;
  for (const parameter_info& p : parameters()) defaults += std::string(p.name) + "=" + p.default_value + "\n";
  EXPECT_TRUE(same(parsed(defaults, expected), machine_config{})) << "the documented defaults are the real ones:\n" << defaults;
}

TEST(ParseConfigTest, TableIsFitForDocumentation) {
  std::set<std::string> names;
  for (const parameter_info& p : parameters()) {
    EXPECT_TRUE(names.insert(p.name).second) << p.name;
    EXPECT_EQ(std::string(p.example).rfind(std::string(p.name) + "=", 0), 0u) << p.example;
    EXPECT_FALSE(same(parsed(p.example), machine_config{})) << p.example << " shows nothing";
    EXPECT_STRNE(p.values, "");
    EXPECT_STRNE(p.help, "");
    EXPECT_EQ(std::string(p.help).find('\n'), std::string::npos);
  }
}

TEST(ParseConfigTest, ReadsTheBudgetInItsThreeForms) {
  EXPECT_EQ(parsed("mem=4M").mem, 4 * mib);
  EXPECT_EQ(parsed("mem=8T").mem, 8 * tib);
  EXPECT_EQ(parsed("mem=50%").mem_percent, 50u);
  EXPECT_EQ(parsed("mem=50%").mem, 0u);
  EXPECT_EQ(parsed("mem=512M mem=1%").mem, 0u) << "the last one counts";
  EXPECT_EQ(parsed("mem=1% mem=512M").mem_percent, 0u);
  const machine_config automatic = parsed("mem=512M mem=auto");
  EXPECT_EQ(automatic.mem, 0u);
  EXPECT_EQ(automatic.mem_percent, 0u);
}

TEST(ParseConfigTest, FewerRatiosSetTheFirstOnes) {
  const machine_config c = parsed("vm.lowmem_reserve_ratio=100,50");
  EXPECT_THAT(c.lowmem_reserve_ratio, testing::ElementsAre(100, 50, 32, 0, 0));
}

TEST(ParseConfigTest, TreatsBlanksAndDashesAsTheKernelDoes) {
  EXPECT_TRUE(same(parsed(""), machine_config{}));
  EXPECT_TRUE(same(parsed(" \t\n "), machine_config{}));
  machine_config config;
  config_error error;
  EXPECT_TRUE(parse_config(nullptr, config, error));
  EXPECT_EQ(parsed("  cpus=4\n\tmem=16M ").cpus, 4u);
  EXPECT_EQ(parsed("vm.min-free-kbytes=9 kmalloc-max=64K").min_free_kbytes, 9u);
  EXPECT_EQ(parsed("cpus=4 cpus=5").cpus, 5u);
}

TEST(ParseConfigTest, NamesTheParameterTheValueAndWhatWouldBeRight) {
  EXPECT_EQ(refused("max_order=12"), "max_order=12: expected 10 or 11, as in max_order=10");
  EXPECT_EQ(refused("mem=12Q"), "mem=12Q: expected auto, N% or a size of 4M to 8T, as in mem=512M");
  EXPECT_EQ(refused("cgroup"), "cgroup: needs a value, as in cgroup=0");
  EXPECT_EQ(refused("mem=1M"), "mem=1M: too small, at least 4M");
  EXPECT_EQ(refused("mem=4194303"), "mem=4194303: too small, at least 4M");
  EXPECT_EQ(refused("mem=9T"), "mem=9T: too large, at most 8T");
  EXPECT_EQ(refused("vm.min_free_kbyte=1"), "vm.min_free_kbyte: unknown parameter; did you mean vm.min_free_kbytes?");
  EXPECT_EQ(refused("min_free_kbytes=1"), "min_free_kbytes: unknown parameter; did you mean vm.min_free_kbytes?");
  EXPECT_EQ(refused("memm=1G"), "memm: unknown parameter; did you mean mem?");
  EXPECT_EQ(refused("vm.failslab=1"), "vm.failslab: unknown parameter; did you mean failslab?");
  EXPECT_EQ(refused("quiet"), "quiet: unknown parameter; 'kmem params' lists the known ones");
  EXPECT_EQ(refused("x=1"), "x: unknown parameter; 'kmem params' lists the known ones") << "too short to guess";
  EXPECT_EQ(refused("cp=1"), "cp: unknown parameter; 'kmem params' lists the known ones") << "half of it would be guessed";
  EXPECT_EQ(refused("=1"), ": unknown parameter; 'kmem params' lists the known ones");
  EXPECT_THAT(refused("mem=" + std::string(1000, '9')), HasSubstr("...: expected auto"));
  EXPECT_THAT(refused(std::string(1000, 'a') + "=1"), HasSubstr("...: unknown parameter"));
  EXPECT_THAT(refused("mem=\x01\xff"), HasSubstr("mem=??: expected"));
}

TEST(ParseConfigTest, RefusesMalformedValues) {
  for (const char* word : {"mem=",
                           "mem=0",
                           "mem=0%",
                           "mem=101%",
                           "mem=%",
                           "mem=-1",
                           "mem=1e9",
                           "mem=auto%",
                           "mem=18446744073709551616",
                           "span=",
                           "span=0",
                           "span=9T",
                           "backing=",
                           "backing=ANON",
                           "backing=anonx",
                           "backing=ano",
                           "max_order=",
                           "max_order=9",
                           "max_order=011x",
                           "vm.reserve_policy=",
                           "vm.reserve_policy=linux",
                           "zone_dma=0",
                           "zone_dma=x",
                           "zone_dma32=",
                           "highmem=",
                           "highmem=auto",
                           "movablecore=-5M",
                           "vm.min_free_kbytes=",
                           "vm.min_free_kbytes=0",
                           "vm.min_free_kbytes=1K",
                           "vm.min_free_kbytes=18014398509481984",
                           "vm.watermark_scale_factor=0",
                           "vm.watermark_scale_factor=3001",
                           "vm.lowmem_reserve_ratio=",
                           "vm.lowmem_reserve_ratio=1,",
                           "vm.lowmem_reserve_ratio=,1",
                           "vm.lowmem_reserve_ratio=1,2,3,4,5,6",
                           "vm.lowmem_reserve_ratio=4294967296",
                           "vm.lowmem_reserve_ratio=1 2",
                           "vm.reserve_backed_kbytes=",
                           "vm.keep_free_kbytes=",
                           "vm.keep_free_kbytes=most",
                           "vm.reserve_backed_kbytes=-1",
                           "vm.reserve_backed_kbytes=18446744073709551615",
                           "kmalloc_max=0",
                           "kmalloc_max=1.5M",
                           "vm.alloc_wait_ms=",
                           "vm.sleep_record_ms=-1",
                           "vm.alloc_wait_ms=4294967296",
                           "vm.kswapd=",
                           "vm.reclaim_checker=yes",
                           "vm.kswapd=2",
                           "context_policy=",
                           "context_policy=panic",
                           "cpus=0",
                           "cpus=1025",
                           "cpus=x",
                           "cgroup=",
                           "cgroup=2",
                           "cgroup=yes",
                           "failslab=",
                           "failslab=1",
                           "failslab=0,1,0,1",
                           "failslab=1,101,0,1",
                           "failslab=1,1,0",
                           "failslab=1,1,0,-2",
                           "failslab=1,1,0,1,1",
                           "fail_page_alloc=a,b,c,d",
                           "fail_mmap=1,,0,1"})
    refused(word);
  refused("failslab=" + std::string(500, '1'));
}

TEST(ParseConfigTest, AppliesAllOrNothing) {
  EXPECT_THAT(refused("cpus=4 mem=64M nonsense=1"), HasSubstr("nonsense"));
  EXPECT_THAT(refused("mem=64M zone_dma=16M highmem=48M"), HasSubstr("highmem=48M"));
}

TEST(ParseConfigTest, ChecksWhatMustFitTogether) {
  EXPECT_THAT(refused("zone_dma=17M"), HasSubstr("zone_dma=17M: zone DMA ends at 16M"));
  EXPECT_THAT(refused("zone_dma=16M zone_dma32=4G"), HasSubstr("zone_dma32=4G: zones DMA and DMA32 end at 4G"));
  EXPECT_THAT(refused("mem=64M movablecore=64M"), HasSubstr("movablecore=64M: leaves nothing"));
  EXPECT_THAT(refused("mem=64M zone_dma=16M zone_dma32=16M highmem=16M movablecore=16M"), HasSubstr("there is 16M"));
  EXPECT_THAT(refused("mem=64M vm.min_free_kbytes=65536"), HasSubstr("vm.min_free_kbytes=65536: must be less than the budget"));
  parsed("mem=64M zone_dma=16M zone_dma32=16M highmem=16M movablecore=15M vm.min_free_kbytes=65535");
  EXPECT_THAT(refused("highmem=9T"), HasSubstr("highmem=9T"));
  EXPECT_THAT(refused("highmem=18446744073709551615 movablecore=18446744073709551615"), HasSubstr("highmem="));
}

TEST(ConfigIsValidTest, ChecksFieldsThatParsingCannotSet) {
  const auto invalid = [](auto change) {
    machine_config config;
    change(config);
    config_error error;
    EXPECT_FALSE(config_is_valid(config, error));
    return std::string(error.text);
  };
  EXPECT_THAT(invalid([](auto& c) { c.mem = 1; }), HasSubstr("mem=1: too small"));
  EXPECT_THAT(invalid([](auto& c) { c.mem = 8 * mib, c.mem_percent = 5; }), HasSubstr("both"));
  EXPECT_THAT(invalid([](auto& c) { c.mem_percent = 101; }), HasSubstr("mem=101%"));
  EXPECT_THAT(invalid([](auto& c) { c.max_order = 12; }), HasSubstr("max_order=12"));
  EXPECT_THAT(invalid([](auto& c) { c.kind = static_cast<backing>(7); }), HasSubstr("backing"));
  EXPECT_THAT(invalid([](auto& c) { c.policy = static_cast<reserve_policy>(7); }), HasSubstr("vm.reserve_policy"));
  EXPECT_THAT(invalid([](auto& c) { c.watermark_scale_factor = 0; }), HasSubstr("vm.watermark_scale_factor=0"));
  EXPECT_THAT(invalid([](auto& c) { c.cpus = 2000; }), HasSubstr("cpus=2000: at most 1024"));
  EXPECT_THAT(invalid([](auto& c) { c.path_prefix = nullptr; }), HasSubstr("path_prefix"));
  EXPECT_THAT(invalid([](auto& c) { c.fail[1].probability = 101; }), HasSubstr("fail_page_alloc"));
  EXPECT_THAT(invalid([](auto& c) { c.fail[2].interval = 0; }), HasSubstr("fail_mmap"));
  config_error error;
  EXPECT_TRUE(config_is_valid({}, error));
  EXPECT_STREQ(error.text, "");
}

/// Words made from the table's pieces and from anything at all: never a crash, and a refusal always leaves a message and no change.
TEST(ParseConfigTest, SurvivesRandomText) {
  std::mt19937 random(20240601);
  const auto pick = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
  std::vector<std::string> pieces = {"=", ",", "%", " ", "K", "T", "-1", "0", "9", "18446744073709551615", "auto", "all", "vm.", ".", "_"};
  for (const parameter_info& p : parameters()) {
    pieces.emplace_back(p.name);
    pieces.emplace_back(p.example);
    pieces.emplace_back(p.default_value);
  }
  unsigned accepted = 0, rejected = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string text;
    for (size_t n = pick(7); n != 0; --n) {
      if (pick(4) == 0) {
        text += static_cast<char>(1 + pick(255));
      } else {
        text += pieces[pick(pieces.size())];
        if (pick(2) == 0) text += ' ';
      }
    }
    machine_config config;
    config_error error;
    const bool ok = parse_config(text.c_str(), config, error);
    ASSERT_LT(std::string_view(error.text).size(), sizeof error.text);
    if (ok) {
      ++accepted;
      ASSERT_TRUE(config_is_valid(config, error)) << text;
    } else {
      ++rejected;
      ASSERT_TRUE(same(config, machine_config{})) << text;
      ASSERT_STRNE(error.text, "") << text;
      for (const char* c = error.text; *c != '\0'; ++c) ASSERT_TRUE(*c >= ' ' && *c <= '~') << text;
    }
  }
  EXPECT_GT(accepted, 500u) << "the generator makes sense";
  EXPECT_GT(rejected, 500u);
}

}  // namespace
}  // namespace kmem
