#include "gate.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

namespace kmem::tool::replay {

void backoff::pause() {
  // Arbitrary: long enough that a neighbour on another CPU is met while spinning, short enough to leave a shared CPU soon.
  constexpr unsigned spins = 100;
  constexpr unsigned yields = 140;
  rounds_++;
  if (rounds_ > yields) {
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  } else if (rounds_ > spins) {
    std::this_thread::yield();
  }
}

gate::gate(unsigned threads, trace::request_index window, std::span<const trace::request_index> sample_points,
           const std::atomic<bool>& stop)
    : places_(std::make_unique<place[]>(threads)), threads_(threads), window_(window), sample_points_(sample_points), stop_(stop) {}

trace::request_index gate::done() const {
  trace::request_index lowest = trace::no_request;
  for (unsigned thread = 0; thread < threads_; thread++) {
    lowest = std::min(lowest, places_[thread].at.load(std::memory_order_acquire));  // pairs: replay_place
  }
  return lowest;
}

trace::request_index gate::next_sample() const {
  const std::size_t taken = samples_taken_.load(std::memory_order_acquire);  // pairs: replay_sample
  return taken < sample_points_.size() ? sample_points_[taken] : trace::no_request;
}

gate::turn gate::enter(unsigned thread, trace::request_index index) {
  place& mine = places_[thread];
  mine.at.store(index, std::memory_order_release);  // pairs: replay_place
  if (stop_.load(std::memory_order_relaxed)) return turn::stop;
  if (index < mine.limit) return turn::go;
  for (backoff wait;; wait.pause()) {
    if (stop_.load(std::memory_order_relaxed)) return turn::stop;
    const trace::request_index sample = next_sample();
    const trace::request_index lowest = done();
    if (index == sample) {
      if (lowest == index) return turn::sample;
      continue;
    }
    if (index > sample) continue;
    const trace::request_index reach = lowest > trace::no_request - window_ ? trace::no_request : lowest + window_;
    mine.limit = std::min(reach, sample);
    if (index < mine.limit) return turn::go;
  }
}

void gate::sampled() { samples_taken_.fetch_add(1, std::memory_order_release); }  // pairs: replay_sample

void gate::leave(unsigned thread) { places_[thread].at.store(trace::no_request, std::memory_order_release); }  // pairs: replay_place

}  // namespace kmem::tool::replay
