// The statistics segment from the side of the process: what is in it, when, and how requests are served.
#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "debug_fixture.hpp"

namespace kmem {
namespace {

class stat_segment : public test::debug_fixture {
 protected:
  void SetUp() override {
    debug_fixture::SetUp();
    m().config.stat = true;
    stat_start(m());
    ASSERT_NE(m().stat_segment, nullptr);
  }
  void TearDown() override {
    if (m().stat_segment != nullptr) plat::drop_segment(m().stat_segment);
    m().watch.store_relaxed(nullptr);
    debug_fixture::TearDown();
  }
  stat::segment& segment() { return *m().stat_segment; }

  // As another process asks: see kmem/stat_segment.hpp.
  void post(stat::command what, const std::string& argument = "") {
    segment().what = static_cast<uint32_t>(stat::command::none);
    std::memset(segment().argument, 0, sizeof segment().argument);
    std::memcpy(segment().argument, argument.data(), argument.size());
    segment().what = static_cast<uint32_t>(what);
    shared_word(segment().request).store_release(segment().request + 1);  // pairs: stat_request
  }
  bool served() { return shared_word(segment().served).load_acquire() == segment().request; }  // pairs: stat_served
  std::string answer() const {
    return reinterpret_cast<const char*>(const_cast<stat_segment*>(this)->m().stat_segment) + stat::text_offset;
  }
  // A slow path: more pages than any list holds.
  void slow_path() { kfree(m(), kmalloc(m(), 1 << 20, gfp::kernel)); }
  stat::reply ask(stat::command what, const std::string& argument = "") {
    post(what, argument);
    slow_path();
    EXPECT_TRUE(served());
    return static_cast<stat::reply>(segment().status);
  }
};

TEST_F(stat_segment, says_who_it_is_about) {
  EXPECT_EQ(segment().magic, stat::segment_magic);
  EXPECT_EQ(segment().version, stat::segment_version);
  EXPECT_EQ(segment().pid, static_cast<uint32_t>(getpid()));
  EXPECT_LE(segment().created_ns, plat::since_boot_ns());
  EXPECT_EQ(segment().now.budget, uint64_t{32} << 20);
  EXPECT_NE(std::string(segment().command_line).find("unit_debug"), std::string::npos) << segment().command_line;
}

TEST_F(stat_segment, taken_pages_are_true_after_every_slow_path) {
  std::vector<void*> held;
  for (int i = 0; i < 20; ++i) {
    held.push_back(kmalloc(m(), 64 << 10, gfp::kernel));
    uint64_t taken = 0;
    for (const zone& z : m().zones) taken += z.taken.load_relaxed();
    EXPECT_EQ(segment().taken_pages, taken);
  }
  for (void* p : held) kfree(m(), p);
  slow_path();
  uint64_t taken = 0;
  for (const zone& z : m().zones) taken += z.taken.load_relaxed();
  EXPECT_EQ(segment().taken_pages, taken);
}

TEST_F(stat_segment, figures_are_those_of_the_machine) {
  std::vector<void*> held;
  for (int i = 0; i < 1000; ++i) held.push_back(kmalloc(m(), 512, gfp::kernel));
  stat_publish(m());
  const stat::figures& f = segment().now;
  EXPECT_EQ(segment().sequence % 2, 0u);
  EXPECT_EQ(f.budget, uint64_t{32} << 20);
  EXPECT_EQ(f.charged, charged_pages(m()) << page_shift);
  EXPECT_EQ(f.metadata, m().metadata_pages.load_relaxed() << page_shift);
  EXPECT_EQ(f.charged + f.in_cpu_lists + f.pool, segment().taken_pages << page_shift);
  EXPECT_GE(f.live, 1000u * 512);
  EXPECT_LE(f.live, f.charged);
  EXPECT_GE(f.charged_peak, f.charged);
  uint64_t reserve = 0;
  for (const zone& z : m().zones) reserve += z.reserve.nr_pages.load_relaxed();
  EXPECT_EQ(f.reserve, reserve << page_shift);
  bool found = false;
  for (uint64_t i = 0; i < segment().nr_cache_rows; ++i) {
    const stat::cache_row& row = segment().caches[i];
    if (std::string(row.name) != "kmalloc-512") continue;
    found = true;
    EXPECT_EQ(row.size, 512u);
    EXPECT_EQ(row.active, 1000u);
    EXPECT_GE(row.total, row.active + row.in_arrays);
    EXPECT_GE(row.slab_bytes, row.total * 512);
  }
  EXPECT_TRUE(found);
  for (void* p : held) kfree(m(), p);
}

TEST_F(stat_segment, counters_are_those_of_vmstat) {
  stat_publish(m());
  std::string text;
  for (uint64_t i = 0; i < segment().nr_counters; ++i)
    text += std::string(segment().counters[i].name) + " " + std::to_string(segment().counters[i].value) + "\n";
  EXPECT_EQ(text, text_of(write_vmstat));
  EXPECT_LT(segment().nr_counters, stat::max_counters) << "no room is left: rows would be missing";
}

TEST_F(stat_segment, a_request_is_served_at_the_next_slow_path_and_not_before) {
  post(stat::command::text, "meminfo");
  EXPECT_FALSE(served());
  slow_path();
  EXPECT_TRUE(served());
  EXPECT_EQ(static_cast<stat::reply>(segment().status), stat::reply::done);
  EXPECT_EQ(static_cast<stat::server>(segment().served_by), stat::server::slow_path);
  EXPECT_EQ(answer().rfind("MemTotal:", 0), 0u) << answer();
  EXPECT_EQ(segment().reply_bytes, answer().size());
}

TEST_F(stat_segment, every_text_is_served) {
  for (const char* name : {"slabinfo", "buddyinfo", "zoneinfo", "vmstat", "meminfo"}) {
    EXPECT_EQ(ask(stat::command::text, name), stat::reply::done) << name;
    EXPECT_GT(segment().reply_bytes, 20u) << name;
  }
  EXPECT_EQ(ask(stat::command::text, "vmallocinfo"), stat::reply::done);
  EXPECT_EQ(ask(stat::command::text, "nonsense"), stat::reply::unknown);
  EXPECT_EQ(answer(), "nonsense: there is no such text; there are slabinfo buddyinfo zoneinfo vmstat meminfo vmallocinfo");
}

TEST_F(stat_segment, an_unknown_request_and_a_full_argument_are_answered) {
  EXPECT_EQ(ask(static_cast<stat::command>(77)), stat::reply::unknown);
  EXPECT_EQ(ask(stat::command::text, std::string(sizeof segment().argument, 'x')), stat::reply::unknown);
  EXPECT_EQ(ask(stat::command::set, std::string(sizeof segment().argument, '=')), stat::reply::unknown);
}

TEST_F(stat_segment, nothing_is_served_to_who_is_still_writing) {
  post(stat::command::set, "mem=16M");
  segment().what = static_cast<uint32_t>(stat::command::none);  // the next asker begins
  slow_path();
  EXPECT_EQ(budget_now(m()).raw(), (32u << 20) >> page_shift);
}

TEST_F(stat_segment, nothing_is_served_in_atomic_context) {
  post(stat::command::refresh);
  {
    const preempt_guard guard;
    kfree(m(), kmalloc(m(), 1 << 20, gfp::atomic));
    EXPECT_FALSE(served());
  }
  slow_path();
  EXPECT_TRUE(served());
}

TEST_F(stat_segment, trim_gives_free_memory_back) {
  std::vector<void*> held;
  for (int i = 0; i < 64; ++i) {
    held.push_back(kmalloc(m(), 64 << 10, gfp::kernel));
    std::memset(held.back(), 1, 64 << 10);
  }
  for (void* p : held) kfree(m(), p);
  EXPECT_EQ(ask(stat::command::trim), stat::reply::done);
  EXPECT_GE(std::stoull(answer()), uint64_t{2} << 20);
}

TEST_F(stat_segment, the_child_of_a_fork_has_one_of_its_own_or_none) {
  stat::segment* const parents = m().stat_segment;
  const uint64_t events = parents->events;
  const pid_t without = fork();  // no fork handler runs for this machine, as after a raw clone()
  if (without == 0) {
    for (int i = 0; i < 100; ++i) slow_path();
    _exit(parents->events == events && parents->pid == static_cast<uint32_t>(getppid()) ? 0 : 1);
  }
  int status = -1;
  waitpid(without, &status, 0);
  EXPECT_EQ(status, 0);
  const pid_t with = fork();
  if (with == 0) {
    stat_fork_child(m());
    const stat::segment& own = segment();
    slow_path();
    _exit(own.pid == static_cast<uint32_t>(getpid()) && own.events == 2 && own.magic == stat::segment_magic ? 0 : 1);
  }
  waitpid(with, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(parents->events, events) << "a child has written its parent's segment";
  EXPECT_EQ(parents->pid, static_cast<uint32_t>(getpid()));
}

TEST_F(stat_segment, kswapd_serves_at_once) {
  post(stat::command::refresh);
  uint32_t word = 0;
  wait_or_serve(m(), &word, ~uint64_t{0});  // as kswapd sleeps
  EXPECT_TRUE(served());
  EXPECT_EQ(static_cast<stat::server>(segment().served_by), stat::server::background_thread);
}

class no_stat_segment : public test::debug_fixture {};

TEST_F(no_stat_segment, is_the_default_of_a_machine) {
  stat_start(m());
  EXPECT_EQ(m().watch.load_relaxed(), nullptr);
  EXPECT_EQ(m().stat_segment, nullptr);
}

}  // namespace
}  // namespace kmem
