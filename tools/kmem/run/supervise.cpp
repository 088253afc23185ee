// Signals are blocked here and taken one by one. What the terminal sends, the whole foreground group gets, the child too: it is not sent
// on. What a process sends to this one is. When the child is stopped this process stops itself, so that the shell sees a stopped job, and
// when it is continued it continues the child.

#include "run/supervise.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace kmem::tool::run {

namespace {

void set_default(int signal) {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
}

// So that signals which were ignored when we started (nohup) are seen, and sent on to a child that may handle them.
void take_all_signals() {
  for (int signal = 1; signal <= SIGRTMAX; signal++)
    if (signal != SIGKILL && signal != SIGSTOP && (signal < 32 || signal >= SIGRTMIN)) set_default(signal);
}

void send_on(pid_t child, const siginfo_t& what) {
  if (what.si_code > 0) return;  // the kernel's: from the terminal, for the whole group
  if (what.si_code == SI_QUEUE)
    sigqueue(child, what.si_signo, what.si_value);
  else
    kill(child, what.si_signo);
}

void stop_with_child(pid_t child) {
  kill(getpid(), SIGSTOP);
  kill(child, SIGCONT);  // we have been continued
}

// Return: whether the child has ended; it is not reaped.
bool look_at_child(outcome& child) {
  for (;;) {
    siginfo_t what{};
    if (waitid(P_PID, static_cast<id_t>(child.pid), &what, WEXITED | WNOWAIT | WNOHANG) != 0) return true;
    if (what.si_pid != 0) {
      (what.si_code == CLD_EXITED ? child.code : child.signal) = what.si_status;
      return true;
    }
    if (waitid(P_PID, static_cast<id_t>(child.pid), &what, WSTOPPED | WNOHANG) != 0 || what.si_pid == 0) return false;
    stop_with_child(child.pid);
  }
}

void wait_for_end(outcome& child, const sigset_t& all) {
  while (!look_at_child(child)) {
    siginfo_t what{};
    const int signal = sigwaitinfo(&all, &what);
    if (signal > 0 && signal != SIGCHLD) send_on(child.pid, what);
  }
}

[[noreturn]] void become(const std::string& path, std::vector<char*>& arguments, const sigset_t& mask, int report) {
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  execv(path.c_str(), arguments.data());
  const int error = errno;
  (void)!write(report, &error, sizeof error);
  _exit(127);
}

}  // namespace

outcome run_supervised(const std::string& path, const std::vector<std::string>& arguments, const std::function<void()>& in_child,
                       const std::function<void(const outcome&)>& before_reaping) {
  outcome child;
  std::vector<char*> pointers;
  for (const std::string& each : arguments) pointers.push_back(const_cast<char*>(each.c_str()));
  pointers.push_back(nullptr);
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) {
    child.error = errno;
    return child;
  }
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  child.pid = fork();
  if (child.pid == 0) {
    in_child();
    become(path, pointers, before, report[1]);
  }
  child.error = errno;
  close(report[1]);
  if (child.pid > 0) {
    take_all_signals();
    child.started = read(report[0], &child.error, sizeof child.error) == 0;
    wait_for_end(child, all);
    if (child.started) before_reaping(child);
    waitpid(child.pid, nullptr, 0);
  }
  close(report[0]);
  return child;
}

int end_like(const outcome& child) {
  if (child.signal == 0) return child.code;
  const rlimit no_core{0, 0};  // the child has left one, if that was wanted
  setrlimit(RLIMIT_CORE, &no_core);
  set_default(child.signal);
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, child.signal);
  kill(getpid(), child.signal);
  sigprocmask(SIG_UNBLOCK, &one, nullptr);
  return 128 + child.signal;
}

}  // namespace kmem::tool::run
