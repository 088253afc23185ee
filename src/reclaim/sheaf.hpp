// Sheaves: objects taken in advance, for a stretch of code that cannot fail. Part of the layer `reclaim`; see sheaf.cpp.
#pragma once
#include "vmalloc/vmalloc.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
struct machine;

/// Objects of one cache, or of one size, that belong to whoever filled it. The objects' pointers follow it.
struct slab_sheaf {
  machine* owner = nullptr;
  kmem_cache* cache = nullptr;  // nullptr: of kmalloc
  size_t bytes = 0;             // of an object
  uint32_t nr_objects = 0;
  uint32_t capacity = 0;
  void** objects() noexcept { return reinterpret_cast<void**>(this + 1); }
};

/// `n` objects (at least 1) of a cache, taken with `gfp`. Context: as the mask. Return: nullptr when they cannot all be had.
[[nodiscard]] slab_sheaf* sheaf_prefill(machine& m, kmem_cache& cache, gfp_t gfp, uint32_t n) noexcept;
/// The same of kmalloc(size).
[[nodiscard]] slab_sheaf* sheaf_prefill_kmalloc(machine& m, size_t size, gfp_t gfp, uint32_t n) noexcept;
/// One of them, cleared with __GFP_ZERO. Context: any; one user of a sheaf at a time. Return: nullptr only when the sheaf is empty, or for
/// __GFP_ZERO of a cache with a constructor (reported).
[[nodiscard]] void* sheaf_alloc(slab_sheaf& sheaf, gfp_t gfp) noexcept;
/// Fills it up to `n` objects if it has fewer; it may become another sheaf for that. Context: as the mask. Return: err::ok, or err::nomem
/// with the sheaf and its objects as before.
err sheaf_refill(slab_sheaf*& sheaf, gfp_t gfp, uint32_t n) noexcept;
/// Frees the sheaf and what is left in it; nullptr is fine. Context: any.
void sheaf_return(slab_sheaf* sheaf) noexcept;

}  // inline namespace
}  // namespace kmem
