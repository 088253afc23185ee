// One test for each promise that the library makes, named after it. tests/mutants has, for each, a change of the code that only this
// test notices (scripts/mutants runs them).
#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <set>
#include <thread>

#include "promises/promise_machine.hpp"

namespace kmem {
namespace {

using test::promise_machine;

constexpr gfp_t quiet_kernel = gfp::kernel | gfp::nowarn;
constexpr gfp_t quiet_atomic = gfp::atomic | gfp::nowarn;

std::string field(const std::string& text, const char* needle) {
  return text.find(needle) == std::string::npos ? "no '" + std::string(needle) + "' in:\n" + text : needle;
}

// Promise: kmalloc does not clear memory; kzalloc (`__GFP_ZERO`) does.
TEST(Promises, KmallocDoesNotClearAndZeroClears) {
  promise_machine m("mem=16M");
  auto* first = static_cast<unsigned char*>(kmalloc(*m, 200, gfp::kernel));
  ASSERT_NE(first, nullptr);
  std::memset(first, 0xa5, 200);
  kfree(*m, first);
  auto* again = static_cast<unsigned char*>(kmalloc(*m, 200, gfp::kernel));
  ASSERT_EQ(again, first) << "the object freed last is the warmest";
  EXPECT_EQ(again[100], 0xa5) << "kmalloc must not spend time on clearing";
  kfree(*m, again);
  auto* cleared = static_cast<unsigned char*>(kmalloc(*m, 200, gfp::kernel | gfp::zero));
  ASSERT_EQ(cleared, first);
  for (unsigned i = 0; i < 200; ++i) ASSERT_EQ(cleared[i], 0) << i;
  kfree(*m, cleared);
}

// Promise: `GFP_KERNEL` may put its caller to sleep until enough pages are free (`vm.alloc_wait_ms`).
TEST(Promises, GfpKernelWaitsUntilAPageIsFree) {
  promise_machine m("mem=8M vm.alloc_wait_ms=20000");
  auto taken = m.take_all(quiet_kernel | gfp::noretry);
  ASSERT_GT(taken.size(), 200u);
  std::atomic<int> freed{0};
  std::thread freer([&] {
    for (int i = 0; i < 100; ++i) {  // one at a time: the first ones wake the waiter for nothing
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      ++freed;
      free_pages(*m, taken.back(), order_t(0));
      taken.pop_back();
    }
  });
  page* const p = alloc_pages(*m, quiet_kernel, order_t(3));
  EXPECT_GE(freed, 8) << "the pages were there before anybody freed them";
  ASSERT_NE(p, nullptr);
  freer.join();
  free_pages(*m, p, order_t(3));
  m.give(taken);
}

// Promise: While a `GFP_KERNEL` allocation is held up, the system finds memory: registered caches give theirs back. `GFP_NOWAIT` asks
// nobody.
TEST(Promises, WhileGfpKernelWaitsTheSystemFindsMemory) {
  promise_machine m("mem=8M");
  struct cache {
    machine* m;
    std::vector<page*> pages;
  } held{&*m, {}};
  reclaim_callback callback;
  callback.context = &held;
  callback.reclaim = [](void* context, gfp_t, uint64_t n) noexcept -> uint64_t {
    auto& cached = *static_cast<cache*>(context);
    uint64_t done = 0;
    for (; done < n && !cached.pages.empty(); ++done) {
      free_pages(*cached.m, cached.pages.back(), order_t(0));
      cached.pages.pop_back();
    }
    return done;
  };
  const int number = register_callback(*m, callback);
  ASSERT_GE(number, 0);
  held.pages = m.take_all(quiet_kernel | gfp::noretry, 400);
  auto rest = m.take_all(gfp::nowait);
  EXPECT_EQ(held.pages.size(), 400u) << "an allocation that may not block runs no callback";
  auto more = m.take_all(quiet_kernel, 200);
  EXPECT_EQ(more.size(), 200u);
  EXPECT_LE(held.pages.size(), 400u - 100u);
  m.give(more);
  m.give(rest);
  m.give(held.pages);
  unregister_callback(*m, number);
}

// Promise: `GFP_ATOMIC` uses even the last free page, and fails when there is none.
TEST(Promises, GfpAtomicUsesEvenTheLastFreePage) {
  promise_machine m("mem=8M");
  auto ordinary = m.take_all(quiet_kernel | gfp::noretry);
  auto urgent = m.take_all(quiet_atomic);
  const auto normal = m.zone_now(zone_idx::normal);
  const auto dma = m.zone_now(zone_idx::dma);
  EXPECT_EQ(normal.free + normal.in_cpu_lists, 0u);
  EXPECT_EQ(dma.free + dma.in_cpu_lists, dma.managed - dma.charged);
  EXPECT_LE(dma.free, m->zones[unsigned(zone_idx::dma)].lowmem_reserve[unsigned(zone_idx::normal)]);
  m.give(ordinary);
  m.give(urgent);
}

// Promise: Ordinary allocations stop at the min watermark: the rest is a reserve for atomic ones.
TEST(Promises, OrdinaryAllocationsLeaveAReserve) {
  promise_machine m("mem=8M");
  auto ordinary = m.take_all(quiet_kernel | gfp::noretry);
  const auto normal = m.zone_now(zone_idx::normal);
  EXPECT_GE(normal.free, normal.min);
  EXPECT_LE(normal.free, normal.min + 8);
  EXPECT_GT(normal.min, 0u);
  m.give(ordinary);
}

// Promise: The reserve is memory, not a number: its pages are backed, so that their first touch cannot fault.
TEST(Promises, TheReserveIsBackedSoThatItsFirstTouchCannotFault) {
  promise_machine m("mem=8M");
  auto ordinary = m.take_all(quiet_kernel | gfp::noretry);
  auto urgent = m.take_all(quiet_atomic, m.zone_now(zone_idx::normal).min);
  ASSERT_FALSE(urgent.empty());
  for (page* const p : urgent) {
    if (zone_idx(p->zone) != zone_idx::normal) continue;  // DMA's pages above min are kept by the lowmem reserve, not backed
    unsigned char resident = 0;
    ASSERT_EQ(mincore(m->address_of(m->pfn_of(p)), page_size, &resident), 0);
    EXPECT_EQ(resident & 1, 1) << "page " << m->pfn_of(p).raw() << " of the reserve was not backed";
  }
  m.give(ordinary);
  m.give(urgent);
}

// Promise: `GFP_USER` and `GFP_HIGHUSER` give pages for user regions; `GFP_HIGHUSER` from high memory where there is some.
TEST(Promises, GfpHighuserComesFromHighMemory) {
  promise_machine m("mem=32M highmem=8M movablecore=4M");
  page* const high = alloc_pages(*m, gfp::highuser, order_t(0));
  page* const kernel = alloc_pages(*m, gfp::user, order_t(0));
  page* const movable = alloc_pages(*m, gfp::highuser_movable, order_t(0));
  ASSERT_TRUE(high != nullptr && kernel != nullptr && movable != nullptr);
  EXPECT_EQ(zone_idx(high->zone), zone_idx::highmem);
  EXPECT_EQ(zone_idx(kernel->zone), zone_idx::normal);
  EXPECT_EQ(zone_idx(movable->zone), zone_idx::movable);
  {
    promise_machine without("mem=16M");
    page* const p = alloc_pages(*without, gfp::highuser, order_t(0));
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(zone_idx(p->zone), zone_idx::normal);
    free_pages(*without, p, order_t(0));
  }
  free_pages(*m, high, order_t(0));
  free_pages(*m, kernel, order_t(0));
  free_pages(*m, movable, order_t(0));
}

struct counting_callback {
  std::atomic<int> runs{0};
  static uint64_t run(void* context, gfp_t, uint64_t) noexcept {
    ++static_cast<counting_callback*>(context)->runs;
    return 0;
  }
};

// Promise: `GFP_NOFS`, and every mask inside a nofs scope, runs no reclaim that calls a file system.
TEST(Promises, GfpNofsRunsNoFileSystemReclaim) {
  promise_machine m("mem=8M");
  counting_callback fs, io;
  const int a = register_callback(*m, {&fs, counting_callback::run, gfp::fs});
  const int b = register_callback(*m, {&io, counting_callback::run, gfp::io});
  auto taken = m.take_all(quiet_kernel | gfp::noretry);
  fs.runs = io.runs = 0;
  EXPECT_EQ(alloc_pages(*m, gfp::nofs | gfp::nowarn, order_t(0)), nullptr);
  EXPECT_EQ(fs.runs, 0);
  EXPECT_GT(io.runs, 0);
  {
    const memalloc_nofs_scope scope;
    EXPECT_EQ(alloc_pages(*m, quiet_kernel, order_t(0)), nullptr);
  }
  EXPECT_EQ(fs.runs, 0) << "the scope takes the right away from everything called inside";
  EXPECT_EQ(alloc_pages(*m, quiet_kernel, order_t(0)), nullptr);
  EXPECT_GT(fs.runs, 0);
  m.give(taken);
  unregister_callback(*m, a);
  unregister_callback(*m, b);
}

// Promise: `GFP_NOIO`, and every mask inside a noio scope, starts no I/O at all.
TEST(Promises, GfpNoioStartsNoIo) {
  promise_machine m("mem=8M");
  counting_callback io;
  const int a = register_callback(*m, {&io, counting_callback::run, gfp::io});
  auto taken = m.take_all(quiet_kernel | gfp::noretry);
  io.runs = 0;
  EXPECT_EQ(alloc_pages(*m, gfp::noio | gfp::nowarn, order_t(0)), nullptr);
  EXPECT_EQ(io.runs, 0);
  {
    const memalloc_noio_scope scope;
    EXPECT_EQ(alloc_pages(*m, quiet_kernel, order_t(0)), nullptr);
  }
  EXPECT_EQ(io.runs, 0);
  EXPECT_EQ(alloc_pages(*m, gfp::nofs | gfp::nowarn, order_t(0)), nullptr);
  EXPECT_GT(io.runs, 0);
  m.give(taken);
  unregister_callback(*m, a);
}

// Promise: `__GFP_DMA` and `__GFP_DMA32` choose the zone, for kmalloc too.
TEST(Promises, DmaFlagsChooseTheZone) {
  promise_machine m("mem=64M zone_dma=8M zone_dma32=16M");
  page* const dma = alloc_pages(*m, gfp::kernel | gfp::dma, order_t(0));
  page* const dma32 = alloc_pages(*m, gfp::kernel | gfp::dma32, order_t(0));
  ASSERT_TRUE(dma != nullptr && dma32 != nullptr);
  EXPECT_EQ(zone_idx(dma->zone), zone_idx::dma);
  EXPECT_LT(bytes(nr_pages_t(m->pfn_of(dma).raw())), size_t{16} << 20);
  EXPECT_EQ(zone_idx(dma32->zone), zone_idx::dma32);
  EXPECT_LT(bytes(nr_pages_t(m->pfn_of(dma32).raw())), size_t{4} << 30);
  auto* object = static_cast<char*>(kmalloc(*m, 100, gfp::kernel | gfp::dma));
  ASSERT_NE(object, nullptr);
  EXPECT_LT(static_cast<size_t>(object - m->base), size_t{16} << 20);
  kfree(*m, object);
  free_pages(*m, dma, order_t(0));
  free_pages(*m, dma32, order_t(0));
}

// Promise: `__GFP_COLD` gives a cache-cold page, from the cold end of the per-CPU list.
TEST(Promises, ColdPagesComeFromTheColdEnd) {
  const test::one_cpu stay;
  promise_machine m("mem=64M");
  std::vector<page*> pages = m.take_all(gfp::kernel, 8);
  ASSERT_EQ(pages.size(), 8u);
  page* const freed_last = pages.back();
  m.give(pages);
  page* const cold = alloc_pages(*m, gfp::kernel | gfp::cold, order_t(0));
  page* const warm = alloc_pages(*m, gfp::kernel, order_t(0));
  EXPECT_NE(cold, freed_last);
  EXPECT_EQ(warm, freed_last);
  free_pages(*m, cold, order_t(0));
  free_pages(*m, warm, order_t(0));
}

// Promise: A failure is reported in the kernel's form, unless `__GFP_NOWARN`.
TEST(Promises, NowarnMeansNoReport) {
  promise_machine m("mem=8M");
  auto taken = m.take_all(quiet_kernel | gfp::noretry);
  const uint64_t records = m->failure_sequence.peek();
  EXPECT_EQ(alloc_pages(*m, gfp::nowait | gfp::nowarn, order_t(0)), nullptr);
  EXPECT_EQ(m.log().find("page allocation failure"), std::string::npos);
  EXPECT_GT(m->failure_sequence.peek(), records) << "the record is kept all the same";
  EXPECT_EQ(alloc_pages(*m, gfp::nowait, order_t(0)), nullptr);
  EXPECT_EQ(field(m.log(), "page allocation failure: order:0, mode:0x800(GFP_NOWAIT)"),
            "page allocation failure: order:0, mode:0x800(GFP_NOWAIT)");
  m.give(taken);
}

// Promise: `__GFP_HIGH` may use the emergency reserve; `__GFP_NOMEMALLOC` overrides it.
TEST(Promises, HighMayUseTheEmergencyReserve) {
  promise_machine m("mem=8M");
  auto taken = m.take_all(quiet_kernel | gfp::noretry);
  EXPECT_EQ(alloc_pages(*m, quiet_kernel | gfp::noretry, order_t(0)), nullptr);
  page* const p = alloc_pages(*m, quiet_kernel | gfp::noretry | gfp::high, order_t(0));
  EXPECT_NE(p, nullptr);
  EXPECT_EQ(alloc_pages(*m, quiet_kernel | gfp::noretry | gfp::high | gfp::nomemalloc, order_t(0)), nullptr) << "NOMEMALLOC overrides";
  EXPECT_EQ(alloc_pages(*m, quiet_atomic | gfp::nomemalloc, order_t(0)), nullptr) << "NOMEMALLOC overrides";
  if (p != nullptr) free_pages(*m, p, order_t(0));
  m.give(taken);
}

// Promise: `__GFP_NORETRY` makes one pass over what may block; without it passes go on while they make progress.
TEST(Promises, NoretryMakesOnePass) {
  promise_machine m("mem=8M");
  struct endless {
    std::atomic<int> runs{0};
    static uint64_t run(void* context, gfp_t, uint64_t) noexcept {
      ++static_cast<endless*>(context)->runs;
      return 1;  // claims progress, so that only the flags end the retries
    }
  } callback;
  const int number = register_callback(*m, {&callback, endless::run, gfp::io});
  auto taken = m.take_all(gfp::nowait | gfp::nowarn);
  callback.runs = 0;
  EXPECT_EQ(alloc_pages(*m, quiet_kernel | gfp::noretry, order_t(0)), nullptr);
  EXPECT_EQ(callback.runs, 1);
  callback.runs = 0;
  EXPECT_EQ(alloc_pages(*m, quiet_kernel, order_t(0)), nullptr);
  EXPECT_GT(callback.runs, 1);
  EXPECT_LE(callback.runs, int(chain_retries) + 1);
  m.give(taken);
  unregister_callback(*m, number);
}

// Promise: `__GFP_RETRY_MAYFAIL` (`__GFP_REPEAT`) tries harder for costly orders, and may fail.
TEST(Promises, RetryMayfailTriesCostlyOrdersHarder) {
  promise_machine m("mem=8M");
  counting_callback callback;
  struct claims {
    static uint64_t run(void* context, gfp_t, uint64_t) noexcept {
      ++static_cast<counting_callback*>(context)->runs;
      return 1;
    }
  };
  const int number = register_callback(*m, {&callback, claims::run, gfp::io});
  auto taken = m.take_all(gfp::nowait | gfp::nowarn);
  callback.runs = 0;
  EXPECT_EQ(alloc_pages(*m, quiet_kernel, order_t(5)), nullptr);
  const int ordinary = callback.runs;
  callback.runs = 0;
  EXPECT_EQ(alloc_pages(*m, quiet_kernel | gfp::repeat, order_t(5)), nullptr);
  EXPECT_GT(callback.runs, ordinary);
  m.give(taken);
  unregister_callback(*m, number);
}

// Promise: `__GFP_NOFAIL` never fails: it waits until there is memory.
TEST(Promises, NofailNeverFails) {
  promise_machine m("mem=8M");
  auto taken = m.take_all(quiet_atomic);
  auto last = m.take_all(gfp::memalloc | gfp::nowait | gfp::nowarn);
  ASSERT_EQ(alloc_pages(*m, quiet_kernel, order_t(0)), nullptr);
  std::atomic<bool> freed{false};
  std::thread freer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(80));
    freed = true;
    m.give(last);
    for (int i = 0; i < 16; ++i) {
      free_pages(*m, taken.back(), order_t(0));
      taken.pop_back();
    }
  });
  page* const p = alloc_pages(*m, gfp::kernel | gfp::nofail, order_t(0));
  EXPECT_NE(p, nullptr);
  EXPECT_TRUE(freed);
  freer.join();
  if (p != nullptr) free_pages(*m, p, order_t(0));
  m.give(taken);
}

// Promise: `kmalloc_max=128K` makes kmalloc fail beyond the portable limit of 128 KiB.
TEST(Promises, KmallocMaxIsThePortableLimit) {
  promise_machine m("mem=16M kmalloc_max=128K");
  void* const largest = kmalloc(*m, 128 * 1024, gfp::kernel);
  EXPECT_NE(largest, nullptr);
  EXPECT_EQ(kmalloc(*m, 128 * 1024 + 1, quiet_kernel), nullptr);
  kfree(*m, largest);
}

// Promise: alloc_pages fails for `order >= MAX_ORDER`; `max_order=` is 10 or 11.
TEST(Promises, MaxOrderIsExclusive) {
  for (const unsigned max_order : {10u, 11u}) {
    promise_machine m(max_order == 10 ? "mem=32M max_order=10" : "mem=32M max_order=11");
    page* const largest = alloc_pages(*m, gfp::kernel, order_t(max_order - 1));
    ASSERT_NE(largest, nullptr);
    EXPECT_EQ(m->pfn_of(largest).raw() % (1u << (max_order - 1)), 0u);
    EXPECT_EQ(alloc_pages(*m, quiet_kernel, order_t(max_order)), nullptr);
    free_pages(*m, largest, order_t(max_order - 1));
  }
}

// Promise: vmalloc serves sizes that no block of pages could, charged to the budget.
TEST(Promises, VmallocServesWhatNoBlockCould) {
  promise_machine m("mem=32M");
  const size_t size = 9 * 1024 * 1024 + 5;
  EXPECT_EQ(kmalloc(*m, size, quiet_kernel), nullptr);
  auto* area = static_cast<char*>(vmalloc(*m, size, gfp::kernel, nullptr));
  ASSERT_NE(area, nullptr);
  area[0] = 1;
  area[size - 1] = 2;
  EXPECT_GE(charged_pages(*m), pages_for(size).raw());
  vfree(*m, area);
}

// Promise: An allocation that may sleep is reported in atomic context; `GFP_ATOMIC` and `GFP_NOWAIT` are legal there.
TEST(Promises, SleepingInAtomicContextIsReported) {
  promise_machine m("mem=8M");
  const uint64_t before = context_violations();
  [](machine& on) KMEM_NO_ANALYSIS {
    spinlock lock;
    const spin_guard hold(lock);
    kfree(on, kmalloc(on, 64, gfp::atomic));
    kfree(on, kmalloc(on, 64, gfp::nowait));
  }(*m);
  EXPECT_EQ(context_violations(), before) << "atomic allocations are legal there";
  [](machine& on) KMEM_NO_ANALYSIS {
    spinlock lock;
    const spin_guard hold(lock);
    kfree(on, kmalloc(on, 64, gfp::kernel));
  }(*m);
  EXPECT_EQ(context_violations(), before + 1);
  EXPECT_EQ(field(m.log(), "BUG: sleeping function called from invalid context at "),
            "BUG: sleeping function called from invalid context at ");
  EXPECT_EQ(field(m.log(), "preempt_count: 1, expected: 0"), "preempt_count: 1, expected: 0");
}

// Promise: Resident memory of the arena is what is charged and what is free and still present; what is given back is gone.
TEST(Promises, ArenaResidencyStaysWithinChargedAndFreePresent) {
  promise_machine m("mem=32M");
  std::vector<void*> objects;
  for (int i = 0; i < 2000; ++i) {
    void* const p = kmalloc(*m, 4096, gfp::kernel);
    ASSERT_NE(p, nullptr);
    std::memset(p, 1, 4096);
    objects.push_back(p);
  }
  for (size_t i = 0; i < objects.size(); i += 2) kfree(*m, objects[i]);
  const auto check = [&] {
    uint64_t allowed = charged_pages(*m) + m->memalloc_pool.nr_pages.peek();
    for (unsigned i = 0; i < nr_zones; ++i) {
      const zone_snapshot z = m.zone_now(zone_idx(i));
      allowed += z.present_free + z.in_cpu_lists + z.in_transit + z.reserve;
    }
    const uint64_t in_memory = test::resident_pages(m->base, m->span_pages);
    EXPECT_LE(in_memory, allowed);
    return in_memory;
  };
  const uint64_t before = check();
  drain_caches(*m, true);
  EXPECT_GT(give_back(*m, ~uint64_t{0}, true), 0u);
  EXPECT_LT(check(), before);
  for (size_t i = 1; i < objects.size(); i += 2) kfree(*m, objects[i]);
}

// Promise: Freed memory serves every other size, and every other kind of page.
TEST(Promises, FreedMemoryServesEveryOtherSize) {
  promise_machine m("mem=16M");
  const auto fill = [&](size_t size) {
    std::vector<void*> objects;
    while (void* const p = kmalloc(*m, size, quiet_kernel)) objects.push_back(p);
    const size_t payload = objects.size() * size;
    for (void* const p : objects) kfree(*m, p);
    return payload;
  };
  const size_t small = fill(64), large = fill(32768), medium = fill(1024), small_again = fill(64);
  EXPECT_GE(large * 100, small * 97);
  EXPECT_GE(medium * 100, small * 97);
  EXPECT_GE(small_again * 1000, small * 999);

  // Blocks that a few pages of one kind hold serve every other kind of page.
  auto pages = m.take_all(quiet_kernel | gfp::noretry);
  std::vector<page*> kept;
  for (size_t i = 0; i < pages.size(); ++i)
    if (i % 64 == 0)
      kept.push_back(pages[i]);
    else
      free_pages(*m, pages[i], order_t(0));
  auto movable = m.take_all(gfp::nowait | gfp::movable);
  EXPECT_GE((movable.size() + kept.size()) * 100, pages.size() * 97);
  m.give(movable);
  m.give(kept);
}

// Promise: No NULL while an object of a larger class is free.
TEST(Promises, NoNullWhileALargerObjectIsFree) {
  promise_machine m("mem=8M");
  void* const spare = kmalloc(*m, 1024, gfp::kernel);
  ASSERT_NE(spare, nullptr);
  void* const pin = kmalloc(*m, 1024, gfp::kernel);
  std::vector<void*> objects;
  while (void* const p = kmalloc(*m, 1024, quiet_atomic)) objects.push_back(p);
  std::vector<void*> small;
  while (void* const p = kmalloc(*m, 200, quiet_atomic)) small.push_back(p);
  kfree(*m, spare);
  void* const p = kmalloc(*m, 200, quiet_atomic);
  EXPECT_EQ(p, spare) << "an object of 1024 bytes was free, and large enough";
  EXPECT_EQ(kmalloc(*m, 200, quiet_atomic), nullptr);
  kfree(*m, p);
  kfree(*m, pin);
  for (void* const q : objects) kfree(*m, q);
  for (void* const q : small) kfree(*m, q);
}

// Promise: No NULL while slabs are wholly free, or would be if arrays and barns gave their objects back.
TEST(Promises, NoNullWhileSlabsAreWhollyFree) {
  promise_machine m("mem=16M");
  constexpr unsigned nr_objects = 64;  // of 4096 bytes: each is worth a page
  std::vector<void*> objects;
  for (unsigned i = 0; i < nr_objects; ++i) objects.push_back(kmalloc(*m, 4096, gfp::kernel));
  auto taken = m.take_all(quiet_atomic);
  for (void* const p : objects) kfree(*m, p);
  auto more = m.take_all(quiet_atomic);
  EXPECT_GE(more.size(), nr_objects);
  m.give(more);
  m.give(taken);
}

// Promise: High orders succeed when only scattered pages are free: those are given back, and a fresh block is backed.
TEST(Promises, HighOrdersSucceedWhenOnlyScatteredPagesAreFree) {
  promise_machine m("mem=32M");
  auto taken = m.take_all(quiet_kernel | gfp::noretry);
  std::vector<page*> kept;
  for (size_t i = 0; i < taken.size(); ++i)
    if (i % 2 == 0)
      kept.push_back(taken[i]);
    else
      free_pages(*m, taken[i], order_t(0));
  page* const block = alloc_pages(*m, gfp::kernel, order_t(9));
  ASSERT_NE(block, nullptr) << "half of the budget is free, in single pages";
  std::memset(m->address_of(m->pfn_of(block)), 1, page_size << 9);
  free_pages(*m, block, order_t(9));
  m.give(kept);
}

// Promise: Memory that is known to be zero is not cleared again.
TEST(Promises, ZeroedFreshMemoryIsNotWrittenAgain) {
  promise_machine m("mem=16M");
  auto* const fresh = static_cast<char*>(get_free_pages(*m, gfp::kernel | gfp::zero, order_t(8)));
  ASSERT_NE(fresh, nullptr);
  std::vector<unsigned char> resident(256);
  ASSERT_EQ(mincore(fresh, page_size << 8, resident.data()), 0);
  int written = 0;
  for (const unsigned char flags : resident) written += flags & 1;
  EXPECT_LT(written, 200) << "pages known to be zero were cleared";
  for (size_t i = 0; i < page_size << 8; i += 64) ASSERT_EQ(fresh[i], 0);
  free_pages_at(*m, fresh, order_t(8));
}

// Promise: When everything is freed, everything comes back: caches keep nothing that a drain does not return.
TEST(Promises, EverythingComesBack) {
  promise_machine m("mem=16M");
  drain_caches(*m, true);
  drain_cpu_pages(*m, true);
  const uint64_t before = charged_pages(*m);
  std::vector<void*> objects;
  for (size_t i = 0; i < 20000; ++i)
    if (void* const p = kmalloc(*m, 1 + (i * 37) % 5000, quiet_kernel)) objects.push_back(p);
  for (void* const p : objects) kfree(*m, p);
  drain_caches(*m, true);
  drain_cpu_pages(*m, true);
  EXPECT_EQ(charged_pages(*m), before);
}

}  // namespace
}  // namespace kmem
