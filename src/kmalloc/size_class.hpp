// The size classes of kmalloc, and the lookup from a size: tables computed from the list and proven for every size.
//
// 83 classes: 8, then 16-byte steps to 512, 32-byte steps to 1024, then sizes fitted to slabs; waste at most 12.5 % above 112 bytes;
// every power of two is present and naturally aligned; the smallest slab with at least 4 objects and a tail of at most 3.2 %. Measured
// against 62 and 73 classes: docs/decisions. A class's number is its index in the list plus one; it is the id of its cache and its byte
// in the class map.
#pragma once
#include <array>

#include "base/base.hpp"

namespace kmem {

struct size_class {
  uint16_t size;        // bytes
  uint8_t slab_order;
};

inline constexpr unsigned nr_size_classes = 83;
inline constexpr size_t size_class_max = 32768;   // the largest slab object; above: pages

inline constexpr std::array<size_class, nr_size_classes> size_classes{{
#include "kmalloc/size_class_table.inc"
}};

// Two tables: sizes up to 8 KiB by (n + 7) / 8, larger ones, all multiples of 64, by (n - 1) / 64.
inline constexpr size_t small_class_max = 8192;

namespace detail {

constexpr uint8_t first_class_for(size_t size) noexcept {
  unsigned index = 0;
  while (size_classes[index].size < size) ++index;
  return static_cast<uint8_t>(index + 1);
}
inline constexpr std::array<uint8_t, small_class_max / 8 + 1> small_class_table = [] {
  std::array<uint8_t, small_class_max / 8 + 1> table{};
  for (size_t i = 1; i < table.size(); ++i) table[i] = first_class_for(i * 8);
  return table;
}();
inline constexpr std::array<uint8_t, size_class_max / 64> large_class_table = [] {
  std::array<uint8_t, size_class_max / 64> table{};
  for (size_t i = 0; i < table.size(); ++i) table[i] = first_class_for((i + 1) * 64);
  return table;
}();

}  // namespace detail

/// The number of the smallest class for `size`, 0 .. size_class_max. Return: 0, which is no class, for 0.
KMEM_ALWAYS_INLINE constexpr unsigned size_class_of(size_t size) noexcept {
  if (KMEM_LIKELY(size <= small_class_max)) return detail::small_class_table[(size + 7) >> 3];
  return detail::large_class_table[(size - 1) >> 6];
}
constexpr size_t size_of_class(unsigned number) noexcept { return size_classes[number - 1].size; }

/// The number of the smallest class for `size` whose objects are aligned to `align`, a power of two up to size_class_max: objects lie at
/// multiples of the class size from a slab's start, which is naturally aligned.
constexpr unsigned aligned_size_class_of(size_t size, size_t align) noexcept {
  unsigned number = size_class_of(size > align ? size : align);
  while ((size_of_class(number) & (align - 1)) != 0) ++number;
  return number;
}

}  // namespace kmem
