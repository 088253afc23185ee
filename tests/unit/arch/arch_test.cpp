#include "arch/arch.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/rseq.h>

#include <thread>

namespace kmem::arch {
namespace {

thread_local int some_variable = 0;

TEST(Arch, ThreadPointerIsWhatThreadLocalOffsetsAreRelativeTo) {
  const auto offset_of = [] { return reinterpret_cast<char*>(&some_variable) - thread_pointer(); };
  const auto here = offset_of();
  auto there = here + 1;
  char* other = nullptr;
  std::thread([&] {
    there = offset_of();
    other = thread_pointer();
  }).join();
  EXPECT_EQ(here, there);
  EXPECT_NE(other, thread_pointer());
}

TEST(Arch, TheRestartableSequenceAreaIsFoundThroughIt) {
  if (__rseq_size == 0) return;  // switched off by a glibc tunable: there is no area
  const auto* area = reinterpret_cast<const struct rseq*>(thread_pointer() + __rseq_offset);
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &before)) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_EQ(area->cpu_id, static_cast<uint32_t>(cpu));
  }
  sched_setaffinity(0, sizeof before, &before);
}

TEST(Arch, PrefetchingAnyAddressIsHarmless) {
  prefetch_write(nullptr);
  prefetch_write(reinterpret_cast<const void*>(~uintptr_t{0}));
  cpu_relax();
  compiler_barrier();
}

}  // namespace
}  // namespace kmem::arch
