#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "plat/plat.hpp"
#include "support/thread_sanitizer.hpp"

namespace kmem {
namespace {

constexpr size_t megabyte = size_t{1} << 20;

/// Runs `body` in a forked child. Return: its wait status; its exit status is what `body` returns.
int run_in_child(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

size_t resident_pages(const void* begin, size_t bytes) {
  std::vector<unsigned char> pages(bytes / page_size);
  EXPECT_EQ(mincore(const_cast<void*>(begin), bytes, pages.data()), 0);
  size_t resident = 0;
  for (const unsigned char page : pages) resident += page & 1;
  return resident;
}

/// What RLIMIT_DATA counts of this process already: a sanitizer maps a lot.
size_t data_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (size_t kib = 0; word == "VmData:" && status >> kib) return kib * 1024;
  ADD_FAILURE() << "no VmData in /proc/self/status";
  return 0;
}

class EachBacking : public testing::TestWithParam<backing> {
 protected:
  void SetUp() override {
    arena_ = plat::reserve(64 * megabyte, 2 * megabyte, GetParam());
    ASSERT_NE(arena_.base, nullptr);
  }
  void TearDown() override { plat::release(arena_); }
  address_reservation arena_;
};
INSTANTIATE_TEST_SUITE_P(Plat, EachBacking, testing::Values(backing::anon, backing::memfd),
                         [](const auto& info) { return info.param == backing::anon ? "anon" : "memfd"; });

TEST_P(EachBacking, ReserveAlignsAndGivesNoAccess) {
  EXPECT_EQ(reinterpret_cast<uintptr_t>(arena_.base) % (2 * megabyte), 0u);
  EXPECT_EQ(arena_.bytes, 64 * megabyte);
  EXPECT_EQ(arena_.shared, GetParam() == backing::memfd);
  EXPECT_FALSE(plat::is_readable(arena_.base));
  EXPECT_EQ(resident_pages(arena_.base, arena_.bytes), 0u);
}

TEST_P(EachBacking, OpenGivesZeroedMemoryOfExactlyThatRange) {
  ASSERT_TRUE(plat::open(arena_.base + megabyte, megabyte));
  for (size_t i = 0; i < megabyte; i += 64) ASSERT_EQ(arena_.base[megabyte + i], 0);
  arena_.base[megabyte] = 1;
  arena_.base[2 * megabyte - 1] = 1;
  EXPECT_FALSE(plat::is_readable(arena_.base + megabyte - 8));
  EXPECT_FALSE(plat::is_readable(arena_.base + 2 * megabyte));
}

TEST_P(EachBacking, OpenForReadingGivesZeroesAndCanBeOpenedLater) {
  ASSERT_TRUE(plat::open_for_reading(arena_.base, arena_.bytes));
  for (size_t i = 0; i < arena_.bytes; i += megabyte) ASSERT_EQ(arena_.base[i], 0);
  ASSERT_TRUE(plat::open(arena_.base + megabyte, megabyte));
  arena_.base[megabyte] = 1;
  EXPECT_EQ(arena_.base[megabyte], 1);
  EXPECT_EQ(arena_.base[2 * megabyte], 0);
  EXPECT_TRUE(plat::is_readable(arena_.base + arena_.bytes - 8));
}

TEST_P(EachBacking, DecommitZeroesItsPagesAndNoOthers) {
  ASSERT_TRUE(plat::open(arena_.base, megabyte));
  std::memset(arena_.base, 0x5a, megabyte);
  ASSERT_TRUE(plat::decommit(arena_, arena_.base + 4 * page_size, 8 * page_size));
  EXPECT_EQ(resident_pages(arena_.base + 4 * page_size, 8 * page_size), 0u);
  for (size_t i = 0; i < megabyte; ++i) {
    const bool inside = i >= 4 * page_size && i < 12 * page_size;
    ASSERT_EQ(arena_.base[i], inside ? 0 : 0x5a) << i;
  }
  arena_.base[4 * page_size] = 1;  // still open
}

TEST_P(EachBacking, PopulateBacksThePagesAndKeepsWhatIsThere) {
  ASSERT_TRUE(plat::open(arena_.base, megabyte));
  arena_.base[5] = 'x';
  ASSERT_TRUE(plat::populate(arena_.base, megabyte / 2));
  EXPECT_EQ(arena_.base[5], 'x');
  EXPECT_EQ(resident_pages(arena_.base, megabyte / 2), megabyte / 2 / page_size);
  EXPECT_EQ(resident_pages(arena_.base + megabyte / 2, megabyte / 2), 0u);
}

TEST_P(EachBacking, PopulateOfClosedPagesIsRefused) { EXPECT_FALSE(plat::populate(arena_.base, page_size)); }

TEST_P(EachBacking, KeepsNoDescriptor) {
  const int next = fcntl(0, F_DUPFD, 3);  // the lowest free one
  ASSERT_GE(next, 3);
  close(next);
  address_reservation r = plat::reserve(megabyte, page_size, GetParam());
  ASSERT_NE(r.base, nullptr);
  const int after = fcntl(0, F_DUPFD, 3);
  EXPECT_EQ(after, next);
  close(after);
  plat::release(r);
}

TEST_P(EachBacking, ReleaseUnmapsAndEmptiesTheReservation) {
  address_reservation r = plat::reserve(megabyte, 4 * megabyte, GetParam());
  const char* const base = r.base;
  ASSERT_TRUE(plat::open(r.base, page_size));
  ASSERT_TRUE(plat::is_readable(base));
  plat::release(r);
  EXPECT_FALSE(plat::is_readable(base));
  EXPECT_EQ(r.base, nullptr);
  plat::release(r);  // of nothing: nothing
}

TEST_P(EachBacking, ReserveOfTooMuchIsRefusedAndLeavesNothing) {
  const address_reservation r = plat::reserve(size_t{1} << 50, page_size, GetParam());
  EXPECT_EQ(r.base, nullptr);
  EXPECT_FALSE(r.shared);
  EXPECT_EQ(r.bytes, 0u);
}

TEST_P(EachBacking, ALockOnAReservationDoesNotPopulateWhatIsOpenedLater) {
  constexpr size_t locked = 8 * page_size;                  // within any usual RLIMIT_MEMLOCK
  EXPECT_NE(syscall(SYS_mlock, arena_.base, locked), 0);    // as mlockall(MCL_CURRENT) does: locked, though nothing can be populated
  ASSERT_TRUE(plat::open(arena_.base, locked));
  arena_.base[0] = 1;
  EXPECT_EQ(resident_pages(arena_.base, locked), 1u);
}

TEST_P(EachBacking, MlockallDoesNotPopulateAReservation) {
  const int status = run_in_child([] {
    if (mlockall(MCL_FUTURE) != 0) return 3;
    address_reservation r = plat::reserve(megabyte, page_size, GetParam());
    if (r.base == nullptr) return 0;  // RLIMIT_MEMLOCK counts reservations: refused whole
    if (!plat::open(r.base, megabyte)) return 0;
    r.base[0] = 1;
    return resident_pages(r.base, megabyte) == 1 ? 0 : 2;
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_P(EachBacking, DecommitWorksOnLockedPages) {
  ASSERT_TRUE(plat::open(arena_.base, 4 * page_size));
  std::memset(arena_.base, 1, 4 * page_size);
  const bool locked = mlock(arena_.base, 4 * page_size) == 0;  // not under a small RLIMIT_MEMLOCK
  const bool given_back = plat::decommit(arena_, arena_.base, 4 * page_size);
  // The system keeps locked pages of a memfd and says so; anonymous ones can always be given back.
  EXPECT_TRUE(given_back || (locked && GetParam() == backing::memfd));
  for (size_t i = 0; i < 4 * page_size; ++i) ASSERT_EQ(arena_.base[i], given_back ? 0 : 1);
}

TEST(Plat, OpenIsRefusedUnderALimitOfDataAndChangesNothing) {
  const int status = run_in_child([] {
    address_reservation r = plat::reserve(256 * megabyte, page_size, backing::anon);
    if (r.base == nullptr) return 1;
    rlimit limit{};
    getrlimit(RLIMIT_DATA, &limit);
    limit.rlim_cur = data_bytes() + 64 * megabyte;
    if (setrlimit(RLIMIT_DATA, &limit) != 0) return 2;
    errno = 77;
    if (plat::open(r.base, 128 * megabyte)) return 3;
    if (errno != 77) return 4;
    if (plat::is_readable(r.base)) return 5;
    if (!plat::open(r.base, megabyte)) return 6;
    r.base[0] = 1;
    address_reservation under_limit = plat::reserve(1024 * megabyte, page_size, backing::anon);
    return under_limit.base != nullptr ? 0 : 7;  // address space that cannot be written is not data
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Plat, FramesOfAMemfdHaveASecondAddress) {
  address_reservation r = plat::reserve(megabyte, page_size, backing::memfd);
  ASSERT_TRUE(plat::open(r.base, megabyte));
  auto* window = static_cast<char*>(plat::map_guarded(6 * page_size));
  ASSERT_NE(window, nullptr);
  ASSERT_TRUE(plat::map_frames(window + page_size, 16 * page_size, r, 2 * page_size));
  ASSERT_TRUE(plat::map_frames(window + 3 * page_size, 4 * page_size, r, page_size));
  r.base[16 * page_size] = 'a';
  window[3 * page_size + 7] = 'b';
  EXPECT_EQ(window[page_size], 'a');
  EXPECT_EQ(r.base[4 * page_size + 7], 'b');
  EXPECT_FALSE(plat::is_readable(window));  // the guards on both sides
  EXPECT_FALSE(plat::is_readable(window + 4 * page_size));
  plat::unmap(window, 6 * page_size);
  EXPECT_FALSE(plat::is_readable(window + page_size));
  EXPECT_EQ(r.base[16 * page_size], 'a');
  plat::release(r);
}

TEST(Plat, FramesOfAnonymousMemoryHaveNone) {
  address_reservation r = plat::reserve(megabyte, page_size, backing::anon);
  void* window = plat::map_guarded(page_size);
  EXPECT_FALSE(plat::map_frames(window, 0, r, page_size));
  plat::unmap(window, page_size);
  plat::release(r);
}

TEST(Plat, MapGuardedOfTooMuchIsRefused) { EXPECT_EQ(plat::map_guarded(size_t{1} << 50), nullptr); }

TEST(Plat, CpuIsTheOneTheThreadRunsOn) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  const int nr_cpus = plat::nr_cpus();
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &before)) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_EQ(plat::cpu(), cpu % max_cpus);
    EXPECT_LT(plat::cpu(), nr_cpus);
  }
  sched_setaffinity(0, sizeof before, &before);
  EXPECT_GE(nr_cpus, CPU_COUNT(&before));
  EXPECT_LE(nr_cpus, max_cpus);
}

TEST(Plat, IdentifiesThreads) {
  EXPECT_EQ(plat::thread_id(), gettid());
  int other = 0;
  std::thread([&other] { other = plat::thread_id(); }).join();
  EXPECT_NE(other, plat::thread_id());
  EXPECT_FALSE(plat::single_threaded());
}

TEST(PlatDeathTest, AProcessThatNeverMadeAThreadIsSingleThreaded) {
  // This style runs only this test, in a fresh process.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(_exit(plat::single_threaded() ? 0 : 1), testing::ExitedWithCode(0), "");
}

TEST(Plat, KnowsRealtimeThreads) {
  EXPECT_FALSE(plat::realtime_thread());
  const int status = run_in_child([] {
    const sched_param priority{.sched_priority = 1};
    for (const int policy : {SCHED_FIFO, SCHED_RR, SCHED_FIFO | SCHED_RESET_ON_FORK}) {
      const bool allowed = sched_setscheduler(0, policy, &priority) == 0;  // needs a privilege
      if (plat::realtime_thread() != allowed) return 1;
    }
    return 0;
  });
  EXPECT_EQ(status, 0);
}

TEST(Plat, ClockIsMonotonic) {
  uint64_t last = plat::now_ns();
  EXPECT_GT(last, 0u);
  for (int i = 0; i < 1000; ++i) {
    const uint64_t now = plat::now_ns();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(Plat, FutexWaitReturnsAtOnceForAnotherValueAndOnTimeOut) {
  uint32_t word = 5;
  EXPECT_EQ(plat::futex_wait(&word, 4, ~uint64_t{0}), futex_end::woken);
  const uint64_t before = plat::now_ns();
  EXPECT_EQ(plat::futex_wait(&word, 5, 2'000'000), futex_end::timed_out);
  EXPECT_GE(plat::now_ns() - before, 2'000'000u);
  EXPECT_EQ(plat::futex_wait_interruptible(&word, 4, ~uint64_t{0}), futex_end::woken);
  const uint64_t again = plat::now_ns();
  EXPECT_EQ(plat::futex_wait_interruptible(&word, 5, 2'000'000), futex_end::timed_out);
  EXPECT_GE(plat::now_ns() - again, 2'000'000u);
}

std::atomic<unsigned> handled{0};

#if KMEM_UNDER_TSAN
constexpr bool handlers_are_put_off = true;  // until the thread leaves the system call, though the call itself is interrupted
#else
constexpr bool handlers_are_put_off = false;
#endif

/// Sends signals to a thread in futex_wait_interruptible until the wait ends or so many have been handled. Return: how it ended.
futex_end interrupted_wait(int flags, unsigned most) {
  struct sigaction action {}, before {};
  action.sa_handler = [](int) { handled.fetch_add(1); };
  action.sa_flags = flags;
  sigaction(SIGUSR1, &action, &before);
  handled = 0;
  std::atomic<uint32_t> word{0};
  std::atomic<bool> ended{false};
  futex_end end{};
  std::thread sleeper([&] {
    end = plat::futex_wait_interruptible(reinterpret_cast<uint32_t*>(&word), 0, 20'000'000'000);
    ended = true;
  });
  for (unsigned sent = 0; !ended && sent < most; ++sent) {
    const unsigned sent_after = handled;
    pthread_kill(sleeper.native_handle(), SIGUSR1);
    if (handlers_are_put_off) usleep(1000);
    while (!ended && handled == sent_after && !handlers_are_put_off) std::this_thread::yield();
  }
  word = 1;
  while (!ended) {
    plat::futex_wake(reinterpret_cast<uint32_t*>(&word), 1);
    std::this_thread::yield();
  }
  sleeper.join();
  sigaction(SIGUSR1, &before, nullptr);
  return end;
}

TEST(Plat, AHandlerWithoutRestartEndsAnInterruptibleWait) {
  EXPECT_EQ(interrupted_wait(0, ~0u), futex_end::interrupted);
}

TEST(Plat, AHandlerWithRestartDoesNot) {
  uint32_t word = 1;
  if (syscall(449, &word, 0, 0, nullptr, 0) != 0 && errno == ENOSYS) {
    EXPECT_EQ(interrupted_wait(SA_RESTART, ~0u), futex_end::interrupted) << "before Linux 5.16 any handler ends it";
  } else {
    EXPECT_EQ(interrupted_wait(SA_RESTART, 50), futex_end::woken);
  }
}

TEST(Plat, CountsTheThreads) {
  const int before = plat::nr_threads();
  EXPECT_GE(before, 1);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back([&] { while (!stop) std::this_thread::yield(); });
  EXPECT_EQ(plat::nr_threads(), before + 3);
  stop = true;
  for (std::thread& each : threads) each.join();
}

TEST(Plat, FutexWakesAWaiter) {
  std::atomic<uint32_t> word{0};
  auto* raw = reinterpret_cast<uint32_t*>(&word);
  std::thread waiter([&] {
    while (word.load() == 0) EXPECT_EQ(plat::futex_wait(raw, 0, ~uint64_t{0}), futex_end::woken);
  });
  std::this_thread::yield();
  word = 1;
  plat::futex_wake(raw, 1);
  waiter.join();
}

TEST(Plat, RelaxComesBackForAnyCount) {
  for (unsigned spins = 0; spins < 1000; ++spins) plat::relax(spins);
  plat::relax(~0u);
  plat::yield_point();
}

TEST(Plat, ReadFileReadsCutsAndReportsErrors) {
  char buffer[64];
  EXPECT_EQ(plat::read_file("/nonexistent/file", buffer, sizeof buffer), -ENOENT);
  EXPECT_STREQ(buffer, "");
  EXPECT_EQ(plat::read_file("/", buffer, sizeof buffer), -EISDIR);
  EXPECT_EQ(plat::read_file("/dev/null", buffer, sizeof buffer), 0);
  EXPECT_STREQ(buffer, "");
  const std::string path = testing::TempDir() + "plat_read_file";
  std::ofstream(path) << "0123456789";
  EXPECT_EQ(plat::read_file(path.c_str(), buffer, sizeof buffer), 10);
  EXPECT_STREQ(buffer, "0123456789");
  EXPECT_EQ(plat::read_file(path.c_str(), buffer, 5), 4);
  EXPECT_STREQ(buffer, "0123");
  EXPECT_EQ(plat::read_file(path.c_str(), buffer, 1), 0);
  EXPECT_STREQ(buffer, "");
  EXPECT_EQ(plat::read_file(path.c_str(), buffer, 0), -EINVAL);
  unlink(path.c_str());
  EXPECT_GT(plat::read_file("/proc/self/stat", buffer, sizeof buffer), 0);
}

TEST(Plat, WriteAllWritesMoreThanAPipeHoldsAndSurvivesABadDescriptor) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const std::string text(200'000, 'k');
  size_t received = 0;
  std::thread reader([&] {
    char buffer[4096];
    while (const ssize_t got = read(ends[0], buffer, sizeof buffer)) received += static_cast<size_t>(got);
  });
  plat::write_all(ends[1], text.data(), text.size());
  close(ends[1]);
  reader.join();
  close(ends[0]);
  EXPECT_EQ(received, text.size());
  plat::write_all(-1, text.data(), text.size());
}

TEST(Plat, KnowsPhysicalMemory) {
  EXPECT_EQ(plat::physical_bytes(), static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
}

TEST(Plat, KnowsTheThreadsName) {
  std::thread([] {
    ASSERT_EQ(pthread_setname_np(pthread_self(), "fifteen letters"), 0);
    char name[16];
    plat::thread_name(name, sizeof name);
    EXPECT_STREQ(name, "fifteen letters");
    plat::thread_name(name, 4);
    EXPECT_STREQ(name, "fif");
    name[0] = 'x';
    plat::thread_name(name, 0);
    EXPECT_EQ(name[0], 'x');
  }).join();
}

TEST(Plat, TellsWhatCanBeRead) {
  uint64_t here = 0;
  EXPECT_TRUE(plat::is_readable(&here));
  EXPECT_FALSE(plat::is_readable(nullptr));
  EXPECT_FALSE(plat::is_readable(reinterpret_cast<const void*>(~uintptr_t{7})));
  void* page = mmap(nullptr, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT_TRUE(plat::is_readable(page));
  mprotect(page, page_size, PROT_NONE);
  EXPECT_FALSE(plat::is_readable(page));
  munmap(page, page_size);
  EXPECT_FALSE(plat::is_readable(page));
}

TEST(Plat, LeavesTheSignalMaskAlone) {
  sigset_t before, after;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  uint64_t all_signals = ~uint64_t{0};
  EXPECT_TRUE(plat::is_readable(&all_signals));
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  for (int signal = 1; signal < 32; ++signal) EXPECT_EQ(sigismember(&before, signal), sigismember(&after, signal)) << signal;
}

TEST(Plat, DieEndsTheProcessWithSigabrtWhateverIsHandledOrBlocked) {
  int status = run_in_child([]() -> int {
    signal(SIGABRT, SIG_IGN);
    plat::die();
  });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << status;
  status = run_in_child([]() -> int {
    sigset_t abort_signal;
    sigemptyset(&abort_signal);
    sigaddset(&abort_signal, SIGABRT);
    sigprocmask(SIG_BLOCK, &abort_signal, nullptr);
    plat::die();
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 134) << status;
}

// ---- threads of the library's own ----

struct service_facts {
  std::string name;
  int thread_id = 0;
  sigset_t blocked{};
  bool held = false;
};

void note_service_facts(void* argument) noexcept {
  auto& facts = *static_cast<service_facts*>(argument);
  char name[32];
  plat::thread_name(name, sizeof name);
  facts.name = name;
  facts.thread_id = plat::thread_id();
  pthread_sigmask(SIG_SETMASK, nullptr, &facts.blocked);
}

TEST(PlatThreads, RunsTheBodyUnderItsNameWithSignalsBlockedUntilJoined) {
  sigset_t before, after;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  const unsigned others = plat::nr_service_threads();
  service_facts facts;
  thread_handle handle;
  errno = 4711;
  ASSERT_TRUE(plat::start_thread(handle, note_service_facts, &facts, "a rather long name"));
  EXPECT_EQ(plat::nr_service_threads(), others + 1);
  plat::join_thread(handle);
  EXPECT_EQ(errno, 4711);
  EXPECT_EQ(plat::nr_service_threads(), others);
  EXPECT_EQ(handle.body, nullptr);
  EXPECT_EQ(facts.name, "a rather long n");
  EXPECT_NE(facts.thread_id, plat::thread_id());
  EXPECT_NE(facts.thread_id, 0);
  for (const int number : {SIGINT, SIGTERM, SIGUSR1, SIGALRM, SIGCHLD, SIGPROF, SIGRTMIN, SIGRTMAX})
    EXPECT_EQ(sigismember(&facts.blocked, number), 1) << number;
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  for (int number = 1; number <= SIGRTMAX; ++number) EXPECT_EQ(sigismember(&before, number), sigismember(&after, number)) << number;
}

TEST(PlatThreads, JoinAndForgetOfAHandleWithoutAThreadDoNothing) {
  const unsigned threads = plat::nr_service_threads();
  thread_handle handle;
  plat::join_thread(handle);
  plat::forget_thread(handle);
  EXPECT_EQ(plat::nr_service_threads(), threads);
}

struct gate {
  uint32_t open = 0;
};

void wait_for_gate(void* argument) noexcept {
  auto& g = *static_cast<gate*>(argument);
  while (__atomic_load_n(&g.open, __ATOMIC_ACQUIRE) == 0) plat::futex_wait(&g.open, 0, ~uint64_t{0});
}

void open_gate(gate& g) {
  __atomic_store_n(&g.open, 1, __ATOMIC_RELEASE);
  plat::futex_wake(&g.open, 1);
}

TEST(PlatThreads, TheProcessMayChangeItsIdsWhileOneRuns) {
  gate g;
  thread_handle handle;
  ASSERT_TRUE(plat::start_thread(handle, wait_for_gate, &g, "gate"));
  EXPECT_EQ(setuid(getuid()), 0);  // every thread has to take part in this
  open_gate(g);
  plat::join_thread(handle);
}

TEST(PlatThreads, TheChildOfAForkForgetsTheThreadAndMayEnd) {
  gate g;
  thread_handle handle;
  const unsigned others = plat::nr_service_threads();
  ASSERT_TRUE(plat::start_thread(handle, wait_for_gate, &g, "gate"));
  EXPECT_EQ(run_in_child([&] {
    plat::forget_thread(handle);
    plat::join_thread(handle);
    return handle.body == nullptr && plat::nr_service_threads() == others ? 0 : 1;
  }), 0);
  open_gate(g);
  plat::join_thread(handle);
}

TEST(PlatThreads, ARefusalLeavesNoThread) {
  // The limit counts threads of the real user, and root is exempt; only this thread becomes somebody else.
  std::thread([] {
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_NPROC, &before), 0);
    rlimit none = before;
    none.rlim_cur = 0;
    ASSERT_EQ(geteuid() == 0 ? syscall(SYS_setresuid, 65534, 65534, 65534) : 0, 0);
    ASSERT_EQ(setrlimit(RLIMIT_NPROC, &none), 0);
    const unsigned threads = plat::nr_service_threads();
    gate g;
    thread_handle handle;
    errno = 4711;
    const bool started = plat::start_thread(handle, wait_for_gate, &g, "gate");
    EXPECT_EQ(errno, 4711);
    setrlimit(RLIMIT_NPROC, &before);
    EXPECT_FALSE(started);
    EXPECT_EQ(handle.body, nullptr);
    EXPECT_EQ(plat::nr_service_threads(), threads);
    open_gate(g);
    plat::join_thread(handle);
  }).join();
}

TEST(Plat, NoCallChangesErrno) {
  char buffer[16];
  uint32_t word = 1;
  const auto unchanged = [](const char* what, const auto& call) {
    errno = 4711;
    call();
    EXPECT_EQ(errno, 4711) << what;
  };
  address_reservation r;
  unchanged("reserve", [&] { r = plat::reserve(megabyte, page_size, backing::memfd); });
  unchanged("reserve, refused", [] { (void)plat::reserve(size_t{1} << 50, page_size, backing::anon); });
  unchanged("open", [&] { plat::open(r.base, page_size); });
  unchanged("open, refused", [] { plat::open(reinterpret_cast<void*>(page_size), page_size); });
  unchanged("open_for_reading, refused", [] { plat::open_for_reading(reinterpret_cast<void*>(page_size), page_size); });
  unchanged("populate", [&] { plat::populate(r.base, page_size); });
  unchanged("populate, refused", [&] { plat::populate(r.base + page_size, page_size); });
  unchanged("decommit", [&] { plat::decommit(r, r.base, page_size); });
  unchanged("decommit, refused", [&] { plat::decommit(r, r.base + page_size, page_size); });
  void* window = nullptr;
  unchanged("map_guarded", [&] { window = plat::map_guarded(page_size); });
  unchanged("map_guarded, refused", [] { plat::map_guarded(size_t{1} << 50); });
  unchanged("map_frames, refused", [&] { plat::map_frames(window, 1, r, page_size); });
  unchanged("unmap", [&] { plat::unmap(window, page_size); });
  unchanged("release", [&] { plat::release(r); });
  unchanged("futex_wait, other value", [&] { plat::futex_wait(&word, 0, 0); });
  unchanged("futex_wait_interruptible", [&] { plat::futex_wait_interruptible(&word, 1, 1000); });
  unchanged("nr_threads", [&] { plat::nr_threads(); });
  unchanged("futex_wait, time-out", [&] { plat::futex_wait(&word, 1, 1000); });
  unchanged("futex_wake", [&] { plat::futex_wake(&word, 1); });
  unchanged("relax", [] { plat::relax(199); });
  unchanged("read_file", [&] { plat::read_file("/nonexistent", buffer, sizeof buffer); });
  unchanged("write_all", [] { plat::write_all(-1, "x", 1); });
  unchanged("thread_name", [&] { plat::thread_name(buffer, sizeof buffer); });
  unchanged("is_readable", [] { plat::is_readable(nullptr); });
  unchanged("cpu", [] { plat::cpu(); });
  unchanged("nr_cpus", [] { plat::nr_cpus(); });
  unchanged("realtime_thread", [] { plat::realtime_thread(); });
}

}  // namespace
}  // namespace kmem
