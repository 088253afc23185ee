// The platform of a real Linux process: raw facts and system calls, nothing else. Contract: plat/plat.hpp.
#pragma once
#include "plat/platform.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

struct plat_linux {
  /// Reserves address space that costs nothing: PROT_NONE, no swap reservation, no huge pages, populated by no mlockall.
  /// Return: a reservation whose base is a multiple of `align_bytes`, or one with base == nullptr when it is refused.
  static address_reservation reserve(size_t bytes, size_t align_bytes, backing kind) noexcept;
  static void release(address_reservation& r) noexcept;

  /// Makes a part of a reservation readable and writable for good. Return: false when the system refuses (RLIMIT_DATA, overcommit).
  static bool open(void* begin, size_t bytes) noexcept;
  /// Makes a part of a reservation readable, as zeroes: counts against no limit, and costs no memory (but of a memfd the pages that
  /// are read). Return: false when the system refuses.
  static bool open_for_reading(void* begin, size_t bytes) noexcept;

  /// Gives the pages back to the system; they read as zero afterwards. Return: false if the system kept them.
  static bool decommit(const address_reservation& r, void* begin, size_t bytes) noexcept;

  /// Backs the pages now, so that a later touch cannot fault. Return: false if not all could be backed.
  static bool populate(void* begin, size_t bytes) noexcept;

  /// A mapping of its own, PROT_NONE, for vmalloc areas. Return: nullptr when refused. May sleep.
  static void* map_guarded(size_t bytes) noexcept;
  /// Maps `bytes` of the arena's frames at `at` a second time (memfd arenas). May sleep.
  static bool map_frames(void* at, size_t offset_bytes, const address_reservation& r, size_t bytes) noexcept;
  static void unmap(void* begin, size_t bytes) noexcept;

  /// The CPU this thread runs on, or ran on a moment ago. Never negative, below max_cpus (larger numbers are folded).
  static int cpu() noexcept;
  /// CPU numbers are below this. At most max_cpus.
  static int nr_cpus() noexcept;
  /// Makes restartable sequences (arch/section.hpp) usable in this process, as often as it is called; in the child of a fork, too. Return:
  /// false where the system, the C library or the build has none, or CPU numbers can exceed max_cpus: the sequences then fail always.
  static bool prepare_sections() noexcept;
  /// Breaks off every sequence that another thread is in: from here on all read what was written before. Context: any. Return: false when
  /// the system refuses.
  static bool fence_sections() noexcept;
  /// Where a thread's struct rseq is, from the thread pointer.
  static ptrdiff_t section_area __attribute__((visibility("hidden")));
  static int thread_id() noexcept;
  /// True while the process has never made a second thread, so that nobody else could free.
  static bool single_threaded() noexcept;
  /// How many threads the process has, the library's own included; 0 if the system does not say. Reads a file: not for fast paths.
  static int nr_threads() noexcept;
  /// True for SCHED_FIFO and SCHED_RR callers.
  static bool realtime_thread() noexcept;

  /// CLOCK_MONOTONIC in nanoseconds.
  static uint64_t now_ns() noexcept;

  /// Sleeps while *word == expected, at most timeout_ns. Return: interrupted after any signal handler. May sleep.
  static futex_end futex_wait(uint32_t* word, uint32_t expected, uint64_t timeout_ns) noexcept;
  /// The same, but a handler that was installed with SA_RESTART does not end the sleep; before Linux 5.16 it does.
  static futex_end futex_wait_interruptible(uint32_t* word, uint32_t expected, uint64_t timeout_ns) noexcept;
  static void futex_wake(uint32_t* word, int nr_waiters) noexcept;
  /// One step of a bounded spin; `spins` is how many steps the caller has made. Yields the CPU after many.
  static void relax(unsigned spins) noexcept;
  /// A scheduling point of the simulation; nothing here.
  static void yield_point() noexcept {}

  /// Reads a small file whole (at most capacity - 1 bytes, NUL-terminated). Return: bytes read, or -errno. No cancellation point.
  /// Use: texts of /proc and /sys; a FIFO would wait for its writer.
  static long read_file(const char* path, char* buffer, size_t capacity) noexcept;
  /// Writes all of the text, or what the descriptor takes before it fails.
  static void write_all(int fd, const char* text, size_t bytes) noexcept;

  static uint64_t physical_bytes() noexcept;
  /// The thread's name as /proc/self/comm has it, NUL-terminated.
  static void thread_name(char* buffer, size_t capacity) noexcept;
  /// Can the 8 bytes at `address`, a multiple of 8, be read without a fault? Touches nothing.
  static bool is_readable(const void* address) noexcept;

  /// Sleeps while *word == expected and *shared_word, which other processes write, is shared_expected; at most timeout_ns. Before Linux
  /// 5.16 the latter is looked at four times a second. May sleep.
  static void futex_wait_either(uint32_t* word, uint32_t expected, uint32_t* shared_word, uint32_t shared_expected,
                                uint64_t timeout_ns) noexcept;

  // For the statistics segment: segment.cpp.
  /// System V shared memory of this process's own, zeroed, for its user only. It goes with the last process that has it, unless `keep`.
  /// `at`: nullptr, or such a segment that it takes the place of. Return: nullptr when the system refuses, or is short of segments.
  static void* make_segment(size_t bytes, void* at, bool keep) noexcept;
  static void drop_segment(void* segment) noexcept;
  /// A page that reads as zero in every forked child. Return: nullptr when refused.
  static void* map_wiped_on_fork() noexcept;
  static uint32_t process_id() noexcept;
  /// CLOCK_BOOTTIME, in which /proc says when processes were started.
  static uint64_t since_boot_ns() noexcept;

  /// Starts a thread that runs body(argument), with all signals blocked, on a stack of 256 KiB. The name is cut to 15 characters. Return:
  /// false (and `handle` holds no thread) when the system refuses. Context: process context with no lock held: the C library allocates.
  static bool start_thread(thread_handle& handle, void (*body)(void*) noexcept, void* argument, const char* name) noexcept;
  /// Waits until the thread's body has returned and the thread is gone. Nothing to do for a handle without a thread. May sleep.
  static void join_thread(thread_handle& handle) noexcept;
  /// In the child of a fork, where the thread does not exist: the handle holds none afterwards.
  static void forget_thread(thread_handle& handle) noexcept;
  /// Threads that start_thread() has made and that were not joined: they are the library's, not the program's.
  static unsigned nr_service_threads() noexcept;

  /// Signals that can be interrupts, numbered from 0: the real-time signals.
  static int nr_irq_signals() noexcept;
  static int irq_signal(int irq) noexcept;
  /// Handles one of them from now on, for good; `entry` is the same for all. Return: false when the program handles it itself.
  static bool take_irq_signal(int irq, const irq_entry& entry) noexcept;

  [[noreturn]] static void die() noexcept;
};

}  // inline namespace
}  // namespace kmem
