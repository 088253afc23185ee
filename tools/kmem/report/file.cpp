#include "file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "escape.hpp"

namespace kmem::tool::report {

namespace {

[[nodiscard]] std::string failure(const std::string& path, int error) {
  const char* hint = error == ENOENT   ? "create its directory first"
                     : error == EISDIR ? "name a file in it"
                     : error == ENOSPC ? "make room or choose another place"
                                       : "choose another place";
  return fmt::format("cannot write {}: {}; {}", printable(path), std::strerror(error), hint);
}

}  // namespace

std::optional<std::string> write_report(const std::string& path, std::string_view text) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) {
    return failure(path, errno);
  }
  while (!text.empty()) {
    const ssize_t written = ::write(file, text.data(), text.size());
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written < 0) {
      const int error = errno;
      ::close(file);
      return failure(path, error);
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  // Some file systems tell only here that the bytes did not fit.
  return ::close(file) == 0 ? std::nullopt : std::optional(failure(path, errno));
}

}  // namespace kmem::tool::report
