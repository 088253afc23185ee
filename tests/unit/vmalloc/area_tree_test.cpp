#include "vmalloc/area_tree.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace kmem {
namespace {

/// Depth of the tree, and a failure if it is no treap.
unsigned check(const vmap_area* area, const char* low, const char* high, uint32_t priority) {
  if (area == nullptr) return 0;
  EXPECT_TRUE(area->begin >= low && area->begin < high);
  EXPECT_LE(area->priority, priority);
  const unsigned left = check(area->left, low, area->begin, area->priority);
  const unsigned right = check(area->right, area->begin + 1, high, area->priority);
  return 1 + (left > right ? left : right);
}

char* address(uint64_t page_number) { return reinterpret_cast<char*>(page_number << page_shift); }

// The tree against a std::map: the same areas are found for every address around them.
TEST(area_tree, finds_what_a_map_finds) {
  std::mt19937_64 random(1);
  std::vector<vmap_area> storage(400);
  std::map<const char*, vmap_area*> model;
  vmap_area* root = nullptr;
  uint64_t numbers = 0;
  std::vector<vmap_area*> unused;
  for (vmap_area& area : storage) unused.push_back(&area);
  for (int step = 0; step < 20000; ++step) {
    if (!unused.empty() && (random() % 2 == 0 || model.empty())) {
      vmap_area* const area = unused.back();
      const char* const begin = address(16 * (1 + random() % 4096));
      if (model.count(begin) != 0) continue;
      unused.pop_back();
      *area = {};
      area->begin = const_cast<char*>(begin);
      area->nr_pages = 1 + random() % 15;
      area->priority = area_priority(numbers++);
      insert_area(root, *area);
      model[begin] = area;
    } else if (!model.empty()) {
      auto victim = model.lower_bound(address(16 * (random() % 4096)));
      if (victim == model.end()) victim = model.begin();
      ASSERT_EQ(remove_area(root, victim->first), victim->second);
      unused.push_back(victim->second);
      model.erase(victim);
    }
    const char* const where = address(random() % (16 * 4100));
    vmap_area* expected = nullptr;
    for (auto& [begin, area] : model)
      if (area_end(*area) > where) {
        expected = area;
        break;
      }
    ASSERT_EQ(find_area(root, where), expected);
    if (step % 500 == 0) {
      check(root, nullptr, address(~uint64_t{0} >> page_shift), ~0u);
      EXPECT_EQ(remove_area(root, address(7)), nullptr);  // not the beginning of any
    }
  }
}

// Ascending addresses, the order that mmap gives, must not make a list of it.
TEST(area_tree, stays_shallow_for_ascending_addresses) {
  std::vector<vmap_area> storage(10000);
  vmap_area* root = nullptr;
  for (uint64_t i = 0; i < storage.size(); ++i) {
    storage[i] = {};
    storage[i].begin = address(1 + 4 * i);
    storage[i].nr_pages = 2;
    storage[i].priority = area_priority(i);
    insert_area(root, storage[i]);
  }
  EXPECT_LT(check(root, nullptr, address(~uint64_t{0} >> page_shift), ~0u), 60u);
  for (vmap_area& area : storage) ASSERT_EQ(remove_area(root, area.begin), &area);
  EXPECT_EQ(root, nullptr);
}

}  // namespace
}  // namespace kmem
