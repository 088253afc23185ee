// What every platform offers, as a concept, and the types it speaks in. Contract: plat/plat.hpp.
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>

#include "arch/arch.hpp"

#if defined(KMEM_SIM)
#define KMEM_BUILD_NAMESPACE inline namespace sim
#else
#define KMEM_BUILD_NAMESPACE inline namespace real
#endif

namespace kmem {
KMEM_BUILD_NAMESPACE {

inline constexpr size_t page_shift = 12;
inline constexpr size_t page_size = size_t{1} << page_shift;

/// The largest number of CPUs a machine can have (the kernel's NR_CPUS). CPU numbers are below it.
inline constexpr int max_cpus = 1024;

/// How an arena is backed: private anonymous memory, or a shared mapping of a memfd (frames may have a second address).
enum class backing : uint8_t { anon, memfd };

/// A reservation of address space. No descriptor is kept: a program may close all that it does not know.
struct address_reservation {
  char* base = nullptr;  // aligned as asked; nullptr: refused
  size_t bytes = 0;
  bool shared = false;   // of a memfd: its frames may have a second address
  char* mapping = nullptr;   // what was mapped, alignment slack included; what release() unmaps
  size_t mapping_bytes = 0;
};

/// A thread of the library's own, from start_thread() to join_thread() or forget_thread(). It stays where it is all the while.
struct thread_handle {
  void (*body)(void* argument) noexcept = nullptr;  // nullptr: no thread
  void* argument = nullptr;
  char name[16] = {};
  uint64_t thread = 0;  // the back end's
  uint32_t ended = 0;   // sim: futex word
};

/// How a futex_wait ended. woken: by futex_wake, without any reason, or it did not sleep since the word differed.
enum class futex_end : uint8_t { woken, timed_out, interrupted };

/// What happens when a signal that is an interrupt arrives. errno is kept around both.
struct irq_entry {
  /// With all interrupt signals blocked. Return: whether deferred() is to follow.
  bool (*interrupt)(int irq) noexcept = nullptr;
  /// With signals as they were in the code that was interrupted.
  void (*deferred)() noexcept = nullptr;
  /// Afterwards, with all interrupt signals blocked again. Return: whether deferred() is to follow once more.
  bool (*deferred_again)() noexcept = nullptr;
};

template <class P>
concept platform = requires(address_reservation& r, thread_handle& thread, void (*body)(void*) noexcept, void* p, size_t n, uint32_t* word,
                            const char* path, char* buffer, int fd, const irq_entry& entry) {
  { P::reserve(n, n, backing::anon) } noexcept -> std::same_as<address_reservation>;
  { P::release(r) } noexcept;
  { P::open(p, n) } noexcept -> std::same_as<bool>;
  { P::open_for_reading(p, n) } noexcept -> std::same_as<bool>;
  { P::decommit(r, p, n) } noexcept -> std::same_as<bool>;
  { P::populate(p, n) } noexcept -> std::same_as<bool>;
  { P::map_guarded(n) } noexcept -> std::same_as<void*>;
  { P::map_frames(p, n, r, n) } noexcept -> std::same_as<bool>;
  { P::unmap(p, n) } noexcept;
  { P::cpu() } noexcept -> std::same_as<int>;
  { P::nr_cpus() } noexcept -> std::same_as<int>;
  { P::prepare_sections() } noexcept -> std::same_as<bool>;
  { P::fence_sections() } noexcept -> std::same_as<bool>;
  { P::thread_id() } noexcept -> std::same_as<int>;
  { P::single_threaded() } noexcept -> std::same_as<bool>;
  { P::nr_threads() } noexcept -> std::same_as<int>;
  { P::realtime_thread() } noexcept -> std::same_as<bool>;
  { P::now_ns() } noexcept -> std::same_as<uint64_t>;
  { P::futex_wait(word, uint32_t{}, uint64_t{}) } noexcept -> std::same_as<futex_end>;
  { P::futex_wait_interruptible(word, uint32_t{}, uint64_t{}) } noexcept -> std::same_as<futex_end>;
  { P::futex_wake(word, int{}) } noexcept;
  { P::relax(unsigned{}) } noexcept;
  { P::yield_point() } noexcept;
  { P::read_file(path, buffer, n) } noexcept -> std::same_as<long>;
  { P::write_all(fd, path, n) } noexcept;
  { P::physical_bytes() } noexcept -> std::same_as<uint64_t>;
  { P::thread_name(buffer, n) } noexcept;
  { P::is_readable(p) } noexcept -> std::same_as<bool>;
  { P::start_thread(thread, body, p, path) } noexcept -> std::same_as<bool>;
  { P::join_thread(thread) } noexcept;
  { P::forget_thread(thread) } noexcept;
  { P::nr_service_threads() } noexcept -> std::same_as<unsigned>;
  { P::nr_irq_signals() } noexcept -> std::same_as<int>;
  { P::irq_signal(int{}) } noexcept -> std::same_as<int>;
  { P::take_irq_signal(int{}, entry) } noexcept -> std::same_as<bool>;
  { P::die() } noexcept;
};

}  // inline namespace
}  // namespace kmem
