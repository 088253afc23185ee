// A std::pmr::memory_resource over the allocator, with the budget that is left.
#pragma once
#include <memory_resource>
#include <new>

#include <kmem/memory.hpp>

namespace kmem {

/// All resources free the same way, so memory of one may be given back to another, whatever its mask.
class resource : public std::pmr::memory_resource {
 public:
  /// `gfp`: of every allocation through this resource.
  explicit resource(gfp_t gfp = gfp::kernel) noexcept : gfp_(gfp) {}

  /// Bytes of the budget that are still free, give or take rounding. Context: any.
  [[nodiscard]] uint64_t remaining() const noexcept { return remaining_bytes(); }
  [[nodiscard]] gfp_t mask() const noexcept { return gfp_; }

 private:
  void* do_allocate(size_t size, size_t align) override {
    void* const p = detail::allocate(size, align, gfp_);
    if (p == nullptr) throw std::bad_alloc();
    return p;
  }
  void do_deallocate(void* p, size_t, size_t) override { kvfree(p); }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
#if defined(__cpp_rtti)
    return this == &other || dynamic_cast<const resource*>(&other) != nullptr;
#else
    return this == &other;
#endif
  }

  gfp_t gfp_;
};

}  // namespace kmem
