#include "sim/sim_driver.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string_view>

namespace kmem::sim_test {

namespace {

// ---- a crash tells its seed, too ----

constexpr std::array fatal_signals = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
struct sigaction previous_actions[fatal_signals.size()];
char crash_text[512];

/// Writes which seed it was, then leaves the signal to whoever had it before (a sanitizer, or nobody: then the process dies).
void on_crash(int number, siginfo_t* info, void*) {
  if (write(STDERR_FILENO, crash_text, std::strlen(crash_text)) < 0) _exit(1);
  for (size_t i = 0; i < fatal_signals.size(); ++i)
    if (fatal_signals[i] == number) sigaction(number, &previous_actions[i], nullptr);
  // A faulting instruction faults again; a signal that was sent must be sent again.
  if (info->si_code <= 0) raise(number);
}

/// While it lives, fatal signals are announced with the seed. On a stack of its own, since a task may have used up its stack.
class crash_reports {
 public:
  explicit crash_reports(uint64_t seed) {
    const std::string text = "\ncrashed with SEED=" + std::to_string(seed) + "; run it again: " + command_for(seed) + "\n";
    crash_text[text.copy(crash_text, sizeof crash_text - 1)] = '\0';
    stack_t stack{};
    stack.ss_sp = stack_.data();
    stack.ss_size = stack_.size();
    sigaltstack(&stack, &previous_stack_);
    struct sigaction action {};
    action.sa_sigaction = &on_crash;
    action.sa_flags = SA_ONSTACK | SA_SIGINFO;
    for (size_t i = 0; i < fatal_signals.size(); ++i) sigaction(fatal_signals[i], &action, &previous_actions[i]);
  }
  ~crash_reports() {
    for (size_t i = 0; i < fatal_signals.size(); ++i) sigaction(fatal_signals[i], &previous_actions[i], nullptr);
    sigaltstack(&previous_stack_, nullptr);
  }
  crash_reports(const crash_reports&) = delete;
  crash_reports& operator=(const crash_reports&) = delete;

 private:
  std::array<char, 64 * 1024> stack_{};
  stack_t previous_stack_{};
};

// ---- contexts are left as they were found ----

bool same_context(const task_context& a, const task_context& b) {
  return a.preempt_count == b.preempt_count && a.irqs_off == b.irqs_off && a.memalloc_scopes == b.memalloc_scopes && a.depth == b.depth &&
         a.held_ranks == b.held_ranks && a.fail_nth == b.fail_nth && a.in_report == b.in_report;
}

void run_task(void* argument) {
  (*static_cast<std::function<void()>*>(argument))();
  if (!same_context(current(), task_context{})) simulation::fail("a task ended with a count raised, a lock held or a scope open");
}

void run_handler(void* argument) {
  const task_context before = current();
  (*static_cast<std::function<void()>*>(argument))();
  if (!same_context(current(), before)) simulation::fail("a signal handler left the context changed");
}

std::optional<uint64_t> environment_number(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  const std::string_view view = text;
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  if (error != std::errc{} || end != view.data() + view.size())
    throw std::runtime_error(std::string(name) + "=" + text + ": expected a decimal number");
  return value;
}

void reset_core() {
  reset_printk();
  set_printk_sink(&printk_to_stderr);
  reset_context_rules();
  for (unsigned point = 0; point < nr_fail_points; ++point) set_fail_attributes(static_cast<fail_point>(point), {});
}

void report(const result& failed) {
  ADD_FAILURE() << "SEED=" << failed.seed << " failed: " << failed.why << "\n"
                << (failed.output.empty() ? "" : "output:\n" + failed.output + "\n") << "run it again: " << command_for(failed.seed)
                << "\nnames of the addresses: addr2line -fCe <program> <address>...";
}

}  // namespace

int world::spawn(std::string name, std::function<void()> body, int cpu) {
  functions_.push_back(std::make_unique<std::function<void()>>(std::move(body)));
  return simulation::spawn(name.c_str(), &run_task, functions_.back().get(), cpu);
}

void world::set_handler(int task, std::function<void()> handler) {
  functions_.push_back(std::make_unique<std::function<void()>>(std::move(handler)));
  simulation::set_handler(task, &run_handler, functions_.back().get());
}

struct runner {
  /// Runs the phases: set-up alone, then the tasks, then the checks of the end.
  static void run(world& w, const scenario& body) {
    std::function<void()> setup = [&] { body(w); };
    simulation::spawn("setup", &run_task, &setup);
    simulation::hold_new_tasks(true);
    simulation::run();
    simulation::hold_new_tasks(false);
    simulation::run();
    for (std::function<void()>& check : w.at_end_) {
      simulation::spawn("end", &run_task, &check);
      simulation::run();
    }
  }
  /// Keeps the objects of a failed world for good, and reachable: their destructors could trip over the state it stopped in.
  static void abandon(world& w) {
    static auto& abandoned = *new std::vector<std::unique_ptr<world::any_holder>>;
    for (auto& object : w.objects_) abandoned.push_back(std::move(object));
  }
};

result run_seed(const scenario& body, uint64_t seed, simulation::config knobs) {
  const bool failed_before = testing::Test::HasFailure();
  knobs.seed = seed;
  simulation::begin(knobs);
  reset_core();
  result r;
  r.seed = seed;
  {
    const crash_reports crashes(seed);
    world w(seed);
    runner::run(w, body);
    r.failed = simulation::failed();
    r.why = simulation::failure();
    if (!r.failed && !failed_before && testing::Test::HasFailure()) {
      r.failed = true;
      r.why = "an expectation inside the scenario failed (above)";
    }
    if (simulation::failed()) runner::abandon(w);
  }
  r.output = simulation::output();
  r.steps = simulation::steps();
  r.history = simulation::history();
  simulation::end();
  return r;
}

void expect_seeds_pass(const scenario& body, simulation::config knobs, uint64_t seeds, uint64_t first) {
  if (const auto only = environment_number("KMEM_SEED")) {
    if (const result r = run_seed(body, *only, knobs); r.failed) report(r);
    return;
  }
  seeds = environment_number("KMEM_SEEDS").value_or(seeds);
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    const result r = run_seed(body, seed, knobs);
    if (r.failed) return report(r);
  }
}

std::optional<result> find_failing_seed(const scenario& body, simulation::config knobs, uint64_t seeds) {
  for (uint64_t seed = 1; seed <= seeds; ++seed)
    if (result r = run_seed(body, seed, knobs); r.failed) return r;
  return std::nullopt;
}

std::string command_for(uint64_t seed) {
  std::array<char, 4096> program{};
  const ssize_t length = readlink("/proc/self/exe", program.data(), program.size());
  std::string command = "KMEM_SEED=" + std::to_string(seed) + " ";
  command.append(program.data(), length > 0 ? static_cast<size_t>(length) : 0);
  if (const auto* test = testing::UnitTest::GetInstance()->current_test_info(); test != nullptr)
    command += std::string(" --gtest_filter=") + test->test_suite_name() + "." + test->name();
  return command;
}

}  // namespace kmem::sim_test
