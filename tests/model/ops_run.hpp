// Running a program of operations to its verdict, and making a failing one small.
#pragma once
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cctype>
#include <functional>

#include "model/ops_machine.hpp"

namespace kmem::testing {

/// Runs a program in this process. Return: what went wrong, or an empty string.
inline std::string run_program(const op_program& program) {
  std::size_t at = 0;
  try {
    ops_machine machine(parameters_of(program));
    for (const operation& op : program.operations) {
      machine.step(op);
      ++at;
    }
    machine.finish();
  } catch (const std::exception& e) {
    const bool in_step = at < program.operations.size();
    return (in_step ? "operation " + std::to_string(at) + " (" + to_text(program.operations[at]) + "): " : std::string("at the end: ")) +
           e.what();
  }
  return {};
}

inline constexpr unsigned program_seconds_most = 60;  // a program takes milliseconds; what takes this long hangs

/// A page that a child can write its verdict to.
class shared_text {
 public:
  shared_text() : page_(static_cast<char*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    if (page_ == MAP_FAILED) throw std::runtime_error("no shared page");
  }
  ~shared_text() { munmap(page_, bytes); }
  shared_text(const shared_text&) = delete;
  shared_text& operator=(const shared_text&) = delete;
  void set(const std::string& text) {
    const std::size_t n = std::min(text.size(), bytes - 1);
    std::memcpy(page_, text.data(), n);
    page_[n] = '\0';
  }
  std::string get() const { return page_; }

 private:
  static constexpr std::size_t bytes = 4096;
  char* page_;
};

/// Runs `body` in a child, so that a crash or a hang is a verdict as well. Return: body's text, or how the child ended.
inline std::string run_in_child(const std::function<std::string(shared_text&)>& body) {
  shared_text text;
  const pid_t child = fork();
  if (child < 0) return "fork failed";
  if (child == 0) {
    alarm(program_seconds_most);
    text.set(body(text));
    _exit(0);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child) return "waitpid failed";
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return text.get();
  const std::string how =
      WIFSIGNALED(status) ? "ended by signal " + std::to_string(WTERMSIG(status)) : "exit " + std::to_string(WEXITSTATUS(status));
  return how + " " + text.get();
}

/// What a verdict is about: without the operation's number, addresses and amounts, which change while a program is made small.
inline std::string kind_of_verdict(const std::string& verdict) {
  const std::size_t colon = verdict.find("): ");
  std::string kind;
  for (const char c : colon == std::string::npos ? verdict : verdict.substr(colon))
    if (std::isalpha(static_cast<unsigned char>(c)) != 0) kind += c;
  return kind;
}

/// Leaves out what is not needed for the failure: halves, quarters, ... single operations, until nothing more can go.
template <class Fails>
op_program shrink_program(op_program program, Fails fails) {
  for (std::size_t chunk = (program.operations.size() + 1) / 2; chunk != 0;) {
    bool removed = false;
    for (std::size_t begin = 0; begin < program.operations.size();) {
      op_program smaller = program;
      const auto first = smaller.operations.begin() + static_cast<std::ptrdiff_t>(begin);
      smaller.operations.erase(first, first + static_cast<std::ptrdiff_t>(std::min(chunk, smaller.operations.size() - begin)));
      if (fails(smaller)) {
        program = smaller;
        removed = true;
      } else {
        begin += chunk;
      }
    }
    if (!removed) chunk /= 2;
  }
  return program;
}

/// The shrunk program of one that fails, with its verdict, as text for a report.
inline std::string explain_failure(const op_program& program) {
  const auto verdict = [](const op_program& p) { return run_in_child([&](shared_text&) { return run_program(p); }); };
  const std::string kind = kind_of_verdict(verdict(program));
  const op_program small = shrink_program(program, [&](const op_program& p) {
    const std::string now = verdict(p);
    return !now.empty() && kind_of_verdict(now) == kind;
  });
  return verdict(small) + "\n" + to_text(small);
}

}  // namespace kmem::testing
