#!/usr/bin/env bash
# A C++ program of eight threads that allocate, pass on, resize and free, under the preload library.
source "$(dirname "${BASH_SOURCE[0]}")/preload.inc"

cat >"$scratch/threads.cpp" <<'PROGRAM'
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

static std::atomic<std::string*> exchange[32];

int main() {
  unsigned long sums[8] = {};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([t, &sums] {
      std::map<int, std::string> map;
      unsigned random = t + 1;
      for (int step = 0; step < 30000; ++step) {
        random = random * 1103515245 + 12345;
        const int key = (random >> 16) % 2000;
        if (random & 0x8000)
          map[key] = std::string((random >> 20) % 300, static_cast<char>('a' + t));
        else
          map.erase(key);
        delete exchange[key % 32].exchange(new std::string(key, 'x'));
        if (step % 50 == 0) {
          void* p = std::malloc((random >> 8) % 200000 + 1);
          p = std::realloc(p, (random >> 9) % 400000 + 1);
          if (p == nullptr) std::abort();
          std::memset(p, 1, (random >> 9) % 400000 + 1);
          std::free(p);
          std::vector<double> numbers(step % 1000, 1.5);
          for (const double d : numbers) sums[t] += static_cast<unsigned long>(d);
        }
      }
      for (const auto& [key, text] : map) sums[t] += key * text.size();
    });
  for (std::thread& thread : threads) thread.join();
  for (auto& slot : exchange) delete slot.exchange(nullptr);
  for (const unsigned long sum : sums) std::printf("%lu\n", sum);
  struct alignas(256) wide { char bytes[256]; };
  std::vector<wide> wides(1000);
  std::printf("%lu\n", reinterpret_cast<unsigned long>(wides.data()) % 256);
  try {
    std::vector<char> impossible(static_cast<size_t>(1) << 60);
  } catch (const std::bad_alloc&) {
    std::puts("bad_alloc");
  }
}
PROGRAM
g++ -std=c++20 -O2 -pthread "$scratch/threads.cpp" -o "$scratch/threads"
for run in 1 2 3; do same "eight threads, run $run" "$scratch/threads"; done
