// A storm of signals: timers on every thread, pthread_kill and process-wide signals from others; handlers that allocate and free whatever
// they interrupt, up to 2 MiB, and hand objects to the code that they interrupt and back. Exits with 0 if nothing was lost, damaged, late
// or refused for no reason, and prints what it saw as NAME=VALUE lines.
//
//   storm SECONDS HANDLERS BUDGET_MIB STACK_BYTES LEVELS DOUBTFUL
//
// DOUBTFUL: how many NULLs may come, of a million operations, with half of the budget free. It ends after that time and that many handlers,
// whichever is later. Handlers run on alternate stacks of that many bytes; with two levels a handler may be interrupted by another one.
//
// Compiled as it is it uses malloc and its relatives, wherever they come from; with STORM_KMALLOC it uses libkmem's functions, GFP_ATOMIC
// in handlers. The books it keeps are its own: which bytes it holds, and whether a NULL can be true.
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(STORM_KMALLOC)
#include <kmem/info.hpp>
#include <kmem/kmem.hpp>
#endif

namespace {

// ---- what is stormed ----------------------------------------------------------------------------------------------------------------

#if defined(STORM_KMALLOC)
kmem::gfp_t mask(bool atomic) { return (atomic ? kmem::gfp::atomic : kmem::gfp::kernel) | kmem::gfp::nowarn; }
void* take(size_t size, bool atomic) { return kmem::kmalloc(size, mask(atomic)); }
void* take_zeroed(size_t size, bool atomic) { return kmem::kzalloc(size, mask(atomic)); }
void* resize(void* old, size_t size, bool atomic) { return kmem::krealloc(old, size, mask(atomic)); }
void give(void* p) { kmem::kfree(p); }
size_t usable(void* p) { return kmem::ksize(p); }
#else
void* take(size_t size, bool) { return malloc(size); }
void* take_zeroed(size_t size, bool) { return calloc(1, size); }
void* resize(void* old, size_t size, bool) { return realloc(old, size); }
void give(void* p) { free(p); }
size_t usable(void* p) { return malloc_usable_size(p); }
#endif

// ---- verdicts -------------------------------------------------------------------------------------------------------------------------

std::atomic<uint64_t> nr_handlers{0}, nr_operations{0}, nr_nulls{0}, nr_nulls_in_handlers{0};
std::atomic<long> live_bytes{0};
long budget_bytes = 0;

void say(const char* text) { [[maybe_unused]] const auto written = write(2, text, strlen(text)); }

[[noreturn]] void fail(const char* what, uint64_t a = 0, uint64_t b = 0) {
  char line[300];  // snprintf of integers and strings takes no lock and no memory
  snprintf(line, sizeof line, "storm: %s (%lu, %lu)\n", what, static_cast<unsigned long>(a), static_cast<unsigned long>(b));
  say(line);
  _exit(1);
}

constexpr uint32_t sizes[] = {8,    16,   24,   32,    48,    64,    100,   128,   200,    256,    400,
                              512,  1000, 1024, 1500,  2048,  3000,  4096,  6000,  8192,   12000,  16384,
                              20000, 32768, 50000, 65536, 100000, 131072, 262144, 400000, 524288, 1048576, 2097152};
constexpr unsigned nr_sizes = sizeof sizes / sizeof sizes[0], small_sizes = 14, slab_sizes = 24, middle_sizes = 29;

uint32_t next_random(uint32_t& state) {
  state = state * 1664525u + 1013904223u;
  return state >> 8;
}

unsigned random_size(uint32_t& state) {
  const unsigned dice = next_random(state) % 1000;
  const unsigned limit = dice < 700 ? small_sizes : dice < 950 ? slab_sizes : dice < 992 ? middle_sizes : nr_sizes;
  return next_random(state) % limit;
}

// ---- objects: an address and the number of its size in one word, contents that follow from both ---------------------------------------

using object = uint64_t;
char* address_of(object o) { return reinterpret_cast<char*>(o & 0xffffffffffff); }
unsigned size_number(object o) { return static_cast<unsigned>(o >> 56); }
object object_of(void* p, unsigned number) { return reinterpret_cast<uintptr_t>(p) | uint64_t{number} << 56; }
uint64_t word_of(object o, size_t at) { return (o ^ at) * 0x9e3779b97f4a7c15u; }

/// Where contents are written: all of it up to 4 KiB, beyond the ends and one word every 512 bytes.
template <class Visit>
void for_each_word(object o, Visit visit) {
  const size_t size = sizes[size_number(o)], words = size / 8;
  for (size_t i = 0; i < words; i += words <= 512 || i < 64 || i + 128 > words ? 1 : 64) visit(address_of(o) + i * 8, word_of(o, i));
}

void write_contents(object o) {
  for_each_word(o, [](char* at, uint64_t word) { memcpy(at, &word, 8); });
}

void check_contents(object o) {
  for_each_word(o, [o](char* at, uint64_t word) {
    uint64_t there;
    memcpy(&there, at, 8);
    if (there != word) fail("contents of memory changed while somebody held it: address, size", o, sizes[size_number(o)]);
  });
}

#if defined(STORM_KMALLOC)
/// What the allocator has noted of the last NULLs.
void say_failures() {
  static kmem::allocation_failure failure;
  static char text[4096];
  const uint64_t last = kmem::failures_total();
  for (uint64_t i = last > 3 ? last - 2 : 1; i <= last; ++i) {
    if (!kmem::read_allocation_failure(i, failure)) continue;
    kmem::failure_text(failure, text, sizeof text);
    say(text);
  }
}
#endif

std::atomic<uint64_t> nr_doubtful{0};
bool every_null_counts = true;

/// A NULL is true for sure only when most of the budget is in use: what is held, counted from outside, and what arrays and slabs keep for
/// it. Others are doubtful: a large block where free pages are scattered, or a handler that has interrupted the holder of a lock while
/// the reserve was used up.
void judge_null(size_t size, bool in_handler) {
  nr_nulls.fetch_add(1);
  if (in_handler) nr_nulls_in_handlers.fetch_add(1);
  const long live = live_bytes.load();
  if (live >= budget_bytes / 2) return;
  nr_doubtful.fetch_add(1);
  if (!every_null_counts && in_handler) return;
#if defined(STORM_KMALLOC)
  say_failures();
#endif
  fail(in_handler ? "NULL in a handler, half of the budget free: size, bytes held" : "NULL, half of the budget free: size, bytes held",
       size, static_cast<uint64_t>(live));
}

object take_object(uint32_t& random, bool in_handler) {
  const unsigned number = random_size(random);
  const long size = sizes[number];
  const bool zeroed = next_random(random) % 8 == 0;
  live_bytes.fetch_add(size);
  char* const p = static_cast<char*>(zeroed ? take_zeroed(sizes[number], in_handler) : take(sizes[number], in_handler));
  nr_operations.fetch_add(1, std::memory_order_relaxed);
  if (p == nullptr) {
    judge_null(sizes[number], in_handler);
    live_bytes.fetch_sub(size);
    return 0;
  }
  const object o = object_of(p, number);
  if (usable(p) < sizes[number]) fail("usable size", reinterpret_cast<uintptr_t>(p), sizes[number]);
  if (zeroed)
    for_each_word(o, [](char* at, uint64_t) {
      uint64_t there;
      memcpy(&there, at, 8);
      if (there != 0) fail("memory that should be zero is not", reinterpret_cast<uintptr_t>(at));
    });
  write_contents(o);
  return o;
}

void give_object(object o) {
  if (o == 0) return;
  check_contents(o);
  const int before = errno;
  errno = 4711;
  give(address_of(o));
  if (errno != 4711) fail("free changed errno", static_cast<uint64_t>(errno));
  errno = before;
  live_bytes.fetch_sub(sizes[size_number(o)]);
  nr_operations.fetch_add(1, std::memory_order_relaxed);
}

object resize_object(object o, uint32_t& random, bool in_handler) {
  const unsigned number = random_size(random);
  const long size = sizes[number], old = sizes[size_number(o)];
  check_contents(o);
  live_bytes.fetch_add(size);
  char* const p = static_cast<char*>(resize(address_of(o), sizes[number], in_handler));
  if (p == nullptr) {
    judge_null(sizes[number], in_handler);
    live_bytes.fetch_sub(size);
    check_contents(o);
    return o;
  }
  live_bytes.fetch_sub(old);
  const size_t kept = size < old ? static_cast<size_t>(size) : static_cast<size_t>(old);
  for (size_t i = 0; (i + 1) * 8 <= kept && i < 64; ++i) {
    uint64_t there;
    memcpy(&there, p + i * 8, 8);
    if (there != word_of(o, i)) fail("realloc lost what was there", reinterpret_cast<uintptr_t>(p), i);
  }
  const object moved = object_of(p, number);
  write_contents(moved);
  return moved;
}

// ---- handlers -------------------------------------------------------------------------------------------------------------------------

std::atomic<bool> stop{false};
std::atomic<object> boxes[64];  // between handlers and the code that they interrupt, of whatever thread

struct thread_state {
  object kept[12] = {};
  uint32_t random = 1;
  std::atomic<uint64_t> handlers{0}, operations{0};
  char* stack = nullptr;  // of its handlers
  volatile bool ending = false;  // its handlers keep nothing any more
};
thread_local thread_state me;

constexpr int timer_signal_offset = 6, sent_signal_offset = 7, process_signal_offset = 8;

void storm_step(uint32_t& random, object* kept, unsigned nr_kept, bool in_handler) {
  object& o = kept[next_random(random) % nr_kept];
  const unsigned dice = next_random(random) % 16;
  if (o == 0)
    o = take_object(random, in_handler);
  else if (dice < 9)
    give_object(o), o = 0;
  else if (dice < 11)
    o = resize_object(o, random, in_handler);
  else
    o = boxes[next_random(random) % 64].exchange(o);
}

void on_signal(int, siginfo_t*, void*) {
  if (stop.load(std::memory_order_relaxed)) return;
  const int before = errno;
  uint32_t random = me.random ^ static_cast<uint32_t>(me.handlers.load(std::memory_order_relaxed) * 2654435761u);
  // A handler of another signal may interrupt this one: each takes objects out of the array before it touches them.
  object mine[2];
  const unsigned at = next_random(random) % 11;
  for (unsigned i = 0; i < 2; ++i) mine[i] = __atomic_exchange_n(&me.kept[at + i], 0, __ATOMIC_RELAXED);
  const unsigned steps = 1 + next_random(random) % 3;
  for (unsigned i = 0; i < steps; ++i) storm_step(random, mine, 2, true);
  for (unsigned i = 0; i < 2; ++i) {
    if (me.ending) give_object(mine[i]), mine[i] = 0;
    const object there = __atomic_exchange_n(&me.kept[at + i], mine[i], __ATOMIC_RELAXED);
    if (there != 0) give_object(there);
  }
  me.random += random;
  me.handlers.fetch_add(1, std::memory_order_relaxed);
  nr_handlers.fetch_add(1, std::memory_order_relaxed);
  errno = before;
}

// ---- alternate stacks: between unreadable pages, so that one that is too small is a crash and no guess ----------------------------------

size_t stack_bytes = 0;
unsigned levels = 1;
constexpr unsigned char untouched = 0xa5;
constexpr size_t page_bytes = 4096;
std::atomic<size_t> deepest_use{0};

char* make_stack() {
  const size_t room = (stack_bytes + page_bytes - 1) / page_bytes * page_bytes;
  char* const area = static_cast<char*>(mmap(nullptr, room + page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (area == MAP_FAILED || mprotect(area + page_bytes, room, PROT_READ | PROT_WRITE) != 0) fail("no stack");
  memset(area + page_bytes, untouched, room);
  return area + page_bytes + room - stack_bytes;
}

void use_stack(char* stack) {
  me.stack = stack;
  stack_t alternate = {};
  alternate.ss_sp = stack;
  alternate.ss_size = stack_bytes;
  if (sigaltstack(&alternate, nullptr) != 0) fail("sigaltstack", static_cast<uint64_t>(errno));
}

void note_depth(char* stack) {
  size_t low = 0;
  while (low < stack_bytes && static_cast<unsigned char>(stack[low]) == untouched) ++low;
  const size_t used = stack_bytes - low;
  size_t known = deepest_use.load();
  while (used > known && !deepest_use.compare_exchange_weak(known, used)) continue;
}

// ---- threads --------------------------------------------------------------------------------------------------------------------------

constexpr unsigned nr_roles = 7;
struct shared_thread {
  pthread_t thread;
  std::atomic<uint64_t> progress{0};
  std::atomic<uint64_t> handlers{0};
  std::atomic<bool> running{false};
} threads[nr_roles];

timer_t start_timer(long nanoseconds) {
  struct sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGRTMIN + timer_signal_offset;
  event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
  timer_t timer;
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) fail("timer_create", static_cast<uint64_t>(errno));
  const itimerspec every = {{0, nanoseconds}, {0, nanoseconds}};
  timer_settime(timer, 0, &every, nullptr);
  return timer;
}

void block_all(bool block) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(block ? SIG_BLOCK : SIG_UNBLOCK, &all, nullptr);
}

void give_kept() {
  for (object& o : me.kept) give_object(__atomic_exchange_n(&o, 0, __ATOMIC_RELAXED));
}

struct objects {
  static constexpr unsigned most = 192;
  object held[most] = {};
  void step(uint32_t& random) { storm_step(random, held, most, false); }
  void give_all() {
    for (object& o : held) give_object(o), o = 0;
  }
};

/// Growth as vectors and strings do it, and blocks beyond every class.
void grow(uint32_t& random) {
  char* p = nullptr;
  size_t size = 16, filled = 0;
  while (size < 300000 && !stop.load(std::memory_order_relaxed)) {
    live_bytes.fetch_add(static_cast<long>(size));
    char* const q = static_cast<char*>(resize(p, size, false));
    if (q == nullptr) {
      judge_null(size, false);
      live_bytes.fetch_sub(static_cast<long>(size));
      break;
    }
    live_bytes.fetch_sub(static_cast<long>(filled));
    p = q;
    for (size_t i = 0; i < filled; i += filled / 16 + 1)
      if (p[i] != static_cast<char>(i)) fail("realloc lost a byte", i, filled);
    for (size_t i = filled; i < size; ++i) p[i] = static_cast<char>(i);
    filled = size;
    size += size / 3 + next_random(random) % 64;
  }
  give(p);
  live_bytes.fetch_sub(static_cast<long>(filled));
}

[[maybe_unused]] void fork_once(objects& held, uint32_t& random) {
  const pid_t child = fork();
  if (child < 0) return;  // no process to be had
  if (child == 0) {
    alarm(60);
    for (int i = 0; i < 40; ++i) {
      held.step(random);
      raise(SIGRTMIN + sent_signal_offset);
    }
    for (const object o : held.held)
      if (o != 0) check_contents(o);
    _exit(0);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) fail("waitpid", static_cast<uint64_t>(errno));
  if (status != 0) fail("a child failed: status", static_cast<uint64_t>(status));
}

pthread_key_t key;
void at_thread_end(void* p) {  // of a thread-local: the thread is ending, and signals still come
  uint32_t random = 7;
  for (int i = 0; i < 8; ++i) give_object(take_object(random, false));
  give(p);
}

struct short_life {
  char* stack;
  timer_t timer;
};

/// A thread that is interrupted from its first moment to its last.
void* short_thread(void* argument) {
  static std::atomic<uint32_t> seed{1};
  auto& life = *static_cast<short_life*>(argument);
  me.random = seed.fetch_add(77);
  use_stack(life.stack);
  life.timer = start_timer(30'000);
  pthread_setspecific(key, take(100, false));
  uint32_t random = me.random;
  objects held;
  for (int i = 0; i < 200; ++i) held.step(random);
  held.give_all();
  me.ending = true;
  give_kept();
  return nullptr;
}

void churn_once() {
  static short_life life{make_stack(), {}};
  pthread_t thread;
  if (pthread_create(&thread, nullptr, short_thread, &life) != 0) return;
  pthread_join(thread, nullptr);
  timer_delete(life.timer);
  note_depth(life.stack);
}

void libraries_once(uint32_t& random) {
  constexpr const char* names[] = {"libanl.so.1", "libBrokenLocale.so.1", "libnss_compat.so.2", "libresolv.so.2"};
  void* const library = dlopen(names[next_random(random) % 4], RTLD_NOW);
  if (library != nullptr) dlclose(library);
#if !defined(STORM_KMALLOC)
  if (next_random(random) % 8 == 0) malloc_trim(0);
  [[maybe_unused]] const auto info = mallinfo2();
#endif
}

#if defined(STORM_KMALLOC)
/// Everything else that the allocator does, where signals may come upon it.
void kernel_things_once(uint32_t& random) {
  using namespace kmem;
  switch (next_random(random) % 6) {
    case 0: {
      kmem_cache* const cache = kmem_cache_create("storm", 8 + next_random(random) % 3000, 0, cache_flags::no_merge);
      if (cache == nullptr) return;
      void* some[64] = {};
      const size_t n = kmem_cache_alloc_bulk(cache, gfp::kernel | gfp::nowarn, 64, some);
      kmem_cache_free_bulk(cache, n, some);
      kmem_cache_shrink(cache);
      kmem_cache_destroy(cache);
      return;
    }
    case 1: {
      const size_t size = 1 + next_random(random) % 300000;
      char* const area = static_cast<char*>(vmalloc(size, gfp::kernel | gfp::nowarn));
      if (area == nullptr) return;
      area[0] = area[size - 1] = 1;
      vfree(area);
      return;
    }
    case 2:
      drain();
      return;
    case 3: {
      const unsigned order = next_random(random) % 9;
      page* const p = alloc_pages(gfp::kernel | gfp::nowarn, order);
      if (p != nullptr) free_pages(p, order);
      return;
    }
    case 4: {
      memory_info info;
      read_memory_info(info);
      kmem_cache_info cache;
      for (unsigned i = 0; read_kmem_cache_info(i, cache); ++i) continue;
      return;
    }
    default:
      [[maybe_unused]] const uint64_t left = remaining_bytes();
      return;
  }
}
#endif

void* role(void* argument) {
  const auto number = reinterpret_cast<uintptr_t>(argument);
  me.random = static_cast<uint32_t>(number + 1) * 7919;
  char* const stack = make_stack();
  use_stack(stack);
  const timer_t timer = start_timer(90'000);  // 11 kHz
  threads[number].running.store(true);
  uint32_t random = static_cast<uint32_t>(number + 1) * 104729;
  static objects all[nr_roles];
  objects& held = all[number];
  for (uint64_t round = 0; !stop.load(std::memory_order_relaxed); ++round) {
    for (int i = 0; i < 20; ++i) held.step(random);
    if (number == 1) grow(random);
#if !defined(STORM_KMALLOC)  // the C library's malloc is in the process then: docs/signals.md
    if (number == 2) fork_once(held, random);
#endif
    if (number == 3) churn_once();
    if (number == 4) libraries_once(random);
#if defined(STORM_KMALLOC)
    if (number == 5) kernel_things_once(random);
#endif
    if (number == 6 && round % 64 == 0) held.give_all();
    threads[number].progress.fetch_add(1);
    threads[number].handlers.store(me.handlers.load());
  }
  timer_delete(timer);
  threads[number].running.store(false);
  block_all(true);
  held.give_all();
  give_kept();
  note_depth(stack);
  return nullptr;
}

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

void install_handlers() {
  struct sigaction action = {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGRTMIN + sent_signal_offset);
  sigaddset(&action.sa_mask, SIGRTMIN + process_signal_offset);
  if (levels == 1) sigaddset(&action.sa_mask, SIGRTMIN + timer_signal_offset);
  sigaction(SIGRTMIN + sent_signal_offset, &action, nullptr);
  sigaction(SIGRTMIN + process_signal_offset, &action, nullptr);
  // With two levels the timer's handler may be interrupted by the others', and they by it: two frames at most share a stack.
  if (levels == 2) sigemptyset(&action.sa_mask);
  sigaction(SIGRTMIN + timer_signal_offset, &action, nullptr);
}

/// Sends signals, and watches that everybody gets on.
void conduct(double seconds, uint64_t handlers) {
  const double begin = now();
  uint64_t seen[nr_roles] = {};
  double since[nr_roles];
  for (double& t : since) t = begin;
  for (unsigned i = 0; now() - begin < seconds || nr_handlers.load() < handlers; ++i) {
    for (unsigned t = 0; t < nr_roles; ++t) {
      if (threads[t].running.load()) pthread_kill(threads[t].thread, SIGRTMIN + sent_signal_offset);
      const uint64_t progress = threads[t].progress.load();
      if (progress != seen[t]) seen[t] = progress, since[t] = now();
      if (now() - since[t] > 60) {
        say("storm: a thread has not got on for a minute\n");
        abort();
      }
    }
    if (i % 8 == 0) kill(getpid(), SIGRTMIN + process_signal_offset);
    usleep(500);
  }
  printf("seconds=%.1f\n", now() - begin);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  const uint64_t doubtful = strtoul(argv[6], nullptr, 10);
  every_null_counts = doubtful == 0;
  levels = static_cast<unsigned>(strtoul(argv[5], nullptr, 10));
  setvbuf(stdout, nullptr, _IONBF, 0);
  stack_bytes = strtoul(argv[4], nullptr, 10);
  budget_bytes = static_cast<long>(strtoul(argv[3], nullptr, 10)) << 20;
  install_handlers();
  pthread_key_create(&key, at_thread_end);
  block_all(true);  // this thread conducts and is not interrupted
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  pthread_attr_setsigmask_np(&attributes, &none);
  for (uintptr_t i = 0; i < nr_roles; ++i)
    if (pthread_create(&threads[i].thread, &attributes, role, reinterpret_cast<void*>(i)) != 0) fail("pthread_create");
  conduct(strtod(argv[1], nullptr), strtoul(argv[2], nullptr, 10));
  stop.store(true);
  for (shared_thread& t : threads) pthread_join(t.thread, nullptr);
  for (auto& box : boxes) give_object(box.exchange(0));
  printf("handlers=%lu\noperations=%lu\nnulls=%lu\nnulls_in_handlers=%lu\ndoubtful=%lu\nstack_used=%zu\nframe=%lu\n", nr_handlers.load(),
         nr_operations.load(), nr_nulls.load(), nr_nulls_in_handlers.load(), nr_doubtful.load(), deepest_use.load(),
         getauxval(AT_MINSIGSTKSZ));
  if (nr_doubtful.load() * 1'000'000 > doubtful * nr_operations.load())
    fail("too many doubtful NULLs", nr_doubtful.load(), nr_operations.load());
  if (live_bytes.load() != 0) fail("the books do not balance", static_cast<uint64_t>(live_bytes.load()));
#if defined(STORM_KMALLOC)
  if (const char* const damage = kmem::validate()) fail(damage);
#endif
  return 0;
}
