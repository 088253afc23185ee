// Uses an installed libkmem: functions of the library and what its headers do themselves.
#include <kmem/kmem.hpp>
#include <kmem/memory.hpp>
#include <kmem/mempool.hpp>
#include <kmem/pmr.hpp>

#include <cstdio>
#include <vector>

int main() {
  char error[200];
  if (!kmem::init("mem=16M", error, sizeof error)) return std::fprintf(stderr, "%s\n", error), 1;
  void* const p = kmem::kmalloc<kmem::gfp::kernel>(100);
  if (p == nullptr || kmem::ksize(p) < 100) return 2;
  kmem::kfree(p);
  std::vector<int, kmem::allocator<int>> numbers(1000, 7);
  if (numbers[999] != 7) return 3;
  const kmem::preempt_guard guard;
  void* const now = kmem::kmalloc(100, kmem::gfp::atomic);
  if (now == nullptr || !kmem::in_atomic()) return 4;
  kmem::kfree(now);
  std::puts("served C++");
  return 0;
}
