#pragma once

// Keeps the threads of a replay near the order of the trace.
//
// Each thread walks its own requests. Without a bound a thread with little to do would run far ahead and hold memory
// that, in the trace, others had freed long before. So a thread may be at most `window` requests ahead of the slowest.
// At a sample point all threads meet: everything before it is done, nothing after it has begun, so that what is read
// there belongs together.
//
// The slowest thread never waits here, and what it may wait for elsewhere (the allocation that it frees) has a lower
// number and is done: there is no deadlock.

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "trace/requests.hpp"

namespace kmem::tool::replay {

// Waits a little longer each time: spins, then yields, then sleeps for tens of microseconds.
class backoff {
 public:
  void pause();

 private:
  unsigned rounds_ = 0;
};

class gate {
 public:
  enum class turn : std::uint8_t {
    go,
    sample,  // take the sample that is due, call sampled(), enter again
    stop,    // somebody asked for it
  };

  // `sample_points`: ascending numbers of requests; the sample is taken by the thread that owns the request, before it.
  gate(unsigned threads, trace::request_index window, std::span<const trace::request_index> sample_points, const std::atomic<bool>& stop);

  // Waits until the thread may run request `index`; all its requests before that are done.
  turn enter(unsigned thread, trace::request_index index);
  void sampled();

  // The thread has done all its requests.
  void leave(unsigned thread);

  // All requests before this one are done.
  trace::request_index done() const;

 private:
  struct alignas(64) place {
    std::atomic<trace::request_index> at{0};
    trace::request_index limit = 0;  // the owner's: below it nothing has to be asked
  };
  trace::request_index next_sample() const;

  std::unique_ptr<place[]> places_;
  unsigned threads_;
  trace::request_index window_;
  std::span<const trace::request_index> sample_points_;
  std::atomic<std::size_t> samples_taken_{0};
  const std::atomic<bool>& stop_;
};

}  // namespace kmem::tool::replay
