#include "pattern.hpp"

#include <algorithm>
#include <cstring>

namespace kmem::tool::replay {

namespace {

constexpr std::uint64_t step = 0x9e3779b97f4a7c15u;  // odd, so no two words of an object are alike
constexpr std::size_t word_bytes = sizeof(std::uint64_t);

// The finaliser of splitmix64: neighbouring seeds give unrelated patterns.
constexpr std::uint64_t first_word(std::uint64_t seed) noexcept {
  seed += step;
  seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9u;
  seed = (seed ^ (seed >> 27)) * 0x94d049bb133111ebu;
  return seed ^ (seed >> 31);
}

// Compares in words, then tells the byte. `next` gives the words in order.
template <typename Next>
std::size_t find_difference(const void* memory, std::size_t bytes, Next next) noexcept {
  const auto* at = static_cast<const char*>(memory);
  for (std::size_t offset = 0; offset < bytes; offset += word_bytes) {
    const std::size_t length = std::min(word_bytes, bytes - offset);
    const std::uint64_t expected = next();
    std::uint64_t found = 0;
    std::memcpy(&found, at + offset, length);
    if (std::memcmp(&found, &expected, length) == 0) continue;
    const auto* left = reinterpret_cast<const char*>(&found);
    const auto* right = reinterpret_cast<const char*>(&expected);
    return offset + static_cast<std::size_t>(std::mismatch(left, left + length, right).first - left);
  }
  return bytes;
}

}  // namespace

void fill_pattern(void* memory, std::size_t bytes, std::uint64_t seed) noexcept {
  auto* at = static_cast<char*>(memory);
  std::uint64_t word = first_word(seed);
  for (; bytes >= word_bytes; bytes -= word_bytes, at += word_bytes, word += step) std::memcpy(at, &word, word_bytes);
  std::memcpy(at, &word, bytes);
}

std::size_t find_mismatch(const void* memory, std::size_t bytes, std::uint64_t seed) noexcept {
  std::uint64_t word = first_word(seed) - step;
  return find_difference(memory, bytes, [&] { return word += step; });
}

std::uint8_t pattern_byte(std::size_t offset, std::uint64_t seed) noexcept {
  const std::uint64_t word = first_word(seed) + offset / word_bytes * step;
  std::uint8_t bytes[word_bytes];
  std::memcpy(bytes, &word, word_bytes);
  return bytes[offset % word_bytes];
}

std::size_t find_non_zero(const void* memory, std::size_t bytes) noexcept {
  return find_difference(memory, bytes, [] { return std::uint64_t{0}; });
}

}  // namespace kmem::tool::replay
