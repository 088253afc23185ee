// The latency histogram against a sorted vector of what was recorded.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "tools/kmem/report/histogram.hpp"

namespace {

using kmem::tool::report::latency_histogram;

constexpr double asked[] = {0.0, 0.1, 1.0, 25.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 100.0};

// The smallest recorded value that at least `percent` of all values do not exceed.
std::uint64_t exact_percentile(const std::vector<std::uint64_t>& sorted, double percent) {
  const auto size = static_cast<long double>(sorted.size());
  const auto rank = static_cast<std::size_t>(std::ceil(static_cast<long double>(percent) * size / 100.0L - 1e-9L));
  return sorted[std::min(sorted.size() - 1, rank == 0 ? 0 : rank - 1)];
}

void expect_like_sorted(std::vector<std::uint64_t> values) {
  latency_histogram histogram;
  std::uint64_t sum = 0;
  for (const std::uint64_t value : values) {
    histogram.record(value);
    sum += value;
  }
  std::sort(values.begin(), values.end());
  EXPECT_EQ(histogram.count(), values.size());
  EXPECT_EQ(histogram.sum(), sum);
  EXPECT_EQ(histogram.min(), values.front());
  EXPECT_EQ(histogram.max(), values.back());
  for (const double percent : asked) {
    const std::uint64_t exact = exact_percentile(values, percent);
    const std::uint64_t told = histogram.percentile(percent);
    EXPECT_GE(told, exact) << percent << " %";
    EXPECT_LE(told, std::min(values.back(), exact + exact / 32)) << percent << " %";
  }
}

TEST(report_histogram, buckets_tile_all_values_within_a_32nd) {
  std::uint64_t expected = 0;
  for (std::size_t index = 0; index < latency_histogram::bucket_count; ++index) {
    const std::uint64_t low = latency_histogram::lowest_of(index);
    const std::uint64_t high = latency_histogram::highest_of(index);
    ASSERT_EQ(low, expected);
    ASSERT_EQ(latency_histogram::index_of(low), index);
    ASSERT_EQ(latency_histogram::index_of(high), index);
    if (index + 1 < latency_histogram::bucket_count) {
      ASSERT_LE(high - low, low / 32);
    }
    expected = high + 1;
  }
  EXPECT_EQ(expected, 0u) << "the last bucket ends at the largest value";
}

TEST(report_histogram, percentiles_agree_with_a_sorted_vector) {
  std::mt19937_64 random(7);
  for (const std::size_t count : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{100}, std::size_t{1000}, std::size_t{4097}}) {
    std::vector<std::uint64_t> small;
    std::vector<std::uint64_t> wide;
    std::vector<std::uint64_t> tailed;
    for (std::size_t number = 0; number < count; ++number) {
      small.push_back(random() % 64);
      wide.push_back(random() % (std::uint64_t{1} << (1 + random() % 41)));
      tailed.push_back(random() % 100 == 0 ? 1'000'000 + random() % 1000 : 30 + random() % 20);
    }
    expect_like_sorted(small);
    expect_like_sorted(wide);
    expect_like_sorted(tailed);
  }
}

TEST(report_histogram, round_shares_of_round_counts_are_exact) {
  std::vector<std::uint64_t> values;
  for (std::uint64_t value = 1; value <= 50; ++value) {
    values.push_back(value);
  }
  latency_histogram histogram;
  for (const std::uint64_t value : values) {
    histogram.record(value);
  }
  for (std::uint64_t rank = 1; rank <= 50; ++rank) {
    EXPECT_EQ(histogram.percentile(static_cast<double>(rank) * 2.0), rank);
  }
}

TEST(report_histogram, merging_is_recording_everything_in_one) {
  std::mt19937_64 random(8);
  latency_histogram parts[3];
  latency_histogram whole;
  for (int number = 0; number < 3000; ++number) {
    const std::uint64_t value = random() % 100'000;
    parts[number % 2].record(value);  // the third stays empty
    whole.record(value);
  }
  latency_histogram merged;
  for (const latency_histogram& part : parts) {
    merged.merge(part);
  }
  EXPECT_EQ(merged.count(), whole.count());
  EXPECT_EQ(merged.sum(), whole.sum());
  EXPECT_EQ(merged.min(), whole.min());
  EXPECT_EQ(merged.max(), whole.max());
  const auto left = merged.filled_buckets();
  const auto right = whole.filled_buckets();
  ASSERT_EQ(left.size(), right.size());
  for (std::size_t place = 0; place < left.size(); ++place) {
    EXPECT_EQ(left[place].low, right[place].low);
    EXPECT_EQ(left[place].count, right[place].count);
  }
}

TEST(report_histogram, an_empty_one_answers_zero) {
  const latency_histogram histogram;
  EXPECT_EQ(histogram.percentile(50), 0u);
  EXPECT_EQ(histogram.max(), 0u);
  EXPECT_EQ(histogram.min(), 0u);
  EXPECT_EQ(histogram.mean(), 0.0);
  EXPECT_TRUE(histogram.filled_buckets().empty());
}

TEST(report_histogram, odd_percentages_are_clamped) {
  latency_histogram histogram;
  histogram.record(5);
  histogram.record(9);
  EXPECT_EQ(histogram.percentile(-3.0), 5u);
  EXPECT_EQ(histogram.percentile(std::numeric_limits<double>::quiet_NaN()), 5u);
  EXPECT_EQ(histogram.percentile(1e9), 9u);
  EXPECT_EQ(histogram.percentile(std::numeric_limits<double>::infinity()), 9u);
}

TEST(report_histogram, values_beyond_the_range_keep_their_maximum) {
  latency_histogram histogram;
  histogram.record(UINT64_MAX);
  EXPECT_EQ(histogram.max(), UINT64_MAX);
  EXPECT_EQ(histogram.percentile(50), UINT64_MAX);
  histogram.record(1, 3);
  EXPECT_EQ(histogram.percentile(75), 1u);
  histogram.record(2, 0);
  EXPECT_EQ(histogram.count(), 4u);
}

TEST(report_histogram, restoring_gives_the_same_and_refuses_contradictions) {
  latency_histogram histogram;
  for (const std::uint64_t value : {3u, 70u, 71u, 5000u, 123456u}) {
    histogram.record(value);
  }
  latency_histogram again;
  ASSERT_TRUE(again.restore(histogram.filled_buckets(), histogram.sum(), histogram.min(), histogram.max()));
  EXPECT_EQ(again.count(), 5u);
  EXPECT_EQ(again.max(), 123456u);
  EXPECT_EQ(again.percentile(50), histogram.percentile(50));

  EXPECT_FALSE(again.restore(histogram.filled_buckets(), 1, 3, 99));      // maximum below the last bucket
  EXPECT_FALSE(again.restore(histogram.filled_buckets(), 1, 2, 123456));  // minimum below the first
  EXPECT_FALSE(again.restore({{1001, 1001, 1}}, 1001, 1001, 1001));       // no bucket starts there
  EXPECT_FALSE(again.restore({{1, 1, UINT64_MAX}, {2, 2, 2}}, 1, 1, 2));  // more than can be counted
  EXPECT_EQ(again.count(), 5u) << "a refused one changes nothing";
  EXPECT_TRUE(again.restore({}, 0, 0, 0));
  EXPECT_EQ(again.count(), 0u);
}

}  // namespace
