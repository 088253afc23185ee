#pragma once

// A latency histogram of fixed size.
//
// Values below 2^6 have a bucket each; every octave above is cut into 32 equal buckets, so a reported value is at
// most 1/32 (3.2 %) above the true one. Values of 2^42 and more (73 minutes in nanoseconds) share the last bucket;
// `max()` stays exact. One writer at a time: give each thread its own and merge them at the end.

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kmem::tool::report {

class latency_histogram {
 public:
  static constexpr unsigned sub_bits = 5;   // 32 buckets an octave
  static constexpr unsigned top_bits = 42;  // first power of two that is not told apart
  static constexpr std::size_t sub_buckets = std::size_t{1} << sub_bits;
  static constexpr std::size_t bucket_count = sub_buckets * (top_bits - sub_bits + 1);

  struct bucket {
    std::uint64_t low;    // smallest value of the bucket
    std::uint64_t high;   // largest value of the bucket
    std::uint64_t count;  // values recorded in it, never 0 in `filled_buckets`
  };

  void record(std::uint64_t value, std::uint64_t times = 1) noexcept {
    if (times == 0) {
      return;
    }
    counts_[index_of(value)] += times;
    count_ += times;
    sum_ += value * times;
    max_ = value > max_ ? value : max_;
    min_ = value < min_ ? value : min_;
  }

  void merge(const latency_histogram& other) noexcept;

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t sum() const noexcept { return sum_; }
  [[nodiscard]] std::uint64_t max() const noexcept { return max_; }                    // 0 when empty
  [[nodiscard]] std::uint64_t min() const noexcept { return count_ == 0 ? 0 : min_; }  // 0 when empty
  [[nodiscard]] double mean() const noexcept;                                          // 0 when empty

  // Return: a value v such that at least `percent` percent of the recorded values are <= v, the smallest one that
  // the buckets can name; never above max(); 0 when empty. `percent` outside [0, 100], NaN too, is clamped.
  [[nodiscard]] std::uint64_t percentile(double percent) const noexcept;

  // Return: the buckets that hold something, in ascending order.
  [[nodiscard]] std::vector<bucket> filled_buckets() const;

  // Rebuilds a histogram from stored buckets; `low` alone decides the bucket. Return: false when the parts
  // contradict each other (a value range or a count that cannot come from such buckets).
  [[nodiscard]] bool restore(const std::vector<bucket>& buckets, std::uint64_t sum, std::uint64_t min, std::uint64_t max);

  [[nodiscard]] static std::size_t index_of(std::uint64_t value) noexcept;
  [[nodiscard]] static std::uint64_t lowest_of(std::size_t index) noexcept;
  [[nodiscard]] static std::uint64_t highest_of(std::size_t index) noexcept;

 private:
  std::array<std::uint64_t, bucket_count> counts_{};
  std::uint64_t count_ = 0;
  std::uint64_t sum_ = 0;
  std::uint64_t max_ = 0;
  std::uint64_t min_ = UINT64_MAX;
};

}  // namespace kmem::tool::report
