// kvmalloc: memory that need not be contiguous as pages. kmalloc if that is easy, vmalloc if not.
//
// Contexts. As kmalloc; a mask that may not block never comes to vmalloc. kvfree: as kfree or vfree, whichever it is.
// Kernel.   The rules for the first attempt are the kernel's: beyond a page it makes one pass, warns of nothing and is allowed to fail,
//           unless RETRY_MAYFAIL asks for more. kvrealloc takes no old size: the library knows it.
// Tests.    tests/unit/vmalloc/kvmalloc_test.cpp, tests/fault/vmalloc_fail_nth_test.cpp
#include "vmalloc/vmalloc.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

gfp_t first_attempt(gfp_t gfp) noexcept {
  gfp_t mask = gfp | gfp::nowarn;
  if (!has(gfp, gfp::retry_mayfail)) mask |= gfp::noretry;
  return mask & ~gfp::nofail;  // vmalloc keeps that promise
}

}  // namespace

void* kvmalloc(vmalloc_allocator& va, size_t size, gfp_t gfp, const void* caller) noexcept {
  if (size <= page_size) return kmalloc(va, size, gfp);
  if (!may_block(current_gfp(gfp))) return kmalloc(va, size, first_attempt(gfp));
  void* const p = kmalloc_quietly(va, size, 1, first_attempt(gfp));
  return p != nullptr ? p : vmalloc(va, size, gfp, caller);
}

void kvfree(vmalloc_allocator& va, const void* p) noexcept {
  if (is_zero_or_null(p) || va.contains(p)) return kfree(va, p);
  vfree(va, p);
}

size_t kvsize(vmalloc_allocator& va, const void* p) noexcept {
  if (is_zero_or_null(p) || va.contains(p)) return ksize(va, p);
  return vmalloc_size(va, p);
}

void* kvrealloc(vmalloc_allocator& va, const void* old, size_t size, gfp_t gfp, const void* caller) noexcept {
  if (is_zero_or_null(old)) return kvmalloc(va, size, gfp, caller);
  if (size == 0) {
    kvfree(va, old);
    return zero_size_ptr;
  }
  const size_t have = kvsize(va, old);
  if (have == 0) {
    // In a handler that interrupted the allocator nobody may be able to say what it is: it stays as it is.
    if (current().depth != 0 && !va.contains(old)) return nullptr;
    // kvfree reports what the pointer is; it was not ours, so nothing can be kept
    kvfree(va, old);
    return nullptr;
  }
  if (va.contains(old)) {
    if (size <= page_size) return krealloc(va, old, size, gfp);
    void* const moved = krealloc_quietly(va, old, size, first_attempt(gfp));
    if (moved != nullptr) return moved;
  } else if (size <= have) {
    return const_cast<void*>(old);
  }
  void* const fresh = kvmalloc(va, size, gfp, caller);
  if (fresh == nullptr) return nullptr;
  __builtin_memcpy(fresh, old, have < size ? have : size);
  kvfree(va, old);
  return fresh;
}

}  // inline namespace
}  // namespace kmem
