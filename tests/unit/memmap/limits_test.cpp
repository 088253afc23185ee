// The memory map under the limits that systems set: address space, data, locked memory.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "memmap/memmap.hpp"
#include "unit/memmap/child.hpp"

namespace kmem {
namespace {

constexpr nr_pages_t mib(uint64_t n) { return nr_pages_t(n << 8); }
constexpr uint32_t opened_blocks = 16;  // 32 MiB

class LimitsTest : public testing::TestWithParam<backing> {
 protected:
  void SetUp() override { config_.kind = GetParam(); }
  machine_config config_;
  memory_map map_;

  uint32_t open(uint32_t first, uint32_t n) {
    lock_guard guard(map_.section_lock);
    return open_blocks(map_, first, n);
  }
};
INSTANTIATE_TEST_SUITE_P(Backings, LimitsTest, testing::Values(backing::anon, backing::memfd),
                         [](const auto& p) { return p.param == backing::anon ? "anon" : "memfd"; });

bool set_limit(int which, size_t bytes) {
  rlimit limit{};
  if (getrlimit(static_cast<__rlimit_resource>(which), &limit) != 0) return false;
  limit.rlim_cur = bytes;
  return setrlimit(static_cast<__rlimit_resource>(which), &limit) == 0;
}

/// Touches every page of a block and its descriptors.
void use_block(memory_map& m, uint32_t block) {
  char* const begin = m.address_of(pfn_t(block * pages_per_block));
  for (size_t offset = 0; offset < block_bytes; offset += page_size) begin[offset] = 1;
  for (uint32_t i = 0; i < pages_per_block; ++i) m.pages[block * pages_per_block + i].order = 1;
  m.blocks[block].opened = 1;
  std::memset(m.class_map + block * pages_per_block, 1, pages_per_block);
}

TEST_P(LimitsTest, StartsAndServesUnderUlimitV) {
  EXPECT_EQ(test::in_child([this]() -> std::string {
              // 512 MiB, or what a sanitizer has taken already and nearly as much again.
              const size_t taken = test::status_bytes("VmSize");
              const size_t limit = std::max(size_t{512} << 20, taken + (size_t{448} << 20));
              if (!set_limit(RLIMIT_AS, limit)) return "setrlimit failed";
              const err result = memmap_init(map_, config_, mib(128), mib(64 << 10), mib(128));
              if (result != err::ok) return "refused: " + std::to_string(static_cast<int>(result));
              if (map_.span_pages < mib(128).raw()) return "span below the least";
              if (map_.limit != mib(128)) return "budget lowered needlessly";
              for (uint32_t first = 0; first < 64; first += opened_blocks)
                if (open(first, opened_blocks) != opened_blocks) return "opening refused at block " + std::to_string(first);
              for (uint32_t block = 0; block < 64; ++block) use_block(map_, block);
              if (map_metadata(map_, 1 << 20) == nullptr) return "metadata refused";
              // What the rest of the program may want: a few threads' stacks.
              void* const stack = mmap(nullptr, 24 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              if (stack == MAP_FAILED)
                return "no address space left for the program; span " + std::to_string(map_.span_pages >> 8) + " MiB";
              memmap_destroy(map_);
              return "";
            }),
            "");
}

TEST_P(LimitsTest, LeavesAddressSpaceToTheProgram) {
  EXPECT_EQ(test::in_child([this]() -> std::string {
              if (!set_limit(RLIMIT_AS, test::status_bytes("VmSize") + (300u << 20))) return "setrlimit failed";
              // 256 MiB would fit, but nothing beside it.
              if (memmap_init(map_, config_, mib(64), mib(1024), mib(64)) != err::ok) return "refused";
              if (map_.span_pages != mib(128).raw()) return "span of " + std::to_string(map_.span_pages >> 8) + " MiB";
              memmap_destroy(map_);
              // What the budget needs is taken all the same.
              if (memmap_init(map_, config_, mib(256), mib(1024), mib(256)) != err::ok) return "least refused";
              memmap_destroy(map_);
              return "";
            }),
            "");
}

TEST_P(LimitsTest, FitsIntoWhatMayBeLocked) {
  EXPECT_EQ(test::in_child([this]() -> std::string {
              // Without privilege every new mapping of a process that locks its future must fit into RLIMIT_MEMLOCK.
              rlimit locked{};
              if (getrlimit(RLIMIT_MEMLOCK, &locked) != 0 || !set_limit(RLIMIT_MEMLOCK, std::min(size_t{locked.rlim_max}, size_t{4} << 20)))
                return "setrlimit failed";
              if (geteuid() == 0 && setuid(65534) != 0) return "setuid failed";
              // The system call itself: sanitizers make mlockall() do nothing.
              if (syscall(SYS_mlockall, MCL_FUTURE) != 0) return "mlockall refused";
              if (memmap_init(map_, config_, mib(64), mib(1024), mib(64)) != err::nomem) return "64 MiB were locked within 4 MiB";
              syscall(SYS_munlockall);
              if (memmap_init(map_, config_, mib(64), mib(1024), mib(64)) != err::ok) return "refused after munlockall";
              if (open(0, opened_blocks) != opened_blocks) return "opening refused";
              use_block(map_, 0);
              memmap_destroy(map_);
              return "";
            }),
            "");
}

TEST(LimitsMessageTest, SaysThatTheCgroupLimitsCouldNotBeRead) {
  EXPECT_EQ(test::in_child([]() -> std::string {
              if (!set_limit(RLIMIT_AS, 1)) return "setrlimit failed";
              uint64_t usage = 7;
              const uint64_t limit = cgroup_limit("", usage);
              if (!set_limit(RLIMIT_AS, RLIM_INFINITY)) return "setrlimit failed";
              if (limit != 0 || usage != 0) return "a limit out of nowhere";
              char text[printk_record_bytes];
              log_level level{};
              std::string last;
              for (uint64_t sequence = 0; (sequence = printk_read(sequence, level, text, sizeof text)) != 0;) last = text;
              return last.find("no address space to read the cgroup limits") != std::string::npos ? "" : "last message: " + last;
            }),
            "");
}

TEST_P(LimitsTest, SaysNoWhenNotEvenTheLeastFits) {
  EXPECT_EQ(test::in_child([this]() -> std::string {
              if (!set_limit(RLIMIT_AS, test::status_bytes("VmSize") + (64u << 20))) return "setrlimit failed";
              const err result = memmap_init(map_, config_, mib(128), mib(64 << 10), mib(128));
              if (result != err::nomem) return "result " + std::to_string(static_cast<int>(result));
              return map_.base == nullptr ? "" : "half a machine is left";
            }),
            "");
}

TEST_P(LimitsTest, OpensLessUnderAnRlimitOnData) {
  EXPECT_EQ(test::in_child([this]() -> std::string {
              if (memmap_init(map_, config_, mib(1024), mib(4096), mib(1024)) != err::ok) return "init refused";
              if (!set_limit(RLIMIT_DATA, test::status_bytes("VmData") + (48u << 20))) return "setrlimit failed";
              const bool counted = config_.kind == backing::anon;  // shared mappings are no data
              const uint32_t all = open(0, 512);
              if (all != (counted ? 0u : 512u)) return "opening 1 GiB: " + std::to_string(all);
              uint32_t opened = 0;
              for (uint32_t n = 512; n != 0 && opened == 0; n /= 2) opened = open(0, n);
              if (opened != (counted ? 16u : 512u)) return "opened in halves: " + std::to_string(opened);
              for (uint32_t block = 0; block < 16; ++block) use_block(map_, block);
              if (counted && open(16, 16) != 0) return "the limit does not hold";
              if (counted && open(0, 16) != 16) return "what is open cannot be opened again";
              if (!set_limit(RLIMIT_DATA, RLIM_INFINITY)) return "setrlimit failed";
              if (open(0, 512) != 512) return "parts left open by refusals stand in the way";
              use_block(map_, 511);
              memmap_destroy(map_);
              return "";
            }),
            "");
}

TEST_P(LimitsTest, OpeningMakesNothingResidentUnderMlockall) {
  EXPECT_EQ(test::in_child([this]() -> std::string {
              set_limit(RLIMIT_MEMLOCK, RLIM_INFINITY);  // may be refused; mlockall says what counts
              if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return "mlockall refused: this test needs CAP_IPC_LOCK or ulimit -l unlimited";
              if (memmap_init(map_, config_, mib(1024), mib(64 << 10), mib(1024)) != err::ok) return "init refused";
              if (map_.span_pages != mib(64 << 10).raw()) return "span lowered to " + std::to_string(map_.span_pages);
              const size_t rss = test::status_bytes("VmRSS");
              if (open(0, opened_blocks) != opened_blocks) return "opening refused";
              if (map_metadata(map_, 32 << 20) == nullptr) return "metadata refused";
              const auto resident = [](void* begin, size_t bytes) {
                std::vector<unsigned char> pages(bytes >> page_shift);
                size_t count = 0;
                if (mincore(begin, bytes, pages.data()) != 0) return ~size_t{0};
                for (const unsigned char p : pages) count += p & 1u;
                return count;
              };
              if (const size_t n = resident(map_.base, opened_blocks * block_bytes); n != 0) return "resident pages: " + std::to_string(n);
              if (const size_t n = resident(map_.pages, opened_blocks * pages_per_block * sizeof(page)); n != 0)
                return "resident descriptors: " + std::to_string(n);
              if (const size_t now = test::status_bytes("VmRSS"); now > rss + (4u << 20)) return "grew by " + std::to_string(now - rss);
              use_block(map_, 3);
              if (resident(map_.base, opened_blocks * block_bytes) != pages_per_block) return "a touched block is not resident";
              if (!plat::decommit(map_.arena, map_.base + 3 * block_bytes, block_bytes)) return "cannot be given back";
              if (resident(map_.base, opened_blocks * block_bytes) != 0) return "still resident after it was given back";
              memmap_destroy(map_);
              return "";
            }),
            "");
}

}  // namespace
}  // namespace kmem
