// Sizes above the classes: whole pages, the limit, alignment beyond a page.
#include "kmalloc_fixture.hpp"

namespace kmem::testing {
namespace {

TEST(large, takes_only_as_many_pages_as_needed) {
  kmalloc_machine m;
  const size_t sizes[] = {32769, 36865, 100000, size_t{1} << 17, 700000, size_t{1} << 20, 3000000};
  for (const size_t size : sizes) {
    const uint64_t before = charged_pages(*m);
    auto* const p = static_cast<char*>(kmalloc(*m, size, gfp::kernel));
    ASSERT_NE(p, nullptr) << size;
    EXPECT_EQ(charged_pages(*m) - before, pages_for(size).raw()) << size;
    EXPECT_EQ(ksize(*m, p), round_up(size, page_size));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % page_size, 0u);
    if (is_power_of_two(size)) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % size, 0u) << size;
    }
    p[0] = p[size - 1] = 1;
    kfree(*m, p);
    EXPECT_EQ(charged_pages(*m), before);
  }
}

TEST(large, beyond_a_max_order_block_kmalloc_fails_with_a_warning_and_kmalloc_huge_serves) {
  kmalloc_machine m;
  const size_t limit = page_size << (m->max_order - 1);
  void* const most = kmalloc(*m, limit, gfp::kernel);
  EXPECT_NE(most, nullptr);
  kfree(*m, most);
  take_log();
  EXPECT_EQ(kmalloc(*m, limit + 1, gfp::kernel | gfp::nowarn), nullptr);
  EXPECT_EQ(take_log(), "");
  EXPECT_EQ(kmalloc(*m, limit + 1, gfp::kernel), nullptr);
  EXPECT_NE(take_log().find("more than kmalloc_max (4194304 bytes)"), std::string::npos);
  auto* const p = static_cast<char*>(kmalloc_huge(*m, limit * 3, 1, gfp::kernel));
  ASSERT_NE(p, nullptr);
  p[limit * 3 - 1] = 1;
  EXPECT_EQ(ksize(*m, p), limit * 3);
  kfree(*m, p);
}

TEST(large, sizes_near_the_end_of_the_address_space_are_refused) {
  kmalloc_machine m;
  for (const size_t size : {~size_t{0}, ~size_t{0} - 4096, size_t{1} << 63, size_t{1} << 40}) {
    EXPECT_EQ(kmalloc(*m, size, gfp::kernel | gfp::nowarn), nullptr);
    EXPECT_EQ(kmalloc_huge(*m, size, 1, gfp::kernel | gfp::nowarn), nullptr);
    EXPECT_EQ(kmalloc_huge(*m, 1, size_t{1} << 50, gfp::kernel | gfp::nowarn), nullptr);
  }
}

TEST(large, an_alignment_beyond_the_arenas_own_is_refused_whatever_the_size) {
  kmalloc_machine m;
  for (const size_t size : {size_t{0}, size_t{1}, size_t{100'000}}) {
    for (const size_t align : {size_t{8} << 20, size_t{1} << 30, size_t{1} << 63}) {
      EXPECT_EQ(kmalloc_aligned(*m, size, align, gfp::kernel | gfp::nowarn), nullptr) << size << " " << align;
      EXPECT_EQ(kmalloc_huge(*m, size, align, gfp::kernel | gfp::nowarn), nullptr) << size << " " << align;
    }
    void* const p = kmalloc_aligned(*m, size, span_step_bytes, gfp::kernel);
    ASSERT_NE(p, nullptr) << size;
    EXPECT_EQ(size == 0 ? 0 : reinterpret_cast<uintptr_t>(p) % span_step_bytes, 0u) << size;
    kfree(*m, p);
  }
  EXPECT_EQ(take_log(), "");
  EXPECT_EQ(kmalloc_aligned(*m, 100, size_t{8} << 20, gfp::kernel), nullptr);
  EXPECT_NE(take_log().find("aligned to 8388608 bytes, which is more than 4194304, the most there is"), std::string::npos);
}

TEST(large, kmalloc_max_is_the_limit_of_the_specification_when_set) {
  machine_config config = slab_config();
  config.kmalloc_max = 128 << 10;
  kmalloc_machine m(config);
  void* const p = kmalloc(*m, 128 << 10, gfp::kernel);
  EXPECT_NE(p, nullptr);
  kfree(*m, p);
  EXPECT_EQ(kmalloc(*m, (128 << 10) + 1, gfp::kernel), nullptr);
  EXPECT_NE(take_log().find("more than kmalloc_max (131072 bytes)"), std::string::npos);
  machine_config tiny = slab_config();
  tiny.kmalloc_max = 4096;
  kmalloc_machine t(tiny);
  void* const q = kmalloc(*t, 4096, gfp::kernel);
  EXPECT_NE(q, nullptr);
  EXPECT_EQ(kmalloc(*t, 4097, gfp::kernel | gfp::nowarn), nullptr);
  kfree(*t, q);
}

TEST(large, an_alignment_that_a_run_has_anyway_asks_for_no_more_pages) {
  machine_config config = slab_config();
  config.mem = uint64_t{8} << 20;
  kmalloc_machine m(config);
  const uint64_t most = free_pages_total(*m) - 200;  // watermarks and metadata
  for (const uint64_t n : {most, uint64_t{300}, uint64_t{33}})
    for (const size_t align : {size_t{8192}, page_size * 32}) {
      void* const p = kmalloc_huge(*m, n << page_shift, align, gfp::kernel | gfp::nowarn);
      ASSERT_NE(p, nullptr) << n;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % align, 0u);
      kfree(*m, p);
    }
}

TEST(large, every_alignment_is_met_and_the_surplus_goes_back) {
  kmalloc_machine m;
  for (size_t align = 1; align <= size_t{4} << 20; align *= 2)
    for (const size_t size : {size_t{1}, size_t{24}, size_t{4096}, size_t{5000}, size_t{33000}, size_t{100000}}) {
      const uint64_t before = charged_pages(*m);
      auto* const p = static_cast<char*>(kmalloc_aligned(*m, size, align, gfp::kernel));
      ASSERT_NE(p, nullptr) << size << " aligned to " << align;
      ASSERT_EQ(reinterpret_cast<uintptr_t>(p) % align, 0u) << size << " aligned to " << align;
      ASSERT_GE(ksize(*m, p), size);
      if (align > size_class_max) {
        EXPECT_EQ(charged_pages(*m) - before, pages_for(size).raw());
      }
      p[0] = p[size - 1] = 1;
      kfree(*m, p);
    }
}

TEST(large, no_bytes_at_an_alignment_are_memory_of_their_own) {
  kmalloc_machine m;
  EXPECT_EQ(kmalloc_aligned(*m, 0, 16, gfp::kernel), zero_size_ptr);
  for (size_t align = 32; align <= 65536; align *= 2) {
    void* const p = kmalloc_aligned(*m, 0, align, gfp::kernel);
    ASSERT_FALSE(is_zero_or_null(p)) << align;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % align, 0u) << align;
    kfree(*m, p);
  }
}

TEST(large, pages_for_a_small_object_are_no_compound_block) {
  kmalloc_machine m;
  auto taken = m.exhaust_pages();
  for (int i = 0; i < 2; ++i) {  // two pages side by side: less than a slab of the class
    size_t k = 1;
    while (k < taken.size() && !(taken[k] == taken[k - 1] + 1 && m->pfn_of(taken[k - 1]).raw() % 2 == 0)) ++k;
    ASSERT_LT(k, taken.size());
    put_page(*m, taken[k]);
    put_page(*m, taken[k - 1]);
    taken.erase(taken.begin() + static_cast<std::ptrdiff_t>(k) - 1, taken.begin() + static_cast<std::ptrdiff_t>(k) + 1);
  }
  void* const p = kmalloc(*m, 8000, gfp::atomic | gfp::comp | gfp::nowarn);
  if (p != nullptr) {
    const page& head = m->page_of(m->pfn_of(p));
    EXPECT_EQ(head.flags & page_flag_compound, 0);
    EXPECT_NE((&head)[1].kind, page_kind::tail);
  }
  kfree(*m, p);
  m.give_pages(taken);
}

TEST(large, in_a_handler_no_cache_is_made_for_a_zone) {
  kmalloc_machine m;
  void* p = nullptr;
  {
    const nest_guard handler;
    p = kmalloc(*m, 100, gfp::atomic | gfp::dma);
    EXPECT_NE(p, nullptr);
  }
  for (const auto& row : m->other_caches)
    for (const atomic<kmem_cache*>& entry : row) EXPECT_EQ(entry.load_relaxed(), nullptr);
  EXPECT_EQ(page_zone_idx(*m, &m->page_of(m->pfn_of(p))), zone_idx::dma);
  kfree(*m, p);
}

}  // namespace
}  // namespace kmem::testing
