// Front header of the layer `reclaim`: registered reclaim callbacks, and the machine that all layers below make up.
#pragma once
#include <kmem/reclaim.hpp>

#include "vmalloc/vmalloc.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

inline constexpr unsigned nr_reclaim_callbacks = 64;

/// A whole allocator. The process has one (process_machine); tests, tools and the simulation make others.
struct machine final : vmalloc_allocator {
  struct callback_entry {
    reclaim_callback callback;
    uint32_t running = 0;     // threads inside the callback; under machine_lock
    bool used = false;
  } callbacks[nr_reclaim_callbacks];
  atomic<uint32_t> state{0};  // 0 new, 1 being set up, 2 serving, 3 could not be set up
};

/// Sets up every layer. Return: err::ok, or why not, with everything given back and `error` set. May sleep.
err machine_init(machine& m, const machine_config& config, config_error& error) noexcept;
/// Everything back to the system. Objects still out become invalid. Return: false (and nothing done) when a layer reports damage.
bool machine_destroy(machine& m) noexcept;

/// The process's machine, set up at first use from KMEM_CMDLINE. Context: any (set-up uses raw system calls only).
machine& process_machine() noexcept;
/// Set-up with a configuration of the caller's, before first use. Return: err::exist when it is already serving.
err process_machine_init(const machine_config& config, config_error& error) noexcept;

/// Registers a callback. Context: may sleep. Return: its number, or a negative errno.
int register_callback(machine& m, const reclaim_callback& callback) noexcept;
/// Removes it and waits until nobody runs it. Context: may sleep, not from the callback itself.
void unregister_callback(machine& m, int number) noexcept;

/// Every layer's walk. Return: nullptr, or what is wrong.
const char* machine_is_valid(machine& m) noexcept;
/// fork handlers over all layers; installed for the process's machine with pthread_atfork.
void machine_fork_prepare(machine& m) noexcept;
void machine_fork_parent(machine& m) noexcept;
void machine_fork_child(machine& m) noexcept;

}  // inline namespace
}  // namespace kmem
