// malloc and free, and what else may be called in handlers, after every instruction of what a program does: each path of the allocator, its
// first use, fork, the start and the end of a thread. Every injection is judged: no request is refused, nothing is damaged, nothing is
// lost, everything is as it was when all is freed, and the handler has used no more of its stack than docs/signals.md says.
//
// Short paths are gone through once for each instruction, with one signal. Long ones have a signal every so many instructions, and are gone
// through so many times with another first one. Without KMEM_TEST_FULL a part of them is gone through.
#include "signal_steps.hpp"

#if defined(KMEM_TEST_SINGLE_STEP)
#include <gtest/gtest.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <new>

#include "reclaim/reclaim.hpp"

namespace kmem::testing {
namespace {

constexpr size_t handler_stack_most = 4096;  // what a handler may need for one call: docs/signals.md
// Instructions that are stepped for a path, all rounds together: a trap takes 3 to 30 us, the latter in a virtual machine.
constexpr uint64_t steps_of_all = 2'000'000, steps_of_a_part = 20'000;
constexpr uint64_t rounds_least = 200;  // or a handler would follow upon the other

bool is_full() { return getenv("KMEM_TEST_FULL") != nullptr; }

void* (*volatile do_malloc)(size_t) = malloc;
void* (*volatile do_calloc)(size_t, size_t) = calloc;
void* (*volatile do_realloc)(void*, size_t) = realloc;
void (*volatile do_free)(void*) = free;

// ---- children: everything happens in one, so that each injection finds the same process -------------------------------------------------

/// Words in memory that a child and its parent share.
struct report {
  char what[160];
  uint64_t a, b;
  uint64_t instructions, signals, nulls, deepest;
};
report* shared = nullptr;

[[noreturn]] void fail(const char* what, uint64_t a = 0, uint64_t b = 0) {
  signal_stepper::end();
  std::snprintf(shared->what, sizeof shared->what, "%s", what);
  shared->a = a;
  shared->b = b;
  _exit(1);
}

struct block {
  unsigned char* begin = nullptr;
  size_t size = 0;
};
unsigned char fill_of(size_t size) { return static_cast<unsigned char>(size * 7 + 3); }

void write(const block& b) { memset(b.begin, fill_of(b.size), b.size); }
void check(const block& b, const char* whose) {
  const unsigned char fill = fill_of(b.size);
  for (size_t i = 0; i < b.size; i += i < 512 || i + 512 > b.size ? 1 : 509)
    if (b.begin[i] != fill) fail(whose, b.size, i);
}
block take(size_t size) {
  const block b{static_cast<unsigned char*>(do_malloc(size)), size};
  if (b.begin != nullptr) write(b);
  return b;
}
void give(block& b, const char* whose) {
  if (b.begin == nullptr) return;
  check(b, whose);
  do_free(b.begin);
  b = {};
}

// ---- the handler ------------------------------------------------------------------------------------------------------------------------

constexpr size_t handler_sizes[] = {24, 24, 1000, 4096, 5000, 40'000, 300'000};
constexpr unsigned nr_handler_blocks = sizeof handler_sizes / sizeof handler_sizes[0];
block for_handler[nr_handler_blocks];  // what it frees, in turns
bool nulls_are_wrong = true;

constexpr size_t stack_room = 32 * 1024;
alignas(64) unsigned char stack[stack_room];

/// As deep as the handler, and what it has called, ever was.
__attribute__((noinline)) size_t used_below(const unsigned char* entry) {
  const unsigned char* lowest = stack;
  while (lowest < entry && *lowest == 0xa5) ++lowest;
  return static_cast<size_t>(entry - lowest);
}

std::atomic<bool> handled_by_another_thread{false};

void on_signal(int) {
  if (handled_by_another_thread.exchange(true)) return;
  const int before = errno;
  const auto* const entry = static_cast<const unsigned char*>(__builtin_frame_address(0));
  const bool on_own_stack = entry >= stack && entry < stack + stack_room;  // of the first thread
  if (on_own_stack) memset(stack, 0xa5, static_cast<size_t>(entry - stack) - 512);
  errno = 4711;
  for (unsigned i = 0; i < nr_handler_blocks; ++i) {
    block mine = for_handler[i];
    for_handler[i] = {};
    if (mine.begin != nullptr) {
      check(mine, "damaged: what a handler had kept: size, offset");
      do_free(mine.begin);
      if (errno != 4711) fail("free changed errno", static_cast<uint64_t>(errno));
    }
    mine = take(handler_sizes[i]);
    if (mine.begin == nullptr) {
      ++shared->nulls;
      if (nulls_are_wrong) fail("NULL in a handler: size, instruction", handler_sizes[i], signal_stepper::instructions);
      errno = 4711;
    }
    for_handler[i] = mine;
  }
  const size_t used = on_own_stack ? used_below(entry) : 0;
  if (used > shared->deepest) shared->deepest = used;
  ++shared->signals;
  errno = before;
  handled_by_another_thread = false;
}

// ---- scenarios --------------------------------------------------------------------------------------------------------------------------

void nothing() {}

struct scenario {
  const char* name;
  void (*prepare)();
  void (*path)();  // what is stepped through
  void (*undo)();  // back to where nothing is held
  const char* parameters = "mem=64M cpus=2";
  bool exhausted = false;     // handlers may get NULL
  void (*once)() = nothing;   // before anything is counted: what the C library keeps from the first time
};

block held[512];
void give_held() {
  for (block& b : held) give(b, "damaged: what the interrupted code had: size, offset");
}
void hold(size_t size, unsigned n) {
  for (unsigned i = 0; i < n; ++i)
    if ((held[i] = take(size)).begin == nullptr) fail("NULL", size, i);
}
/// The same where each instruction is stepped: what is written comes later.
void take_held(size_t size, unsigned n) {
  for (unsigned i = 0; i < n; ++i) held[i] = {static_cast<unsigned char*>(do_malloc(size)), size};
}
void free_held(unsigned first, unsigned n) {
  for (unsigned i = first; i < first + n; ++i) do_free(held[i].begin), held[i] = {};
}
machine& m() { return process.object; }
void empty_arrays() { drain_caches(m(), true); }

pthread_t thread;
pthread_key_t key;
void at_thread_end(void* p) { do_free(p); }
void* thread_body(void*) {
  pthread_setspecific(key, do_malloc(64));
  return nullptr;
}
void thread_path() {
  if (pthread_create(&thread, nullptr, thread_body, nullptr) != 0) fail("no thread");
  pthread_join(thread, nullptr);
}

void fork_path() {
  const pid_t child = fork();
  if (child == 0) {
    block b = take(5000);
    give(b, "damaged: of a child");
    signal_stepper::end();
    if (const char* const damage = machine_is_valid(m())) fail(damage);
    _exit(0);
  }
  signal_stepper::end();
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (status != 0) fail(shared->what[0] != '\0' ? shared->what : "a child failed: status", static_cast<uint64_t>(status));
}

kmem_cache* cache = nullptr;

void exhaust() {
  unsigned n = 0;
  while (n < 512 && (held[n] = take(100'000)).begin != nullptr) ++n;
}

constexpr scenario scenarios[] = {
    {"a hit, and a free that the array takes", [] { hold(64, 8), give_held(); }, [] { take_held(64, 2), free_held(0, 2); }, nothing},
    {"refill", empty_arrays, [] { take_held(64, 1); }, give_held},
    {"refill from a new slab", empty_arrays, [] { take_held(2200, 4); }, give_held},
    {"a full array, flushed to the barn and the slabs", [] { empty_arrays(), hold(64, 24), free_held(0, 6); }, [] { free_held(6, 6); },
     give_held},
    {"slabs that come free", [] { empty_arrays(), hold(2200, 24), free_held(0, 4); }, [] { free_held(4, 16); }, give_held},
    {"large blocks", nothing, [] { take_held(300'000, 2), free_held(0, 2); }, nothing},
    {"2 MiB", nothing, [] { take_held(2 << 20, 1), free_held(0, 1); }, nothing},
    {"a cleared block", nothing,
     [] {
       void* const p = do_calloc(1, 40'000);
       if (p == nullptr) fail("NULL", 40'000);
       do_free(p);
     },
     nothing},
    {"realloc that grows and shrinks", nothing,
     [] {
       void* p = nullptr;
       for (const size_t size : {16u, 1000u, 33'000u, 50'000u, 20'000u, 10u})
         if ((p = do_realloc(p, size)) == nullptr) fail("NULL", size);
       do_free(p);
     },
     nothing},
    {"draining and giving back", [] { hold(700, 200), give_held(); }, [] { malloc_trim(0); }, nothing},
    {"figures", nothing, [] { (void)mallinfo2(); }, nothing},
    {"a cache that comes and goes", nothing,
     [] {
       cache = cache_create(m(), {.name = "stepped", .object_size = 200, .flags = slab_flags_t::no_merge});
       if (cache == nullptr) fail("no cache");
       void* const object = cache_alloc(m(), *cache, gfp::kernel);
       cache_free(m(), *cache, object);
       if (cache_destroy(m(), cache) != err::ok) fail("a cache was not destroyed");
     },
     nothing},
    {"vmalloc", nothing,
     [] {
       void* const area = vmalloc(m(), 50'000, gfp::kernel, nullptr);
       if (area == nullptr) fail("no area");
       vfree(m(), area);
     },
     nothing},
    {"the last memory, and NULL", exhaust, [] { held[511] = {static_cast<unsigned char*>(do_malloc(1 << 20)), 1 << 20}; }, give_held,
     "mem=24M cpus=2", true},
    {"fork", nothing, fork_path, nothing},
    {"the start of a thread and its end", nothing, thread_path, nothing, "mem=64M cpus=2", false,
     [] { pthread_key_create(&key, at_thread_end), thread_path(); }},
    {"first use", [] { new (&process) process_slot{}; }, [] { take_held(64, 1); }, give_held},
};

// ---- one injection ----------------------------------------------------------------------------------------------------------------

struct account {
  uint64_t charged = 0, objects = 0;
};
account baseline;  // before anything was prepared
account count_all() {
  empty_arrays();
  drain_cpu_pages(m(), true);
  empty_arrays();
  account now;
  now.charged = charged_pages(m());
  cache_info info;
  for (unsigned i = 0; read_cache_info(m(), i, info); ++i) now.objects += info.active;
  return now;
}

void compare(const account& now, const account& before, const char* what) {
  if (now.charged != before.charged) fail(what, now.charged, before.charged);
  if (now.objects != before.objects) fail(what, now.objects, before.objects);
}

/// Goes through a scenario with signals where the plan wants them, in the process as it is.
void go_through(const scenario& s, const signal_plan& plan) {
  const bool first_use = m().limit.raw() == 0;
  signal_stepper::begin(plan);
  s.path();
  signal_stepper::end();
  shared->instructions = signal_stepper::instructions;
  for (const block& b : held)
    if (b.begin != nullptr) write(b);
  s.undo();
  give_held();
  for (block& b : for_handler) give(b, "damaged: what a handler had kept: size, offset");
  if (current().depth != 0 || current().held_ranks != 0 || current().locks_aside != 0) fail("the context is not as it was");
  for (const uint64_t claimed : current().claimed)
    if (claimed != 0) fail("pages that are still claimed", claimed);
  const account after = count_all();
  if (const char* const damage = machine_is_valid(m())) fail(damage);
  if (m().bad_frees.load_relaxed() != 0 || m().stats.bad_pages.load_relaxed() != 0) fail("a free was refused");
  if (!first_use) compare(after, baseline, "memory was lost: now, before");
}

/// In a child of its own. Return: whether it was content.
::testing::AssertionResult injected(const scenario& s, const signal_plan& plan) {
  shared->what[0] = '\0';
  const pid_t child = fork();
  if (child == 0) {
    alarm(100);
    go_through(s, plan);
    _exit(0);
  }
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (status == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << s.name << ": signals after instruction " << plan.first << " and every " << plan.every
                                       << ": status " << status << ", " << shared->what << " (" << shared->a << ", " << shared->b << ")";
}

/// A process with a machine of its own, prepared for the scenario, out of which every injection forks.
[[noreturn]] void run_in_nursery(const scenario& s) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  sched_setaffinity(0, sizeof one, &one);
  setenv("KMEM_CMDLINE", s.parameters, 1);
  new (&process) process_slot{};
  nulls_are_wrong = !s.exhausted;
  block first = take(100);  // starts the machine
  give(first, "");
  for (unsigned i = 0; i < nr_handler_blocks; ++i) for_handler[i] = {};
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = stack_room;
  sigaltstack(&alternate, nullptr);
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_ONSTACK | SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  s.once();
  baseline = count_all();
  s.prepare();
  const auto tell = [](const ::testing::AssertionResult& result) {
    if (result) return;
    std::printf("%s\n", result.message());
    std::fflush(stdout);
    _exit(1);
  };
  tell(injected(s, {}));  // none at all: how long it is
  const uint64_t length = shared->instructions;
  const uint64_t rounds = std::min(length, std::max(rounds_least, steps_of_all / length)), every = rounds == length ? ~uint64_t{0} : rounds;
  const uint64_t part = std::min(rounds, std::max<uint64_t>(2, steps_of_a_part / length)), stride = is_full() ? 1 : rounds / part;
  for (uint64_t first_one = 1; first_one <= rounds; first_one += stride) tell(injected(s, {first_one, every, SIGUSR1}));
  if (shared->signals == 0) {
    std::printf("%s: no signal came\n", s.name);
    _exit(1);
  }
  _exit(0);
}

class SignalSteps : public ::testing::TestWithParam<size_t> {};

TEST_P(SignalSteps, HandlersAreServedAfterEveryInstruction) {
  const scenario& s = scenarios[GetParam()];
  shared = static_cast<report*>(mmap(nullptr, sizeof(report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(shared, MAP_FAILED);
  new (shared) report{};
  std::fflush(stdout);
  const pid_t nursery = fork();
  if (nursery == 0) run_in_nursery(s);
  int status = -1;
  ASSERT_EQ(waitpid(nursery, &status, 0), nursery);
  EXPECT_EQ(status, 0);
  EXPECT_LE(shared->deepest, handler_stack_most);
  const auto figure = [](uint64_t value) { return static_cast<unsigned long>(value); };
  std::printf("%s: %lu instructions, %lu signals, %lu NULLs, %lu bytes of stack\n", s.name, figure(shared->instructions),
              figure(shared->signals), figure(shared->nulls), figure(shared->deepest));
  munmap(shared, sizeof(report));
}

INSTANTIATE_TEST_SUITE_P(Paths, SignalSteps, ::testing::Range(size_t{0}, sizeof scenarios / sizeof scenarios[0]));

}  // namespace
}  // namespace kmem::testing
#endif
