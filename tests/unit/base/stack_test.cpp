#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <cerrno>
#include <vector>

#include "base/bug.hpp"

namespace kmem {
namespace {

struct walk {
  std::vector<const void*> return_addresses;  // of the functions below, innermost first
  const void* pcs[printk_max_pcs] = {};
  unsigned count = 0;
};

/// Asking for its frame's address makes a function keep the frame pointer, whatever the flags.
#define KEEP_FRAME_POINTER() __asm__ __volatile__("" ::"r"(__builtin_frame_address(0)) : "memory")

__attribute__((noinline)) void innermost(walk& w) {
  KEEP_FRAME_POINTER();
  w.return_addresses.push_back(__builtin_return_address(0));
  w.count = capture_stack(w.pcs, printk_max_pcs);
  KEEP_FRAME_POINTER();  // no tail call
}

__attribute__((noinline)) void middle(walk& w, int depth) {
  KEEP_FRAME_POINTER();
  if (depth == 0) {
    innermost(w);
  } else {
    middle(w, depth - 1);
  }
  w.return_addresses.push_back(__builtin_return_address(0));
  KEEP_FRAME_POINTER();
}

TEST(Stack, FindsTheCallersInOrder) {
  walk w;
  middle(w, 4);
  ASSERT_EQ(w.return_addresses.size(), 6u);
  ASSERT_GT(w.count, w.return_addresses.size());
  for (size_t i = 0; i < w.return_addresses.size(); ++i) EXPECT_EQ(w.pcs[i + 1], w.return_addresses[i]) << i;
}

TEST(Stack, FillsNoMoreThanItIsGiven) {
  const void* pcs[3] = {};
  EXPECT_EQ(capture_stack(pcs, 0), 0u);
  EXPECT_EQ(pcs[0], nullptr);
  walk w;
  middle(w, 50);
  EXPECT_EQ(w.count, printk_max_pcs);
}

TEST(Stack, LeavesErrnoAlone) {
  walk w;
  errno = 4711;
  middle(w, 3);
  EXPECT_EQ(errno, 4711);
}

walk handler_walk;

void on_signal(int) { middle(handler_walk, 2); }

TEST(Stack, WorksOnAnAlternateSignalStack) {
  std::vector<char> memory(64 * 1024);
  stack_t stack{}, old_stack{};
  stack.ss_sp = memory.data();
  stack.ss_size = memory.size();
  ASSERT_EQ(sigaltstack(&stack, &old_stack), 0);
  struct sigaction action {}, old_action {};
  action.sa_handler = &on_signal;
  action.sa_flags = SA_ONSTACK;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &old_action), 0);
  handler_walk = {};
  handler_walk.return_addresses.reserve(8);
  raise(SIGUSR1);
  sigaction(SIGUSR1, &old_action, nullptr);
  sigaltstack(&old_stack, nullptr);
  ASSERT_EQ(handler_walk.return_addresses.size(), 4u);
  ASSERT_GE(handler_walk.count, 5u);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(handler_walk.pcs[i + 1], handler_walk.return_addresses[i]) << i;
}

#if defined(__x86_64__)
/// Calls capture_stack with anything at all in the frame pointer register, as code built without frame pointers does.
__attribute__((noinline)) unsigned capture_with_frame_pointer(uintptr_t frame_pointer, const void** pcs, unsigned capacity) {
  unsigned count = 0;
  auto* const function = &capture_stack;
  __asm__ __volatile__(
      "mov %%rsp, %%r12\n\t"
      "sub $256, %%rsp\n\t"  // beyond the red zone
      "and $-16, %%rsp\n\t"
      "push %%rbp\n\t"
      "push %%rbp\n\t"
      "mov %[frame], %%rbp\n\t"
      "call *%[function]\n\t"
      "pop %%rbp\n\t"
      "pop %%rbp\n\t"
      "mov %%r12, %%rsp\n\t"
      : "=a"(count), "+D"(pcs), "+S"(capacity)
      : [frame] "r"(frame_pointer), [function] "r"(function)
      : "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "memory", "cc");
  return count;
}

TEST(Stack, StrayFramePointersEndTheWalk) {
  const void* pcs[printk_max_pcs];
  const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  const uintptr_t strays[] = {0, 1, 8, page_size, here - 65536, here + 1, here + 4, here + (uintptr_t{1} << 21),
                              ~uintptr_t{0}, ~uintptr_t{7}, uintptr_t{0xdeadbeefdeadbeef}, uintptr_t{1} << 47,
                              reinterpret_cast<uintptr_t>(&pcs)};
  for (const uintptr_t stray : strays) {
    const unsigned count = capture_with_frame_pointer(stray, pcs, printk_max_pcs);
    EXPECT_GE(count, 1u) << std::hex << stray;
    EXPECT_LE(count, printk_max_pcs) << std::hex << stray;
  }
}

TEST(Stack, EveryWordOfTheStackIsSafeAsAFramePointer) {
  const void* pcs[printk_max_pcs];
  const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  for (uintptr_t offset = 0; offset < 1024; offset += 8) capture_with_frame_pointer(here + offset, pcs, printk_max_pcs);
}

struct edge_case {
  uintptr_t end;  // of the stack: what lies there cannot be read
  unsigned counts[4];
};

void* run_at_edge(void* argument) {
  auto& edge = *static_cast<edge_case*>(argument);
  const void* pcs[printk_max_pcs];
  edge.counts[0] = capture_with_frame_pointer(edge.end, pcs, printk_max_pcs);
  edge.counts[1] = capture_with_frame_pointer(edge.end - 8, pcs, printk_max_pcs);  // half of the record
  edge.counts[2] = capture_with_frame_pointer(edge.end + 16, pcs, printk_max_pcs);
  edge.counts[3] = capture_with_frame_pointer(edge.end - page_size - 8, pcs, printk_max_pcs);
  return nullptr;
}

TEST(Stack, AFramePointerPastTheEndOfTheStackIsNotFollowed) {
  constexpr size_t stack_bytes = 2 * 1024 * 1024;  // a sanitizer puts large thread-local areas on it
  void* memory = mmap(nullptr, stack_bytes + page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  edge_case edge{reinterpret_cast<uintptr_t>(memory) + stack_bytes, {}};
  ASSERT_EQ(mprotect(reinterpret_cast<void*>(edge.end), page_size, PROT_NONE), 0);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  ASSERT_EQ(pthread_attr_setstack(&attributes, memory, stack_bytes), 0);
  pthread_t thread;
  ASSERT_EQ(pthread_create(&thread, &attributes, &run_at_edge, &edge), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  munmap(memory, stack_bytes + page_size);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(edge.counts[i], 1u) << i;
  EXPECT_GE(edge.counts[3], 1u);
}
#endif

}  // namespace
}  // namespace kmem
