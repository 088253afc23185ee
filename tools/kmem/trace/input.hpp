#pragma once

// A trace as lines of text, from a file, standard input or memory, decompressed on the way. Memory use does not grow
// with the file.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "decompress.hpp"
#include "error.hpp"

namespace kmem::tool::trace {

class input {
 public:
  // The longest line that is taken for one. Lines of the kernel are shorter than 8 KiB (the size of its line buffer
  // in the versions read here).
  static constexpr std::size_t max_line_bytes = 64 * 1024;

  enum class status : std::uint8_t {
    line,      // line() is the next one
    end,       // no more lines
    bad_line,  // error() tells what is wrong with this line; the next call goes on after it
    failed,    // error() tells why nothing more can be read
  };

  input() = default;
  ~input();
  input(const input&) = delete;
  input& operator=(const input&) = delete;

  // Opens a file, or standard input for "-", and looks at its first bytes.
  // Return: false when it cannot be read, and error() says why.
  bool open(const std::string& path);

  // Reads bytes that must stay where they are, under a name for messages.
  bool open_memory(std::string name, std::span<const std::uint8_t> bytes);

  status next();

  // Without its line end; valid until the next call of next().
  std::string_view line() const { return line_; }
  std::uint64_t line_number() const { return line_number_; }

  const trace_error& error() const { return error_; }
  const std::string& name() const { return name_; }
  compression kind() const { return kind_; }

  // For a progress display: bytes taken from the file, and its size (0 when not known, as of a pipe).
  std::uint64_t bytes_read() const { return bytes_read_; }
  std::uint64_t bytes_total() const { return bytes_total_; }

 private:
  bool start();
  bool fail(std::string what, std::string expected, std::string advice);
  status bad_line(std::string what, std::size_t column, std::string text, std::string advice);
  status take_line(std::size_t length, std::size_t with_end);
  status skip_overlong();
  bool read_stored();
  bool fill();
  bool fill_decoded();
  void make_room();

  std::string name_;
  int descriptor_ = -1;
  bool owns_descriptor_ = false;
  std::span<const std::uint8_t> memory_;  // when descriptor_ is -1
  std::uint64_t bytes_read_ = 0;
  std::uint64_t bytes_total_ = 0;

  compression kind_ = compression::none;
  std::unique_ptr<decompressor> decompressor_;
  std::vector<std::uint8_t> stored_;           // bytes as in the file
  std::span<const std::uint8_t> stored_left_;  // those not yet decoded
  bool stored_end_ = false;                    // the file has no more

  std::vector<char> text_;  // decoded bytes; [text_begin_, text_end_) are not yet handed out
  std::size_t text_begin_ = 0;
  std::size_t text_end_ = 0;
  bool text_ended_ = false;
  bool failed_ = false;  // nothing more comes; an archive's text before the damage is still handed out
  trace_error failure_;  // then

  std::string_view line_;
  std::uint64_t line_number_ = 0;
  trace_error error_;
};

}  // namespace kmem::tool::trace
