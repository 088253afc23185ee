// kmalloc against what a live Linux 6.1 answered (tests/data/oracle-sizes.txt): as large, as aligned, never more memory, the same special
// cases.
#include <fstream>
#include <sstream>

#include "kmalloc_fixture.hpp"

namespace kmem::testing {
namespace {

/// Lines of one kind, without the kind.
std::vector<std::string> rows(const std::string& kind) {
  std::ifstream file(std::string(KMEM_TEST_DATA) + "/oracle-sizes.txt");
  std::vector<std::string> result;
  for (std::string line; std::getline(file, line);)
    if (line.rfind(kind + " ", 0) == 0) result.push_back(line.substr(kind.size() + 1));
  EXPECT_FALSE(result.empty()) << "no rows of kind " << kind;
  return result;
}

TEST(oracle, every_size_is_served_as_the_kernel_serves_it) {
  kmalloc_machine m;
  uint64_t asked = 0;
  for (const std::string& row : rows("range")) {
    std::istringstream fields(row);
    size_t first = 0, last = 0, kernel_ksize = 0, kernel_align = 0;
    std::string result;
    fields >> first >> last >> result >> kernel_ksize >> kernel_align;
    ASSERT_TRUE(fields) << row;
    for (size_t size = first; size - first <= last - first; ++size) {
      void* const p = kmalloc(*m, size, gfp::kernel | gfp::nowarn);
      ++asked;
      if (result == "ZERO_SIZE_PTR") {
        ASSERT_EQ(p, zero_size_ptr);
      } else if (result == "NULL") {
        ASSERT_EQ(p, nullptr) << size;
      } else {
        ASSERT_NE(p, nullptr) << size;
        ASSERT_GE(ksize(*m, p), size);
        ASSERT_LE(ksize(*m, p), kernel_ksize) << size;
        if (is_power_of_two(size) && size >= 8) {
          ASSERT_EQ(ksize(*m, p), kernel_ksize) << size;
          ASSERT_EQ(reinterpret_cast<uintptr_t>(p) % size, 0u) << size;
        }
      }
      kfree(*m, p);
      if (size == last) break;
    }
  }
  EXPECT_GT(asked, 9000u);
}

TEST(oracle, the_kernels_cache_names_exist_for_its_sizes) {
  kmalloc_machine m;
  for (const std::string& row : rows("cache")) {
    std::istringstream fields(row);
    std::string type, name;
    size_t size = 0;
    fields >> type >> size >> name;
    const gfp_t kind = type == "dma" ? gfp::dma : type == "rcl" ? gfp::reclaimable : gfp::none;
    void* const p = kmalloc(*m, size, gfp::kernel | kind);
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(cache_of(*m, p)->name, name);
    kfree(*m, p);
  }
}

TEST(oracle, objects_of_a_cache_lie_as_far_apart_as_in_the_kernel) {
  kmalloc_machine m;
  for (const std::string& row : rows("user")) {
    std::istringstream fields(row);
    size_t object_size = 0, size = 0;
    fields >> object_size >> size;
    kmem_cache* const cache = cache_create(*m, {.name = "user", .object_size = object_size, .flags = slab_flags_t::no_merge});
    ASSERT_NE(cache, nullptr);
    EXPECT_EQ(cache->size, size) << object_size;
    EXPECT_EQ(cache_destroy(*m, cache), err::ok);
  }
}

TEST(oracle, special_cases_answer_alike) {
  kmalloc_machine m;
  unsigned checked = 0;
  const auto is = [](const std::string& row, const char* expression) {
    return row.size() >= std::strlen(expression) && row.compare(row.size() - std::strlen(expression), std::string::npos, expression) == 0;
  };
  for (const std::string& row : rows("call")) {
    const std::string answer = row.substr(0, row.find(' '));
    std::ostringstream ours;
    if (is(row, " krealloc(NULL,10)")) {
      void* const p = krealloc(*m, nullptr, 10, gfp::kernel);
      ours << "ok=" << (p != nullptr) << ",ksize=" << ksize(*m, p);
      kfree(*m, p);
    } else if (is(row, " krealloc(p16,16) same pointer")) {
      void* const p = kmalloc(*m, 16, gfp::kernel);
      void* const q = krealloc(*m, p, 16, gfp::kernel);
      ours << (p == q);
      kfree(*m, q);
    } else if (is(row, " krealloc(p,0)")) {
      ours << std::hex << reinterpret_cast<uintptr_t>(krealloc(*m, kmalloc(*m, 16, gfp::kernel), 0, gfp::kernel));
    } else if (is(row, " kfree(NULL);kfree(ZERO_SIZE_PTR)")) {
      kfree(*m, nullptr);
      kfree(*m, zero_size_ptr);
      ours << (m->bad_frees.load_relaxed() == 0 ? "ok" : "refused") << ",ksize_zero=" << ksize(*m, zero_size_ptr)
           << ",ksize_null=" << ksize(*m, nullptr);
    } else if (is(row, " krealloc(ZERO_SIZE_PTR,8)")) {
      void* const p = krealloc(*m, zero_size_ptr, 8, gfp::kernel);
      ours << "ok=" << (p != nullptr) << ",ksize=" << ksize(*m, p);
      kfree(*m, p);
    }
    EXPECT_EQ(ours.str(), answer) << row;
    ++checked;
  }
  EXPECT_EQ(checked, 5u);
}

}  // namespace
}  // namespace kmem::testing
