// What waiting for memory costs: how soon a waiter runs after the free that serves it, what a free costs with and without one, and how
// much work gets done while memory is always short.
//
//     build/bench/wait_bench [ROUNDS]
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include <kmem/info.hpp>
#include <kmem/kmem.hpp>
#include <kmem/shrinker.hpp>

namespace {

using clock_type = std::chrono::steady_clock;

double ns_between(clock_type::time_point from, clock_type::time_point to) {
  return std::chrono::duration<double, std::nano>(to - from).count();
}

double percentile(std::vector<double>& sorted, double share) {
  return sorted[std::min(sorted.size() - 1, static_cast<std::size_t>(share * static_cast<double>(sorted.size())))];
}

/// Takes all that an ordinary request can have.
std::vector<kmem::page*> exhaust() {
  std::vector<kmem::page*> taken;
  while (kmem::page* const p = kmem::alloc_pages(kmem::gfp::kernel | kmem::gfp::nowarn | kmem::gfp::noretry, 0)) taken.push_back(p);
  return taken;
}

void wake_latency(unsigned rounds) {
  std::vector<kmem::page*> taken = exhaust();
  std::vector<double> ns;
  std::atomic<bool> about_to_wait{false};
  clock_type::time_point freed, served;
  for (unsigned i = 0; i < rounds; ++i) {
    about_to_wait = false;
    kmem::page* got = nullptr;
    std::thread waiter([&] {
      about_to_wait = true;
      got = kmem::alloc_pages(kmem::gfp::kernel, 0);
      served = clock_type::now();
    });
    while (!about_to_wait) continue;
    std::this_thread::sleep_for(std::chrono::microseconds(500));  // asleep by then, or else the round says nothing of waking
    freed = clock_type::now();
    kmem::free_pages(taken.back(), 0);
    taken.pop_back();
    waiter.join();
    taken.push_back(got);
    ns.push_back(ns_between(freed, served));
  }
  std::sort(ns.begin(), ns.end());
  std::printf("| a waiter runs after the free that serves it | median %.1f us, p99 %.1f us |\n", percentile(ns, 0.5) / 1000,
              percentile(ns, 0.99) / 1000);
  for (kmem::page* const p : taken) kmem::free_pages(p, 0);
}

/// ns of one alloc_pages and free_pages of order 0.
double pair_ns(unsigned pairs) {
  const auto start = clock_type::now();
  for (unsigned i = 0; i < pairs; ++i) {
    kmem::page* const p = kmem::alloc_pages(kmem::gfp::atomic, 0);
    if (p != nullptr) kmem::free_pages(p, 0);
  }
  return ns_between(start, clock_type::now()) / pairs;
}

void cost_of_a_free(unsigned rounds) {
  std::vector<double> alone, waited_for;
  for (int round = 0; round < 5; ++round) alone.push_back(pair_ns(rounds * 100));
  // Somebody waits for a block that cannot be had while single pages come and go.
  std::vector<kmem::page*> taken = exhaust();
  std::thread waiter([] {
    kmem::page* const p = kmem::alloc_pages(kmem::gfp::kernel, 3);
    kmem::free_pages(p, 3);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  for (int round = 0; round < 5; ++round) waited_for.push_back(pair_ns(rounds));
  for (kmem::page* const p : taken) kmem::free_pages(p, 0);
  waiter.join();
  std::sort(alone.begin(), alone.end());
  std::sort(waited_for.begin(), waited_for.end());
  std::printf("| a page and back, nobody waits | %.1f ns |\n", alone[2]);
  std::printf("| the same while somebody waits for a block of 8 | %.1f ns |\n", waited_for[2]);
}

/// Objects of 1 KiB, of which the shrinker frees the oldest.
struct store : kmem::shrinker {
  static constexpr unsigned slots = 1 << 16;
  std::atomic<void*> objects[slots] = {};
  std::atomic<unsigned> head{0}, tail{0};
  std::atomic<unsigned long> dropped{0};
  store() {
    name = "store";
    count_objects = [](shrinker* self, kmem::shrink_control*) noexcept -> uint64_t {
      auto& s = *static_cast<store*>(self);
      return s.head.load() - s.tail.load();
    };
    scan_objects = [](shrinker* self, kmem::shrink_control* control) noexcept -> uint64_t {
      auto& s = *static_cast<store*>(self);
      uint64_t freed = 0;
      for (; freed < control->nr_to_scan && s.head.load() - s.tail.load() > 0; ++freed)
        kmem::kfree(s.objects[s.tail.fetch_add(1) % slots].exchange(nullptr));
      s.dropped += freed;
      return freed;
    };
  }
  bool add() {
    void* const p = kmem::kmalloc(1024, kmem::gfp::kernel);
    if (p == nullptr) return false;
    kmem::kfree(objects[head.fetch_add(1) % slots].exchange(p));
    return true;
  }
};

void throughput_under_pressure(unsigned rounds, unsigned nr_threads) {
  static store* const kept = new store;
  static const bool registered = kmem::register_shrinker(*kept) == 0;
  if (!registered) std::exit(1);
  std::atomic<unsigned long> failed{0};
  const unsigned each = rounds * 200;
  for (unsigned i = 0; i < 40'000; ++i) (void)kept->add();  // until memory is short for good
  const auto start = clock_type::now();
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < nr_threads; ++t)
    threads.emplace_back([&] {
      for (unsigned i = 0; i < each; ++i) failed += kept->add() ? 0u : 1u;
    });
  for (std::thread& thread : threads) thread.join();
  const double ns = ns_between(start, clock_type::now());
  std::printf("| 1 KiB objects into a full budget, a shrinker makes room, %u threads | %.2f M/s, %lu of %u failed |\n", nr_threads,
              each * nr_threads / ns * 1000, failed.load(), each * nr_threads);
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned rounds = argc > 1 ? static_cast<unsigned>(std::strtoul(argv[1], nullptr, 10)) : 1000;
  char error[200];
  if (rounds == 0 || !kmem::init("mem=16M vm.kswapd=0 vm.alloc_wait_ms=60000", error, sizeof error)) {
    std::fprintf(stderr, "%s\n", rounds == 0 ? "usage: wait_bench [ROUNDS], ROUNDS a number above 0" : error);
    return 1;
  }
  std::puts("| what | measured |\n|---|---|");
  wake_latency(rounds);
  cost_of_a_free(rounds);
  throughput_under_pressure(rounds, 1);
  throughput_under_pressure(rounds, 2);
  return 0;
}
