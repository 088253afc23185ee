// Building text without allocating: into a buffer of the caller's, truncated at its end, always NUL-terminated.
#pragma once
#include <cstddef>
#include <cstdint>

namespace kmem {

class text_writer {
 public:
  text_writer(char* buffer, size_t capacity) noexcept : buffer_(buffer), capacity_(capacity) {
    if (capacity_ != 0) buffer_[0] = '\0';
  }
  text_writer& str(const char* text) noexcept;
  text_writer& str(const char* text, size_t length) noexcept;
  text_writer& ch(char c) noexcept;
  /// Decimal, right-aligned in `width` columns.
  text_writer& dec(uint64_t value, unsigned width = 0) noexcept;
  text_writer& sdec(int64_t value) noexcept;
  /// Hexadecimal without prefix, zero-padded to `digits`.
  text_writer& hex(uint64_t value, unsigned digits = 0) noexcept;
  /// Left-aligned text in `width` columns.
  text_writer& pad(const char* text, unsigned width) noexcept;
  /// Characters that were wanted, NUL excluded: more than capacity - 1 when truncated.
  size_t length() const noexcept { return length_; }

 private:
  char* buffer_;
  size_t capacity_;
  size_t length_ = 0;
};

}  // namespace kmem
