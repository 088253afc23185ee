// How the simulation goes from one task's stack to another's, and where a task stood when it was left.
#pragma once
#include <stddef.h>
#include <stdint.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace kmem::simulation {

/// A stack that is not running: all that is needed to go on with it.
struct saved_stack {
#if defined(__x86_64__)
  uintptr_t* top;  // the registers that a call preserves, then the address to return to
#else
  ucontext_t context;
#endif
};

/// Makes a stack on which `entry`, which must not return, begins when it is swapped to.
void prepare_stack(saved_stack& saved, char* stack, size_t bytes, void (*entry)() noexcept) noexcept;
/// Goes on with `to`; returns when somebody swaps to `from`.
void swap_stacks(saved_stack& from, saved_stack& to) noexcept;

/// Where a stack that is not running stands: its frame pointer and its next instruction, or 0 where that is not known.
struct stack_place {
  uintptr_t frame = 0, pc = 0;
};
stack_place place_of(const saved_stack& saved) noexcept;

}  // namespace kmem::simulation
