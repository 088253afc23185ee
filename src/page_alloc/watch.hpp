// What slow paths do for somebody who watches the machine from outside the process. Part of the layer `page_alloc`; see watch.cpp.
#pragma once
#include <kmem/stat_segment.hpp>

#include "base/base.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
struct page_allocator;

/// Lies in a page that a forked child finds zeroed, whichever way it was forked: so nobody writes his parent's segment.
struct stat_watch {
  atomic<stat::segment*> segment{nullptr};  // nullptr: nobody is to be told
  atomic<uint32_t> busy{0};                 // somebody publishes or serves
  atomic<uint32_t> seen{0};                 // the last request that was served
  atomic<uint32_t> events{0};
  atomic<uint64_t> published_ns{0};
  /// Serves a request if there is one, and publishes all figures. Written once.
  void (*serve)(page_allocator& pa, stat_watch& watch, stat::server by) noexcept = nullptr;
};

/// A word of a segment, which is plain data for those who read it.
inline atomic<uint64_t>& shared_word(uint64_t& word) noexcept {
  static_assert(sizeof(atomic<uint64_t>) == sizeof word);
  return reinterpret_cast<atomic<uint64_t>&>(word);
}
inline atomic<uint32_t>& shared_word(uint32_t& word) noexcept {
  static_assert(sizeof(atomic<uint32_t>) == sizeof word);
  return reinterpret_cast<atomic<uint32_t>&>(word);
}

/// A slow path ends here: pages may have been taken or freed. Context: any; no lock held.
__attribute__((noinline)) void watch_event(page_allocator& pa, stat_watch& watch) noexcept;

}  // inline namespace
}  // namespace kmem
