// Takes all of a small budget, and says what the record of the failure says.
#include <cstdio>
#include <vector>

#include <kmem/info.hpp>
#include <kmem/kmem.hpp>

int main() {
  char error[200];
  if (!kmem::init("mem=8M", error, sizeof error)) return std::fprintf(stderr, "%s\n", error), 1;
  std::vector<void*> objects;
  objects.reserve(10'000);
  while (void* const p = kmem::kmalloc(4096, kmem::gfp::kernel)) objects.push_back(p);
  kmem::allocation_failure failure;
  if (!kmem::read_allocation_failure(kmem::failures_total(), failure)) return std::puts("no record"), 1;
  for (void* const p : objects) kmem::kfree(p);
  void* const area = kmem::vmalloc(100);
  std::printf("a record of the last step %s; vmalloc %s\n", failure.step, area != nullptr ? "served" : "failed");
  kmem::vfree(area);
}
