// The simulated platform: virtual CPUs, clock and threads under a seeded scheduler. Contract: plat/plat.hpp.
//
// Every call is a scheduling point. Memory is real (anonymous or memfd), so that the core's pointers work, but what is done with it is
// checked: opening outside of a reservation, giving back what was never opened and the like fail the simulation.
// Tests drive it through plat/sim/simulation.hpp.
#pragma once
#include "plat/platform.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

struct plat_sim {
  static address_reservation reserve(size_t bytes, size_t align_bytes, backing kind) noexcept;
  static void release(address_reservation& r) noexcept;
  static bool open(void* begin, size_t bytes) noexcept;
  static bool open_for_reading(void* begin, size_t bytes) noexcept;
  static bool decommit(const address_reservation& r, void* begin, size_t bytes) noexcept;
  static bool populate(void* begin, size_t bytes) noexcept;
  static void* map_guarded(size_t bytes) noexcept;
  static bool map_frames(void* at, size_t offset_bytes, const address_reservation& r, size_t bytes) noexcept;
  static void unmap(void* begin, size_t bytes) noexcept;

  /// The running task's virtual CPU. The task may have moved by the time the caller looks at the result.
  static int cpu() noexcept;
  static int nr_cpus() noexcept;
  /// Whether there are restartable sequences is a knob of the world.
  static bool prepare_sections() noexcept;
  static bool fence_sections() noexcept;
  /// What a sequence that begins here has to compare with. No scheduling point.
  struct section_mark {
    int cpu;
    uint64_t cpu_switches, breaks;
  };
  static section_mark section_begin() noexcept;
  /// Has nothing happened since then that breaks a sequence off: another task on this CPU, a move, a handler, a fence? No scheduling point.
  static bool section_intact(const section_mark& mark) noexcept;
  static int thread_id() noexcept;
  static bool single_threaded() noexcept;
  /// Tasks that are not done.
  static int nr_threads() noexcept;
  static bool realtime_thread() noexcept;

  /// The simulated clock: advances at every scheduling point, and to the next time-out when nobody can run.
  static uint64_t now_ns() noexcept;

  static futex_end futex_wait(uint32_t* word, uint32_t expected, uint64_t timeout_ns) noexcept;
  static futex_end futex_wait_interruptible(uint32_t* word, uint32_t expected, uint64_t timeout_ns) noexcept {
    return futex_wait(word, expected, timeout_ns);
  }
  static void futex_wake(uint32_t* word, int nr_waiters) noexcept;
  /// Lets another task run if one can.
  static void relax(unsigned spins) noexcept;
  /// The scheduler may run another task here, move this one to another CPU, or deliver a signal.
  static void yield_point() noexcept;

  /// Finds only the files that the test has put up. Return: as plat_linux.
  static long read_file(const char* path, char* buffer, size_t capacity) noexcept;
  /// Kept for the test to look at, whatever the descriptor.
  static void write_all(int fd, const char* text, size_t bytes) noexcept;

  static uint64_t physical_bytes() noexcept;
  static void thread_name(char* buffer, size_t capacity) noexcept;
  static bool is_readable(const void* address) noexcept;

  /// A task of the library's own: it does not keep run() going, and stays asleep between runs. Return: as plat_linux.
  static bool start_thread(thread_handle& handle, void (*body)(void*) noexcept, void* argument, const char* name) noexcept;
  /// Outside of a task: runs the world until the thread has ended.
  static void join_thread(thread_handle& handle) noexcept;
  static void forget_thread(thread_handle& handle) noexcept;
  static unsigned nr_service_threads() noexcept;

  /// There are no signals: a task's handler raises interrupts by itself.
  static int nr_irq_signals() noexcept { return 31; }
  static int irq_signal(int) noexcept { return 0; }
  static bool take_irq_signal(int, const irq_entry&) noexcept { return true; }

  /// Ends the simulation as failed. Outside of a task: ends the process.
  [[noreturn]] static void die() noexcept;

  /// Bytes of memory that belong to the running task, zero at its start: what thread_local is in a real process.
  static constexpr size_t task_storage_bytes = 640;
  static void* task_storage() noexcept;
};

}  // inline namespace
}  // namespace kmem
