// How a test drives the simulated platform: make a world from a seed, spawn tasks, run them, ask what happened.
//
// One world at a time, on one thread. Everything that happens follows from the configuration, seed included: which task runs after each
// scheduling point, on which CPU, which signals arrive and which platform calls fail. Interleavings are sequentially consistent.
#pragma once
#include "plat/plat.hpp"

namespace kmem::simulation {

using entry = void (*)(void* argument);

/// Platform calls that can be made to fail.
enum class platform_call : uint8_t { reserve, open, decommit, populate, map_guarded, map_frames, start_thread };
inline constexpr unsigned nr_platform_calls = 7;
const char* platform_call_name(platform_call call) noexcept;

inline constexpr int max_tasks = 4096;
/// Let the seed choose: worlds that switch rarely and worlds that switch often find different mistakes.
inline constexpr uint32_t by_seed = ~uint32_t{0};

/// Chances are in 1/1000 at each scheduling point, or each call.
struct config {
  uint64_t seed = 1;
  int nr_cpus = 4;
  bool has_sections = true;          // restartable sequences
  uint32_t switch_chance = by_seed;  // another task runs
  uint32_t migrate_chance = 20;      // the task moves to another CPU
  uint32_t signal_chance = 0;        // a task with a handler runs it
  uint32_t spurious_chance = 5;      // a task wakes from a futex for no reason
  uint32_t fail_chance[nr_platform_calls] = {};  // by platform_call
  uint64_t max_steps = 2'000'000;    // scheduling points before the run counts as a livelock
  uint64_t step_ns = 50;             // clock advance at a scheduling point (arbitrary: an uncontended atomic and its surroundings)
  uint64_t physical_bytes = uint64_t{1} << 30;
};

/// Starts a new world and forgets the last one, its memory included.
void begin(const config& wanted) noexcept;
/// Adds a task, runnable at once, on CPU `cpu` (-1: chosen by the seed). `name` is cut to 15 characters. Return: its number.
int spawn(const char* name, entry body, void* argument, int cpu = -1) noexcept;
/// While held, new tasks do not start; letting go starts them all. For a set-up that runs as a task itself.
void hold_new_tasks(bool hold) noexcept;
/// A signal handler of the task: called on its stack at scheduling points by signal_chance; it does not interrupt itself.
void set_handler(int task, entry handler, void* argument) noexcept;
/// A real-time task: while it can run, ordinary tasks on the same CPU do not.
void set_realtime(int task) noexcept;
/// A file that plat::read_file finds. The strings are the caller's and stay.
void set_file(const char* path, const char* text) noexcept;
/// Asked before each platform call that can fail, besides the chances; true: fail. nullptr: nobody.
void set_fail_hook(bool (*hook)(platform_call call, size_t bytes) noexcept) noexcept;

/// Called when a task is about to sleep on a futex word, on its stack and with nobody else running: for checks of that moment. nullptr:
/// nobody.
void set_sleep_hook(void (*hook)(const uint32_t* word) noexcept) noexcept;

/// Runs until every task is done (but those of plat::start_thread, which go on in the next run) or the world has failed. May be called
/// again after more spawns.
/// Failures: fail(), die(), a deadlock (all tasks wait without time-out), more than max_steps, misuse of memory.
void run() noexcept;
/// Ends the run as failed. From a task: does not return to it. From outside: ends the process.
[[noreturn]] void fail(const char* why) noexcept;

/// Holds all other tasks still, where they are: scheduling points of the running task neither switch nor move it nor deliver signals.
/// Ends by itself when the task has to sleep, since only others could wake it; spinning is no sleep. For checks of an exact state.
void run_alone(bool alone) noexcept;
/// Has nobody else run since run_alone(true)?
bool runs_alone() noexcept;
/// All other tasks are gone at once, wherever they were, as threads are in the child of a fork.
void forget_other_tasks() noexcept;
/// The futex word that a task sleeps on; nullptr if it does not.
const uint32_t* sleeps_on(int task) noexcept;
/// Do all tasks of plat::start_thread sleep, or are done?
bool services_sleep() noexcept;
/// Called first by fail(), with its text; may end the process. For the child of a real fork. nullptr: nobody.
void set_fail_notice(void (*notice)(const char* why) noexcept) noexcept;

bool failed() noexcept;
/// Why, with the tasks' states and stacks; empty if it has not failed.
const char* failure() noexcept;
/// What was written through plat::write_all since begin(), cut at output_bytes.
inline constexpr size_t output_bytes = 64 * 1024;
const char* output() noexcept;
uint64_t steps() noexcept;
/// A number that all scheduling decisions so far go into: equal for equal runs.
uint64_t history() noexcept;
/// Reservations and mappings that were not released.
unsigned nr_areas() noexcept;
/// The task that runs, or -1 outside of run().
int running_task() noexcept;
/// Moves the running task to a CPU.
void move_to_cpu(int cpu) noexcept;
/// A random number below `bound` from the world's seed. Taken by a task, it is part of the history.
uint64_t random(uint64_t bound) noexcept;
/// Forgets the world and releases its memory.
void end() noexcept;

}  // namespace kmem::simulation
