// What a machine may and may not hand out, without any of its cleverness: the map of living ranges, and the pattern in each.
//
// No two ranges share a byte. Every range carries a pattern made from its number, so that a byte that somebody else wrote, or that was
// not copied, is noticed and says whose it is. Long ranges carry it in their first and last page and in the first and last word of every
// page between.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>

namespace kmem::testing {

/// The machine did what it must not do.
class ops_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline std::string hex_text(const void* p) {
  char text[24];
  std::snprintf(text, sizeof text, "%p", p);
  return text;
}

inline constexpr std::size_t pattern_page = 4096;

inline std::uint64_t pattern_word(std::uint64_t id, std::size_t index) {
  std::uint64_t x = id * 0x9e3779b97f4a7c15u + index + 1;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  return x ^ (x >> 27);
}

/// Calls visit(offset, bytes) for each piece of at most 8 bytes that carries the pattern in a range of this length.
template <class Visit>
void for_each_pattern_piece(std::size_t bytes, Visit visit) {
  std::size_t offset = 0;
  while (offset < bytes) {
    const std::size_t left = bytes - offset;
    visit(offset, left < 8 ? left : std::size_t{8});
    const bool in_middle = offset >= pattern_page && offset + 2 * pattern_page < bytes;
    offset += in_middle && offset % pattern_page == 0 ? pattern_page - 8 : std::size_t{8};
  }
}

inline void fill_pattern(char* at, std::size_t bytes, std::uint64_t id) {
  for_each_pattern_piece(bytes, [&](std::size_t offset, std::size_t n) {
    const std::uint64_t word = pattern_word(id, offset / 8);
    std::memcpy(at + offset, &word, n);
  });
}

/// The first `kept` bytes of a range that was filled with a length of `filled` are as they were.
inline void check_pattern(const char* at, std::size_t filled, std::size_t kept, std::uint64_t id, const char* when) {
  for_each_pattern_piece(filled, [&](std::size_t offset, std::size_t n) {
    if (offset >= kept) return;
    if (n > kept - offset) n = kept - offset;
    const std::uint64_t word = pattern_word(id, offset / 8);
    if (std::memcmp(at + offset, &word, n) == 0) return;
    throw ops_error(std::string(when) + ": byte " + std::to_string(offset) + " of " + std::to_string(filled) + " at " + hex_text(at) +
                    " was changed");
  });
}

inline void check_zero(const char* at, std::size_t from, std::size_t to, const char* what) {
  for (std::size_t i = from; i < to; ++i)
    if (at[i] != 0) throw ops_error(std::string(what) + ": byte " + std::to_string(i) + " of " + std::to_string(to) + " is not zero");
}

inline void check_aligned(const void* p, std::size_t align, const char* what) {
  if (reinterpret_cast<std::uintptr_t>(p) % align != 0)
    throw ops_error(std::string(what) + ": " + hex_text(p) + " is not aligned to " + std::to_string(align));
}

/// Living ranges by address.
class range_map {
 public:
  void add(const void* p, std::size_t bytes) {
    if (bytes == 0) throw ops_error("a range of no bytes");
    const auto begin = reinterpret_cast<std::uintptr_t>(p);
    const auto next = ranges_.lower_bound(begin);
    const bool hits_next = next != ranges_.end() && next->first < begin + bytes;
    const bool hits_before = next != ranges_.begin() && std::prev(next)->first + std::prev(next)->second > begin;
    if (hits_next || hits_before)
      throw ops_error("handed out twice: " + std::to_string(bytes) + " bytes at " + hex_text(p) + " overlap a living range");
    ranges_[begin] = bytes;
  }
  void remove(const void* p) {
    if (ranges_.erase(reinterpret_cast<std::uintptr_t>(p)) == 0) throw ops_error("the test lost track of " + hex_text(p));
  }
  std::size_t size() const { return ranges_.size(); }

 private:
  std::map<std::uintptr_t, std::size_t> ranges_;
};

}  // namespace kmem::testing
