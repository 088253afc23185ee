#include "sim/scenario_shadow.hpp"

#include <cstring>
#include <sstream>

#include "plat/sim/simulation.hpp"

namespace kmem::sim_test {
namespace {

constexpr uint64_t word_at(uint64_t tag, size_t index) { return (tag * 0x9e3779b97f4a7c15u) ^ (index * 0xd6e8feb86659fd93u + 1); }

void check(const holding& h) {
  const size_t at = find_damage(h.begin, h.bytes, h.tag);
  if (at == h.bytes) return;
  std::ostringstream text;
  text << "contents of " << hex(h.begin) << " + " << h.bytes << " (kind " << static_cast<int>(h.kind) << ") changed at byte " << at;
  fail_world(text.str());
}

}  // namespace

void write_pattern(char* begin, size_t bytes, uint64_t tag) {
  size_t i = 0;
  for (; (i + 1) * 8 <= bytes; ++i) {
    const uint64_t word = word_at(tag, i);
    std::memcpy(begin + i * 8, &word, 8);
  }
  const uint64_t word = word_at(tag, i);
  std::memcpy(begin + i * 8, &word, bytes - i * 8);
}

size_t find_damage(const char* begin, size_t bytes, uint64_t tag) {
  size_t i = 0;
  for (; (i + 1) * 8 <= bytes; ++i) {
    uint64_t word = 0;
    std::memcpy(&word, begin + i * 8, 8);
    if (word != word_at(tag, i)) return i * 8;
  }
  const uint64_t word = word_at(tag, i);
  return std::memcmp(begin + i * 8, &word, bytes - i * 8) != 0 ? i * 8 : bytes;
}

size_t find_nonzero(const char* begin, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i)
    if (begin[i] != 0) return i;
  return bytes;
}

uint64_t shadow_map::add(holding h) {
  const auto at = reinterpret_cast<uintptr_t>(h.begin);
  const auto after = live_.lower_bound(at);
  if (after != live_.end() && after->first < at + h.bytes)
    fail_world(hex(h.begin) + " + " + std::to_string(h.bytes) + " was handed out, but " + hex(after->second.begin) + " is still in use");
  if (after != live_.begin()) {
    const holding& before = std::prev(after)->second;
    if (before.begin + before.bytes > h.begin)
      fail_world(hex(h.begin) + " was handed out, but lies in " + hex(before.begin) + " + " + std::to_string(before.bytes) +
                 ", still in use");
  }
  h.tag = next_tag_++;
  write_pattern(h.begin, h.bytes, h.tag);
  live_.emplace(at, h);
  return h.tag;
}

holding shadow_map::remove(const char* begin) {
  const auto found = live_.find(reinterpret_cast<uintptr_t>(begin));
  if (found == live_.end()) fail_world("the scenario frees " + hex(begin) + ", which it does not hold");
  const holding h = found->second;
  check(h);
  live_.erase(found);
  return h;
}

void shadow_map::verify_all() const {
  for (const auto& [begin, h] : live_) check(h);
}

void fail_world(const std::string& why) { simulation::fail(why.c_str()); }

std::string hex(const void* address) {
  std::ostringstream text;
  text << address;
  return text.str();
}

}  // namespace kmem::sim_test
