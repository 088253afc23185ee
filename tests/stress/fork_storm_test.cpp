// Forks from signal handlers of a process with one thread, at any moment of the allocator and of other forks; and objects that are freed
// while others wait for them.
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "stress/stress_load.hpp"

namespace kmem::stress {
namespace {

#if !KMEM_UNDER_TSAN
constexpr unsigned storm_seconds = 2;
constexpr unsigned hang_seconds = 60;
constexpr unsigned signals_a_fork = 50;

volatile sig_atomic_t is_child = 0, nr_signals = 0, nr_forks = 0, nr_forks_inside = 0, wrong = 0;

/// Return: its exit code.
int end_of(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return 90;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

void on_alarm(int) {
  const int saved = errno;
  void* const p = kmalloc(process.object, 200, gfp::atomic | gfp::nowarn);
  kfree(process.object, p);
  nr_signals = nr_signals + 1;
  if (is_child == 0 && static_cast<unsigned>(nr_signals) % signals_a_fork == 0) {
    const bool inside = current().depth != 0;
    const pid_t child = fork();
    if (child == 0) {
      is_child = 1;  // goes on with what was interrupted, and looks at everything after that
      alarm(hang_seconds);
    } else {
      nr_forks = nr_forks + 1;
      if (inside) nr_forks_inside = nr_forks_inside + 1;
      if (const int code = child > 0 ? end_of(child) : 91; code != 0) wrong = code;
    }
  }
  errno = saved;
}

/// One thread's memory, without the program's own heap: a handler may have interrupted that.
class holder {
 public:
  void step() {
    piece& p = held_[random_() % held_.size()];
    if (p.what == piece::kind::none)
      take(p);
    else
      give(p);
    if (random_() % 512 == 0) drain_caches(process.object, true);
    if (random_() % 256 == 0) give_back(process.object, 64, true);
  }
  /// Return: an exit code.
  int check() {
    for (const piece& p : held_)
      if (p.what != piece::kind::none && !is_intact(p)) return 3;
    for (piece& p : held_)
      if (p.what != piece::kind::none) give(p);
    for (int i = 0; i < 500; ++i) step();
    for (piece& p : held_)
      if (p.what != piece::kind::none) give(p);
    if (current().depth != 0 || damaged_) return 4;
    return machine_is_valid(process.object) == nullptr ? 0 : 5;
  }

 private:
  void take(piece& p) {
    piece got;
    got.tag = random_();
    got.order = static_cast<uint8_t>(random_() % 6);
    got.bytes = random_() % 4 != 0 ? 1 + random_() % (size_t{16} << random_() % 10) : page_size << got.order;
    got.what = got.bytes % page_size == 0 ? piece::kind::pages : piece::kind::object;
    if (got.what == piece::kind::pages) got.order = static_cast<uint8_t>(order_for(got.bytes).raw());
    const gfp_t mask = (random_() % 2 != 0 ? gfp::kernel : gfp::nowait) | gfp::nowarn;
    got.begin = static_cast<char*>(got.what == piece::kind::pages ? get_free_pages(process.object, mask, order_t(got.order))
                                                                  : kmalloc(process.object, got.bytes, mask));
    if (got.begin == nullptr) return;
    write_pattern(got);
    p = got;
  }
  void give(piece& p) {
    damaged_ = damaged_ || !is_intact(p);
    if (p.what == piece::kind::pages)
      free_pages_at(process.object, p.begin, order_t(p.order));
    else
      kfree(process.object, p.begin);
    p = {};
  }

  std::minstd_rand random_{1};
  std::array<piece, 600> held_{};
  bool damaged_ = false;
};

void set_timer(suseconds_t microseconds) {
  const itimerval timer{{0, microseconds}, {0, microseconds}};
  setitimer(ITIMER_REAL, &timer, nullptr);
}

[[noreturn]] void storm() {
  machine_config config;
  config_error error;
  if (!parse_config("mem=8M cpus=2", config, error) || process_machine_init(config, error) != err::ok) _exit(80);
  if (pthread_atfork(process_fork_prepare, process_fork_parent, process_fork_child) != 0) _exit(81);
  struct sigaction action {};
  action.sa_handler = on_alarm;
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, nullptr);
  static holder load;
  const time_t end = time(nullptr) + static_cast<time_t>(storm_seconds);
  set_timer(1000);
  // On a busy machine it takes longer until a signal has come upon the allocator itself.
  const auto goes_on = [end] { return time(nullptr) <= (nr_forks_inside != 0 ? end : end + static_cast<time_t>(hang_seconds / 2)); };
  for (unsigned i = 0; wrong == 0 && goes_on(); ++i) {
    load.step();
    if (is_child == 0 && i % 64 == 0) {
      // Handlers find this fork at work as well; the child of one that does goes on here.
      const pid_t child = fork();
      if (child == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(hang_seconds);
        _exit(load.check());
      }
      // Whoever has become a handler's child since that fork returned has no such child.
      const int code = child > 0 ? end_of(child) : 92;
      if (code != 0 && is_child == 0) wrong = code;
    }
    if (is_child != 0) {
      signal(SIGALRM, SIG_DFL);
      alarm(hang_seconds);
      _exit(wrong != 0 ? wrong : load.check());
    }
  }
  set_timer(0);
  if (wrong != 0) _exit(wrong);
  if (nr_forks == 0 || nr_forks_inside == 0) _exit(93);
  _exit(load.check());
}

TEST(StressDeathTest, HandlersOfAOneThreadProcessForkAtAnyMoment) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a process of its own, which never had a second thread
  EXPECT_EXIT(storm(), ::testing::ExitedWithCode(0), "");
}

#endif

TEST(Stress, ObjectsThatAreFreedWakeThoseWhoWait) {
  constexpr unsigned threads = 4, rounds = 300, to_share = 2;
  shared_machine shared("mem=6M cpus=4 vm.kswapd=0");
  std::vector<void*> objects;
  while (void* const p = kmalloc(*shared, 64, gfp::atomic | gfp::nowarn)) objects.push_back(p);
  const uint64_t waits = (*shared).stats.waits.load_relaxed();
  {
    std::vector<std::thread> all;
    for (unsigned t = 0; t < threads; ++t)
      all.emplace_back([&shared] {
        std::minstd_rand random(5);
        for (unsigned i = 0; i < rounds; ++i) {
          piece p;
          p.bytes = 64;
          p.tag = random();
          p.what = piece::kind::object;
          p.begin = static_cast<char*>(kmalloc(*shared, 64, gfp::kernel | gfp::nofail));
          write_pattern(p);
          std::this_thread::yield();
          shared.give(p);
        }
      });
    for (unsigned i = 0; i < to_share; ++i) kfree(*shared, objects[i * objects.size() / to_share / 2]);
    for (std::thread& one : all) one.join();
  }
  EXPECT_GT((*shared).stats.waits.load_relaxed(), waits) << "nobody had to wait";
  for (unsigned i = 0; i < to_share; ++i) objects[i * objects.size() / to_share / 2] = nullptr;
  for (void* const p : objects) kfree(*shared, p);
}

}  // namespace
}  // namespace kmem::stress
