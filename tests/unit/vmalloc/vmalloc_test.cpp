#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "vmalloc_fixture.hpp"

namespace kmem {
namespace {

using test::vmalloc_fixture;

class vmalloc_on : public vmalloc_fixture, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override { start((std::string("mem=16M ") + GetParam()).c_str()); }
};
INSTANTIATE_TEST_SUITE_P(both_backings, vmalloc_on, ::testing::Values("backing=anon", "backing=memfd"),
                         [](const auto& info) { return std::string(info.param).substr(8); });

bool is_clear(const void* p, size_t size) {
  const auto* bytes = static_cast<const unsigned char*>(p);
  for (size_t i = 0; i < size; ++i)
    if (bytes[i] != 0) return false;
  return true;
}

/// Does a write to `p` kill the process?
bool write_faults(void* p) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    *static_cast<char*>(p) = 1;
    __asm__ __volatile__("" ::"r"(p) : "memory");
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) && (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS);
}

TEST_P(vmalloc_on, gives_page_aligned_memory_that_is_charged_and_comes_back) {
  char* const p = static_cast<char*>(vmalloc(va(), 3 * page_size + 1, gfp::kernel, nullptr));
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % page_size, 0u);
  EXPECT_FALSE(va().contains(p));
  EXPECT_TRUE(is_vmalloc_addr(va(), p));
  EXPECT_TRUE(is_vmalloc_addr(va(), p + 4 * page_size - 1));
  EXPECT_FALSE(is_vmalloc_addr(va(), p - 1));
  EXPECT_FALSE(is_vmalloc_addr(va(), p + 4 * page_size));
  EXPECT_EQ(vmalloc_size(va(), p), 4 * page_size);
  EXPECT_EQ(vmalloc_size(va(), p + page_size), 0u);
  EXPECT_EQ(va().vmalloc_pages.peek(), 4u);
  EXPECT_GE(charged(), 4u);
  EXPECT_GE(metadata(), 1u);
  memset(p, 0x5a, 4 * page_size);
  vfree(va(), p);
  EXPECT_EQ(va().vmalloc_pages.peek(), 0u);
  EXPECT_EQ(vmalloc_size(va(), p), 0u);
  EXPECT_EQ(log(), "");
}

TEST_P(vmalloc_on, guard_pages_lie_on_both_sides) {
  char* const p = static_cast<char*>(vmalloc(va(), 2 * page_size, gfp::kernel, nullptr));
  ASSERT_NE(p, nullptr);
  EXPECT_TRUE(write_faults(p - 1));
  EXPECT_TRUE(write_faults(p + 2 * page_size));
  EXPECT_FALSE(write_faults(p));
  EXPECT_FALSE(write_faults(p + 2 * page_size - 1));
  vfree(va(), p);
  EXPECT_TRUE(write_faults(p));
}

TEST_P(vmalloc_on, zero_flag_clears_memory_that_was_used_before) {
  // Dirty pages first, so that recycled frames would show.
  std::vector<void*> dirty;
  while (void* const p = vmalloc(va(), 64 * page_size, gfp::kernel | gfp::nowarn, nullptr)) {
    memset(p, 0xff, 64 * page_size);
    dirty.push_back(p);
  }
  EXPECT_GE(dirty.size(), 30u);  // 16 MiB are 64 of them, less metadata, reserve and the DMA zone
  for (void* const p : dirty) vfree(va(), p);
  for (int round = 0; round < 4; ++round) {
    void* const p = vmalloc(va(), 100 * page_size, gfp::kernel | gfp::zero, nullptr);
    ASSERT_NE(p, nullptr);
    EXPECT_TRUE(is_clear(p, 100 * page_size));
    memset(p, 0xff, 100 * page_size);
    vfree(va(), p);
  }
}

TEST_P(vmalloc_on, nothing_is_lost_when_the_budget_is_full) {
  uint64_t charged_after[3], metadata_after[3];
  size_t areas_got[3];
  for (int round = 0; round < 3; ++round) {
    std::vector<void*> areas;
    while (void* const p = vmalloc(va(), 7 * page_size, gfp::kernel | gfp::nowarn, nullptr)) {
      *static_cast<size_t*>(p) = areas.size();
      areas.push_back(p);
    }
    EXPECT_GT(areas.size(), 100u);
    areas_got[round] = areas.size();
    for (size_t i = 0; i < areas.size(); ++i) EXPECT_EQ(*static_cast<size_t*>(areas[i]), i);
    EXPECT_EQ(vmalloc_is_valid(va()), nullptr);
    for (void* const p : areas) vfree(va(), p);
    EXPECT_EQ(va().vmalloc_pages.peek(), 0u);
    charged_after[round] = charged();
    metadata_after[round] = metadata();
  }
  // The first round leaves the descriptors of the blocks that it used; nothing comes on top in later ones.
  EXPECT_EQ(charged_after[2], charged_after[1]);
  EXPECT_LE(metadata_after[2], metadata_after[1] + 4);
  EXPECT_GE(areas_got[2] + 4, areas_got[1]);
}

TEST_P(vmalloc_on, names_itself_in_reports) {
  EXPECT_EQ(vmalloc(va(), 0, gfp::kernel, nullptr), nullptr);
  EXPECT_NE(log().find("vmalloc() of 0 bytes"), std::string::npos);
  EXPECT_EQ(vmalloc(va(), size_t{1} << 30, gfp::kernel, nullptr), nullptr);
  EXPECT_NE(log().find("vmalloc error: size 1073741824, exceeds total pages, mode:0xcc0(GFP_KERNEL)"), std::string::npos);
  EXPECT_EQ(vmalloc(va(), ~size_t{0}, gfp::kernel, nullptr), nullptr);
  EXPECT_NE(log().find("exceeds total pages"), std::string::npos);
  EXPECT_EQ(vmalloc(va(), size_t{1} << 30, gfp::kernel | gfp::nowarn, nullptr), nullptr);
  EXPECT_EQ(log(), "");
  EXPECT_EQ(vmalloc(va(), 4090 * page_size, gfp::kernel, nullptr), nullptr);  // within the budget, but not beside everything else
  EXPECT_NE(log().find("failed to allocate pages, mode:0xcc0(GFP_KERNEL)"), std::string::npos);
}

TEST_P(vmalloc_on, bad_pointers_are_reported_and_nothing_is_freed) {
  char* const p = static_cast<char*>(vmalloc(va(), 2 * page_size, gfp::kernel, nullptr));
  vfree(va(), nullptr);
  EXPECT_EQ(log(), "");
  vfree(va(), p + 1);
  EXPECT_NE(log().find("Trying to vfree() bad address (0x"), std::string::npos);
  vfree(va(), p + page_size);
  EXPECT_NE(log().find("Trying to vfree() nonexistent vm area (0x"), std::string::npos);
  vfree(va(), va().base);
  EXPECT_NE(log().find("Trying to vfree() nonexistent vm area (0x"), std::string::npos);
  EXPECT_TRUE(is_vmalloc_addr(va(), p));
  vfree(va(), p);
  EXPECT_EQ(log(), "");
  vfree(va(), p);
  EXPECT_NE(log().find("Trying to vfree() nonexistent vm area (0x"), std::string::npos);
}

TEST_P(vmalloc_on, atomic_context_is_reported_and_a_free_in_it_is_queued) {
  void* const p = vmalloc(va(), page_size, gfp::kernel, nullptr);
  void* const q = vmalloc(va(), page_size, gfp::kernel, nullptr);
  {
    const preempt_guard guard;
    vfree(va(), p);
  }
  EXPECT_NE(log().find("sleeping function called from invalid context"), std::string::npos);
  EXPECT_EQ(va().vmalloc_pages.peek(), 2u);
  {
    const hardirq_guard guard;  // an interrupt may free: it is queued without a report, as in the kernel
    vfree(va(), q);
  }
  EXPECT_EQ(log(), "");
  EXPECT_EQ(va().vmalloc_pages.peek(), 2u);
  void* const r = vmalloc(va(), page_size, gfp::kernel, nullptr);  // frees the queue first
  EXPECT_EQ(va().vmalloc_pages.peek(), 1u);
  vfree(va(), r);
  reset_context_rules();  // which let one report through a second
  {
    const preempt_guard guard;
    void* const s = vmalloc(va(), page_size, gfp::nowait, nullptr);  // reported whatever the mask says
    EXPECT_NE(log().find("sleeping function called from invalid context"), std::string::npos);
    vfree(va(), s);
  }
  EXPECT_EQ(drain_deferred_vfree(va()), 1u);
  EXPECT_EQ(va().vmalloc_pages.peek(), 0u);
}

// The queue is memory that can be had: an allocation that may wait frees it instead of failing.
TEST_P(vmalloc_on, queued_areas_are_freed_before_an_allocation_fails) {
  std::vector<void*> areas;
  while (void* const p = vmalloc(va(), 64 * page_size, gfp::kernel | gfp::nowarn, nullptr)) areas.push_back(p);
  std::vector<page*> pages;
  while (page* const p = alloc_pages(va(), gfp::kernel | gfp::nowarn, order_t(0))) pages.push_back(p);
  {
    const hardirq_guard guard;
    vfree(va(), areas.back());
    areas.pop_back();
  }
  page* const p = alloc_pages(va(), gfp::kernel | gfp::nowarn, order_t(0));
  EXPECT_NE(p, nullptr);
  if (p != nullptr) free_pages(va(), p, order_t(0));
  for (page* const each : pages) free_pages(va(), each, order_t(0));
  for (void* const each : areas) vfree(va(), each);
}

TEST_P(vmalloc_on, lists_its_areas_in_order) {
  std::set<const void*> areas;
  for (int i = 1; i <= 20; ++i) areas.insert(vmalloc(va(), static_cast<size_t>(i) * 1000, gfp::kernel, &areas));
  const void* from = nullptr;
  vmap_info info{};
  for (const void* const area : areas) {
    ASSERT_TRUE(read_vmap_info(va(), from, info));
    EXPECT_EQ(info.begin, area);
    EXPECT_EQ(info.caller, &areas);
    EXPECT_EQ(info.nr_pages, pages_for(info.size_bytes).raw());
    from = static_cast<const char*>(info.begin) + info.nr_pages * page_size;
  }
  EXPECT_FALSE(read_vmap_info(va(), from, info));
  for (const void* const area : areas) vfree(va(), area);
}

TEST_P(vmalloc_on, serves_threads) {
  const auto work = [this](unsigned seed) {
    std::vector<std::pair<unsigned char*, size_t>> mine;
    for (unsigned step = 0; step < 300; ++step) {
      seed = seed * 1103515245 + 12345;
      if (mine.size() < 4 || seed >> 16 & 1) {
        const size_t size = (seed >> 17) % 9 * page_size + 1;
        auto* const p = static_cast<unsigned char*>(vmalloc(va(), size, gfp::kernel | gfp::nowarn, nullptr));
        if (p == nullptr) continue;
        p[0] = p[size - 1] = static_cast<unsigned char>(size >> page_shift);
        mine.emplace_back(p, size);
      } else {
        const auto [p, size] = mine.back();
        mine.pop_back();
        EXPECT_EQ(p[0], static_cast<unsigned char>(size >> page_shift));
        EXPECT_EQ(p[size - 1], p[0]);
        vfree(va(), p);
      }
    }
    for (const auto& [p, size] : mine) vfree(va(), p);
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; ++i) threads.emplace_back(work, i + 1);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(va().vmalloc_pages.peek(), 0u);
}

// A handler that interrupts a slow path may not wait for the lock: the call fails, or queues, and the interrupted one is not disturbed.
TEST_P(vmalloc_on, does_not_wait_inside_an_interrupted_slow_path) {
  void* const p = vmalloc(va(), page_size, gfp::kernel, nullptr);
  {
    const nest_guard interrupted;
    const lock_guard held(va().vmalloc_lock);
    EXPECT_EQ(vmalloc(va(), page_size, gfp::kernel | gfp::nowarn, nullptr), nullptr);
    vfree(va(), p);
    EXPECT_TRUE(is_vmalloc_addr(va(), p));
    EXPECT_FALSE(is_vmalloc_addr(va(), va().base));
  }
  EXPECT_EQ(va().vmalloc_pages.peek(), 1u);
  EXPECT_EQ(drain_deferred_vfree(va()), 1u);
  EXPECT_EQ(va().vmalloc_pages.peek(), 0u);
}

TEST_P(vmalloc_on, nofail_survives_refused_mappings) {
  set_fail_attributes(fail_point::fail_mmap, {100, 1, -1, 0, 1});
  EXPECT_EQ(vmalloc(va(), page_size, gfp::kernel | gfp::nowarn, nullptr), nullptr);
  void* const p = vmalloc(va(), page_size, gfp::kernel | gfp::nofail, nullptr);
  set_fail_attributes(fail_point::fail_mmap, {});
  EXPECT_NE(p, nullptr);
  vfree(va(), p);
}

TEST_P(vmalloc_on, a_refused_mapping_is_not_told_as_the_wait_of_the_descriptor) {
  current().last_wait = static_cast<uint8_t>(wait_outcome::served);
  set_fail_attributes(fail_point::fail_mmap, {100, 1, -1, 0, 1});
  EXPECT_EQ(vmalloc(va(), page_size, gfp::kernel | gfp::nowarn, nullptr), nullptr);
  EXPECT_EQ(last_wait(), wait_outcome::exhausted);
  set_fail_attributes(fail_point::fail_mmap, {});
}

TEST_P(vmalloc_on, each_mapping_that_is_refused_leaves_one_record) {
  for (uint32_t n = 1;; ++n) {  // the n-th attempt to map
    const uint64_t records = va().failure_sequence.load_relaxed();
    set_fail_attributes(fail_point::fail_mmap, {100, n, 1, 0, 1});
    void* const p = vmalloc(va(), 3 * page_size, gfp::kernel | gfp::nowarn, nullptr);
    set_fail_attributes(fail_point::fail_mmap, {});
    vfree(va(), p);
    if (p != nullptr) {
      EXPECT_GT(n, 2u) << "neither the addresses nor the pages were refused";
      EXPECT_EQ(va().failure_sequence.load_relaxed(), records);
      return;
    }
    ASSERT_EQ(va().failure_sequence.load_relaxed(), records + 1) << n;
    alloc_failure failure;
    ASSERT_TRUE(read_failure(va(), records + 1, failure));
    EXPECT_EQ(failure.bytes, 3 * page_size);
    EXPECT_EQ(failure.reached, chain_step::refused);
    ASSERT_LT(n, 20u);
  }
}

class vmalloc_zones : public vmalloc_fixture {};

TEST_F(vmalloc_zones, page_tables_have_room_in_dma_when_normal_has_none) {
  start("mem=16M zone_dma=2M");
  constexpr gfp_t mask = gfp::kernel | gfp::noretry | gfp::nowarn;
  std::vector<page*> held, of_dma;
  while (page* const p = alloc_pages(va(), mask, order_t(0)))
    (page_zone_idx(va(), p) == zone_idx::dma ? of_dma : held).push_back(p);
  uint64_t metadata = 0;
  while (charge_metadata(va(), 1)) ++metadata;
  ASSERT_GT(of_dma.size(), 100u);
  for (unsigned i = 0; i < 100; ++i) {
    free_pages(va(), of_dma.back(), order_t(0));
    of_dma.pop_back();
  }
  const uint64_t before = va().metadata_pages.peek(), charged = charged_pages(va());
  void* const p = vmalloc(va(), page_size, mask, nullptr);
  EXPECT_NE(p, nullptr);
  {
    const lock_guard lock(va().vmalloc_lock);
    ASSERT_NE(va().areas, nullptr);
    EXPECT_EQ(va().areas->table_zone, static_cast<int>(zone_idx::dma));
  }
  EXPECT_EQ(va().metadata_pages.peek(), before);
  EXPECT_GE(charged_pages(va()), charged + 2) << "the page and its table";
  vfree(va(), p);
  EXPECT_EQ(va().metadata_pages.peek(), before);
  drain_caches(va(), true);
  EXPECT_EQ(charged_pages(va()), charged);
  uncharge_metadata(va(), metadata);
  for (const std::vector<page*>& some : {held, of_dma})
    for (page* const one : some) free_pages(va(), one, order_t(0));
}

TEST_F(vmalloc_zones, takes_high_memory_first_and_a_named_zone_only) {
  start("mem=32M highmem=8M zone_dma=2M");
  const auto charged_in = [this](zone_idx idx) {
    drain_caches(va(), true);
    drain_cpu_pages(va(), true);
    zone_snapshot s;
    snapshot_zone(va(), idx, s);
    return s.charged;
  };
  const uint64_t high = charged_in(zone_idx::highmem), dma = charged_in(zone_idx::dma);
  void* const p = vmalloc(va(), 50 * page_size, gfp::kernel, nullptr);
  EXPECT_EQ(charged_in(zone_idx::highmem), high + 50);
  void* const q = vmalloc(va(), 50 * page_size, gfp::kernel | gfp::dma, nullptr);
  EXPECT_EQ(charged_in(zone_idx::dma), dma + 50);
  vfree(va(), p);
  vfree(va(), q);
  EXPECT_EQ(charged_in(zone_idx::highmem), high);
  EXPECT_EQ(charged_in(zone_idx::dma), dma);
}

// Anonymous areas are fresh from the system: what nobody touches is not resident, cleared or not.
TEST_F(vmalloc_zones, clearing_writes_nothing) {
  start("mem=64M backing=anon");
  constexpr size_t size = 16 << 20;
  void* const p = vmalloc(va(), size, gfp::kernel | gfp::zero, nullptr);
  ASSERT_NE(p, nullptr);
  std::vector<unsigned char> present(size / page_size);
  ASSERT_EQ(mincore(p, size, present.data()), 0);
  size_t resident = 0;
  for (const unsigned char each : present) resident += each & 1;
  EXPECT_EQ(resident, 0u);
  vfree(va(), p);
}

}  // namespace
}  // namespace kmem
