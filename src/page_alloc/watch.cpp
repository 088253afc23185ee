// What slow paths do for somebody who watches the machine from outside the process: the number of taken pages is put into the statistics
// segment, and requests that lie in its mailbox are served.
//
// States.   No watch (nullptr): nothing happens. A watch without a segment is that of a forked child, which has not made its own.
// Cost.     One load at the end of a slow path without a segment; some ten with one. Fast paths know nothing of it.
// Ordering. pairs: stat_request - who asks releases what he asks for with the number of the request.
// Contexts. Any, with no lock held. Served is where no slow path lies below and sleeping is allowed; other slow paths leave it to the next.
// Kernel.   Nothing like it: there, files of /proc are read in the reader's own context.
// Tests.    tests/unit/debug/stat_test.cpp, tests/programs/kmem_stat.py
#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint32_t events_between_looks = 64;  // arbitrary: so often is the clock read, and all published if it is time

constexpr uint64_t publish_every_ns = 100'000'000;  // arbitrary
// After events whose number is a power of two: who allocates much in a moment and then rests has published more than his beginnings. Short
// enough for that, and long enough that publishing (some 20 us, and in the child of a fork the pages that it has to copy) costs little.
constexpr uint64_t publish_early_ns = 1'000'000;

bool is_power_of_two(uint32_t events) noexcept { return (events & (events - 1)) == 0; }

uint64_t taken_pages(const page_allocator& pa) noexcept {
  uint64_t sum = 0;
  for (const zone& z : pa.zones) sum += z.taken.load_relaxed();
  return sum;
}

}  // namespace

void watch_event(page_allocator& pa, stat_watch& watch) noexcept {
  stat::segment* const segment = watch.segment.load_relaxed();
  if (segment == nullptr) return;
  shared_word(segment->taken_pages).store_relaxed(taken_pages(pa));
  const uint32_t events = watch.events.load_relaxed() + 1;
  watch.events.store_relaxed(events);  // two at once count as one
  shared_word(segment->events).store_relaxed(events);
  const bool asked = shared_word(segment->request).load_acquire() != watch.seen.load_relaxed();  // pairs: stat_request
  const bool early = is_power_of_two(events);
  if (KMEM_LIKELY(!asked && !early && events % events_between_looks != 0)) return;
  if (current().depth != 0 || in_atomic()) return;
  const uint64_t age = asked ? 0 : plat::now_ns() - watch.published_ns.load_relaxed();
  if (asked || age >= (early ? publish_early_ns : publish_every_ns)) watch.serve(pa, watch, stat::server::slow_path);
}

#if !defined(KMEM_SIM)

void wait_or_serve(page_allocator& pa, uint32_t* word, uint64_t timeout_ns) noexcept {
  stat_watch* const watch = pa.watch.load_relaxed();
  stat::segment* const segment = watch != nullptr ? watch->segment.load_relaxed() : nullptr;
  if (segment == nullptr) {
    plat::futex_wait(word, 0, timeout_ns);
    return;
  }
  const uint32_t seen = watch->seen.load_relaxed();
  shared_word(segment->service_thread).store_relaxed(1);
  plat::futex_wait_either(word, 0, shared_word(segment->request).word(), seen, timeout_ns);
  shared_word(segment->service_thread).store_relaxed(0);
  if (shared_word(segment->request).load_acquire() != seen)  // pairs: stat_request
    watch->serve(pa, *watch, stat::server::background_thread);
}

#else

void wait_or_serve(page_allocator&, uint32_t* word, uint64_t timeout_ns) noexcept { plat::futex_wait(word, 0, timeout_ns); }

#endif

}  // inline namespace
}  // namespace kmem
