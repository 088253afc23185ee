// What the files of the malloc face share: the process's machine, and one way to memory.
#pragma once
#include <cerrno>

#include "reclaim/reclaim.hpp"

namespace kmem {

inline constexpr gfp_t malloc_gfp = gfp::kernel | gfp::nowarn;
inline constexpr size_t largest_request = static_cast<size_t>(PTRDIFF_MAX);

/// Whoever was told that there is no memory has to unwind, and that takes some: exceptions, messages, objects on the way. From the first
/// NULL of a thread until memory is there again, requests of up to so many bytes may use the reserve. Arbitrary: a frame's worth.
inline constexpr size_t unwinding_max_bytes = 8192;
inline constinit thread_local bool unwinding __attribute__((tls_model("initial-exec"), visibility("hidden"))) = false;

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

/// Is more free than kswapd would look for? That one request was served says little: it may have got the last free object.
inline bool memory_is_back() noexcept {
  const zone& normal = process.object.zones[static_cast<unsigned>(zone_idx::normal)];
  return normal.taken.load_relaxed() + normal.watermarks[static_cast<unsigned>(watermark::high)] < normal.managed.load_relaxed();
}

/// `p`, or if that is nullptr and this thread unwinds what `again` gets. Return: nullptr with ENOMEM.
KMEM_ALWAYS_INLINE void* or_for_unwinding(size_t size, void* p, auto again) noexcept {
  if (KMEM_LIKELY(p != nullptr)) {
    if (KMEM_UNLIKELY(unwinding)) unwinding = !memory_is_back();
    return p;
  }
  if (unwinding && size <= unwinding_max_bytes) p = again();
  unwinding = true;
  return p != nullptr ? p : out_of_memory();
}

/// `size` bytes with an alignment, a power of two. Return: a unique pointer for 0 bytes too; nullptr with ENOMEM.
inline void* allocate(size_t size, size_t align, gfp_t gfp) noexcept {
  if (KMEM_UNLIKELY(size > largest_request)) return out_of_memory();
  machine* const m = serving();
  if (KMEM_UNLIKELY(m == nullptr)) return out_of_memory();
  if (KMEM_UNLIKELY(size == 0)) size = 1;
  // Classes are aligned to 16 bytes, but for the one of 8.
  const bool plain = size <= m->class_max_bytes && (align <= 8 || (align <= 16 && size > 8));
  return or_for_unwinding(size, KMEM_LIKELY(plain) ? kmalloc(*m, size, gfp) : kmalloc_huge(*m, size, align, gfp),
                          [=] { return kmalloc_huge(*m, size, align, gfp | gfp::high); });
}

}  // namespace kmem
