// Waiting for memory: whose turn it is, that turns are passed on at every exit, and what ends a wait.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "unit/page_alloc/wait_fixture.hpp"

namespace kmem::testing {
namespace {

TEST_F(wait_queue_of, turns_go_in_order_of_arrival) {
  std::vector<std::unique_ptr<asker>> askers;
  for (unsigned i = 0; i < 5; ++i) {
    askers.push_back(std::make_unique<asker>(*m_, gfp::kernel));
    until_asleep(i + 1);
  }
  for (unsigned i = 0; i < 5; ++i) {
    give();
    askers[i]->until_done();
    EXPECT_NE(askers[i]->got(), nullptr);
    EXPECT_EQ(askers[i]->outcome(), wait_outcome::served);
    until_asleep(4 - i);
    for (unsigned later = i + 1; later < 5; ++later) EXPECT_FALSE(askers[later]->done()) << "only one page was freed";
  }
}

TEST_F(wait_queue_of, one_free_wakes_the_first_and_nobody_else_of_the_same_needs) {
  std::vector<std::unique_ptr<asker>> askers;
  for (unsigned i = 0; i < 5; ++i) {
    askers.push_back(std::make_unique<asker>(*m_, gfp::kernel));
    until_asleep(i + 1);
  }
  const uint64_t before = turns();
  give();
  askers[0]->until_done();
  until_asleep(4);
  EXPECT_EQ(turns(), before + 2) << "the first, and after its success the next one, who finds nothing";
  give(4);
}

TEST_F(wait_queue_of, who_needs_less_is_served_though_the_first_cannot_be) {
  asker block(*m_, gfp::kernel, 4);
  until_asleep(1);
  asker other_block(*m_, gfp::kernel, 4);
  until_asleep(2);
  asker single(*m_, gfp::kernel);
  until_asleep(3);
  give();
  single.until_done();
  EXPECT_NE(single.got(), nullptr);
  EXPECT_FALSE(block.done());
  held_.release();
  block.until_done();
  other_block.until_done();
  EXPECT_NE(block.got(), nullptr);
  EXPECT_NE(other_block.got(), nullptr);
}

TEST_F(wait_queue_of, what_serves_one_request_serves_who_asks_for_no_more) {
  // A request for DMA does not hold up one for NORMAL, but the other way round it might take what the first one waits for.
  held_pages low(*m_);
  low.exhaust(gfp::kernel | gfp::noretry | gfp::dma);
  asker dma(*m_, gfp::kernel | gfp::dma);
  until_asleep(1);
  asker normal(*m_, gfp::kernel);
  until_asleep(2);
  give();
  normal.until_done();
  EXPECT_NE(normal.got(), nullptr) << "the first one cannot use the page";
  EXPECT_FALSE(dma.done());
  low.release();
  dma.until_done();
  EXPECT_NE(dma.got(), nullptr);
}

/// A waiter that is in the queue and never runs.
class sleeping_dog {
 public:
  sleeping_dog(page_allocator& pa, uint64_t n) : pa_(pa) {
    me_.needs.n = n;
    me_.needs.order = order_of(n);
    for (unsigned i = 0; i < nr_zones; ++i) {
      me_.needs.zones[i] = i <= raw(zone_idx::normal);
      me_.needs.floors[i] = pa.zones[i].watermarks[0];
    }
    const lock_guard hold(pa.queue.lock);
    EXPECT_EQ(pa.queue.first, nullptr);
    pa.queue.first = pa.queue.last = &me_;
    pa.waiters.fetch_add_relaxed(1);
  }
  ~sleeping_dog() { leave(); }
  sleeping_dog(const sleeping_dog&) = delete;
  sleeping_dog& operator=(const sleeping_dog&) = delete;
  bool has_turn() { return me_.word.load_relaxed() != 0; }
  void leave() {
    if (gone_) return;
    gone_ = true;
    {
      const lock_guard hold(pa_.queue.lock);
      pa_.queue.first = me_.next;
      (me_.next != nullptr ? me_.next->prev : pa_.queue.last) = nullptr;
      pa_.waiters.fetch_sub_relaxed(1);
    }
    wake_waiters(pa_);
  }

 private:
  page_allocator& pa_;
  waiter me_;
  bool gone_ = false;
};

TEST_F(wait_queue_of, who_arrives_does_not_overtake_an_equal) {
  sleeping_dog first(*m_, 1);
  give(3);
  EXPECT_TRUE(first.has_turn());
  asker second(*m_, gfp::kernel);
  until_asleep(2, 1);
  EXPECT_FALSE(second.done()) << "pages are free, but another one waits for them";
  asker block(*m_, gfp::kernel, 1);
  until_asleep(3, 1);
  // Those who may not wait, and those who have more rights, do not stand in the queue.
  for (const gfp_t mask : {gfp::atomic, gfp::nowait, gfp::kernel | gfp::noretry, gfp::kernel | gfp::high, gfp::kernel | gfp::memalloc}) {
    page* const p = alloc_pages(*m_, mask | gfp::nowarn, order_t(0));
    ASSERT_NE(p, nullptr) << static_cast<uint32_t>(mask);
    free_pages(*m_, p, order_t(0));
  }
  first.leave();
  second.until_done();
  EXPECT_NE(second.got(), nullptr);
  give(60);
  block.until_done();
  EXPECT_NE(block.got(), nullptr);
}

TEST_F(wait_queue_of, who_arrives_may_pass_somebody_who_needs_more) {
  const sleeping_dog first(*m_, 8);
  give();
  asker single(*m_, gfp::kernel);
  single.until_done();
  EXPECT_NE(single.got(), nullptr);
  EXPECT_EQ(single.outcome(), wait_outcome::none);
}

TEST_F(wait_queue_of, reclaimers_stand_first) {
  asker ordinary(*m_, gfp::kernel);
  until_asleep(1);
  asker block(*m_, gfp::kernel, 3);
  until_asleep(2);
  held_pages last(*m_);
  last.exhaust(gfp::nowait | gfp::memalloc);
  std::vector<std::unique_ptr<asker>> reclaimers;
  for (unsigned i = 0; i < 2; ++i) {
    reclaimers.push_back(std::make_unique<asker>(*m_, gfp::kernel | gfp::memalloc | gfp::nofail));
    until_asleep(3 + i);
  }
  {
    const lock_guard hold(m_->queue.lock);
    const waiter* w = m_->queue.first;
    EXPECT_TRUE(w->front);
    EXPECT_TRUE(w->next->front);
    EXPECT_FALSE(w->next->next->front);
  }
  free_pages(*m_, last.pages().back(), order_t(0));
  last.pages().pop_back();
  reclaimers[0]->until_done();
  EXPECT_NE(reclaimers[0]->got(), nullptr);
  until_asleep(3);
  EXPECT_FALSE(reclaimers[1]->done());
  last.release();
  held_.release();
  for (const asker* each : {reclaimers[1].get(), &ordinary, &block}) {
    each->until_done();
    EXPECT_NE(each->got(), nullptr);
  }
}

TEST_F(wait_queue_of, who_is_inside_a_callback_holds_nobody_up) {
  struct state {
    std::atomic<int> blocks{0};
    std::atomic<bool> inside{false};
  } callback;
  reclaim_ops ops;
  ops.context = &callback;
  ops.reclaim = [](void* context, gfp_t, uint64_t) noexcept -> uint64_t {
    auto& self = *static_cast<state*>(context);
    if (self.blocks != gettid()) return 0;
    self.inside = true;
    while (self.blocks != 0) std::this_thread::yield();
    self.inside = false;
    return 0;
  };
  ASSERT_EQ(register_reclaim_ops(*m_, ops), err::ok);
  asker first(*m_, gfp::kernel);
  until_asleep(1);
  asker second(*m_, gfp::kernel);
  until_asleep(2);
  callback.blocks = first.thread_id();
  wake_waiters(*m_);  // in vain: it asks the callback then
  while (!callback.inside) std::this_thread::yield();
  give();
  second.until_done();
  EXPECT_NE(second.got(), nullptr) << "the turn goes past the one inside";
  give();
  asker third(*m_, gfp::kernel);
  third.until_done();
  EXPECT_EQ(third.outcome(), wait_outcome::none) << "nor does it hold up who arrives";
  EXPECT_FALSE(first.done());
  callback.blocks = 0;
  until_asleep(1);
  give();
  first.until_done();
  EXPECT_NE(first.got(), nullptr);
}

// ---- every exit passes on ---------------------------------------------------------------------------------------------------------

class exits : public wait_queue_of {
 protected:
  /// Two equals wait, `way` ends the first one's wait, and the second must get a turn for it.
  void leave_by(const std::function<void(asker&)>& way, const std::function<void()>& before, wait_outcome expected) {
    asker first(*m_, gfp::kernel, 0, before);
    until_asleep(1);
    asker second(*m_, gfp::kernel);
    until_asleep(2);
    const uint64_t before_turns = turns();
    way(first);
    first.until_done();
    EXPECT_EQ(first.outcome(), expected);
    while (turns() == before_turns) std::this_thread::yield();
    until_asleep(1);
    give();
    second.until_done();
    EXPECT_NE(second.got(), nullptr);
  }
  wait_conditions conditions_;
};

TEST_F(exits, by_deadline) {
  leave_by([](asker&) {}, [&] { wait_enter(conditions_, plat::now_ns() + 100 * ms, false); }, wait_outcome::timed_out);
}

TEST_F(exits, by_a_stop) {
  const uint64_t before = turns();
  leave_by([&](asker&) { wait_stop(conditions_); }, [&] { wait_enter(conditions_, 0, false); }, wait_outcome::stopped);
  EXPECT_GE(turns(), before + 3) << "the stop, the turn passed on, the free";
}

std::atomic<unsigned> handled{0};

class signal_handler {
 public:
  explicit signal_handler(int flags) {
    struct sigaction action {};
    action.sa_handler = [](int) { handled.fetch_add(1); };
    action.sa_flags = flags;
    sigaction(SIGUSR1, &action, &before_);
    handled = 0;
  }
  ~signal_handler() { sigaction(SIGUSR1, &before_, nullptr); }
  signal_handler(const signal_handler&) = delete;
  signal_handler& operator=(const signal_handler&) = delete;
  /// Sends one, and waits until it was handled or the thread is done.
  static void send(asker& to) {
    const unsigned before = handled;
    pthread_kill(to.handle(), SIGUSR1);
    while (!to.done() && handled == before) std::this_thread::yield();
  }

 private:
  struct sigaction before_ {};
};

TEST_F(exits, by_a_signal) {
  const signal_handler handler(0);
  leave_by(
      [](asker& first) {
        while (!first.done()) signal_handler::send(first);
      },
      [&] { wait_enter(conditions_, 0, true); }, wait_outcome::interrupted);
}

TEST_F(exits, by_success) {
  asker first(*m_, gfp::kernel);
  until_asleep(1);
  asker second(*m_, gfp::kernel);
  until_asleep(2);
  {
    // Two pages come free while the first one cannot look.
    const lock_guard hold(m_->queue.lock);
    for (int i = 0; i < 2; ++i) {
      const nest_guard nested;  // as in a handler: it leaves a note instead of waiting for the lock
      const nest_guard inner;
      give();
    }
    EXPECT_EQ(m_->queue.missed.load_relaxed(), 1u);
  }
  EXPECT_FALSE(goes_behind(*m_, make_request(*m_, gfp::kernel | gfp::noretry, 1, request_kind::block)));
  request r = make_request(*m_, gfp::kernel, 1, request_kind::block);
  goes_behind(*m_, r);  // whoever holds the lock next finds the note
  first.until_done();
  second.until_done();
  EXPECT_NE(first.got(), nullptr);
  EXPECT_NE(second.got(), nullptr) << "one wake-up for two pages: the first one passes it on";
}

TEST_F(exits, by_success_of_one_between_others_that_cannot_be_served) {
  // A block, a page, a block, a page: two pages come free at once, so the turn must get past both blocks.
  std::vector<std::unique_ptr<asker>> askers;
  for (unsigned i = 0; i < 4; ++i) {
    askers.push_back(std::make_unique<asker>(*m_, gfp::kernel, i % 2 == 0 ? 4u : 0u));
    until_asleep(i + 1);
  }
  {
    const lock_guard hold(m_->queue.lock);
    const nest_guard nested;
    const nest_guard inner;
    give(2);
  }
  request r = make_request(*m_, gfp::kernel, 1, request_kind::block);
  goes_behind(*m_, r);
  askers[1]->until_done();
  askers[3]->until_done();
  EXPECT_NE(askers[1]->got(), nullptr);
  EXPECT_NE(askers[3]->got(), nullptr);
  sleep_record record;
  ASSERT_TRUE(read_sleep(*m_, 2, record));
  EXPECT_EQ(record.thread, askers[3]->thread_id());
  EXPECT_EQ(record.waker, gettid()) << "it was given the turn that the free began; it did not just look after a second";
  held_.release();
}

// ---- what ends a wait ---------------------------------------------------------------------------------------------------------------

TEST_F(wait_queue_of, signals_do_not_end_a_wait_that_is_not_interruptible) {
  const signal_handler handler(0);
  asker one(*m_, gfp::kernel);
  until_asleep(1);
  for (int i = 0; i < 20; ++i) signal_handler::send(one);
  EXPECT_FALSE(one.done());
  give();
  one.until_done();
  EXPECT_EQ(one.outcome(), wait_outcome::served);
}

TEST_F(wait_queue_of, an_interrupt_ends_later_waits_of_the_scope_too) {
  const signal_handler handler(0);
  wait_conditions conditions, inner;
  wait_outcome again = wait_outcome::none, outside = wait_outcome::none;
  uint64_t sleeps = 0;
  asker one(*m_, gfp::kernel, 0, [&] {
    wait_enter(conditions, 0, true);
    page* const p = alloc_pages(*m_, gfp::kernel | gfp::nowarn, order_t(0));
    EXPECT_EQ(p, nullptr);
    EXPECT_EQ(last_wait(), wait_outcome::interrupted);
    sleeps = m_->stats.waits.load_relaxed();
    EXPECT_EQ(alloc_pages(*m_, gfp::kernel | gfp::nowarn, order_t(0)), nullptr);
    again = last_wait();
    EXPECT_EQ(m_->stats.waits.load_relaxed(), sleeps) << "it did not sleep";
    wait_leave(conditions);
    wait_enter(inner, 1, false);
    EXPECT_EQ(alloc_pages(*m_, gfp::kernel | gfp::nowarn, order_t(0)), nullptr);
    outside = last_wait();
  });
  while (!one.done()) signal_handler::send(one);
  EXPECT_EQ(again, wait_outcome::interrupted);
  EXPECT_EQ(outside, wait_outcome::timed_out) << "another scope, another end";
}

TEST_F(wait_queue_of, what_has_ended_already_does_not_sleep) {
  wait_conditions conditions;
  wait_enter(conditions, 1, false);
  EXPECT_EQ(last_wait(), wait_outcome::none);
  EXPECT_EQ(alloc_pages(*m_, gfp::kernel | gfp::nowarn, order_t(0)), nullptr);
  EXPECT_EQ(last_wait(), wait_outcome::timed_out);
  wait_leave(conditions);
  wait_conditions stopped;
  wait_stop(stopped);
  wait_enter(stopped, 0, false);
  EXPECT_EQ(alloc_pages(*m_, gfp::kernel | gfp::nowarn, order_t(0)), nullptr);
  EXPECT_EQ(last_wait(), wait_outcome::stopped);
  EXPECT_EQ(alloc_pages(*m_, gfp::kernel | gfp::noretry | gfp::nowarn, order_t(0)), nullptr);
  EXPECT_EQ(last_wait(), wait_outcome::exhausted) << "it would not have waited anyway";
  EXPECT_EQ(alloc_pages(*m_, gfp::kernel | gfp::nowarn, order_t(m_->max_order)), nullptr);
  EXPECT_EQ(last_wait(), wait_outcome::exhausted);
  wait_leave(stopped);
  EXPECT_EQ(m_->stats.waits.load_relaxed(), 0u);
  EXPECT_EQ(current().conditions, nullptr);
}

TEST_F(wait_queue_of, enclosing_scopes_count) {
  wait_conditions outer, inner;
  asker by_outer(*m_, gfp::kernel, 0, [&] {
    wait_enter(outer, plat::now_ns() + 50 * ms, false);
    wait_enter(inner, plat::now_ns() + 60'000 * ms, false);
  });
  by_outer.until_done();
  EXPECT_EQ(by_outer.outcome(), wait_outcome::timed_out);
  wait_conditions outer_stop, inner_deadline;
  asker stopped(*m_, gfp::kernel, 0, [&] {
    wait_enter(outer_stop, 0, false);
    wait_enter(inner_deadline, plat::now_ns() + 60'000 * ms, false);
  });
  until_asleep(1);
  wait_stop(outer_stop);
  stopped.until_done();
  EXPECT_EQ(stopped.outcome(), wait_outcome::stopped);
}

TEST_F(wait_queue_of, what_may_not_fail_waits_whatever_the_scope) {
  wait_conditions conditions;
  held_pages last(*m_);
  last.exhaust(gfp::atomic);
  asker one(*m_, gfp::kernel | gfp::nofail, 0, [&] {
    wait_enter(conditions, 1, true);
    wait_stop(conditions);
  });
  until_asleep(1);
  EXPECT_FALSE(one.done());
  free_pages(*m_, last.pages().back(), order_t(0));
  last.pages().pop_back();
  one.until_done();
  EXPECT_NE(one.got(), nullptr);
}

using wait_death = wait_queue_of;
TEST_F(wait_death, scopes_are_closed_in_the_opposite_order) {
  wait_conditions outer, inner;
  wait_enter(outer, 0, false);
  wait_enter(inner, 0, false);
  EXPECT_DEATH(wait_leave(outer), "a wait scope was closed that is not the thread's innermost one");
  wait_leave(inner);
  wait_leave(outer);
}

// ---- more than there is ---------------------------------------------------------------------------------------------------------------

TEST_F(wait_queue_of, more_than_there_can_ever_be_is_refused_at_once) {
  const zone& normal = m_.normal();
  const uint64_t most = normal.managed_most - normal.watermarks[0];
  const uint64_t stalls = m_->stats.allocstall[raw(zone_idx::normal)].load_relaxed();
  printed out;
  EXPECT_EQ(alloc_run(*m_, gfp::kernel, nr_pages_t(most + 1)), nullptr);
  EXPECT_TRUE(out.has(("a request for " + std::to_string(most + 1) + " pages is refused at once").c_str())) << out.text();
  EXPECT_TRUE(out.has("raise mem="));
  alloc_failure f;
  ASSERT_TRUE(read_failure(*m_, m_->failure_sequence.load_relaxed(), f));
  EXPECT_EQ(f.reached, chain_step::fail);
  EXPECT_EQ(m_->stats.waits.load_relaxed(), 0u);
  EXPECT_EQ(m_->stats.allocstall[raw(zone_idx::normal)].load_relaxed(), stalls) << "it did not even reclaim";
  EXPECT_EQ(charge_pages(*m_, gfp::kernel | gfp::nowarn, nr_pages_t(most + 1)), -1);
  // As much as there could be is waited for.
  wait_conditions conditions;
  wait_enter(conditions, plat::now_ns() + 30 * ms, false);
  EXPECT_EQ(charge_pages(*m_, gfp::kernel | gfp::nowarn, nr_pages_t(most)), -1);
  EXPECT_EQ(last_wait(), wait_outcome::timed_out);
  wait_leave(conditions);
}

}  // namespace
}  // namespace kmem::testing
