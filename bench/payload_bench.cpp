// How much of a budget becomes payload: objects of one size until there are no more, under mem=64M. Prints a Markdown table.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

#include <kmem/kmem.hpp>

namespace {

constexpr std::size_t budget = std::size_t{64} << 20;

double payload_percent(std::size_t size, kmem::gfp_t mask) {
  std::vector<void*> objects;
  objects.reserve(budget / size);
  while (void* const p = kmem::kmalloc(size, mask | kmem::gfp::nowarn)) objects.push_back(p);
  for (void* const p : objects) kmem::kfree(p);
  return static_cast<double>(objects.size() * size) * 100 / static_cast<double>(budget);
}

}  // namespace

int main() {
  char error[200];
  if (!kmem::init("mem=64M", error, sizeof error)) return std::fprintf(stderr, "payload_bench: %s\n", error), 1;
  std::puts("| bytes | GFP_KERNEL | GFP_ATOMIC |\n|---|---|---|");
  for (const std::size_t size : {16, 64, 1024, 4096, 32768})
    std::printf("| %zu | %.1f %% | %.1f %% |\n", size, payload_percent(size, kmem::gfp::kernel), payload_percent(size, kmem::gfp::atomic));
}
