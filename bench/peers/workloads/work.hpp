// What the workloads of bench/peers share: parameters, a meter of the timed part, residency, stamps that are checked, tables and threads.
//
// The workloads call malloc and its family, and know nothing of who serves them. Nothing here allocates: tables are mappings of their own,
// text goes out by write(), so what is measured is the workload's. Without the C++ run time, so that an idle process is a plain one.
#pragma once
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>

namespace work {

// ---- parameters and results -------------------------------------------------------------------------------------------------------

/// The value of the argument name=value, or `otherwise`.
uint64_t parameter(const char* name, uint64_t otherwise);
/// A result: one line name=value on stdout, written when the workload has ended.
void result(const char* name, double value);
/// A failed check: says what and ends the process with code 3.
[[noreturn]] void wrong(const char* what, uint64_t expected, uint64_t found);
/// The allocator had no memory where there is plenty: ends the process with code 4.
[[noreturn]] void refused(size_t size);

/// Wall time, CPU time and page faults of the timed part, as time_ns and cpu_ns an operation, faults and major_faults.
struct meter {
  void start();
  void stop(uint64_t operations);

 private:
  double wall_ = 0, cpu_ = 0;
  long minor_ = 0, major_ = 0;
};

/// KiB.
struct resident {
  double rss, pss;
};
resident resident_now();
/// KiB, cheaper and without Pss.
double rss_now();
void pause_ms(uint64_t ms);
/// What there is when everything was freed: rest_rss and rest_pss.
void report_rest();

// ---- memory that is not the allocator's --------------------------------------------------------------------------------------------

/// `bytes` of zeroes, present: residency does not change when they are written. Shared, so that no limit on data counts them.
void* table_bytes(size_t bytes);
template <class T>
T* table(size_t n) {
  return static_cast<T*>(table_bytes(n * sizeof(T)));
}

// ---- numbers -------------------------------------------------------------------------------------------------------------------------

struct random_numbers {
  uint64_t state;
  explicit random_numbers(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15u + 88172645463325252u) {}
  uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  }
  /// In [0, n), n < 2^32.
  uint64_t below(uint64_t n) { return ((next() >> 32) * n) >> 32; }
};

/// 50 % 8..128, 30 % ..512, 15 % ..2048, 5 % ..8192 bytes.
inline size_t mixed_size(random_numbers& r) {
  const uint64_t x = r.next();
  const uint64_t share = (x >> 40) % 100;
  if (share < 50) return 8 + x % 121;
  if (share < 80) return 129 + x % 384;
  if (share < 95) return 513 + x % 1536;
  return 2049 + x % 6144;
}

// ---- objects -------------------------------------------------------------------------------------------------------------------------

inline char* take(size_t size) {
  auto* const p = static_cast<char*>(malloc(size));
  if (__builtin_expect(p == nullptr, 0)) refused(size);
  return p;
}

/// Writes 8 bytes that nobody else writes; `size` is 8 at least.
inline void stamp_head(void* p, uint64_t value) { *static_cast<volatile uint64_t*>(p) = value; }
inline void check_head(const void* p, uint64_t value) {
  const uint64_t found = *static_cast<const volatile uint64_t*>(p);
  if (__builtin_expect(found != value, 0)) wrong("an object's first bytes changed", value, found);
}

/// The same with the last byte, where it is behind the first eight.
inline void stamp(char* p, size_t size, uint64_t value) {
  stamp_head(p, value);
  if (size > 8) *static_cast<volatile char*>(p + size - 1) = static_cast<char>(value);
}
inline void check(const char* p, size_t size, uint64_t value) {
  check_head(p, value);
  if (size <= 8) return;
  const auto found = *reinterpret_cast<const volatile unsigned char*>(p + size - 1);
  if (__builtin_expect(found != static_cast<unsigned char>(value), 0)) wrong("an object's last byte changed", value & 255, found);
}

/// Every byte.
void fill(char* p, size_t size, uint64_t value);
void check_filled(const char* p, size_t size, uint64_t value);
/// Not timed: many objects of sizes in [low, high] live side by side, every byte of them written and checked. Ends the process if not so.
void verify_sizes(size_t low, size_t high);

// ---- threads -------------------------------------------------------------------------------------------------------------------------

struct thread {
  void start(void (*function)(void*), void* argument, size_t stack = 256 << 10);
  void join();

 private:
  static void* enter(void* self);
  pthread_t handle_ = {};
  void (*function_)(void*) = nullptr;
  void* argument_ = nullptr;
};

/// All of n parties wait for one another.
struct barrier {
  explicit barrier(unsigned n) { pthread_barrier_init(&b_, nullptr, n); }
  void wait() { pthread_barrier_wait(&b_); }

 private:
  pthread_barrier_t b_;
};

/// Runs function(argument of each) on n threads at once, the elements of an array, and measures until the last has ended.
template <class T>
void on_threads(T* each, unsigned n, void (*function)(void*), meter& m, uint64_t operations) {
  auto* const threads = table<thread>(n);
  m.start();
  for (unsigned i = 0; i < n; ++i) threads[i].start(function, &each[i]);
  for (unsigned i = 0; i < n; ++i) threads[i].join();
  m.stop(operations);
}

// ---- workloads -----------------------------------------------------------------------------------------------------------------------

struct workload {
  const char* name;
  void (*run)();
};
extern const workload small_workloads[], thread_workloads[], large_workloads[], resident_workloads[], mixed_workloads[];

}  // namespace work
