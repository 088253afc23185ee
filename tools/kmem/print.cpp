// Standard output that is full or closed is an error like any other.

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "commands.hpp"

namespace kmem::tool {

bool print(std::string_view text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return true;
  std::fprintf(stderr, "kmem: standard output: cannot be written: %s\n", std::strerror(errno));
  return false;
}

}  // namespace kmem::tool
