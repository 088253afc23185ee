// The smallest program: a budget, an allocation that may sleep, one that may not.
#include <kmem/kmem.hpp>

#include <cstdio>

int main() {
  char error[200];
  if (!kmem::init("mem=16M", error, sizeof error)) return std::fprintf(stderr, "%s\n", error), 1;
  char* const name = kmem::kstrdup("kmem", kmem::gfp::kernel);  // may reclaim and sleep
  void* const now = kmem::kmalloc<kmem::gfp::atomic>(100);      // never sleeps; checked when this is compiled
  if (name == nullptr || now == nullptr) return 1;
  std::printf("hello from %s: %zu bytes for 100 asked, %zu KiB of the budget are left\n", name, kmem::ksize(now),
              static_cast<size_t>(kmem::remaining_bytes() >> 10));
  kmem::kfree(now);
  kmem::kfree(name);
}
