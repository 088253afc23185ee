// work NAME [parameter=value...]: one workload in a process of its own; results as name=value lines. work --list names them.
//
// Exit codes: 0; 2 usage; 3 a check failed: wrong contents; 4 no memory where there is plenty.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "work.hpp"

namespace work {
namespace {

int argument_count = 0;
char** arguments = nullptr;
char output[8192];
size_t output_length = 0;

double clock_ns(clockid_t id) {
  timespec t{};
  clock_gettime(id, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

size_t read_file(const char* path, char* buffer, size_t size) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  size_t length = 0;
  ssize_t n = 0;
  while (length < size - 1 && (n = read(fd, buffer + length, size - 1 - length)) > 0) length += static_cast<size_t>(n);
  close(fd);
  buffer[length] = 0;
  return length;
}

double field_kib(const char* text, const char* name) {
  const char* const at = strstr(text, name);
  return at != nullptr ? strtod(at + strlen(name), nullptr) : 0;
}

void write_all(int fd, const char* text, size_t length) {
  while (length != 0) {
    const ssize_t n = write(fd, text, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text += n;
    length -= static_cast<size_t>(n);
  }
}

[[noreturn]] void end(int code, const char* text, int length) {
  write_all(2, text, static_cast<size_t>(length));
  _exit(code);
}

const workload* const groups[] = {small_workloads, thread_workloads, large_workloads, resident_workloads, mixed_workloads};

}  // namespace

uint64_t parameter(const char* name, uint64_t otherwise) {
  const size_t length = strlen(name);
  for (int i = 2; i < argument_count; ++i)
    if (strncmp(arguments[i], name, length) == 0 && arguments[i][length] == '=') return strtoull(arguments[i] + length + 1, nullptr, 0);
  return otherwise;
}

void result(const char* name, double value) {
  const int n = snprintf(output + output_length, sizeof output - output_length, "%s=%.4f\n", name, value);
  if (n > 0 && output_length + static_cast<size_t>(n) < sizeof output) output_length += static_cast<size_t>(n);
}

void wrong(const char* what, uint64_t expected, uint64_t found) {
  char text[200];
  end(3, text, snprintf(text, sizeof text, "work: %s: expected %#llx, found %#llx\n", what, static_cast<unsigned long long>(expected),
                        static_cast<unsigned long long>(found)));
}

void refused(size_t size) {
  char text[100];
  end(4, text, snprintf(text, sizeof text, "work: no memory for %zu bytes\n", size));
}

void meter::start() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  minor_ = usage.ru_minflt;
  major_ = usage.ru_majflt;
  cpu_ = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  wall_ = clock_ns(CLOCK_MONOTONIC);
}

void meter::stop(uint64_t operations) {
  const double wall = clock_ns(CLOCK_MONOTONIC) - wall_, cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto n = static_cast<double>(operations == 0 ? 1 : operations);
  result("time_ns", wall / n);
  result("cpu_ns", cpu / n);
  result("faults", static_cast<double>(usage.ru_minflt - minor_));
  result("major_faults", static_cast<double>(usage.ru_majflt - major_));
}

resident resident_now() {
  static char text[4096];
  if (read_file("/proc/self/smaps_rollup", text, sizeof text) == 0) return {rss_now(), 0};
  return {field_kib(text, "\nRss:"), field_kib(text, "\nPss:")};
}

double rss_now() {
  // smaps_rollup walks the page tables; statm and status add up counters that CPUs keep for themselves.
  static char text[4096];
  read_file("/proc/self/status", text, sizeof text);
  return field_kib(text, "\nVmRSS:");
}

void pause_ms(uint64_t ms) {
  timespec left = {static_cast<time_t>(ms / 1000), static_cast<long>(ms % 1000) * 1000000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

void report_rest() {
  const resident now = resident_now();
  result("rest_rss", now.rss);
  result("rest_pss", now.pss);
}

void* table_bytes(size_t bytes) {
  void* const p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (p != MAP_FAILED) return p;
  char text[100];
  end(2, text, snprintf(text, sizeof text, "work: no mapping of %zu bytes for a table\n", bytes));
}

void fill(char* p, size_t size, uint64_t value) {
  for (size_t i = 0; i < size; ++i) p[i] = static_cast<char>(value + i * 131);
}

void check_filled(const char* p, size_t size, uint64_t value) {
  for (size_t i = 0; i < size; ++i)
    if (p[i] != static_cast<char>(value + i * 131)) wrong("an object's bytes changed", value, i);
}

void verify_sizes(size_t low, size_t high) {
  constexpr size_t most_bytes = 8 << 20;
  random_numbers r(low * 31 + high);
  static char* objects[512];
  static size_t sizes[512];
  size_t bytes = 0;
  unsigned n = 0;
  for (; n < 512 && bytes < most_bytes; ++n) {
    sizes[n] = low + r.below(high - low + 1);
    objects[n] = take(sizes[n]);
    fill(objects[n], sizes[n], n);
    bytes += sizes[n];
  }
  for (unsigned i = 0; i < n; i += 2) {  // every other one is replaced
    check_filled(objects[i], sizes[i], i);
    free(objects[i]);
    objects[i] = take(sizes[i]);
    fill(objects[i], sizes[i], i + 7);
  }
  for (unsigned i = 0; i < n; ++i) {
    check_filled(objects[i], sizes[i], i % 2 == 0 ? i + 7 : i);
    free(objects[i]);
  }
}

void* thread::enter(void* self) {
  auto* const t = static_cast<thread*>(self);
  t->function_(t->argument_);
  return nullptr;
}

void thread::start(void (*function)(void*), void* argument, size_t stack) {
  function_ = function;
  argument_ = argument;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, stack);
  const int error = pthread_create(&handle_, &attributes, enter, this);
  pthread_attr_destroy(&attributes);
  if (error != 0) wrong("pthread_create failed", 0, static_cast<uint64_t>(error));
}

void thread::join() { pthread_join(handle_, nullptr); }

int run(int argc, char** argv) {
  argument_count = argc;
  arguments = argv;
  const char* const name = argc > 1 ? argv[1] : "";
  for (const workload* const group : groups)
    for (const workload* w = group; w->name != nullptr; ++w) {
      if (strcmp(name, "--list") == 0) {
        write_all(1, w->name, strlen(w->name));
        write_all(1, "\n", 1);
      } else if (strcmp(name, w->name) == 0) {
        w->run();
        write_all(1, output, output_length);
        return 0;
      }
    }
  if (strcmp(name, "--list") == 0) return 0;
  static const char usage[] = "usage: work NAME [parameter=value...]; work --list\n";
  write_all(2, usage, sizeof usage - 1);
  return 2;
}

}  // namespace work

int main(int argc, char** argv) { return work::run(argc, argv); }
