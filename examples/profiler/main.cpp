// What is profiled: threads that allocate all the time, so that many of the signals interrupt the allocator itself.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include <kmem/kmem.hpp>

#include "profiler.hpp"

namespace {

constexpr unsigned nr_threads = 2, nr_slots = 512;
constexpr unsigned long wanted_samples = 4000;
std::atomic<bool> stop{false};

struct noise {
  uint64_t state;
  uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
  }
};

}  // namespace

// Exported functions, since the table takes their names from the dynamic symbols (-rdynamic).
extern "C" {

__attribute__((noinline)) bool replace_buffers(void** slots, noise& random) {
  for (unsigned i = 0; i < 2000; ++i) {
    const uint64_t number = random.next();
    void*& slot = slots[number % nr_slots];
    kmem::kfree(slot);
    const size_t size = number % 64 == 0 ? 40'000 : 16 + (number >> 20) % 3000;
    slot = kmem::kmalloc(size, kmem::gfp::kernel);
    if (slot == nullptr) return false;
    std::memset(slot, int(number), 16);
  }
  return true;
}

__attribute__((noinline)) uint64_t mix_numbers(noise& random) {
  uint64_t sum = 0;
  for (unsigned i = 0; i < 20'000; ++i) sum += random.next() >> 7;
  return sum;
}

__attribute__((noinline)) bool worker(unsigned seed, unsigned per_second) {
  const profiler::thread_timer timer(per_second);
  if (!timer.running()) return false;
  noise random{seed * 2654435761ull + 1};
  std::vector<void*> slots(nr_slots, nullptr);
  bool served = true;
  uint64_t sum = 0;
  while (served && !stop.load(std::memory_order_relaxed)) {
    served = replace_buffers(slots.data(), random);
    sum += mix_numbers(random);
  }
  for (void* const each : slots) kmem::kfree(each);
  return served && sum != 0;
}

}  // extern "C"

int main(int argc, char** argv) {
  const unsigned per_second = argc > 1 ? unsigned(std::strtoul(argv[1], nullptr, 10)) : 4000;
  if (per_second == 0 || per_second > 100'000) {
    std::fprintf(stderr, "usage: profiler [SAMPLES PER SECOND AND THREAD, 1 to 100000]\n");
    return 2;
  }
  char error[200];
  if (!kmem::init("mem=32M", error, sizeof error)) return std::fprintf(stderr, "%s\n", error), 1;
  if (!profiler::start()) return std::perror("sigaction"), 1;
  std::atomic<bool> good{true};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < nr_threads; ++i)
    threads.emplace_back([&good, i, per_second] {
      if (!worker(i + 1, per_second)) good = false, stop = true;
    });
  while (!stop && profiler::kept() + profiler::dropped() < wanted_samples) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    profiler::aggregate();
  }
  stop = true;
  for (std::thread& each : threads) each.join();
  profiler::print();
  if (!good) std::fprintf(stderr, "a worker had no memory, or no timer\n");
  return good && profiler::dropped() == 0 ? 0 : 1;
}
