// Start of the process's machine, fork handlers and reclaim callbacks for the C++ face.
//
// Contexts. init and the callbacks: process context. The fork handlers run inside fork().
// Tests.    tests/unit/face_cxx/, tests/programs/environment_*.py
#include "face_cxx/face_cxx.hpp"

#include <pthread.h>

#include "interrupt/interrupt.hpp"

namespace kmem {
namespace {

void fork_child() noexcept {
  process_fork_child();
  stat_process_child();
}

__attribute__((destructor)) void publish_last_figures() noexcept { stat_process_exit(); }

// Before main, so that they are there before the first fork; they cost nothing while there is no machine.
__attribute__((constructor)) void install_fork_handlers() noexcept {
  set_start_hook(stat_start);
  set_fork_hooks({interrupt_fork_prepare, interrupt_fork_lock, interrupt_fork_parent, interrupt_fork_child, interrupt_fork_end});
  if (pthread_atfork(process_fork_prepare, process_fork_parent, fork_child) != 0) {
    constexpr const char* text = "kmem: pthread_atfork failed: a child of fork() must not use the allocator";
    printk(log_level::err, text, __builtin_strlen(text));
  }
}

}  // namespace

bool init(const char* cmdline, char* error, size_t error_capacity) noexcept {
  machine_config config;
  config_error why;
  if (parse_config(cmdline, config, why) && process_machine_init(config, why) == err::ok) return true;
  text_writer(error, error_capacity).str(why.text);
  return false;
}

int register_reclaim(const reclaim_callback& callback) noexcept {
  machine* const m = serving();
  return m != nullptr ? register_callback(*m, callback) : static_cast<int>(err::nomem);
}

void unregister_reclaim(int number) noexcept {
  machine* const m = serving();
  if (m != nullptr) unregister_callback(*m, number);
}

int register_shrinker(shrinker& s) noexcept {
  machine* const m = serving();
  return static_cast<int>(m != nullptr ? add_shrinker(*m, s) : err::nomem);
}
void unregister_shrinker(shrinker& s) noexcept {
  machine* const m = serving();
  if (m != nullptr) remove_shrinker(*m, s);
}
int register_oom_notifier(oom_notifier& n) noexcept {
  machine* const m = serving();
  return static_cast<int>(m != nullptr ? add_oom_notifier(*m, n) : err::nomem);
}
void unregister_oom_notifier(oom_notifier& n) noexcept {
  machine* const m = serving();
  if (m != nullptr) remove_oom_notifier(*m, n);
}

uint64_t remaining_bytes() noexcept {
  machine* const m = serving();
  return m != nullptr ? bytes(nr_pages_t(free_pages_total(*m))) : 0;
}

}  // namespace kmem
