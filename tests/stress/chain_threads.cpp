// The threads of a chain_load: actors, who interrupts them, who forks, and who looks whether they get on.
#include "stress/chain_load.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "debug/debug.hpp"
#include "interrupt/interrupt.hpp"

namespace kmem::stress {
namespace {

using std::chrono::steady_clock;
using ms = std::chrono::milliseconds;

constexpr std::chrono::seconds hang_after{60};
constexpr unsigned child_seconds = 40;  // before a child counts as hanging

void on_nudge(int) {}

#if KMEM_UNDER_TSAN
constexpr gfp_t not_of_child = gfp::kswapd_reclaim;  // a child may start no kswapd
#else
constexpr gfp_t not_of_child = gfp::none;
#endif

}  // namespace

void chain_load::set_fail_points(uint32_t probability) {
  fails_ = probability != 0;
  for (unsigned i = 0; i < nr_fail_points; ++i) {
    fail_attributes attributes;
    attributes.probability = probability;
    attributes.seed = seed_ + i;
    counts.failed[i] = get_fail_counts(static_cast<fail_point>(i)).failed;
    set_fail_attributes(static_cast<fail_point>(i), attributes);
  }
}

void chain_load::run(std::chrono::milliseconds duration, bool forks, uint32_t fails) {
  set_fail_points(fails);
  struct sigaction action {
  }, before{};
  action.sa_handler = on_nudge;  // without SA_RESTART: it ends sleeps that may be interrupted
  ASSERT_EQ(sigaction(SIGUSR2, &action, &before), 0);
  std::thread watchdog([this] { watch(); });
  std::vector<std::thread> threads;
  for (actor& one : actors_) threads.emplace_back([this, &one] { run_actor(one); });
  std::thread sender([&] { send_signals(threads); });
  std::thread forker([&] {
    if (forks) fork_again_and_again();
  });
  std::this_thread::sleep_for(duration);
  stop_ = true;
  sender.join();
  forker.join();
  no_more_signals_ = true;
  for (std::thread& one : threads) one.join();
  watched_ = false;
  watchdog.join();
  set_fail_points(0);
  sigaction(SIGUSR2, &before, nullptr);
}

void chain_load::send_signals(std::vector<std::thread>& threads) {
  constexpr int interrupt = 3;
  std::minstd_rand random(3);
  while (!stop_.load(std::memory_order_relaxed)) {
    std::thread& hit = threads[random() % threads.size()];
    pthread_kill(hit.native_handle(), random() % 8 != 0 ? irq_signal(interrupt) : SIGUSR2);
    signal_progress_.fetch_add(1, std::memory_order_relaxed);
    pass_gate(sender_gate_, nr_senders_at_gate_);
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

// ---- forks ------------------------------------------------------------------------------------------------------------------------------

/// Stops everybody between two operations. Return: false if somebody cannot come to an end while the others hold what they have.
bool chain_load::close_gates() {
  const auto patience = steady_clock::now() + ms(300);
  const auto all_at = [&](const std::atomic<unsigned>& arrived, unsigned wanted) {
    while (arrived.load() != wanted && steady_clock::now() < patience && !stop_.load()) std::this_thread::sleep_for(ms(1));
    return arrived.load() == wanted;
  };
  sender_gate_ = true;
  if (!all_at(nr_senders_at_gate_, 1)) return false;
  gate_ = true;
  if (!all_at(nr_at_gate_, nr_actors)) return false;
  stop_interrupt_service();
  kswapd_stop(m_);
  return true;
}

void chain_load::open_gates() {
  gate_ = false;
  sender_gate_ = false;
  while (nr_at_gate_.load() != 0 || nr_senders_at_gate_.load() != 0) std::this_thread::sleep_for(ms(1));
}

/// `quiet`: nobody was in the middle of something. Return: its exit code.
int chain_load::child_of_fork(bool quiet) {
  in_child_ = true;
  const auto is_valid = [&] {
    kswapd_stop(m_);  // the child's own
    stop_interrupt_service();
    const char* const damage = quiet ? machine_is_valid(m_) : nullptr;
    if (damage != nullptr) std::fprintf(stderr, "in the child of a fork: %s\n", damage);
    return damage == nullptr;
  };
  if (!is_valid()) return 1;
  for (const piece& p : held_by_forker_)
    if (!is_intact(p)) return 2;
  constexpr gfp_t masks[] = {gfp::atomic, gfp::noio | gfp::noretry, gfp::nowait};
  for (const gfp_t mask : masks)
    if (const int code = use_in_child(shared_, (mask | gfp::nowarn) & ~not_of_child); code != 0) return code;
  if (current().depth != 0 || in_atomic()) return 5;
  for (const piece& p : held_by_forker_) shared_.give(p);
  if (!is_valid()) return 6;
  return shared_.nr_damaged.load() == 0 ? 0 : 7;
}

/// Return: false if there was no child.
bool chain_load::fork_once(bool quiet) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(child_seconds);
    _exit(child_of_fork(quiet));
  }
  if (child < 0) return false;
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    wrong(("the child of fork number " + std::to_string(counts.forks.load()) + " ended with status " + std::to_string(status)).c_str());
  counts.forks.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void chain_load::fork_again_and_again() {
  std::minstd_rand random(11);
  while (!stop_.load(std::memory_order_relaxed)) {
    for (int i = 0; i < 10; ++i) {
      const piece p = shared_.take(random, gfp::kernel | gfp::nowarn | gfp::noretry);
      if (p.what != piece::kind::none) held_by_forker_.push_back(p);
    }
    bool quiet = false;
    if (random() % 4 == 0) {
      quiet = close_gates();
      if (quiet) counts.quiet_moments.fetch_add(1, std::memory_order_relaxed);
      if (const char* const damage = quiet ? machine_is_valid(m_) : nullptr; damage != nullptr) wrong(damage);
    }
    if (!fork_once(quiet)) wrong("fork failed");
    open_gates();
    fork_progress_.fetch_add(1, std::memory_order_relaxed);
    for (const piece& p : held_by_forker_) shared_.give(p);
    held_by_forker_.clear();
    std::this_thread::sleep_for(ms(20));
  }
}

// ---- the watchdog -----------------------------------------------------------------------------------------------------------------------

void chain_load::report_hang(const char* who) {
  std::fprintf(stderr, "%s has made no progress for %lld s\n", who, static_cast<long long>(hang_after.count()));
  for (const actor& one : actors_)
    std::fprintf(stderr, "  actor %u: %s, %llu operations%s\n", one.number, one.doing.load(),
                 static_cast<unsigned long long>(one.progress.load()), one.finished.load() ? ", has ended" : "");
  std::fprintf(stderr, "  %u threads wait, %llu free pages, %llu charged\n", m_.waiters.load_relaxed(),
               static_cast<unsigned long long>(free_pages_total(m_)), static_cast<unsigned long long>(charged_pages(m_)));
  std::vector<char> text(65536);
  write_vmstat(m_, text.data(), text.size());
  std::fputs(text.data(), stderr);
  std::fflush(stderr);
  write_zoneinfo(m_, text.data(), text.size());
  std::fputs(text.data(), stderr);
  std::abort();
}

/// No thread stays at one operation for ever.
void chain_load::watch() {
  struct seen {
    uint64_t progress = 0;
    steady_clock::time_point since = steady_clock::now();
    bool hangs(uint64_t now) {
      if (now != progress) *this = {now};
      return steady_clock::now() - since > hang_after;
    }
  };
  std::array<seen, nr_actors> actors;
  seen sender, forker;
  while (watched_.load()) {
    for (actor& one : actors_) {
      if (one.finished.load() || !actors[one.number].hangs(one.progress.load())) continue;
      report_hang(("actor " + std::to_string(one.number)).c_str());
    }
    if (!stop_.load() && sender.hangs(signal_progress_.load())) report_hang("the sender of signals");
    if (fork_progress_.load() != 0 && !stop_.load() && forker.hangs(fork_progress_.load())) report_hang("the thread that forks");
    std::this_thread::sleep_for(ms(200));
  }
}

}  // namespace kmem::stress
