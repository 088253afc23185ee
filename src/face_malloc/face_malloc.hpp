// What the files of the malloc face share: the process's machine, and one way to memory.
#pragma once
#include <cerrno>

#include "reclaim/reclaim.hpp"

namespace kmem {

inline constexpr gfp_t malloc_gfp = gfp::kernel | gfp::nowarn;
inline constexpr size_t largest_request = static_cast<size_t>(PTRDIFF_MAX);

/// What this face wants to be different from the usual configuration.
void malloc_defaults(machine_config& config) noexcept;
/// Ends the program if the machine cannot start. Return: nullptr, for a handler that has interrupted the start on this very thread.
KMEM_COLD machine* give_up() noexcept;

/// The process's machine, started if need be. Return: nullptr as above.
inline machine* serving() noexcept {
  machine* const m = serving_machine(malloc_defaults);
  return KMEM_LIKELY(m != nullptr) ? m : give_up();
}

KMEM_COLD inline void* out_of_memory() noexcept {
  errno = ENOMEM;
  return nullptr;
}
KMEM_COLD inline void* invalid() noexcept {
  errno = EINVAL;
  return nullptr;
}

/// `size` bytes with an alignment, a power of two. Return: a unique pointer for 0 bytes too; nullptr with ENOMEM.
inline void* allocate(size_t size, size_t align, gfp_t gfp) noexcept {
  if (KMEM_UNLIKELY(size > largest_request)) return out_of_memory();
  machine* const m = serving();
  if (KMEM_UNLIKELY(m == nullptr)) return out_of_memory();
  if (KMEM_UNLIKELY(size == 0)) size = 1;
  // Classes are aligned to 16 bytes, but for the one of 8.
  const bool plain = size <= m->class_max_bytes && (align <= 8 || (align <= 16 && size > 8));
  void* const p = KMEM_LIKELY(plain) ? kmalloc(*m, size, gfp) : kmalloc_huge(*m, size, align, gfp);
  return KMEM_LIKELY(p != nullptr) ? p : out_of_memory();
}

}  // namespace kmem
