#include "run/program.hpp"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace kmem::tool::run {

namespace {

constexpr int not_found = 127, not_to_be_run = 126;
constexpr unsigned most_interpreters = 4;  // of scripts; the kernel's limit

struct ::stat about(const std::string& path, bool& exists) {
  struct ::stat result {};
  exists = ::stat(path.c_str(), &result) == 0;
  return result;
}

// A file of PATH, or the first one that would be taken if it could be executed.
std::string search_path(const std::string& name) {
  const char* const variable = std::getenv("PATH");
  const std::string path = variable != nullptr ? variable : "/usr/local/bin:/usr/bin:/bin";
  std::string candidate_found;
  for (std::size_t begin = 0; begin <= path.size();) {
    std::size_t end = path.find(':', begin);
    if (end == std::string::npos) end = path.size();
    const std::string folder = path.substr(begin, end - begin);
    const std::string candidate = (folder.empty() ? "." : folder) + "/" + name;
    bool exists = false;
    const struct ::stat file = about(candidate, exists);
    if (exists && S_ISREG(file.st_mode)) {
      if (access(candidate.c_str(), X_OK) == 0) return candidate;
      if (candidate_found.empty()) candidate_found = candidate;
    }
    begin = end + 1;
  }
  return candidate_found;
}

class descriptor {
 public:
  explicit descriptor(const std::string& path) : number_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~descriptor() {
    if (number_ >= 0) close(number_);
  }
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  bool read(void* to, std::size_t bytes, off_t at) const { return pread(number_, to, bytes, at) == static_cast<ssize_t>(bytes); }
  ssize_t read_some(void* to, std::size_t bytes) const { return pread(number_, to, bytes, 0); }
  bool good() const { return number_ >= 0; }

 private:
  int number_;
};

// Does the file name a loader, which is what preloads?
bool has_loader(const descriptor& file, const Elf64_Ehdr& head) {
  for (unsigned i = 0; i < head.e_phnum; i++) {
    Elf64_Phdr segment{};
    if (!file.read(&segment, sizeof segment, static_cast<off_t>(head.e_phoff + i * std::uint64_t{sizeof segment}))) return false;
    if (segment.p_type == PT_INTERP) return true;
  }
  return false;
}

// Return: why the loader would ignore a preloaded library; empty if it would not.
std::string privilege_problem(const std::string& path, const struct ::stat& file) {
  const bool other_user = (file.st_mode & S_ISUID) != 0 && file.st_uid != getuid();
  const bool other_group = (file.st_mode & S_ISGID) != 0 && (file.st_mode & S_IXGRP) != 0 && file.st_gid != getgid();
  if (other_user) return "is setuid: the loader ignores preloaded libraries there";
  if (other_group) return "is setgid: the loader ignores preloaded libraries there";
  if (getuid() != 0 && getxattr(path.c_str(), "security.capability", nullptr, 0) > 0)
    return "has file capabilities: the loader ignores preloaded libraries there";
  return "";
}

std::string elf_problem(const descriptor& file) {
  Elf64_Ehdr head{};
  if (!file.read(&head, sizeof head, 0)) return "is too short for a program";
  if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_machine != EM_X86_64) return "is not for x86-64, as libkmem-malloc.so is";
  if (head.e_phentsize != sizeof(Elf64_Phdr)) return "is damaged";
  if (!has_loader(file, head)) return "is linked statically: nothing can be preloaded; link it with libkmem-malloc.a";
  return "";
}

// The interpreter that a script names in its first line; empty: it is no script.
std::string interpreter_of(const descriptor& file) {
  std::array<char, 256> line{};
  const ssize_t length = file.read_some(line.data(), line.size() - 1);
  if (length < 3 || line[0] != '#' || line[1] != '!') return "";
  const std::string text(line.data() + 2, std::strcspn(line.data() + 2, "\n"));
  const std::size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_first_of(" \t", begin) - begin);
}

program_file refuse(const std::string& path, const std::string& why, int status) { return {path, path + ": " + why, status}; }

}  // namespace

program_file find_program(const std::string& name) {
  if (name.empty()) return {"", "the name of the program is empty", not_found};
  const std::string path = name.find('/') != std::string::npos ? name : search_path(name);
  if (path.empty()) return {"", name + ": there is no such program in PATH", not_found};
  std::string looked_at = path;
  for (unsigned level = 0; level <= most_interpreters; level++) {
    bool exists = false;
    const struct ::stat file = about(looked_at, exists);
    if (!exists) return refuse(looked_at, std::strerror(errno), errno == ENOENT || errno == ENOTDIR ? not_found : not_to_be_run);
    if (S_ISDIR(file.st_mode)) return refuse(looked_at, "is a folder", not_to_be_run);
    if (!S_ISREG(file.st_mode)) return refuse(looked_at, "is no file", not_to_be_run);
    if (access(looked_at.c_str(), X_OK) != 0) return refuse(looked_at, "may not be executed", not_to_be_run);
    const std::string privilege = privilege_problem(looked_at, file);
    const descriptor contents(looked_at);
    if (!contents.good()) return {path, "", 0};  // executable, but not readable: exec decides
    std::array<char, 4> magic{};
    const ssize_t length = contents.read_some(magic.data(), magic.size());
    if (length == 4 && std::memcmp(magic.data(), ELFMAG, SELFMAG) == 0) {
      const std::string problem = privilege.empty() ? elf_problem(contents) : privilege;
      return problem.empty() ? program_file{path, "", 0} : refuse(looked_at, problem, not_to_be_run);
    }
    looked_at = interpreter_of(contents);
    if (looked_at.empty()) return refuse(path, "is neither a program nor a script that names its interpreter", not_to_be_run);
  }
  return refuse(path, "its interpreter is a script, too, and so on", not_to_be_run);
}

std::string find_library_from(const std::string& program_folder, const std::string& installed_folder, std::string& searched) {
  const std::string relative[] = {program_folder + "/../lib", program_folder + "/../" KMEM_LIBRARY_FOLDER, installed_folder};
  for (const std::string& folder : relative) {
    for (const char* name : {"/libkmem-malloc.so.0", "/libkmem-malloc.so"}) {
      std::error_code error;
      const std::filesystem::path found = std::filesystem::weakly_canonical(folder + name, error);
      if (!error && std::filesystem::is_regular_file(found, error)) return found.string();
    }
    searched += (searched.empty() ? "" : ", ") + std::filesystem::path(folder).lexically_normal().string();
  }
  return "";
}

std::string find_library(std::string& searched) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return find_library_from(error ? "." : self.parent_path().string(), KMEM_INSTALLED_LIBRARY_FOLDER, searched);
}

}  // namespace kmem::tool::run
