// Runs a part of a test in a forked child, whose resource limits and memory locks end with it.
#pragma once
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

namespace kmem::test {

/// Runs `body` (returns what went wrong, empty for nothing) in a child. Return: what it returned, or how the child died.
template <class Body>
std::string in_child(Body body) {
  int ends[2];
  if (pipe(ends) != 0) return "pipe failed";
  const pid_t child = fork();
  if (child < 0) return "fork failed";
  if (child == 0) {
    close(ends[0]);
    const std::string result = body();
    size_t written = 0;
    while (written < result.size()) {
      const ssize_t n = write(ends[1], result.data() + written, result.size() - written);
      if (n <= 0) _exit(3);
      written += static_cast<size_t>(n);
    }
    _exit(0);
  }
  close(ends[1]);
  std::string result;
  char buffer[512];
  for (ssize_t n = 0; (n = read(ends[0], buffer, sizeof buffer)) > 0;) result.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status)) + " " + result;
  if (WEXITSTATUS(status) != 0) return "exit status " + std::to_string(WEXITSTATUS(status)) + " " + result;
  return result;
}

/// A "Name: n kB" line of /proc/self/status in bytes.
inline size_t status_bytes(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.compare(0, name.size() + 1, name + ":") == 0) return std::stoul(line.substr(name.size() + 1)) * 1024;
  return 0;
}

}  // namespace kmem::test
