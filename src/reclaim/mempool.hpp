// Mempools: elements set aside, so that who may block always gets one. Part of the layer `reclaim`; see mempool.cpp.
#pragma once
#include "vmalloc/vmalloc.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
struct machine;

/// Where a pool's elements come from.
enum class mempool_kind : uint8_t { functions, slab, kmalloc, pages };

struct mempool_source {
  mempool_kind kind = mempool_kind::functions;
  void* (*alloc)(gfp_t gfp, void* data) noexcept = nullptr;  // functions
  void (*free)(void* element, void* data) noexcept = nullptr;
  void* data = nullptr;
  kmem_cache* cache = nullptr;  // slab
  size_t size = 0;              // kmalloc: bytes
  unsigned order = 0;           // pages: of the blocks; the elements are their head pages
};

/// Slots for elements, in the memory behind it. Chunks are added as a pool grows and stay until it is destroyed.
struct mempool_chunk {
  mempool_chunk* next = nullptr;
  uint32_t nr_slots = 0;
  uint32_t unused_ = 0;
  atomic<void*>* slots() noexcept { return reinterpret_cast<atomic<void*>*>(this + 1); }
};

struct mempool {
  machine* owner = nullptr;
  mempool_source source;
  atomic<uint32_t> min_nr{0};               // elements to keep
  atomic<uint32_t> curr_nr{0};              // elements in slots, and slots that somebody is about to fill or has just emptied
  atomic<mempool_chunk*> chunks{nullptr};
  atomic<uint32_t> sequence{0};             // futex word: raised when an element comes back while somebody waits
  atomic<uint32_t> waiters{0};
  atomic<uint32_t> waiter_fence{0};         // orders elements that come back against waiters; the value means nothing
  atomic<uint64_t> waits{0};                // times that somebody slept for an element
  mempool* next = nullptr;                  // the machine's list, under callbacks_lock
  mempool* previous = nullptr;
};

struct mempool_figures {
  uint32_t min_nr = 0, curr_nr = 0, waiting = 0;
  uint64_t waits = 0;
};

/// A pool with `min_nr` elements (at least 1) set aside, made with `gfp`. Context: as the mask. Return: nullptr when they cannot be had or
/// the source is incomplete (a message says so).
[[nodiscard]] mempool* mempool_create(machine& m, const mempool_source& source, uint32_t min_nr, gfp_t gfp) noexcept;
/// Gives back what is set aside, and the pool. Elements that are out are their owners' to free at their source. Refused with a message
/// while somebody waits for an element. Context: any; nobody uses the pool any more.
void mempool_destroy(mempool& pool) noexcept;
/// An element: from the source without waiting, else one that was set aside, else from the source with the whole mask, else the next that
/// comes back. Context: as the mask. Return: never nullptr for a mask that blocks, but in a handler that interrupted the allocator.
[[nodiscard]] void* mempool_alloc(mempool& pool, gfp_t gfp) noexcept;
/// Sets the element aside if fewer than min_nr are, and else frees it at its source. nullptr is fine. Context: any that the source permits.
void mempool_free(mempool& pool, void* element) noexcept;
/// Changes how many elements are set aside. When growing, what cannot be had now is kept from the elements that come back. Context:
/// process. Return: err::ok, or err::nomem with nothing changed.
err mempool_resize(mempool& pool, uint32_t min_nr) noexcept;
void mempool_read_figures(const mempool& pool, mempool_figures& info) noexcept;

/// In the child of a fork: forgets other threads that waited or had an element in their hands.
void mempools_fork_child(machine& m) noexcept;

}  // inline namespace
}  // namespace kmem
