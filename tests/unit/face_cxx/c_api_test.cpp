#include <cstring>

#include <kmem/kmem.h>

#include "api_fixture.hpp"

namespace {

class c_api : public kmem::test::api_test {};

TEST_F(c_api, does_what_the_cxx_functions_do) {
  char error[200];
  EXPECT_FALSE(kmem_init("mem=16M", error, sizeof error));
  EXPECT_NE(std::string(error).find("serving already"), std::string::npos);
  void* p = kmem_kmalloc(100, KMEM_GFP_KERNEL);
  EXPECT_EQ(kmem_ksize(p), kmem_kmalloc_size_roundup(100));
  EXPECT_EQ(kmem::ksize(p), kmem_ksize(p));
  p = kmem_krealloc(p, 200, KMEM_GFP_ATOMIC);
  EXPECT_EQ(kmem_krealloc_array(p, ~size_t{0}, 2, KMEM_GFP_KERNEL), nullptr);
  kmem_kfree(p);
  auto* const cleared = static_cast<char*>(kmem_kzalloc(50, KMEM_GFP_KERNEL));
  EXPECT_EQ(cleared[49], 0);
  kmem_kfree_sensitive(cleared);
  void* const aligned = kmem_kmalloc_aligned(10, 512, KMEM_GFP_KERNEL);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(aligned) % 512, 0u);
  kmem_kfree(aligned);
  EXPECT_EQ(kmem_kmalloc_array(~size_t{0}, 2, KMEM_GFP_KERNEL), nullptr);
  kmem_kfree(kmem_kcalloc(3, 4, KMEM_GFP_KERNEL));
  char* const text = kmem_kstrdup("text", KMEM_GFP_KERNEL);
  char* const cut = kmem_kstrndup("text", 2, KMEM_GFP_KERNEL);
  void* const copy = kmem_kmemdup("abc", 3, KMEM_GFP_KERNEL);
  EXPECT_STREQ(text, "text");
  EXPECT_STREQ(cut, "te");
  EXPECT_EQ(memcmp(copy, "abc", 3), 0);
  kmem_kfree(text);
  kmem_kfree(cut);
  kmem_kfree(copy);
  EXPECT_GT(kmem_remaining_bytes(), 0u);
}

TEST_F(c_api, caches_and_pages) {
  static int constructed;
  kmem_cache_t* const cache =
      kmem_cache_create("c_cache", 100, 0, KMEM_SLAB_NO_MERGE | KMEM_SLAB_HWCACHE_ALIGN, [](void*) { ++constructed; });
  ASSERT_NE(cache, nullptr);
  EXPECT_EQ(kmem_cache_size(cache), 100u);
  void* const object = kmem_cache_alloc(cache, KMEM_GFP_KERNEL);
  EXPECT_GT(constructed, 0);
  kmem_cache_free(cache, object);
  void* objects[10];
  EXPECT_EQ(kmem_cache_alloc_bulk(cache, KMEM_GFP_KERNEL, 10, objects), 10u);
  kmem_cache_free_bulk(cache, 10, objects);
  EXPECT_GT(kmem_cache_shrink(cache), 0u);
  kmem_cache_destroy(cache);

  kmem_page_t* const block = kmem_alloc_pages(KMEM_GFP_KERNEL, 2);
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(kmem_virt_to_page(kmem_page_address(block)), block);
  EXPECT_EQ(kmem_page_to_pfn(block) % 4, 0u);
  EXPECT_EQ(kmem_pfn_to_page(kmem_page_to_pfn(block)), block);
  EXPECT_STREQ(kmem_page_zone(block), "Normal");
  kmem_get_page(block);
  EXPECT_EQ(kmem_page_count(block), 2u);
  kmem_put_page(block);
  kmem_free_pages(block, 2);
  kmem_page_t* const pair = kmem_alloc_pages(KMEM_GFP_KERNEL, 1);
  char* const first = static_cast<char*>(kmem_page_address(pair));
  kmem_split_page(pair, 1);
  kmem_free_pages_at(first + 4096, 0);
  kmem_free_pages_at(first, 0);
  kmem_page_t* pages[4] = {};
  EXPECT_EQ(kmem_alloc_pages_bulk(KMEM_GFP_KERNEL, 4, pages), 4u);
  for (kmem_page_t* const page : pages) kmem_free_pages(page, 0);
  void* const address = kmem_get_free_pages(KMEM_GFP_KERNEL, 1);
  kmem_free_pages_at(address, 1);
  kmem_free_pages_at(kmem_get_zeroed_page(KMEM_GFP_KERNEL), 0);
  void* const exact = kmem_alloc_pages_exact(9000, KMEM_GFP_KERNEL);
  kmem_free_pages_exact(exact, 9000);
}

TEST_F(c_api, vmalloc_contexts_and_reclaim) {
  void* const area = kmem_vmalloc(9000);
  EXPECT_TRUE(kmem_is_vmalloc_addr(area));
  kmem_vfree(area);
  kmem_vfree(kmem_vzalloc(10));
  void* p = kmem_kvmalloc(size_t{5} << 20, KMEM_GFP_KERNEL);
  p = kmem_kvrealloc(p, size_t{6} << 20, KMEM_GFP_KERNEL);
  EXPECT_TRUE(kmem_is_vmalloc_addr(p));
  EXPECT_GE(kmem_kvsize(p), 1u);
  EXPECT_EQ(kmem_kvsize(nullptr), 0u);
  kmem_kvfree(p);
  kmem_kvfree(kmem_kvzalloc(10, KMEM_GFP_KERNEL));
  kmem_kvfree(kmem_kvmalloc_array(10, 10, KMEM_GFP_KERNEL));
  kmem_kvfree(kmem_kvcalloc(10, 10, KMEM_GFP_KERNEL));

  EXPECT_FALSE(kmem_in_atomic());
  kmem_preempt_disable();
  EXPECT_TRUE(kmem_in_atomic());
  kmem_preempt_enable();
  kmem_local_bh_disable();
  EXPECT_TRUE(kmem_in_interrupt());
  EXPECT_EQ(kmem::preempt_count(), kmem::softirq_disable_unit);
  kmem_local_bh_enable();
  kmem_hardirq_enter();
  EXPECT_TRUE(kmem_in_interrupt());
  EXPECT_EQ(kmem::preempt_count(), kmem::hardirq_unit);
  kmem_hardirq_exit();
  EXPECT_FALSE(kmem_in_interrupt());
  kmem_might_sleep(__FILE__, __LINE__);
  const uint32_t io = kmem_memalloc_noio_save();
  EXPECT_EQ(kmem::current_gfp(kmem::gfp::kernel), kmem::gfp::noio);
  kmem_memalloc_noio_restore(io);
  const uint32_t fs = kmem_memalloc_nofs_save();
  EXPECT_EQ(kmem::current_gfp(kmem::gfp::kernel), kmem::gfp::nofs);
  kmem_memalloc_nofs_restore(fs);
  EXPECT_EQ(take_messages(), "");

  kmem_set_context_policy(KMEM_CONTEXT_COUNT);
  const uint64_t broken = kmem_context_violations();
  kmem_preempt_disable();
  kmem_might_sleep(__FILE__, __LINE__);
  kmem_preempt_enable();
  EXPECT_EQ(kmem_context_violations(), broken + 1);
  EXPECT_EQ(take_messages(), "");
  kmem_set_context_policy(KMEM_CONTEXT_REPORT);

  EXPECT_EQ(kmem_register_reclaim(nullptr, nullptr, 0), -22);
  const int number = kmem_register_reclaim([](void*, kmem_gfp_t, uint64_t) -> uint64_t { return 0; }, nullptr, KMEM_GFP_FS_BIT);
  EXPECT_GE(number, 0);
  kmem_unregister_reclaim(number);
}

TEST_F(c_api, reclaim_checker) {
  const bool before = kmem_reclaim_checker();
  const uint64_t violations = kmem::context_violations();
  kmem_set_reclaim_checker(true);
  EXPECT_TRUE(kmem_reclaim_checker());
  struct kmem_work_region fs, io;
  kmem_fs_work_enter(&fs);
  kmem_io_work_enter(&io);
  kmem_work_leave(&io);
  kmem_work_leave(&fs);
  EXPECT_EQ(kmem::context_violations(), violations);
  const uint32_t saved = kmem_memalloc_noio_save();
  kmem_io_work_enter(&io);
  kmem_work_leave(&io);
  kmem_memalloc_noio_restore(saved);
  EXPECT_EQ(kmem::context_violations(), violations + 1);
  kmem_set_reclaim_checker(before);
}

}  // namespace
