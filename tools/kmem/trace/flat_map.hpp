#pragma once

// A hash map from 64-bit numbers (object addresses, page frame numbers) to 32-bit numbers: open addressing, linear
// probing, deletion without tombstones. A trace of a million events makes some ten million look-ups; this takes a
// third of the time of std::unordered_map.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kmem::tool::trace {

class flat_map {
 public:
  static constexpr std::uint32_t absent = 0xffffffff;  // not a value that can be stored

  flat_map() : slots_(64) {}

  std::size_t size() const { return used_; }

  std::uint32_t find(std::uint64_t key) const {
    for (std::size_t at = home(key);; at = next(at)) {
      if (slots_[at].value == absent) return absent;
      if (slots_[at].key == key) return slots_[at].value;
    }
  }

  // Inserts or replaces.
  void set(std::uint64_t key, std::uint32_t value) {
    if ((used_ + 1) * 2 > slots_.size()) grow();
    std::size_t at = home(key);
    while (slots_[at].value != absent && slots_[at].key != key) at = next(at);
    if (slots_[at].value == absent) used_++;
    slots_[at] = {key, value};
  }

  // Removes the key and tells its value, `absent` when it was not there.
  std::uint32_t take(std::uint64_t key) {
    std::size_t hole = home(key);
    while (slots_[hole].value != absent && slots_[hole].key != key) hole = next(hole);
    const std::uint32_t value = slots_[hole].value;
    if (value == absent) return absent;
    used_--;
    for (std::size_t at = next(hole); slots_[at].value != absent; at = next(at)) {
      // An entry may move into the hole unless its home lies cyclically in (hole, at].
      const std::size_t mask = slots_.size() - 1;
      if (((at - home(slots_[at].key)) & mask) >= ((at - hole) & mask)) {
        slots_[hole] = slots_[at];
        hole = at;
      }
    }
    slots_[hole].value = absent;
    return value;
  }

  template <typename Visit>
  void for_each(Visit visit) const {
    for (const slot& each : slots_) {
      if (each.value != absent) visit(each.key, each.value);
    }
  }

 private:
  struct slot {
    std::uint64_t key = 0;
    std::uint32_t value = absent;
  };

  // Multiplication by 2^64 divided by the golden ratio spreads addresses, whose low bits are mostly alike.
  std::size_t home(std::uint64_t key) const { return static_cast<std::size_t>((key * 0x9e3779b97f4a7c15u) >> 32) & (slots_.size() - 1); }
  std::size_t next(std::size_t at) const { return (at + 1) & (slots_.size() - 1); }

  void grow() {
    std::vector<slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const slot& each : old) {
      if (each.value == absent) continue;
      std::size_t at = home(each.key);
      while (slots_[at].value != absent) at = next(at);
      slots_[at] = each;
    }
  }

  std::vector<slot> slots_;  // a power of two of them, at most half in use
  std::size_t used_ = 0;
};

}  // namespace kmem::tool::trace
