// krealloc: contents, in place or moved, NULL and zero, failure leaves the old object.
#include "kmalloc_fixture.hpp"

namespace kmem::testing {
namespace {

void fill(void* p, size_t n) {
  for (size_t i = 0; i < n; ++i) static_cast<unsigned char*>(p)[i] = static_cast<unsigned char>(i * 31 + 7);
}
bool holds(const void* p, size_t n) {
  for (size_t i = 0; i < n; ++i)
    if (static_cast<const unsigned char*>(p)[i] != static_cast<unsigned char>(i * 31 + 7)) return false;
  return true;
}

TEST(krealloc, null_and_zero_behave_as_in_the_kernel) {
  kmalloc_machine m;
  void* p = krealloc(*m, nullptr, 10, gfp::kernel);
  EXPECT_EQ(ksize(*m, p), 16u);
  EXPECT_EQ(krealloc(*m, p, 16, gfp::kernel), p);
  EXPECT_EQ(krealloc(*m, p, 0, gfp::kernel), zero_size_ptr);
  p = krealloc(*m, zero_size_ptr, 8, gfp::kernel);
  EXPECT_EQ(ksize(*m, p), 8u);
  kfree(*m, p);
  EXPECT_EQ(krealloc(*m, nullptr, 0, gfp::kernel), zero_size_ptr);
}

TEST(krealloc, contents_survive_every_kind_of_step) {
  kmalloc_machine m;
  const size_t sizes[] = {1, 16, 100, 128, 1000, 4096, 20000, 32768, 40000, 100000, 90000, 300000, 50000, 33000, 32000, 5000, 200, 3};
  void* p = kmalloc(*m, sizes[0], gfp::kernel);
  fill(p, sizes[0]);
  size_t old = sizes[0];
  for (const size_t size : sizes) {
    p = krealloc(*m, p, size, gfp::kernel);
    ASSERT_NE(p, nullptr);
    ASSERT_TRUE(holds(p, std::min(old, size))) << old << " to " << size;
    ASSERT_GE(ksize(*m, p), size);
    fill(p, size);
    old = size;
    m.check();
  }
  kfree(*m, p);
}

TEST(krealloc, stays_in_place_unless_more_than_half_is_wasted) {
  kmalloc_machine m;
  void* const p = kmalloc(*m, 1000, gfp::kernel);  // class 1024 - its last sizes
  const size_t usable = ksize(*m, p);
  EXPECT_EQ(krealloc(*m, p, usable, gfp::kernel), p);
  EXPECT_EQ(krealloc(*m, p, usable / 2, gfp::kernel), p);
  void* const smaller = krealloc(*m, p, usable / 2 - 1, gfp::kernel);
  EXPECT_NE(smaller, p);
  EXPECT_LT(ksize(*m, smaller), usable);
  kfree(*m, smaller);
}

TEST(krealloc, a_run_grows_into_free_pages_behind_it_and_gives_its_end_back) {
  kmalloc_machine m;
  void* const p = kmalloc(*m, 40000, gfp::kernel);
  fill(p, 40000);
  const uint64_t before = charged_pages(*m);
  void* const shrunk = krealloc(*m, p, 36000, gfp::kernel);
  EXPECT_EQ(shrunk, p);
  void* const q = krealloc(*m, shrunk, 200000, gfp::kernel);
  EXPECT_TRUE(holds(q, 36000));
  EXPECT_EQ(charged_pages(*m) - before + 10, pages_for(200000).raw());
  void* const back = krealloc(*m, q, 34000, gfp::kernel);
  EXPECT_EQ(back, q);
  EXPECT_EQ(ksize(*m, back), 9 * page_size);
  EXPECT_TRUE(holds(back, 34000));
  kfree(*m, back);
}

TEST(krealloc, what_outgrew_its_place_grows_in_the_next_one) {
  machine_config config;
  config.mem = uint64_t{256} << 20;
  kmalloc_machine m(config);
  constexpr size_t step = 256 << 10, most = 40 << 20;
  void* p = kmalloc_huge(*m, step, 1, gfp::kernel);
  fill(p, step);
  std::vector<void*> others;
  unsigned moves = 0;
  for (size_t size = 2 * step; size <= most; size += step) {
    for (const size_t other : {size_t{40000}, size_t{300000}}) others.push_back(kmalloc(*m, other, gfp::kernel));
    void* const q = krealloc_huge(*m, p, size, gfp::kernel | (size % (2 * step) == 0 ? gfp::zero : gfp::none));
    ASSERT_NE(q, nullptr);
    moves += q != p;
    p = q;
    auto* const bytes = static_cast<unsigned char*>(p);
    ASSERT_EQ(bytes[size - step - 1], static_cast<unsigned char>((size - step - 1) * 31 + 7));
    for (size_t i = size - step; i < size && size % (2 * step) == 0; ++i) ASSERT_EQ(bytes[i], 0);
    for (size_t i = size - step; i < size; ++i) bytes[i] = static_cast<unsigned char>(i * 31 + 7);
  }
  EXPECT_TRUE(holds(p, most));
  EXPECT_LE(moves, 7u) << "four to where it begins to have room, and two or three from there on";
  kfree(*m, p);
  for (void* const other : others) kfree(*m, other);
}

TEST(krealloc, growth_with_zero_clears_what_is_new_beyond_the_old_object) {
  kmalloc_machine m;
  auto* const dirty = static_cast<char*>(kmalloc(*m, 400000, gfp::kernel));
  std::memset(dirty, 0x66, 400000);
  kfree(*m, dirty);
  for (const size_t from : {size_t{100}, size_t{40000}}) {
    void* p = kmalloc(*m, from, gfp::kernel);
    fill(p, ksize(*m, p));
    const size_t usable = ksize(*m, p);
    p = krealloc(*m, p, 300000, gfp::kernel | gfp::zero);
    EXPECT_TRUE(holds(p, usable));
    for (size_t i = usable; i < 300000; ++i) ASSERT_EQ(static_cast<char*>(p)[i], 0) << i;
    kfree(*m, p);
  }
}

TEST(krealloc, failure_leaves_the_old_object_and_shrinking_never_fails) {
  kmalloc_machine m;
  void* const p = kmalloc(*m, 1000, gfp::kernel);
  fill(p, 1000);
  set_fail_attributes(fail_point::failslab, {.probability = 100});
  EXPECT_EQ(krealloc(*m, p, 2000, gfp::kernel), nullptr);
  EXPECT_TRUE(holds(p, 1000));
  EXPECT_EQ(krealloc(*m, p, 10, gfp::kernel), p);
  EXPECT_TRUE(holds(p, 10));
  set_fail_attributes(fail_point::failslab, {});
  EXPECT_EQ(krealloc(*m, p, size_t{1} << 40, gfp::kernel | gfp::nowarn), nullptr);
  EXPECT_TRUE(holds(p, 1000));
  kfree(*m, p);
}

TEST(krealloc, an_invalid_pointer_is_refused) {
  kmalloc_machine m;
  int local = 0;
  EXPECT_EQ(krealloc(*m, &local, 100, gfp::kernel), nullptr);
  EXPECT_EQ(m->bad_frees.load_relaxed(), 1u);
  EXPECT_NE(take_log().find("krealloc of invalid pointer"), std::string::npos);
}

}  // namespace
}  // namespace kmem::testing
