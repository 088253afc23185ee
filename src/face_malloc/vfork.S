// vfork for programs under the preload library: the arrays are held while the child runs.
//
// What for. The child of vfork runs in its parent's memory, but the system does not maintain its struct rseq: a sequence of the child would
//           not be broken off when it is preempted, and might commit to the array of a CPU that it no longer runs on. While the arrays are
//           held (vfork_prepare, vfork_parent: slab/cpu_array.hpp) every call of every thread takes the path with locks, which are
//           ordinary memory and right in both.
// How.      The child returns from this function first and uses the stack below its caller's frame, so that nothing of the parent's may lie
//           there: the return address waits in a register that the system call keeps. Only the parent, or a call that failed, goes on to
//           let the arrays go.
// Elsewhere. On other machines there are no sequences, and the C library's vfork is left alone.
// Tests.    tests/programs/preload_vfork.sh
#if defined(__x86_64__)
#include <sys/syscall.h>

  .text
  .globl vfork
  .type vfork, @function
  .align 16
vfork:
  .cfi_startproc
  endbr64
  subq $8, %rsp
  .cfi_adjust_cfa_offset 8
  call kmem_vfork_prepare
  addq $8, %rsp
  .cfi_adjust_cfa_offset -8
  popq %rdi
  .cfi_adjust_cfa_offset -8
  .cfi_register %rip, %rdi
  movl $SYS_vfork, %eax
  syscall
  pushq %rdi
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %rip, 0
  testq %rax, %rax
  jz 1f
  movq %rax, %rdi
  jmp kmem_vfork_parent
1:
  ret
  .cfi_endproc
  .size vfork, . - vfork

  .section .note.GNU-stack, "", @progbits
#endif
