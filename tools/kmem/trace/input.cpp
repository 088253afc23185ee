#include "input.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace kmem::tool::trace {

namespace {

constexpr std::size_t stored_bytes = 128 * 1024;
constexpr std::size_t text_bytes = 4 * input::max_line_bytes;

std::string advice_for(int code, const std::string& path) {
  switch (code) {
    case ENOENT:
      return "check the path";
    case EACCES:
    case EPERM:
      if (path.find("/tracing/") != std::string::npos) return "only root may read it: copy it as root, then replay the copy";
      return "make it readable, or copy it";
    case EMFILE:
    case ENFILE:
      return "close files, or raise the limit (ulimit -n)";
    default:
      return {};
  }
}

constexpr std::string_view line_shape = "a line of ftrace text: TASK-PID [CPU] CONTEXT TIMESTAMP: EVENT: FIELD=VALUE ...";

}  // namespace

input::~input() {
  if (owns_descriptor_) ::close(descriptor_);
}

bool input::fail(std::string what, std::string expected, std::string advice) {
  failure_ = {};
  failure_.file = name_;
  failure_.what = std::move(what);
  failure_.expected = std::move(expected);
  failure_.advice = std::move(advice);
  error_ = failure_;
  failed_ = true;
  text_ended_ = true;
  return false;
}

bool input::open(const std::string& path) {
  if (path == "-") {
    name_ = "standard input";
    descriptor_ = STDIN_FILENO;
    if (::fcntl(descriptor_, F_GETFD) < 0) return fail("standard input is closed", {}, "pipe a trace in, or name a file");
  } else {
    name_ = path;
    do {
      descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    } while (descriptor_ < 0 && errno == EINTR);
    if (descriptor_ < 0) {
      const int code = errno;
      return fail(std::string("cannot be opened: ") + std::strerror(code), {}, advice_for(code, path));
    }
    owns_descriptor_ = true;
  }
  struct stat about {};
  if (::fstat(descriptor_, &about) != 0) return fail(std::string("cannot be examined: ") + std::strerror(errno), {}, {});
  if (S_ISDIR(about.st_mode)) {
    return fail("is a directory", "a file of ftrace text", "name a file in it, such as /sys/kernel/tracing/trace");
  }
  if (S_ISREG(about.st_mode)) bytes_total_ = static_cast<std::uint64_t>(about.st_size);
  stored_.resize(stored_bytes);
  return start();
}

bool input::open_memory(std::string name, std::span<const std::uint8_t> bytes) {
  name_ = std::move(name);
  memory_ = bytes;
  bytes_total_ = bytes.size();
  return start();
}

// Reads the first bytes, enough to tell what the file is.
bool input::start() {
  if (descriptor_ >= 0) {
    std::size_t have = 0;
    while (have < signature_bytes && !stored_end_) {
      const ssize_t got = ::read(descriptor_, stored_.data() + have, stored_.size() - have);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return fail(std::string("cannot be read: ") + std::strerror(errno), {}, {});
      if (got == 0) stored_end_ = true;
      have += static_cast<std::size_t>(got);
    }
    stored_left_ = std::span(stored_).first(have);
  } else {
    stored_left_ = memory_;
    stored_end_ = true;
  }
  bytes_read_ = stored_left_.size();
  if (stored_left_.empty()) return fail("is empty", "a file of ftrace text", "was tracing switched on (tracing_on, events/kmem/enable)?");
  const file_signature signature = detect_signature(stored_left_.first(std::min(stored_left_.size(), signature_bytes)));
  if (!signature.foreign.empty()) {
    return fail("is " + std::string(signature.foreign), "ftrace text, plain or compressed with gzip, xz or zstd",
                std::string(signature.advice));
  }
  kind_ = signature.kind;
  text_.resize(text_bytes);
  if (kind_ == compression::none) return true;
  decompressor_ = make_decompressor(kind_);
  if (decompressor_ == nullptr) return fail("the decompressor cannot start", {}, "free some memory");
  return true;
}

// Refills stored_, of which everything must have been used.
bool input::read_stored() {
  while (!stored_end_) {
    const ssize_t got = ::read(descriptor_, stored_.data(), stored_.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(std::string("cannot be read: ") + std::strerror(errno), {}, {});
    if (got == 0) stored_end_ = true;
    stored_left_ = std::span(stored_).first(static_cast<std::size_t>(got));
    bytes_read_ += static_cast<std::uint64_t>(got);
    break;
  }
  return true;
}

void input::make_room() {
  if (text_begin_ == 0) return;
  std::memmove(text_.data(), text_.data() + text_begin_, text_end_ - text_begin_);
  text_end_ -= text_begin_;
  text_begin_ = 0;
}

// Gets more text behind text_end_. Return: false at the end or after a failure.
bool input::fill() {
  if (text_ended_) return false;
  make_room();
  if (decompressor_ != nullptr) return fill_decoded();
  if (stored_left_.empty() && !read_stored()) return false;
  if (stored_left_.empty()) {
    text_ended_ = true;
    return false;
  }
  const std::size_t length = std::min(stored_left_.size(), text_.size() - text_end_);
  std::memcpy(text_.data() + text_end_, stored_left_.data(), length);
  stored_left_ = stored_left_.subspan(length);
  text_end_ += length;
  return true;
}

bool input::fill_decoded() {
  std::span<char> room = std::span(text_).subspan(text_end_);
  const std::size_t room_before = room.size();
  while (room.size() == room_before) {
    if (stored_left_.empty() && !stored_end_ && !read_stored()) return false;
    const std::size_t left_before = stored_left_.size();
    const auto status = decompressor_->decode(stored_left_, room, stored_end_);
    text_end_ = text_.size() - room.size();
    if (status == decompressor::status::failed) {
      fail("is a damaged " + std::string(compression_name(kind_)) + " archive: " + decompressor_->problem(), {},
           "what comes before the damage can be saved by decompressing into a file (" + std::string(compression_name(kind_)) + " -dc)");
      return room.size() != room_before;
    }
    if (room.size() != room_before) break;
    if (stored_end_ && stored_left_.size() == left_before) {
      if (decompressor_->complete() && stored_left_.empty()) {
        text_ended_ = true;
      } else {
        fail("is a truncated " + std::string(compression_name(kind_)) + " archive: it ends in the middle", {},
             "copy or record it again; --keep-going replays what is there");
      }
      return false;
    }
  }
  return true;
}

input::status input::bad_line(std::string what, std::size_t column, std::string text, std::string advice) {
  error_ = {};
  error_.file = name_;
  error_.line = line_number_;
  error_.column = static_cast<std::uint32_t>(column);
  error_.what = std::move(what);
  error_.expected = line_shape;
  error_.advice = std::move(advice);
  error_.text = std::move(text);
  return status::bad_line;
}

// Hands out the next `length` bytes; `with_end` more than that when there is a line end.
input::status input::take_line(std::size_t length, std::size_t with_end) {
  line_ = std::string_view(text_.data() + text_begin_, length);
  text_begin_ += with_end;
  line_number_++;
  if (!line_.empty() && line_.back() == '\r') line_.remove_suffix(1);
  const void* nul = line_.empty() ? nullptr : std::memchr(line_.data(), 0, line_.size());
  if (nul == nullptr) return status::line;
  const auto column = static_cast<std::size_t>(static_cast<const char*>(nul) - line_.data()) + 1;
  return bad_line("a NUL byte: this is not text", column, printable(line_, column - 1),
                  "copy the trace as text (cat /sys/kernel/tracing/trace, or trace-cmd report)");
}

// The line at text_begin_ has no end within max_line_bytes: drops all of it.
input::status input::skip_overlong() {
  line_number_++;
  line_ = {};
  std::string text = printable(std::string_view(text_.data() + text_begin_, max_line_bytes));
  for (;;) {
    const void* end = std::memchr(text_.data() + text_begin_, '\n', text_end_ - text_begin_);
    if (end != nullptr) {
      text_begin_ = static_cast<std::size_t>(static_cast<const char*>(end) - text_.data()) + 1;
      break;
    }
    text_begin_ = text_end_;
    if (!fill()) break;
  }
  return bad_line("a line of more than " + std::to_string(max_line_bytes) + " bytes: this is not ftrace text", 0, std::move(text),
                  "check that the file is a text trace");
}

input::status input::next() {
  std::size_t searched = 0;
  for (;;) {
    const std::size_t have = text_end_ - text_begin_;
    const char* begin = text_.data() + text_begin_;
    const void* end = have == searched ? nullptr : std::memchr(begin + searched, '\n', have - searched);
    if (end != nullptr) {
      const auto length = static_cast<std::size_t>(static_cast<const char*>(end) - begin);
      if (length > max_line_bytes) return skip_overlong();
      return take_line(length, length + 1);
    }
    if (have > max_line_bytes) return skip_overlong();
    searched = have;
    if (fill()) continue;
    // A last line without line end, or with one that a failure cut off.
    if (failed_) break;
    if (text_begin_ == text_end_) return status::end;
    return take_line(text_end_ - text_begin_, text_end_ - text_begin_);
  }
  line_ = {};
  error_ = failure_;
  error_.line = line_number_ + 1;
  return status::failed;
}

}  // namespace kmem::tool::trace
