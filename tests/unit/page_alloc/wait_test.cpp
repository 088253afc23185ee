// Waiting for memory: whose turn it is, that turns are passed on at every exit, and what ends a wait.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <set>
#include <thread>

#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::printed;
using testing::small_config;
using testing::test_machine;

constexpr uint64_t ms = 1'000'000;

machine_config waiting_config() {
  machine_config c = small_config(uint64_t{16} << 20);
  c.alloc_wait_ms = 60'000;
  c.sleep_record_ms = 0;
  return c;
}

/// A thread that asks for memory, and how that ended.
class asker {
 public:
  asker(page_allocator& pa, gfp_t gfp, unsigned order = 0, std::function<void()> before = [] {})
      : pa_(pa), order_(order), thread_([this, gfp, before] {
          pthread_setname_np(pthread_self(), "asker");
          thread_id_ = gettid();
          before();
          page* const p = alloc_pages(pa_, gfp | gfp::nowarn, order_t(order_));
          if (p != nullptr) *pa_.address_of(pa_.pfn_of(p)) = 1;
          got_ = p;
          outcome_ = last_wait();
          done_ = true;
        }) {}
  ~asker() {
    if (thread_.joinable()) thread_.join();
    if (got_ != nullptr) free_pages(pa_, got_, order_t(order_));
  }
  asker(const asker&) = delete;
  asker& operator=(const asker&) = delete;

  bool done() const { return done_; }
  page* got() const { return got_; }
  /// The page is the caller's now.
  page* release() { return got_.exchange(nullptr); }
  wait_outcome outcome() const { return outcome_; }
  int thread_id() const { return thread_id_; }
  pthread_t handle() { return thread_.native_handle(); }
  void until_done() const {
    while (!done_) std::this_thread::yield();
  }

 private:
  page_allocator& pa_;
  unsigned order_;
  std::atomic<page*> got_{nullptr};
  std::atomic<wait_outcome> outcome_{wait_outcome::none};
  std::atomic<int> thread_id_{0};
  std::atomic<bool> done_{false};
  std::thread thread_;
};

class wait_queue_of : public ::testing::Test {
 protected:
  explicit wait_queue_of(const machine_config& config = waiting_config()) : m_(config), held_(*m_) {
    std::thread([] {}).join();  // the process is no longer single-threaded
    held_.exhaust(gfp::kernel | gfp::noretry);
  }
  /// Frees pages of NORMAL: what was taken first.
  void give(size_t n = 1) {
    for (; n != 0; --n) {
      page* const p = held_.pages()[next_++];
      ASSERT_EQ(p->zone, raw(zone_idx::normal));
      free_pages(*m_, p, order_t(0));
      held_.pages()[next_ - 1] = held_.pages().back();
      held_.pages().pop_back();
    }
  }
  unsigned length() {
    const lock_guard hold(m_->queue.lock);
    unsigned n = 0;
    for (const waiter* w = m_->queue.first; w != nullptr; w = w->next) ++n;
    return n;
  }
  /// Until so many are in the queue, and none of them, after the first `dogs`, has a turn left to take.
  void until_asleep(unsigned n, unsigned dogs = 0) {
    for (;; std::this_thread::yield()) {
      const lock_guard hold(m_->queue.lock);
      unsigned asleep = 0;
      bool turns = false;
      for (const waiter* w = m_->queue.first; w != nullptr; w = w->next) {
        turns |= asleep >= dogs && w->word.load_relaxed() != 0;
        ++asleep;
      }
      if (asleep == n && !turns && m_->stats.waits.load_relaxed() + dogs >= n) return;
    }
  }
  uint64_t turns() { return m_->stats.wait_turns.load_relaxed(); }
  test_machine m_;
  held_pages held_;
  size_t next_ = 0;
};

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

// ---- records and notices -----------------------------------------------------------------------------------------------------------

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

TEST_F(wait_queue_of, a_record_tells_of_an_object_taken_instead) {
  static constinit std::atomic<bool> there{false};
  there = false;
  const int kind = 0;
  std::thread waits([&] {
    alternative object;
    object.what = &kind;
    object.take = [](alternative&) noexcept { return there.exchange(false); };
    alloc_request request{gfp::kernel | gfp::nowarn, order_t(0)};
    request.instead = &object;
    EXPECT_EQ(alloc_pages_for(*m_, request), nullptr);
    EXPECT_TRUE(object.taken);
  });
  until_asleep(1);
  there = true;
  wake_waiters_for(*m_, &kind);
  waits.join();
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
}  // namespace kmem
