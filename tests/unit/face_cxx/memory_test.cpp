#include <list>
#include <map>
#include <memory_resource>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include <kmem/memory.hpp>
#include <kmem/pmr.hpp>

#include "api_fixture.hpp"

namespace kmem {
namespace {

class memory_api : public test::api_test {};

struct counted {
  static inline int alive = 0, throw_at = -1;
  int value;
  explicit counted(int v = 7) : value(v) {
    if (alive == throw_at) throw std::runtime_error("as asked");
    ++alive;
  }
  ~counted() { --alive; }
};

TEST_F(memory_api, make_constructs_and_the_pointer_destroys) {
  {
    const unique_ptr<counted> one = make<counted>(gfp::kernel, 3);
    ASSERT_TRUE(one);
    EXPECT_EQ(one->value, 3);
    EXPECT_EQ(counted::alive, 1);
    const unique_ptr<counted[]> many = make<counted[]>(gfp::kernel, 100);
    ASSERT_TRUE(many);
    EXPECT_EQ(many[99].value, 7);
    EXPECT_EQ(counted::alive, 101);
    const unique_ptr<int[]> numbers = make<int[]>(gfp::kernel, 1000);
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(numbers[static_cast<size_t>(i)], 0);
    const unique_ptr<counted[]> none = make<counted[]>(gfp::kernel, 0);
    EXPECT_TRUE(none);
  }
  EXPECT_EQ(counted::alive, 0);
}

TEST_F(memory_api, failure_is_a_null_pointer) {
  EXPECT_FALSE(make<char[]>(gfp::kernel | gfp::nowarn, size_t{1} << 30));
  EXPECT_FALSE(make<long[]>(gfp::kernel, ~size_t{0} / 4));
  struct huge {
    char bytes[size_t{100} << 20];
  };
  EXPECT_FALSE(make<huge>(gfp::kernel | gfp::nowarn));
}

TEST_F(memory_api, a_constructor_that_throws_loses_nothing) {
  const uint64_t before = remaining_bytes();
  for (int round = 0; round < 2000; ++round) {
    counted::throw_at = 0;
    EXPECT_THROW((void)make<counted>(gfp::kernel, 1), std::runtime_error);
    counted::throw_at = 50;
    EXPECT_THROW((void)make<counted[]>(gfp::kernel, 5000), std::runtime_error);
    EXPECT_EQ(counted::alive, 0);
  }
  counted::throw_at = -1;
  EXPECT_GE(remaining_bytes() + (1 << 20), before);
}

struct alignas(64) line {
  char bytes[64];
};
struct alignas(4096) whole_page {
  char bytes[4096];
};

TEST_F(memory_api, over_aligned_types) {
  for (int i = 0; i < 20; ++i) {
    const auto a = make<line>(gfp::kernel);
    const auto b = make<whole_page>(gfp::kernel);
    const auto c = make<line[]>(gfp::kernel, 3);
    ASSERT_TRUE(a && b && c);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(a.get()) % 64, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b.get()) % 4096, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(c.get()) % 64, 0u);
  }
  std::vector<whole_page, allocator<whole_page>> pages(2000);  // 8 MiB: vmalloc
  EXPECT_EQ(reinterpret_cast<uintptr_t>(pages.data()) % 4096, 0u);
  std::pmr::polymorphic_allocator<> bytes;
  resource memory;
  for (const size_t align : {1u, 2u, 8u, 16u, 32u, 256u, 4096u})
    for (const size_t size : {1u, 8u, 100u}) {
      void* const p = memory.allocate(size, align);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % align, 0u) << size << ' ' << align;
      memory.deallocate(p, size, align);
    }
}

struct animal {
  virtual ~animal() = default;
  int legs = 4;
};
struct named {
  virtual ~named() = default;
  std::string name = "x";
};
struct dog final : named, animal {};

TEST_F(memory_api, a_base_pointer_frees_the_whole_object) {
  unique_ptr<animal> pet = make<dog>(gfp::kernel);  // the base is not at the start of the object
  ASSERT_TRUE(pet);
  EXPECT_EQ(pet->legs, 4);
  pet.reset();
  EXPECT_EQ(take_messages(), "");
}

TEST_F(memory_api, standard_containers) {
  std::vector<int, allocator<int>> numbers;
  for (int i = 0; i < 300000; ++i) numbers.push_back(i);
  EXPECT_EQ(numbers[299999], 299999);
  std::map<int, int, std::less<>, allocator<std::pair<const int, int>, gfp::kernel>> map;
  for (int i = 0; i < 1000; ++i) map[i] = i * i;
  EXPECT_EQ(map[999], 999 * 999);
  std::list<int, allocator<int, gfp::atomic>> list(100, 5);
  EXPECT_EQ(list.back(), 5);
  EXPECT_TRUE(allocator<int>() == allocator<long>());
  using greedy = std::vector<char, allocator<char, gfp::kernel | gfp::nowarn>>;
  EXPECT_THROW(greedy(size_t{1} << 30), std::bad_alloc);
  allocator<long> longs;
  EXPECT_THROW((void)longs.allocate(~size_t{0} / 4), std::bad_alloc);
}

TEST_F(memory_api, memory_resource_tells_what_remains) {
  resource memory(gfp::kernel | gfp::nowarn), other;
  EXPECT_TRUE(memory == other);
  EXPECT_FALSE(memory == *std::pmr::new_delete_resource());
  EXPECT_EQ(memory.mask(), gfp::kernel | gfp::nowarn);
  const uint64_t before = memory.remaining();
  EXPECT_GT(before, uint64_t{20} << 20);
  {
    std::pmr::vector<char> bytes(size_t{6} << 20, &memory);
    EXPECT_LE(memory.remaining() + (uint64_t{6} << 20), before + (1 << 20));  // give or take what caches keep
    EXPECT_THROW((void)memory.allocate(size_t{1} << 30), std::bad_alloc);
  }
  EXPECT_GE(memory.remaining() + (1 << 20), before);
}

}  // namespace
}  // namespace kmem
