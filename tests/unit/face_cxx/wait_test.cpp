// Scopes of waiting in the C++ and the C API: deadline, stop token, signal, errors, records.
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include <kmem/kmem.h>
#include <kmem/wait.hpp>

#include "api_fixture.hpp"

namespace kmem::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

class wait_api : public api_test {
 protected:
  void SetUp() override {
    api_test::SetUp();
    std::thread([] {}).join();
    while (page* const p = alloc_pages(gfp::kernel | gfp::noretry | gfp::nowarn, 0)) taken_.push_back(p);
  }
  void TearDown() override {
    for (page* const p : taken_) free_pages(p, 0);
    api_test::TearDown();
  }
  void give() {
    free_pages(taken_.front(), 0);  // of NORMAL: what was taken first
    taken_.erase(taken_.begin());
  }
  static uint64_t waits() {
    char text[4096];
    vmstat_text(text, sizeof text);
    const std::string all = text;
    return std::stoull(all.substr(all.find("kmem_waits ") + 11));
  }
  std::vector<page*> taken_;
};

constexpr gfp_t quiet = gfp::kernel | gfp::nowarn;

TEST_F(wait_api, a_deadline) {
  const wait_scope scope({.deadline = steady_clock::now() + milliseconds(30)});
  EXPECT_EQ(last_wait_end(), wait_end::none);
  EXPECT_EQ(wait_error(), 0);
  EXPECT_EQ(alloc_pages(quiet, 0), nullptr);
  EXPECT_EQ(last_wait_end(), wait_end::timed_out);
  EXPECT_EQ(wait_error(), -ETIMEDOUT);
  EXPECT_EQ(alloc_pages(quiet | gfp::noretry, 0), nullptr);
  EXPECT_EQ(last_wait_end(), wait_end::exhausted);
  EXPECT_EQ(wait_error(), -ENOMEM);
}

TEST_F(wait_api, a_deadline_that_is_past) {
  const uint64_t before = waits();
  const wait_scope scope({.deadline = steady_clock::time_point(steady_clock::duration(-5))});
  EXPECT_EQ(alloc_pages(quiet, 0), nullptr);
  EXPECT_EQ(last_wait_end(), wait_end::timed_out);
  EXPECT_EQ(waits(), before);
}

TEST_F(wait_api, no_deadline_but_a_stop) {
  std::stop_source source;
  std::atomic<bool> inside{false};
  std::thread sleeper([&] {
    const wait_scope scope({.deadline = steady_clock::time_point::max(), .stop = source.get_token()});
    inside = true;
    EXPECT_EQ(alloc_pages(quiet, 0), nullptr);
    EXPECT_EQ(last_wait_end(), wait_end::stopped);
    EXPECT_EQ(wait_error(), -ECANCELED);
    EXPECT_EQ(kmalloc(5000, quiet), nullptr) << "later waits end as well";
    EXPECT_EQ(last_wait_end(), wait_end::stopped);
  });
  const uint64_t before = waits();
  while (!inside || waits() == before) std::this_thread::yield();
  source.request_stop();
  sleeper.join();
}

TEST_F(wait_api, a_stop_before_the_wait_and_one_that_cannot_come) {
  std::stop_source source;
  source.request_stop();
  {
    const wait_scope outer({.deadline = steady_clock::time_point::max(), .stop = source.get_token()});
    const wait_scope inner({.stop = std::stop_token()});
    EXPECT_EQ(alloc_pages(quiet, 0), nullptr);
    EXPECT_EQ(last_wait_end(), wait_end::stopped);
  }
  EXPECT_EQ(alloc_pages(quiet, 0), nullptr);
  EXPECT_EQ(last_wait_end(), wait_end::exhausted) << "the scope is closed";
}

TEST_F(wait_api, a_free) {
  std::atomic<page*> got{nullptr};
  const uint64_t before = waits();
  std::thread sleeper([&] {
    const wait_scope scope({.deadline = steady_clock::time_point::max()});
    got = alloc_pages(quiet, 0);
    EXPECT_EQ(last_wait_end(), wait_end::served);
    EXPECT_EQ(wait_error(), 0);
  });
  while (waits() == before) std::this_thread::yield();
  give();
  sleeper.join();
  ASSERT_NE(got.load(), nullptr);
  taken_.push_back(got);
}

TEST_F(wait_api, a_sleep_is_recorded) {
  const uint64_t before = long_sleeps_total();
  pthread_setname_np(pthread_self(), "sleeps");
  {
    const wait_scope scope({.deadline = steady_clock::now() + milliseconds(120)});
    EXPECT_EQ(alloc_pages(quiet, 1), nullptr);
  }
  pthread_setname_np(pthread_self(), "unit_face_cxx");
  ASSERT_EQ(long_sleeps_total(), before + 1);
  long_sleep record;
  ASSERT_TRUE(read_long_sleep(before + 1, record));
  EXPECT_EQ(record.sequence, before + 1);
  EXPECT_STREQ(record.thread, "sleeps");
  EXPECT_STREQ(record.end, "timed_out");
  EXPECT_EQ(record.order, 1u);
  EXPECT_EQ(record.pages, 2u);
  EXPECT_EQ(record.bytes, 8192u);
  EXPECT_EQ(record.gfp, quiet);
  EXPECT_EQ(record.waker_id, 0) << "nobody freed anything";
  EXPECT_GE(record.slept_ns, 100'000'000u);
  EXPECT_FALSE(read_long_sleep(before + 2, record));
}

TEST_F(wait_api, a_signal_in_c) {
  static std::atomic<unsigned> handled;
  handled = 0;
  struct sigaction action {}, saved {};
  action.sa_handler = [](int) { handled.fetch_add(1); };
  sigaction(SIGUSR1, &action, &saved);
  std::atomic<bool> done{false};
  std::thread sleeper([&] {
    kmem_wait_scope scope;
    kmem_wait_enter(&scope, ~uint64_t{0}, true);
    EXPECT_EQ(kmem_alloc_pages(static_cast<kmem_gfp_t>(quiet), 0), nullptr);
    EXPECT_EQ(kmem_wait_error(), -EINTR);
    EXPECT_EQ(last_wait_end(), wait_end::interrupted);
    kmem_wait_leave(&scope);
    done = true;
  });
  while (!done) {
    const unsigned before = handled;
    pthread_kill(sleeper.native_handle(), SIGUSR1);
    while (!done && handled == before) std::this_thread::yield();
  }
  sleeper.join();
  sigaction(SIGUSR1, &saved, nullptr);
}

TEST_F(wait_api, a_stop_in_c) {
  kmem_wait_scope scope;
  kmem_wait_enter(&scope, ~uint64_t{0}, false);
  std::thread stopper([&] { kmem_wait_stop(&scope); });
  EXPECT_EQ(kmem_alloc_pages(static_cast<kmem_gfp_t>(quiet), 0), nullptr);
  EXPECT_EQ(kmem_wait_error(), -ECANCELED);
  stopper.join();
  kmem_wait_leave(&scope);
}

}  // namespace
}  // namespace kmem::test
