// Real threads, real forks and real signals: what the simulation cannot see lies between its scheduling points.
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "stress/stress_load.hpp"

namespace kmem::stress {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds duration{2000};
constexpr unsigned child_seconds = 60;  // before a child counts as hanging

TEST(Stress, ThreadsShareAMachineThatIsTooSmall) {
  shared_machine shared("mem=6M cpus=8");
  {
    const workers busy(shared, 8, 100'000);
    std::this_thread::sleep_for(duration);
  }
  EXPECT_GT(shared.nr_operations.load(), 0u);
  EXPECT_GT(shared.nr_nulls.load(), 0u) << "the machine never ran short, so the slow paths were not under stress";
}

TEST(Stress, ThreadsShareAMachineWithRoom) {
  shared_machine shared("mem=64M cpus=8");
  {
    const workers busy(shared, 4, 200);
    std::this_thread::sleep_for(duration);
  }
  EXPECT_GT(shared.nr_operations.load(), 0u);
}

TEST(Stress, ForksWhileOtherThreadsAllocate) {
  shared_machine shared("mem=24M cpus=8");
  unsigned forks = 0;
  {
    const workers busy(shared, 4, 200);
    const auto end = std::chrono::steady_clock::now() + duration;
    while (std::chrono::steady_clock::now() < end && forks < 100) {
      machine_fork_prepare(*shared);
      const pid_t child = fork();
      if (child == 0) {
        alarm(child_seconds);
        machine_fork_child(*shared);
        _exit(use_in_child(shared, gfp::atomic | gfp::nowarn));
      }
      machine_fork_parent(*shared);
      ASSERT_GT(child, 0) << std::strerror(errno);
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status << " of child number " << forks;
      ++forks;
    }
  }
  EXPECT_GT(forks, 0u);
}

// ---- signals ----------------------------------------------------------------------------------------------------------------------------

shared_machine* interrupted = nullptr;
std::atomic<uint64_t> nr_handled{0}, nr_kept{0};

/// What a handler of this thread keeps. No library container: the handler may have interrupted the program's malloc.
thread_local std::array<piece, 16> kept_by_handler;
thread_local unsigned nr_kept_by_handler = 0;
thread_local uint32_t handler_random = 1;

void on_timer(int) {
  const int saved = errno;
  {
    const hardirq_guard interrupt;
    handler_random = handler_random * 1664525u + 1013904223u;
    if (nr_kept_by_handler == kept_by_handler.size() || (nr_kept_by_handler != 0 && (handler_random >> 16) % 3 == 0)) {
      interrupted->give(kept_by_handler[--nr_kept_by_handler]);
    } else {
      std::minstd_rand random(handler_random);
      const piece p = interrupted->take(random, gfp::atomic | gfp::nowarn);
      if (p.what != piece::kind::none) {
        kept_by_handler[nr_kept_by_handler++] = p;
        nr_kept.fetch_add(1, std::memory_order_relaxed);
      }
    }
    nr_handled.fetch_add(1, std::memory_order_relaxed);
  }
  errno = saved;
}

TEST(Stress, TimersInterruptTheAllocatorAndAllocate) {
  shared_machine shared("mem=8M cpus=8");
  interrupted = &shared;
  nr_handled = nr_kept = 0;
  struct sigaction action {
  }, before{};
  action.sa_handler = on_timer;
  action.sa_flags = SA_RESTART;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      handler_random = i + 1;
      shared.work(i + 1, 100'000, stop);
      // No handler may run any more when what they kept is given back.
      sigset_t all;
      sigfillset(&all);
      pthread_sigmask(SIG_BLOCK, &all, nullptr);
      while (nr_kept_by_handler != 0) shared.give(kept_by_handler[--nr_kept_by_handler]);
    });
  const auto end = std::chrono::steady_clock::now() + duration;
  while (std::chrono::steady_clock::now() < end) {
    for (std::thread& one : threads) pthread_kill(one.native_handle(), SIGUSR1);
    std::this_thread::sleep_for(std::chrono::microseconds(200));  // 5 kHz for each thread
  }
  stop.store(true);
  for (std::thread& one : threads) one.join();
  sigaction(SIGUSR1, &before, nullptr);
  interrupted = nullptr;
  EXPECT_GT(nr_handled.load(), 0u);
  EXPECT_GT(nr_kept.load(), 0u);
}

}  // namespace
}  // namespace kmem::stress
