#include "base/printk.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace kmem {
namespace {

struct received {
  log_level level;
  std::string text;
  std::vector<const void*> pcs;
};
std::vector<received> heard;

void hear(log_level level, const char* text, size_t bytes, const void* const* pcs, unsigned nr_pcs) noexcept {
  heard.push_back({level, std::string(text, bytes), std::vector<const void*>(pcs, pcs + nr_pcs)});
}

class Printk : public testing::Test {
 protected:
  void SetUp() override {
    reset_printk();
    heard.clear();
    previous_ = set_printk_sink(nullptr);
  }
  void TearDown() override {
    set_printk_sink(previous_);
    reset_printk();
  }
  static void log(const std::string& text, log_level level = log_level::info) { printk(level, text.data(), text.size()); }

 private:
  printk_sink previous_ = nullptr;
};

TEST_F(Printk, TheDefaultSinkIsStderr) {
  const printk_sink sink = set_printk_sink(nullptr);
  EXPECT_EQ(sink, nullptr);
  EXPECT_EQ(set_printk_sink(&printk_to_stderr), nullptr);
  EXPECT_EQ(set_printk_sink(nullptr), &printk_to_stderr);
}

TEST_F(Printk, RecordsAreReadInOrderWithLevelAndProgramCounters) {
  const int here = 0;
  const void* const pcs[] = {&here, nullptr, &heard};
  log("first", log_level::err);
  printk(log_level::debug, "second", 6, pcs, 3);
  char text[100];
  printk_record record;
  EXPECT_EQ(printk_read(0, record, text, sizeof text), 1u);
  EXPECT_STREQ(text, "first");
  EXPECT_EQ(record.level, log_level::err);
  EXPECT_EQ(record.nr_pcs, 0u);
  EXPECT_EQ(printk_read(1, record, text, sizeof text), 2u);
  EXPECT_STREQ(text, "second");
  EXPECT_EQ(record.level, log_level::debug);
  ASSERT_EQ(record.nr_pcs, 3u);
  EXPECT_EQ(record.pcs[0], &here);
  EXPECT_EQ(record.pcs[2], &heard);
  EXPECT_EQ(printk_read(2, record, text, sizeof text), 0u);
}

TEST_F(Printk, AnEmptyRingHasNothing) {
  log_level level = log_level::debug;
  char text[4] = "old";
  EXPECT_EQ(printk_read(0, level, text, sizeof text), 0u);
  EXPECT_STREQ(text, "old");
  EXPECT_EQ(level, log_level::debug);
}

TEST_F(Printk, LongTextsAndSmallBuffersAreCut) {
  log(std::string(printk_record_bytes + 50, 'x'));
  std::vector<char> text(printk_record_bytes + 100);
  printk_record record;
  EXPECT_EQ(printk_read(0, record, text.data(), text.size()), 1u);
  EXPECT_EQ(record.bytes, printk_record_bytes);
  EXPECT_EQ(std::string(text.data()).size(), printk_record_bytes);
  EXPECT_EQ(printk_read(0, record, text.data(), 10), 1u);
  EXPECT_STREQ(text.data(), "xxxxxxxxx");
  EXPECT_EQ(record.bytes, printk_record_bytes);
  EXPECT_EQ(printk_read(0, record, nullptr, 0), 1u);
}

TEST_F(Printk, AgainstAModel) {
  // The model: the last records of everything that was logged.
  std::mt19937 random(1);
  std::deque<std::string> model;
  uint64_t logged = 0, next = 0;
  char text[64];
  for (int step = 0; step < 20'000; ++step) {
    if (random() % 3 != 0) {
      std::string line = std::to_string(logged++);
      line.append(random() % 20, 'm');
      log(line);
      model.push_back(line);
      if (model.size() > printk_ring_records) model.pop_front();
    } else {
      const uint64_t oldest = logged - model.size();
      if (random() % 50 == 0) next = random() % (logged + 2);  // a reader that starts anywhere
      const uint64_t wanted = std::max(next, oldest);
      log_level level = log_level::debug;
      const uint64_t result = printk_read(next, level, text, sizeof text);
      if (wanted >= logged) {
        ASSERT_EQ(result, 0u);
      } else {
        ASSERT_EQ(result, wanted + 1);
        ASSERT_EQ(text, model[wanted - oldest]);
        next = result;
      }
    }
  }
  EXPECT_GT(logged, 5 * printk_ring_records);
  EXPECT_EQ(printk_dropped(), 0u);
}

TEST_F(Printk, ThreadsLoseNothingButWhatIsCounted) {
  constexpr int each = 5000, writers = 3;
  atomic<uint32_t> left(writers);
  std::vector<std::thread> threads;
  for (int w = 0; w < writers; ++w)
    threads.emplace_back([&left, w] {
      for (int n = 0; n < each; ++n) log(std::to_string(w) + ":" + std::to_string(n) + std::string(static_cast<size_t>(n % 50), 'p'));
      left.fetch_sub_relaxed(1);
    });
  uint64_t next = 0, read = 0;
  std::vector<int> last(writers, -1);
  const auto read_all = [&] {
    char text[128];
    log_level level = log_level::debug;
    while (const uint64_t found = printk_read(next, level, text, sizeof text)) {
      next = found;
      ++read;
      int w = 0, n = 0;
      ASSERT_EQ(std::sscanf(text, "%d:%d", &w, &n), 2) << text;
      ASSERT_EQ(text, std::to_string(w) + ":" + std::to_string(n) + std::string(static_cast<size_t>(n % 50), 'p'));
      ASSERT_GT(n, last[static_cast<size_t>(w)]);
      last[static_cast<size_t>(w)] = n;
    }
  };
  while (left.load_relaxed() != 0) read_all();
  for (std::thread& thread : threads) thread.join();
  read_all();
  EXPECT_LE(read + printk_dropped(), static_cast<uint64_t>(each * writers));
  EXPECT_GE(read + printk_dropped(), printk_ring_records);
  EXPECT_GE(next, static_cast<uint64_t>(each * writers) - printk_dropped());
}

TEST_F(Printk, TheSinkGetsEveryRecordAtOnce) {
  set_printk_sink(&hear);
  const void* const pcs[] = {&heard};
  printk(log_level::alert, "text", 4, pcs, 1);
  ASSERT_EQ(heard.size(), 1u);
  EXPECT_EQ(heard[0].level, log_level::alert);
  EXPECT_EQ(heard[0].text, "text");
  EXPECT_EQ(heard[0].pcs, std::vector<const void*>{&heard});
}

TEST_F(Printk, StderrGetsWarningsAndWorseWithTheirProgramCounters) {
  testing::internal::CaptureStderr();
  const void* const pcs[] = {reinterpret_cast<const void*>(uintptr_t{0x1234abcd})};
  printk_to_stderr(log_level::notice, "not this", 8, nullptr, 0);
  printk_to_stderr(log_level::warning, "with line end\n", 14, pcs, 1);
  printk_to_stderr(log_level::err, "without", 7, nullptr, 0);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "with line end\n [<000000001234abcd>]\nwithout\n");
}

TEST_F(Printk, ResetStartsAtZero) {
  for (int i = 0; i < 200; ++i) log("old");
  reset_printk();
  log("new");
  char text[16];
  log_level level = log_level::debug;
  EXPECT_EQ(printk_read(0, level, text, sizeof text), 1u);
  EXPECT_STREQ(text, "new");
}

TEST(RateLimit, AllowsABurstAWindowAndTellsWhatItMissed) {
  constexpr uint64_t second = 1'000'000'000;
  rate_limit limit(second, 3);
  uint32_t missed = 99;
  const uint64_t start = 5 * second;
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(limit.allow(start + static_cast<uint64_t>(i), missed));
    EXPECT_EQ(missed, 0u);
  }
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(limit.allow(start + second / 2, missed));
  EXPECT_FALSE(limit.allow(start + second - 2048, missed));
  EXPECT_TRUE(limit.allow(start + second + 2048, missed));
  EXPECT_EQ(missed, 5u);
  EXPECT_TRUE(limit.allow(start + second + 2049, missed));
  EXPECT_EQ(missed, 0u);
}

TEST(RateLimit, AClockReadingFromBeforeTheWindowBelongsToIt) {
  rate_limit limit(1'000'000'000, 1);
  uint32_t missed = 0;
  EXPECT_TRUE(limit.allow(10'000'000'000, missed));
  EXPECT_FALSE(limit.allow(9'999'000'000, missed));
}

TEST(RateLimit, TheFirstSecondAfterBootIsAWindowToo) {
  rate_limit limit(1'000'000'000, 1);
  uint32_t missed = 0;
  EXPECT_TRUE(limit.allow(0, missed));
  EXPECT_FALSE(limit.allow(5000, missed));
  limit.reset();
  EXPECT_TRUE(limit.allow(5000, missed));
  EXPECT_EQ(missed, 0u);
}

TEST(RateLimit, ThreadsTogetherGetNoMoreThanTheBurst) {
  rate_limit limit(3'600'000'000'000, 10);
  atomic<uint32_t> allowed(0);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      uint32_t missed = 0;
      for (int n = 0; n < 1000; ++n)
        if (limit.allow(7'200'000'000'000, missed)) allowed.fetch_add_relaxed(1);
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(allowed.load_relaxed(), 10u);
}

}  // namespace
}  // namespace kmem
