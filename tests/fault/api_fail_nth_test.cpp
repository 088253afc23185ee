// Every public call, with the nth fail point on its way failing, for n = 1, 2, ... until it passes all: once only, and for good from there.
//
// A call that fails has changed nothing: what it was given is as before, and after caches are drained as much is charged as at the start.
#include <cstring>
#include <memory>
#include <memory_resource>
#include <vector>

#include <kmem/kmem.h>
#include <kmem/lru_cache.hpp>
#include <kmem/memory.hpp>
#include <kmem/pmr.hpp>

#include "fault/fail_everywhere.hpp"

namespace kmem {
namespace {

using test::call;
using test::fail_everywhere;
using test::if_made;
using test::most_points;
using test::settled_charge;
using test::started_machine;
using test::undo;

constexpr gfp_t quiet = gfp::kernel | gfp::nowarn;

undo freed_by_kfree(void* p) {
  return if_made<void*>(p, [](void* q) { kfree(q); });
}
undo freed_by_kvfree(void* p) {
  return if_made<void*>(p, [](void* q) { kvfree(q); });
}

TEST(api_fail_nth, kmalloc_and_its_relatives) {
  for (const size_t size : {size_t{8}, size_t{100}, size_t{3000}, size_t{20000}, size_t{100000}, size_t{4} << 20}) {
    fail_everywhere({"kmalloc", [size] { return freed_by_kfree(kmalloc(size, quiet)); }});
    fail_everywhere({"kmalloc atomic", [size] { return freed_by_kfree(kmalloc(size, gfp::atomic | gfp::nowarn)); }});
  }
  fail_everywhere({"kzalloc", [] { return freed_by_kfree(kzalloc(5000, quiet)); }});
  fail_everywhere({"kmalloc dma", [] { return freed_by_kfree(kmalloc(100, quiet | gfp::dma)); }});
  fail_everywhere({"kmalloc reclaimable", [] { return freed_by_kfree(kmalloc(100, quiet | gfp::reclaimable)); }});
  fail_everywhere({"kmalloc_aligned", [] { return freed_by_kfree(kmalloc_aligned(100, 4096, quiet)); }});
  fail_everywhere({"kmalloc_aligned large", [] { return freed_by_kfree(kmalloc_aligned(5000, 65536, quiet)); }});
  fail_everywhere({"kcalloc", [] { return freed_by_kfree(kcalloc(100, 10, quiet)); }});
  fail_everywhere({"kmemdup", [] { return freed_by_kfree(kmemdup("a text", 6, quiet)); }});
  fail_everywhere({"kstrdup", [] { return freed_by_kfree(kstrdup("a text", quiet)); }});
  fail_everywhere({"kstrndup", [] { return freed_by_kfree(kstrndup("a text", 3, quiet)); }});
  fail_everywhere({"kmem_kmalloc", [] { return freed_by_kfree(kmem_kmalloc(100, KMEM_GFP_KERNEL | KMEM_GFP_NOWARN_BIT)); }});
}

/// A reallocation that fails leaves the old memory as it was.
undo reallocated(size_t old_size, size_t new_size, bool kv) {
  void* old = nullptr;
  {
    // The old memory is not what is tried: it is made with the failures put aside.
    task_context& task = current();
    const uint32_t nth = task.fail_nth;
    task.fail_nth = 0;
    old = kv ? kvmalloc(old_size, gfp::kernel) : kmalloc(old_size, gfp::kernel);
    task.fail_nth = nth;
  }
  EXPECT_NE(old, nullptr);
  memset(old, 0x37, old_size);
  void* const now = kv ? kvrealloc(old, new_size, quiet) : krealloc(old, new_size, quiet);
  const auto* bytes = static_cast<unsigned char*>(now != nullptr ? now : old);
  for (size_t i = 0; i < old_size && i < new_size; ++i)
    if (bytes[i] != 0x37) {
      ADD_FAILURE() << "byte " << i << " of " << old_size << " was lost";
      break;
    }
  if (now == nullptr) {
    kvfree(old);
    return {};
  }
  return freed_by_kvfree(now);
}

TEST(api_fail_nth, reallocation) {
  fail_everywhere({"krealloc small", [] { return reallocated(20, 3000, false); }});
  fail_everywhere({"krealloc large", [] { return reallocated(3000, 300000, false); }});
  fail_everywhere({"kvrealloc to vmalloc", [] { return reallocated(100000, size_t{6} << 20, true); }});
  fail_everywhere({"kvrealloc between areas", [] { return reallocated(size_t{5} << 20, size_t{7} << 20, true); }});
}

TEST(api_fail_nth, caches) {
  fail_everywhere({"kmem_cache_create", [] {
                     return if_made<kmem_cache*>(kmem_cache_create("fail_nth", 200, 0, cache_flags::no_merge),
                                                 [](kmem_cache* cache) { kmem_cache_destroy(cache); });
                   }});
  kmem_cache* const cache = kmem_cache_create("fail_nth_objects", 3000, 0, cache_flags::no_merge);
  ASSERT_NE(cache, nullptr);
  fail_everywhere({"kmem_cache_alloc",
                   [cache] { return if_made<void*>(kmem_cache_alloc(cache, quiet), [cache](void* p) { kmem_cache_free(cache, p); }); }});
  static void* objects[300];
  fail_everywhere({"kmem_cache_alloc_bulk", [cache]() -> undo {
                     const size_t n = kmem_cache_alloc_bulk(cache, quiet, 300, objects);
                     EXPECT_TRUE(n == 0 || n == 300) << n;
                     if (n == 0) return {};
                     return [cache] { kmem_cache_free_bulk(cache, 300, objects); };
                   }});
  kmem_cache_destroy(cache);
}

TEST(api_fail_nth, pages) {
  for (const unsigned order : {0u, 1u, 3u, 4u, 9u, 10u})
    fail_everywhere(
        {"alloc_pages", [order] { return if_made<page*>(alloc_pages(quiet, order), [order](page* p) { free_pages(p, order); }); }});
  fail_everywhere({"alloc_pages highmem",
                   [] { return if_made<page*>(alloc_pages(gfp::highuser | gfp::nowarn, 2), [](page* p) { free_pages(p, 2); }); }});
  fail_everywhere(
      {"alloc_pages atomic", [] { return if_made<page*>(alloc_pages(gfp::atomic | gfp::nowarn, 0), [](page* p) { free_pages(p, 0); }); }});
  fail_everywhere({"get_free_pages", [] { return if_made<void*>(get_free_pages(quiet, 3), [](void* p) { free_pages_at(p, 3); }); }});
  fail_everywhere({"get_zeroed_page", [] { return if_made<void*>(get_zeroed_page(quiet), [](void* p) { free_pages_at(p, 0); }); }});
  fail_everywhere(
      {"alloc_pages_exact", [] { return if_made<void*>(alloc_pages_exact(50000, quiet), [](void* p) { free_pages_exact(p, 50000); }); }});
  fail_everywhere({"alloc_pages_bulk", []() -> undo {
                     static page* pages[100];
                     const unsigned n = alloc_pages_bulk(quiet, 100, pages);
                     const auto take_back = [] {
                       for (page*& p : pages) {
                         free_pages(p, 0);
                         p = nullptr;
                       }
                     };
                     if (n == 100) return take_back;
                     take_back();  // some of them, as the kernel gives: whoever asked frees those
                     return {};
                   }});
}

TEST(api_fail_nth, vmalloc_and_kvmalloc) {
  for (const size_t size : {size_t{1}, size_t{100} * 4096, size_t{5} << 20})
    fail_everywhere({"vmalloc", [size] { return if_made<void*>(vmalloc(size, quiet), [](void* p) { vfree(p); }); }});
  fail_everywhere({"vzalloc", [] { return if_made<void*>(vzalloc(10000, quiet), [](void* p) { vfree(p); }); }});
  for (const size_t size : {size_t{100}, size_t{100000}, size_t{9} << 20})
    fail_everywhere({"kvmalloc", [size] { return freed_by_kvfree(kvmalloc(size, quiet | gfp::retry_mayfail)); }});
  fail_everywhere({"kvcalloc", [] { return freed_by_kvfree(kvcalloc(100, 100, gfp::nowait | gfp::nowarn)); }});
}

TEST(api_fail_nth, typed_forms) {
  fail_everywhere({"make", []() -> undo {
                     struct line {
                       alignas(64) char bytes[192] = {};
                     };
                     auto* const p = new unique_ptr<line>(make<line>(quiet));
                     const bool made = *p != nullptr;
                     if (made) return [p] { delete p; };
                     delete p;
                     return {};
                   }});
  fail_everywhere({"allocator", []() -> undo {
                     try {
                       auto* const v = new std::vector<int, allocator<int, gfp::nowait | gfp::nowarn>>(5000, 7);
                       return [v] { delete v; };
                     } catch (const std::bad_alloc&) {
                       return {};
                     }
                   }});
  fail_everywhere({"resource", []() -> undo {
                     static resource memory(gfp::nowait | gfp::nowarn);
                     try {
                       void* const p = memory.allocate(3000, 64);
                       return [p] { memory.deallocate(p, 3000, 64); };
                     } catch (const std::bad_alloc&) {
                       return {};
                     }
                   }});
}

// One failure somewhere does not stop a request that may not fail.
TEST(api_fail_nth, nofail_survives_every_single_failure) {
  machine& m = started_machine();
  const std::vector<std::pair<const char*, std::function<undo()>>> calls = {
      {"kmalloc", [] { return freed_by_kfree(kmalloc(100, gfp::kernel | gfp::nofail)); }},
      {"kmalloc large", [] { return freed_by_kfree(kmalloc(100000, gfp::kernel | gfp::nofail)); }},
      {"alloc_pages", [] { return if_made<page*>(alloc_pages(gfp::kernel | gfp::nofail, 0), [](page* p) { free_pages(p, 0); }); }},
      {"vmalloc", [] { return if_made<void*>(vmalloc(10000, gfp::kernel | gfp::nofail), [](void* p) { vfree(p); }); }},
      {"kvmalloc", [] { return freed_by_kvfree(kvmalloc(size_t{5} << 20, gfp::kernel | gfp::nofail)); }},
  };
  for (const auto& [name, run] : calls) {
    bool passed_all = false;
    for (uint32_t nth = 1; nth < most_points && !passed_all; ++nth) {
      settled_charge(m);
      undo take_back;
      {
        const fail_nth_scope fail(nth, false);
        take_back = run();
        passed_all = !fail.hit();
      }
      ASSERT_TRUE(take_back) << name << ": failure " << nth;
      take_back();
    }
    EXPECT_TRUE(passed_all) << name;
  }
}

// Its table grows twice on the way. A failed put leaves the cache as it was; a table that cannot grow fails nothing.
TEST(api_fail_nth, lru_cache) {
  struct filled {
    static lru_cache<unsigned, unsigned>::options options() {
      lru_cache<unsigned, unsigned>::options result;
      result.gfp = quiet;
      return result;
    }
    lru_cache<unsigned, unsigned> cache{options()};
    bool fill() {
      for (unsigned i = 0; i < 200; ++i) {
        const uint64_t size = cache.size(), bytes = cache.bytes();
        if (cache.put(i, i)) continue;
        EXPECT_EQ(cache.size(), size);
        EXPECT_LE(cache.bytes(), bytes + 1024 * sizeof(void*)) << "at most a table for more entries";
        for (unsigned each = 0; each < i; ++each) EXPECT_TRUE(cache.get(each)) << each;
        return false;
      }
      return true;
    }
  };
  fail_everywhere({"lru_cache", []() -> undo {
                     auto made = std::make_shared<filled>();
                     if (!made->fill()) return {};
                     return [made]() mutable { made.reset(); };
                   }});
}

}  // namespace
}  // namespace kmem
