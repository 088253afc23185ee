// Mempools: elements set aside while there is memory, so that whoever may block always gets one when there is none.
//
//     kmem::mempool* requests = kmem::mempool_create_kmalloc_pool(16, 200);
//     void* r = kmem::mempool_alloc(requests, kmem::gfp::noio);   // never nullptr: waits for one of the 16 if it must
//     kmem::mempool_free(r, requests);                            // the pool first, then kfree
//
// The promise holds if every element comes back without its owner needing another one of the same pool.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <bit>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include <kmem/kmem.hpp>

namespace kmem {

inline namespace real {
struct mempool;
}

/// A pool of elements that `alloc` and `free` make and take back, `min_nr` of them (at least 1) set aside. Both functions get `data`, and
/// `alloc` a mask that it has to obey. Context: as the mask. Return: nullptr when the elements cannot be had, or without both functions.
[[nodiscard]] KMEM_EXPORT mempool* mempool_create(unsigned min_nr, void* (*alloc)(gfp_t gfp, void* data) noexcept,
                                                  void (*free)(void* element, void* data) noexcept, void* data,
                                                  gfp_t gfp = gfp::kernel) noexcept;
/// The same of a cache's objects. Context: process.
[[nodiscard]] KMEM_EXPORT mempool* mempool_create_slab_pool(unsigned min_nr, kmem_cache* cache) noexcept;
/// The same of memory from kmalloc(size). Context: process.
[[nodiscard]] KMEM_EXPORT mempool* mempool_create_kmalloc_pool(unsigned min_nr, size_t size) noexcept;
/// The same of blocks of 2^order pages; the elements are `page*`. Context: process.
[[nodiscard]] KMEM_EXPORT mempool* mempool_create_page_pool(unsigned min_nr, unsigned order) noexcept;
/// Ends a pool; nullptr is fine. Elements that are still out stay valid and are freed where they came from. While somebody waits for one
/// the pool is kept, with a message. Context: that of the elements' free function.
KMEM_EXPORT void mempool_destroy(mempool* pool) noexcept;

/// An element: made without waiting if that is possible, else one that was set aside, else made with the whole mask, else the next one
/// that comes back. gfp::zero is taken off with a warning. Context: as the mask. Return: nullptr only if the mask does not block, or in a
/// signal handler that interrupted the allocator.
[[nodiscard]] KMEM_EXPORT void* mempool_alloc(mempool* pool, gfp_t gfp) noexcept;
/// Gives an element back: set aside if fewer than min_nr are, freed otherwise; nullptr is fine. Context: that of the elements' free
/// function, and at least any that kfree may be called in.
KMEM_EXPORT void mempool_free(void* element, mempool* pool) noexcept;
/// Sets aside more elements or fewer. What is missing after growing is kept from the elements that come back. Context: process. Return: 0,
/// or -12 (no memory) and nothing has changed.
[[nodiscard]] KMEM_EXPORT int mempool_resize(mempool* pool, unsigned min_nr) noexcept KMEM_EXCLUDES(atomic_context);

struct mempool_info {
  unsigned min_nr = 0;   // elements to keep
  unsigned curr_nr = 0;  // elements that are set aside now
  unsigned waiting = 0;  // threads that sleep for one
  uint64_t waits = 0;    // times that somebody slept for one
};
/// Context: any.
KMEM_EXPORT void read_mempool_info(const mempool* pool, mempool_info& result) noexcept;

/// Objects of one type from a pool of their own: make() with a mask that blocks never fails.
template <class T>
class object_pool {
 public:
  struct returner {
    mempool* pool = nullptr;
    void operator()(T* p) const noexcept {
      p->~T();
      mempool_free(p, pool);
    }
  };
  using pointer = std::unique_ptr<T, returner>;

  /// Memory for `min_nr` objects is set aside. Context: process. A pool that could not be made is false, and makes no object.
  explicit object_pool(unsigned min_nr) noexcept : pool_(mempool_create_kmalloc_pool(min_nr, element_bytes)) {}
  /// All objects have been returned before.
  ~object_pool() { mempool_destroy(pool_); }
  object_pool(const object_pool&) = delete;
  object_pool& operator=(const object_pool&) = delete;

  explicit operator bool() const noexcept { return pool_ != nullptr; }
  mempool* get() const noexcept { return pool_; }
  /// A T made from `args`. Context: as the mask. Return: a null pointer as mempool_alloc; throws only what the constructor throws.
  template <class... Args>
  [[nodiscard]] pointer make(gfp_t gfp, Args&&... args) noexcept(std::is_nothrow_constructible_v<T, Args...>) {
    if (pool_ == nullptr) return pointer(nullptr, returner{});
    memory_guard memory{pool_, mempool_alloc(pool_, gfp)};
    if (memory.element == nullptr) return pointer(nullptr, returner{});
    T* const object = ::new (memory.element) T(std::forward<Args>(args)...);
    memory.element = nullptr;
    return pointer(object, returner{pool_});
  }

 private:
  static_assert(alignof(T) <= page_bytes, "alignments above a page are not supported");
  // kmalloc aligns to 16, and powers of two to themselves.
  static constexpr size_t element_bytes = alignof(T) <= 16 && sizeof(T) > 8 ? sizeof(T) : std::bit_ceil(sizeof(T));
  struct memory_guard {
    mempool* pool;
    void* element;
    ~memory_guard() { mempool_free(element, pool); }
  };

  mempool* pool_;
};

}  // namespace kmem
