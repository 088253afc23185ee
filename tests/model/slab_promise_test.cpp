// The promise before NULL: while a free object that is large enough exists anywhere, or a page, a request is served.
#include <random>

#include "unit/kmalloc/kmalloc_fixture.hpp"

namespace kmem::testing {
namespace {

constexpr gfp_t last_effort = gfp::atomic | gfp::nowarn;

TEST(slab_promise, one_freed_object_serves_any_request_that_it_is_large_enough_for) {
  std::mt19937_64 random(7);
  kmalloc_machine m(slab_config(uint64_t{16} << 20));
  std::vector<void*> objects;
  // Full to the last object: random sizes first, then whatever still fits, from large to small.
  for (;;) {
    void* const p = kmalloc(*m, 1 + random() % 9000, last_effort);
    if (p == nullptr) break;
    objects.push_back(p);
  }
  for (unsigned number = nr_size_classes; number >= 1; --number)
    while (void* p = kmalloc(*m, size_of_class(number), last_effort)) objects.push_back(p);
  ASSERT_EQ(kmalloc(*m, 1, last_effort), nullptr);

  for (int round = 0; round < 300; ++round) {
    const size_t k = random() % objects.size();
    void* const freed = objects[k];
    const size_t usable = ksize(*m, freed);
    kfree(*m, freed);
    if (round % 3 == 1) drain_caches(*m, round % 2 == 0);
    const size_t limit = usable < size_class_max ? usable : size_class_max;
    size_t size = round % 4 == 0 ? limit : 1 + random() % limit;
    // A power of two is naturally aligned, which not every larger object is.
    if (is_power_of_two(size) && usable % size != 0) --size;
    void* const p = kmalloc(*m, size, last_effort);
    ASSERT_NE(p, nullptr) << "an object of " << usable << " bytes was free, " << size << " were asked for (round " << round << ")";
    EXPECT_GE(ksize(*m, p), size);
    objects[k] = p;
    // The rest of what was freed (its slab may have gone back whole): full again.
    for (unsigned number = nr_size_classes; number >= 1; --number)
      while (void* more = kmalloc(*m, size_of_class(number), last_effort)) objects.push_back(more);
  }
  m.check();
  for (void* p : objects) kfree(*m, p);
}

TEST(slab_promise, a_request_that_may_block_finds_them_too) {
  kmalloc_machine m(slab_config(uint64_t{16} << 20));
  std::vector<void*> objects;
  while (void* p = kmalloc(*m, 256, last_effort)) objects.push_back(p);
  for (const gfp_t gfp : {gfp::kernel, gfp::noio, gfp::nofs, gfp::kernel | gfp::noretry, gfp::nowait, gfp::kernel | gfp::retry_mayfail}) {
    ASSERT_EQ(kmalloc(*m, 200, gfp | gfp::nowarn), nullptr);
    kfree(*m, objects.back());
    void* const p = kmalloc(*m, 200, gfp);  // class 208, an object of 256
    ASSERT_NE(p, nullptr) << static_cast<uint32_t>(gfp);
    objects.back() = p;
  }
  for (void* p : objects) kfree(*m, p);
}

}  // namespace
}  // namespace kmem::testing
