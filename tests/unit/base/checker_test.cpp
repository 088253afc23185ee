// The reclaim checker: what is reported, with which two stacks, and what is not.
#include "base/checker.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/bug.hpp"

namespace kmem {
namespace {

using testing::HasSubstr;

struct message {
  std::string text;
  std::vector<const void*> pcs;
};
std::vector<message> messages;

void keep(log_level, const char* text, size_t bytes, const void* const* pcs, unsigned nr_pcs) noexcept {
  messages.push_back({std::string(text, bytes), std::vector<const void*>(pcs, pcs + nr_pcs)});
}

class checker : public testing::Test {
 protected:
  void SetUp() override {
    messages.clear();
    previous_ = set_printk_sink(&keep);
    reset_context_rules();
    set_reclaim_checker(true);
  }
  void TearDown() override {
    set_reclaim_checker(false);
    set_printk_sink(previous_);
    reset_context_rules();
    reset_printk();
    EXPECT_EQ(current().regions, nullptr);
    EXPECT_EQ(current().memalloc_scopes, 0u);
  }

 private:
  printk_sink previous_ = nullptr;
};

/// A report is two records, both with a stack, and the stacks are of different places.
void expect_report(const char* first, const char* second) {
  ASSERT_EQ(messages.size(), 2u) << first;
  EXPECT_THAT(messages[0].text, HasSubstr(first));
  EXPECT_EQ(messages[1].text, second);
  ASSERT_FALSE(messages[0].pcs.empty());
  ASSERT_FALSE(messages[1].pcs.empty());
  EXPECT_NE(messages[0].pcs, messages[1].pcs);
  EXPECT_EQ(context_violations(), 1u);
}

/// Asking for its frame's address makes a function keep the frame pointer, whatever the flags.
#define KEEP_FRAME_POINTER() __asm__ __volatile__("" ::"r"(__builtin_frame_address(0)) : "memory")

/// Does something inside of which the places are known by a return address that must be on the stacks.
__attribute__((noinline)) const void* do_fs_work() {
  KEEP_FRAME_POINTER();
  const fs_work work;
  return __builtin_return_address(0);
}
__attribute__((noinline)) const void* reclaim_for(gfp_t gfp, const void*& worker) {
  KEEP_FRAME_POINTER();
  const reclaim_region reclaim(gfp);
  worker = do_fs_work();
  return __builtin_return_address(0);
}

TEST_F(checker, file_system_work_needs_the_flag_of_who_reclaims) {
  {
    const reclaim_region reclaim(gfp::kernel);
    const fs_work work;
    const io_work io;
  }
  {
    const reclaim_region reclaim(gfp::nofs);
    const io_work io;
  }
  EXPECT_TRUE(messages.empty());
  const void* worker = nullptr;
  const void* const reclaimer = reclaim_for(gfp::nofs, worker);
  expect_report("BUG: file system work in reclaim for GFP_NOFS, without __GFP_FS\n", "Reclaim was entered here:\n");
  EXPECT_THAT(messages[0].pcs, testing::Contains(worker));
  EXPECT_THAT(messages[1].pcs, testing::Contains(reclaimer));
  EXPECT_THAT(messages[1].pcs, testing::Not(testing::Contains(worker)));
}

TEST_F(checker, io_needs_the_flag_of_who_reclaims) {
  const reclaim_region reclaim(gfp::noio);
  const io_work work;
  expect_report("BUG: I/O in reclaim for GFP_NOIO, without __GFP_IO\n", "Reclaim was entered here:\n");
}

TEST_F(checker, file_system_work_inside_a_nofs_scope) {
  const memalloc_nofs_scope scope;
  {
    const io_work work;
    EXPECT_TRUE(messages.empty());
  }
  const fs_work work;
  expect_report("BUG: file system work inside a nofs scope\n", "The scope was entered here:\n");
}

TEST_F(checker, all_work_inside_a_noio_scope) {
  const memalloc_noio_scope scope;
  {
    const io_work work;
    expect_report("BUG: I/O inside a noio scope\n", "The scope was entered here:\n");
  }
  reset_context_rules();
  messages.clear();
  const fs_work work;
  expect_report("BUG: file system work inside a noio scope\n", "The scope was entered here:\n");
}

TEST_F(checker, work_that_reclaim_enters_again) {
  const fs_work outer;
  {
    const fs_work inner;  // without reclaim in between: a function that calls another
    EXPECT_TRUE(messages.empty());
  }
  const reclaim_region reclaim(gfp::kernel);
  {
    const io_work other;
    EXPECT_TRUE(messages.empty());
  }
  const fs_work again;
  expect_report("BUG: reclaim recursion: file system work entered by reclaim inside file system work\n",
                "The outer one was entered here:\n");
}

TEST_F(checker, reclaim_inside_reclaim) {
  EXPECT_TRUE(check_no_recursion(gfp::kernel));
  const reclaim_region reclaim(gfp::noio);
  EXPECT_FALSE(check_no_recursion(gfp::kernel | gfp::nowarn));
  expect_report("BUG: reclaim recursion: GFP_KERNEL|__GFP_NOWARN may reclaim, on a thread that reclaims for GFP_NOIO\n",
                "The outer reclaim was entered here:\n");
}

TEST_F(checker, off_it_reports_nothing_but_recursion_is_still_refused) {
  set_reclaim_checker(false);
  const memalloc_noio_scope scope;
  const reclaim_region reclaim(gfp::noio);
  const io_work work;
  const fs_work more;
  EXPECT_FALSE(check_no_recursion(gfp::kernel));
  EXPECT_TRUE(messages.empty());
  EXPECT_EQ(context_violations(), 0u);
}

TEST_F(checker, switched_on_in_the_middle_it_says_what_it_knows) {
  set_reclaim_checker(false);
  const memalloc_nofs_scope scope;
  const fs_work unseen;
  set_reclaim_checker(true);
  {
    const fs_work work;
    ASSERT_EQ(messages.size(), 1u) << "where the scope was entered is not known";
    EXPECT_THAT(messages[0].text, HasSubstr("file system work inside a nofs scope"));
  }
  EXPECT_EQ(current().regions, nullptr);
}

TEST_F(checker, one_report_a_second_but_each_counts) {
  const reclaim_region reclaim(gfp::noio);
  for (unsigned i = 0; i < 5; ++i) const io_work work;
  EXPECT_EQ(messages.size(), 2u);
  EXPECT_EQ(context_violations(), 5u);
}

}  // namespace
}  // namespace kmem
