#include <cstring>
#include <set>
#include <string>

#include <kmem/kmem.hpp>

#include "api_fixture.hpp"

namespace kmem {
namespace {

page* nth(page* p, unsigned n) { return pfn_to_page(page_to_pfn(p) + n); }

class pages_api : public test::api_test {};

TEST_F(pages_api, blocks_of_every_order_are_contiguous_and_aligned) {
  for (unsigned order = 0; order <= 10; ++order) {
    page* const p = alloc_pages(gfp::kernel, order);
    ASSERT_NE(p, nullptr) << order;
    char* const address = static_cast<char*>(page_address(p));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(address) % (page_bytes << order), 0u);
    EXPECT_EQ(page_to_pfn(p) % (1u << order), 0u);
    EXPECT_EQ(virt_to_page(address), p);
    EXPECT_EQ(virt_to_page(address + 100), p);
    EXPECT_EQ(page_count(p), 1u);
    memset(address, 1, page_bytes << order);
    free_pages(p, order);
  }
  EXPECT_EQ(alloc_pages(gfp::kernel, 11), nullptr);
  EXPECT_EQ(alloc_pages(gfp::kernel | gfp::nowarn, 200), nullptr);
  EXPECT_EQ(virt_to_page(nullptr), nullptr);
  int here = 0;
  EXPECT_EQ(virt_to_page(&here), nullptr);
  EXPECT_EQ(pfn_to_page(0), nullptr);
  EXPECT_EQ(pfn_to_page(~uint64_t{0}), nullptr);
  free_pages(nullptr, 0);
}

TEST_F(pages_api, references_keep_a_block_alive) {
  page* const p = alloc_pages(gfp::kernel, 2);
  get_page(p);
  EXPECT_EQ(page_count(p), 2u);
  put_page(p);
  EXPECT_EQ(page_count(p), 1u);
  put_page(p);

  page* const compound = alloc_pages(gfp::kernel | gfp::comp, 2);
  get_page(nth(compound, 3));  // a tail's reference is its head's
  EXPECT_EQ(page_count(compound), 2u);
  EXPECT_EQ(page_count(nth(compound, 1)), 2u);
  put_page(nth(compound, 2));
  put_page(compound);

  page* const block = alloc_pages(gfp::kernel, 3);
  split_page(block, 3);
  for (unsigned i = 0; i < 8; ++i) {
    EXPECT_EQ(page_count(nth(block, i)), 1u);
    free_pages(nth(block, i), 0);
  }
}

TEST_F(pages_api, zones_are_those_of_the_mask) {
  const struct {
    gfp_t mask;
    const char* zone;
  } cases[] = {{gfp::kernel, "Normal"},
               {gfp::kernel | gfp::dma, "DMA"},
               {gfp::kernel | gfp::dma32, "DMA32"},
               {gfp::highuser, "HighMem"},
               {gfp::atomic, "Normal"}};
  for (const auto& each : cases) {
    page* const p = alloc_pages(each.mask, 0);
    ASSERT_NE(p, nullptr) << each.zone;
    EXPECT_STREQ(page_zone(p), each.zone);
    free_pages(p, 0);
  }
}

TEST_F(pages_api, pages_by_address) {
  void* const block = get_free_pages(gfp::kernel, 2);
  ASSERT_NE(block, nullptr);
  memset(block, 0xff, 4 * page_bytes);
  free_pages_at(block, 2);
  free_pages_at(nullptr, 2);
  auto* const cleared = static_cast<unsigned char*>(get_zeroed_page(gfp::kernel));
  for (size_t i = 0; i < page_bytes; ++i) ASSERT_EQ(cleared[i], 0);
  free_pages_at(cleared, 0);
  EXPECT_EQ(get_free_pages(gfp::kernel | gfp::nowarn, 100), nullptr);

  const uint64_t before = remaining_bytes();
  void* const exact = alloc_pages_exact(5 * page_bytes - 1, gfp::kernel);
  ASSERT_NE(exact, nullptr);
  EXPECT_LE(before - remaining_bytes(), 64 * page_bytes);
  memset(exact, 1, 5 * page_bytes);
  free_pages_exact(exact, 5 * page_bytes - 1);
  free_pages_exact(nullptr, 1);
}

TEST_F(pages_api, bulk_fills_only_the_holes) {
  page* pages[20] = {};
  pages[3] = alloc_pages(gfp::kernel, 0);
  page* const kept = pages[3];
  EXPECT_EQ(alloc_pages_bulk(gfp::kernel, 20, pages), 20u);
  EXPECT_EQ(pages[3], kept);
  EXPECT_EQ(std::set<page*>(pages, pages + 20).size(), 20u);
  for (page* const p : pages) free_pages(p, 0);
}

TEST_F(pages_api, every_page_of_a_block_knows_its_zone) {
  for (const gfp_t mask : {gfp::kernel, gfp::kernel | gfp::dma, gfp::kernel | gfp::comp}) {
    page* const p = alloc_pages(mask, 3);
    ASSERT_NE(p, nullptr);
    for (unsigned i = 0; i < 8; ++i) EXPECT_STREQ(page_zone(nth(p, i)), page_zone(p)) << i;
    free_pages(p, 3);
  }
}

}  // namespace
}  // namespace kmem
