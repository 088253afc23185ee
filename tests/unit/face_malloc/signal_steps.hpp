// A signal after every instruction of a piece of code, on real hardware: the processor's trap flag stops after each one, and the trap's
// handler raises an ordinary signal at the chosen ones, which then arrives exactly there, or when whoever has blocked it lets it through.
//
// Restartable sequences would start again for ever, since each trap breaks them off. So they are stepped through without their protection,
// on one CPU and one thread, with no signal in between; where one is due inside, the trap is let break the sequence off, and the signal
// arrives where the sequence starts again. Masks that the C library is about to set are changed to let the trap through, in new threads
// and children as well, which inherit the flag.
#pragma once
#include "support/single_step.hpp"

#if defined(KMEM_TEST_SINGLE_STEP)
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "arch/section.hpp"

/// What the assembler made of each sequence: src/arch/section.hpp.
struct section_descriptor {
  uint32_t version, flags;
  uint64_t start, length, abort;
};
extern "C" const section_descriptor __start___rseq_cs[] __attribute__((weak));
extern "C" const section_descriptor __stop___rseq_cs[] __attribute__((weak));

namespace kmem::testing {

/// Signals after instructions first, first + every, ... of the stepped thread.
struct signal_plan {
  uint64_t first = 0, every = ~uint64_t{0};
  int signal = SIGUSR1;
};

struct signal_stepper {
  static inline signal_plan plan;
  static inline volatile uint64_t instructions = 0, next = 0;
  static inline volatile bool due_inside = false;
  static inline uint64_t changed_mask = 0;
  static inline volatile pid_t only_thread = 0;  // 0: whoever has the flag

  static void begin(const signal_plan& wanted) noexcept {
    struct sigaction action {};
    action.sa_sigaction = on_step;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, wanted.signal);
    sigaction(SIGTRAP, &action, nullptr);
    plan = wanted;
    next = wanted.first;
    instructions = 0;
    due_inside = false;
    __writeeflags(__readeflags() | trap_flag);
  }
  static void end() noexcept { __writeeflags(__readeflags() & ~trap_flag); }

 private:
  static void raise_here() noexcept {
    next = plan.every == ~uint64_t{0} ? ~uint64_t{0} : instructions + plan.every;
    syscall(SYS_tgkill, getpid(), gettid(), plan.signal);
  }

  /// The sequence that the next instruction is about to enter (by storing its descriptor), or nullptr.
  static const section_descriptor* enters(const unsigned char* at) noexcept {
    constexpr unsigned char segment_prefix = 0x64;
    if (*at != segment_prefix) return nullptr;
    for (const section_descriptor* d = __start___rseq_cs; d != __stop___rseq_cs; ++d)
      if (d->start - reinterpret_cast<uintptr_t>(at) - 1 < 6) return d;
    return nullptr;
  }
  static bool is_inside(uintptr_t at) noexcept {
    for (const section_descriptor* d = __start___rseq_cs; d != __stop___rseq_cs; ++d)
      if (at - d->start < d->length) return true;
    return false;
  }

  static void on_step(int, siginfo_t*, void* interrupted) {
    const int saved = errno;
    auto& registers = static_cast<ucontext_t*>(interrupted)->uc_mcontext.gregs;
    const auto at = static_cast<uintptr_t>(registers[REG_RIP]);
    const auto* code = reinterpret_cast<const unsigned char*>(at);
    let_traps_through(code, registers);
    finish_repetition(code, registers);
    if (only_thread == 0 || only_thread == gettid()) {
      instructions = instructions + 1;
      if (const section_descriptor* const section = enters(code)) {
        due_inside = instructions >= next;
        if (!due_inside) registers[REG_RIP] = static_cast<greg_t>(section->start);
      } else if (due_inside) {  // the trap has broken the sequence off
        due_inside = false;
        raise_here();
      } else if (instructions >= next && !is_inside(at)) {
        raise_here();
      }
    } else if (const section_descriptor* const section = enters(code)) {
      registers[REG_RIP] = static_cast<greg_t>(section->start);
    }
    errno = saved;
  }

  /// A repeated store or copy traps after each of its steps; here it is done as one, ahead of the last step.
  static void finish_repetition(const unsigned char* code, gregset_t& registers) noexcept {
    if (code[0] != 0xf3) return;
    const bool wide = code[1] == 0x48;
    const unsigned char operation = code[wide ? 2 : 1];
    const size_t unit = wide ? 8 : 1;
    const bool stores = operation == (wide ? 0xab : 0xaa), copies = operation == (wide ? 0xa5 : 0xa4);
    if ((!stores && !copies) || registers[REG_RCX] <= 1) return;
    const size_t bytes = static_cast<size_t>(registers[REG_RCX] - 1) * unit;
    auto* const to = reinterpret_cast<unsigned char*>(registers[REG_RDI]);
    for (size_t i = 0; stores && i < bytes; i += unit) std::memcpy(to + i, &registers[REG_RAX], unit);
    if (copies) {
      std::memcpy(to, reinterpret_cast<const void*>(registers[REG_RSI]), bytes);
      registers[REG_RSI] += static_cast<greg_t>(bytes);
    }
    registers[REG_RDI] += static_cast<greg_t>(bytes);
    registers[REG_RCX] = 1;
  }

  /// rt_sigprocmask that would block SIGTRAP: a trap that is blocked ends the process.
  static void let_traps_through(const unsigned char* code, gregset_t& registers) noexcept {
    const bool is_call = code[0] == 0x0f && code[1] == 0x05 && registers[REG_RAX] == SYS_rt_sigprocmask;
    if (!is_call || registers[REG_RSI] == 0 || registers[REG_RDI] == SIG_UNBLOCK) return;
    std::memcpy(&changed_mask, reinterpret_cast<const void*>(registers[REG_RSI]), sizeof changed_mask);
    changed_mask &= ~(uint64_t{1} << (SIGTRAP - 1));
    registers[REG_RSI] = reinterpret_cast<greg_t>(&changed_mask);
  }
};

}  // namespace kmem::testing
#endif
