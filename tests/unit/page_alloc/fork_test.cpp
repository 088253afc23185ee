// fork: the child has a machine that works, whatever the parent's threads were doing.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "support/thread_sanitizer.hpp"
#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::test_machine;

pid_t fork_machine(page_allocator& pa) {
  page_alloc_fork_prepare(pa);
  const pid_t child = fork();
  if (child == 0)
    page_alloc_fork_child(pa);
  else
    page_alloc_fork_parent(pa);
  return child;
}

/// What the child does: every kind of operation. Return: its exit status.
int use_all_of_it(page_allocator& pa) {
  for (unsigned order = 0; order < 11; ++order) {
    page* const p = alloc_pages(pa, gfp::kernel | gfp::zero, order_t(order));
    if (p == nullptr) return 1;
    free_pages(pa, p, order_t(order));
  }
  drain_cpu_pages(pa, true);
  give_back(pa, ~uint64_t{0}, true);
  return page_alloc_is_valid(pa) == nullptr ? 0 : 2;
}

TEST(page_alloc_fork, while_other_threads_allocate) {
  test_machine m;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&, t] {
      while (!stop) {
        page* const p = alloc_pages(*m, gfp::kernel, order_t(static_cast<unsigned>(t) * 4));
        if (p != nullptr) put_page(*m, p);
      }
    });
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork_machine(*m);
    ASSERT_GE(child, 0);
    if (child == 0) {
      // What the other threads had out is lost to this process; the structures are whole.
      _exit(use_all_of_it(*m));
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  stop = true;
  for (std::thread& t : threads) t.join();
}

TEST(page_alloc_fork, those_who_waited_are_not_in_the_child) {
  testing::test_machine m([] {
    machine_config config = testing::small_config(uint64_t{16} << 20);
    config.alloc_wait_ms = 60'000;
    return config;
  }());
  testing::held_pages held(*m);
  std::thread([] {}).join();
  held.exhaust(gfp::kernel | gfp::noretry);
  page* got = nullptr;
  std::thread sleeper([&] { got = alloc_pages(*m, gfp::kernel | gfp::nowarn, order_t(0)); });
  while (m->stats.waits.load_relaxed() == 0) std::this_thread::yield();
  const pid_t child = fork_machine(*m);
  ASSERT_GE(child, 0);
  if (child == 0) {
    const lock_guard hold(m->queue.lock);
    _exit(m->waiters.load_relaxed() == 0 && m->queue.first == nullptr && m->queue.last == nullptr ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(m->waiters.load_relaxed(), 1u) << "here it waits on";
  free_pages(*m, held.pages().back(), order_t(0));
  held.pages().pop_back();
  sleeper.join();
  ASSERT_NE(got, nullptr);
  held.pages().push_back(got);
}

std::atomic<page_allocator*> handler_machine{nullptr};
std::atomic<page*> handler_page{nullptr};
std::atomic<int> handler_child{-1};

TEST(page_alloc_fork, a_handler_that_forks_while_its_thread_waits_leaves_a_child_that_waits_on) {
  testing::test_machine m([] {
    machine_config config = testing::small_config(uint64_t{16} << 20);
    config.alloc_wait_ms = 60'000;
    return config;
  }());
  testing::held_pages held(*m);
  std::thread([] {}).join();
  held.exhaust(gfp::kernel | gfp::noretry);
  handler_machine = &*m;
  handler_page = held.pages().back();
  handler_child = -1;
  struct sigaction action {}, before {};
  action.sa_handler = [](int) {
    const pid_t child = fork_machine(*handler_machine.load());
    // The child's queue is empty: nobody is woken, but the thread looks when it goes back to sleep.
    if (child == 0) free_pages(*handler_machine.load(), handler_page, order_t(0));
    handler_child = child;
  };
  sigaction(SIGUSR1, &action, &before);
  std::atomic<page*> got{nullptr};
  std::thread sleeper([&] {
    page* const p = alloc_pages(*m, gfp::kernel | gfp::nowarn, order_t(0));
    if (handler_child == 0) {
      const bool alone = m->waiters.load_relaxed() == 0 && m->queue.first == nullptr;
      _exit(p == handler_page && alone && page_alloc_is_valid(*m) == nullptr ? 0 : 1);
    }
    got = p;
  });
  while (m->stats.waits.load_relaxed() == 0) std::this_thread::yield();
  pthread_kill(sleeper.native_handle(), SIGUSR1);
  while (handler_child < 0) std::this_thread::yield();
  int status = 0;
  ASSERT_EQ(waitpid(handler_child, &status, 0), handler_child.load());
  EXPECT_EQ(status, 0);
  sigaction(SIGUSR1, &before, nullptr);
  free_pages(*m, handler_page, order_t(0));
  sleeper.join();
  ASSERT_NE(got.load(), nullptr);
  held.pages().back() = got;
}

TEST(page_alloc_fork, waits_for_no_page_that_a_thread_of_the_parent_was_giving_back) {
  test_machine m;
  std::atomic<bool> stop{false};
  std::thread giver([&] {
    while (!stop) {
      page* const p = alloc_pages(*m, gfp::kernel | gfp::zero, order_t(9));
      if (p != nullptr) free_pages(*m, p, order_t(9));
      give_back(*m, ~uint64_t{0}, true);
    }
  });
  int forks = 0;
  for (int i = 0; i < 1000000 && forks < 10; ++i) {
    page_alloc_fork_prepare(*m);
    if (m.normal().in_transit.load_relaxed() == 0) {  // cannot change now
      page_alloc_fork_parent(*m);
      std::this_thread::yield();
      continue;
    }
    ++forks;
    const pid_t child = fork();
    if (child == 0) {
      page_alloc_fork_child(*m);
      // Nobody is left who could bring them back: a count that stayed would hold up every allocation that may wait.
      const bool fine = m.normal().in_transit.load_relaxed() == 0 && page_alloc_is_valid(*m) == nullptr;
      _exit(fine ? use_all_of_it(*m) : 3);
    }
    page_alloc_fork_parent(*m);
    ASSERT_GE(child, 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(forks, 10);
  stop = true;
  giver.join();
}

TEST(page_alloc_fork, in_a_handler_that_interrupted_the_allocator) {
  test_machine m;
  const nest_guard below;
  zone& z = m.normal();
  ASSERT_TRUE(z.lock.try_lock());
  const pid_t child = fork_machine(*m);
  ASSERT_GE(child, 0);
  // Both go on in the frame below, which releases its lock.
  EXPECT_TRUE(z.lock.is_locked());
  z.lock.unlock();
  page* const p = alloc_pages(*m, gfp::kernel, order_t(4));
  if (child == 0) _exit(p != nullptr && page_alloc_is_valid(*m) == nullptr ? 0 : 1);
  ASSERT_NE(p, nullptr);
  free_pages(*m, p, order_t(4));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// ---- at every instruction ---------------------------------------------------------------------------------------------------------------

TEST(page_alloc_fork, what_is_claimed_for_the_forking_thread_is_not_taken_in_the_child) {
  test_machine m;
  zone& z = m.normal();
  const uint64_t taken = z.taken.load_relaxed();
  const auto commit = [&](bool more) {
    const nest_guard guard;
    const lock_guard hold(z.lock);
    z.committed.store_relaxed(more ? z.committed.load_relaxed() + 7 : z.committed.load_relaxed() - 7);
    more ? add_claimed(z, 7) : drop_claimed(z, 7);
  };
  commit(true);
  const pid_t child = fork_machine(*m);
  ASSERT_GE(child, 0);
  const bool right = z.taken.load_relaxed() == taken && page_alloc_is_valid(*m) == nullptr;
  commit(false);
  if (child == 0) _exit(right && page_alloc_is_valid(*m) == nullptr ? 0 : 1);
  EXPECT_TRUE(right);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

#if defined(__x86_64__) && !KMEM_UNDER_TSAN

page_allocator* stepped = nullptr;
uint64_t steps = 0;
const char* wrong_at_a_step = nullptr;

/// What was right when it was looked at last, so that not every step has to walk the stacks.
struct counted_stack {
  uint64_t head = ~uint64_t{0};
  uint32_t nr_pages = 0;
};
counted_stack counted_last[nr_zones + 2];

bool is_counted(page_allocator& pa, const page_stack& stack, unsigned number) {
  const counted_stack now{stack.head.load_relaxed(), stack.nr_pages.load_relaxed()};
  if (now.head == counted_last[number].head && now.nr_pages == counted_last[number].nr_pages) return true;
  counted_last[number] = now;
  uint32_t n = 0;
  for (pfn_t pfn(static_cast<uint32_t>(stack.head.load_relaxed())); !pfn.is_none(); pfn = pfn_t(pa.page_of(pfn).refcount.load_relaxed()))
    ++n;
  return n == stack.nr_pages.load_relaxed();
}

/// Would the child of a fork that begins here count what its parent counts?
void on_step(int) {
  ++steps;
  if (current().depth != 0 || wrong_at_a_step != nullptr) return;
  if (!is_counted(*stepped, stepped->deferred, nr_zones)) wrong_at_a_step = "the deferred pages";
  if (!is_counted(*stepped, stepped->memalloc_pool, nr_zones + 1)) wrong_at_a_step = "the pool";
  for (const zone& z : stepped->zones) {
    if (!is_counted(*stepped, z.reserve, raw(z.idx))) wrong_at_a_step = "a reserve";
    const uint64_t not_taken = z.present_free.load_relaxed() + z.in_transit.load_relaxed() + z.reserve.nr_pages.load_relaxed();
    if (z.committed.load_relaxed() != z.taken.load_relaxed() + not_taken + current().claimed[raw(z.idx)]) wrong_at_a_step = "taken";
  }
}

/// The processor traps after every instruction while it lives.
class single_steps {
 public:
  explicit single_steps(page_allocator& pa) {
    stepped = &pa;
    steps = 0;
    wrong_at_a_step = nullptr;
    for (counted_stack& each : counted_last) each = {};
    struct sigaction action {};
    action.sa_handler = on_step;
    sigaction(SIGTRAP, &action, &before_);
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | trap_flag);
  }
  ~single_steps() {
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~trap_flag);
    sigaction(SIGTRAP, &before_, nullptr);
    EXPECT_GT(steps, 100u);
    EXPECT_EQ(wrong_at_a_step, nullptr) << "counts wrong in the child of a fork that begins there: " << wrong_at_a_step;
  }
  single_steps(const single_steps&) = delete;
  single_steps& operator=(const single_steps&) = delete;

 private:
  static constexpr unsigned long long trap_flag = 0x100;
  struct sigaction before_ {};
};

TEST(page_alloc_fork, begins_where_counts_are_right_when_pages_come_from_and_go_to_the_reserve) {
  testing::test_machine m(testing::small_config(uint64_t{16} << 20));
  testing::held_pages held(*m);
  held.exhaust(gfp::kernel);
  const uint64_t before = m->stats.reserve_used.load_relaxed();
  {
    const single_steps stepping(*m);
    page& p = m->page_of(reserve_take(*m, m.normal()));
    free_pages(*m, &p, order_t(0));
    page& q = m->page_of(reserve_take(*m, m.normal()));
    refill_reserve(*m);
    free_pages(*m, &q, order_t(0));
  }
  EXPECT_GT(m->stats.reserve_used.load_relaxed(), before + 1);
}

TEST(page_alloc_fork, begins_where_counts_are_right_when_scattered_pages_are_given_back) {
  testing::test_machine m(testing::small_config(uint64_t{16} << 20));
  testing::held_pages held(*m);
  held.exhaust(gfp::atomic);
  std::vector<page*>& pages = held.pages();
  for (size_t i = 0; i < 500; ++i) {  // every other one of NORMAL: what was taken first
    free_pages(*m, pages[i * 2], order_t(0));
    pages[i * 2] = pages.back();
    pages.pop_back();
  }
  drain_cpu_pages(*m, true);
  request r = make_request(*m, gfp::kernel | gfp::nowarn, 8, request_kind::block);
  ASSERT_FALSE(attempt(*m, r)) << "only scattered pages are there";
  const uint64_t before = m->stats.pages_given_back.load_relaxed();
  bool served = false;
  {
    const single_steps stepping(*m);
    served = try_in_turn(*m, r);
  }
  ASSERT_TRUE(served);
  EXPECT_GT(m->stats.pages_given_back.load_relaxed(), before);
  free_pages(*m, &m->page_of(r.run.first), order_t(3));
}

TEST(page_alloc_fork, begins_where_counts_are_right_when_deferred_pages_are_freed) {
  test_machine m;
  page* pages[10];
  for (page*& p : pages) p = alloc_pages(*m, gfp::kernel, order_t(4));
  {
    const nest_guard below;
    const lock_guard hold(m.normal().lock);
    for (page* const p : pages) free_pages(*m, p, order_t(4));
  }
  EXPECT_EQ(m->deferred.nr_pages.load_relaxed(), 10u);
  const single_steps stepping(*m);
  drain_deferred(*m);
}

#endif

}  // namespace
}  // namespace kmem
