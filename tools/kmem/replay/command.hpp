#pragma once

// `kmem replay`: from its options to its exit code.

#include <cstdint>
#include <string>
#include <vector>

namespace kmem::tool::replay {

struct settings {
  std::vector<std::string> traces;
  std::string mem;                      // empty: the library chooses
  std::vector<std::string> parameters;  // "name=value"
  unsigned threads = 0;                 // 0: one for each traced CPU
  bool touch = false;
  bool verify = false;
  bool keep_going = false;
  bool no_progress = false;
  bool quiet = false;
  std::string json;  // paths; empty: not wanted
  std::string html;
  std::string compare;
  std::string compare_html;
};

inline constexpr unsigned threads_max = 256;

// The library's command line for these settings, KMEM_CMDLINE first; what is set for a replay follows, unless something speaks of it.
// Return: false with the reason.
bool make_cmdline(const settings& from, const char* environment, std::string& cmdline, std::string& problem);

// Return: the exit code. Reports go to standard output, complaints and progress to standard error.
int run(const settings& wanted);

}  // namespace kmem::tool::replay
