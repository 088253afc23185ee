// Texts are those of a real kernel's console, without the lines about its modules and lock checker.
#include "base/context.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/bug.hpp"

namespace kmem {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

struct message {
  log_level level;
  std::string text;
  unsigned nr_pcs;
};
std::vector<message> messages;

void keep(log_level level, const char* text, size_t bytes, const void* const*, unsigned nr_pcs) noexcept {
  messages.push_back({level, std::string(text, bytes), nr_pcs});
}

class Context : public testing::Test {
 protected:
  void SetUp() override {
    messages.clear();
    previous_ = set_printk_sink(&keep);
    reset_context_rules();
  }
  void TearDown() override {
    set_printk_sink(previous_);
    reset_context_rules();
    reset_printk();
    EXPECT_EQ(preempt_count(), 0u);
    EXPECT_FALSE(in_atomic());
  }
  /// The report of might_sleep() where `body` calls it. The analysis would refuse that, so the check behind it is called.
  static std::string report_of(const std::function<void(const std::function<void()>&)>& body) {
    reset_context_rules();
    messages.clear();
    bool fine = true;
    body([&fine] { fine = check_may_sleep("drivers/some.cpp", 77); });
    EXPECT_FALSE(fine);
    EXPECT_EQ(messages.size(), 1u);
    return messages.empty() ? std::string() : messages[0].text;
  }

 private:
  printk_sink previous_ = nullptr;
};

/// The kernel's text with the fields that differ from case to case.
std::string sleeping_text(int in_atomic, int irqs_disabled, const char* count) {
  const std::string pid = std::to_string(gettid());
  return "BUG: sleeping function called from invalid context at drivers/some\\.cpp:77\n"
         "in_atomic\\(\\): " + std::to_string(in_atomic) + ", irqs_disabled\\(\\): " + std::to_string(irqs_disabled) +
         ", non_block: 0, pid: " + pid + ", name: unit_base\n"
         "preempt_count: " + count + ", expected: 0\n"
         "CPU: [0-9]+ PID: " + pid + " Comm: unit_base\n"
         "Call Trace:\n";
}

TEST_F(Context, MightSleepReportsUnderEachGuardInTheKernelsWords) {
  pthread_setname_np(pthread_self(), "unit_base");
  spinlock lock, second;
  using check = std::function<void()>;
  EXPECT_THAT(report_of([&](const check& sleep) { const spin_guard in(lock); sleep(); }), MatchesRegex(sleeping_text(1, 0, "1")));
  EXPECT_THAT(report_of([&](const check& sleep) {
    const spin_guard in(lock);
    const spin_guard_nested more(second);
    sleep();
  }), MatchesRegex(sleeping_text(1, 0, "2")));
  EXPECT_THAT(report_of([&](const check& sleep) { const spin_irq_guard in(lock); sleep(); }), MatchesRegex(sleeping_text(1, 1, "1")));
  EXPECT_THAT(report_of([](const check& sleep) { const irq_guard in; sleep(); }), MatchesRegex(sleeping_text(0, 1, "0")));
  EXPECT_THAT(report_of([](const check& sleep) { const bh_guard in; sleep(); }), MatchesRegex(sleeping_text(1, 0, "200")));
  EXPECT_THAT(report_of([](const check& sleep) { const preempt_guard in; sleep(); }), MatchesRegex(sleeping_text(1, 0, "1")));
  EXPECT_THAT(report_of([](const check& sleep) { const softirq_guard in; sleep(); }), MatchesRegex(sleeping_text(1, 0, "100")));
  EXPECT_THAT(report_of([](const check& sleep) { const hardirq_guard in; sleep(); }), MatchesRegex(sleeping_text(1, 0, "10000")));
  // A hard interrupt handler that took a spin lock, as the kernel showed it.
  EXPECT_THAT(report_of([&](const check& sleep) {
    const hardirq_guard in;
    const spin_guard_nested held(lock);
    sleep();
  }), MatchesRegex(sleeping_text(1, 0, "10001")));
  EXPECT_EQ(messages.at(0).level, log_level::err);
  EXPECT_GT(messages.at(0).nr_pcs, 0u);
}

TEST_F(Context, MightSleepIsSilentElsewhereAndNamesItsCaller) {
  might_sleep();
  EXPECT_TRUE(check_may_sleep("x", 1));
  EXPECT_TRUE(check_schedule());
  EXPECT_EQ(context_violations(), 0u);
  EXPECT_TRUE(messages.empty());
  preempt_count_add(preempt_unit);
  might_sleep();
  preempt_count_sub(preempt_unit);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_THAT(messages[0].text, HasSubstr("context_test.cpp:" + std::to_string(__LINE__ - 3)));
}

TEST_F(Context, SchedulingWhileAtomicCountsTheSchedulersOwnLevel) {
  pthread_setname_np(pthread_self(), "unit_base");
  const std::string id = "unit_base/" + std::to_string(gettid());
  {
    spinlock lock;
    const spin_guard in(lock);
    EXPECT_FALSE(check_schedule());
  }
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_THAT(messages[0].text, MatchesRegex("BUG: scheduling while atomic: " + id + "/0x00000002\n"
                                             "CPU: [0-9]+ PID: [0-9]+ Comm: unit_base\nCall Trace:\n"));
  EXPECT_GT(messages[0].nr_pcs, 0u);
}

TEST_F(Context, EveryViolationCountsAndOneASecondOfEachKindIsReported) {
  const preempt_guard in;
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(check_may_sleep("a.cpp", 1));
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(check_schedule());
  EXPECT_EQ(context_violations(), 8u);
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_THAT(messages[0].text, HasSubstr("sleeping function"));
  EXPECT_THAT(messages[1].text, HasSubstr("scheduling while atomic"));
}

TEST_F(Context, PolicyCountIsSilent) {
  set_context_policy(context_policy::count);
  const preempt_guard in;
  EXPECT_FALSE(check_may_sleep("a.cpp", 1));
  EXPECT_EQ(context_violations(), 1u);
  EXPECT_TRUE(messages.empty());
}

TEST_F(Context, AViolationInsideAReportIsOnlyCounted) {
  set_printk_sink([](log_level, const char*, size_t, const void* const*, unsigned) noexcept {
    messages.push_back({});
    (void)check_may_sleep("sink.cpp", 1);
    (void)check_schedule();
  });
  const preempt_guard in;
  EXPECT_FALSE(check_may_sleep("a.cpp", 1));
  EXPECT_EQ(messages.size(), 1u);
  EXPECT_EQ(context_violations(), 3u);
}

using ContextDeathTest = Context;

TEST_F(ContextDeathTest, PolicyAbortReportsAndDies) {
  EXPECT_EXIT(
      {
        set_printk_sink(&printk_to_stderr);
        set_context_policy(context_policy::abort);
        const preempt_guard in;
        (void)check_may_sleep("a.cpp", 1);
      },
      testing::KilledBySignal(SIGABRT), "sleeping function called from invalid context at a.cpp:1");
}

TEST_F(Context, CountsNestAndAreOfTheThread) {
  {
    const preempt_guard outer;
    preempt_count_add(preempt_unit);
    EXPECT_EQ(preempt_count(), 2u);
    preempt_count_sub(preempt_unit);
    EXPECT_EQ(preempt_count(), 1u);
    EXPECT_TRUE(in_atomic());
    EXPECT_FALSE(in_interrupt());
    bool other = true;
    std::thread([&other] { other = in_atomic(); }).join();
    EXPECT_FALSE(other);
  }
  {
    const bh_guard in;
    EXPECT_EQ(preempt_count(), 0x200u);
    EXPECT_TRUE(in_interrupt());
  }
  {
    const softirq_guard in;
    EXPECT_EQ(preempt_count(), 0x100u);
    EXPECT_TRUE(in_interrupt());
  }
  {
    const hardirq_guard in;
    EXPECT_EQ(preempt_count(), 0x10000u);
    EXPECT_TRUE(in_interrupt());
  }
}

TEST_F(Context, InterruptsOffNestBySavingWhatWas) {
  {
    const irq_guard outer;
    EXPECT_TRUE(irqs_disabled());
    EXPECT_TRUE(in_atomic());
    EXPECT_TRUE(irqs_set_disabled(true));
    irqs_set_disabled(true);
    EXPECT_TRUE(irqs_disabled());
  }
  EXPECT_FALSE(irqs_disabled());
  spinlock lock;
  {
    const spin_irq_guard in(lock);
    EXPECT_TRUE(irqs_disabled());
    EXPECT_EQ(preempt_count(), 1u);
  }
  EXPECT_FALSE(irqs_disabled());
}

TEST_F(Context, ACountThatWouldFallBelowZeroStaysAndIsReported) {
  preempt_count_sub(preempt_unit);
  EXPECT_EQ(preempt_count(), 0u);
  {
    const bh_guard in;
    preempt_count_sub(preempt_unit);  // must not borrow from the softirq field
    EXPECT_EQ(preempt_count(), softirq_disable_unit);
  }
  EXPECT_EQ(context_violations(), 2u);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_THAT(messages[0].text, HasSubstr("BUG: preempt_count underflow: 0 - 1\n"));
}

TEST_F(Context, ScopesNestInAnyOrderAndRestoreWhatWas) {
  {
    const memalloc_noio_scope outer;
    EXPECT_EQ(current_gfp(gfp::kernel), gfp::noio);
    {
      const memalloc_nofs_scope inner;
      const memalloc_noio_scope again;
      EXPECT_EQ(current_gfp(gfp::kernel), gfp::noio);
    }
    EXPECT_EQ(current_gfp(gfp::kernel), gfp::noio);
  }
  EXPECT_EQ(current_gfp(gfp::kernel), gfp::kernel);
  {
    const memalloc_nofs_scope scope;
    EXPECT_EQ(current_gfp(gfp::kernel), gfp::nofs);
    EXPECT_EQ(current_gfp(gfp::atomic), gfp::atomic);
    gfp_t other = gfp::none;
    std::thread([&other] { other = current_gfp(gfp::kernel); }).join();
    EXPECT_EQ(other, gfp::kernel);
  }
  const memalloc_noreclaim_scope scope;
  EXPECT_TRUE(may_use_reserve(current_gfp(gfp::kernel)));
  EXPECT_FALSE(may_block(current_gfp(gfp::kernel)));
  EXPECT_FALSE(may_use_reserve(current_gfp(gfp::kernel | gfp::nomemalloc)));
}

TEST_F(Context, ScopesMayCloseInAnotherOrderThanTheyOpened) {
  const uint32_t noio = memalloc_save(scope_noio);
  const uint32_t nofs = memalloc_save(scope_nofs);
  memalloc_restore(scope_noio, noio);
  EXPECT_EQ(current_gfp(gfp::kernel), gfp::nofs);
  memalloc_restore(scope_nofs, nofs);
  EXPECT_EQ(current_gfp(gfp::kernel), gfp::kernel);
}

TEST_F(Context, SlowPathsNest) {
  EXPECT_EQ(current().depth, 0u);
  {
    const nest_guard outer;
    EXPECT_FALSE(outer.nested());
    const nest_guard inner;
    EXPECT_TRUE(inner.nested());
    EXPECT_EQ(current().depth, 2u);
  }
  EXPECT_EQ(current().depth, 0u);
}

}  // namespace
}  // namespace kmem
