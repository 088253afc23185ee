// The kmalloc family of the C++ face: the process's machine in front of the core, and the functions that only need kmalloc.
//
// Contexts. As the mask. Tests. tests/unit/face_cxx/kmalloc_test.cpp, tests/fault/api_fail_nth_test.cpp
#include "face_cxx/face_cxx.hpp"

namespace kmem {
namespace {

void* copy(const void* source, size_t size, size_t copied, gfp_t gfp) noexcept {
  auto* const memory = static_cast<char*>(kmalloc(size, gfp));
  if (memory == nullptr) return nullptr;
  __builtin_memcpy(memory, source, copied);
  if (copied < size) memory[copied] = '\0';
  return memory;
}

}  // namespace

void* kmalloc(size_t size, gfp_t gfp) noexcept {
  machine* const m = serving();
  return KMEM_LIKELY(m != nullptr) ? kmalloc(*m, size, gfp) : nullptr;
}

void* kmalloc_aligned(size_t size, size_t align, gfp_t gfp) noexcept {
  machine* const m = serving();
  return m != nullptr && is_power_of_two(align) ? kmalloc_aligned(*m, size, align, gfp) : nullptr;
}

void* kmalloc_array(size_t n, size_t size, gfp_t gfp) noexcept {
  size_t total = 0;
  return __builtin_mul_overflow(n, size, &total) ? nullptr : kmalloc(total, gfp);
}

void* krealloc(const void* old, size_t size, gfp_t gfp) noexcept {
  machine* const m = serving();
  return m != nullptr ? krealloc(*m, old, size, gfp) : nullptr;
}

void* krealloc_array(const void* old, size_t n, size_t size, gfp_t gfp) noexcept {
  size_t total = 0;
  return __builtin_mul_overflow(n, size, &total) ? nullptr : krealloc(old, total, gfp);
}

void kfree(const void* p) noexcept {
  if (KMEM_LIKELY(is_serving() && free_at_once(process.object, const_cast<void*>(p)))) return;
  if (is_zero_or_null(p)) return;
  machine* const m = serving();
  if (m != nullptr) kfree_beyond_arrays(*m, p);
}

void kfree_sensitive(const void* p) noexcept {
  if (is_zero_or_null(p)) return;
  machine* const m = serving();
  if (m != nullptr) kfree_sensitive(*m, p);
}

size_t ksize(const void* p) noexcept { return !is_zero_or_null(p) && is_serving() ? ksize(owner(), p) : 0; }

size_t kmalloc_size_roundup(size_t size) noexcept { return real::kmalloc_size_roundup(size); }

void* kmemdup(const void* source, size_t size, gfp_t gfp) noexcept { return copy(source, size, size, gfp); }

char* kstrdup(const char* text, gfp_t gfp) noexcept {
  if (text == nullptr) return nullptr;
  const size_t length = __builtin_strlen(text);
  return static_cast<char*>(copy(text, length + 1, length, gfp));
}

char* kstrndup(const char* text, size_t max, gfp_t gfp) noexcept {
  if (text == nullptr) return nullptr;
  size_t length = 0;
  while (length < max && text[length] != '\0') ++length;
  return static_cast<char*>(copy(text, length + 1, length, gfp));
}

namespace detail {

void* allocate(size_t size, size_t align, gfp_t gfp) noexcept {
  machine* const m = serving();
  if (m == nullptr || !is_power_of_two(align)) return nullptr;
  if (size == 0) size = 1;  // the pointer for no bytes is aligned to 16 only, and some callers give it an address of its own
  if (align <= 8 || (align <= 16 && size > 8)) return kvmalloc(*m, size, gfp, __builtin_return_address(0));
  const bool may_vmalloc = may_block(current_gfp(gfp)) && align <= page_size && size > page_size;
  if (!may_vmalloc) return kmalloc_aligned(*m, size, align, gfp);
  void* const p = kmalloc_quietly(*m, size, align, (gfp | gfp::noretry) & ~gfp::nofail);
  return p != nullptr ? p : vmalloc(*m, size, gfp, __builtin_return_address(0));
}

}  // namespace detail
}  // namespace kmem
