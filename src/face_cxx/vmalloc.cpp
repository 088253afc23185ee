// vmalloc and kvmalloc of the C++ face.
//
// Contexts. As declared. Tests. tests/unit/face_cxx/vmalloc_test.cpp, tests/fault/api_fail_nth_test.cpp
#include "face_cxx/face_cxx.hpp"

namespace kmem {

void* vmalloc(size_t size, gfp_t gfp) noexcept {
  machine* const m = serving();
  return m != nullptr ? vmalloc(*m, size, gfp, __builtin_return_address(0)) : nullptr;
}

void vfree(const void* p) noexcept {
  machine* const m = serving();
  if (p != nullptr && m != nullptr) vfree(*m, p);
}

bool is_vmalloc_addr(const void* p) noexcept { return is_serving() && is_vmalloc_addr(owner(), p); }

void* kvmalloc(size_t size, gfp_t gfp) noexcept {
  machine* const m = serving();
  return m != nullptr ? kvmalloc(*m, size, gfp, __builtin_return_address(0)) : nullptr;
}

void* kvmalloc_array(size_t n, size_t size, gfp_t gfp) noexcept {
  machine* const m = serving();
  size_t total = 0;
  if (m == nullptr || __builtin_mul_overflow(n, size, &total)) return nullptr;
  return kvmalloc(*m, total, gfp, __builtin_return_address(0));
}

void* kvrealloc(const void* old, size_t size, gfp_t gfp) noexcept {
  machine* const m = serving();
  return m != nullptr ? kvrealloc(*m, old, size, gfp, __builtin_return_address(0)) : nullptr;
}

void kvfree(const void* p) noexcept {
  if (is_zero_or_null(p)) return;
  machine* const m = serving();
  if (m != nullptr) kvfree(*m, p);
}

size_t kvsize(const void* p) noexcept { return !is_zero_or_null(p) && is_serving() ? kvsize(owner(), p) : 0; }

}  // namespace kmem
