// Text without allocation: numbers by hand, since the C library's formatting may allocate and takes locks.
//
// Context: any. Tests: tests/unit/base/text_test.cpp
#include "base/text.hpp"

namespace kmem {

text_writer& text_writer::ch(char c) noexcept {
  if (length_ + 1 < capacity_) {
    buffer_[length_] = c;
    buffer_[length_ + 1] = '\0';
  }
  ++length_;
  return *this;
}

text_writer& text_writer::str(const char* text) noexcept {
  while (*text != '\0') ch(*text++);
  return *this;
}

text_writer& text_writer::str(const char* text, size_t length) noexcept {
  for (size_t i = 0; i < length; ++i) ch(text[i]);
  return *this;
}

text_writer& text_writer::dec(uint64_t value, unsigned width) noexcept {
  char digits[20];  // 2^64 - 1 has 20
  unsigned count = 0;
  do {
    digits[count++] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  for (unsigned column = count; column < width; ++column) ch(' ');
  while (count != 0) ch(digits[--count]);
  return *this;
}

text_writer& text_writer::sdec(int64_t value) noexcept {
  if (value >= 0) return dec(static_cast<uint64_t>(value));
  return ch('-').dec(0 - static_cast<uint64_t>(value));  // also right for the most negative value
}

text_writer& text_writer::hex(uint64_t value, unsigned digits) noexcept {
  unsigned count = 1;
  while (count < 16 && value >> (4 * count) != 0) ++count;
  for (unsigned column = count; column < digits; ++column) ch('0');
  while (count != 0) ch("0123456789abcdef"[value >> (4 * --count) & 15]);
  return *this;
}

text_writer& text_writer::pad(const char* text, unsigned width) noexcept {
  const size_t start = length_;
  str(text);
  while (length_ - start < width) ch(' ');
  return *this;
}

}  // namespace kmem
