#include "base/text.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>

namespace kmem {
namespace {

template <class Write>
std::string written(Write write) {
  char buffer[64];
  text_writer out(buffer, sizeof buffer);
  write(out);
  EXPECT_EQ(out.length(), std::strlen(buffer));
  return buffer;
}

TEST(Text, NumbersAreThoseOfThePrintfFormats) {
  constexpr uint64_t values[] = {0, 1, 9, 10, 15, 16, 255, 256, 99999, 0x7fffffffffffffff, 0x8000000000000000, ~uint64_t{0}};
  for (const uint64_t value : values) {
    char wanted[64];
    std::snprintf(wanted, sizeof wanted, "%lu", value);
    EXPECT_EQ(written([&](text_writer& out) { out.dec(value); }), wanted);
    std::snprintf(wanted, sizeof wanted, "%8lu", value);
    EXPECT_EQ(written([&](text_writer& out) { out.dec(value, 8); }), wanted);
    std::snprintf(wanted, sizeof wanted, "%lx", value);
    EXPECT_EQ(written([&](text_writer& out) { out.hex(value); }), wanted);
    std::snprintf(wanted, sizeof wanted, "%08lx", value);
    EXPECT_EQ(written([&](text_writer& out) { out.hex(value, 8); }), wanted);
    const auto as_signed = static_cast<int64_t>(value);
    std::snprintf(wanted, sizeof wanted, "%ld", as_signed);
    EXPECT_EQ(written([&](text_writer& out) { out.sdec(as_signed); }), wanted);
  }
}

TEST(Text, PadsOnTheRightAndNeverCuts) {
  EXPECT_EQ(written([](text_writer& out) { out.str("a").pad("bc", 4).ch('|'); }), "abc  |");
  EXPECT_EQ(written([](text_writer& out) { out.pad("abcdef", 4).ch('|'); }), "abcdef|");
  EXPECT_EQ(written([](text_writer& out) { out.str("abcdef", 3); }), "abc");
}

TEST(Text, CutsAtTheEndOfTheBufferAndTellsTheLengthWanted) {
  char buffer[8];
  std::memset(buffer, '#', sizeof buffer);
  text_writer out(buffer, 5);
  out.str("abc").dec(12345).ch('z');
  EXPECT_STREQ(buffer, "abc1");
  EXPECT_EQ(out.length(), 9u);
  EXPECT_EQ(buffer[5], '#');
}

TEST(Text, ABufferOfNoneOrOneByteIsFine) {
  char one = 'x';
  EXPECT_EQ(text_writer(&one, 1).str("abc").length(), 3u);
  EXPECT_EQ(one, '\0');
  one = 'x';
  EXPECT_EQ(text_writer(&one, 0).str("abc").length(), 3u);
  EXPECT_EQ(one, 'x');
}

}  // namespace
}  // namespace kmem
