#pragma once

// A child that stands for this process: it gets the signals that this one gets, it is stopped and goes on with it, and this one ends as it
// does.

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace kmem::tool::run {

struct outcome {
  pid_t pid = 0;
  bool started = false;
  int error = 0;   // not started: errno of fork or exec
  int code = 0;    // exited
  int signal = 0;  // ended by it; 0: exited
};

// Starts the program and returns when it has ended; it is a zombie, so that its number is its own, until `before_reaping` has returned.
// `in_child`: called in the child before exec, as it knows its own number there.
outcome run_supervised(const std::string& path, const std::vector<std::string>& arguments, const std::function<void()>& in_child,
                       const std::function<void(const outcome&)>& before_reaping);

// Ends this process as the child has ended. Return: the exit status, if that was an exit (or the signal does not end us: 128 + signal).
int end_like(const outcome& child);

}  // namespace kmem::tool::run
