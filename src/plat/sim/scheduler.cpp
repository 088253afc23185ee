// The seeded scheduler of the simulation: tasks are contexts on one thread, and the seed decides at every scheduling point.
//
// States.   A task is held (not started), runnable (listed in world::runnable), blocked (on a futex word, perhaps with a deadline) or
//           done. A service task is the library's own: when only such are left, the run ends and they stay as they are, until the next
//           run or for good. Exactly one runs; world::running is null while the driver's thread is in its own code.
// Steps.    yield_point: clock forward, expired deadlines wake, then by chance a spurious or signal wake-up of a sleeper, the own
//           handler, a move to another CPU, a switch. When nobody can run, the clock jumps to the next deadline; if there is
//           none, that is a deadlock.
// Alone.    run_alone: no step does anything but count, until the running task sleeps or ends.
// Failing.  fail() writes down why and what every task was doing, and leaves for the driver's context: tasks are never resumed
//           afterwards, so their destructors do not run.
// Differs.  A real machine also reorders memory accesses; here interleavings are sequentially consistent.
// Tests.    tests/sim/sim_scheduler_test.cpp
#include "plat/sim/world.hpp"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KMEM_SIM_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define KMEM_SIM_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define KMEM_SIM_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define KMEM_SIM_TSAN 1
#endif
#if defined(KMEM_SIM_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(KMEM_SIM_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

extern "C" const char __ehdr_start[] __attribute__((visibility("hidden")));  // where the linker put the program's first byte

namespace kmem::simulation {

constinit world the_world{};

namespace {

constexpr size_t task_stack_bytes = 512 * 1024;  // sanitizers make frames several times larger
constexpr uint64_t clock_start_ns = 1'000'000'000;
constexpr int first_thread_id = 1000;
constexpr unsigned backtrace_frames = 24;

world& w = the_world;

uint64_t mix(uint64_t z) noexcept {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

void note(uint64_t event) noexcept { w.history = mix(w.history ^ event); }

int index_of(const task& t) noexcept { return static_cast<int>(&t - w.tasks); }

// ---- switching stacks ----

/// Continues `to`; returns when somebody continues `from`. `from` == nullptr: nobody will.
void switch_context(task* from, task& to) noexcept {
  w.running = &to == &w.main_task ? nullptr : &to;
  run_on_its_cpu(to);
#if defined(KMEM_SIM_ASAN)
  __sanitizer_start_switch_fiber(from != nullptr ? &from->sanitizer_frames : nullptr, to.stack, to.stack_bytes);
#endif
#if defined(KMEM_SIM_TSAN)
  __tsan_switch_to_fiber(to.sanitizer_fiber, 0);
#endif
  saved_stack left_for_good;
  swap_stacks(from != nullptr ? from->saved : left_for_good, to.saved);
#if defined(KMEM_SIM_ASAN)
  __sanitizer_finish_switch_fiber(from->sanitizer_frames, nullptr, nullptr);
#endif
}

/// The task whose context is being left: a task, or the driver's thread.
task& self() noexcept { return w.running != nullptr ? *w.running : w.main_task; }

void make_runnable(task& t) noexcept {
  t.state = task_state::runnable;
  t.slot = w.nr_runnable;
  w.runnable[w.nr_runnable++] = index_of(t);
}

void start(task& t) noexcept {
  if (!t.service) ++w.nr_live;
  make_runnable(t);
}

void make_not_runnable(task& t, task_state state) noexcept {
  t.state = state;
  const int last = w.runnable[--w.nr_runnable];
  w.runnable[t.slot] = last;
  w.tasks[last].slot = t.slot;
}

void wake(task& t, wake_reason reason) noexcept {
  t.reason = reason;
  t.word = nullptr;
  make_runnable(t);
}

/// Wakes the sleepers whose time is over and finds the next deadline.
void expire_deadlines() noexcept {
  w.next_deadline_ns = no_deadline;
  for (int i = 0; i < w.nr_tasks; ++i) {
    task& t = w.tasks[i];
    if (t.state != task_state::blocked || t.deadline_ns == no_deadline) continue;
    if (t.deadline_ns <= w.now_ns) {
      wake(t, wake_reason::timed_out);
    } else if (t.deadline_ns < w.next_deadline_ns) {
      w.next_deadline_ns = t.deadline_ns;
    }
  }
}

bool kept_off_by_realtime(const task& t) noexcept {
  if (w.nr_realtime == 0 || t.realtime) return false;
  for (int i = 0; i < w.nr_runnable; ++i) {
    const task& other = w.tasks[w.runnable[i]];
    if (other.realtime && other.cpu == t.cpu) return true;
  }
  return false;
}

/// Who may run next, chosen by the seed; `but`: not this one. nullptr: nobody.
task* pick(const task* but) noexcept {
  if (w.nr_runnable == 0) return nullptr;
  const auto start = static_cast<int>(next_random() % static_cast<uint64_t>(w.nr_runnable));
  for (int i = 0; i < w.nr_runnable; ++i) {
    task& t = w.tasks[w.runnable[(start + i) % w.nr_runnable]];
    if (&t != but && !kept_off_by_realtime(t)) return &t;
  }
  return nullptr;
}

void switch_to(task& next) noexcept {
  note(static_cast<uint64_t>(index_of(next)) << 1);
  switch_context(&self(), next);
}

/// Nobody can run: the clock jumps to the next deadline.
void wait_for_deadline() noexcept {
  if (w.next_deadline_ns == no_deadline) fail("deadlock: every task waits and nobody can wake one");
  if (w.now_ns < w.next_deadline_ns) w.now_ns = w.next_deadline_ns;
  expire_deadlines();
}

/// The running task cannot go on (blocked, or done): continues another one, or the driver when all are done.
void leave() noexcept {
  task& me = *w.running;
  task* const leaving = me.state == task_state::done ? nullptr : &me;
  if (w.nr_live == 0) return switch_context(leaving, w.main_task);
  while (w.nr_runnable == 0) wait_for_deadline();
  task* const next = pick(nullptr);
  if (next == &me) return;
  note(static_cast<uint64_t>(index_of(*next)) << 1 | 1);
  switch_context(leaving, *next);
}

void run_handler(task& t) noexcept {
  t.in_handler = true;
  ++t.breaks;
  note(0x5161u);
  t.handler(t.handler_argument);
  t.in_handler = false;
}

/// By chance wakes one sleeper for no reason, or for a signal.
void disturb_sleepers() noexcept {
  if (w.nr_live == w.nr_runnable) return;
  if (chance(w.knobs.spurious_chance)) {
    task& t = w.tasks[next_random() % static_cast<uint64_t>(w.nr_tasks)];
    if (t.state == task_state::blocked) wake(t, wake_reason::woken);
  }
  if (chance(w.knobs.signal_chance)) {
    task& t = w.tasks[next_random() % static_cast<uint64_t>(w.nr_tasks)];
    if (t.state == task_state::blocked && t.handler != nullptr && !t.in_handler) wake(t, wake_reason::interrupted);
  }
}

/// What happens at every scheduling point before the question who runs next.
void step() noexcept {
  w.now_ns += w.knobs.step_ns;
  if (++w.steps > w.knobs.max_steps) fail("more scheduling points than max_steps: a livelock, or too small a limit");
  if (w.alone) return;
  if (w.now_ns >= w.next_deadline_ns) expire_deadlines();
  disturb_sleepers();
  task& me = *w.running;
  if (me.handler != nullptr && !me.in_handler && chance(w.knobs.signal_chance)) run_handler(me);
  if (w.knobs.nr_cpus > 1 && chance(w.knobs.migrate_chance)) {
    me.cpu = static_cast<int>(next_random() % static_cast<uint64_t>(w.knobs.nr_cpus));
    ++me.breaks;
    run_on_its_cpu(me);
    note(static_cast<uint64_t>(me.cpu) << 32);
  }
}

void task_main() noexcept {
#if defined(KMEM_SIM_ASAN)
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  if (w.main_task.stack == nullptr) {  // the first switch ever comes from the driver's thread and tells its stack
    w.main_task.stack = static_cast<char*>(const_cast<void*>(bottom));
    w.main_task.stack_bytes = bytes;
  }
#endif
  task& me = *w.running;
  me.body(me.argument);
  w.alone = false;
  make_not_runnable(me, task_state::done);
  if (!me.service) --w.nr_live;
  if (me.realtime) --w.nr_realtime;
  leave();
}

char* new_stack() noexcept {
  constexpr size_t guard_bytes = 256 * 1024;  // below the stack, unreadable: more than one frame should jump over
  void* area = mmap(nullptr, guard_bytes + task_stack_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) return nullptr;
  char* const stack = static_cast<char*>(area) + guard_bytes;
  if (mprotect(stack, task_stack_bytes, PROT_READ | PROT_WRITE) != 0) return nullptr;
  return stack;
}

// ---- reports ----

void append_pc(uintptr_t pc) noexcept {
  // A position-independent program is reported by offsets, which addr2line takes and which are the same in every run.
  const auto start = reinterpret_cast<uintptr_t>(__ehdr_start);
  constexpr uintptr_t lowest_pie = uintptr_t{1} << 32;
  append_failure(" ");
  append_failure_number(start >= lowest_pie ? pc - start : pc, 16);
}

#if defined(KMEM_SIM_ASAN)
__attribute__((no_sanitize_address))
#endif
void append_stack(const task& t, uintptr_t frame, uintptr_t pc) noexcept {
  const auto low = reinterpret_cast<uintptr_t>(t.stack);
  append_failure("    at");
  if (pc != 0) append_pc(pc);
  for (unsigned i = 0; i < backtrace_frames; ++i) {
    if (frame < low || frame > low + t.stack_bytes - 2 * sizeof(uintptr_t) || frame % sizeof(uintptr_t) != 0) break;
    const auto* words = reinterpret_cast<const uintptr_t*>(frame);
    if (words[1] == 0) break;
    append_pc(words[1]);
    if (words[0] <= frame) break;
    frame = words[0];
  }
  append_failure("\n");
}

void append_task(const task& t) noexcept {
  append_failure("  task ");
  append_failure_number(static_cast<uint64_t>(index_of(t)), 10);
  append_failure(" ");
  append_failure(t.name);
  append_failure(" on CPU ");
  append_failure_number(static_cast<uint64_t>(t.cpu), 10);
  append_failure(t.in_handler ? ", in its signal handler" : "");
  if (t.state == task_state::blocked) {
    append_failure(", waits on futex ");
    append_failure_number(reinterpret_cast<uintptr_t>(t.word), 16);
    append_failure(" = ");
    append_failure_number(__atomic_load_n(t.word, __ATOMIC_RELAXED), 10);
  } else {
    append_failure(&t == w.running ? ", running" : ", could run");
  }
  append_failure("\n");
  if (&t == w.running) return append_stack(t, reinterpret_cast<uintptr_t>(__builtin_frame_address(0)), 0);
  const stack_place place = place_of(t.saved);
  append_stack(t, place.frame, place.pc);
}

void describe_failure(const char* why) noexcept {
  append_failure(why);
  append_failure("\n  after ");
  append_failure_number(w.steps, 10);
  append_failure(" scheduling points\n");
  for (int i = 0; i < w.nr_tasks; ++i)
    if (w.tasks[i].state == task_state::runnable || w.tasks[i].state == task_state::blocked) append_task(w.tasks[i]);
}

[[noreturn]] void end_process(const char* why) noexcept {
  const char* const parts[] = {"simulation: failed outside of a task: ", why, "\n", w.output};
  for (const char* part : parts) {
    size_t bytes = 0;
    while (part[bytes] != '\0') ++bytes;
    if (write(STDERR_FILENO, part, bytes) < 0) break;
  }
  signal(SIGABRT, SIG_DFL);
  raise(SIGABRT);
  for (;;) syscall(SYS_exit_group, 134);
}

}  // namespace

// ---- random numbers ----

uint64_t next_random() noexcept { return mix(w.random_state += 0x9e3779b97f4a7c15u); }

bool chance(uint32_t per_mille) noexcept {
  if (per_mille == 0) return false;
  return per_mille >= 1000 || next_random() % 1000 < per_mille;
}

uint64_t random(uint64_t bound) noexcept {
  const uint64_t number = next_random() % bound;
  note(number);
  return number;
}

bool call_fails(platform_call call, size_t bytes) noexcept {
  const bool hooked = w.fail_hook != nullptr && w.fail_hook(call, bytes);
  const bool fails = chance(w.knobs.fail_chance[static_cast<unsigned>(call)]) || hooked;
  if (fails) note(0xfa11u + static_cast<uint64_t>(call));
  return fails;
}

// ---- texts ----

void append(char* buffer, size_t capacity, size_t& length, const char* text, size_t bytes) noexcept {
  for (size_t i = 0; i < bytes && length + 1 < capacity; ++i) buffer[length++] = text[i];
  buffer[length] = '\0';
}

void append_failure(const char* text) noexcept {
  size_t bytes = 0;
  while (text[bytes] != '\0') ++bytes;
  append(w.failure, sizeof w.failure, w.failure_length, text, bytes);
}

void append_failure_number(uint64_t value, unsigned base) noexcept {
  char digits[20];
  size_t position = sizeof digits;
  do {
    digits[--position] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value != 0);
  if (base == 16) append_failure("0x");
  append(w.failure, sizeof w.failure, w.failure_length, digits + position, sizeof digits - position);
}

// ---- the driver's side ----

const char* platform_call_name(platform_call call) noexcept {
  constexpr const char* names[nr_platform_calls] = {"reserve", "open", "decommit", "populate", "map_guarded", "map_frames",
                                                      "start_thread"};
  return names[static_cast<unsigned>(call)];
}

void end() noexcept {
  release_memory();
  for (int i = 0; i < w.nr_tasks; ++i) {
#if defined(KMEM_SIM_TSAN)
    if (w.tasks[i].sanitizer_fiber != nullptr) __tsan_destroy_fiber(w.tasks[i].sanitizer_fiber);
    w.tasks[i].sanitizer_fiber = nullptr;
#endif
    w.tasks[i].state = task_state::unused;
  }
  w.nr_tasks = w.nr_live = w.nr_runnable = w.nr_realtime = w.nr_service = 0;
  w.nr_files = 0;
  w.fail_hook = nullptr;
  w.fail_notice = nullptr;
  w.sleep_hook = nullptr;
}

void begin(const config& wanted) noexcept {
  end();
  w.knobs = wanted;
  if (wanted.nr_cpus < 1 || wanted.nr_cpus > max_cpus) fail("config::nr_cpus must be between 1 and max_cpus");
  w.random_state = mix(wanted.seed);
  w.history = w.steps = 0;
  w.now_ns = clock_start_ns;
  w.next_deadline_ns = no_deadline;
  constexpr uint32_t choices[] = {10, 50, 150, 400, 900};  // arbitrary: from long runs of one task to hardly two steps in a row
  w.switch_chance = wanted.switch_chance != by_seed ? wanted.switch_chance : choices[next_random() % (sizeof choices / sizeof choices[0])];
  w.has_failed = w.hold = w.alone = false;
  w.failure_length = w.output_length = 0;
  w.failure[0] = w.output[0] = '\0';
  for (unsigned char& byte : w.main_task.storage) byte = 0;
  w.main_task.cpu = 0;
}

namespace {

int add_task(const char* name, entry body, void* argument, int cpu) noexcept {
  if (w.nr_tasks == max_tasks) fail("more tasks than max_tasks");
  task& t = w.tasks[w.nr_tasks];
  char* stack = t.stack != nullptr ? t.stack : new_stack();
  if (stack == nullptr) fail("no memory for a task's stack");
#if defined(KMEM_SIM_ASAN)
  __asan_unpoison_memory_region(stack, task_stack_bytes);  // what a failed world left there
#endif
  t = {};
  t.stack = stack;
  t.stack_bytes = task_stack_bytes;
  t.body = body;
  t.argument = argument;
  for (size_t i = 0; i + 1 < sizeof t.name && name[i] != '\0'; ++i) t.name[i] = name[i];
  t.cpu = cpu >= 0 ? cpu : static_cast<int>(next_random() % static_cast<uint64_t>(w.knobs.nr_cpus));
  prepare_stack(t.saved, t.stack, t.stack_bytes, &task_main);
#if defined(KMEM_SIM_TSAN)
  t.sanitizer_fiber = __tsan_create_fiber(0);
#endif
  ++w.nr_tasks;
  t.state = task_state::held;
  return index_of(t);
}

}  // namespace

int spawn(const char* name, entry body, void* argument, int cpu) noexcept {
  const int number = add_task(name, body, argument, cpu);
  if (!w.hold) start(w.tasks[number]);
  return number;
}

void hold_new_tasks(bool hold) noexcept {
  w.hold = hold;
  for (int i = 0; i < w.nr_tasks && !hold; ++i)
    if (w.tasks[i].state == task_state::held) start(w.tasks[i]);
}

void set_handler(int number, entry handler, void* argument) noexcept {
  w.tasks[number].handler_argument = argument;
  w.tasks[number].handler = handler;
}

void set_realtime(int number) noexcept {
  if (!w.tasks[number].realtime) ++w.nr_realtime;
  w.tasks[number].realtime = true;
}

void set_file(const char* path, const char* text) noexcept {
  if (w.nr_files == max_files) fail("more files than max_files");
  w.files[w.nr_files++] = {path, text};
}

void set_fail_hook(bool (*hook)(platform_call, size_t) noexcept) noexcept { w.fail_hook = hook; }
void set_fail_notice(void (*notice)(const char*) noexcept) noexcept { w.fail_notice = notice; }

void set_sleep_hook(void (*hook)(const uint32_t*) noexcept) noexcept { w.sleep_hook = hook; }

void run_alone(bool alone) noexcept { w.alone = alone; }
bool runs_alone() noexcept { return w.alone; }

void forget_other_tasks() noexcept {
  for (int i = 0; i < w.nr_tasks; ++i) {
    task& t = w.tasks[i];
    if (&t == w.running) continue;
    if (t.state == task_state::runnable) make_not_runnable(t, task_state::done);
    t.state = task_state::done;
  }
  w.nr_live = 1;
  w.nr_realtime = w.running->realtime ? 1 : 0;
  w.next_deadline_ns = no_deadline;
}

const uint32_t* sleeps_on(int task) noexcept { return w.tasks[task].state == task_state::blocked ? w.tasks[task].word : nullptr; }
bool services_sleep() noexcept {
  for (int i = 0; i < w.nr_tasks; ++i)
    if (w.tasks[i].service && w.tasks[i].state != task_state::blocked && w.tasks[i].state != task_state::done) return false;
  return true;
}

void run() noexcept {
  if (w.has_failed || w.nr_live == 0) return;
#if defined(KMEM_SIM_TSAN)
  w.main_task.sanitizer_fiber = __tsan_get_current_fiber();
#endif
  while (w.nr_runnable == 0) wait_for_deadline();
  switch_to(*pick(nullptr));
}

void fail(const char* why) noexcept {
  if (w.fail_notice != nullptr) w.fail_notice(why);
  if (w.running == nullptr) end_process(why);
  if (!w.has_failed) describe_failure(why);
  w.has_failed = true;
  switch_context(nullptr, w.main_task);
  __builtin_unreachable();
}

bool failed() noexcept { return w.has_failed; }
const char* failure() noexcept { return w.failure; }
const char* output() noexcept { return w.output; }
uint64_t steps() noexcept { return w.steps; }
uint64_t history() noexcept { return w.history; }
int running_task() noexcept { return w.running != nullptr ? index_of(*w.running) : -1; }
void move_to_cpu(int cpu) noexcept { self().cpu = cpu; }

}  // namespace kmem::simulation

// ---- the platform's side ----

namespace kmem {
KMEM_BUILD_NAMESPACE {

using namespace simulation;

void plat_sim::yield_point() noexcept {
  if (w.running == nullptr) return;
  step();
  if (!w.alone && w.nr_runnable > 1 && chance(w.switch_chance))
    if (task* next = pick(w.running); next != nullptr) switch_to(*next);
}

void plat_sim::relax(unsigned) noexcept {
  if (w.running == nullptr) return;
  step();
  if (w.alone) return;
  if (task* next = pick(w.running); next != nullptr) switch_to(*next);
}

futex_end plat_sim::futex_wait(uint32_t* word, uint32_t expected, uint64_t timeout_ns) noexcept {
  yield_point();
  if (__atomic_load_n(word, __ATOMIC_RELAXED) != expected) return futex_end::woken;
  if (w.running == nullptr) fail("a wait outside of a task: nobody could wake it");
  if (w.sleep_hook != nullptr) {
    w.alone = true;
    w.sleep_hook(word);
  }
  w.alone = false;
  task& me = *w.running;
  me.word = word;
  me.deadline_ns = timeout_ns < no_deadline - w.now_ns ? w.now_ns + timeout_ns : no_deadline;
  if (me.deadline_ns < w.next_deadline_ns) w.next_deadline_ns = me.deadline_ns;
  make_not_runnable(me, task_state::blocked);
  leave();
  const wake_reason reason = me.reason;  // the handler may wait as well
  if (reason == wake_reason::interrupted) run_handler(me);
  if (reason == wake_reason::interrupted) return futex_end::interrupted;
  return reason == wake_reason::timed_out ? futex_end::timed_out : futex_end::woken;
}

void plat_sim::futex_wake(uint32_t* word, int nr_waiters) noexcept {
  yield_point();
  if (w.nr_tasks == 0) return;
  // Which of the waiters wakes is nobody's promise: start anywhere.
  const auto start = static_cast<int>(next_random() % static_cast<uint64_t>(w.nr_tasks));
  for (int i = 0; i < w.nr_tasks && nr_waiters > 0; ++i) {
    task& t = w.tasks[(start + i) % w.nr_tasks];
    if (t.state != task_state::blocked || t.word != word) continue;
    wake(t, wake_reason::woken);
    --nr_waiters;
  }
}

int plat_sim::cpu() noexcept {
  yield_point();
  return self().cpu;
}

int plat_sim::nr_cpus() noexcept { return w.knobs.nr_cpus; }
int plat_sim::thread_id() noexcept { return w.running != nullptr ? first_thread_id + index_of(*w.running) : first_thread_id - 1; }
bool plat_sim::single_threaded() noexcept { return w.nr_tasks - w.nr_service <= 1; }
int plat_sim::nr_threads() noexcept { return w.nr_live; }
bool plat_sim::realtime_thread() noexcept { return self().realtime; }
void* plat_sim::task_storage() noexcept { return self().storage; }

uint64_t plat_sim::now_ns() noexcept {
  yield_point();
  return w.now_ns;
}

long plat_sim::read_file(const char* path, char* buffer, size_t capacity) noexcept {
  yield_point();
  if (capacity == 0) return -EINVAL;
  for (unsigned i = 0; i < w.nr_files; ++i) {
    size_t at = 0;
    while (w.files[i].path[at] != '\0' && w.files[i].path[at] == path[at]) ++at;
    if (w.files[i].path[at] != path[at]) continue;
    size_t length = 0;
    while (length + 1 < capacity && w.files[i].text[length] != '\0') {
      buffer[length] = w.files[i].text[length];
      ++length;
    }
    buffer[length] = '\0';
    return static_cast<long>(length);
  }
  buffer[0] = '\0';
  return -ENOENT;
}

void plat_sim::write_all(int, const char* text, size_t bytes) noexcept {
  yield_point();
  append(w.output, sizeof w.output, w.output_length, text, bytes);
}

uint64_t plat_sim::physical_bytes() noexcept { return w.knobs.physical_bytes; }

void plat_sim::thread_name(char* buffer, size_t capacity) noexcept {
  const char* const name = w.running != nullptr ? w.running->name : "driver";
  size_t i = 0;
  for (; i + 1 < capacity && name[i] != '\0'; ++i) buffer[i] = name[i];
  if (capacity != 0) buffer[i] = '\0';
}

bool plat_sim::is_readable(const void* address) noexcept {
  const int saved = errno;
  const bool readable = syscall(SYS_rt_sigprocmask, ~0, address, nullptr, 8) != 0 && errno == EINVAL;  // as plat_linux
  errno = saved;
  return readable;
}

namespace {

/// The body of a service task. Its last step wakes the joiner, who only then may let go of the handle.
void service_main(void* argument) {
  auto& handle = *static_cast<thread_handle*>(argument);
  handle.body(handle.argument);
  plat_sim::yield_point();
  __atomic_store_n(&handle.ended, 1, __ATOMIC_RELAXED);
  plat_sim::futex_wake(&handle.ended, 1);
}

}  // namespace

bool plat_sim::start_thread(thread_handle& handle, void (*body)(void*) noexcept, void* argument, const char* name) noexcept {
  yield_point();
  handle = {};
  if (call_fails(platform_call::start_thread, 0)) return false;
  handle.body = body;
  handle.argument = argument;
  for (size_t i = 0; i + 1 < sizeof handle.name && name[i] != '\0'; ++i) handle.name[i] = name[i];
  const int number = add_task(name, service_main, &handle, -1);
  handle.thread = static_cast<uint64_t>(number);
  w.tasks[number].service = true;
  ++w.nr_service;
  start(w.tasks[number]);  // whatever hold_new_tasks() says: a set-up may wait for it
  return true;
}

void plat_sim::join_thread(thread_handle& handle) noexcept {
  if (handle.body == nullptr) return;
  task& t = w.tasks[handle.thread];
  if (w.running == nullptr) {
    if (t.state != task_state::done) {
      t.service = false;
      ++w.nr_live;
      run();
    }
  } else {
    while (__atomic_load_n(&handle.ended, __ATOMIC_RELAXED) == 0) futex_wait(&handle.ended, 0, no_deadline);
    // As a joined thread is gone, so is the task: it has nothing left to do but its very end.
    while (t.state != task_state::done) relax(0);
  }
  forget_thread(handle);
}

void plat_sim::forget_thread(thread_handle& handle) noexcept {
  if (handle.body == nullptr) return;
  task& t = w.tasks[handle.thread];
  if (t.state == task_state::runnable) make_not_runnable(t, task_state::done);
  t.state = task_state::done;
  handle = {};
  --w.nr_service;
}

unsigned plat_sim::nr_service_threads() noexcept { return static_cast<unsigned>(w.nr_service); }

void plat_sim::die() noexcept { fail("plat::die() was called; what was written before is in the output"); }

}  // inline namespace
}  // namespace kmem
