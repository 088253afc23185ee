// Promises about a machine as a whole: its budget, its reserves, the contexts it serves, and the kinds of memory.
#include <sys/wait.h>
#include <unistd.h>

#include <bit>
#include <cstring>

#include "kmem/gfp_names.hpp"
#include "promises/promise_machine.hpp"
#include "unit/memmap/fake_system.hpp"
#include "vmalloc/area_tree.hpp"

namespace kmem {
namespace {

using test::promise_machine;

constexpr gfp_t quiet_kernel = gfp::kernel | gfp::nowarn;
constexpr gfp_t quiet_atomic = gfp::atomic | gfp::nowarn;

/// Ends the process if a test hangs in what it tries.
class time_limit {
 public:
  explicit time_limit(unsigned seconds) { alarm(seconds); }
  ~time_limit() { alarm(0); }
  time_limit(const time_limit&) = delete;
  time_limit& operator=(const time_limit&) = delete;
};

uint64_t milliseconds(auto&& body) {
  const uint64_t start = plat::now_ns();
  body();
  return (plat::now_ns() - start) / 1'000'000;
}

// ---- names and ways in ------------------------------------------------------------------------------------------------------------

// Promise: A name with a double underscore is one bit; a name without is a combination of them. `__GFP_REPEAT` and
// `__GFP_RETRY_MAYFAIL` are the same.
TEST(Promises, NamesWithADoubleUnderscoreAreOneBit) {
  using namespace names;
  constexpr gfp_t bits[] = {GFP_DMA_BIT,           GFP_HIGHMEM_BIT,    GFP_DMA32_BIT,    GFP_MOVABLE_BIT,
                            GFP_RECLAIMABLE_BIT,   GFP_HIGH_BIT,       GFP_IO_BIT,       GFP_FS_BIT,
                            GFP_ZERO_BIT,          GFP_ATOMIC_BIT,     GFP_WRITE_BIT,    GFP_NOWARN_BIT,
                            GFP_RETRY_MAYFAIL_BIT, GFP_NOFAIL_BIT,     GFP_NORETRY_BIT,  GFP_MEMALLOC_BIT,
                            GFP_COMP_BIT,          GFP_NOMEMALLOC_BIT, GFP_HARDWALL_BIT, GFP_THISNODE_BIT,
                            GFP_ACCOUNT_BIT,       GFP_ZEROTAGS_BIT,   GFP_COLD_BIT,     GFP_DIRECT_RECLAIM_BIT,
                            GFP_KSWAPD_RECLAIM_BIT};
  gfp_t all = gfp::none;
  for (const gfp_t bit : bits) {
    EXPECT_TRUE(std::has_single_bit(static_cast<uint32_t>(bit))) << static_cast<uint32_t>(bit);
    EXPECT_FALSE(has(all, bit)) << "two names for bit " << static_cast<uint32_t>(bit);
    all |= bit;
  }
  EXPECT_EQ(all, gfp::known_bits);
  EXPECT_EQ(GFP_REPEAT_BIT, GFP_RETRY_MAYFAIL_BIT);
  constexpr gfp_t reclaim = GFP_DIRECT_RECLAIM_BIT | GFP_KSWAPD_RECLAIM_BIT;
  EXPECT_EQ(GFP_ATOMIC, GFP_HIGH_BIT | GFP_ATOMIC_BIT | GFP_KSWAPD_RECLAIM_BIT);
  EXPECT_EQ(GFP_NOWAIT, GFP_KSWAPD_RECLAIM_BIT);
  EXPECT_EQ(GFP_NOIO, reclaim);
  EXPECT_EQ(GFP_NOFS, reclaim | GFP_IO_BIT);
  EXPECT_EQ(GFP_KERNEL, reclaim | GFP_IO_BIT | GFP_FS_BIT);
  EXPECT_EQ(GFP_KERNEL_ACCOUNT, GFP_KERNEL | GFP_ACCOUNT_BIT);
  EXPECT_EQ(GFP_USER, GFP_KERNEL | GFP_HARDWALL_BIT);
  EXPECT_EQ(GFP_HIGHUSER, GFP_USER | GFP_HIGHMEM_BIT);
  EXPECT_EQ(GFP_HIGHUSER_MOVABLE, GFP_HIGHUSER | GFP_MOVABLE_BIT);
}

// Promise: `kmalloc(GFP_KERNEL)` ends in get_free_pages: what the page allocator refuses, kmalloc cannot give.
TEST(Promises, GfpKernelEndsInGetFreePages) {
  promise_machine m("mem=16M");
  page_alloc_totals before{}, after{};
  page_alloc_read_totals(*m, before);
  void* const object = kmalloc(*m, 1000, gfp::kernel);
  ASSERT_NE(object, nullptr);
  page_alloc_read_totals(*m, after);
  const page& head = m->page_of(m->pfn_of(object));
  ASSERT_EQ(head.kind, page_kind::slab);
  EXPECT_GE(after.pgalloc - before.pgalloc, nr_pages(order_t(head.order)).raw());
  set_fail_attributes(fail_point::fail_page_alloc, {.probability = 100});
  EXPECT_EQ(kmalloc(*m, 3000, quiet_kernel), nullptr);
  EXPECT_EQ(kmalloc(*m, 100'000, quiet_kernel), nullptr);
  set_fail_attributes(fail_point::fail_page_alloc, {});
  kfree(*m, object);
}

// Promise: A lookaside cache hands out objects of one size and alignment, as its constructor left them.
TEST(Promises, ALookasideCacheGivesObjectsThatItsConstructorMade) {
  promise_machine m("mem=16M");
  const auto constructor = [](void* object) noexcept { std::memset(object, 0x5a, 200); };
  kmem_cache* const cache =
      cache_create(*m, {.name = "lookaside", .object_size = 200, .flags = slab_flags_t::hwcache_align, .constructor = constructor});
  ASSERT_NE(cache, nullptr);
  std::vector<void*> objects;
  for (int i = 0; i < 100; ++i) {
    auto* const object = static_cast<unsigned char*>(cache_alloc(*m, *cache, gfp::kernel));
    ASSERT_NE(object, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(object) % arch::cache_line_bytes, 0u);
    for (int k = 0; k < 200; ++k) ASSERT_EQ(object[k], 0x5a) << "object " << i << ", byte " << k;
    objects.push_back(object);
  }
  for (void* const object : objects) cache_free(*m, *cache, object);
  EXPECT_EQ(cache_destroy(*m, cache), err::ok);
}

// Promise: kvmalloc takes vmalloc's memory where kmalloc has none to give, unless the mask may not block.
TEST(Promises, KvmallocTakesVmallocWhereKmallocCannot) {
  promise_machine m("mem=32M kmalloc_max=128K");
  void* const small = kvmalloc(*m, 1000, gfp::kernel, nullptr);
  void* const large = kvmalloc(*m, 1 << 20, gfp::kernel, nullptr);
  EXPECT_TRUE(m->contains(small));
  EXPECT_TRUE(is_vmalloc_addr(*m, large));
  EXPECT_EQ(kvmalloc(*m, 1 << 20, quiet_atomic, nullptr), nullptr);
  kvfree(*m, small);
  kvfree(*m, large);
}

// ---- waiting and contexts ---------------------------------------------------------------------------------------------------------

// Promise: An allocation waits for `vm.alloc_wait_ms` before it fails, four times as long with `__GFP_RETRY_MAYFAIL`, and not at all with
// `__GFP_NORETRY`.
TEST(Promises, AllocWaitIsBoundedAndLongerForRetryMayfail) {
  const test::idle_thread other;
  promise_machine m("mem=8M vm.alloc_wait_ms=40");
  auto taken = m.take_all(quiet_atomic);
  EXPECT_GE(milliseconds([&] { EXPECT_EQ(alloc_pages(*m, quiet_kernel, order_t(0)), nullptr); }), 40u);
  EXPECT_GE(milliseconds([&] { EXPECT_EQ(alloc_pages(*m, quiet_kernel | gfp::retry_mayfail, order_t(0)), nullptr); }), 160u);
  page_alloc_totals before{}, after{};
  page_alloc_read_totals(*m, before);
  EXPECT_EQ(alloc_pages(*m, quiet_kernel | gfp::noretry, order_t(0)), nullptr);
  page_alloc_read_totals(*m, after);
  EXPECT_EQ(after.waits, before.waits);
  m.give(taken);
}

// Promise: An allocation that really comes to sleep in atomic context is the scheduling error: "scheduling while atomic".
TEST(Promises, ComingToSleepInAtomicContextIsTheSchedulingError) {
  const test::idle_thread other;
  promise_machine m("mem=8M vm.alloc_wait_ms=2");
  auto taken = m.take_all(quiet_atomic);
  [](machine& on) KMEM_NO_ANALYSIS {
    spinlock lock;
    const spin_guard hold(lock);
    EXPECT_EQ(alloc_pages(on, quiet_kernel, order_t(0)), nullptr);
  }(*m);
  EXPECT_NE(m.log().find("BUG: scheduling while atomic: "), std::string::npos) << m.log();
  EXPECT_NE(m.log().find("/0x00000002"), std::string::npos) << m.log();
  m.give(taken);
}

// Promise: A signal handler that interrupted the allocator, whatever locks that holds, is served by `GFP_ATOMIC`, and what it frees is not
// lost.
TEST(Promises, AHandlerThatInterruptedTheAllocatorIsServed) {
  const time_limit limit(5);
  promise_machine m("mem=16M");
  page* const before = alloc_pages(*m, gfp::kernel, order_t(2));
  ASSERT_NE(before, nullptr);
  const uint64_t charged = charged_pages(*m);
  [](machine& on, page* to_free) KMEM_NO_ANALYSIS {
    // What the interrupted frame may hold: the lists of every CPU and the free areas.
    const nest_guard interrupted;
    zone& normal = on.zones[static_cast<unsigned>(zone_idx::normal)];
    for (unsigned cpu = 0; cpu < on.nr_cpus; ++cpu) ASSERT_TRUE(normal.per_cpu[cpu].lock.try_lock());
    ASSERT_TRUE(normal.lock.try_lock());
    {
      const hardirq_guard handler;
      void* const object = kmalloc(on, 100, gfp::atomic);
      EXPECT_NE(object, nullptr);
      kfree(on, object);
      page* const p = alloc_pages(on, gfp::atomic, order_t(0));
      ASSERT_NE(p, nullptr);
      std::memset(on.address_of(on.pfn_of(p)), 1, page_size);
      free_pages(on, p, order_t(0));
      free_pages(on, to_free, order_t(2));
    }
    normal.lock.unlock();
    for (unsigned cpu = 0; cpu < on.nr_cpus; ++cpu) normal.per_cpu[cpu].lock.unlock();
  }(*m, before);
  drain_cpu_pages(*m, true);
  drain_caches(*m, true);
  EXPECT_EQ(m->deferred.nr_pages.peek(), 0u);
  EXPECT_LE(charged_pages(*m) + 4, charged);
}

// ---- reserves ---------------------------------------------------------------------------------------------------------------------

// Promise: Pages in the lists of CPUs are free pages: an atomic allocation gets them before it fails.
TEST(Promises, AtomicReachesPagesThatWaitInCpuLists) {
  promise_machine m("mem=64M");
  page* const block = alloc_pages(*m, gfp::kernel, order_t(3));
  ASSERT_NE(block, nullptr);
  auto taken = m.take_all(quiet_atomic);
  free_pages(*m, block, order_t(3));  // to the list of order 3, where a single page is not looked for
  auto more = m.take_all(quiet_atomic);
  EXPECT_EQ(more.size(), 8u);
  m.give(more);
  m.give(taken);
}

// Promise: With `vm.reserve_policy=linux6.1` each mask stops where Linux 6.1 does: `__GFP_HIGH` at min / 2, `GFP_ATOMIC` a quarter lower.
TEST(Promises, LinuxPolicyStopsWhereLinuxDoes) {
  promise_machine m("mem=64M vm.reserve_policy=linux6.1");
  const uint64_t min = m.zone_now(zone_idx::normal).min, half = min - min / 2;
  const auto free_after = [&](gfp_t gfp, std::vector<page*>& taken) {
    taken = m.take_all(gfp);
    return m.zone_now(zone_idx::normal).free;
  };
  std::vector<page*> ordinary, high, atomic, more;
  EXPECT_EQ(free_after(quiet_kernel | gfp::noretry, ordinary), min);
  EXPECT_EQ(free_after(quiet_kernel | gfp::noretry | gfp::high, high), half);
  EXPECT_EQ(free_after(quiet_atomic, atomic), half - half / 4);
  EXPECT_EQ(free_after(quiet_atomic, more), half - half / 4);
  EXPECT_TRUE(more.empty());
  for (auto* const pages : {&ordinary, &high, &atomic}) m.give(*pages);
}

// Promise: `__GFP_MEMALLOC` and reclaimers (a noreclaim scope) may use every reserve, a pool of their own included; `__GFP_NOMEMALLOC`
// overrides.
TEST(Promises, MemallocMayUseEveryReserve) {
  promise_machine m("mem=8M");
  auto taken = m.take_all(quiet_atomic);
  const uint64_t pool = m->memalloc_pool.nr_pages.peek();
  ASSERT_GT(pool, 1u);
  EXPECT_EQ(alloc_pages(*m, gfp::nowait | gfp::memalloc | gfp::nomemalloc | gfp::nowarn, order_t(0)), nullptr);
  page* in_scope = nullptr;
  {
    const memalloc_noreclaim_scope scope;
    in_scope = alloc_pages(*m, gfp::nowait | gfp::nowarn, order_t(0));
  }
  EXPECT_NE(in_scope, nullptr);
  auto last = m.take_all(gfp::nowait | gfp::memalloc);
  EXPECT_GE(last.size() + 1, pool);
  EXPECT_EQ(m->memalloc_pool.nr_pages.peek(), 0u);
  uint64_t free = 0;
  for (unsigned i = 0; i < nr_zones; ++i) free += m.zone_now(zone_idx(i)).free;
  EXPECT_EQ(free, 0u) << "what zones keep from requests of higher zones is theirs as well";
  if (in_scope != nullptr) free_pages(*m, in_scope, order_t(0));
  m.give(last);
  m.give(taken);
}

// Promise: Each NULL leaves a record that says why: the mask, the size, how far the chain went, what was free.
TEST(Promises, EachFailureLeavesARecordThatSaysWhy) {
  promise_machine m("mem=8M");
  auto taken = m.take_all(quiet_atomic);
  const uint64_t sequence = m->failure_sequence.peek();
  EXPECT_EQ(alloc_pages(*m, quiet_kernel, order_t(2)), nullptr);
  alloc_failure record;
  ASSERT_TRUE(read_failure(*m, sequence + 1, record));
  EXPECT_EQ(record.gfp, quiet_kernel);
  EXPECT_EQ(record.order, 2u);
  EXPECT_EQ(record.bytes, page_size << 2);
  EXPECT_EQ(record.reached, chain_step::oom);
  EXPECT_EQ(zone_idx(record.zone), zone_idx::normal);
  EXPECT_EQ(record.free, m.zone_now(zone_idx::normal).free);
  EXPECT_GT(record.charged, taken.size() / 2);
  EXPECT_GT(record.nr_pcs, 0u);
  EXPECT_EQ(alloc_pages(*m, quiet_atomic, order_t(0)), nullptr);
  ASSERT_TRUE(read_failure(*m, sequence + 2, record));
  EXPECT_EQ(record.reached, chain_step::reserve);
  m.give(taken);
}

// ---- the budget -------------------------------------------------------------------------------------------------------------------

/// What the machine may have in memory at any time, in pages.
uint64_t footprint(promise_machine& m) {
  uint64_t sum = m->metadata_pages.peek();
  for (unsigned i = 0; i < nr_zones; ++i) sum += m.zone_now(zone_idx(i)).committed;
  return sum;
}

// Promise: What is charged, what is free and present, and what it takes to keep account stay within the budget together.
TEST(Promises, ChargedFreeAndMetadataStayWithinTheBudget) {
  promise_machine m("mem=16M");
  std::vector<void*> objects;
  uint64_t seed = 7;
  const auto random = [&](uint64_t below) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % below;
  };
  for (int round = 0; round < 4000; ++round) {
    const bool filling = round / 500 % 2 == 0;
    if (random(10) < (filling ? 8u : 2u) || objects.empty()) {
      const size_t size = size_t{1} << random(19);
      void* const p = random(8) == 0 ? vmalloc(*m, size, quiet_kernel, nullptr) : kmalloc(*m, size, quiet_kernel);
      if (p != nullptr) objects.push_back(p);
    } else {
      const size_t which = random(objects.size());
      kvfree(*m, objects[which]);
      objects[which] = objects.back();
      objects.pop_back();
    }
    ASSERT_LE(footprint(m), m->limit.raw()) << "after step " << round;
    ASSERT_LE(charged_pages(*m) + m->metadata_pages.peek(), m->limit.raw()) << "after step " << round;
  }
  for (void* const p : objects) kvfree(*m, p);
  objects.clear();
  // Everything is free and still in memory: what lies outside the arena takes its place.
  while (void* const area = vmalloc(*m, 1 << 20, quiet_kernel, nullptr)) {
    objects.push_back(area);
    ASSERT_LE(footprint(m), m->limit.raw()) << "with " << objects.size() << " MiB";
  }
  EXPECT_GE(objects.size(), 12u);
  for (void* const p : objects) kvfree(*m, p);
}

// Promise: The budget is kept while metadata grows: ordinary memory gets smaller by it, and metadata that finds no room is refused.
TEST(Promises, TheBudgetIsKeptWhileMetadataGrows) {
  promise_machine m("mem=16M");
  const uint64_t room = m->limit.raw() / 2;
  ASSERT_TRUE(charge_metadata(*m, room));
  auto taken = m.take_all(quiet_atomic);
  EXPECT_LE(footprint(m), m->limit.raw());
  EXPECT_GE(footprint(m) * 100, m->limit.raw() * 99);
  EXPECT_FALSE(charge_metadata(*m, 64)) << "everything else is handed out";
  EXPECT_LE(footprint(m), m->limit.raw());
  uncharge_metadata(*m, room);
  auto more = m.take_all(quiet_atomic);
  EXPECT_GE(more.size() * 10, room * 9);
  m.give(taken);
  m.give(more);
}

/// Pages in memory of what is mapped beside the arena for per-CPU data.
uint64_t resident_areas(machine& m) KMEM_NO_ANALYSIS {
  uint64_t sum = 0;
  for (unsigned i = 0; i < m.nr_metadata; ++i)
    sum += test::resident_pages(m.metadata[i].home.base, pages_for(m.metadata[i].used_bytes).raw());
  return sum;
}

// Promise: Metadata is counted in the budget before it is touched: descriptors, per-CPU arrays, page tables of vmalloc areas.
TEST(Promises, MetadataIsCounted) {
  const test::one_cpu stay;
  promise_machine m("mem=32M");
  auto pages = m.take_all(quiet_kernel | gfp::noretry, 6000);
  ASSERT_EQ(pages.size(), 6000u);
  m.give(pages);
  kfree(*m, kmalloc(*m, 64, gfp::kernel));  // reads of memory that was never written map pages of zeroes, which mincore counts
  uint64_t in_memory = resident_areas(*m);
  for (const address_reservation* r : {&m->descriptors, &m->block_descriptors})
    in_memory += test::resident_pages(r->base, r->bytes >> page_shift);
  EXPECT_LE(in_memory, m->metadata_pages.peek());
  EXPECT_GT(in_memory, m->metadata_pages.peek() / 2);

  // All blocks are paid for now; what comes is the arrays'.
  const uint64_t counted = m->metadata_pages.peek();
  const uint64_t areas = resident_areas(*m);
  std::vector<void*> objects;
  for (unsigned number = 1; number <= nr_size_classes; ++number) objects.push_back(kmalloc(*m, size_of_class(number), gfp::kernel));
  EXPECT_GT(resident_areas(*m), areas);
  EXPECT_LE(resident_areas(*m) - areas, m->metadata_pages.peek() - counted);
  for (void* const p : objects) kfree(*m, p);

  promise_machine fresh("mem=32M");
  const uint64_t without = fresh->metadata_pages.peek();
  void* const area = vmalloc(*fresh, 8 << 20, gfp::kernel, nullptr);
  ASSERT_NE(area, nullptr);
  EXPECT_GE(fresh->metadata_pages.peek(), without + 4);
  vfree(*fresh, area);
}

// Promise: `mem=auto` takes the budget from the tightest limit of the process's cgroups, less 20 % for what else the group has to hold.
TEST(Promises, TheBudgetComesFromTheTightestCgroup) {
  test::fake_system container;
  container.proc("0::/outer/app\n", std::string(test::other_mounts) + test::mount2);
  container.group2("/sys/fs/cgroup/outer/app", "104857600");
  container.group2("/sys/fs/cgroup/outer", "83886080");
  promise_machine m("mem=auto", container.prefix());
  EXPECT_EQ(bytes(m->limit), size_t{64} << 20);
  EXPECT_EQ(kmalloc_huge(*m, size_t{65} << 20, 1, quiet_kernel), nullptr);
  auto taken = m.take_all(quiet_atomic);
  EXPECT_GT(bytes(nr_pages_t(taken.size())), size_t{60} << 20);
  EXPECT_LE(footprint(m), m->limit.raw());
  m.give(taken);
}

// Promise: While a machine whose budget came from a cgroup grows, it leaves room for what the group's other processes come to use.
TEST(Promises, TheBudgetFollowsTheCgroupWhileTheMachineGrows) {
  test::fake_system container;
  container.proc("0::/app\n", std::string(test::other_mounts) + test::mount2);
  container.group2("/sys/fs/cgroup/app", "104857600");
  promise_machine m("mem=auto", container.prefix());
  ASSERT_EQ(bytes(m->limit), size_t{80} << 20);
  std::vector<page*> taken;
  for (bool more = true; more;) {
    container.group2("/sys/fs/cgroup/app", "104857600", "max", (uint64_t{50} << 20) + (footprint(m) << page_shift));
    const auto some = m.take_all(quiet_kernel | gfp::noretry, 128);
    taken.insert(taken.end(), some.begin(), some.end());
    more = some.size() == 128;
  }
  EXPECT_LE(footprint(m) << page_shift, uint64_t{44} << 20) << "100 - 10 of headroom - 50 of others, and 4 between two readings";
  EXPECT_GE(footprint(m) << page_shift, uint64_t{36} << 20);
  m.give(taken);
}

// ---- kinds of memory --------------------------------------------------------------------------------------------------------------

// Promise: A memfd machine serves like any other, and a vmalloc area there is a second address of page frames.
TEST(Promises, AMemfdMachineServesAndVmallocMapsItsFrames) {
  promise_machine m("mem=32M backing=memfd");
  // Every other page is taken, so that frames are no neighbours.
  auto pages = m.take_all(gfp::kernel, 200);
  std::vector<page*> kept;
  for (size_t i = 0; i < pages.size(); ++i)
    if (i % 2 == 0)
      kept.push_back(pages[i]);
    else
      free_pages(*m, pages[i], order_t(0));
  constexpr unsigned nr = 40;
  auto* const area = static_cast<char*>(vmalloc(*m, nr * page_size, gfp::kernel, nullptr));
  ASSERT_NE(area, nullptr);
  for (unsigned i = 0; i < nr; ++i) area[i * page_size] = static_cast<char>(i + 1);
  unsigned gaps = 0;
  [&](machine& on) KMEM_NO_ANALYSIS {
    const vmap_area* const found = find_area(on.areas, area);
    ASSERT_NE(found, nullptr);
    ASSERT_NE(found->frames, nullptr);
    for (unsigned i = 0; i < nr; ++i) {
      EXPECT_EQ(*on.address_of(on.pfn_of(found->frames[i])), static_cast<char>(i + 1)) << "page " << i;
      gaps += i != 0 && found->frames[i] != found->frames[i - 1] + 1;
    }
  }(*m);
  EXPECT_GT(gaps, 0u);
  vfree(*m, area);
  m.give(kept);
}

/// Allocates and frees in every way. Return: whether all was served and the structures are whole.
bool serves(machine& m) {
  std::vector<void*> objects;
  for (size_t i = 0; i < 500; ++i) {
    void* const p = kmalloc(m, 1 + i * 97 % 9000, quiet_kernel);
    if (p == nullptr) return false;
    std::memset(p, 0x33, 1);
    objects.push_back(p);
  }
  void* const area = vmalloc(m, 100'000, quiet_kernel, nullptr);
  if (area == nullptr) return false;
  vfree(m, area);
  for (void* const p : objects) kfree(m, p);
  drain_caches(m, true);
  drain_cpu_pages(m, true);
  return machine_is_valid(m) == nullptr;
}

// Promise: After a fork parent and child both go on allocating and freeing, each on its own copy.
TEST(Promises, AfterAForkParentAndChildBothServe) {
  promise_machine m("mem=32M");
  auto* const object = static_cast<char*>(kmalloc(*m, 100, gfp::kernel));
  ASSERT_NE(object, nullptr);
  object[0] = 'p';
  machine_fork_prepare(*m);
  const pid_t child = fork();
  if (child == 0) {
    alarm(5);
    machine_fork_child(*m);
    object[0] = 'c';
    kfree(*m, object);
    _exit(serves(*m) ? 0 : 1);
  }
  machine_fork_parent(*m);
  ASSERT_GT(child, 0);
  EXPECT_TRUE(serves(*m));
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(object[0], 'p');
  kfree(*m, object);
}

}  // namespace
}  // namespace kmem
