// The whole program runs on this malloc: it is linked in.
#include <errno.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "reclaim/reclaim.hpp"

namespace {

// Through pointers that the compiler cannot see through: it knows what malloc and free do, and would leave calls out.
void* (*volatile do_malloc)(size_t) = malloc;
void* (*volatile do_calloc)(size_t, size_t) = calloc;
void* (*volatile do_realloc)(void*, size_t) = realloc;
void* (*volatile do_reallocarray)(void*, size_t, size_t) = reallocarray;
void (*volatile do_free)(void*) = free;
void* (*volatile do_aligned_alloc)(size_t, size_t) = aligned_alloc;
void* (*volatile do_memalign)(size_t, size_t) = memalign;
int (*volatile do_posix_memalign)(void**, size_t, size_t) = posix_memalign;
void* (*volatile do_valloc)(size_t) = valloc;
void* (*volatile do_pvalloc)(size_t) = pvalloc;
size_t (*volatile do_usable)(void*) = malloc_usable_size;

kmem::machine& machine_in_use() { return *kmem::serving_machine(); }
bool is_ours(const void* p) { return machine_in_use().contains(p); }

TEST(malloc_face, serves_this_very_program) {
  EXPECT_EQ(kmem::process.state.peek(), kmem::machine_state::serving);
  const std::string text(1000, 'x');
  EXPECT_TRUE(is_ours(text.data()));
}

TEST(malloc_face, every_size_is_aligned_and_writable) {
  for (size_t size = 0; size < size_t{40} << 20; size += 1 + size / 5) {
    void* const p = do_malloc(size);
    ASSERT_NE(p, nullptr) << size;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % (size > 8 ? 16 : 8), 0u) << size;
    EXPECT_GE(do_usable(p), size);
    memset(p, 0x5a, size);
    do_free(p);
  }
}

TEST(malloc_face, zero_bytes_are_a_unique_pointer) {
  void* const a = do_malloc(0);
  void* const b = do_malloc(0);
  void* const c = do_calloc(0, 10);
  EXPECT_TRUE(a != nullptr && b != nullptr && c != nullptr);
  EXPECT_TRUE(is_ours(a));
  EXPECT_NE(a, b);
  EXPECT_NE(b, c);
  do_free(a);
  do_free(b);
  do_free(c);
}

TEST(malloc_face, impossible_sizes_are_refused_with_enomem) {
  void* const kept = do_malloc(10);
  memset(kept, 3, 10);
  const size_t most = std::numeric_limits<size_t>::max();
  const auto refused = [](void* p) { return p == nullptr && errno == ENOMEM; };
  for (const size_t size : {most, most - 4096, size_t{PTRDIFF_MAX} + 1, size_t{PTRDIFF_MAX}, size_t{1} << 46}) {
    errno = 0;
    EXPECT_TRUE(refused(do_malloc(size))) << size;
    errno = 0;
    EXPECT_TRUE(refused(do_realloc(kept, size))) << size;
    errno = 0;
    EXPECT_TRUE(refused(do_calloc(size, 1))) << size;
    errno = 0;
    EXPECT_TRUE(refused(do_aligned_alloc(64, size))) << size;
    errno = 0;
    EXPECT_TRUE(refused(do_pvalloc(size))) << size;
  }
  errno = 0;
  EXPECT_TRUE(refused(do_calloc(most / 2, 3)));
  errno = 0;
  EXPECT_TRUE(refused(do_reallocarray(kept, most / 2, 3)));
  errno = 0;
  EXPECT_TRUE(refused(do_memalign(size_t{1} << 63, 1)));
  errno = 0;
  EXPECT_EQ(do_memalign((size_t{1} << 63) + 1, 1), nullptr);  // no power of two is as large
  EXPECT_EQ(errno, EINVAL);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(static_cast<char*>(kept)[i], 3);
  do_free(kept);
}

TEST(malloc_face, free_keeps_errno) {
  errno = 1234;
  do_free(nullptr);
  do_free(do_malloc(100));
  do_free(do_malloc(10 << 20));
  EXPECT_EQ(errno, 1234);
}

TEST(malloc_face, calloc_clears_what_was_used) {
  for (const size_t size : {size_t{8}, size_t{100}, size_t{6000}, size_t{100000}, size_t{9} << 20})
    for (int round = 0; round < 5; ++round) {
      auto* const p = static_cast<unsigned char*>(do_calloc(size, 1));
      ASSERT_NE(p, nullptr);
      for (size_t i = 0; i < size; ++i) ASSERT_EQ(p[i], 0) << i << " of " << size;
      memset(p, 0xff, do_usable(p));
      do_free(p);
    }
}

TEST(malloc_face, realloc_keeps_the_contents) {
  auto* p = static_cast<unsigned char*>(do_realloc(nullptr, 5));
  size_t filled = 0;
  for (const size_t size : {size_t{5}, size_t{24}, size_t{5000}, size_t{70000}, size_t{1} << 20, size_t{20} << 20, size_t{30} << 20,
                            size_t{3} << 20, size_t{50000}, size_t{100}, size_t{1}}) {
    p = static_cast<unsigned char*>(do_realloc(p, size));
    ASSERT_NE(p, nullptr) << size;
    for (size_t i = 0; i < size && i < filled; ++i) ASSERT_EQ(p[i], static_cast<unsigned char>(i * 13)) << i << " of " << size;
    for (size_t i = 0; i < size; ++i) p[i] = static_cast<unsigned char>(i * 13);
    filled = size;
  }
  EXPECT_EQ(do_realloc(p, 0), nullptr);  // frees
  p = static_cast<unsigned char*>(do_reallocarray(nullptr, 10, 30));
  EXPECT_GE(do_usable(p), 300u);
  do_free(p);
}

TEST(malloc_face, alignments) {
  for (size_t align = 1; align <= size_t{4} << 20; align *= 2)
    for (const size_t size : {size_t{0}, size_t{1}, size_t{8}, size_t{100}, size_t{5000}, size_t{5} << 20}) {
      void* p = do_aligned_alloc(align, size);
      ASSERT_NE(p, nullptr) << align << ' ' << size;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % align, 0u) << align << ' ' << size;
      EXPECT_GE(do_usable(p), size);
      memset(p, 1, size);
      do_free(p);
      if (align < sizeof(void*)) continue;
      ASSERT_EQ(do_posix_memalign(&p, align, size), 0);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % align, 0u);
      do_free(p);
    }
  errno = 0;
  EXPECT_EQ(do_aligned_alloc(3, 10), nullptr);
  EXPECT_EQ(errno, EINVAL);
  void* p = &p;
  EXPECT_EQ(do_posix_memalign(&p, 3, 10), EINVAL);
  EXPECT_EQ(do_posix_memalign(&p, 4, 10), EINVAL);  // less than a pointer
  EXPECT_EQ(do_posix_memalign(&p, 0, 10), EINVAL);
  errno = 77;
  EXPECT_EQ(do_posix_memalign(&p, 64, size_t{1} << 50), ENOMEM);
  EXPECT_EQ(errno, 77);
  EXPECT_EQ(p, &p);
  errno = 0;
  EXPECT_EQ(do_aligned_alloc(size_t{8} << 20, 10), nullptr);  // beyond the arena's own alignment
  EXPECT_EQ(errno, ENOMEM);
  p = do_memalign(48, 10);  // rounded up
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
  do_free(p);
  p = do_valloc(10);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 4096, 0u);
  do_free(p);
  p = do_pvalloc(4097);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 4096, 0u);
  EXPECT_GE(do_usable(p), 8192u);
  do_free(p);
  p = do_pvalloc(0);
  EXPECT_GE(do_usable(p), 4096u);
  do_free(p);
}

TEST(malloc_face, freed_memory_is_given_back_on_request) {
  std::vector<void*> held;
  for (int i = 0; i < 100; ++i) {
    held.push_back(do_malloc(1 << 20));
    memset(held.back(), 1, 1 << 20);
  }
  for (void* const p : held) do_free(p);
  EXPECT_EQ(malloc_trim(0), 1);
  EXPECT_EQ(malloc_trim(std::numeric_limits<size_t>::max()), 0);
}

TEST(malloc_face, eight_threads_free_what_others_allocated) {
  constexpr int nr_threads = 8, slots = 64;
  static std::atomic<unsigned char*> exchange[slots];
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < nr_threads; ++t)
    threads.emplace_back([&, t] {
      unsigned random = static_cast<unsigned>(t) + 1;
      for (int step = 0; step < 20000; ++step) {
        random = random * 1103515245u + 12345u;
        const size_t size = 1 + (random >> 8) % (step % 100 == 0 ? 300000 : 2000);
        auto* const p = static_cast<unsigned char*>(do_malloc(size));
        if (p == nullptr) {
          ++wrong;
          continue;
        }
        p[0] = p[size - 1] = static_cast<unsigned char>(do_usable(p) >> 3);
        unsigned char* const other = exchange[(random >> 16) % slots].exchange(p);
        if (other == nullptr) continue;
        if (other[0] != static_cast<unsigned char>(do_usable(other) >> 3)) ++wrong;
        do_free(other);
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (auto& slot : exchange) do_free(slot.exchange(nullptr));
  EXPECT_EQ(wrong, 0);
}

TEST(malloc_face, a_child_of_a_threaded_program_can_allocate) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      while (!stop) do_free(do_malloc(5000));
    });
  for (int round = 0; round < 30; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      for (size_t size = 1; size < 1 << 20; size = size * 2 + 1) {
        void* const p = do_malloc(size);
        if (p == nullptr) _exit(1);
        memset(p, 1, size);
        do_free(p);
      }
      _exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0) << round;
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
