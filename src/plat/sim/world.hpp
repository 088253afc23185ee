// Inside of the simulated platform: the one world, shared by scheduler.cpp and memory.cpp.
#pragma once
#include "plat/sim/simulation.hpp"
#include "plat/sim/stacks.hpp"

namespace kmem::simulation {

enum class task_state : uint8_t { unused, held, runnable, blocked, done };
enum class wake_reason : uint8_t { woken, timed_out, interrupted };

struct task {
  saved_stack saved;
  char* stack;             // lowest usable byte; kept for the next world
  size_t stack_bytes;
  void* sanitizer_fiber;   // TSan's view of the stack
  void* sanitizer_frames;  // ASan's saved fake stack
  entry body;
  void* argument;
  entry handler;
  void* handler_argument;
  uint32_t* word;        // blocked: the futex
  uint64_t deadline_ns;  // blocked: when it times out; no_deadline: never
  int cpu;
  int slot;  // runnable: index in world::runnable
  task_state state;
  wake_reason reason;
  uint64_t breaks;  // moves, handlers and fences: each breaks off the restartable sequence it is in
  bool in_handler;
  bool realtime;
  bool service;  // of the library's own: not counted in nr_live
  char name[16];
  alignas(arch::cache_line_bytes) unsigned char storage[plat::task_storage_bytes];
};

inline constexpr uint64_t no_deadline = ~uint64_t{0};

struct file {
  const char* path;
  const char* text;
};
inline constexpr unsigned max_files = 64;
inline constexpr size_t failure_bytes = 16 * 1024;

struct world {
  config knobs;
  uint64_t random_state;
  uint64_t history;
  uint64_t steps;
  uint64_t now_ns;
  uint64_t next_deadline_ns;  // no later than the earliest deadline of a blocked task
  uint32_t switch_chance;
  uint64_t cpu_switches[max_cpus];   // how often the task that runs on a CPU has changed
  const task* cpu_runs[max_cpus];
  task* running;
  int nr_tasks;
  int nr_live;     // tasks that run() waits for: started, not done, not the library's own
  int nr_service;  // tasks of the library's own that nobody has joined
  int nr_runnable;
  int nr_realtime;
  bool has_failed;
  bool hold;
  bool alone;
  bool (*fail_hook)(platform_call, size_t) noexcept;
  void (*fail_notice)(const char*) noexcept;
  void (*sleep_hook)(const uint32_t*) noexcept;
  unsigned nr_files;
  file files[max_files];
  task main_task;  // the thread that drives the world: its context, and task storage outside of run()
  int runnable[max_tasks];
  task tasks[max_tasks];
  size_t failure_length;
  char failure[failure_bytes];
  size_t output_length;
  char output[output_bytes];
};
extern constinit world the_world;

/// The next number of the world's seed.
uint64_t next_random() noexcept;
/// True with a chance of `per_mille` / 1000. Draws only if the chance is neither 0 nor certain.
bool chance(uint32_t per_mille) noexcept;
/// `t` is what runs on its CPU from now on.
void run_on_its_cpu(const task& t) noexcept;
/// Should this platform call fail?
bool call_fails(platform_call call, size_t bytes) noexcept;
/// Unmaps everything that is left of the last world.
void release_memory() noexcept;

/// Text appended to a buffer of the world, cut at its end.
void append(char* buffer, size_t capacity, size_t& length, const char* text, size_t bytes) noexcept;
void append_failure(const char* text) noexcept;
void append_failure_number(uint64_t value, unsigned base) noexcept;

}  // namespace kmem::simulation
