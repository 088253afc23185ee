// What the tasks of a scenario hold: each live range of memory, with a pattern of its owner over its whole length.
//
// Ranges are entered when the allocation has returned and taken out before the free is called, with no scheduling point in between, so two
// ranges that overlap were handed out at the same time, and a pattern that changed was written by somebody who did not own the memory.
#pragma once
#include <map>
#include <string>

#include "reclaim/reclaim.hpp"

namespace kmem::sim_test {

enum class holding_kind : uint8_t { block, run, exact, kmalloc_object, cache_object, area };

struct holding {
  holding_kind kind = holding_kind::block;
  char* begin = nullptr;
  size_t bytes = 0;             // that may be used
  page* head = nullptr;         // block, run
  unsigned order = 0;           // block
  kmem_cache* cache = nullptr;  // cache_object
  uint64_t tag = 0;             // what its pattern is made from
};

/// Writes the pattern of `tag` over the range.
void write_pattern(char* begin, size_t bytes, uint64_t tag);
/// Return: the first byte that differs from the pattern, or bytes.
size_t find_damage(const char* begin, size_t bytes, uint64_t tag);
/// Return: the first byte that is not 0, or bytes.
size_t find_nonzero(const char* begin, size_t bytes);

class shadow_map {
 public:
  /// Enters a range and writes its pattern. Fails the world if it overlaps another one. Return: its tag.
  uint64_t add(holding h);
  /// Takes a range out. Fails the world if it is not there or its contents changed.
  holding remove(const char* begin);
  /// Checks the pattern of every live range.
  void verify_all() const;
  bool empty() const { return live_.empty(); }
  size_t size() const { return live_.size(); }

 private:
  std::map<uintptr_t, holding> live_;
  uint64_t next_tag_ = 1;
};

/// Fails the world with a text put together at run time.
[[noreturn]] void fail_world(const std::string& why);
std::string hex(const void* address);

}  // namespace kmem::sim_test
