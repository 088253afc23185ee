// Runs a call with the nth fail point on its way failing, for n = 1, 2, ... until it passes all: once only, and for good from there.
#pragma once
#include <gtest/gtest.h>

#include <functional>

#include <kmem/kmem.hpp>

#include "reclaim/reclaim.hpp"

namespace kmem::test {

inline constexpr uint32_t most_points = 3000;

/// What a call has made; called to take it back. Empty: the call failed.
using undo = std::function<void()>;

struct call {
  const char* name;
  std::function<undo()> run;
};

inline machine& started_machine() {
  static const bool started = [] {
    char error[300];
    const bool good = init("mem=48M highmem=8M", error, sizeof error);
    EXPECT_TRUE(good) << error;
    return good;
  }();
  EXPECT_TRUE(started);
  return *serving_machine();
}

inline uint64_t settled_charge(machine& m) {
  drain_deferred_vfree(m);
  drain_caches(m, true);
  drain_cpu_pages(m, true);
  return charged_pages(m);
}

inline void fail_everywhere(const call& c) {
  machine& m = started_machine();
  if (const undo take_back = c.run()) take_back();  // what is made at first use stays: cold_fail_nth_test.cpp
  for (const bool persistent : {false, true}) {
    bool passed_all = false;
    uint32_t nth = 1, failures = 0;
    for (; nth < most_points && !passed_all; ++nth) {
      const uint64_t before = settled_charge(m);
      undo take_back;
      {
        const fail_nth_scope fail(nth, persistent);
        take_back = c.run();
        passed_all = !fail.hit();
      }
      if (passed_all) {
        EXPECT_TRUE(take_back) << c.name << ": failed without an injected failure";
      }
      if (take_back) {
        take_back();
      } else {
        ++failures;
      }
      ASSERT_EQ(settled_charge(m), before) << c.name << ": failure " << nth << (persistent ? " and all later ones" : "");
      const char* damage = machine_is_valid(m);
      ASSERT_EQ(damage, nullptr) << c.name << ": failure " << nth << ": " << damage;
    }
    EXPECT_TRUE(passed_all) << c.name;
    if (persistent) {
      EXPECT_GT(failures, 0u) << c.name << ": no fail point lies on its way";
    }
  }
}

template <class Pointer>
undo if_made(Pointer p, std::function<void(Pointer)> take_back) {
  if (p == nullptr) return {};
  return [p, take_back] { take_back(p); };
}

}  // namespace kmem::test
