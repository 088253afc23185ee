// Front header of the layer `reclaim`: registered reclaim callbacks, and the machine that all layers below make up.
#pragma once
#include <kmem/reclaim.hpp>

#include "reclaim/kswapd.hpp"
#include "reclaim/mempool.hpp"
#include "reclaim/sheaf.hpp"
#include "reclaim/shrinker.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
inline constexpr unsigned nr_reclaim_callbacks = 64;

/// A thread inside a callback: lives on its stack, linked while it runs.
struct callback_frame {
  callback_frame* next = nullptr;
  const task_context* thread = nullptr;
  unsigned number = 0;
};

/// A whole allocator. The process has one (process_machine); tests, tools and the simulation make others.
struct machine final : vmalloc_allocator {
  struct callback_entry {
    reclaim_callback callback;
    uint32_t running = 0;  // frames of it in running_callbacks
    bool used = false;
  };
  ranked_lock callbacks_lock{lock_rank::machine};
  fork_lock callbacks_fork;
  callback_entry callbacks[nr_reclaim_callbacks] KMEM_GUARDED_BY(callbacks_lock);
  callback_frame* running_callbacks KMEM_GUARDED_BY(callbacks_lock) = nullptr;
  atomic<uint32_t> nr_callbacks{0};   // used entries; written under callbacks_lock
  atomic<uint32_t> next_callback{0};  // where the next round starts, so that all are asked in turn
  atomic<uint32_t> callback_ends{0};  // futex word: raised whenever a callback returns
  kswapd_state kswapd;
  shrinker_state shrinkers;
  mempool* mempools KMEM_GUARDED_BY(callbacks_lock) = nullptr;
  stat::segment* stat_segment = nullptr;  // where the watch's is mapped; written while the machine starts, and in the child of a fork
};

/// Sets up every layer. Return: err::ok, or why not, with everything given back and `error` set. May sleep.
[[nodiscard]] err machine_init(machine& m, const machine_config& config, config_error& error) noexcept;
/// Switches the checker of the process on or off, as the configuration wants it.
void apply_reclaim_checker(const machine_config& config) noexcept;
/// Everything back to the system. Objects still out become invalid. Return: false (and nothing done) when a layer reports damage.
bool machine_destroy(machine& m) noexcept;

/// Registers a callback. Context: may sleep. Return: its number, or a negative errno: -22 for a callback without a function or with needs
/// other than io and fs, -12 when all numbers are taken.
[[nodiscard]] int register_callback(machine& m, const reclaim_callback& callback) noexcept;
/// Removes it and waits until nobody runs it. Context: may sleep, not from the callback itself (reported; it then does not wait).
void unregister_callback(machine& m, int number) noexcept;
/// The chain's reclaim step: asks the callbacks that `gfp` permits until `nr_pages` are freed. Return: pages freed. Context: no lock
/// held.
uint64_t run_callbacks(machine& m, gfp_t gfp, uint64_t nr_pages) noexcept;

/// Every layer's walk. Return: nullptr, or what is wrong.
const char* machine_is_valid(machine& m) noexcept;
/// fork handlers over all layers; a face installs them for the process's machine with pthread_atfork.
void machine_fork_prepare(machine& m) noexcept;
void machine_fork_parent(machine& m) noexcept;
void machine_fork_child(machine& m) noexcept;

#if !defined(KMEM_SIM)

// The process's machine: set up at the first use, from KMEM_CMDLINE.

/// inherited: the child of a fork, and the arena is a memfd, whose frames are the parent's as well. Who would hand them out in both would
/// give one frame to two owners, and who would give them back to the system would take them from the parent.
enum class machine_state : uint32_t { fresh, starting, serving, refused, inherited };

struct process_slot {
  machine object;
  atomic<machine_state> state{machine_state::fresh};  // a futex word; written by the starter, and by forks
  atomic<const task_context*> starter{nullptr};       // thread that alone may set it up now
  atomic<uint32_t> inherited_uses{0};                 // calls that a state of `inherited` has refused; the first one is reported
};
extern constinit process_slot process;

/// What a face wants to be different from the usual configuration, before KMEM_CMDLINE is read.
using config_defaults = void (*)(machine_config& config) noexcept;
/// What is to be done with the process's machine before the first request is served. Context: before the machine starts.
using start_hook = void (*)(machine& m) noexcept;
void set_start_hook(start_hook hook) noexcept;

/// Sets the process's machine up if nobody has. Return: nullptr when that is refused (reported once), and for a signal handler or a
/// message
/// sink that interrupted the set-up on the same thread. Context: any (raw system calls only).
KMEM_COLD machine* start_process_machine(config_defaults defaults) noexcept;
/// Can the process's machine be used? Context: any.
KMEM_ALWAYS_INLINE bool is_serving() noexcept { return process.state.load_acquire() == machine_state::serving; }  // pairs: machine_state
/// The process's machine. Context: any. Return: nullptr as above.
inline machine* serving_machine(config_defaults defaults = nullptr) noexcept {
  if (KMEM_LIKELY(is_serving())) return &process.object;
  return start_process_machine(defaults);
}
/// Set-up with a configuration of the caller's, before first use. Return: err::exist when it is already serving.
[[nodiscard]] err process_machine_init(const machine_config& config, config_error& error) noexcept;

/// What else is to be done around a fork, whether there is a machine or not: prepare before the machine's locks are taken, locked after
/// that, parent or child before they are given back, end after that. Entries may be null.
struct fork_hooks {
  void (*prepare)() noexcept = nullptr;
  void (*locked)() noexcept = nullptr;
  void (*parent)() noexcept = nullptr;
  void (*child)() noexcept = nullptr;
  void (*end)() noexcept = nullptr;
};
/// Context: before the first fork.
void set_fork_hooks(const fork_hooks& hooks) noexcept;

/// fork handlers of the process. Inside a fork of the same thread they do nothing: a signal handler may fork at any moment of one.
void process_fork_prepare() noexcept;
void process_fork_parent() noexcept;
void process_fork_child() noexcept;

#endif

}  // inline namespace
}  // namespace kmem
