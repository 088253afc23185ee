// Small objects in one thread: pairs, batches in three orders, zeroed and aligned memory.
#include "work.hpp"

namespace work {
namespace {

void pair() {
  const size_t size = parameter("size", 64);
  const uint64_t n = parameter("n", 1000);
  verify_sizes(size, size);
  for (uint64_t i = 0; i < n / 20; ++i) {
    char* const p = take(size);
    stamp_head(p, i);
    free(p);
  }
  meter m;
  m.start();
  for (uint64_t i = 0; i < n; ++i) {
    char* const p = take(size);
    stamp_head(p, i);
    check_head(p, i);
    free(p);
  }
  m.stop(n);
  report_rest();
}

enum class order { fifo, lifo, random };

/// Which object of n is freed at step i.
void make_sequence(uint32_t* sequence, size_t n, order o) {
  for (size_t i = 0; i < n; ++i) sequence[i] = static_cast<uint32_t>(o == order::lifo ? n - 1 - i : i);
  if (o != order::random) return;
  random_numbers r(7);
  for (size_t i = n; i-- > 1;) {
    const size_t j = r.below(i + 1);
    const uint32_t x = sequence[i];
    sequence[i] = sequence[j];
    sequence[j] = x;
  }
}

void batch(order o) {
  const size_t size = parameter("size", 64), held = parameter("held", 1000);
  const uint64_t n = parameter("n", 1000);
  auto** const objects = table<char*>(held);
  auto* const sequence = table<uint32_t>(held);
  make_sequence(sequence, held, o);
  verify_sizes(size, size);
  meter m;
  const auto turn = [&](uint64_t base) {
    for (size_t i = 0; i < held; ++i) {
      objects[i] = take(size);
      stamp_head(objects[i], base + i);
    }
    for (size_t i = 0; i < held; ++i) {
      char* const p = objects[sequence[i]];
      check_head(p, base + sequence[i]);
      free(p);
    }
  };
  for (uint64_t i = 0; i < 5; ++i) turn(i);
  const uint64_t turns = n / held + 1;
  m.start();
  for (uint64_t i = 0; i < turns; ++i) turn(i * held);
  m.stop(turns * held);
  report_rest();
}

void batch_fifo() { batch(order::fifo); }
void batch_lifo() { batch(order::lifo); }
void batch_random() { batch(order::random); }

/// calloc of memory that was written before; what it returns is looked at, a word in each 256 bytes, and written again.
void zeroed() {
  const size_t size = parameter("size", 64), held = parameter("held", 64);
  const uint64_t n = parameter("n", 1000);
  auto** const objects = table<char*>(held);
  const size_t step = size < 256 ? 8 : 256;
  const auto turn = [&](bool everything) {
    for (size_t i = 0; i < held; ++i) {
      auto* const p = static_cast<char*>(calloc(1, size));
      if (p == nullptr) refused(size);
      objects[i] = p;
      if (everything) {
        for (size_t at = 0; at < size; ++at)
          if (p[at] != 0) wrong("calloc gave a byte that is not zero", 0, at);
        memset(p, 0xa5, size);
      }
      for (size_t at = 0; at + 8 <= size && !everything; at += step) {
        check_head(p + at, 0);
        stamp_head(p + at, ~uint64_t{0});
      }
    }
    for (size_t i = 0; i < held; ++i) free(objects[i]);
  };
  for (int i = 0; i < 3; ++i) turn(true);
  const uint64_t turns = n / held + 1;
  meter m;
  m.start();
  for (uint64_t i = 0; i < turns; ++i) turn(false);
  m.stop(turns * held);
  for (int i = 0; i < 2; ++i) turn(true);
  report_rest();
}

/// Alignments from 16 to 4096, sizes of one to four of them and odd ones; a window of live objects.
void aligned() {
  const uint64_t n = parameter("n", 1000);
  constexpr size_t held = 256;
  auto** const objects = table<char*>(held);
  auto* const sizes = table<size_t>(held);
  random_numbers r(3);
  verify_sizes(16, 8192);
  meter m;
  m.start();
  for (uint64_t i = 0; i < n; ++i) {
    const size_t slot = i % held;
    if (objects[slot] != nullptr) check(objects[slot], sizes[slot], i - held);
    free(objects[slot]);
    const size_t align = size_t{16} << r.below(9), size = 8 + r.below(align * 3);
    void* p = nullptr;
    if (posix_memalign(&p, align, size) != 0) refused(size);
    if ((reinterpret_cast<uintptr_t>(p) & (align - 1)) != 0) wrong("an address is not aligned", align, reinterpret_cast<uintptr_t>(p));
    objects[slot] = static_cast<char*>(p);
    sizes[slot] = size;
    stamp(objects[slot], size, i);
  }
  for (size_t i = 0; i < held; ++i) free(objects[i]);
  m.stop(n);
  report_rest();
}

}  // namespace

const workload small_workloads[] = {{"pair", pair},
                                    {"batch_fifo", batch_fifo},
                                    {"batch_lifo", batch_lifo},
                                    {"batch_random", batch_random},
                                    {"zeroed", zeroed},
                                    {"aligned", aligned},
                                    {nullptr, nullptr}};

}  // namespace work
