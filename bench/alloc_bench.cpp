// Workloads on malloc and free, for comparing allocators under LD_PRELOAD in one run (scripts/bench). Prints "workload,ns_per_operation".
//
// Every workload touches what it allocates (first byte) and is sized so that one run takes a few hundred milliseconds.
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

double now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

struct random_numbers {
  uint64_t state;
  uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  }
};

char* allocate(size_t size) {
  auto* p = static_cast<char*>(std::malloc(size));
  if (p == nullptr) {
    std::fprintf(stderr, "alloc_bench: malloc(%zu) returned NULL\n", size);
    std::exit(1);
  }
  *static_cast<volatile char*>(p) = 1;
  return p;
}

void pair(size_t size, uint64_t operations) {
  for (uint64_t i = 0; i < operations; ++i) std::free(allocate(size));
}

void batch(size_t size, uint64_t operations, bool fifo) {
  constexpr size_t n = 1000;
  std::vector<char*> objects(n);
  for (uint64_t done = 0; done < operations; done += n) {
    for (char*& p : objects) p = allocate(size);
    if (fifo)
      for (char* p : objects) std::free(p);
    else
      for (size_t i = n; i-- > 0;) std::free(objects[i]);
  }
}

/// 50 % 8..128, 30 % ..512, 15 % ..2048, 5 % ..8192 bytes: the mix of the footprint measurements.
size_t mixed_size(random_numbers& r) {
  const uint64_t x = r.next();
  const uint64_t share = (x >> 40) % 100;
  if (share < 50) return 8 + x % 121;
  if (share < 80) return 129 + x % 384;
  if (share < 95) return 513 + x % 1536;
  return 2049 + x % 6144;
}

void random_replace(uint64_t operations) {
  random_numbers r{88172645463325252u};
  std::vector<char*> live(100000);
  for (char*& p : live) p = allocate(mixed_size(r));
  for (uint64_t i = 0; i < operations; ++i) {
    char*& slot = live[r.next() % live.size()];
    std::free(slot);
    slot = allocate(mixed_size(r));
  }
  for (char* p : live) std::free(p);
}

void producer_consumer(size_t size, uint64_t operations) {
  constexpr size_t slots = 4096;
  static std::atomic<char*> ring[slots];
  std::thread consumer([&] {
    for (uint64_t i = 0; i < operations; ++i) {
      std::atomic<char*>& slot = ring[i % slots];
      char* p = nullptr;
      while ((p = slot.load(std::memory_order_acquire)) == nullptr) std::this_thread::yield();
      slot.store(nullptr, std::memory_order_release);
      std::free(p);
    }
  });
  for (uint64_t i = 0; i < operations; ++i) {
    char* p = allocate(size);
    while (ring[i % slots].load(std::memory_order_acquire) != nullptr) std::this_thread::yield();
    ring[i % slots].store(p, std::memory_order_release);
  }
  consumer.join();
}

void two_threads(size_t size, uint64_t operations) {
  std::thread other([&] { batch(size, operations / 2, true); });
  batch(size, operations / 2, true);
  other.join();
}

void large_blocks(uint64_t operations) {
  random_numbers r{2463534242u};
  std::vector<char*> live(64, nullptr);
  for (uint64_t i = 0; i < operations; ++i) {
    char*& slot = live[r.next() % live.size()];
    std::free(slot);
    slot = allocate((64 + r.next() % 961) * 1024);
  }
  for (char* p : live) std::free(p);
}

void realloc_growth(uint64_t operations) {
  for (uint64_t i = 0; i < operations; ++i) {
    void* p = nullptr;
    for (size_t size = 16; size <= 65536; size *= 2) {
      p = std::realloc(p, size);
      *static_cast<volatile char*>(p) = 1;
    }
    std::free(p);
  }
}

void thread_churn(uint64_t threads) {
  for (uint64_t i = 0; i < threads; ++i)
    std::thread([] {
      std::vector<char*> objects(200);
      random_numbers r{99991};
      for (char*& p : objects) p = allocate(mixed_size(r));
      for (char* p : objects) std::free(p);
    }).join();
}

struct workload {
  std::string name;
  uint64_t operations;
  void (*run)(size_t, uint64_t);
  size_t size;
};

}  // namespace

int main(int argc, char** argv) {
  const double scale = argc > 1 ? std::atof(argv[1]) : 1.0;
  const char* const only = argc > 2 ? argv[2] : "";
  std::vector<workload> workloads;
  for (const size_t size : {16, 64, 256, 1024, 4096, 8192, 131072})
    workloads.push_back({"pair " + std::to_string(size), size > 8192 ? 3000000u : 20000000u, pair, size});
  for (const size_t size : {16, 64, 256, 1024, 4096})
    workloads.push_back({"batch 1000 fifo " + std::to_string(size), 5000000,
                         [](size_t s, uint64_t n) { batch(s, n, true); }, size});
  workloads.push_back({"batch 1000 lifo 64", 5000000, [](size_t s, uint64_t n) { batch(s, n, false); }, 64});
  workloads.push_back({"random replace 100k mix", 3000000, [](size_t, uint64_t n) { random_replace(n); }, 0});
  workloads.push_back({"producer consumer 64", 3000000, producer_consumer, 64});
  workloads.push_back({"two threads batch 64", 5000000, two_threads, 64});
  workloads.push_back({"large 64K-1M first byte", 100000, [](size_t, uint64_t n) { large_blocks(n); }, 0});
  workloads.push_back({"realloc 16 to 64K", 20000, [](size_t, uint64_t n) { realloc_growth(n); }, 0});
  workloads.push_back({"thread churn", 2000, [](size_t, uint64_t n) { thread_churn(n); }, 0});
  for (const workload& w : workloads) {
    if (w.name.find(only) == std::string::npos) continue;
    const auto operations = std::max<uint64_t>(1, static_cast<uint64_t>(static_cast<double>(w.operations) * scale));
    w.run(w.size, std::max<uint64_t>(1, operations / 20));
    const double start = now_ns();
    w.run(w.size, operations);
    std::printf("%s,%.2f\n", w.name.c_str(), (now_ns() - start) / static_cast<double>(operations));
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("peak resident MiB,%.1f\n", static_cast<double>(usage.ru_maxrss) / 1024);
}
