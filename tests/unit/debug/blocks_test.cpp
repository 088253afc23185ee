#include <vector>

#include "debug_fixture.hpp"

namespace kmem {
namespace {

class blocks : public test::debug_fixture {
 protected:
  block_use block_of(const page* p) {
    block_use use;
    const uint32_t number = m().pfn_of(p).raw() / pages_per_block;
    EXPECT_TRUE(read_block_use(m(), number, use));
    EXPECT_EQ(use.number, number);
    return use;
  }
};

TEST_F(blocks, every_page_is_counted_once) {
  std::vector<page*> pages;
  for (unsigned order = 0; order <= 9; ++order) pages.push_back(alloc_pages(m(), gfp::kernel, order_t(order)));
  page* const run = alloc_run(m(), gfp::kernel, nr_pages_t(1300));  // three blocks or more
  uint64_t used = 0, opened = 0;
  block_use use;
  for (uint32_t from = 0; read_block_use(m(), from, use); from = use.number + 1, ++opened) {
    EXPECT_EQ(use.used + use.free_present + use.absent + use.transit, static_cast<int>(pages_per_block)) << use.number;
    unsigned seen[4] = {};
    for (const page_use each : use.pages) ++seen[static_cast<unsigned>(each)];
    EXPECT_EQ(seen[static_cast<unsigned>(page_use::absent)], use.absent);
    EXPECT_EQ(seen[static_cast<unsigned>(page_use::free)], use.free_present);
    EXPECT_EQ(seen[static_cast<unsigned>(page_use::slab)], use.slab);
    used += use.used;
  }
  EXPECT_GT(opened, 4u);
  EXPECT_GE(used, 1023u + 1300u);
  EXPECT_LE(used, 1023u + 1300u + 600u);  // slabs of the library itself, the reclaimers' pool, page 0
  const block_use middle = block_of(run + pages_per_block);
  EXPECT_EQ(middle.used, pages_per_block);  // the second block of the run has no head in it
  EXPECT_EQ(middle.pages[0], page_use::pages);
  EXPECT_EQ(middle.slab, 0);
  for (unsigned order = 0; order <= 9; ++order) free_pages(m(), pages[order], order_t(order));
  free_run(m(), run);
}

TEST_F(blocks, slabs_are_named_by_their_cache) {
  cache_args args;
  args.name = "in the picture";
  args.object_size = 5000;
  args.flags = slab_flags_t::no_merge;
  kmem_cache* const cache = cache_create(m(), args);
  std::vector<void*> objects;
  for (int i = 0; i < 400; ++i) objects.push_back(cache_alloc(m(), *cache, gfp::kernel));
  const block_use use = block_of(&m().page_of(m().pfn_of(objects[200])));
  EXPECT_STREQ(use.cache, "in the picture");
  EXPECT_GT(use.slab, use.used / 2);
  EXPECT_EQ(use.pages[m().pfn_of(objects[200]).raw() % pages_per_block], page_use::slab);
  for (void* const p : objects) cache_free(m(), *cache, p);
  EXPECT_EQ(cache_destroy(m(), cache), err::ok);
}

TEST_F(blocks, freed_pages_are_not_taken_for_used_ones) {
  page* const p = alloc_pages(m(), gfp::kernel, order_t(6));
  const unsigned first = m().pfn_of(p).raw() % pages_per_block;
  EXPECT_EQ(block_of(p).pages[first + 63], page_use::pages);
  free_pages(m(), p, order_t(6));
  EXPECT_NE(block_of(p).pages[first + 63], page_use::pages);
  page* const single = alloc_pages(m(), gfp::kernel, order_t(0));
  free_pages(m(), single, order_t(0));  // to this CPU's list: free for the picture
  EXPECT_EQ(block_of(single).pages[m().pfn_of(single).raw() % pages_per_block], page_use::free);
}

}  // namespace
}  // namespace kmem
