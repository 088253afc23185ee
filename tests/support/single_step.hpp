// A handler between any two instructions of a piece of code, by the processor's trap flag. Not where a sanitizer delays signals.
#pragma once
#include "support/thread_sanitizer.hpp"

#if defined(__x86_64__) && !KMEM_UNDER_TSAN
#define KMEM_TEST_SINGLE_STEP 1
#endif

#if defined(KMEM_TEST_SINGLE_STEP)
#include <errno.h>
#include <signal.h>
#include <ucontext.h>
#include <x86intrin.h>

#include <cstdint>

namespace kmem::testing {

/// Runs before each instruction that is stepped. Return: false to run the rest of the code at full speed.
using step_function = bool (*)(uint64_t instruction);
inline step_function step;
inline uint64_t nr_steps;
inline constexpr unsigned long long trap_flag = 0x100;

inline void on_trap(int, siginfo_t*, void* context) {
  const int saved = errno;
  if (!step(nr_steps++)) static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~static_cast<greg_t>(trap_flag);
  errno = saved;
}

/// Return: how many instructions were stepped.
template <class Body>
uint64_t run_in_steps(step_function function, Body body) {
  struct sigaction action = {}, before = {};
  action.sa_sigaction = on_trap;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGTRAP, &action, &before);
  step = function;
  nr_steps = 0;
  __writeeflags(__readeflags() | trap_flag);
  body();
  __writeeflags(__readeflags() & ~trap_flag);
  sigaction(SIGTRAP, &before, nullptr);
  return nr_steps;
}

}  // namespace kmem::testing
#endif
