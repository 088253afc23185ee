// A real fork in the middle of a simulated load: in the child all other tasks are gone, as threads would be.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "sim/scenario_world.hpp"

namespace kmem::sim_test {
namespace {

constexpr unsigned child_seconds = 60;  // before it counts as hanging

[[noreturn]] void child_failed(const char* why) noexcept {
  constexpr char prefix[] = "in the child of a fork: ";
  if (write(STDERR_FILENO, prefix, sizeof prefix - 1) < 0 || write(STDERR_FILENO, why, std::strlen(why)) < 0 ||
      write(STDERR_FILENO, "\n", 1) < 0)
    _exit(4);
  _exit(3);
}
void on_child_failure(const char* why) noexcept { child_failed(why); }

int child_task = -1;

/// The child may have a kswapd of its own, and wait for it while that one is at work; nobody else is there who could wake anybody.
void on_child_sleep(const uint32_t*) noexcept {
  if (simulation::running_task() == child_task && simulation::services_sleep())
    child_failed("it had to wait for a thread that is not there");
}

/// What a child does with the machine before it ends: every kind of memory, written and read.
void use_machine(machine& m) {
  constexpr gfp_t impatient = gfp::kernel | gfp::nowarn | gfp::noretry;  // nobody is there who could free anything
  for (int round = 0; round < 3; ++round) {
    char* got[12] = {};
    for (size_t i = 0; i < 12; ++i) {
      const size_t size = size_t{20} << i;
      got[i] = static_cast<char*>(kmalloc(m, size, i % 2 != 0 ? gfp::atomic | gfp::nowarn : impatient));
      if (got[i] != nullptr) write_pattern(got[i], size, i + 1);
    }
    page* const p = alloc_pages(m, impatient, order_t(2));
    void* const area = vmalloc(m, 10'000, impatient, nullptr);
    drain_caches(m, true);
    for (size_t i = 0; i < 12; ++i)
      if (got[i] != nullptr && find_damage(got[i], size_t{20} << i, i + 1) != size_t{20} << i) child_failed("contents changed");
    for (char* const one : got) kfree(m, one);
    if (p != nullptr) free_pages(m, p, order_t(2));
    vfree(m, area);
    drain_cpu_pages(m, true);
  }
}

}  // namespace

void core_world::fork_now(actor&) {
  ++seen_.forks;
  machine_fork_prepare(m_);
  simulation::run_alone(true);
  const pid_t child = fork();
  if (child < 0) fail_world("fork failed");
  if (child == 0) {
    alarm(child_seconds);
    simulation::set_fail_notice(on_child_failure);
    simulation::forget_other_tasks();
    child_task = simulation::running_task();
    simulation::set_sleep_hook(on_child_sleep);
    machine_fork_child(m_);
    current().held_ranks = 0;
    shadow_.verify_all();
    // The frames of a memfd are the parent's as well: there only what nobody allocates from may be looked at.
    const bool frames_are_its_own = m_.config.kind == backing::anon;
    simulation::run_alone(!frames_are_its_own);
    if (frames_are_its_own) use_machine(m_);
    shadow_.verify_all();
    _exit(0);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child) fail_world("waitpid failed");
  simulation::run_alone(false);
  machine_fork_parent(m_);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    fail_world("the child of a fork ended with status " + std::to_string(status) + " (exit code 3: see its message)");
}

}  // namespace kmem::sim_test
