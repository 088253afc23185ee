// list_lru and lru_cache: order, use, capacity, pressure, the table's growth, many threads.
#include <kmem/list_lru.hpp>
#include <kmem/lru_cache.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "unit/face_cxx/api_fixture.hpp"

#include "reclaim/reclaim.hpp"

namespace {

using kmem::gfp_t;
using kmem::lru_status;
namespace gfp = kmem::gfp;

// ---- list_lru -------------------------------------------------------------------------------------------------------------------

class list_lru : public kmem::test::api_test {};

struct entry {
  kmem::list_lru_item lru;  // first: a pointer to it is one to the entry
  int number = 0;
  bool used = false, pinned = false;
};
entry& entry_of(kmem::list_lru_item& item) { return reinterpret_cast<entry&>(item); }

TEST_F(list_lru, adds_and_deletes_once) {
  entry a;
  kmem::list_lru lru;
  EXPECT_TRUE(lru.add(a.lru));
  EXPECT_FALSE(lru.add(a.lru));
  EXPECT_EQ(lru.count(), 1u);
  EXPECT_TRUE(lru.del(a.lru));
  EXPECT_FALSE(lru.del(a.lru));
  EXPECT_EQ(lru.count(), 0u);
  EXPECT_FALSE(kmem::in_atomic());
}

struct walk_state {
  kmem::lru_batch batch;
  std::vector<int> seen;
};

/// Used ones are rotated, pinned ones skipped, the others moved off.
lru_status usual(kmem::list_lru& lru, kmem::list_lru_item& item, void* context) noexcept {
  auto& state = *static_cast<walk_state*>(context);
  entry& e = entry_of(item);
  state.seen.push_back(e.number);
  EXPECT_TRUE(kmem::in_atomic()) << "with the lock held";
  if (e.pinned) return lru_status::skip;
  if (e.used) return e.used = false, lru_status::rotate;
  lru.isolate_to(item, state.batch);
  return lru_status::removed;
}

std::vector<int> take_all(kmem::lru_batch& batch) {
  std::vector<int> numbers;
  while (kmem::list_lru_item* const item = batch.take()) numbers.push_back(entry_of(*item).number);
  return numbers;
}

TEST_F(list_lru, walks_from_the_one_used_longest_ago) {
  entry entries[6];
  kmem::list_lru lru;
  for (int i = 0; i < 6; ++i) {
    entries[i].number = i;
    lru.add(entries[i].lru);
  }
  entries[1].used = true;
  entries[2].pinned = true;
  walk_state state;
  EXPECT_EQ(lru.walk(usual, &state, 4), 2u);
  EXPECT_EQ(state.seen, (std::vector<int>{0, 1, 2, 3}));
  EXPECT_EQ(take_all(state.batch), (std::vector<int>{0, 3}));
  EXPECT_EQ(lru.count(), 4u);
  state.seen.clear();
  EXPECT_EQ(lru.walk(usual, &state, 100), 3u);
  EXPECT_EQ(state.seen, (std::vector<int>{2, 4, 5, 1})) << "the rotated one is last, the skipped one where it was";
  EXPECT_EQ(take_all(state.batch), (std::vector<int>{4, 5, 1}));
  EXPECT_TRUE(lru.add(entries[4].lru)) << "what was taken off a batch is on no list";
  EXPECT_TRUE(lru.del(entries[2].lru));
  EXPECT_TRUE(lru.del(entries[4].lru));
  EXPECT_FALSE(kmem::in_atomic());
}

// Whoever drops the lock starts from the beginning; every look counts, so a walk ends.
TEST_F(list_lru, retries_from_the_start_and_ends) {
  entry entries[4];
  kmem::list_lru lru;
  for (int i = 0; i < 4; ++i) {
    entries[i].number = i;
    lru.add(entries[i].lru);
  }
  struct state {
    entry* entries;
    unsigned looks = 0;
    bool removed = false;
  } s{entries};
  const auto isolate = [](kmem::list_lru& list, kmem::list_lru_item& item, void* context) noexcept {
    auto& me = *static_cast<state*>(context);
    ++me.looks;
    if (entry_of(item).number == 1 && !me.removed) {
      me.removed = true;
      list.isolate(item);
      list.drop_lock();
      EXPECT_FALSE(kmem::in_atomic());
      EXPECT_TRUE(list.del(me.entries[2].lru)) << "anything may happen meanwhile";
      list.take_lock();
      return lru_status::removed_retry;
    }
    if (!me.removed) return lru_status::skip;
    list.drop_lock();
    list.take_lock();
    return lru_status::retry;
  };
  EXPECT_EQ(lru.walk(isolate, &s, 20), 1u);
  EXPECT_EQ(s.looks, 20u);
  EXPECT_EQ(lru.count(), 2u);
}

TEST_F(list_lru, many_threads_and_a_walker) {
  constexpr unsigned nr_threads = 3, each = 20, rounds = 2000;
  std::vector<std::vector<entry>> entries(nr_threads, std::vector<entry>(each));
  kmem::list_lru lru;
  std::atomic<unsigned> left{nr_threads};
  std::atomic<uint64_t> put_on{0}, taken_off{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < nr_threads; ++t)
    threads.emplace_back([&, t] {
      for (unsigned round = 0; round < rounds; ++round) {
        entry& e = entries[t][round % each];
        if (lru.del(e.lru))
          ++taken_off;
        else if (lru.add(e.lru))
          ++put_on;
      }
      --left;
    });
  struct counter {
    std::atomic<uint64_t>& taken_off;
  } state{taken_off};
  while (left != 0)
    lru.walk(
        [](kmem::list_lru& list, kmem::list_lru_item& item, void* context) noexcept {
          list.isolate(item);
          ++static_cast<counter*>(context)->taken_off;
          return lru_status::removed;
        },
        &state, 3);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(put_on - taken_off, lru.count());
}

// ---- lru_cache ------------------------------------------------------------------------------------------------------------------

class lru_cache : public kmem::test::api_test {};

/// Counts the objects that there are.
struct counted {
  static inline std::atomic<int> alive{0};
  explicit counted(int n) : number(n) { ++alive; }
  counted(counted&& other) noexcept : number(other.number) { ++alive; }
  counted(const counted& other) noexcept : number(other.number) { ++alive; }
  counted& operator=(const counted&) = default;
  ~counted() { --alive; }
  int number;
};
using cache_t = kmem::lru_cache<int, counted>;

TEST_F(lru_cache, gives_what_was_put) {
  {
    cache_t cache;
    ASSERT_TRUE(cache) << cache.error();
    EXPECT_FALSE(cache.get(1));
    EXPECT_FALSE(cache.erase(1));
    for (int i = 0; i < 1000; ++i) ASSERT_TRUE(cache.put(i, counted(i * i)));
    EXPECT_EQ(cache.size(), 1000u);
    for (int i = 0; i < 1000; ++i) {
      const cache_t::handle hit = cache.get(i);
      ASSERT_TRUE(hit) << i;
      EXPECT_EQ(hit->number, i * i);
      EXPECT_EQ(hit.key(), i);
    }
    counted copy(0);
    EXPECT_TRUE(cache.get(30, copy));
    EXPECT_EQ(copy.number, 900);
    EXPECT_FALSE(cache.get(-1, copy));
    ASSERT_TRUE(cache.put(30, counted(31)));
    EXPECT_EQ((*cache.get(30)).number, 31);
    EXPECT_EQ(cache.size(), 1000u);
    EXPECT_TRUE(cache.erase(30));
    EXPECT_FALSE(cache.get(30));
    EXPECT_EQ(cache.stats().hits, 1002u);
    EXPECT_EQ(cache.stats().misses, 3u);
    EXPECT_EQ(counted::alive, 1000);
  }
  EXPECT_EQ(counted::alive, 0);
}

TEST_F(lru_cache, what_was_used_longest_ago_goes_first) {
  struct log {
    std::vector<int> gone;
  } gone;
  cache_t::options options;
  options.capacity = 3;
  options.context = &gone;
  options.evicted = [](void* context, const int& key, counted& value) noexcept {
    EXPECT_EQ(key, value.number);
    static_cast<log*>(context)->gone.push_back(key);
  };
  cache_t cache(options);
  for (const int i : {1, 2, 3}) ASSERT_TRUE(cache.put(i, counted(i)));
  EXPECT_TRUE(cache.get(1));
  ASSERT_TRUE(cache.put(4, counted(4)));
  EXPECT_EQ(gone.gone, (std::vector<int>{2}));
  EXPECT_EQ(cache.shrink(1), 1u);
  EXPECT_EQ(gone.gone, (std::vector<int>{2, 3}));
  cache.erase(1);
  ASSERT_TRUE(cache.put(4, counted(4)));
  EXPECT_EQ(gone.gone, (std::vector<int>{2, 3})) << "the hook is for what is evicted";
  EXPECT_EQ(cache.stats().dropped, 1u);
  EXPECT_EQ(cache.stats().shrunk, 1u);
  EXPECT_EQ(cache.size(), 1u);
}

TEST_F(lru_cache, what_is_in_use_stays) {
  cache_t cache;
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(cache.put(i, counted(i)));
  cache_t::handle held = cache.get(7), erased = cache.get(8), replaced = cache.get(9);
  cache.erase(8);
  ASSERT_TRUE(cache.put(9, counted(-9)));
  EXPECT_EQ(cache.shrink(1000), 98u);
  EXPECT_EQ(cache.size(), 1u);
  EXPECT_EQ(cache.shrink(1000), 0u);
  EXPECT_EQ(held->number, 7);
  EXPECT_EQ(erased->number, 8);
  EXPECT_EQ(replaced->number, 9);
  EXPECT_EQ(counted::alive, 3);
  erased = std::move(held);
  EXPECT_EQ(erased->number, 7);
  EXPECT_EQ(counted::alive, 2);
  erased.reset();
  EXPECT_EQ(counted::alive, 2) << "7 is in the cache";
  cache.clear();
  EXPECT_EQ(counted::alive, 1);
  EXPECT_EQ(cache.size(), 0u);
}

TEST_F(lru_cache, counts_its_memory_and_gives_the_table_back) {
  kmem::lru_cache<int, int>::options options;
  options.weigh = [](const int&, const int& value) noexcept { return static_cast<size_t>(value); };
  kmem::lru_cache<int, int> cache(options);
  const uint64_t empty = cache.bytes();
  ASSERT_TRUE(cache.put(1, 1000));
  const uint64_t one = cache.bytes();
  EXPECT_GE(one, empty + 1000);
  ASSERT_TRUE(cache.put(1, 3000));
  EXPECT_EQ(cache.bytes(), one + 2000);
  for (int i = 2; i < 20'000; ++i) ASSERT_TRUE(cache.put(i, 0));
  const uint64_t full = cache.bytes();
  for (int i = 2; i < 20'000; ++i) ASSERT_TRUE(cache.get(i)) << "in the old table or in the new one";
  EXPECT_GE(full, one + 20'000 * sizeof(void*));
  for (int i = 20; i < 20'000; ++i) ASSERT_TRUE(cache.erase(i));
  for (int round = 0; round < 3000; ++round) ASSERT_TRUE(cache.put(1, 3000));
  EXPECT_LT(cache.bytes(), one + 2000 + 20'000);
  for (int i = 1; i < 20; ++i) EXPECT_TRUE(cache.get(i)) << i;
}

enum class colour : uint8_t { red, green };

TEST_F(lru_cache, keys_of_many_kinds) {
  kmem::lru_cache<std::string, int> texts;
  ASSERT_TRUE(texts.put("one", 1));
  ASSERT_TRUE(texts.put(std::string(1000, 'x'), 2));
  EXPECT_EQ(*texts.get("one"), 1);
  EXPECT_EQ(*texts.get(std::string(1000, 'x')), 2);
  kmem::lru_cache<colour, int> colours;
  ASSERT_TRUE(colours.put(colour::green, 3));
  EXPECT_FALSE(colours.get(colour::red));
  int a = 0, b = 0;
  kmem::lru_cache<int*, int> pointers;
  ASSERT_TRUE(pointers.put(&a, 1));
  EXPECT_FALSE(pointers.get(&b));
  struct by_length {
    uint64_t operator()(const std::string_view& text) const noexcept { return text.size() % 2; }
  };
  kmem::lru_cache<std::string_view, int, by_length> views;
  ASSERT_TRUE(views.put("aa", 1));
  ASSERT_TRUE(views.put("bb", 2));
  EXPECT_EQ(*views.get("aa"), 1);
  EXPECT_EQ(*views.get("bb"), 2);
}

/// As large as a result of some work.
struct result {
  explicit result(unsigned n) noexcept { words[0] = words[511] = n; }
  result(result&& other) noexcept { words[0] = other.words[0], words[511] = other.words[511]; }
  uint64_t words[512];
};

// Four times more than the budget: nothing is refused, and what is found is right.
TEST_F(lru_cache, becomes_smaller_instead_of_refusing) {
  kmem::lru_cache<unsigned, result> cache;
  constexpr unsigned nr = 64u * 1024 * 1024 / sizeof(result) * 4;
  for (unsigned i = 0; i < nr; ++i) ASSERT_TRUE(cache.put(i, result(i))) << i;
  const kmem::lru_cache_stats stats = cache.stats();
  EXPECT_GT(stats.shrunk, nr / 2);
  EXPECT_GT(cache.size(), nr / 16) << "a share at a time, not everything";
  EXPECT_EQ(cache.size() + stats.shrunk, nr);
  for (unsigned i = 0; i < nr; ++i) {
    const auto hit = cache.get(i);
    if (hit) {
      EXPECT_EQ(hit->words[511], i);
    }
  }
  EXPECT_TRUE(cache.get(nr - 1)) << "the last one is the last one to go";
  EXPECT_EQ(take_messages(), "");
}

TEST_F(lru_cache, what_needs_file_systems_is_left_alone_without_them) {
  kmem::lru_cache<int, int>::options options;
  options.needs = gfp::fs | gfp::io;
  kmem::lru_cache<int, int> cache(options);
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(cache.put(i, i));
  run_shrinkers(*kmem::serving_machine(), gfp::nofs, 0);
  EXPECT_EQ(cache.size(), 1000u);
  run_shrinkers(*kmem::serving_machine(), gfp::kernel, 0);
  EXPECT_LT(cache.size(), 1000u);
}

TEST_F(lru_cache, serves_interrupt_handlers_with_a_mask_that_does_not_block) {
  kmem::lru_cache<int, int>::options options;
  options.gfp = gfp::atomic;
  kmem::lru_cache<int, int> cache(options);
  const uint64_t violations = kmem::context_violations();
  {
    const kmem::hardirq_guard interrupt;
    for (int i = 0; i < 200; ++i) EXPECT_TRUE(cache.put(i, i));
    EXPECT_EQ(*cache.get(199), 199);
    EXPECT_TRUE(cache.erase(5));
  }
  EXPECT_EQ(kmem::context_violations(), violations);
}

TEST_F(lru_cache, many_threads) {
  {
    cache_t::options options;
    options.capacity = 300;
    cache_t cache(options);
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 3; ++t)
      threads.emplace_back([&cache, t] {
        uint32_t x = 12345 + t;
        for (unsigned round = 0; round < 6000; ++round) {
          x = x * 1664525 + 1013904223;
          const int key = static_cast<int>(x >> 16) % 1000;
          if (const auto hit = cache.get(key)) {
            EXPECT_EQ(hit->number, key);
          } else {
            EXPECT_TRUE(cache.put(key, counted(key)));
          }
          if (round % 7 == 0) cache.erase(static_cast<int>(x >> 20) % 1000);
          if (round % 64 == 0) cache.shrink(20);
          if (round % 512 == 0) kmem::run_shrinkers(*kmem::serving_machine(), gfp::kernel, 3);
        }
      });
    for (std::thread& thread : threads) thread.join();
    EXPECT_LE(cache.size(), 300u);
    EXPECT_EQ(static_cast<uint64_t>(counted::alive.load()), cache.size());
  }
  EXPECT_EQ(counted::alive, 0);
}

// ---- forks ----------------------------------------------------------------------------------------------------------------------

/// A key that can be made to stay in its comparison, which runs with the cache's lock held.
struct slow_key {
  int number = 0;
  static inline std::atomic<int> inside{0};
  static inline std::atomic<bool> stays{false};
  bool operator==(const slow_key& other) const {
    if (stays.load()) inside = 1;
    while (stays.load()) std::this_thread::yield();
    return number == other.number;
  }
};
struct slow_hash {
  uint64_t operator()(const slow_key&) const noexcept { return 7; }  // so that keys are compared
};

TEST_F(lru_cache, reclaim_waits_for_whoever_has_the_lock_however_long_it_takes) {
  kmem::lru_cache<slow_key, int, slow_hash> cache;
  ASSERT_TRUE(cache.put({1}, 1));
  std::vector<void*> taken;
  while (void* const p = kmem::kmalloc(4096, gfp::nowait | gfp::nowarn)) taken.push_back(p);  // for which the cache is not asked
  slow_key::inside = 0;
  slow_key::stays = true;
  std::thread holder([&cache] { EXPECT_FALSE(cache.get({2})); });  // an entry that it used could not be evicted
  while (slow_key::inside.load() == 0) std::this_thread::yield();
  std::thread asks([&taken] {
    while (void* const p = kmem::kmalloc(4096, gfp::kernel | gfp::nowarn)) taken.push_back(p);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  slow_key::stays = false;
  holder.join();
  asks.join();
  EXPECT_EQ(cache.stats().shrunk, 1u);
  for (void* const p : taken) kmem::kfree(p);
}

// The thread that holds the lock is not there in the child, so nobody may wait for it.
TEST_F(lru_cache, reclaim_in_the_child_of_a_fork_passes_by_what_another_thread_had_locked) {
  kmem::lru_cache<slow_key, int, slow_hash> cache;
  ASSERT_TRUE(cache.put({1}, 1));
  slow_key::inside = 0;
  slow_key::stays = true;
  std::thread holder([&cache] { EXPECT_TRUE(cache.get({1})); });
  while (slow_key::inside.load() == 0) std::this_thread::yield();
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // before it counts as hanging
    while (kmem::kmalloc(64 << 10, gfp::kernel | gfp::nowarn) != nullptr) continue;
    _exit(0);
  }
  slow_key::stays = false;
  holder.join();
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
}

}  // namespace
