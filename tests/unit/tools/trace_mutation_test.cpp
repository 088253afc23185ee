// Damaged traces: a few thousand deterministic mutations of good ones, plain and compressed. Nothing may crash, hang or
// break the rules that hold for every list of requests. The fuzz target trace_reader runs the same body.

#include <gtest/gtest.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz/trace_check.hpp"

namespace kmem::tool::trace {
namespace {

const std::string& sample() {
  static const std::string text = [] {
    const auto path = std::filesystem::path(KMEM_TEST_DATA) / ".." / "fuzz" / "corpus" / "trace_reader" / "sample.trace";
    std::ifstream file(path.lexically_normal());
    return std::string(std::istreambuf_iterator<char>(file), {});
  }();
  return text;
}

class generator {
 public:
  explicit generator(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  std::uint64_t below(std::uint64_t limit) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % limit;
  }

 private:
  std::uint64_t state_;
};

std::string mutate(std::string text, generator& random) {
  static const std::vector<std::string> pieces = {"=",
                                                  "|",
                                                  ":",
                                                  "-1",
                                                  "0x",
                                                  " ",
                                                  "\n",
                                                  "[",
                                                  "]",
                                                  "ptr=",
                                                  "pfn=",
                                                  "order=10",
                                                  "\xff",
                                                  std::string(1, '\0'),
                                                  "ffffffffffffffff",
                                                  "18446744073709551615",
                                                  "(null)",
                                                  "(____ptrval____)",
                                                  "name=",
                                                  "kmalloc: ",
                                                  "GFP_"};
  for (std::uint64_t count = 1 + random.below(8); count > 0; count--) {
    const std::size_t at = text.empty() ? 0 : random.below(text.size());
    switch (random.below(6)) {
      case 0:
        if (!text.empty()) text[at] = static_cast<char>(random.below(256));
        break;
      case 1:
        text.erase(at, random.below(40));
        break;
      case 2:
        text.insert(at, pieces[random.below(pieces.size())]);
        break;
      case 3:
        text.insert(at, text.substr(random.below(text.size() + 1), random.below(200)));
        break;
      case 4:
        if (!text.empty()) text[at] = static_cast<char>(text[at] ^ (1 << random.below(8)));
        break;
      default:
        text.resize(at);
        break;
    }
  }
  return text;
}

void run(const std::string& bytes) { check_any_trace({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}); }

TEST(trace_mutation, damaged_text) {
  for (std::uint64_t seed = 0; seed < 4000; seed++) {
    SCOPED_TRACE(seed);
    generator random(seed);
    run(mutate(sample(), random));
  }
}

TEST(trace_mutation, damaged_archives) {
  std::string packed(ZSTD_compressBound(sample().size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), sample().data(), sample().size(), 3));
  for (std::uint64_t seed = 0; seed < 1000; seed++) {
    SCOPED_TRACE(seed);
    generator random(seed);
    run(mutate(packed, random));
  }
}

TEST(trace_mutation, every_prefix) {
  for (std::size_t length = 0; length < sample().size(); length++) {
    SCOPED_TRACE(length);
    run(sample().substr(0, length));
  }
}

TEST(trace_mutation, the_sample_itself_is_good) {
  event_list events;
  input from;
  ASSERT_TRUE(from.open_memory("sample", {reinterpret_cast<const std::uint8_t*>(sample().data()), sample().size()}));
  EXPECT_TRUE(load_events(from, {}, events));
  EXPECT_EQ(events.events.size(), 9u);
  EXPECT_EQ(make_requests(events).counts.matched_object_frees, 1u);
}

}  // namespace
}  // namespace kmem::tool::trace
