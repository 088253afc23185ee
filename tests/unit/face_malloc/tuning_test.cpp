// The figures that a program may ask for, what it may set, and the frees that name sizes.
#include <errno.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <climits>
#include <cstring>
#include <regex>
#include <string>
#include <vector>

#include "reclaim/reclaim.hpp"

extern "C" {
void free_sized(void* p, size_t size) noexcept;
void free_aligned_sized(void* p, size_t align, size_t size) noexcept;
void cfree(void* p) noexcept;
}

namespace {

void* (*volatile do_malloc)(size_t) = malloc;
void* (*volatile do_aligned_alloc)(size_t, size_t) = aligned_alloc;
void (*volatile do_free)(void*) = free;

constexpr size_t block = 1000, nr_blocks = 20000;

std::vector<void*> take_blocks() {
  std::vector<void*> held(nr_blocks);
  for (void*& p : held) {
    p = do_malloc(block);
    EXPECT_NE(p, nullptr);
  }
  return held;
}

std::string info_text() {
  char* text = nullptr;
  size_t length = 0;
  FILE* const stream = open_memstream(&text, &length);
  EXPECT_EQ(malloc_info(0, stream), 0);
  fclose(stream);
  const std::string result(text, length);
  do_free(text);
  return result;
}

/// The figure `name` of the last element that `element` matches, which is the one for the whole heap.
size_t figure(const std::string& text, const std::string& element, const std::string& name) {
  const std::regex pattern("<" + element + "[^>]* " + name + "=\"([0-9]+)\"");
  size_t result = SIZE_MAX;
  for (std::sregex_iterator i(text.begin(), text.end(), pattern), end; i != end; ++i) result = std::stoull((*i)[1]);
  EXPECT_NE(result, SIZE_MAX) << element << ' ' << name << " in " << text;
  return result;
}

TEST(malloc_tuning, mallopt_agrees_only_to_what_is_so) {
  EXPECT_EQ(mallopt(M_MMAP_MAX, 0), 1);
  EXPECT_EQ(mallopt(M_ARENA_MAX, 1), 1);
  EXPECT_EQ(mallopt(M_PERTURB, 0), 1);
  EXPECT_EQ(mallopt(M_MMAP_MAX, 1), 0);
  EXPECT_EQ(mallopt(M_ARENA_MAX, 8), 0);
  EXPECT_EQ(mallopt(M_PERTURB, 0x5a), 0);
  for (const int action : {0, 1, 3}) EXPECT_EQ(mallopt(M_CHECK_ACTION, action), 0) << "a second free is not always found";
  for (const int parameter : {M_MXFAST, M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_TEST, 0, 12345})
    for (const int value : {0, 1, 65536}) EXPECT_EQ(mallopt(parameter, value), 0) << parameter;
}

TEST(malloc_tuning, mallinfo2_follows_what_is_handed_out) {
  const struct mallinfo2 before = mallinfo2();
  std::vector<void*> held = take_blocks();
  const struct mallinfo2 full = mallinfo2();
  EXPECT_GE(full.uordblks, before.uordblks + nr_blocks * block);
  EXPECT_LE(full.uordblks, before.uordblks + nr_blocks * block * 5 / 4);
  EXPECT_GE(full.arena, full.uordblks);
  EXPECT_LE(full.arena, kmem::bytes(kmem::process.object.limit));
  EXPECT_EQ(full.uordblks + full.fordblks, full.arena);
  EXPECT_EQ(full.hblks + full.hblkhd + full.usmblks, 0u);
  for (size_t i = 0; i < nr_blocks; ++i)
    if (i % 16 != 0) do_free(held[i]);
  const struct mallinfo2 sparse = mallinfo2();
  EXPECT_LE(sparse.uordblks, full.uordblks - nr_blocks * block * 7 / 8);
  EXPECT_GE(sparse.fordblks, full.fordblks + nr_blocks * block * 7 / 8);
  // Most slabs have come free and are pages again, of four blocks each.
  EXPECT_GE(sparse.ordblks + sparse.smblks, full.ordblks + full.smblks + nr_blocks * 7 / 8 / 4);
  for (size_t i = 0; i < nr_blocks; i += 16) do_free(held[i]);
  const struct mallinfo2 after = mallinfo2();
  EXPECT_LE(after.uordblks, before.uordblks + nr_blocks * block / 10);
  EXPECT_GT(after.keepcost, 0u);
  const size_t releasable = after.keepcost;
  EXPECT_EQ(malloc_trim(0), 1);
  EXPECT_LE(mallinfo2().arena, after.arena - releasable * 9 / 10);
}

TEST(malloc_tuning, trimming_keeps_what_is_to_stay_and_finds_what_caches_hold) {
  const size_t keep = size_t{8} << 20, page_block = size_t{2} << 20;  // what is given back at once
  for (void* const p : take_blocks()) do_free(p);
  const size_t before = mallinfo2().arena;
  EXPECT_EQ(malloc_trim(keep), 1);
  const struct mallinfo2 trimmed = mallinfo2();
  EXPECT_GT(trimmed.keepcost, keep - page_block);
  EXPECT_LE(trimmed.keepcost, keep);
  EXPECT_LT(trimmed.arena, before - page_block);
  EXPECT_EQ(malloc_trim(keep), 0) << "there is no more than that";
  // A few free blocks, which are in arrays and barns only.
  malloc_trim(0);
  std::vector<void*> few;
  for (int i = 0; i < 20; ++i) few.push_back(do_malloc(32768));
  for (void* const p : few) do_free(p);
  EXPECT_EQ(malloc_trim(0), 1);
}

TEST(malloc_tuning, mallinfo2_counts_large_blocks_by_their_pages) {
  const size_t size = size_t{9} << 20;
  const struct mallinfo2 before = mallinfo2();
  void* const p = do_malloc(size);
  EXPECT_GE(mallinfo2().uordblks, before.uordblks + size);
  do_free(p);
  EXPECT_LE(mallinfo2().uordblks, before.uordblks + (size_t{1} << 20));
}

TEST(malloc_tuning, mallinfo_is_the_same_in_ints) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  const struct mallinfo narrow = mallinfo();
#pragma GCC diagnostic pop
  const struct mallinfo2 wide = mallinfo2();
  ASSERT_LT(wide.arena, size_t{INT_MAX});
  EXPECT_EQ(static_cast<size_t>(narrow.arena), wide.arena);
  EXPECT_EQ(static_cast<size_t>(narrow.uordblks), wide.uordblks);
  EXPECT_EQ(static_cast<size_t>(narrow.fordblks), wide.fordblks);
  EXPECT_EQ(static_cast<size_t>(narrow.ordblks), wide.ordblks);
  EXPECT_EQ(static_cast<size_t>(narrow.smblks), wide.smblks);
  EXPECT_EQ(static_cast<size_t>(narrow.fsmblks), wide.fsmblks);
  EXPECT_EQ(static_cast<size_t>(narrow.keepcost), wide.keepcost);
}

TEST(malloc_tuning, malloc_info_is_xml_with_figures_that_add_up) {
  std::vector<void*> held = take_blocks();
  for (size_t i = 0; i < nr_blocks; i += 2) do_free(held[i]);
  const std::string text = info_text();
  for (size_t i = 1; i < nr_blocks; i += 2) do_free(held[i]);
  EXPECT_EQ(text.find("<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n"), 0u);
  EXPECT_NE(text.find("</sizes>\n<total type=\"fast\""), std::string::npos);
  EXPECT_EQ(text.rfind("</malloc>\n"), text.size() - 10);
  size_t objects = 0, in_bytes = 0, of_block = 0, last = 0;
  const std::regex row("<size from=\"([0-9]+)\" to=\"([0-9]+)\" total=\"([0-9]+)\" count=\"([0-9]+)\"/>");
  for (std::sregex_iterator i(text.begin(), text.end(), row), end; i != end; ++i) {
    const size_t from = std::stoull((*i)[1]), to = std::stoull((*i)[2]), total = std::stoull((*i)[3]), count = std::stoull((*i)[4]);
    EXPECT_GT(from, last);
    EXPECT_EQ(total, count * to);
    if (from <= block && block <= to) of_block = count;
    last = to;
    objects += count;
    in_bytes += total;
  }
  EXPECT_GE(of_block, nr_blocks / 2);
  const size_t fast = figure(text, "total type=\"fast\"", "size"), rest = figure(text, "total type=\"rest\"", "size");
  const size_t counts = figure(text, "total type=\"fast\"", "count") + figure(text, "total type=\"rest\"", "count");
  // Besides objects there are free pages, each counted as one.
  EXPECT_EQ(fast + rest - in_bytes, (counts - objects) * 4096);
  EXPECT_EQ(figure(text, "total type=\"mmap\"", "size"), 0u);
  const size_t system = figure(text, "system type=\"current\"", "size");
  EXPECT_GE(system, fast + rest);
  EXPECT_GE(figure(text, "system type=\"max\"", "size"), system);
  EXPECT_GE(figure(text, "aspace type=\"mprotect\"", "size"), fast + rest);
  EXPECT_GE(figure(text, "aspace type=\"total\"", "size"), figure(text, "aspace type=\"mprotect\"", "size"));
}

TEST(malloc_tuning, malloc_info_knows_no_options) {
  char* text = nullptr;
  size_t length = 0;
  FILE* const stream = open_memstream(&text, &length);
  EXPECT_EQ(malloc_info(1, stream), EINVAL);
  fclose(stream);
  EXPECT_EQ(length, 0u);
  do_free(text);
}

TEST(malloc_tuning, malloc_stats_go_to_stderr) {
  testing::internal::CaptureStderr();
  malloc_stats();
  const std::string text = testing::internal::GetCapturedStderr();
  std::smatch match;
  const std::regex arena("^Arena 0:\nsystem bytes     = +([0-9]+)\nin use bytes     = +([0-9]+)\n");
  ASSERT_TRUE(std::regex_search(text, match, arena)) << text;
  EXPECT_GT(std::stoull(match[2]), 0u);
  EXPECT_GE(std::stoull(match[1]), std::stoull(match[2]));
  ASSERT_TRUE(std::regex_search(text, match, std::regex("\nbudget bytes     = +([0-9]+)\n"))) << text;
  EXPECT_EQ(std::stoull(match[1]), kmem::bytes(kmem::process.object.limit));
}

TEST(malloc_tuning, what_is_freed_goes_back_to_the_system) {
  constexpr size_t total = size_t{512} << 20;  // not touched, but committed as if it were
  std::vector<void*> held(10000);
  for (void*& p : held) p = do_malloc(total / held.size());
  const size_t full = mallinfo2().arena;
  for (void* p : held) free(p);
  EXPECT_LT(mallinfo2().arena, full - total * 3 / 4);
}

TEST(malloc_tuning, sized_frees_free) {
  errno = 1234;
  free_sized(nullptr, 0);
  free_aligned_sized(nullptr, 64, 0);
  cfree(nullptr);
  const struct mallinfo2 before = mallinfo2();
  const size_t size = size_t{2} << 20;
  for (int i = 0; i < 3; ++i) {  // of 2 MiB each: one that stays shows
    free_sized(do_malloc(size), size);
    free_aligned_sized(do_aligned_alloc(4096, size), 4096, size);
    cfree(do_malloc(size));
  }
  EXPECT_LT(mallinfo2().uordblks, before.uordblks + size);
  EXPECT_EQ(errno, 1234);
}

}  // namespace
