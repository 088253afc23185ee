// What the instruction set gives: pause, prefetch, compiler barriers and the thread pointer.
#pragma once
#include <cstddef>
#include <cstdint>

#define KMEM_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define KMEM_UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define KMEM_COLD __attribute__((cold, noinline))
#define KMEM_ALWAYS_INLINE inline __attribute__((always_inline))

namespace kmem::arch {

inline constexpr size_t cache_line_bytes = 64;

/// Tells the CPU that this is a spin loop.
KMEM_ALWAYS_INLINE void cpu_relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

KMEM_ALWAYS_INLINE void compiler_barrier() noexcept { __asm__ __volatile__("" ::: "memory"); }

KMEM_ALWAYS_INLINE void prefetch_write(const void* address) noexcept { __builtin_prefetch(address, 1); }

/// The address that thread-local offsets (glibc's __rseq_offset among them) are relative to.
KMEM_ALWAYS_INLINE char* thread_pointer() noexcept { return static_cast<char*>(__builtin_thread_pointer()); }

}  // namespace kmem::arch

#include "arch/section.hpp"  // uses what is above
