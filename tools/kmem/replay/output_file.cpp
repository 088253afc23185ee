#include "output_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace kmem::tool::replay {

namespace {

std::string reason(const std::string& path, const char* what, int error) {
  const char* const advice = error == ENOENT ? "; make its directory first" : error == EISDIR ? "; name a file in it" : "";
  return fmt::format("{}: {}: {}{}", path, what, std::strerror(error), advice);
}

// The mode that a file made by open() with 0666 would have; the mask can only be read by changing it.
mode_t usual_mode() {
  const mode_t mask = umask(0);
  umask(mask);
  return 0666 & ~mask;
}

}  // namespace

output_file::~output_file() { drop_temporary(); }

void output_file::drop_temporary() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

bool output_file::make_temporary(std::string& problem) {
  std::string name = place_ + ".XXXXXX";
  descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor_ < 0) {
    problem = reason(path_, "cannot be made", errno);
    return false;
  }
  temporary_ = name;
  if (::fchmod(descriptor_, mode_) == 0) return true;
  problem = reason(path_, "cannot be given its mode", errno);
  drop_temporary();
  return false;
}

bool output_file::open(const std::string& path, std::string& problem) {
  path_ = path;
  struct stat about {};
  if (path == "-") {
    descriptor_ = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (descriptor_ < 0) problem = reason("standard output", "cannot be used", errno);
    return open_ = descriptor_ >= 0;
  }
  const bool exists = ::stat(path.c_str(), &about) == 0;
  if (!exists || (S_ISREG(about.st_mode) && ::access(path.c_str(), W_OK) == 0)) {
    std::error_code unknown;
    const std::filesystem::path place = std::filesystem::canonical(path, unknown);
    place_ = unknown ? path : place.string();
    mode_ = exists ? about.st_mode & 0777 : usual_mode();
    open_ = make_temporary(problem);
    drop_temporary();
    return open_;
  }
  if (!S_ISDIR(about.st_mode)) descriptor_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor_ < 0) problem = reason(path, "cannot be written", S_ISDIR(about.st_mode) ? EISDIR : errno);
  return open_ = descriptor_ >= 0;
}

bool output_file::write_all(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  return closed == 0;
}

bool output_file::commit(std::string_view text, std::string& problem) {
  if (!place_.empty() && !make_temporary(problem)) return false;
  const bool good = write_all(text) && (place_.empty() || std::rename(temporary_.c_str(), place_.c_str()) == 0);
  if (good) {
    temporary_.clear();
    return true;
  }
  problem = reason(path_, "cannot be written", errno);
  drop_temporary();
  return false;
}

}  // namespace kmem::tool::replay
