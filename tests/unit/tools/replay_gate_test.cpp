// The order of a replay: nobody runs far ahead, at sample points everybody waits, and a stop ends every wait.

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "tools/kmem/replay/gate.hpp"

namespace kmem::tool::replay {
namespace {

using turn = gate::turn;

TEST(replay_gate, a_thread_may_be_a_window_ahead_of_the_slowest) {
  const std::atomic<bool> stop{false};
  gate order(2, 10, {}, stop);
  EXPECT_EQ(order.enter(1, 0), turn::go);
  EXPECT_EQ(order.enter(0, 1), turn::go);
  EXPECT_EQ(order.enter(0, 9), turn::go);
  EXPECT_EQ(order.done(), 0u);
  std::atomic<bool> entered{false};
  std::thread ahead([&] {
    EXPECT_EQ(order.enter(0, 10), turn::go);
    entered = true;
  });
  for (int times = 0; times < 1000; times++) std::this_thread::yield();
  EXPECT_FALSE(entered);
  EXPECT_EQ(order.enter(1, 2), turn::go);
  ahead.join();
  EXPECT_EQ(order.done(), 2u);
  order.leave(1);
  EXPECT_EQ(order.done(), 10u);
  EXPECT_EQ(order.enter(0, 1'000'000), turn::go) << "who has left holds nobody";
}

TEST(replay_gate, the_slowest_never_waits) {
  const std::atomic<bool> stop{false};
  gate order(1, 1, {}, stop);
  for (const trace::request_index index : {0u, 1u, 100u, 4'000'000'000u}) EXPECT_EQ(order.enter(0, index), turn::go);
}

TEST(replay_gate, a_sample_is_taken_by_the_owner_of_the_request_when_all_before_it_is_done) {
  const std::atomic<bool> stop{false};
  const std::vector<trace::request_index> points{5, 8};
  gate order(2, 100, points, stop);
  EXPECT_EQ(order.enter(0, 4), turn::go);
  EXPECT_EQ(order.enter(1, 3), turn::go);
  std::atomic<int> step{0};
  std::thread other([&] {
    EXPECT_EQ(order.enter(1, 6), turn::go);  // behind the sample: waits for it
    EXPECT_EQ(step, 1);
    order.leave(1);
  });
  EXPECT_EQ(order.enter(0, 5), turn::sample);
  step = 1;
  order.sampled();
  EXPECT_EQ(order.enter(0, 5), turn::go);
  other.join();
  EXPECT_EQ(order.enter(0, 8), turn::sample);
}

TEST(replay_gate, a_stop_ends_every_wait) {
  std::atomic<bool> stop{false};
  const std::vector<trace::request_index> points{50};
  gate order(2, 10, points, stop);
  EXPECT_EQ(order.enter(1, 0), turn::go);
  std::thread waiting([&] { EXPECT_EQ(order.enter(0, 60), turn::stop); });
  stop = true;
  waiting.join();
  EXPECT_EQ(order.enter(1, 1), turn::stop);
  EXPECT_EQ(order.done(), 1u);
}

// All requests of four threads: at each sample point exactly those before it have run.
TEST(replay_gate, what_has_run_at_a_sample_point_is_exact) {
  constexpr trace::request_index count = 4000;
  constexpr unsigned threads = 4;
  const std::atomic<bool> stop{false};
  std::vector<trace::request_index> points;
  for (trace::request_index index = 0; index < count; index += 97) points.push_back(index);
  gate order(threads, 64, points, stop);
  std::vector<std::atomic<bool>> ran(count);
  std::atomic<trace::request_index> total{0};
  std::atomic<unsigned> samples{0};
  std::vector<std::thread> running;
  for (unsigned thread = 0; thread < threads; thread++) {
    running.emplace_back([&, thread] {
      for (trace::request_index index = 0; index < count; index++) {
        if ((index / 3) % threads != thread) continue;
        while (order.enter(thread, index) == turn::sample) {
          EXPECT_EQ(total, index);
          EXPECT_TRUE(std::all_of(ran.begin(), ran.begin() + index, [](const auto& each) { return each.load(); }));
          samples++;
          order.sampled();
        }
        EXPECT_LE(index, order.done() + 64);
        ran[index] = true;
        total++;
      }
      order.leave(thread);
    });
  }
  for (std::thread& each : running) each.join();
  EXPECT_EQ(total, count);
  EXPECT_EQ(samples, points.size());
}

}  // namespace
}  // namespace kmem::tool::replay
