#!/usr/bin/env bash
# Children of vfork that allocate and free in their parent's memory, while its other threads do.
source "$(dirname "${BASH_SOURCE[0]}")/preload.inc"

cat >"$scratch/vfork.cpp" <<'PROGRAM'
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

static std::atomic<bool> over;
static std::atomic<unsigned long> damaged;

// Takes and gives `n` blocks of each of some sizes, each with a pattern of its own.
static void churn(unsigned char mark, int n) {
  for (int i = 0; i < n; ++i) {
    unsigned char* held[16];
    for (int k = 0; k < 16; ++k) {
      const size_t size = 16 + 16 * ((i + k) % 8);
      held[k] = static_cast<unsigned char*>(std::malloc(size));
      if (held[k] == nullptr) std::abort();
      std::memset(held[k], mark, size);
    }
    for (int k = 0; k < 16; ++k) {
      const size_t size = 16 + 16 * ((i + k) % 8);
      for (size_t b = 0; b < size; ++b) damaged += held[k][b] != mark ? 1 : 0;
      std::free(held[k]);
    }
  }
}

int main() {
  std::vector<std::thread> threads;
  for (unsigned char t = 1; t <= 3; ++t)
    threads.emplace_back([t] {
      while (!over) churn(t, 50);
    });
  unsigned long ended = 0;
  for (int round = 0; round < 60; ++round) {
    const pid_t child = vfork();
    if (child == 0) {
      for (int i = 0; i < 20; ++i) {
        churn(0xcc, 20);
        sched_yield();
      }
      _exit(round % 100);
    }
    if (child < 0) std::abort();
    int status = 0;
    if (waitpid(child, &status, 0) != child) std::abort();
    ended += WIFEXITED(status) && WEXITSTATUS(status) == round % 100 ? 1 : 0;
    churn(0xdd, 5);
  }
  over = true;
  for (std::thread& thread : threads) thread.join();
  std::printf("%lu children ended, %lu bytes damaged\n", ended, damaged.load());
}
PROGRAM
g++ -std=c++20 -O2 -pthread "$scratch/vfork.cpp" -o "$scratch/vfork"
same "60 children of vfork beside three threads" "$scratch/vfork"
