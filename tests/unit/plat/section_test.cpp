// Restartable sequences as the system runs them: against a model, with threads that the scheduler moves, with handlers in the middle, and
// with somebody who takes the arrays away.
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "plat/plat.hpp"

namespace kmem::testing {
namespace {

constexpr size_t region_bytes = size_t{1} << arch::section_region_shift;
constexpr uint32_t first_slot = 300, capacity = 64;
constexpr size_t id = 7;

/// Regions for every CPU with one array each, and two of zeroes below, twice: the second set is what nobody finds anything in.
class section : public ::testing::Test {
 protected:
  section() {
    usable_ = plat::prepare_sections();
    const size_t set = (static_cast<size_t>(plat::nr_cpus()) + 2) * region_bytes;
    bytes_ = page_size + 2 * set;
    memory_ = static_cast<char*>(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    arrays_ = memory_ + page_size + 2 * region_bytes;  // the slot in front of the first region is read
    nothing_ = arrays_ + set;
    regions_.store(arrays_);
    for (int cpu = 0; cpu < plat::nr_cpus(); ++cpu) hot(cpu) = first_slot | capacity << 16;
  }
  ~section() override { munmap(memory_, bytes_); }

  uint32_t& hot(int cpu) const { return *reinterpret_cast<uint32_t*>(region(cpu) + id * 8); }
  void** slots(int cpu) const { return reinterpret_cast<void**>(region(cpu)); }
  char* region(int cpu) const { return arrays_ + static_cast<size_t>(cpu) * region_bytes; }
  void* pop() { return arch::section_pop(plat::section_area, raw(), id); }
  bool push(void* object) { return arch::section_push(plat::section_area, raw(), id, object); }
  char* const* raw() const { return reinterpret_cast<char* const*>(&regions_); }
  /// What is in all arrays, under no lock.
  std::vector<void*> contents() const {
    std::vector<void*> all;
    for (int cpu = 0; cpu < plat::nr_cpus(); ++cpu)
      for (uint32_t i = first_slot; i < (hot(cpu) & 0xffff); ++i) all.push_back(slots(cpu)[i]);
    return all;
  }

  bool usable_;
  size_t bytes_;
  char *memory_, *arrays_, *nothing_;
  std::atomic<char*> regions_;
};

/// Keeps the thread on the CPU it is on.
class pinned {
 public:
  pinned() {
    sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    cpu_ = sched_getcpu();
    CPU_SET(cpu_, &one);
    EXPECT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  }
  ~pinned() { sched_setaffinity(0, sizeof before_, &before_); }
  int cpu() const { return cpu_; }

 private:
  cpu_set_t before_;
  int cpu_;
};

TEST_F(section, pops_and_pushes_as_a_stack_does) {
  if (!usable_) {
    EXPECT_EQ(pop(), nullptr);
    EXPECT_FALSE(push(&usable_));
    return;
  }
  const pinned here;
  std::mt19937 random(1);
  std::vector<void*> model;
  std::array<char, 1000> objects;
  for (int step = 0; step < 20'000; ++step) {
    const bool grows = random() % 2 == 0;
    if (grows) {
      void* const object = &objects[random() % objects.size()];
      const bool pushed = push(object);
      ASSERT_EQ(pushed, model.size() < capacity);
      if (pushed) model.push_back(object);
    } else {
      void* const object = pop();
      ASSERT_EQ(object, model.empty() ? nullptr : model.back());
      if (object != nullptr) model.pop_back();
    }
    ASSERT_EQ(contents(), model);
    ASSERT_EQ((hot(here.cpu()) & 0xffff) - first_slot + (hot(here.cpu()) >> 16), capacity);
  }
}

TEST_F(section, an_array_that_is_stopped_is_empty_and_full) {
  if (!usable_) return;
  const pinned here;
  ASSERT_TRUE(push(&usable_));
  const uint32_t before = hot(here.cpu());
  uint32_t word = 1;
  EXPECT_FALSE(arch::section_stop(plat::section_area, static_cast<uint32_t>(here.cpu()) + 1, &hot(here.cpu()), word)) << "another CPU";
  EXPECT_EQ(word, 1u);
  EXPECT_EQ(hot(here.cpu()), before);
  ASSERT_TRUE(arch::section_stop(plat::section_area, static_cast<uint32_t>(here.cpu()), &hot(here.cpu()), word));
  EXPECT_EQ(word, before);
  EXPECT_EQ(pop(), nullptr);
  EXPECT_FALSE(push(&usable_));
  hot(here.cpu()) = word;
  EXPECT_EQ(pop(), &usable_);
}

TEST_F(section, a_cpu_number_below_zero_selects_a_region_of_zeroes) {
  alignas(32) static thread_local uint32_t not_registered[8] = {};
  for (const uint32_t number : {~0u, ~1u}) {
    not_registered[1] = number;
    const ptrdiff_t area = reinterpret_cast<char*>(not_registered) - arch::thread_pointer();
    EXPECT_EQ(arch::section_pop(area, raw(), id), nullptr);
    EXPECT_FALSE(arch::section_push(area, raw(), id, &usable_));
  }
  for (char* p = memory_; p != arrays_; ++p) ASSERT_EQ(*p, 0);
}

// ---- threads, handlers and a holder ---------------------------------------------------------------------------------------------------

constexpr size_t nr_objects = 100;

/// Objects have one owner each while they are out. What no array has room for is spilled.
struct juggling {
  struct object {
    std::atomic<bool> out{false}, spilled{false};
  };
  std::array<object, nr_objects> objects;
  char* const* regions = nullptr;
  std::atomic<uint64_t> turns{0}, handlers{0};
  std::atomic<bool> stolen{false}, over{false};

  void put(object& one) {
    one.out = false;
    if (!arch::section_push(plat::section_area, regions, id, &one)) one.spilled = true;
  }
  object* get(size_t start) {
    auto* one = static_cast<object*>(arch::section_pop(plat::section_area, regions, id));
    for (size_t i = 0; one == nullptr && i < 3; ++i)
      if (objects[(start + i) % nr_objects].spilled.exchange(false)) one = &objects[(start + i) % nr_objects];
    if (one != nullptr && one->out.exchange(true)) stolen = true;
    return one;
  }
  void turn(size_t n) {
    object* held[5];
    for (size_t i = 0; i < 5; ++i) held[i] = get(n * 5 + i);
    for (object* const one : held)
      if (one != nullptr) put(*one);
  }
};
juggling* the_game;

TEST_F(section, threads_handlers_and_a_holder_never_share_an_object) {
  if (!usable_) return;
  juggling game;
  game.regions = raw();
  the_game = &game;
  for (juggling::object& one : game.objects) game.put(one);
  struct sigaction action = {}, before = {};
  action.sa_handler = [](int) { the_game->turn(the_game->handlers.fetch_add(1)); };
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      while (!game.over) game.turn(game.turns.fetch_add(1));
    });
  uint64_t holds = 0;
  while (game.turns < 400'000 || game.handlers < 4'000 || holds < 200) {
    for (std::thread& thread : threads) pthread_kill(thread.native_handle(), SIGUSR1);
    if (game.handlers % 8 != 0) continue;
    regions_.store(nothing_);
    ASSERT_TRUE(plat::fence_sections());
    const std::vector<void*> held = contents();
    sched_yield();
    ASSERT_EQ(contents(), held) << "a sequence went on after the fence";
    ++holds;
    regions_.store(arrays_);
  }
  game.over = true;
  for (std::thread& thread : threads) thread.join();
  ASSERT_EQ(sigaction(SIGUSR1, &before, nullptr), 0);
  EXPECT_FALSE(game.stolen);
  std::vector<int> found(nr_objects);
  for (void* const one : contents()) ++found[static_cast<size_t>(static_cast<juggling::object*>(one) - game.objects.data())];
  for (size_t i = 0; i < nr_objects; ++i) EXPECT_EQ(found[i] + (game.objects[i].spilled ? 1 : 0), 1) << "object " << i;
}

}  // namespace
}  // namespace kmem::testing
