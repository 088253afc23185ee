// Swapping stacks. swapcontext() would do, but makes a system call for the signal mask each time: most of the time that a simulation takes.
//
// Differs.  The floating-point control word stays as it is: no task changes it. Other machines than x86-64 use swapcontext().
// Tests.    tests/sim/sim_scheduler_test.cpp
#include "plat/sim/stacks.hpp"

#if defined(__x86_64__)

asm(R"(
        .text
        .p2align 4
        .globl  kmem_sim_swap_stacks
        .hidden kmem_sim_swap_stacks
        .type   kmem_sim_swap_stacks, @function
kmem_sim_swap_stacks:
        pushq   %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, (%rdi)
        movq    (%rsi), %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret
        .size   kmem_sim_swap_stacks, . - kmem_sim_swap_stacks
)");
extern "C" void kmem_sim_swap_stacks(uintptr_t** from, uintptr_t* const* to) noexcept;

namespace kmem::simulation {

namespace {
constexpr unsigned nr_saved_registers = 6, saved_rbp = 5;
}  // namespace

void prepare_stack(saved_stack& saved, char* stack, size_t bytes, void (*entry)() noexcept) noexcept {
  auto* const end = reinterpret_cast<uintptr_t*>((reinterpret_cast<uintptr_t>(stack) + bytes) & ~uintptr_t{15});
  end[-1] = 0;  // nobody to return to; where a call would have put the address, so that the stack is aligned as after one
  end[-2] = reinterpret_cast<uintptr_t>(entry);
  saved.top = end - 2 - nr_saved_registers;
  for (unsigned i = 0; i < nr_saved_registers; ++i) saved.top[i] = 0;
}

void swap_stacks(saved_stack& from, saved_stack& to) noexcept { kmem_sim_swap_stacks(&from.top, &to.top); }

#if defined(__SANITIZE_ADDRESS__) || defined(__clang__)
__attribute__((no_sanitize("address")))
#endif
stack_place
place_of(const saved_stack& saved) noexcept {
  return {saved.top[saved_rbp], saved.top[nr_saved_registers]};
}

}  // namespace kmem::simulation

#else

namespace kmem::simulation {

/// A function of its own: the compiler takes getcontext for a function that returns twice.
__attribute__((noinline)) void prepare_stack(saved_stack& saved, char* stack, size_t bytes, void (*entry)() noexcept) noexcept {
  getcontext(&saved.context);
  saved.context.uc_stack.ss_sp = stack;
  saved.context.uc_stack.ss_size = bytes;
  saved.context.uc_link = nullptr;
  makecontext(&saved.context, entry, 0);
}

void swap_stacks(saved_stack& from, saved_stack& to) noexcept { swapcontext(&from.context, &to.context); }

stack_place place_of(const saved_stack& saved) noexcept {
#if defined(__aarch64__)
  return {saved.context.uc_mcontext.regs[29], saved.context.uc_mcontext.pc};
#else
  return {};
#endif
}

}  // namespace kmem::simulation

#endif
