#include "histogram.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace kmem::tool::report {

std::size_t latency_histogram::index_of(std::uint64_t value) noexcept {
  if (value < 2 * sub_buckets) {
    return static_cast<std::size_t>(value);
  }
  const auto width = static_cast<unsigned>(std::bit_width(value));
  if (width > top_bits) {
    return bucket_count - 1;
  }
  const unsigned shift = width - 1 - sub_bits;
  return (std::size_t{shift} << sub_bits) + static_cast<std::size_t>(value >> shift);
}

std::uint64_t latency_histogram::lowest_of(std::size_t index) noexcept {
  if (index < 2 * sub_buckets) {
    return index;
  }
  const std::size_t shift = (index >> sub_bits) - 1;
  return (std::uint64_t{index & (sub_buckets - 1)} + sub_buckets) << shift;
}

std::uint64_t latency_histogram::highest_of(std::size_t index) noexcept {
  return index + 1 >= bucket_count ? UINT64_MAX : lowest_of(index + 1) - 1;
}

void latency_histogram::merge(const latency_histogram& other) noexcept {
  for (std::size_t index = 0; index < bucket_count; ++index) {
    counts_[index] += other.counts_[index];
  }
  count_ += other.count_;
  sum_ += other.sum_;
  max_ = std::max(max_, other.max_);
  min_ = std::min(min_, other.min_);
}

double latency_histogram::mean() const noexcept { return count_ == 0 ? 0.0 : static_cast<double>(sum_) / static_cast<double>(count_); }

std::uint64_t latency_histogram::percentile(double percent) const noexcept {
  if (count_ == 0) {
    return 0;
  }
  const double share = percent > 0.0 ? std::min(percent, 100.0) / 100.0 : 0.0;  // NaN compares false: 0
  // The small term takes back what the division by 100 may have rounded up: 99 % of 100 values is the 99th.
  const double exact = share * static_cast<double>(count_);
  const auto rank = static_cast<std::uint64_t>(std::ceil(exact - exact * 1e-12));
  const std::uint64_t wanted = std::clamp<std::uint64_t>(rank, 1, count_);
  std::uint64_t seen = 0;
  for (std::size_t index = 0; index < bucket_count; ++index) {
    seen += counts_[index];
    if (seen >= wanted) {
      return std::min(highest_of(index), max_);
    }
  }
  return max_;
}

std::vector<latency_histogram::bucket> latency_histogram::filled_buckets() const {
  std::vector<bucket> filled;
  for (std::size_t index = 0; index < bucket_count; ++index) {
    if (counts_[index] != 0) {
      filled.push_back({lowest_of(index), highest_of(index), counts_[index]});
    }
  }
  return filled;
}

bool latency_histogram::restore(const std::vector<bucket>& buckets, std::uint64_t sum, std::uint64_t min, std::uint64_t max) {
  latency_histogram fresh;
  for (const bucket& one : buckets) {
    if (one.low != lowest_of(index_of(one.low)) || fresh.count_ + one.count < fresh.count_) {
      return false;
    }
    fresh.counts_[index_of(one.low)] += one.count;
    fresh.count_ += one.count;
  }
  if (fresh.count_ != 0) {
    const std::vector<bucket> filled = fresh.filled_buckets();
    const bool fits =
        min >= filled.front().low && min <= filled.front().high && max >= filled.back().low && max <= filled.back().high && min <= max;
    if (!fits) {
      return false;
    }
    fresh.min_ = min;
    fresh.max_ = max;
    fresh.sum_ = sum;
  }
  *this = fresh;
  return true;
}

}  // namespace kmem::tool::report
