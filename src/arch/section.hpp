// Restartable sequences on the array of the CPU that the thread runs on: pop and push one pointer, and stop an array.
//
// What for. The kernel restarts a sequence at its beginning when the thread is preempted, moved to another CPU or interrupted by a signal
//          before the last instruction, which is the store that commits. So a sequence needs no lock and no atomic instruction, and a
//          signal handler may run the same sequences on the same arrays at any moment.
// Contract. `area` is the offset of a struct rseq from the thread pointer: glibc's, or one that is not registered and whose CPU number is
//          -1. The region of CPU c is *regions + c * 64 KiB, and the hot word of array `id` is at id * 8 in it; layout and meaning of the
//          words: slab/cpu_array.hpp. Each sequence is, in one step:
//
//            pop:   h = hot; p = slot[(h & 0xffff) - 1]; if (p == null) fail;  hot = h - 0xffff0001;  return p
//            push:  h = hot; if ((h >> 16) == 0) fail;  slot[h & 0xffff] = p; hot = h + 0xffff0001
//            stop:  if (cpu differs) fail;  h = hot; hot = 0;  return h
//
//          `regions` is read inside the sequence: who changes it and then fences (plat::fence_sections) knows that no sequence uses the old
//          value any more. The CPU number is loaded with its sign: -1 and -2 select regions below that of CPU 0.
// Context. Any.
// Elsewhere. Without rseq (other machines, ThreadSanitizer, which does not see what assembly code does) nothing here is used: pop and push
//          fail always, so that every call takes the path with a lock. The simulation has a twin of its own in slab/cpu_array.hpp.
// Tests.   tests/unit/plat/section_test.cpp; what a hit costs: scripts/instructions, tests/golden/instructions.json
#pragma once

#include "arch/arch.hpp"  // which includes this header at its end

#if defined(__SANITIZE_THREAD__)
#define KMEM_HAS_SECTIONS 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KMEM_HAS_SECTIONS 0
#endif
#endif
#if !defined(KMEM_HAS_SECTIONS)
#if defined(__x86_64__)
#define KMEM_HAS_SECTIONS 1
#else
#define KMEM_HAS_SECTIONS 0
#endif
#endif

namespace kmem::arch {

inline constexpr uint32_t section_region_shift = 16;

#if KMEM_HAS_SECTIONS

// The descriptor says where the sequence begins (31), how long it is (up to 32) and where to go on after it was broken off (34), in front
// of which glibc's signature must stand. 35 enters: it stores the descriptor's address into the area.
#define KMEM_SECTION_BEGIN                                                                                  \
  ".pushsection __rseq_cs,\"aw\",@progbits\n.balign 32\n30: .long 0, 0\n.quad 31f, 32f - 31f, 34f\n.popsection\n" \
  "35: leaq 30b(%%rip), %[cur]\n"                                                                           \
  "movq %[cur], %%fs:8(%[area])\n"                                                                          \
  "31:\n"
#define KMEM_SECTION_END                                                                                    \
  "32:\n"                                                                                                   \
  ".pushsection __rseq_failure,\"ax\",@progbits\n.byte 0x0f, 0xb9, 0x3d\n.long 0x53053053\n34: jmp 35b\n.popsection\n"

KMEM_ALWAYS_INLINE void* section_pop(ptrdiff_t area, char* const* regions, size_t id) noexcept {
  void* object;
  uint64_t region, cur;
  uint32_t word;
  asm volatile goto(KMEM_SECTION_BEGIN
                    "movslq %%fs:4(%[area]), %[region]\n"
                    "shlq $16, %[region]\n"
                    "addq %[regions], %[region]\n"
                    "movl (%[region],%[id],8), %[word]\n"
                    "movzwl %w[word], %k[cur]\n"
                    "movq -8(%[region],%[cur],8), %[object]\n"
                    "testq %[object], %[object]\n"
                    "jz %l[empty]\n"
                    "subl $0xffff0001, %[word]\n"
                    "movl %[word], (%[region],%[id],8)\n" KMEM_SECTION_END
                    : [object] "=&r"(object), [region] "=&r"(region), [cur] "=&r"(cur), [word] "=&r"(word)
                    : [area] "r"(area), [regions] "m"(*regions), [id] "r"(id)
                    : "memory", "cc"
                    : empty);
  if (object == nullptr) __builtin_unreachable();  // the sequence has looked
  return object;
empty:
  return nullptr;
}

KMEM_ALWAYS_INLINE bool section_push(ptrdiff_t area, char* const* regions, size_t id, void* object) noexcept {
  uint64_t region, cur;
  uint32_t word;
  asm volatile goto(KMEM_SECTION_BEGIN
                    "movslq %%fs:4(%[area]), %[region]\n"
                    "shlq $16, %[region]\n"
                    "addq %[regions], %[region]\n"
                    "movl (%[region],%[id],8), %[word]\n"
                    "movzwl %w[word], %k[cur]\n"
                    "addl $0xffff0001, %[word]\n"
                    "jnc %l[full]\n"
                    "movq %[object], (%[region],%[cur],8)\n"
                    "movl %[word], (%[region],%[id],8)\n" KMEM_SECTION_END
                    : [region] "=&r"(region), [cur] "=&r"(cur), [word] "=&r"(word)
                    : [area] "r"(area), [regions] "m"(*regions), [id] "r"(id), [object] "r"(object)
                    : "memory", "cc"
                    : full);
  return true;
full:
  return false;
}

/// Takes the array whose hot word is *hot away from all sequences of CPU `cpu`. Return: false when the thread runs elsewhere; else `word`
/// is what the hot word was, which is the caller's to put back.
KMEM_ALWAYS_INLINE bool section_stop(ptrdiff_t area, uint32_t cpu, uint32_t* hot, uint32_t& word) noexcept {
  uint64_t cur;
  uint32_t was;
  asm volatile goto(KMEM_SECTION_BEGIN
                    "cmpl %%fs:4(%[area]), %[cpu]\n"
                    "jne %l[elsewhere]\n"
                    "movl (%[hot]), %[was]\n"
                    "movl $0, (%[hot])\n" KMEM_SECTION_END
                    : [cur] "=&r"(cur), [was] "=&r"(was)
                    : [area] "r"(area), [cpu] "r"(cpu), [hot] "r"(hot)
                    : "memory", "cc"
                    : elsewhere);
  word = was;
  return true;
elsewhere:
  return false;
}

#undef KMEM_SECTION_BEGIN
#undef KMEM_SECTION_END

#else

inline void* section_pop(ptrdiff_t, char* const*, size_t) noexcept { return nullptr; }
inline bool section_push(ptrdiff_t, char* const*, size_t, void*) noexcept { return false; }
inline bool section_stop(ptrdiff_t, uint32_t, uint32_t*, uint32_t&) noexcept { return false; }

#endif

}  // namespace kmem::arch
