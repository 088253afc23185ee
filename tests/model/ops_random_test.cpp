// Random and exhaustive sequences of operations on a whole machine; a failing one is shown with its seed and made small.
#include <gtest/gtest.h>

#include <cstdlib>

#include "model/ops_run.hpp"
#include "support/thread_sanitizer.hpp"

namespace kmem {
namespace {

using namespace testing;

#if defined(KMEM_DEBUG)
constexpr unsigned sequences = 100, exhaustive_length = 3;
#else
constexpr unsigned sequences = 300, exhaustive_length = 4;
#endif
constexpr unsigned sequences_a_child = 50;

#if defined(__SANITIZE_ADDRESS__) || KMEM_UNDER_TSAN
unsigned nr_sequences() { return sequences / 3; }  // twenty times slower, and there for what the sanitizer sees
#else
unsigned nr_sequences() { return std::getenv("KMEM_TEST_FULL") != nullptr ? sequences * 10 : sequences; }
#endif

/// Lengths differ: short ones reach the end checks often, long ones fill the machine.
op_program program_of(std::uint64_t seed) { return random_program(seed, seed % 8 == 0 ? 1200 : 20 + static_cast<unsigned>(seed % 180)); }

TEST(ops, random_sequences_break_no_rule) {
  for (std::uint64_t first = 1; first <= nr_sequences(); first += sequences_a_child) {
    const std::string verdict = run_in_child([&](shared_text& text) -> std::string {
      for (std::uint64_t seed = first; seed < first + sequences_a_child; ++seed) {
        text.set(std::to_string(seed));
        if (!run_program(program_of(seed)).empty()) return std::to_string(seed);
        alarm(program_seconds_most);
      }
      return {};
    });
    if (verdict.empty()) continue;
    const std::uint64_t seed = std::strtoull(verdict.c_str() + verdict.find_last_of(' ') + 1, nullptr, 10);
    FAIL() << "seed " << seed << " (" << verdict << "): " << explain_failure(program_of(seed));
  }
}

TEST(ops, every_short_sequence_breaks_no_rule) {
  constexpr std::uint8_t kernel = 0, atomic = 4, zero = 3;
  const operation alphabet[] = {
      {op_kind::kmalloc, kernel, 0, 8},          // 8 bytes
      {op_kind::kmalloc, zero, 0, 0x6000 + 24},  // a few pages
      {op_kind::cache_create, 1, 0x8000, 0x2100},
      {op_kind::cache_alloc, atomic, 0, 0},
      {op_kind::pages, kernel, 0, 9 * 4},
      {op_kind::vmalloc, kernel, 0, 0xc000 + 200},
      {op_kind::krealloc, kernel, 0, 0xc000 + 900},
      {op_kind::free, 0, 0, 0},
      {op_kind::wrong_free, 0, 0, 3},
      {op_kind::drain, 0, 6, 0},
      {op_kind::give_back, 0, 1, 1000},
  };
  constexpr unsigned letters = std::size(alphabet);
  unsigned total = 1;
  for (unsigned i = 0; i < exhaustive_length; ++i) total *= letters;
  const std::string verdict = run_in_child([&](shared_text& text) -> std::string {
    ops_machine machine("mem=4M cpus=1");
    for (unsigned sequence = 0; sequence < total; ++sequence) {
      text.set("in sequence " + std::to_string(sequence));
      if (sequence % 1000 == 0) alarm(program_seconds_most);
      try {
        for (unsigned i = 0, rest = sequence; i < exhaustive_length; ++i, rest /= letters) machine.step(alphabet[rest % letters]);
        machine.finish();
      } catch (const std::exception& e) {
        std::string words = "sequence " + std::to_string(sequence) + ": " + e.what();
        for (unsigned i = 0, rest = sequence; i < exhaustive_length; ++i, rest /= letters)
          words += "\n  " + to_text(alphabet[rest % letters]);
        return words;
      }
    }
    return {};
  });
  EXPECT_EQ(verdict, "");
}

TEST(ops, bytes_and_programs_are_the_same) {
  const op_program program = random_program(7, 50);
  const std::vector<std::uint8_t> bytes = encode(program);
  EXPECT_EQ(encode(decode(bytes.data(), bytes.size())), bytes);
  EXPECT_EQ(to_text(decode(bytes.data(), bytes.size())), to_text(program));
}

TEST(ops, a_failing_program_is_made_small) {
  // "Fails" with a free behind a burst, whatever is between.
  const auto fails = [](const op_program& program) {
    bool burst = false, both = false;
    for (const operation& op : program.operations) {
      both |= burst && op.kind == op_kind::free;
      burst |= op.kind == op_kind::burst;
    }
    return both;
  };
  const op_program program = random_program(11, 300);
  ASSERT_TRUE(fails(program));
  const op_program small = shrink_program(program, fails);
  ASSERT_EQ(small.operations.size(), 2u);
  EXPECT_EQ(small.operations[0].kind, op_kind::burst);
  EXPECT_EQ(small.operations[1].kind, op_kind::free);
}

TEST(ops, the_model_notices_what_it_is_for) {
  range_map ranges;
  char memory[64] = {};
  ranges.add(memory, 32);
  EXPECT_THROW(ranges.add(memory + 31, 4), ops_error);
  EXPECT_THROW(ranges.add(memory, 1), ops_error);
  EXPECT_NO_THROW(ranges.add(memory + 32, 4));
  fill_pattern(memory, 61, 5);
  EXPECT_NO_THROW(check_pattern(memory, 61, 61, 5, "untouched"));
  EXPECT_THROW(check_pattern(memory, 61, 61, 6, "of another"), ops_error);
  for (const std::size_t at : {0u, 8u, 60u}) {
    memory[at] = static_cast<char>(memory[at] + 1);
    EXPECT_THROW(check_pattern(memory, 61, 61, 5, "written to"), ops_error) << at;
    memory[at] = static_cast<char>(memory[at] - 1);
  }
  EXPECT_THROW(check_zero(memory, 0, 64, "not zero"), ops_error);
}

TEST(ops, a_crash_and_a_failure_of_a_child_are_verdicts) {
  EXPECT_EQ(run_in_child([](shared_text&) { return std::string(); }), "");
  EXPECT_EQ(run_in_child([](shared_text&) { return std::string("wrong"); }), "wrong");
  const std::string crash = run_in_child([](shared_text& text) -> std::string {
    text.set("42");
    signal(SIGABRT, SIG_DFL);
    std::abort();
  });
  EXPECT_EQ(crash, "ended by signal 6 42");
}

}  // namespace
}  // namespace kmem
