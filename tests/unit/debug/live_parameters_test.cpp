// Parameters of a machine that serves.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "debug_fixture.hpp"

namespace kmem {
namespace {

class live_parameters : public test::debug_fixture {
 protected:
  struct result {
    stat::reply status;
    std::string text;
  };
  template <class Function>
  result call(Function function, const char* word) {
    char text[400];
    size_t length = 0;
    const stat::reply status = function(m(), word, text, sizeof text, length);
    EXPECT_EQ(length, std::string(text).size());
    return {status, text};
  }
  result change(const char* word) { return call(change_parameter, word); }
  result show(const char* name) { return call(show_parameter, name); }
};

TEST_F(live_parameters, every_one_is_shown) {
  for (const parameter_info& p : parameters()) {
    const result shown = show(p.name);
    EXPECT_EQ(shown.status, stat::reply::done);
    EXPECT_EQ(shown.text.rfind(std::string(p.name) + "=", 0), 0u) << shown.text;
    EXPECT_GT(shown.text.size(), std::string(p.name).size() + 1);
  }
  EXPECT_EQ(show("mem").text, "mem=32768K");
  EXPECT_EQ(show("vm.alloc-wait-ms").text, "vm.alloc_wait_ms=0");
}

TEST_F(live_parameters, an_unknown_name_is_answered_with_the_nearest) {
  EXPECT_EQ(show("vm.alloc_wait").text, "vm.alloc_wait: unknown parameter; 'kmem params' lists the known ones");
  const result changed = change("failslap=1,10,0,-1");
  EXPECT_EQ(changed.status, stat::reply::unknown);
  EXPECT_EQ(changed.text, "failslap: unknown parameter; did you mean failslab?");
}

TEST_F(live_parameters, those_that_take_effect_at_the_next_request_change) {
  const struct {
    const char* word;
    const char* shown;
  } rows[] = {{"vm.alloc_wait_ms=25", "vm.alloc_wait_ms=25"},         {"vm.sleep-record-ms=7", "vm.sleep_record_ms=7"},
              {"vm.reserve_policy=linux6.1", "vm.reserve_policy=linux6.1"}, {"vm.reclaim_checker=0", "vm.reclaim_checker=0"},
              {"context_policy=count", "context_policy=count"},       {"fail_mmap=3,50,4096,2", "fail_mmap=3,50,4096,2"}};
  for (const auto& row : rows) {
    const result changed = change(row.word);
    EXPECT_EQ(changed.status, stat::reply::done) << changed.text;
    EXPECT_EQ(changed.text, row.shown);
    EXPECT_EQ(show(std::string(row.shown).substr(0, std::string(row.shown).find('=')).c_str()).text, row.shown);
  }
  EXPECT_EQ(change("context_policy=report").status, stat::reply::done);
  EXPECT_EQ(change("fail_mmap=1,0,0,-1").status, stat::reply::done);
}

TEST_F(live_parameters, fail_points_fail_from_then_on) {
  EXPECT_EQ(change("failslab=1,100,0,2").status, stat::reply::done);
  EXPECT_EQ(kmalloc(m(), 64, gfp::kernel | gfp::nowarn), nullptr);
  EXPECT_EQ(kmalloc(m(), 64, gfp::kernel | gfp::nowarn), nullptr);
  void* const p = kmalloc(m(), 64, gfp::kernel | gfp::nowarn);
  EXPECT_NE(p, nullptr);
  kfree(m(), p);
  EXPECT_EQ(change("failslab=1,0,0,-1").status, stat::reply::done);
}

TEST_F(live_parameters, what_was_laid_out_at_the_start_is_read_only) {
  for (const char* word : {"cpus=3", "span=4G", "backing=memfd", "vm.min_free_kbytes=4096", "stat=1", "vm.kswapd=1"}) {
    const result changed = change(word);
    EXPECT_EQ(changed.status, stat::reply::read_only) << word;
    EXPECT_NE(changed.text.find("can only be given at the start"), std::string::npos) << changed.text;
  }
}

TEST_F(live_parameters, wrong_values_change_nothing) {
  for (const char* word : {"mem=1K", "mem=lots", "mem", "mem=auto", "mem=64M", "vm.alloc_wait_ms=x", "failslab=1", "mem=16M cpus=2"}) {
    const result changed = change(word);
    EXPECT_EQ(changed.status, stat::reply::invalid) << word << ": " << changed.text;
    EXPECT_FALSE(changed.text.empty());
    EXPECT_EQ(show("mem").text, "mem=32768K");
  }
}

// The budget is kept from the moment that it is changed.
TEST_F(live_parameters, the_budget_goes_down_and_up_again) {
  ASSERT_EQ(change("mem=16M").text, "mem=16384K");
  EXPECT_EQ(bytes(budget_now(m())), uint64_t{16} << 20);
  std::vector<void*> held;
  while (void* const p = kmalloc(m(), 64 << 10, gfp::kernel | gfp::nowarn)) held.push_back(p);
  uint64_t committed = m().metadata_pages.load_relaxed();
  for (const zone& z : m().zones) committed += z.committed.load_relaxed();
  EXPECT_LE(committed << page_shift, uint64_t{16} << 20);
  const size_t at_sixteen = held.size();
  EXPECT_GT(at_sixteen, 100u);
  ASSERT_EQ(change("mem=24M").text, "mem=24576K");
  while (void* const p = kmalloc(m(), 64 << 10, gfp::kernel | gfp::nowarn)) held.push_back(p);
  EXPECT_GE(held.size(), at_sixteen + 100);
  const result refused = change("mem=8M");
  EXPECT_EQ(refused.status, stat::reply::refused) << refused.text;
  EXPECT_NE(refused.text.find("are in the way"), std::string::npos) << refused.text;
  EXPECT_EQ(show("mem").text, "mem=24576K");
  for (void* p : held) kfree(m(), p);
  EXPECT_EQ(change("mem=32M").text, "mem=32768K");
  EXPECT_EQ(machine_is_valid(m()), nullptr);
}

// What shrinkers can free is not in the way.
TEST_F(live_parameters, a_lower_budget_reclaims) {
  struct cache {
    machine* m;
    std::vector<void*> objects;
  } held{&m(), {}};
  while (held.objects.size() < 300) held.objects.push_back(kmalloc(m(), 64 << 10, gfp::kernel));
  reclaim_callback callback;
  callback.context = &held;
  callback.reclaim = [](void* context, gfp_t, uint64_t wanted) noexcept -> uint64_t {
    auto& c = *static_cast<cache*>(context);
    uint64_t freed = 0;
    for (; freed < wanted && !c.objects.empty(); freed += 16) {
      kfree(*c.m, c.objects.back());
      c.objects.pop_back();
    }
    return freed;
  };
  const int number = register_callback(m(), callback);
  ASSERT_GE(number, 0);
  const result changed = change("mem=12M");
  EXPECT_EQ(changed.status, stat::reply::done) << changed.text;
  EXPECT_LT(held.objects.size(), 192u);  // 12 MiB
  EXPECT_GT(held.objects.size(), 50u) << "more was reclaimed than was in the way";
  unregister_callback(m(), number);
  for (void* p : held.objects) kfree(m(), p);
}

}  // namespace
}  // namespace kmem
