#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "machine_fixture.hpp"

namespace kmem {
namespace {

class fork_test : public test::machine_fixture {};

/// Allocates and frees every kind. Return: what went wrong, 0 for nothing.
int exercise(machine& m) {
  for (int round = 0; round < 50; ++round) {
    void* objects[40];
    for (unsigned i = 0; i < 40; ++i) {
      objects[i] = kmalloc(m, 1 + i * 200, gfp::kernel | gfp::nowarn);
      if (objects[i] == nullptr) return 1;
      memset(objects[i], static_cast<int>(i), 1 + i * 200);
    }
    page* const p = alloc_pages(m, gfp::kernel | gfp::nowarn, order_t(2));
    void* const area = vmalloc(m, 10000, gfp::kernel | gfp::nowarn, nullptr);
    if (p == nullptr || area == nullptr) return 2;
    for (unsigned i = 0; i < 40; ++i) {
      const auto* bytes = static_cast<unsigned char*>(objects[i]);
      if (bytes[0] != i || bytes[i * 200] != i) return 3;
      kfree(m, objects[i]);
    }
    free_pages(m, p, order_t(2));
    vfree(m, area);
  }
  return 0;
}

/// Forks with the machine's handlers. Return: the child's exit code.
int fork_and_exercise(machine& m, int (*in_child)(machine&)) {
  machine_fork_prepare(m);
  const pid_t child = fork();
  if (child == 0) {
    machine_fork_child(m);
    _exit(in_child(m));
  }
  machine_fork_parent(m);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

TEST_F(fork_test, parent_and_child_both_serve) {
  start("mem=32M");
  char* const text = static_cast<char*>(kmalloc(m(), 100, gfp::kernel));
  memcpy(text, "before the fork", sizeof "before the fork");
  EXPECT_EQ(fork_and_exercise(m(), [](machine& child) { return exercise(child) != 0                 ? 1
                                                               : machine_is_valid(child) != nullptr ? 4
                                                                                                    : 0; }),
            0);
  EXPECT_EQ(exercise(m()), 0);
  EXPECT_STREQ(text, "before the fork");
  kfree(m(), text);
}

TEST_F(fork_test, with_threads_inside_the_allocator_at_every_moment) {
  start("mem=32M");
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] {
      while (!stop)
        if (const int result = exercise(m())) wrong = result;
    });
  for (int round = 0; round < 30; ++round) EXPECT_EQ(fork_and_exercise(m(), exercise), 0);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

// A callback that another thread was running is not waited for in the child: that thread does not exist there.
TEST_F(fork_test, callbacks_of_other_threads_are_forgotten_in_the_child) {
  start("mem=16M");
  struct slow {
    std::atomic<bool> inside{false}, may_leave{false};
    static uint64_t run(void* context, gfp_t, uint64_t) noexcept {
      auto& self = *static_cast<slow*>(context);
      self.inside = true;
      while (!self.may_leave) std::this_thread::yield();
      return 0;
    }
  } state;
  ASSERT_EQ(register_callback(m(), {&state, slow::run, gfp::none}), 0);
  std::thread runner([this] { run_callbacks(m(), gfp::kernel, 1); });
  while (!state.inside) std::this_thread::yield();
  EXPECT_EQ(fork_and_exercise(m(),
                              [](machine& child) {
                                unregister_callback(child, 0);
                                return machine_is_valid(child) == nullptr ? 0 : 1;
                              }),
            0);
  state.may_leave = true;
  runner.join();
  unregister_callback(m(), 0);
}

}  // namespace
}  // namespace kmem
