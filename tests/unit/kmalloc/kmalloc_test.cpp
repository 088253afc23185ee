// kmalloc and kfree: sizes and alignment, types, zeroing, what is refused, and the chain before NULL.
#include <algorithm>
#include <set>

#include "kmalloc_fixture.hpp"

namespace kmem::testing {
namespace {

TEST(kmalloc, every_size_up_to_the_largest_class_is_usable_aligned_and_told_by_ksize) {
  kmalloc_machine m;
  for (size_t size = 1; size <= size_class_max; size += size < 2000 ? 1 : 113) {
    auto* const p = static_cast<char*>(kmalloc(*m, size, gfp::kernel));
    ASSERT_NE(p, nullptr) << size;
    ASSERT_EQ(reinterpret_cast<uintptr_t>(p) % (size <= 8 ? 8 : 16), 0u);
    if (is_power_of_two(size) && size >= 8) {
      ASSERT_EQ(reinterpret_cast<uintptr_t>(p) % size, 0u) << size;
    }
    ASSERT_EQ(ksize(*m, p), kmalloc_size_roundup(size));
    std::memset(p, 0xee, ksize(*m, p));
    kfree(*m, p);
  }
}

TEST(kmalloc, powers_of_two_are_naturally_aligned_wherever_they_lie_in_their_slab) {
  kmalloc_machine m;
  for (size_t size = 8; size <= size_class_max; size *= 2) {
    std::vector<void*> objects;
    for (int i = 0; i < 40; ++i) {
      objects.push_back(kmalloc(*m, size, gfp::kernel));
      ASSERT_EQ(reinterpret_cast<uintptr_t>(objects.back()) % size, 0u) << size;
    }
    for (void* p : objects) kfree(*m, p);
  }
}

TEST(kmalloc, zero_bytes_give_the_zero_size_pointer_which_everything_takes) {
  kmalloc_machine m;
  void* const p = kmalloc(*m, 0, gfp::kernel);
  EXPECT_EQ(p, zero_size_ptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p), 16u);
  EXPECT_EQ(ksize(*m, p), 0u);
  EXPECT_EQ(ksize(*m, nullptr), 0u);
  kfree(*m, p);
  kfree(*m, nullptr);
  kfree_sensitive(*m, p);
  kfree_sensitive(*m, nullptr);
  EXPECT_EQ(kmalloc_aligned(*m, 0, 16, gfp::kernel), zero_size_ptr);
  void* const aligned = kmalloc_aligned(*m, 0, 64, gfp::kernel);
  EXPECT_NE(aligned, zero_size_ptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(aligned) % 64, 0u);
  kfree(*m, aligned);
  EXPECT_EQ(m->bad_frees.load_relaxed(), 0u);
}

TEST(kmalloc, zeroed_memory_is_zero_whatever_was_there) {
  kmalloc_machine m;
  for (const size_t size : {size_t{8}, size_t{100}, size_t{5000}, size_t{32768}, size_t{40000}, size_t{200000}}) {
    void* const dirty = kmalloc(*m, size, gfp::kernel);
    std::memset(dirty, 0xaa, size);
    kfree(*m, dirty);
    auto* const p = static_cast<char*>(kmalloc(*m, size, gfp::kernel | gfp::zero));
    for (size_t i = 0; i < size; ++i) ASSERT_EQ(p[i], 0) << size << " at " << i;
    kfree(*m, p);
  }
}

TEST(kmalloc, other_types_have_caches_of_their_own_with_the_kernels_names) {
  kmalloc_machine m;
  void* const dma = kmalloc(*m, 100, gfp::kernel | gfp::dma);
  void* const rcl = kmalloc(*m, 1024, gfp::kernel | gfp::reclaimable);
  void* const big = kmalloc(*m, 2048, gfp::kernel);
  EXPECT_STREQ(cache_of(*m, dma)->name, "dma-kmalloc-112");
  EXPECT_STREQ(cache_of(*m, rcl)->name, "kmalloc-rcl-1k");
  EXPECT_STREQ(cache_of(*m, big)->name, "kmalloc-2k");
  EXPECT_EQ(m->page_of(slab_head(*m, *cache_of(*m, dma), dma)).zone, static_cast<uint8_t>(zone_idx::dma));
  kfree(*m, dma);
  kfree(*m, rcl);
  kfree(*m, big);
  void* const large = kmalloc(*m, 100000, gfp::kernel | gfp::dma);
  EXPECT_EQ(m->page_of(m->pfn_of(large)).zone, static_cast<uint8_t>(zone_idx::dma));
  kfree(*m, large);
}

TEST(kmalloc, kfree_takes_objects_of_a_cache_too) {
  kmalloc_machine m;
  kmem_cache* const cache = cache_create(*m, {.name = "mine", .object_size = 72, .flags = slab_flags_t::no_merge});
  void* const p = cache_alloc(*m, *cache, gfp::kernel);
  EXPECT_EQ(ksize(*m, p), cache->size);
  kfree(*m, p);
  EXPECT_EQ(cache_destroy(*m, cache), err::ok);
}

TEST(kmalloc, a_pointer_that_kmalloc_did_not_hand_out_is_refused_and_nothing_happens) {
  kmalloc_machine m;
  int local = 0;
  page* const alien = alloc_pages(*m, gfp::kernel, order_t(0));
  auto* const run = static_cast<char*>(kmalloc(*m, 100000, gfp::kernel));
  const void* const never_opened = m->base + (size_t{m->span_pages - 1} << page_shift);
  const void* const beyond = m->base + (size_t{m->span_pages} << page_shift);
  const void* const alien_page = m->address_of(m->pfn_of(alien));
  const void* const wrong[] = {&local, m->base, never_opened, beyond, alien_page, run + 16, run + page_size};
  uint64_t refused = 0;
  for (const void* p : wrong) {
    kfree(*m, p);
    EXPECT_EQ(m->bad_frees.load_relaxed(), ++refused);
    EXPECT_EQ(ksize(*m, p), 0u);
  }
  EXPECT_NE(take_log().find("kfree of invalid pointer"), std::string::npos);
  m.check();
  kfree(*m, run);
  kfree(*m, run);
  EXPECT_EQ(m->bad_frees.load_relaxed(), ++refused);
  put_page(*m, alien);
}

TEST(kmalloc, a_double_free_of_a_small_object_is_reported_and_it_is_handed_out_once) {
  kmalloc_machine m;
  void* const p = kmalloc(*m, 64, gfp::kernel);
  kfree(*m, p);
  kfree(*m, p);
  drain_caches(*m, true);
  EXPECT_EQ(m->bad_frees.load_relaxed(), 1u);
  const std::string log = take_log();
  EXPECT_NE(log.find("BUG kmalloc-64"), std::string::npos);
  EXPECT_NE(log.find("Object already free"), std::string::npos);
  std::set<void*> seen;
  std::vector<void*> all;
  for (int i = 0; i < 200; ++i) {
    all.push_back(kmalloc(*m, 64, gfp::kernel));
    EXPECT_TRUE(seen.insert(all.back()).second);
  }
  for (void* q : all) kfree(*m, q);
}

TEST(kmalloc, a_pointer_into_an_object_is_reported_and_not_freed) {
  kmalloc_machine m;
  auto* const p = static_cast<char*>(kmalloc(*m, 64, gfp::kernel));
  kfree(*m, p + 8);
  EXPECT_EQ(m->bad_frees.load_relaxed(), 1u);
  EXPECT_NE(take_log().find("not the start of an object"), std::string::npos);
  void* const next = kmalloc(*m, 64, gfp::kernel);
  EXPECT_NE(next, p + 8);
  kfree(*m, next);
  void* inside[] = {p + 16, p + 63};
  cache_free_bulk(*m, *cache_of(*m, p), 2, inside);
  EXPECT_EQ(m->bad_frees.load_relaxed(), 3u);
  EXPECT_TRUE(object_is_valid(*m, *cache_of(*m, p), p));
  kfree(*m, p);
}

TEST(kmalloc, the_start_of_an_object_is_known_in_every_class) {
  kmalloc_machine m;
  for (unsigned number = 1; number <= nr_size_classes; ++number) {
    const kmem_cache& cache = m->kmalloc_caches[number - 1];
    auto* const p = static_cast<char*>(kmalloc(*m, size_of_class(number), gfp::kernel));
    char* const slab = m->address_of(slab_head(*m, cache, p));
    const size_t slab_bytes = page_size << cache.slab_order;
    for (size_t offset = 0; offset < slab_bytes; ++offset)
      ASSERT_EQ(is_object_start(*m, cache.shape, slab + offset), offset % cache.size == 0 && offset / cache.size < cache.capacity)
          << cache.name << " at " << offset;
    kfree(*m, p);
  }
}

TEST(kmalloc, a_pointer_into_an_allocation_clears_copies_and_frees_nothing) {
  kmalloc_machine m;
  for (const size_t size : {size_t{64}, size_t{300}, size_t{40'000}}) {
    auto* const p = static_cast<char*>(kmalloc(*m, size, gfp::kernel));
    const size_t usable = ksize(*m, p);
    std::memset(p, 0x77, usable);
    const uint64_t before = m->bad_frees.load_relaxed();
    kfree_sensitive(*m, p + 8);
    EXPECT_EQ(krealloc(*m, p + 8, size * 4, gfp::kernel), nullptr);
    EXPECT_EQ(krealloc(*m, p + 8, 1, gfp::kernel), nullptr);
    EXPECT_EQ(m->bad_frees.load_relaxed(), before + 3) << size;
    for (size_t i = 0; i < usable; ++i) ASSERT_EQ(p[i], 0x77) << size << " at " << i;
    kfree(*m, p);
  }
  const std::string log = take_log();
  EXPECT_NE(log.find("kfree_sensitive of invalid pointer"), std::string::npos);
  EXPECT_NE(log.find("krealloc of invalid pointer"), std::string::npos);
}

TEST(kmalloc, sensitive_memory_is_cleared_before_it_is_freed) {
  kmalloc_machine m;
  auto* const p = static_cast<char*>(kmalloc(*m, 100, gfp::kernel));
  std::memset(p, 0x77, 112);
  kfree_sensitive(*m, p);
  for (int i = 0; i < 112; ++i) ASSERT_EQ(p[i], 0) << i;  // still mapped: the slab is kept
}

TEST(kmalloc, a_larger_object_serves_when_there_are_no_pages_and_no_own_object) {
  kmalloc_machine m;
  // All that could be carved: pages, and one object of 1 KiB.
  std::vector<void*> kept;
  void* const spare = kmalloc(*m, 1024, gfp::kernel);
  for (int i = 0; i < 3; ++i) kept.push_back(kmalloc(*m, 1024, gfp::kernel));
  auto pages = m.exhaust_pages();
  while (void* p = kmalloc(*m, 1024, gfp::atomic | gfp::nowarn)) kept.push_back(p);
  EXPECT_EQ(kmalloc(*m, 40, gfp::atomic | gfp::nowarn), nullptr);
  kfree(*m, spare);
  void* const p = kmalloc(*m, 40, gfp::atomic);
  EXPECT_EQ(p, spare);
  EXPECT_EQ(ksize(*m, p), 1024u);
  EXPECT_EQ(kmalloc(*m, 40, gfp::atomic | gfp::nowarn), nullptr);
  kfree(*m, p);
  // Too small an object is of no use.
  EXPECT_EQ(kmalloc(*m, 2000, gfp::kernel | gfp::nowarn), nullptr);
  m.give_pages(pages);
  for (void* q : kept) kfree(*m, q);
}

TEST(kmalloc, a_single_page_serves_sizes_whose_slabs_are_larger) {
  kmalloc_machine m;
  auto pages = m.exhaust_pages();
  // Every second page: no two neighbours are free.
  std::vector<page*> holes;
  std::sort(pages.begin(), pages.end());
  std::vector<page*> rest;
  for (size_t i = 0; i < pages.size(); ++i) (i % 2 == 0 && holes.size() < 8 ? holes : rest).push_back(pages[i]);
  for (page* p : holes) put_page(*m, p);
  std::vector<void*> objects;
  for (int i = 0; i < 4; ++i) {
    objects.push_back(kmalloc(*m, 4096, gfp::atomic | gfp::nowarn));  // its slabs are of order 2
    ASSERT_NE(objects.back(), nullptr) << i;
    EXPECT_EQ(ksize(*m, objects.back()), 4096u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(objects.back()) % 4096, 0u);
  }
  for (void* p : objects) kfree(*m, p);
  m.give_pages(rest);
}

TEST(kmalloc, failure_is_reported_in_the_kernels_form_unless_nowarn) {
  kmalloc_machine m;
  auto pages = m.exhaust_pages();
  take_log();
  EXPECT_EQ(kmalloc(*m, 1024, gfp::atomic | gfp::nowarn), nullptr);
  EXPECT_EQ(take_log(), "");
  EXPECT_EQ(kmalloc(*m, 1024, gfp::atomic), nullptr);
  const std::string log = take_log();
  EXPECT_NE(log.find("page allocation failure"), std::string::npos) << log;
  EXPECT_NE(log.find("SLUB: Unable to allocate memory on node -1, gfp=0xa20(GFP_ATOMIC)\n"
                     "  cache: kmalloc-1k, object size: 1024, buffer size: 1024, default order: 0, min order: 0\n"
                     "  node 0: slabs: 0, objs: 0, free: 0\n"),
            std::string::npos)
      << log;
  m.give_pages(pages);
}

TEST(kmalloc, each_null_leaves_one_record_however_many_ways_were_tried) {
  kmalloc_machine m;
  auto pages = m.exhaust_pages();
  for (const size_t size : {size_t{8}, size_t{64}, size_t{1024}, size_t{4096}, size_t{30000}, size_t{100000}}) {
    const uint64_t before = m->failure_sequence.load_relaxed();
    EXPECT_EQ(kmalloc(*m, size, gfp::atomic | gfp::nowarn), nullptr);
    EXPECT_EQ(m->failure_sequence.load_relaxed() - before, 1u) << size;
  }
  m.give_pages(pages);
}

TEST(kmalloc, might_sleep_is_checked_and_failslab_applies) {
  kmalloc_machine m;
  set_context_policy(context_policy::count);
  kfree(*m, kmalloc(*m, 64, gfp::kernel));
  const uint64_t before = context_violations();
  {
    preempt_guard guard;
    kfree(*m, kmalloc(*m, 64, gfp::kernel));
    kfree(*m, kmalloc(*m, 64, gfp::atomic));
  }
  EXPECT_EQ(context_violations() - before, 1u);
  set_context_policy(context_policy::report);
  set_fail_attributes(fail_point::failslab, {.probability = 100});
  EXPECT_EQ(kmalloc(*m, 64, gfp::kernel), nullptr);
  void* const p = kmalloc(*m, 64, gfp::kernel | gfp::nofail);
  EXPECT_NE(p, nullptr);
  set_fail_attributes(fail_point::failslab, {});
  kfree(*m, p);
}

TEST(kmalloc, payload_is_97_percent_of_what_the_zone_manages_at_64_bytes) {
  kmalloc_machine m(slab_config(uint64_t{64} << 20));
  for (const size_t size : {size_t{64}, size_t{1024}, size_t{16}}) {
    std::vector<void*> objects;
    while (void* p = kmalloc(*m, size, gfp::atomic | gfp::nowarn)) objects.push_back(p);
    const double share = static_cast<double>(objects.size() * size) / static_cast<double>(uint64_t{64} << 20);
    EXPECT_GE(share, size == 16 ? 0.965 : 0.97) << size << ": " << share;
    for (void* p : objects) kfree(*m, p);
    RecordProperty("share_" + std::to_string(size), std::to_string(share));
  }
}

TEST(kmalloc, everything_that_one_class_gave_back_another_can_have) {
  kmalloc_machine m;
  const auto fill = [&](size_t size) {
    std::vector<void*> objects;
    while (void* p = kmalloc(*m, size, gfp::kernel | gfp::nowarn)) objects.push_back(p);
    const size_t payload = objects.size() * size;
    for (void* p : objects) kfree(*m, p);
    return payload;
  };
  const size_t first = fill(1024);
  fill(16);
  const size_t again = fill(1024);
  // The region pages that 16-byte arrays took are metadata now.
  EXPECT_GE(again + 16 * page_size, first);
  fill(32768);
  EXPECT_GE(fill(1024) + 32 * page_size, first);
}

}  // namespace
}  // namespace kmem::testing
