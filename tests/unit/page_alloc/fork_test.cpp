// fork: the child has a machine that works, whatever the parent's threads were doing.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

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

}  // namespace
}  // namespace kmem
