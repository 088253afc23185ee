// Large blocks, untouched and touched, and memory that grows by realloc.
#include "work.hpp"

namespace work {
namespace {

/// A window of blocks of [low, high] bytes, one replaced each time. touch 0: eight bytes are written; 1: each page.
void blocks() {
  const size_t low = parameter("low", 64 << 10), high = parameter("high", 4 << 20), held = parameter("held", 32);
  const bool touch = parameter("touch", 0) != 0;
  const uint64_t n = parameter("n", 1000);
  auto** const objects = table<char*>(held);
  auto* const sizes = table<size_t>(held);
  random_numbers r(5);
  verify_sizes(low, low * 2);
  const auto replace = [&](uint64_t i) {
    const size_t slot = r.below(held);
    if (objects[slot] != nullptr) {
      const uint64_t expected = sizes[slot];
      for (size_t at = 0; at + 8 <= (touch ? sizes[slot] : 8); at += 4096) check_head(objects[slot] + at, expected + at);
    }
    free(objects[slot]);
    const size_t size = low + r.below(high - low + 1) / 64 * 64;
    objects[slot] = take(size);
    sizes[slot] = size;
    for (size_t at = 0; at + 8 <= (touch ? size : 8); at += 4096) stamp_head(objects[slot] + at, size + at);
    (void)i;
  };
  for (uint64_t i = 0; i < held * 2; ++i) replace(i);
  meter m;
  m.start();
  for (uint64_t i = 0; i < n; ++i) replace(i);
  m.stop(n);
  for (size_t i = 0; i < held; ++i) free(objects[i]);
  report_rest();
}

char* grow(char* p, size_t size) {
  auto* const q = static_cast<char*>(realloc(p, size));
  if (q == nullptr) refused(size);
  return q;
}

/// 16 bytes, doubled until 64 KiB; an operation is one realloc.
void doubling() {
  const size_t low = parameter("low", 16), high = parameter("high", 64 << 10);
  const uint64_t n = parameter("n", 1000);
  uint64_t operations = 0;
  meter m;
  m.start();
  while (operations < n) {
    char* p = nullptr;
    for (size_t size = low; size <= high; size *= 2) {
      p = grow(p, size);
      if (size != low) check_head(p + size / 2 - 8, size / 2);
      stamp_head(p + size - 8, size);
      ++operations;
    }
    free(p);
  }
  m.stop(operations);
  report_rest();
}

/// Vectors that grow side by side, as push_back makes them: every element is written, capacity doubles. An operation is an element.
void vectors() {
  const size_t count = parameter("vectors", 4), most = parameter("bytes", 64 << 20);
  const uint64_t n = parameter("n", 1000000);
  struct vector {
    uint64_t* data;
    size_t size, capacity;
  };
  auto* const each = table<vector>(count);
  meter m;
  m.start();
  uint64_t operations = 0;
  while (operations < n) {
    for (size_t chunk = 0; chunk < most / 8 && operations < n; chunk += 256)
      for (size_t v = 0; v < count; ++v) {
        vector& x = each[v];
        for (size_t i = 0; i < 256; ++i) {
          if (x.size == x.capacity) {
            x.capacity = x.capacity == 0 ? 4 : x.capacity * 2;
            x.data = reinterpret_cast<uint64_t*>(grow(reinterpret_cast<char*>(x.data), x.capacity * 8));
          }
          x.data[x.size] = v << 56 | x.size;
          ++x.size;
        }
        operations += 256;
      }
    for (size_t v = 0; v < count; ++v) {
      vector& x = each[v];
      for (size_t i = 0; i < x.size; i += 509)
        if (x.data[i] != (v << 56 | i)) wrong("an element of a vector changed", v << 56 | i, x.data[i]);
      free(x.data);
      x = {};
    }
  }
  m.stop(operations);
  report_rest();
}

/// One block that grows by a few KiB at a time to `bytes`, as readers of streams do it. An operation is one realloc.
void creeping() {
  const size_t most = parameter("bytes", 16 << 20), step = parameter("step", 8192);
  const uint64_t n = parameter("n", 1000);
  uint64_t operations = 0;
  meter m;
  m.start();
  while (operations < n) {
    char* p = nullptr;
    char* other = take(100);
    for (size_t size = step; size <= most && operations < n; size += step) {
      p = grow(p, size);
      if (size != step) check_head(p + size - step - 8, size - step);
      stamp_head(p + size - 8, size);
      free(other);
      other = take(100 + size % 3000);
      ++operations;
    }
    free(other);
    free(p);
  }
  m.stop(operations);
  report_rest();
}

}  // namespace

const workload large_workloads[] = {
    {"blocks", blocks}, {"doubling", doubling}, {"vectors", vectors}, {"creeping", creeping}, {nullptr, nullptr}};

}  // namespace work
