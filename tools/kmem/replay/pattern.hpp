#pragma once

// What --verify writes over the whole length of an object and expects to find there when it is freed.
//
// Every 8-byte word depends on the object's seed and on its place, so contents that were overwritten, moved, or belong
// to another object do not pass.

#include <cstddef>
#include <cstdint>

namespace kmem::tool::replay {

void fill_pattern(void* memory, std::size_t bytes, std::uint64_t seed) noexcept;

// Return: the offset of the first wrong byte, `bytes` when there is none.
[[nodiscard]] std::size_t find_mismatch(const void* memory, std::size_t bytes, std::uint64_t seed) noexcept;

// The byte that the pattern has there.
[[nodiscard]] std::uint8_t pattern_byte(std::size_t offset, std::uint64_t seed) noexcept;

// Return: the offset of the first byte that is not zero, `bytes` when there is none.
[[nodiscard]] std::size_t find_non_zero(const void* memory, std::size_t bytes) noexcept;

}  // namespace kmem::tool::replay
