#include "base/fail.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <thread>

namespace kmem {
namespace {

class Fail : public testing::Test {
 protected:
  void TearDown() override {
    for (unsigned i = 0; i < nr_fail_points; ++i) set_fail_attributes(static_cast<fail_point>(i), {});
  }
  /// One character a passage: F failed, . did not.
  static std::string passages(unsigned count, fail_point point = fail_point::failslab, uint64_t units = 64) {
    std::string result;
    for (unsigned i = 0; i < count; ++i) result += should_fail(point, units) ? 'F' : '.';
    return result;
  }
};

TEST_F(Fail, APointThatIsOffNeverFailsAndCountsNothing) {
  EXPECT_EQ(passages(5), ".....");
  EXPECT_EQ(get_fail_counts(fail_point::failslab).passed, 0u);
}

TEST_F(Fail, PointsAreIndependentAndHaveTheKernelsNames) {
  set_fail_attributes(fail_point::fail_mmap, {.probability = 100});
  EXPECT_EQ(passages(2, fail_point::failslab), "..");
  EXPECT_EQ(passages(2, fail_point::fail_page_alloc), "..");
  EXPECT_EQ(passages(2, fail_point::fail_mmap), "FF");
  EXPECT_STREQ(fail_point_name(fail_point::failslab), "failslab");
  EXPECT_STREQ(fail_point_name(fail_point::fail_page_alloc), "fail_page_alloc");
  EXPECT_STREQ(fail_point_name(fail_point::fail_mmap), "fail_mmap");
}

TEST_F(Fail, IntervalLetsOnlyEveryNthBeACandidate) {
  set_fail_attributes(fail_point::failslab, {.probability = 100, .interval = 3});
  EXPECT_EQ(passages(9), "..F..F..F");
}

TEST_F(Fail, TimesLimitsTheFailures) {
  set_fail_attributes(fail_point::failslab, {.probability = 100, .times = 2});
  EXPECT_EQ(passages(4), "FF..");
  set_fail_attributes(fail_point::failslab, {.probability = 100, .times = 0});
  EXPECT_EQ(passages(4), "....");
  EXPECT_EQ(get_fail_counts(fail_point::failslab).passed, 4u);
  EXPECT_EQ(get_fail_counts(fail_point::failslab).failed, 0u);
}

TEST_F(Fail, SpaceLetsThatManyUnitsPassFirst) {
  set_fail_attributes(fail_point::failslab, {.probability = 100, .space = 200});
  EXPECT_EQ(passages(5), "...FF");  // 3 * 64 fit into 200, the rest of 8 is too little
  set_fail_attributes(fail_point::failslab, {.probability = 100, .space = 128});
  EXPECT_EQ(passages(3), ".FF");  // what fits exactly is not let pass, as in the kernel
}

TEST_F(Fail, ProbabilityIsRoughlyMetAndTheSeedRepeatsIt) {
  set_fail_attributes(fail_point::failslab, {.probability = 30, .seed = 7});
  const std::string first = passages(2000);
  const fail_counts counts = get_fail_counts(fail_point::failslab);
  EXPECT_EQ(counts.passed, 2000u);
  EXPECT_GT(counts.failed, 480u);  // 600 expected, deviation 20
  EXPECT_LT(counts.failed, 720u);
  set_fail_attributes(fail_point::failslab, {.probability = 30, .seed = 7});
  EXPECT_EQ(passages(2000), first);
  set_fail_attributes(fail_point::failslab, {.probability = 30, .seed = 8});
  EXPECT_NE(passages(2000), first);
}

TEST_F(Fail, NthFailsOnceOrForGood) {
  {
    const fail_nth_scope armed(3, false);
    EXPECT_EQ(passages(2), "..");
    EXPECT_FALSE(armed.hit());
    EXPECT_EQ(passages(1, fail_point::fail_mmap), "F");  // of any point
    EXPECT_TRUE(armed.hit());
    EXPECT_EQ(passages(3), "...");
  }
  {
    const fail_nth_scope armed(2, true);
    EXPECT_EQ(passages(4), ".FFF");
  }
  EXPECT_EQ(passages(3), "...");
}

TEST_F(Fail, NthHidesTheKnobsAndAnInnerScopeTheOuterOne) {
  set_fail_attributes(fail_point::failslab, {.probability = 100});
  {
    const fail_nth_scope outer(3, false);
    EXPECT_EQ(passages(1), ".");
    {
      const fail_nth_scope inner(1, false);
      EXPECT_EQ(passages(2), "F.");
      EXPECT_TRUE(inner.hit());
    }
    EXPECT_FALSE(outer.hit());
    EXPECT_EQ(passages(3), ".F.");
  }
  EXPECT_EQ(passages(1), "F");
}

TEST_F(Fail, NthZeroArmsNothing) {
  const fail_nth_scope armed(0, true);
  EXPECT_EQ(passages(3), "...");
  EXPECT_FALSE(armed.hit());
}

TEST_F(Fail, NthBelongsToItsThread) {
  const fail_nth_scope armed(1, true);
  std::string other;
  std::thread([&other] { other = passages(3); }).join();
  EXPECT_EQ(other, "...");
  EXPECT_EQ(passages(1), "F");
}

TEST_F(Fail, ParsesTheKernelsForm) {
  fail_attributes parsed;
  ASSERT_TRUE(parse_fail_attributes("3,50,4096,-1", parsed));
  EXPECT_EQ(parsed.interval, 3u);
  EXPECT_EQ(parsed.probability, 50u);
  EXPECT_EQ(parsed.space, 4096u);
  EXPECT_EQ(parsed.times, -1);
  ASSERT_TRUE(parse_fail_attributes("1,100,0,10", parsed));
  EXPECT_EQ(parsed.times, 10);
  ASSERT_TRUE(parse_fail_attributes("4294967295,0,18446744073709551615,2147483647", parsed));
  EXPECT_EQ(parsed.interval, 4294967295u);
  EXPECT_EQ(parsed.space, 18446744073709551615u);
  EXPECT_EQ(parsed.times, 2147483647);
}

TEST_F(Fail, RefusesMalformedTextAndChangesNothing) {
  const char* const bad[] = {"",           "1",           "1,2,3",          "1,2,3,",   "1,2,3,4,",  "1,2,3,4 ",     " 1,2,3,4",
                             "0,2,3,4",    "1,101,3,4",   "1,2,3,-2",       "1,2,3,-",  "-1,2,3,4",  "1,2,-3,4",     "x,2,3,4",
                             "1;2;3;4",    "1,,3,4",      "1,2,3,0x4",      "1,2,3,-12", "1,2,3,2147483648",
                             "4294967296,2,3,4", "1,2,18446744073709551616,4"};
  for (const char* text : bad) {
    fail_attributes parsed{.probability = 1, .interval = 2, .times = 3, .space = 4, .seed = 5};
    EXPECT_FALSE(parse_fail_attributes(text, parsed)) << "'" << text << "'";
    EXPECT_TRUE(parsed.probability == 1 && parsed.interval == 2 && parsed.times == 3 && parsed.space == 4 && parsed.seed == 5) << text;
  }
}

}  // namespace
}  // namespace kmem
