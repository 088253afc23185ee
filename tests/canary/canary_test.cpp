// Fails on purpose. It is registered to fail: a runner under which it passes would not notice any failure.
#include <gtest/gtest.h>

TEST(canary, fails_on_purpose) { EXPECT_EQ(1, 2) << "meant to fail"; }
