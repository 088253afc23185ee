// Typed allocation: make<T>, a unique pointer, and an allocator for the standard library's containers.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include <kmem/kmem.hpp>

namespace kmem {

namespace detail {

/// Memory for the library's typed forms: kmalloc, beyond its limit vmalloc if the mask may block. `align`: a power of two.
/// Return: nullptr when exhausted.
[[nodiscard]] KMEM_EXPORT void* allocate(size_t size, size_t align, gfp_t gfp) noexcept;

/// Frees the memory unless released: a constructor may throw.
class raw_memory {
 public:
  raw_memory(size_t size, size_t align, gfp_t gfp) noexcept : p_(allocate(size, align, gfp)) {}
  ~raw_memory() { kvfree(p_); }
  raw_memory(const raw_memory&) = delete;
  raw_memory& operator=(const raw_memory&) = delete;
  [[nodiscard]] void* get() const noexcept { return p_; }
  void release() noexcept { p_ = nullptr; }

 private:
  void* p_;
};

template <class T>
consteval void check_type() noexcept {
  static_assert(alignof(T) <= page_bytes, "alignments above a page are not supported here: use kmalloc_aligned");
}

}  // namespace detail

/// Destroys and frees one object.
template <class T>
struct deleter {
  constexpr deleter() noexcept = default;
  template <class U>
  requires std::is_convertible_v<U*, T*>
  constexpr deleter(const deleter<U>&) noexcept {}

  void operator()(T* p) const noexcept {
    static_assert(!std::is_polymorphic_v<T> || std::has_virtual_destructor_v<T> || std::is_final_v<T>,
                  "deleting through a base class without a virtual destructor");
    // The start of the whole object, which the destructor leaves no way to find.
    const void* memory = p;
    if constexpr (std::is_polymorphic_v<T>) memory = most_derived(p);
    p->~T();
    kvfree(memory);
  }

 private:
  static const void* most_derived(T* p) noexcept { return dynamic_cast<const void*>(p); }
};

/// Destroys and frees an array.
template <class T>
struct deleter<T[]> {
  size_t n = 0;
  void operator()(T* p) const noexcept {
    if constexpr (!std::is_trivially_destructible_v<T>)
      for (size_t i = n; i != 0; --i) p[i - 1].~T();
    kvfree(p);
  }
};

template <class T>
using unique_ptr = std::unique_ptr<T, deleter<T>>;

/// A T made from `args`. Context: as the mask. Return: a null pointer when exhausted; throws only what the constructor throws.
template <class T, class... Args>
requires(!std::is_array_v<T>)
    [[nodiscard]] unique_ptr<T> make(gfp_t gfp, Args&&... args) noexcept(std::is_nothrow_constructible_v<T, Args...>) {
  detail::check_type<T>();
  detail::raw_memory memory(sizeof(T), alignof(T), gfp);
  if (memory.get() == nullptr) return nullptr;
  T* const object = ::new (memory.get()) T(std::forward<Args>(args)...);
  memory.release();
  return unique_ptr<T>(object);
}

/// An array of `n` value-initialised elements: make<int[]>(gfp::kernel, 100). Context: as the mask. Return: a null pointer when exhausted
/// or when the size overflows.
template <class T>
requires(std::is_unbounded_array_v<T>)
    [[nodiscard]] unique_ptr<T> make(gfp_t gfp, size_t n) noexcept(std::is_nothrow_default_constructible_v<std::remove_extent_t<T>>) {
  using element = std::remove_extent_t<T>;
  detail::check_type<element>();
  if (n > SIZE_MAX / sizeof(element)) return nullptr;
  detail::raw_memory memory(n * sizeof(element), alignof(element), gfp);
  if (memory.get() == nullptr) return nullptr;
  auto* const first = static_cast<element*>(memory.get());
  unique_ptr<T> partial(first, deleter<T>{0});  // counts what is constructed, if a constructor throws
  memory.release();
  for (; partial.get_deleter().n < n; ++partial.get_deleter().n) ::new (static_cast<void*>(first + partial.get_deleter().n)) element();
  return partial;
}

/// For the standard library's containers: std::vector<int, kmem::allocator<int>>. Throws std::bad_alloc when exhausted.
template <class T, gfp_t G = gfp::kernel>
class allocator {
 public:
  using value_type = T;
  using is_always_equal = std::true_type;
  template <class U>
  struct rebind {
    using other = allocator<U, G>;
  };

  constexpr allocator() noexcept = default;
  template <class U>
  constexpr allocator(const allocator<U, G>&) noexcept {}

  [[nodiscard]] T* allocate(size_t n) {
    static_assert(detail::check_mask<G>());
    detail::check_type<T>();
    void* const p = n > SIZE_MAX / sizeof(T) ? nullptr : detail::allocate(n * sizeof(T), alignof(T), G);
    if (p == nullptr) throw_bad_alloc();
    return static_cast<T*>(p);
  }
  void deallocate(T* p, size_t) noexcept { kvfree(p); }

  template <class U>
  constexpr bool operator==(const allocator<U, G>&) const noexcept {
    return true;
  }

 private:
  [[noreturn]] static void throw_bad_alloc() {
#if defined(__cpp_exceptions)
    throw std::bad_alloc();
#else
    __builtin_trap();
#endif
  }
};

}  // namespace kmem
