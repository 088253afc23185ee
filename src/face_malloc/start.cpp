// How the malloc face comes to its machine, and what it does about forks.
//
// Contexts. The first call of any of its functions, from before constructors on; the fork handlers are there before other constructors run.
// Kernel.   Three differences of the configuration: only 128 KiB of the reserve are backed until atomic use proves a need; what is free
//           without need goes back to the system; and a KMEM_CMDLINE that is wrong ends the program with a message, since it would run
//           without its limit otherwise.
// Tests.    tests/unit/face_malloc/malloc_test.cpp, tests/programs/preload_budget.sh, preload_python.sh
#include <pthread.h>
#include <unistd.h>

#include "debug/debug.hpp"
#include "face_malloc/face_malloc.hpp"

namespace kmem {

/// A program that never made a thread gets none, and one that did finds no thread that it did not make.
void malloc_defaults(machine_config& config) noexcept {
  config.reserve_backed_kbytes = 128;
  config.kswapd = kswapd_mode::off;
  config.keep_free_kbytes = 4096;
  config.stat = true;
  set_start_hook(stat_start);
}

/// Without a machine there is no memory for the program, and no way on.
KMEM_COLD machine* give_up() noexcept {
  if (process.state.load_acquire() == machine_state::refused) {  // pairs: machine_state
    constexpr const char* text = "kmem: the preloaded allocator could not start; the program ends here\n";
    plat::write_all(2, text, __builtin_strlen(text));
    _exit(127);
  }
  return nullptr;
}

namespace {

void fork_child() noexcept {
  process_fork_child();
  stat_process_child();
}

/// The figures that are left to who has asked for the last ones.
__attribute__((destructor)) void publish_last_figures() noexcept { stat_process_exit(); }

/// Before the constructors of all others (-z initfirst, and the lowest priority that a program may use in a static one): of what they
/// register for forks the first half then runs before the locks are taken, and the second half after they are free.
__attribute__((constructor(101))) void install_fork_handlers() noexcept {
  if (pthread_atfork(process_fork_prepare, process_fork_parent, fork_child) != 0) {
    constexpr const char* text = "kmem: pthread_atfork failed: a forked child of a threaded program may hang in malloc\n";
    plat::write_all(2, text, __builtin_strlen(text));
  }
}

}  // namespace
}  // namespace kmem
