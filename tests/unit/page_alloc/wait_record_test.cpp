// What waits leave behind: records of sleeps, notices, counters; and the pause that leaves kswapd its time.
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <set>
#include <string>
#include <thread>

#include "unit/page_alloc/wait_fixture.hpp"

namespace kmem::testing {
namespace {

TEST_F(wait_queue_of, a_sleep_leaves_a_record_of_who_slept_and_who_woke) {
  pthread_setname_np(pthread_self(), "freer");
  asker one(*m_, gfp::kernel | gfp::comp, 0);
  until_asleep(1);
  give();
  one.until_done();
  pthread_setname_np(pthread_self(), "unit_page_alloc");
  ASSERT_EQ(m_->sleep_sequence.load_relaxed(), 1u);
  sleep_record record;
  ASSERT_TRUE(read_sleep(*m_, 1, record));
  EXPECT_EQ(record.sequence, 1u);
  EXPECT_EQ(record.gfp, gfp::kernel | gfp::comp | gfp::nowarn);
  EXPECT_EQ(record.order, 0u);
  EXPECT_EQ(record.pages, 1u);
  EXPECT_EQ(record.bytes, page_size);
  EXPECT_EQ(record.thread, one.thread_id());
  EXPECT_STREQ(record.comm, "asker");
  EXPECT_EQ(record.waker, gettid());
  EXPECT_STREQ(record.waker_comm, "freer");
  EXPECT_EQ(record.cause, wake_cause::page);
  EXPECT_EQ(record.outcome, wait_outcome::served);
  EXPECT_GE(record.wakes, 1u);
  EXPECT_GT(record.slept_ns, 0u);
  EXPECT_LE(record.time_ns + record.slept_ns, plat::now_ns());
  EXPECT_FALSE(read_sleep(*m_, 2, record));
  EXPECT_FALSE(read_sleep(*m_, 0, record));
}

TEST_F(wait_queue_of, a_turn_that_is_passed_on_names_who_freed) {
  pthread_setname_np(pthread_self(), "freer");
  asker block(*m_, gfp::kernel, 4);
  until_asleep(1);
  asker single(*m_, gfp::kernel);
  until_asleep(2);
  give();
  single.until_done();
  pthread_setname_np(pthread_self(), "unit_page_alloc");
  sleep_record record;
  ASSERT_TRUE(read_sleep(*m_, 1, record));
  EXPECT_EQ(record.thread, single.thread_id());
  EXPECT_EQ(record.waker, gettid()) << "not the one in front of it, who passed the turn on";
  EXPECT_EQ(record.cause, wake_cause::page);
  held_.release();
}

TEST_F(wait_queue_of, a_record_tells_what_the_waker_was_about) {
  uint64_t records = 0;
  const auto cause_of_waking = [&](const std::function<void()>& wake) {
    {
      asker one(*m_, gfp::kernel);
      until_asleep(1);
      wake();
      one.until_done();
      EXPECT_NE(one.got(), nullptr);
      held_.pages().push_back(one.release());  // the next one has to wait as well
    }
    sleep_record record;
    EXPECT_TRUE(read_sleep(*m_, ++records, record));
    EXPECT_EQ(record.waker, gettid());
    return record.cause;
  };
  EXPECT_EQ(cause_of_waking([&] { give(); }), wake_cause::page);
  EXPECT_EQ(cause_of_waking([&] {
              const reclaim_region region(gfp::kernel);
              give();
            }),
            wake_cause::reclaim);
  EXPECT_EQ(cause_of_waking([&] {
              const reclaim_region region(gfp::kernel);
              current().is_kswapd = true;
              give();
              current().is_kswapd = false;
            }),
            wake_cause::kswapd);
}

TEST_F(wait_queue_of, a_record_tells_that_metadata_made_room) {
  for (page* const p : held_.pages()) free_pages(*m_, p, order_t(0));
  held_.pages().clear();
  ASSERT_TRUE(charge_metadata_for(*m_, gfp::kernel, 8));
  held_.exhaust(gfp::kernel | gfp::noretry);
  {
    asker one(*m_, gfp::kernel);
    until_asleep(1);
    uncharge_metadata(*m_, 8);
    one.until_done();
    EXPECT_NE(one.got(), nullptr);
  }
  sleep_record record;
  ASSERT_TRUE(read_sleep(*m_, 1, record));
  EXPECT_EQ(record.cause, wake_cause::room);
  EXPECT_EQ(record.waker, gettid());
}

TEST_F(wait_queue_of, a_record_tells_who_left_the_queue_and_let_the_next_one_look) {
  asker first(*m_, gfp::kernel, 3), second(*m_, gfp::kernel);
  until_asleep(2);
  wake_waiters(*m_, wake_cause::drain);  // nothing is there: whoever is first passes it on with the waker's name
  until_asleep(2);
  give();
  second.until_done();
  sleep_record record;
  ASSERT_TRUE(read_sleep(*m_, 1, record));
  EXPECT_EQ(record.waker, gettid());
  EXPECT_EQ(record.outcome, wait_outcome::served);
  // Which of the two woke it depends on when the first one looked.
  EXPECT_TRUE(record.cause == wake_cause::page || record.cause == wake_cause::drain) << static_cast<int>(record.cause);
  give(20);
  first.until_done();
}

TEST_F(wait_queue_of, a_record_tells_of_an_object_taken_instead) {
  static constinit std::atomic<bool> there{false};
  there = false;
  const int kind = 0;
  asker waits(*m_, [&] {
    alternative object;
    object.what = &kind;
    object.take = [](alternative&) noexcept { return there.exchange(false); };
    alloc_request request{gfp::kernel | gfp::nowarn, order_t(0)};
    request.instead = &object;
    page* const p = alloc_pages_for(*m_, request);
    EXPECT_TRUE(object.taken);
    return p;
  });
  until_asleep(1);
  there = true;
  wake_waiters_for(*m_, &kind);
  waits.until_done();
  EXPECT_EQ(waits.got(), nullptr);
  sleep_record record;
  ASSERT_TRUE(read_sleep(*m_, 1, record));
  EXPECT_EQ(record.waker, gettid());
  EXPECT_EQ(record.cause, wake_cause::object);
}

TEST_F(wait_queue_of, a_record_tells_who_asked_to_stop) {
  wait_conditions conditions;
  {
    asker one(*m_, gfp::kernel, 0, [&] { wait_enter(conditions, 0, false); });
    until_asleep(1);
    wait_stop(conditions);
    one.until_done();
    EXPECT_EQ(one.outcome(), wait_outcome::stopped);
  }
  sleep_record record;
  ASSERT_TRUE(read_sleep(*m_, 1, record));
  EXPECT_EQ(record.waker, gettid());
  EXPECT_EQ(record.cause, wake_cause::stop);
}

TEST(wake_causes, have_names_of_their_own) {
  std::set<std::string> names;
  for (unsigned cause = 0; cause < nr_wake_causes; ++cause) names.insert(wake_cause_name(static_cast<wake_cause>(cause)));
  EXPECT_EQ(names.size(), nr_wake_causes);
  EXPECT_STREQ(wake_cause_name(wake_cause::give_back), "give_back");
  EXPECT_STREQ(wake_cause_name(wake_cause::stop), "stop");
}

TEST(sleep_records, are_kept_from_the_parameter_on) {
  machine_config config = waiting_config();
  config.sleep_record_ms = 60'000;
  config.alloc_wait_ms = 1;
  test_machine m(config);
  held_pages held(*m);
  held.exhaust(gfp::kernel | gfp::noretry);
  EXPECT_EQ(alloc_pages(*m, gfp::kernel | gfp::nowarn, order_t(0)), nullptr);
  EXPECT_EQ(m->sleep_sequence.load_relaxed(), 0u);
  EXPECT_EQ(m->stats.long_sleeps.load_relaxed(), 0u);
}

TEST_F(wait_queue_of, that_every_thread_waits_is_reported) {
  printed out;
  wait_conditions conditions, others;
  {
    asker other(*m_, gfp::kernel, 0, [&] { wait_enter(others, plat::now_ns() + 1'500 * ms, false); });
    other.until_done();
    EXPECT_EQ(m_->stats.deadlocks.load_relaxed(), 0u) << "one thread of two did not wait";
  }
  asker other(*m_, gfp::kernel);
  until_asleep(1);
  wait_enter(conditions, plat::now_ns() + 3'500 * ms, false);
  EXPECT_EQ(alloc_pages(*m_, gfp::kernel | gfp::nowarn, order_t(0)), nullptr);
  EXPECT_EQ(last_wait(), wait_outcome::timed_out);
  wait_leave(conditions);
  const bool alone = plat::nr_threads() == 2;  // a sanitizer may have a thread of its own, which does not wait
  EXPECT_EQ(m_->stats.deadlocks.load_relaxed() != 0, alone);
  EXPECT_EQ(out.has("memory deadlock: all 2 threads of the process have waited for memory for over a second"), alone) << out.text();
  EXPECT_EQ(out.text().find("memory deadlock"), out.text().rfind("memory deadlock")) << "once a minute is enough";
  give();
}

// ---- kswapd ---------------------------------------------------------------------------------------------------------------------------

TEST(throttling, gives_kswapd_time_when_half_of_min_is_gone) {
  test_machine m(small_config(uint64_t{16} << 20));
  static std::atomic<bool> works;
  reclaim_ops ops;
  ops.wake_kswapd = [](void*, gfp_t, unsigned, zone_idx) noexcept { return works.load(); };
  ASSERT_EQ(register_reclaim_ops(*m, ops), err::ok);
  std::thread([] {}).join();
  const auto throttled = [&] {
    const uint64_t before = m->stats.pgscan_direct_throttle.load_relaxed();
    EXPECT_EQ(alloc_pages(*m, gfp::kernel | gfp::nowarn, order_t(0)), nullptr);
    return m->stats.pgscan_direct_throttle.load_relaxed() - before;
  };
  held_pages held(*m), deep(*m);
  works = true;
  held.exhaust(gfp::kernel | gfp::noretry);
  EXPECT_EQ(throttled(), 0u) << "all of min is there";
  deep.exhaust(gfp::atomic);
  works = false;
  EXPECT_EQ(throttled(), 0u) << "nobody works for it";
  works = true;
  EXPECT_EQ(throttled(), 1u);
  wait_conditions conditions;
  wait_enter(conditions, 1, false);
  EXPECT_EQ(throttled(), 1u) << "but not for long: its time is up";
  wait_leave(conditions);
  std::atomic<bool> done{false};
  std::thread kswapd([&] {
    while (!done) {
      end_throttling(*m);
      std::this_thread::yield();
    }
  });
  EXPECT_EQ(throttled(), 1u);
  done = true;
  kswapd.join();
}

TEST(counters, say_which_zone_stalled) {
  test_machine m(small_config(uint64_t{16} << 20));
  held_pages held(*m);
  held.exhaust(gfp::kernel | gfp::noretry);
  const auto stalls = [&](zone_idx idx) { return m->stats.allocstall[raw(idx)].load_relaxed(); };
  const uint64_t dma = stalls(zone_idx::dma), normal = stalls(zone_idx::normal);
  held.exhaust(gfp::kernel | gfp::noretry | gfp::dma);
  EXPECT_GT(stalls(zone_idx::dma), dma);
  EXPECT_EQ(stalls(zone_idx::normal), normal);
  page_alloc_totals totals;
  page_alloc_read_totals(*m, totals);
  EXPECT_EQ(totals.allocstall, stalls(zone_idx::dma) + stalls(zone_idx::normal));
}

}  // namespace
}  // namespace kmem::testing
