// What stays resident: idle processes, threads, after frees; what share of a limit becomes payload; live objects and fragmentation.
#include "work.hpp"

namespace work {
namespace {

// ---- idle -------------------------------------------------------------------------------------------------------------------------------

/// A process that has called malloc once.
void idle() {
  char* const p = take(100);
  stamp(p, 100, 1);
  pause_ms(parameter("pause", 20));
  check(p, 100, 1);
  const resident now = resident_now();
  result("rss", now.rss);
  result("pss", now.pss);
  free(p);
}

struct holder {
  barrier *all_there = nullptr, *all_hold = nullptr, *measured = nullptr, *freed = nullptr, *end = nullptr;
  uint64_t seed = 0;
  size_t budget = 0, live = 0;  // bytes; budget 0: eight objects of each 16-byte step up to 1 KiB
};

constexpr size_t most_held = 1024;

void hold(void* argument) {
  auto& self = *static_cast<holder*>(argument);
  char* objects[most_held];
  uint16_t sizes[most_held];
  self.all_there->wait();
  random_numbers r(self.seed);
  unsigned n = 0;
  while (n < most_held && (self.budget != 0 ? self.live < self.budget : n < 512)) {
    sizes[n] = static_cast<uint16_t>(self.budget != 0 ? mixed_size(r) : (n / 8 + 1) * 16);
    objects[n] = take(sizes[n]);
    fill(objects[n], sizes[n], n + self.seed);
    self.live += sizes[n++];
  }
  self.all_hold->wait();
  self.measured->wait();
  for (unsigned i = 0; i < n; ++i) {
    check_filled(objects[i], sizes[i], i + self.seed);
    free(objects[i]);
  }
  self.freed->wait();
  self.end->wait();
}

/// Threads that hold objects, free them and idle, and end. Above what the process had with the threads there, but idle:
/// thread_kib each, less the live bytes; freed_rss after all freed; and ended_rss of the whole process after all have ended.
void threads() {
  const auto count = static_cast<unsigned>(parameter("threads", 64));
  const size_t budget = parameter("bytes", 0);
  barrier all_there(count + 1), all_hold(count + 1), measured(count + 1), freed(count + 1), end(count + 1);
  auto* const holders = table<holder>(count);
  auto* const handles = table<thread>(count);
  free(take(100));
  const double bare = rss_now();
  for (unsigned i = 0; i < count; ++i) {
    holders[i] = {&all_there, &all_hold, &measured, &freed, &end, i + 1u, budget, 0};
    handles[i].start(hold, &holders[i], 64 << 10);
  }
  pause_ms(20);
  const double there = resident_now().rss;
  all_there.wait();
  all_hold.wait();
  double live = 0;
  for (unsigned i = 0; i < count; ++i) live += static_cast<double>(holders[i].live) / 1024;
  const double held = resident_now().rss;
  measured.wait();
  freed.wait();
  pause_ms(parameter("pause", 200));
  const resident after = resident_now();
  end.wait();
  for (unsigned i = 0; i < count; ++i) handles[i].join();
  pause_ms(20);
  result("thread_kib", (held - bare - live) / count);
  result("held_rss", held - there);
  result("freed_rss", after.rss - there);
  result("freed_pss", after.pss);
  result("ended_rss", resident_now().rss);
}

/// Objects of [8, 8192] bytes until there are `bytes`; all freed; resident at once, after `pause` without a call, after calls.
void freed() {
  const size_t bytes = parameter("bytes", 254 << 20);
  const size_t most = bytes / 256;
  auto** const objects = table<char*>(most);
  random_numbers r(11);
  const double before = rss_now();
  size_t live = 0, n = 0;
  meter m;
  m.start();
  for (; live < bytes && n < most; ++n) {
    const size_t size = mixed_size(r);
    objects[n] = take(size);
    memset(objects[n], static_cast<int>(n), size);
    live += size;
  }
  const double held = rss_now();
  for (size_t i = 0; i < n; ++i) {
    if (*objects[i] != static_cast<char>(i)) wrong("an object's bytes changed", i & 255, static_cast<unsigned char>(*objects[i]));
    free(objects[i]);
  }
  m.stop(n);
  result("resident_live", (held - before) * 1024 / static_cast<double>(live));
  result("freed_rss", rss_now() - before);
  pause_ms(parameter("pause", 1500));
  const resident now = resident_now();
  result("idle_rss", now.rss - before);
  for (uint64_t i = 0; i < parameter("calls", 20); ++i) {
    for (int k = 0; k < 100; ++k) free(take(mixed_size(r)));
    pause_ms(parameter("between", 100));
  }
  result("called_rss", rss_now() - before);
  report_rest();
}

// ---- shares of a limit ---------------------------------------------------------------------------------------------------------------

struct chain {
  char* last = nullptr;
  uint64_t n = 0;
  size_t size = 0;
};

/// As many objects as there are, each linked to the one before: no memory but theirs. Stops at `most`.
chain fill_up(size_t size, uint64_t most) {
  chain c;
  c.size = size;
  while (c.n < most) {
    auto* const p = static_cast<char*>(malloc(size));
    if (p == nullptr) break;
    memset(p, 0x5a, size);
    memcpy(p, &c.last, sizeof c.last);
    c.last = p;
    ++c.n;
  }
  return c;
}

void drop(chain& c) {
  uint64_t n = 0;
  while (c.last != nullptr) {
    char* const p = c.last;
    for (size_t i = sizeof p; i < c.size; ++i)
      if (p[i] != 0x5a) wrong("an object's bytes changed", 0x5a, static_cast<unsigned char>(p[i]));
    memcpy(&c.last, p, sizeof c.last);
    free(p);
    ++n;
  }
  if (n != c.n) wrong("objects were lost", c.n, n);
}

/// `limit` is what the process was given; without `then` the share of it that becomes payload, with it the share that objects of another
/// size get after all was filled with `size` and freed.
void payload() {
  const size_t size = parameter("size", 64), then = parameter("then", 0), limit = parameter("limit", 64 << 20);
  meter m;
  m.start();
  chain first = fill_up(size, 4 * limit / size);
  m.stop(first.n);
  if (first.n == 4 * limit / size) wrong("the limit does not hold; bytes", limit, first.n * size);
  const auto share = [&](const chain& c) { return 100.0 * static_cast<double>(c.n * c.size) / static_cast<double>(limit); };
  result("payload", share(first));
  drop(first);
  if (then != 0) {
    chain second = fill_up(then, 4 * limit / then);
    result("reused", share(second));
    drop(second);
  }
  report_rest();
}

// ---- live objects --------------------------------------------------------------------------------------------------------------------

struct heap {
  char** objects = nullptr;
  uint32_t* sizes = nullptr;
  size_t n = 0, live = 0;
  void put(size_t slot, size_t size) {
    objects[slot] = take(size);
    sizes[slot] = static_cast<uint32_t>(size);
    live += size;
    memset(objects[slot] + 8, static_cast<int>(slot), size - 8);
    stamp_head(objects[slot], slot);
  }
  void drop(size_t slot) {
    check_head(objects[slot], slot);
    const auto last = static_cast<unsigned char>(objects[slot][sizes[slot] - 1]);
    if (sizes[slot] > 8 && last != (slot & 255)) wrong("an object's last byte changed", slot & 255, last);
    live -= sizes[slot];
    free(objects[slot]);
  }
};

struct replacer {
  heap h;
  uint64_t seed = 0, turnovers = 0;
  size_t low = 0, high = 0;  // 0: the mix
  barrier *filled = nullptr, *done = nullptr, *end = nullptr;
  size_t size(random_numbers& r) const { return low == 0 ? mixed_size(r) : low + r.below(high - low + 1); }
};

void replace_objects(void* argument) {
  auto& self = *static_cast<replacer*>(argument);
  heap& h = self.h;
  random_numbers r(self.seed);
  for (size_t i = 0; i < h.n; ++i) h.put(i, self.size(r));
  self.filled->wait();
  for (uint64_t i = 0; i < self.turnovers * h.n; ++i) {
    const size_t slot = r.below(h.n);
    h.drop(slot);
    h.put(slot, self.size(r));
  }
  self.done->wait();
  self.end->wait();
  for (size_t i = 0; i < h.n; ++i) h.drop(i);
}

/// Live objects, random ones replaced until each was `turnovers` times on the average. Time of replacing, and resident bytes a live byte.
void replace() {
  const auto count = static_cast<unsigned>(parameter("threads", 1));
  const size_t n = parameter("live", 100000) / count;
  const uint64_t turnovers = parameter("turnovers", 20);
  barrier filled(count + 1), done(count + 1), end(count + 1);
  auto* const each = table<replacer>(count);
  auto* const handles = table<thread>(count);
  free(take(100));
  for (unsigned i = 0; i < count; ++i)
    each[i] = {{table<char*>(n), table<uint32_t>(n), n, 0}, i + 1u, turnovers, parameter("low", 0), parameter("high", 0),
               &filled, &done, &end};
  const double before = resident_now().rss;
  for (unsigned i = 0; i < count; ++i) handles[i].start(replace_objects, &each[i]);
  filled.wait();
  meter m;
  m.start();
  done.wait();
  m.stop(turnovers * n * count);
  double live = 0;
  for (unsigned i = 0; i < count; ++i) live += static_cast<double>(each[i].h.live);
  const resident now = resident_now();
  result("resident_live", (now.rss - before) * 1024 / live);
  result("live_rss", now.rss);
  end.wait();
  for (unsigned i = 0; i < count; ++i) handles[i].join();
  pause_ms(20);
  report_rest();
}

/// Fragmentation over time: `bytes` stay live while the sizes drift from 32 bytes to 8 KiB and back, `cycles` times; random ones are freed.
void drift() {
  const size_t bytes = parameter("bytes", 32 << 20), cycles = parameter("cycles", 2);
  const uint64_t steps = parameter("n", 1000000);
  heap h{table<char*>(bytes / 16), table<uint32_t>(bytes / 16), 0, 0};
  random_numbers r(17);
  free(take(100));
  const double before = rss_now();
  double sum = 0, most = 0, last = 0;
  const uint64_t samples = 40, phase = steps / (2 * cycles) + 1;
  meter m;
  m.start();
  for (uint64_t i = 0; i < steps; ++i) {
    const uint64_t at = i % (2 * phase), up = at < phase ? at : 2 * phase - at;
    const uint64_t octave = up * 8 / (phase + 1);  // 32 << 0..7, then half an octave to either side
    const size_t centre = (size_t{32} << octave) + (size_t{32} << octave) * (up * 8 % (phase + 1)) / (phase + 1);
    const size_t size = centre / 2 + r.below(centre) + 8;
    while (h.n != 0 && (h.live + size > bytes || h.n == bytes / 16)) {
      const size_t slot = r.below(h.n);
      h.drop(slot);
      if (slot != --h.n) {  // the last one moves into the gap, with what it says
        h.objects[slot] = h.objects[h.n];
        h.sizes[slot] = h.sizes[h.n];
        check_head(h.objects[slot], h.n);
        stamp_head(h.objects[slot], slot);
        if (h.sizes[slot] > 8) h.objects[slot][h.sizes[slot] - 1] = static_cast<char>(slot);
      }
    }
    h.put(h.n, size);
    ++h.n;
    if (i % (steps / samples + 1) != steps / samples || h.live < bytes / 2) continue;
    last = (rss_now() - before) * 1024 / static_cast<double>(h.live);
    sum += last;
    if (last > most) most = last;
  }
  m.stop(steps);
  result("resident_live", sum / static_cast<double>(samples));
  result("resident_live_most", most);
  result("resident_live_last", last);
  for (size_t i = 0; i < h.n; ++i) h.drop(i);
  report_rest();
}

}  // namespace

const workload resident_workloads[] = {{"idle", idle},       {"threads", threads}, {"freed", freed},    {"payload", payload},
                                       {"replace", replace}, {"drift", drift},     {nullptr, nullptr}};

}  // namespace work
