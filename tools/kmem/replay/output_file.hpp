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

  // Tries whether a file can be made beside `path`, to be put in its place later; a path that is no regular file (a
  // pipe, a terminal) is opened itself, and "-" is standard output. Leaves nothing behind. Return: false with the reason.
  bool open(const std::string& path, std::string& problem);
  bool is_open() const { return open_; }

  // Writes everything and puts the file in its place. Return: false with the reason; then nothing is changed.
  bool commit(std::string_view text, std::string& problem);

 private:
  bool make_temporary(std::string& problem);
  bool write_all(std::string_view text);
  void drop_temporary();

  std::string path_;
  std::string place_;      // what path_ leads to, links followed; empty: descriptor_ is where to write
  std::string temporary_;  // while it exists
  unsigned mode_ = 0;
  int descriptor_ = -1;
  bool open_ = false;
};

}  // namespace kmem::tool::replay
