// Reservations: objects taken in advance, so that a stretch of code that must not fail, or must not sleep, cannot fail for want of memory.
//
//     kmem::reservation nodes(cache, 3, kmem::gfp::kernel);   // may fail and may sleep
//     if (!nodes) return -ENOMEM;
//     lock.lock();
//     void* a = nodes.take();                                 // three times: cannot fail, in any context
//
// What is not taken goes back at the end of the scope. The kernel's names for the same are below it.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <kmem/kmem.hpp>

namespace kmem {

inline namespace real {
struct slab_sheaf;
}

// ---- the kernel's form --------------------------------------------------------------------------------------------------------

/// A sheaf filled with `size` objects (at least 1) of a cache. Context: as the mask. Return: nullptr when they cannot all be had.
[[nodiscard]] KMEM_EXPORT slab_sheaf* kmem_cache_prefill_sheaf(kmem_cache* cache, gfp_t gfp, unsigned size) noexcept;
/// One of its objects, cleared with gfp::zero; it is freed by kmem_cache_free. Context: any; one user of a sheaf at a time. Return: nullptr
/// when the sheaf is empty, and for gfp::zero of a cache with a constructor (reported).
[[nodiscard]] KMEM_EXPORT void* kmem_cache_alloc_from_sheaf(kmem_cache* cache, gfp_t gfp, slab_sheaf* sheaf) noexcept;
/// Fills the sheaf up to `size` objects if it has fewer; *sheaf may be another one afterwards. Context: as the mask. Return: 0; -12 (no
/// memory) or -22 (another cache's sheaf) and nothing has changed.
[[nodiscard]] KMEM_EXPORT int kmem_cache_refill_sheaf(kmem_cache* cache, gfp_t gfp, slab_sheaf** sheaf, unsigned size) noexcept;
/// Gives the sheaf back, with the objects left in it; nullptr is fine. The mask is not needed here. Context: any.
KMEM_EXPORT void kmem_cache_return_sheaf(kmem_cache* cache, gfp_t gfp, slab_sheaf* sheaf) noexcept;
/// Objects left in the sheaf. Context: any.
[[nodiscard]] KMEM_EXPORT unsigned kmem_cache_sheaf_size(const slab_sheaf* sheaf) noexcept;

namespace detail {
[[nodiscard]] KMEM_EXPORT slab_sheaf* prefill_kmalloc(size_t size, gfp_t gfp, unsigned n) noexcept;
[[nodiscard]] KMEM_EXPORT void* take_from(slab_sheaf* sheaf, gfp_t gfp) noexcept;
[[nodiscard]] KMEM_EXPORT int refill(slab_sheaf** sheaf, gfp_t gfp, unsigned n) noexcept;
KMEM_EXPORT void give_back(slab_sheaf* sheaf) noexcept;
}  // namespace detail

// ---- as an object ---------------------------------------------------------------------------------------------------------------

/// n objects that belong to this scope. One user at a time.
class reservation {
 public:
  /// `n` objects (at least 1) of a cache, to be freed by kmem_cache_free. Context: as the mask. Failed: false.
  reservation(kmem_cache* cache, unsigned n, gfp_t gfp) noexcept : sheaf_(kmem_cache_prefill_sheaf(cache, gfp, n)) {}
  /// `n` times kmalloc(size), to be freed by kfree. Context: as the mask. Failed: false.
  reservation(size_t size, unsigned n, gfp_t gfp) noexcept : sheaf_(detail::prefill_kmalloc(size, gfp, n)) {}
  /// What was not taken goes back. Context: any.
  ~reservation() { detail::give_back(sheaf_); }
  reservation(const reservation&) = delete;
  reservation& operator=(const reservation&) = delete;
  reservation(reservation&& other) noexcept : sheaf_(other.sheaf_) { other.sheaf_ = nullptr; }
  reservation& operator=(reservation&& other) noexcept {
    if (this == &other) return *this;
    detail::give_back(sheaf_);
    sheaf_ = other.sheaf_;
    other.sheaf_ = nullptr;
    return *this;
  }

  explicit operator bool() const noexcept { return sheaf_ != nullptr; }
  /// Objects that can still be taken. Context: any.
  [[nodiscard]] unsigned remaining() const noexcept { return sheaf_ != nullptr ? kmem_cache_sheaf_size(sheaf_) : 0; }
  /// An object. Context: any. Return: never nullptr while remaining() is not 0; nullptr afterwards.
  [[nodiscard]] void* take() noexcept { return sheaf_ != nullptr ? detail::take_from(sheaf_, gfp::none) : nullptr; }
  /// The same, cleared; not for caches with a constructor.
  [[nodiscard]] void* take_zeroed() noexcept { return sheaf_ != nullptr ? detail::take_from(sheaf_, gfp::zero) : nullptr; }
  /// Makes it `n` objects again if fewer are left. Context: as the mask. Return: false when they cannot be had, and nothing has changed;
  /// also for a reservation that failed.
  [[nodiscard]] bool refill(unsigned n, gfp_t gfp) noexcept { return sheaf_ != nullptr && detail::refill(&sheaf_, gfp, n) == 0; }

 private:
  slab_sheaf* sheaf_;
};

}  // namespace kmem
