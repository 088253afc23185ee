// The reader of statistics segments, with segments that are not what they should be.
#include <gtest/gtest.h>

#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "live/segment.hpp"
#include "live/summary.hpp"

namespace kmem::tool::live {
namespace {

// A segment in this process's own memory, as a process would have filled it.
std::unique_ptr<stat::segment> good_segment() {
  auto s = std::make_unique<stat::segment>();
  s->magic = stat::segment_magic;
  s->version = stat::segment_version;
  s->bytes = stat::segment_bytes;
  s->pid = static_cast<std::uint32_t>(getpid());
  s->created_ns = identify(getpid()).started_ns;
  s->taken_pages = 1000;
  s->now.budget = 64 << 20;
  s->now.pool = 4096;
  s->now.in_cpu_lists = 8192;
  std::memcpy(s->command_line, "program one two", sizeof "program one two");
  return s;
}

std::string refusal(const stat::segment& s) {
  view v;
  return read_view(s, v).value_or("");
}

TEST(live_segment, a_good_one_is_read) {
  auto s = good_segment();
  s->nr_counters = 1;
  std::memcpy(s->counters[0].name, "pgfree", sizeof "pgfree");
  s->counters[0].value = 7;
  s->nr_cache_rows = 1;
  std::memcpy(s->caches[0].name, "kmalloc-64", sizeof "kmalloc-64");
  s->caches[0].active = 3;
  view v;
  ASSERT_EQ(read_view(*s, v), std::nullopt);
  EXPECT_EQ(v.pid, getpid());
  EXPECT_EQ(v.command, "program one two");
  EXPECT_EQ(v.charged_now(), 997u * 4096);
  EXPECT_FALSE(v.torn);
  ASSERT_EQ(v.counters.size(), 1u);
  EXPECT_EQ(v.counters[0].name, "pgfree");
  EXPECT_EQ(v.counters[0].value, 7u);
  ASSERT_EQ(v.caches.size(), 1u);
  EXPECT_EQ(v.caches[0].active, 3u);
}

TEST(live_segment, one_that_is_none_is_refused) {
  auto s = good_segment();
  s->magic ^= 1;
  EXPECT_EQ(refusal(*s), "it is no statistics segment");
  s = good_segment();
  s->version = 2;
  EXPECT_EQ(refusal(*s), "its segment has the version 2, and this kmem understands 1 only: use the kmem that belongs to its library");
  s = good_segment();
  s->bytes = 4096;
  EXPECT_NE(refusal(*s).find("another size"), std::string::npos);
  s = good_segment();
  s->pid = 0xffffffff;
  EXPECT_NE(refusal(*s).find("impossible number"), std::string::npos);
}

TEST(live_segment, counts_and_texts_are_bounded) {
  auto s = good_segment();
  s->nr_counters = s->nr_cache_rows = ~std::uint64_t{0};
  std::memset(s->command_line, 'x', sizeof s->command_line);
  for (stat::cache_row& row : s->caches) std::memset(&row, 0xff, sizeof row);
  for (stat::counter_row& row : s->counters) std::memset(&row, 'y', sizeof row);
  s->taken_pages = ~std::uint64_t{0};
  std::memset(&s->now, 0xff, sizeof s->now);
  view v;
  ASSERT_EQ(read_view(*s, v), std::nullopt);
  EXPECT_EQ(v.command, std::string(sizeof s->command_line, 'x'));
  EXPECT_EQ(v.caches.size(), stat::max_caches);
  EXPECT_EQ(v.caches[0].name, std::string(32, '?'));
  EXPECT_EQ(v.counters.size(), stat::max_counters);
  EXPECT_EQ(v.counters[0].name, std::string(40, 'y'));
  EXPECT_FALSE(summary_text(v, now_ns(), {}).empty());
  EXPECT_FALSE(summary_json(v, now_ns()).dump().empty());
}

TEST(live_segment, figures_that_are_being_written_are_said_to_be) {
  auto s = good_segment();
  s->sequence = 5;
  view v;
  ASSERT_EQ(read_view(*s, v), std::nullopt);
  EXPECT_TRUE(v.torn);
  EXPECT_NE(age_note(v, now_ns()), "");
  s->sequence = 6;
  s->now.time_ns = now_ns();
  ASSERT_EQ(read_view(*s, v), std::nullopt);
  EXPECT_FALSE(v.torn);
  EXPECT_EQ(age_note(v, s->now.time_ns + 10), "");
  EXPECT_NE(age_note(v, s->now.time_ns + 5'000'000'000), "");
}

// Whoever is read must not be able to speak to the terminal.
TEST(live_segment, texts_are_printable) {
  const auto shown = [](const std::string& text) { return printable(text.data(), text.size()); };
  EXPECT_EQ(shown("a\x1b[2Jb\x7f"), "a?[2Jb?");
  EXPECT_EQ(shown("one\ntwo\tthree"), "one two three");
  const std::string utf8 = "gr\xc3\xbc\xc3\x9f" "e \xe2\x82\xac \xf0\x9f\x98\x80";
  EXPECT_EQ(shown(utf8), utf8);
  EXPECT_EQ(shown("\xc2\x9b" "31m"), "??31m");  // a C1 control
  EXPECT_EQ(shown("\xff\xfe\xc3"), "???");
  EXPECT_EQ(shown(std::string("ab\0cd", 5)), "ab");
}

TEST(live_segment, rows_of_the_system_are_read_and_others_passed_by) {
  const std::string head = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid\n";
  const auto rows = list_candidates(
      head +
      "         0     229429  1600                262144  3479  3480      2  1000  1000\n"
      "         0          5   600                  4096  3479  3479      1     0     0\n"  // another size
      "         0          6   600                262144     0     0      1     0     0\n"    // of another PID namespace
      "         0 99999999999  600              262144     7     7      1     0     0\n"
      "         0          7\n\nnonsense\n");
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].id, 229429);
  EXPECT_EQ(rows[0].maker, 3479);
  EXPECT_EQ(rows[0].attached, 2u);
  EXPECT_EQ(rows[0].owner, 1000u);
  EXPECT_TRUE(list_candidates("").empty());
}

// A real segment that this process makes as the library would.
class shared : public ::testing::Test {
 protected:
  void make(std::size_t bytes, bool keep = false) {
    id_ = shmget(IPC_PRIVATE, bytes, IPC_CREAT | 0600);
    ASSERT_GE(id_, 0);
    segment_ = static_cast<stat::segment*>(shmat(id_, nullptr, 0));
    if (!keep) shmctl(id_, IPC_RMID, nullptr);
    std::memcpy(static_cast<void*>(segment_), good_segment().get(), bytes < sizeof(stat::segment) ? bytes : sizeof(stat::segment));
  }
  void TearDown() override {
    if (segment_ != nullptr) shmdt(segment_);
  }
  int id_ = -1;
  stat::segment* segment_ = nullptr;
};

TEST_F(shared, is_found_by_the_number_of_its_process) {
  make(stat::segment_bytes);
  live_process found;
  std::string error;
  ASSERT_TRUE(find_process(getpid(), found, error)) << error;
  EXPECT_EQ(found.last.taken_bytes, 1000u * 4096);
}

TEST_F(shared, of_another_size_is_not_looked_at) {
  make(4096);
  live_process found;
  std::string error;
  EXPECT_FALSE(find_process(getpid(), found, error));
  EXPECT_NE(error.find("shows no figures"), std::string::npos) << error;
}

TEST_F(shared, that_speaks_of_another_process_is_refused) {
  make(stat::segment_bytes);
  segment_->pid = 1;
  live_process found;
  std::string error;
  EXPECT_FALSE(find_process(getpid(), found, error));
  EXPECT_NE(error.find("speaks of another process"), std::string::npos) << error;
}

// The number is taken again by a process that was started later.
TEST_F(shared, of_an_earlier_process_with_the_same_number_is_not_taken) {
  make(stat::segment_bytes);
  segment_->created_ns -= 1;
  live_process found;
  std::string error;
  EXPECT_FALSE(find_process(getpid(), found, error));
}

TEST_F(shared, of_a_newer_version_is_said_to_be) {
  make(stat::segment_bytes);
  segment_->version = 9;
  live_process found;
  std::string error;
  EXPECT_FALSE(find_process(getpid(), found, error));
  EXPECT_NE(error.find("has the version 9"), std::string::npos) << error;
}

TEST_F(shared, what_a_dead_process_has_left_is_removed_by_who_looks) {
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  const pid_t child = fork();
  if (child == 0) {
    make(stat::segment_bytes, true);
    (void)!write(pipes[1], &id_, sizeof id_);
    _exit(0);
  }
  int left = -1, status = 0;
  ASSERT_EQ(read(pipes[0], &left, sizeof left), static_cast<ssize_t>(sizeof left));
  waitpid(child, &status, 0);
  shmid_ds about{};
  ASSERT_EQ(shmctl(left, IPC_STAT, &about), 0);
  (void)find_processes();
  EXPECT_NE(shmctl(left, IPC_STAT, &about), 0);
  close(pipes[0]);
  close(pipes[1]);
}

class mailbox : public shared {
 protected:
  void SetUp() override {
    make(stat::segment_bytes);
    std::string error;
    ASSERT_TRUE(find_process(getpid(), asker_, error)) << error;
  }
  // What the library does: serves one request with this answer, from another thread.
  std::thread serve(const std::string& text, stat::reply result) {
    return std::thread([this, text, result] {
      std::uint32_t number = 0;
      while ((number = __atomic_load_n(&segment_->request, __ATOMIC_ACQUIRE)) == segment_->served) std::this_thread::yield();
      std::memcpy(reinterpret_cast<char*>(segment_) + stat::text_offset, text.data(), text.size());
      segment_->reply_bytes = text.size();
      segment_->status = static_cast<std::uint32_t>(result);
      __atomic_store_n(&segment_->served, number, __ATOMIC_RELEASE);
    });
  }
  live_process asker_;
};

TEST_F(mailbox, an_answer_comes_back) {
  std::thread server = serve("MemTotal: 1 kB\n", stat::reply::done);
  reply answer;
  EXPECT_EQ(asker_.segment.ask(stat::command::text, "meminfo", std::chrono::seconds(60), answer), ask_end::served);
  server.join();
  EXPECT_EQ(answer.text, "MemTotal: 1 kB\n");
  EXPECT_EQ(answer.status, stat::reply::done);
  EXPECT_FALSE(answer.cut);
  EXPECT_STREQ(segment_->argument, "meminfo");
  EXPECT_EQ(segment_->asker, 0u);
}

TEST_F(mailbox, nobody_answers) {
  reply answer;
  EXPECT_EQ(asker_.segment.ask(stat::command::get, "mem", std::chrono::milliseconds(1), answer), ask_end::waiting);
  EXPECT_EQ(segment_->asker, 0u);
  EXPECT_EQ(static_cast<stat::command>(segment_->what), stat::command::get);
}

TEST_F(mailbox, a_change_that_waits_is_not_overwritten) {
  reply answer;
  EXPECT_EQ(asker_.segment.ask(stat::command::set, "mem=64M", std::chrono::milliseconds(1), answer), ask_end::waiting);
  for (const stat::command what : {stat::command::text, stat::command::set, stat::command::trim, stat::command::get}) {
    EXPECT_EQ(asker_.segment.ask(what, "mem=32M", std::chrono::milliseconds(1), answer), ask_end::busy);
    EXPECT_EQ(answer.text, "mem=64M");
    EXPECT_STREQ(segment_->argument, "mem=64M");
  }
  // Figures are published with whatever is served: who wants them only waits.
  EXPECT_EQ(asker_.segment.ask(stat::command::refresh, "", std::chrono::milliseconds(1), answer), ask_end::waiting);
  EXPECT_STREQ(segment_->argument, "mem=64M");
  EXPECT_EQ(segment_->request, 1u);
}

TEST_F(mailbox, a_question_that_waits_gives_way) {
  reply answer;
  EXPECT_EQ(asker_.segment.ask(stat::command::text, "vmstat", std::chrono::milliseconds(1), answer), ask_end::waiting);
  EXPECT_EQ(asker_.segment.ask(stat::command::set, "mem=32M", std::chrono::milliseconds(1), answer), ask_end::waiting);
  EXPECT_STREQ(segment_->argument, "mem=32M");
}

TEST_F(mailbox, an_asker_that_died_is_in_nobodys_way) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  int status = 0;
  waitpid(child, &status, 0);
  segment_->asker = static_cast<std::uint32_t>(child);
  reply answer;
  EXPECT_EQ(asker_.segment.ask(stat::command::get, "mem", std::chrono::milliseconds(1), answer), ask_end::waiting);
  segment_->asker = static_cast<std::uint32_t>(getppid());  // somebody who lives
  EXPECT_EQ(asker_.segment.ask(stat::command::get, "mem", std::chrono::milliseconds(1), answer), ask_end::busy);
}

TEST_F(mailbox, an_answer_longer_than_the_segment_is_cut) {
  std::thread server([this] {
    std::uint32_t number = 0;
    while ((number = __atomic_load_n(&segment_->request, __ATOMIC_ACQUIRE)) == 0) std::this_thread::yield();
    segment_->reply_bytes = ~std::uint64_t{0};
    __atomic_store_n(&segment_->served, number, __ATOMIC_RELEASE);
  });
  reply answer;
  EXPECT_EQ(asker_.segment.ask(stat::command::text, "vmstat", std::chrono::seconds(60), answer), ask_end::served);
  server.join();
  EXPECT_TRUE(answer.cut);
  EXPECT_EQ(answer.text.size(), stat::text_bytes - 1);
}

}  // namespace
}  // namespace kmem::tool::live
