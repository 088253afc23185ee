// What a page allocator may and may not do, without any of its cleverness: the set of what is handed out, and what was written there.
//
// Everything is compared by contents: no page twice, natural alignment, the pattern of each page still there when it is freed, and the
// allocator's counts against sums over the set.
#pragma once
#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>

namespace kmem::testing {

class buddy_model {
 public:
  struct block {
    uint64_t n = 0;
    uint64_t stamp = 0;  // seed of the pattern in its pages
  };

  /// The allocator handed out pages [pfn, pfn + n) at `memory`. `align`: 0 for none.
  void allocated(uint64_t pfn, uint64_t n, uint64_t align, char* memory) {
    if (pfn == 0) throw std::logic_error("page 0 was handed out");
    if (align != 0 && pfn % align != 0) throw std::logic_error("not naturally aligned: " + name(pfn, n));
    const auto behind = blocks_.lower_bound(pfn);
    if (behind != blocks_.end() && behind->first < pfn + n) throw std::logic_error("handed out twice: " + name(pfn, n));
    if (behind != blocks_.begin() && std::prev(behind)->first + std::prev(behind)->second.n > pfn)
      throw std::logic_error("handed out twice: " + name(pfn, n));
    blocks_[pfn] = {n, ++stamps_};
    pages_ += n;
    fill(memory, 0, n, stamps_);
  }
  /// The block is about to be freed.
  void freed(uint64_t pfn, const char* memory) {
    const block b = at(pfn);
    check(memory, b);
    blocks_.erase(pfn);
    pages_ -= b.n;
  }
  /// The block has shrunk or grown in place.
  void resized(uint64_t pfn, uint64_t n, char* memory) {
    block b = at(pfn);
    const auto behind = blocks_.upper_bound(pfn);
    if (behind != blocks_.end() && behind->first < pfn + n) throw std::logic_error("grown into another block: " + name(pfn, n));
    const uint64_t kept = b.n < n ? b.n : n;
    check(memory, {kept, b.stamp});
    fill(memory, kept, n, b.stamp);
    pages_ = pages_ - b.n + n;
    blocks_[pfn].n = n;
  }
  /// The block is single pages from now on.
  void split(uint64_t pfn, char* memory) {
    const block b = at(pfn);
    check(memory, b);
    for (uint64_t i = 0; i < b.n; ++i) {
      blocks_[pfn + i] = {1, ++stamps_};
      fill(memory + i * page_bytes, 0, 1, stamps_);
    }
  }
  uint64_t pages() const { return pages_; }
  const std::map<uint64_t, block>& blocks() const { return blocks_; }
  bool is_zero(const char* memory, uint64_t n) const {
    for (uint64_t i = 0; i < n * page_bytes; i += sizeof(uint64_t)) {
      uint64_t word = 0;
      std::memcpy(&word, memory + i, sizeof word);
      if (word != 0) return false;
    }
    return true;
  }

 private:
  static constexpr uint64_t page_bytes = 4096;

  // Two words a page: more would be touching memory for its own sake.
  static uint64_t pattern(uint64_t stamp, uint64_t page, unsigned end) { return (stamp << 20 | page) * 0x9e3779b97f4a7c15u + end; }
  static std::string name(uint64_t pfn, uint64_t n) { return std::to_string(n) + " pages at " + std::to_string(pfn); }
  const block& at(uint64_t pfn) const {
    const auto found = blocks_.find(pfn);
    if (found == blocks_.end()) throw std::logic_error("nothing was handed out at " + std::to_string(pfn));
    return found->second;
  }
  static void fill(char* memory, uint64_t from, uint64_t to, uint64_t stamp) {
    for (uint64_t i = from; i < to; ++i)
      for (const unsigned end : {0u, 1u}) {
        const uint64_t word = pattern(stamp, i, end);
        std::memcpy(memory + i * page_bytes + end * (page_bytes - sizeof word), &word, sizeof word);
      }
  }
  static void check(const char* memory, const block& b) {
    for (uint64_t i = 0; i < b.n; ++i)
      for (const unsigned end : {0u, 1u}) {
        uint64_t word = 0;
        std::memcpy(&word, memory + i * page_bytes + end * (page_bytes - sizeof word), sizeof word);
        if (word != pattern(b.stamp, i, end)) throw std::logic_error("page " + std::to_string(i) + " of a block was overwritten");
      }
  }

  std::map<uint64_t, block> blocks_;  // by first pfn
  uint64_t pages_ = 0;
  uint64_t stamps_ = 0;
};

}  // namespace kmem::testing
