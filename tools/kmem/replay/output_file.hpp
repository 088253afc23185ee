#pragma once

// A report's file. Whether it can be written is known before the replay begins, and what was there before stays until
// the new contents are complete.

#include <string>
#include <string_view>

namespace kmem::tool::replay {

class output_file {
 public:
  output_file() = default;
  ~output_file();
  output_file(const output_file&) = delete;
  output_file& operator=(const output_file&) = delete;

  // Opens a new file beside `path`, to be put in its place; a path that is no regular file (a pipe, a terminal) is
  // opened itself, and "-" is standard output. Return: false with the reason.
  bool open(const std::string& path, std::string& problem);
  bool is_open() const { return descriptor_ >= 0; }
  const std::string& path() const { return path_; }

  // Writes everything and puts the file in its place. Return: false with the reason; then nothing is changed.
  bool commit(std::string_view text, std::string& problem);

 private:
  bool open_new(const std::string& place, unsigned mode, std::string& problem);

  std::string path_;
  std::string place_;      // what path_ leads to, links followed
  std::string temporary_;  // empty: nothing is to be renamed
  int descriptor_ = -1;
};

}  // namespace kmem::tool::replay
