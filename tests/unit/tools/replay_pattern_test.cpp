// The pattern of --verify: every byte counts, and no two places or objects are alike.

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "tools/kmem/replay/pattern.hpp"

namespace kmem::tool::replay {
namespace {

TEST(replay_pattern, is_found_again_and_writes_nothing_beyond) {
  for (std::size_t bytes = 0; bytes < 70; bytes++) {
    for (std::size_t start = 0; start < 8; start++) {
      std::vector<unsigned char> memory(bytes + 32, 0xee);
      fill_pattern(memory.data() + start, bytes, 42);
      EXPECT_EQ(find_mismatch(memory.data() + start, bytes, 42), bytes);
      for (std::size_t at = 0; at < start; at++) EXPECT_EQ(memory[at], 0xee);
      for (std::size_t at = start + bytes; at < memory.size(); at++) EXPECT_EQ(memory[at], 0xee);
      for (std::size_t at = 0; at < bytes; at++) EXPECT_EQ(memory[start + at], pattern_byte(at, 42));
    }
  }
}

TEST(replay_pattern, any_changed_byte_is_found) {
  for (const std::size_t bytes : {1u, 7u, 8u, 9u, 64u, 4099u}) {
    std::vector<unsigned char> memory(bytes);
    fill_pattern(memory.data(), bytes, 7);
    for (std::size_t at = 0; at < bytes; at++) {
      memory[at] ^= 0x10;
      EXPECT_EQ(find_mismatch(memory.data(), bytes, 7), at);
      memory[at] ^= 0x10;
    }
  }
}

TEST(replay_pattern, another_object_s_contents_do_not_pass) {
  std::vector<unsigned char> memory(4096);
  for (std::uint64_t seed = 0; seed < 200; seed++) {
    fill_pattern(memory.data(), memory.size(), seed);
    EXPECT_LT(find_mismatch(memory.data(), memory.size(), seed + 1), 8u);
  }
}

TEST(replay_pattern, moved_contents_do_not_pass) {
  std::vector<unsigned char> memory(4096 + 64);
  fill_pattern(memory.data(), memory.size(), 3);
  for (std::size_t by = 1; by < 64; by++) EXPECT_LT(find_mismatch(memory.data() + by, 4096, 3), 16u) << by;
}

TEST(replay_pattern, zero_is_looked_for_byte_by_byte) {
  std::vector<unsigned char> memory(101);
  EXPECT_EQ(find_non_zero(memory.data(), memory.size()), memory.size());
  EXPECT_EQ(find_non_zero(memory.data(), 0), 0u);
  for (std::size_t at = 0; at < memory.size(); at++) {
    memory[at] = 1;
    EXPECT_EQ(find_non_zero(memory.data(), memory.size()), at);
    memory[at] = 0;
  }
}

}  // namespace
}  // namespace kmem::tool::replay
