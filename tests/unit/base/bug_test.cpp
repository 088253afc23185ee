#include "base/bug.hpp"

#include <gtest/gtest.h>

#include "base/context.hpp"

namespace kmem {
namespace {

TEST(BugDeathTest, SaysWhatAndWhereAndWhoAndDies) {
  EXPECT_EXIT(bug("a broken promise", "some/file.cpp", 12), testing::KilledBySignal(SIGABRT),
              "cut here.*\nkernel BUG at some/file.cpp:12!\na broken promise\nCPU: [0-9]+ PID: [0-9]+ Comm: .*\nCall Trace:\n \\[<0");
}

TEST(BugDeathTest, SpeaksEvenWithoutASink) {
  EXPECT_DEATH(
      {
        set_printk_sink(nullptr);
        bug("no sink", "file.cpp", 1);
      },
      "kernel BUG at file.cpp:1!\nno sink");
}

TEST(BugDeathTest, ABugInsideAReportDiesAtOnce) {
  EXPECT_EXIT(
      {
        set_printk_sink([](log_level, const char*, size_t, const void* const*, unsigned) noexcept { bug("again", "sink.cpp", 2); });
        bug("first", "file.cpp", 1);
      },
      testing::KilledBySignal(SIGABRT), "kernel BUG inside a report");
}

TEST(BugDeathTest, CheckIsAlwaysOn) {
  KMEM_CHECK(1 + 1 == 2);
  EXPECT_DEATH(KMEM_CHECK(1 + 1 == 3), "kernel BUG at .*tests/unit/base/bug_test.cpp:[0-9]+!\n1 \\+ 1 == 3");
}

#if defined(KMEM_DEBUG)
TEST(BugDeathTest, AssertIsOnInDebugBuilds) { EXPECT_DEATH(KMEM_ASSERT(false), "kernel BUG"); }
#else
TEST(Bug, AssertIsCompiledButNotEvaluatedInReleaseBuilds) {
  bool evaluated = false;
  KMEM_ASSERT((evaluated = true) && false);
  EXPECT_FALSE(evaluated);
}
#endif

}  // namespace
}  // namespace kmem
