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

output_file::~output_file() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

bool output_file::open_new(const std::string& place, unsigned mode, std::string& problem) {
  std::string name = place + ".XXXXXX";
  descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor_ < 0) {
    problem = reason(path_, "cannot be made", errno);
    return false;
  }
  place_ = place;
  temporary_ = name;
  if (::fchmod(descriptor_, mode) == 0) return true;
  problem = reason(path_, "cannot be given its mode", errno);
  return false;
}

bool output_file::open(const std::string& path, std::string& problem) {
  path_ = path;
  struct stat about {};
  if (path == "-") {
    descriptor_ = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (descriptor_ < 0) problem = reason("standard output", "cannot be used", errno);
    return descriptor_ >= 0;
  }
  if (::stat(path.c_str(), &about) != 0) return open_new(path, usual_mode(), problem);
  if (S_ISREG(about.st_mode) && ::access(path.c_str(), W_OK) == 0) {
    std::error_code unknown;
    const std::filesystem::path place = std::filesystem::canonical(path, unknown);
    return open_new(unknown ? path : place.string(), about.st_mode & 0777, problem);
  }
  if (!S_ISDIR(about.st_mode)) descriptor_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor_ < 0) problem = reason(path, "cannot be written", S_ISDIR(about.st_mode) ? EISDIR : errno);
  return descriptor_ >= 0;
}

bool output_file::commit(std::string_view text, std::string& problem) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      problem = reason(path_, "cannot be written", written < 0 ? errno : EIO);
      return false;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::close(descriptor_) != 0) {
    descriptor_ = -1;
    problem = reason(path_, "cannot be written", errno);
    return false;
  }
  descriptor_ = -1;
  if (temporary_.empty()) return true;
  if (std::rename(temporary_.c_str(), place_.c_str()) != 0) {
    problem = reason(path_, "cannot be put in its place", errno);
    return false;
  }
  temporary_.clear();
  return true;
}

}  // namespace kmem::tool::replay
