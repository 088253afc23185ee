// More than one thread: objects handed from thread to thread, servers whose threads come and go, cache lines that are shared or not.
#include "work.hpp"

namespace work {
namespace {

// ---- producers and consumers ---------------------------------------------------------------------------------------------------------

/// A ring for one producer and one consumer.
struct ring {
  std::atomic<char*>* slots = nullptr;
  uint64_t depth = 0, put_at = 0, take_at = 0;
  void put(char* p) {
    std::atomic<char*>& slot = slots[put_at++ % depth];
    while (slot.load(std::memory_order_acquire) != nullptr) sched_yield();
    slot.store(p, std::memory_order_release);
  }
  char* get() {
    std::atomic<char*>& slot = slots[take_at++ % depth];
    char* p = nullptr;
    while ((p = slot.load(std::memory_order_acquire)) == nullptr) sched_yield();
    slot.store(nullptr, std::memory_order_release);
    return p;
  }
};

struct party {
  ring* rings = nullptr;  // [producers][consumers]
  unsigned number = 0, producers = 0, consumers = 0;
  bool produces = false;
  size_t low = 0, high = 0;
  uint64_t n = 0;  // of each producer, a multiple of consumers
};

void take_part(void* argument) {
  auto& self = *static_cast<party*>(argument);
  if (self.produces) {
    random_numbers r(self.number + 1);
    for (uint64_t i = 0; i < self.n; ++i) {
      char* const p = take(self.low + r.below(self.high - self.low + 1));
      stamp_head(p, i);
      self.rings[self.number * self.consumers + i % self.consumers].put(p);
    }
    return;
  }
  for (uint64_t i = self.number; i < self.n; i += self.consumers)
    for (unsigned producer = 0; producer < self.producers; ++producer) {
      char* const p = self.rings[producer * self.consumers + self.number].get();
      check_head(p, i);
      free(p);
    }
}

void pass() {
  const auto producers = static_cast<unsigned>(parameter("producers", 1)), consumers = static_cast<unsigned>(parameter("consumers", 1));
  const size_t low = parameter("size", 64), high = parameter("to", low);
  const uint64_t depth = parameter("depth", 1024);
  const uint64_t each = (parameter("n", 1000) / producers / consumers + 1) * consumers;
  auto* const rings = table<ring>(size_t{producers} * consumers);
  for (unsigned i = 0; i < producers * consumers; ++i) {
    rings[i].slots = table<std::atomic<char*>>(depth);
    rings[i].depth = depth;
  }
  auto* const parties = table<party>(producers + consumers);
  for (unsigned i = 0; i < producers + consumers; ++i)
    parties[i] = {rings, i < producers ? i : i - producers, producers, consumers, i < producers, low, high, each};
  verify_sizes(low, high);
  meter m;
  on_threads(parties, producers + consumers, take_part, m, each * producers);
  report_rest();
}

// ---- a server whose threads hand their objects to successors --------------------------------------------------------------------------

struct server {
  char** objects = nullptr;
  uint32_t* sizes = nullptr;
  uint64_t seed = 0, slots = 0, steps = 0, generations = 0;
};

void serve(void* argument) {
  auto& self = *static_cast<server*>(argument);
  random_numbers r(self.seed += 1);
  for (uint64_t i = 0; i < self.steps; ++i) {
    const uint64_t slot = r.below(self.slots);
    char*& p = self.objects[slot];
    if (p != nullptr) check(p, self.sizes[slot], slot);
    free(p);
    self.sizes[slot] = static_cast<uint32_t>(10 + r.below(491));
    p = take(self.sizes[slot]);
    stamp(p, self.sizes[slot], slot);
  }
}

/// Each generation of a server is a thread of its own, which is started by the one before and inherits its objects.
void run_server(void* argument) {
  auto& self = *static_cast<server*>(argument);
  thread next;
  for (uint64_t i = 0; i < self.generations; ++i) {
    next.start(serve, &self);
    next.join();
  }
  for (uint64_t i = 0; i < self.slots; ++i) free(self.objects[i]);
}

void successors() {
  const auto threads = static_cast<unsigned>(parameter("threads", 2));
  const uint64_t slots = parameter("slots", 1000), generations = parameter("generations", 20);
  const uint64_t steps = parameter("n", 1000) / threads / generations + 1;
  auto* const servers = table<server>(threads);
  for (unsigned i = 0; i < threads; ++i)
    servers[i] = {table<char*>(slots), table<uint32_t>(slots), uint64_t{i} << 20, slots, steps, generations};
  verify_sizes(10, 500);
  meter m;
  on_threads(servers, threads, run_server, m, steps * threads * generations);
  report_rest();
}

// ---- short threads ----------------------------------------------------------------------------------------------------------------------

struct short_life {
  char** objects = nullptr;  // of this thread
  char** inherited = nullptr;
  uint32_t* sizes = nullptr;
  uint64_t seed = 0, n = 0;
};

void live_shortly(void* argument) {
  auto& self = *static_cast<short_life*>(argument);
  random_numbers r(self.seed);
  for (uint64_t i = 0; i < self.n; ++i) {
    self.sizes[i] = static_cast<uint32_t>(mixed_size(r));
    self.objects[i] = take(self.sizes[i]);
    stamp(self.objects[i], self.sizes[i], i);
  }
  for (uint64_t i = 0; i < self.n; ++i) {
    check(self.objects[i], self.sizes[i], i);
    if (i % 2 == 0) continue;  // the even ones outlive the thread
    free(self.objects[i]);
    self.objects[i] = nullptr;
  }
  for (uint64_t i = 0; i < self.n; i += 2) free(self.inherited[i]);
}

void churn() {
  const uint64_t threads = parameter("n", 100), each = parameter("objects", 200);
  short_life lives[2] = {{table<char*>(each), table<char*>(each), table<uint32_t>(each), 1, each}, {}};
  meter m;
  m.start();
  for (uint64_t i = 0; i < threads; ++i) {
    short_life& life = lives[0];
    life.seed = i % 64 + 1;
    thread t;
    t.start(live_shortly, &life);
    t.join();
    char** const left = life.objects;
    life.objects = life.inherited;
    life.inherited = left;
  }
  m.stop(threads);
  for (uint64_t i = 0; i < each; i += 2) free(lives[0].inherited[i]);
  report_rest();
}

// ---- cache lines ------------------------------------------------------------------------------------------------------------------------

struct writer {
  char* first = nullptr;  // an object of the main thread that this thread frees before it begins; null: none
  size_t size = 0;
  uint64_t n = 0, writes = 0;
};

void write_much(void* argument) {
  auto& self = *static_cast<writer*>(argument);
  free(self.first);
  for (uint64_t i = 0; i < self.n; ++i) {
    char* const p = take(self.size);
    auto* const bytes = reinterpret_cast<volatile unsigned char*>(p);
    bytes[0] = 0;
    for (uint64_t w = 0; w < self.writes; ++w) bytes[0] = static_cast<unsigned char>(bytes[0] + 1);
    if (bytes[0] != static_cast<unsigned char>(self.writes)) wrong("another thread wrote an object", self.writes & 255, bytes[0]);
    free(p);
  }
}

/// thrash: each thread writes small objects of its own; scratch: each frees one first that lay beside the others' in the main thread.
void share(bool scratch) {
  const auto threads = static_cast<unsigned>(parameter("threads", 2));
  const size_t size = parameter("size", 8);
  const uint64_t writes = parameter("writes", 1000), each = parameter("n", 1000) / threads + 1;
  auto* const writers = table<writer>(threads);
  for (unsigned i = 0; i < threads; ++i) writers[i] = {scratch ? take(size) : nullptr, size, each, writes};
  meter m;
  on_threads(writers, threads, write_much, m, each * threads);
  report_rest();
}

void thrash() { share(false); }
void scratch() { share(true); }

}  // namespace

const workload thread_workloads[] = {{"pass", pass},     {"successors", successors}, {"churn", churn},
                                     {"thrash", thrash}, {"scratch", scratch},       {nullptr, nullptr}};

}  // namespace work
