// The C++ API's own paths: kmalloc pairs and batches, caches, pages, vmalloc. Prints "path,ns_per_operation" (medians of five rounds).
#include <time.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <kmem/kmem.hpp>

namespace {

double now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

void* checked(void* p) {
  if (p == nullptr) {
    std::fprintf(stderr, "kmalloc_bench: an allocation failed\n");
    std::exit(1);
  }
  *static_cast<volatile char*>(p) = 1;
  return p;
}

template <class Body>
void report(const char* name, uint64_t operations, Body body) {
  std::array<double, 5> rounds{};
  body(operations / 10);
  for (double& ns : rounds) {
    const double start = now_ns();
    body(operations);
    ns = (now_ns() - start) / static_cast<double>(operations);
  }
  std::sort(rounds.begin(), rounds.end());
  std::printf("%s,%.2f\n", name, rounds[2]);
}

void kmalloc_pairs() {
  for (const size_t size : {size_t{16}, size_t{64}, size_t{256}, size_t{1024}, size_t{8192}, size_t{65536}, size_t{1048576}}) {
    const std::string name = "kmalloc+kfree " + std::to_string(size);
    report(name.c_str(), size > 32768 ? 200000 : 5000000, [&](uint64_t n) {
      for (uint64_t i = 0; i < n; ++i) kmem::kfree(checked(kmem::kmalloc(size, kmem::gfp::kernel)));
    });
  }
  report("kmalloc+kfree 64 GFP_ATOMIC", 5000000, [](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) kmem::kfree(checked(kmem::kmalloc(64, kmem::gfp::atomic)));
  });
}

void batches() {
  static std::array<void*, 1000> objects;
  for (const size_t size : {size_t{16}, size_t{64}, size_t{256}, size_t{4096}}) {
    const std::string name = "kmalloc 1000 then kfree FIFO " + std::to_string(size);
    report(name.c_str(), 2000000, [&](uint64_t n) {
      for (uint64_t done = 0; done < n; done += objects.size()) {
        for (void*& p : objects) p = checked(kmem::kmalloc(size, kmem::gfp::kernel));
        for (void* p : objects) kmem::kfree(p);
      }
    });
  }
}

void caches() {
  kmem::kmem_cache* const cache = kmem::kmem_cache_create("bench", 192, 0, kmem::cache_flags::no_merge, nullptr);
  if (cache == nullptr) std::exit(1);
  report("kmem_cache pair 192", 5000000, [&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) kmem::kmem_cache_free(cache, checked(kmem::kmem_cache_alloc(cache, kmem::gfp::kernel)));
  });
  static std::array<void*, 64> objects;
  report("object of a kmem_cache bulk of 64", 5000000, [&](uint64_t n) {
    for (uint64_t done = 0; done < n; done += objects.size()) {
      if (kmem::kmem_cache_alloc_bulk(cache, kmem::gfp::kernel, objects.size(), objects.data()) != objects.size()) std::exit(1);
      kmem::kmem_cache_free_bulk(cache, objects.size(), objects.data());
    }
  });
  kmem::kmem_cache_destroy(cache);
}

void pages() {
  for (const unsigned order : {0u, 3u, 9u}) {
    const std::string name = "alloc_pages order " + std::to_string(order);
    report(name.c_str(), order == 9 ? 200000 : 2000000, [&](uint64_t n) {
      for (uint64_t i = 0; i < n; ++i) {
        kmem::page* const p = kmem::alloc_pages(kmem::gfp::kernel, order);
        if (p == nullptr) std::exit(1);
        kmem::free_pages(p, order);
      }
    });
  }
  report("vmalloc 64 KiB", 20000, [](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) kmem::vfree(checked(kmem::vmalloc(65536)));
  });
}

}  // namespace

int main() {
  char error[256];
  if (!kmem::init("mem=1G", error, sizeof error)) {
    std::fprintf(stderr, "kmalloc_bench: %s\n", error);
    return 1;
  }
  kmalloc_pairs();
  batches();
  caches();
  pages();
}
