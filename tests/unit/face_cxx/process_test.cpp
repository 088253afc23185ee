// Start of the process's machine. Each case is a process of its own: the program is run again for it.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include <kmem/info.hpp>
#include <kmem/kmem.hpp>

#include "reclaim/reclaim.hpp"
#include "support/single_step.hpp"

namespace kmem {
namespace {

class process_DeathTest : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

uint64_t limit_bytes() {
  memory_info info;
  return read_memory_info(info) ? info.limit_bytes : 0;
}

TEST_F(process_DeathTest, starts_by_itself_with_the_parameters_of_the_environment) {
  EXPECT_EXIT(([] {
                setenv("KMEM_CMDLINE", "mem=24M vm.min_free_kbytes=300", 1);
                void* const p = kmalloc(100, gfp::kernel);
                const uint64_t limit = limit_bytes();
                kfree(p);
                _exit(p != nullptr && limit == uint64_t{24} << 20 ? 0 : 1);
              })(),
              ::testing::ExitedWithCode(0), "");
}

TEST_F(process_DeathTest, a_wrong_environment_is_reported_once_and_allocations_fail) {
  EXPECT_EXIT(([] {
                setenv("KMEM_CMDLINE", "mem=24M nonsense=1", 1);
                int got = 0;
                for (int i = 0; i < 3; ++i)
                  if (kmalloc(100, gfp::kernel) != nullptr) ++got;
                if (vmalloc(100) != nullptr || alloc_pages(gfp::kernel, 0) != nullptr || get_zeroed_page(gfp::kernel) != nullptr) ++got;
                if (kmem_cache_create("x", 10, 0, cache_flags::none) != nullptr || remaining_bytes() != 0) ++got;
                kfree(nullptr);
                _exit(got);
              })(),
              ::testing::ExitedWithCode(0), "kmem: KMEM_CMDLINE: .*nonsense.*every allocation will fail\n$");
}

TEST_F(process_DeathTest, init_takes_the_place_of_the_environment) {
  EXPECT_EXIT(([] {
                setenv("KMEM_CMDLINE", "mem=nonsense", 1);
                char error[200];
                const bool good = init("mem=40M", error, sizeof error);
                _exit(good && limit_bytes() == uint64_t{40} << 20 ? 0 : 1);
              })(),
              ::testing::ExitedWithCode(0), "^$");
}

TEST_F(process_DeathTest, init_says_what_is_wrong_and_may_be_tried_again) {
  EXPECT_EXIT(([] {
                char error[200];
                if (init("mem=1K", error, sizeof error)) _exit(1);
                fprintf(stderr, "first: %s\n", error);
                if (init("mem", error, sizeof error)) _exit(2);
                fprintf(stderr, "second: %s\n", error);
                if (init("mem=1K", nullptr, 0)) _exit(3);
                char tiny[8];
                if (init("mem=1K", tiny, sizeof tiny) || tiny[7] != '\0' || tiny[6] == '\0') _exit(4);
                if (!init("mem=16M", error, sizeof error)) _exit(5);
                if (init("mem=16M", error, sizeof error)) _exit(6);
                fprintf(stderr, "third: %s\n", error);
                _exit(0);
              })(),
              ::testing::ExitedWithCode(0), "first: .*mem=1K.*\nsecond: .*mem.*\nthird: .*serving already");
}

TEST_F(process_DeathTest, init_after_a_refused_environment_serves) {
  EXPECT_EXIT(([] {
                setenv("KMEM_CMDLINE", "mem=nonsense", 1);
                if (kmalloc(10, gfp::kernel) != nullptr) _exit(1);
                char error[200];
                if (!init("mem=16M", error, sizeof error)) _exit(2);
                _exit(kmalloc(10, gfp::kernel) != nullptr ? 0 : 3);
              })(),
              ::testing::ExitedWithCode(0), "KMEM_CMDLINE");
}

TEST_F(process_DeathTest, threads_that_come_first_together_find_one_machine) {
  EXPECT_EXIT(([] {
                setenv("KMEM_CMDLINE", "mem=32M", 1);
                std::atomic<int> ready{0}, failed{0};
                std::vector<std::thread> threads;
                for (int i = 0; i < 8; ++i)
                  threads.emplace_back([&] {
                    ++ready;
                    while (ready != 8) std::this_thread::yield();
                    void* const p = kmalloc(100, gfp::kernel);
                    if (p == nullptr) ++failed;
                    kfree(p);
                  });
                for (std::thread& thread : threads) thread.join();
                _exit(failed == 0 && validate() == nullptr ? 0 : 1);
              })(),
              ::testing::ExitedWithCode(0), "^$");
}

TEST_F(process_DeathTest, a_child_of_fork_serves_whether_the_parent_had_started_or_not) {
  EXPECT_EXIT(([] {
                setenv("KMEM_CMDLINE", "mem=32M", 1);
                int failed = 0;
                for (int round = 0; round < 2; ++round) {  // the first fork comes before the first allocation
                  const pid_t child = fork();
                  if (child == 0) {
                    void* const p = kmalloc(1000, gfp::kernel);
                    void* const area = vmalloc(10000);
                    vfree(area);
                    kfree(p);
                    _exit(p != nullptr && area != nullptr && validate() == nullptr ? 0 : 1);
                  }
                  int status = 1;
                  waitpid(child, &status, 0);
                  if (status != 0) ++failed;
                  kfree(kmalloc(1000, gfp::kernel));
                }
                _exit(failed);
              })(),
              ::testing::ExitedWithCode(0), "^$");
}

/// What a process does whose forks are over. Return: its exit code.
int use_after_forks() {
  if (current().depth != 0 || current().fork_levels != 0 || current().irqs_off != 0) return 10;
  for (const gfp_t mask : {gfp::kernel, gfp::atomic}) {
    void* const p = kmalloc(1000, mask);
    void* const area = may_block(mask) ? vmalloc(10000) : nullptr;
    if (p == nullptr || (may_block(mask) && area == nullptr)) return 11;
    vfree(area);
    kfree(p);
  }
  if (validate() != nullptr) return 12;  // takes every lock
  const pid_t child = fork();            // and fork goes on to work
  if (child == 0) _exit(validate() == nullptr ? 0 : 1);
  int status = 1;
  return waitpid(child, &status, 0) == child && status == 0 ? 0 : 13;
}

int end_of(pid_t child) {
  int status = 1;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 20;
}

/// fork() as it is between its handlers; `inner` runs where a signal handler might.
template <class Inner>
int fork_around(Inner inner) {
  alarm(30);
  process_fork_prepare();
  const pid_t first = inner();
  const bool is_inner = first == 0;
  const pid_t second = _Fork();
  if (second == 0) {
    process_fork_child();
    _exit(use_after_forks());
  }
  process_fork_parent();
  int result = use_after_forks();
  if (result == 0) result = end_of(second);
  if (is_inner) _exit(result);
  return result != 0 || first < 0 ? result : end_of(first);
}

TEST_F(process_DeathTest, a_fork_inside_a_fork_leaves_four_processes_that_serve) {
  EXPECT_EXIT(([] {
                setenv("KMEM_CMDLINE", "mem=32M", 1);
                kfree(kmalloc(1000, gfp::kernel));
                _exit(fork_around([] { return fork(); }));
              })(),
              ::testing::ExitedWithCode(0), "^$");
}

pid_t forked_in_a_hook = -1;
int forks_in_hooks = 0;

TEST_F(process_DeathTest, a_fork_while_the_handlers_of_another_are_at_work_leaves_a_child_that_serves) {
  EXPECT_EXIT(([] {
                setenv("KMEM_CMDLINE", "mem=32M", 1);
                kfree(kmalloc(1000, gfp::kernel));
                constexpr auto hook = []() noexcept {
                  if (forks_in_hooks-- == 0) forked_in_a_hook = fork();
                };
                set_fork_hooks({hook, hook, hook, nullptr, hook});
                for (int at = 0; at < 4; ++at) {
                  alarm(30);
                  forks_in_hooks = at;
                  forked_in_a_hook = -1;
                  const pid_t outer = fork();
                  const pid_t inner = forked_in_a_hook;
                  forks_in_hooks = -1;
                  if (outer == 0 && at < 2) _exit(0);
                  const int result = use_after_forks();
                  if (outer == 0 || inner == 0) _exit(result);
                  if (result != 0 || end_of(outer) != 0 || inner <= 0 || end_of(inner) != 0) _exit(100 + at);
                }
                _exit(0);
              })(),
              ::testing::ExitedWithCode(0), "^$");
}

TEST_F(process_DeathTest, the_child_of_a_fork_inside_a_fork_leaves_what_it_shares_alone) {
  EXPECT_EXIT(([] {
                setenv("KMEM_CMDLINE", "mem=32M backing=memfd", 1);
                kmem_cache* const cache = kmem_cache_create("own", 100, 0, cache_flags::none);
                process_fork_prepare();
                const pid_t inner = fork();
                if (inner == 0 && (kmalloc(100, gfp::atomic) != nullptr || cache == nullptr)) _exit(1);
                process_fork_parent();
                const bool serves = kmalloc(1000, gfp::kernel) != nullptr;
                if (inner == 0) _exit(serves ? 2 : 0);
                _exit(serves && current().depth == 0 && validate() == nullptr ? end_of(inner) : 3);
              })(),
              ::testing::ExitedWithCode(0), "shares the memory of a memfd");
}

#if defined(KMEM_TEST_SINGLE_STEP)
uint64_t start_interrupted_at = 0;

bool allocate_there(uint64_t instruction) {
  if (instruction != start_interrupted_at) return true;
  kfree(kmalloc(100, gfp::atomic));  // that of a machine it has started itself, or none
  return false;
}

TEST_F(process_DeathTest, a_handler_after_any_instruction_of_the_start_waits_for_nobody) {
  EXPECT_EXIT(([] {
                setenv("KMEM_CMDLINE", "mem=8M", 1);
                for (start_interrupted_at = 0; start_interrupted_at < 400; ++start_interrupted_at) {
                  const pid_t child = fork();
                  if (child == 0) {
                    alarm(30);
                    void* p = nullptr;
                    testing::run_in_steps(allocate_there, [&] { p = kmalloc(1000, gfp::kernel); });
                    _exit(p != nullptr && validate() == nullptr ? 0 : 1);
                  }
                  if (end_of(child) != 0) fprintf(stderr, "instruction %d", static_cast<int>(start_interrupted_at)), _exit(1);
                }
                _exit(0);
              })(),
              ::testing::ExitedWithCode(0), "^$");
}
#endif

}  // namespace
}  // namespace kmem
