// A sampling profiler whose signal handler allocates: a timer of each thread sends SIGPROF, and the handler takes memory for one call stack
// with GFP_ATOMIC, whatever it interrupted, the allocator included. The process aggregates the samples now and then, frees them, and prints
// a table at the end: how often a function was running (self), and how often it was anywhere on the stack (total).
//
// Build: c++ -std=c++20 -O2 -fno-omit-frame-pointer -mno-omit-leaf-frame-pointer -rdynamic -Iinclude examples/profiler/*.cpp
//            -Lbuild/lib -lkmem -lpthread -Wl,-rpath,build/lib
#include "profiler.hpp"

#include <cxxabi.h>
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <kmem/context.hpp>
#include <kmem/kmem.hpp>

namespace profiler {

namespace {

constexpr unsigned max_depth = 64;

/// Just as long as its stack is deep.
struct sample {
  sample* next;
  unsigned depth;
  uintptr_t pcs[1];
};

constinit std::atomic<sample*> samples{nullptr};  // handlers push, the process takes all of them at once
constinit std::atomic<unsigned long> nr_kept{0}, nr_dropped{0};

/// The thread's own stack: a frame pointer that leads out of it ends the walk.
struct stack_bounds {
  uintptr_t low, high;
};
constinit thread_local stack_bounds bounds{0, 0};

unsigned walk(const ucontext_t& context, uintptr_t* pcs) noexcept {
  unsigned depth = 0;
  pcs[depth++] = static_cast<uintptr_t>(context.uc_mcontext.gregs[REG_RIP]);
  uintptr_t frame = static_cast<uintptr_t>(context.uc_mcontext.gregs[REG_RBP]);
  while (depth < max_depth && frame >= bounds.low && frame + 16 <= bounds.high && frame % 8 == 0) {
    uintptr_t words[2];  // the caller's frame pointer, and where it goes on
    std::memcpy(words, reinterpret_cast<const void*>(frame), sizeof words);
    if (words[1] == 0) break;
    pcs[depth++] = words[1];
    if (words[0] <= frame) break;
    frame = words[0];
  }
  return depth;
}

void take_sample(int, siginfo_t*, void* context) noexcept {
  const int saved = errno;
  {
    const kmem::hardirq_guard interrupt;  // from here on, who asks for what may sleep is reported
    uintptr_t pcs[max_depth];
    const unsigned depth = walk(*static_cast<const ucontext_t*>(context), pcs);
    void* const memory = kmem::kmalloc<kmem::gfp::atomic>(sizeof(sample) + (depth - 1) * sizeof(uintptr_t));
    if (memory == nullptr) {
      nr_dropped.fetch_add(1, std::memory_order_relaxed);
    } else {
      sample* const one = static_cast<sample*>(memory);
      one->depth = depth;
      std::memcpy(one->pcs, pcs, depth * sizeof(uintptr_t));
      one->next = samples.load(std::memory_order_relaxed);
      while (!samples.compare_exchange_weak(one->next, one, std::memory_order_release, std::memory_order_relaxed)) {
      }
      nr_kept.fetch_add(1, std::memory_order_relaxed);
    }
  }
  errno = saved;
}

struct figures {
  unsigned long self = 0, total = 0;
};

std::string function_at(uintptr_t pc) {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(pc), &info) == 0) return "(unknown)";
  if (info.dli_sname != nullptr) {
    int status = 0;
    char* const plain = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
    const std::string name = status == 0 ? plain : info.dli_sname;
    std::free(plain);
    return name;
  }
  const std::string file = info.dli_fname == nullptr ? "" : info.dli_fname;
  return "(in " + file.substr(file.rfind('/') + 1) + ")";
}

std::map<std::string, figures> table;

}  // namespace

bool start() {
  struct sigaction action = {};
  action.sa_sigaction = take_sample;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  return sigaction(SIGPROF, &action, nullptr) == 0;
}

thread_timer::thread_timer(unsigned per_second) {
  pthread_attr_t attributes;
  void* low = nullptr;
  size_t size = 0;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return;
  pthread_attr_getstack(&attributes, &low, &size);
  pthread_attr_destroy(&attributes);
  bounds = {reinterpret_cast<uintptr_t>(low), reinterpret_cast<uintptr_t>(low) + size};

  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGPROF;
  event._sigev_un._tid = gettid();
  if (timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) return;
  itimerspec often = {};
  often.it_interval.tv_nsec = often.it_value.tv_nsec = 1'000'000'000L / per_second;
  running_ = timer_settime(timer_, 0, &often, nullptr) == 0;
  if (!running_) timer_delete(timer_);
}

thread_timer::~thread_timer() {
  if (running_) timer_delete(timer_);
}

void aggregate() {
  sample* next = samples.exchange(nullptr, std::memory_order_acquire);
  while (next != nullptr) {
    sample* const one = next;
    next = one->next;
    std::set<std::string> seen;
    for (unsigned i = 0; i < one->depth; ++i) {
      // A return address may be the first of the next function; what called is before it.
      const std::string name = function_at(one->pcs[i] - (i == 0 ? 0 : 1));
      if (i == 0) ++table[name].self;
      if (seen.insert(name).second) ++table[name].total;
    }
    kmem::kfree(one);
  }
}

unsigned long kept() { return nr_kept.load(std::memory_order_relaxed); }
unsigned long dropped() { return nr_dropped.load(std::memory_order_relaxed); }

void print() {
  aggregate();
  std::vector<std::pair<std::string, figures>> rows(table.begin(), table.end());
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.second.total > b.second.total; });
  const double all = static_cast<double>(std::max(kept(), 1ul));
  std::printf("%8s %8s  function\n", "self %", "total %");
  for (const auto& [name, each] : rows)
    if (each.total * 100 >= kept())
      std::printf("%8.1f %8.1f  %s\n", 100.0 * static_cast<double>(each.self) / all, 100.0 * static_cast<double>(each.total) / all,
                  name.c_str());
  std::printf("%lu samples, each in memory that its signal handler allocated; %lu dropped for want of memory\n", kept(), dropped());
}

}  // namespace profiler
