// Reclaim callbacks: an application's caches give memory back before an allocation fails.
#pragma once
#include <stdint.h>

#include <kmem/context.hpp>
#include <kmem/gfp.hpp>

namespace kmem {

/// What a callback needs to be allowed to run: it is left out when the allocation's flags lack one of these.
struct reclaim_callback {
  void* context = nullptr;
  /// Frees about `nr_pages` pages' worth and returns how many pages it freed. Runs in the context of an allocation with flags `gfp`, no
  /// lock of the library held; what it allocates itself may use the reserves and does not reclaim (memalloc_noreclaim_scope).
  uint64_t (*reclaim)(void* context, gfp_t gfp, uint64_t nr_pages) noexcept = nullptr;
  gfp_t needs = gfp::none;  // gfp::fs, gfp::io or both
};

/// Context: may sleep. Return: a number for unregister_reclaim, or a negative errno value.
[[nodiscard]] KMEM_EXPORT int register_reclaim(const reclaim_callback& callback) noexcept;
/// Waits until the callback is not running any more. Context: may sleep; not from the callback itself.
KMEM_EXPORT void unregister_reclaim(int number) noexcept KMEM_EXCLUDES(atomic_context);

}  // namespace kmem
