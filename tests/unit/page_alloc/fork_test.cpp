// fork: the child has a machine that works, whatever the parent's threads were doing.
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
