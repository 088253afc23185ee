#pragma once

// Names that occur many times in a trace (call sites, caches, gfp strings), each stored once and known by a number.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace kmem::tool::trace {

using string_id = std::uint32_t;
inline constexpr string_id no_string = 0;  // the empty string

class string_table {
 public:
  string_table();

  string_id intern(std::string_view text);
  std::string_view view(string_id id) const { return texts_[id]; }
  std::size_t size() const { return texts_.size(); }

 private:
  void grow();

  std::deque<std::string> texts_;      // a deque: views stay valid while it grows
  std::vector<std::uint64_t> hashes_;  // by id
  std::vector<string_id> slots_;       // open addressing, no_string = empty; a power of two of them
};

}  // namespace kmem::tool::trace
