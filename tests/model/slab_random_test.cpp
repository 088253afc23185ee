// Random and exhaustive sequences of operations on caches and kmalloc against slab_model; the walks run on the way.
#include <random>

#include "model/slab_model.hpp"
#include "unit/kmalloc/kmalloc_fixture.hpp"

namespace kmem::testing {
namespace {

constexpr unsigned from_kmalloc = 99;

class slab_world {
 public:
  explicit slab_world(uint64_t seed) : random_(seed) {
    for (const size_t size : {size_t{8}, size_t{24}, size_t{64}, size_t{500}, size_t{1024}, size_t{5000}})
      caches_.push_back(cache_create(*m_, {.name = "model", .object_size = size, .flags = slab_flags_t::no_merge}));
  }
  ~slab_world() {
    while (!model_.empty()) free_one(model_.nth(0));
    for (kmem_cache* c : caches_) EXPECT_EQ(cache_destroy(*m_, c), err::ok);
  }
  slab_world(const slab_world&) = delete;
  slab_world& operator=(const slab_world&) = delete;

  void step() {
    switch (random_() % 16) {
      case 0: case 1: case 2: case 3: return alloc();
      case 4: case 5: case 6: return alloc_sized();
      case 7: case 8: case 9: case 10: return free_random();
      case 11: return bulk();
      case 12: case 13: return resize();
      case 14: return burst();
      default: return rare();
    }
  }
  void check() {
    m_.check();
    EXPECT_EQ(model_.check_all(), "");
    cache_info info;
    for (unsigned i = 0, ours = 0; read_cache_info(*m_, i, info); ++i)
      if (std::string(info.name) == "model") {
        EXPECT_EQ(info.active, model_.count(ours)) << info.size;
        ++ours;
      }
    EXPECT_EQ(m_->bad_frees.load_relaxed(), 0u) << take_log();
  }

 private:
  gfp_t some_gfp() {
    constexpr gfp_t masks[] = {gfp::kernel, gfp::atomic, gfp::nowait, gfp::noio};
    return masks[random_() % 4] | gfp::nowarn;
  }
  void added(void* p, size_t size, size_t align, unsigned cache) {
    if (p == nullptr) return;
    EXPECT_EQ(model_.add(p, size, align, cache), "") << size;
  }
  void alloc() {
    const auto c = static_cast<unsigned>(random_() % caches_.size());
    added(cache_alloc(*m_, *caches_[c], some_gfp()), caches_[c]->object_size, 8, c);
  }
  void alloc_sized() {
    const size_t size = 1 + (random_() % 10 != 0 ? random_() % 3000 : random_() % 60000);
    const size_t align = random_() % 4 != 0 ? 8 : size_t{1} << (random_() % 14);
    void* const p = kmalloc_aligned(*m_, size, align, some_gfp());
    added(p, size, is_power_of_two(size) && align <= size && size >= 8 ? size : align, from_kmalloc);
    if (p != nullptr) {
      EXPECT_GE(ksize(*m_, p), size);
    }
  }
  void free_one(void* p) {
    const unsigned cache = model_.at(p).cache;
    EXPECT_EQ(model_.remove(p), "");
    if (cache == from_kmalloc)
      kfree(*m_, p);
    else
      cache_free(*m_, *caches_[cache], p);
  }
  void free_random() {
    if (!model_.empty()) free_one(model_.nth(random_() % model_.size()));
  }
  void bulk() {
    const auto c = static_cast<unsigned>(random_() % caches_.size());
    std::vector<void*> objects(1 + random_() % 150);
    if (cache_alloc_bulk(*m_, *caches_[c], some_gfp(), objects.size(), objects.data()) == 0) return;
    for (void* p : objects) added(p, caches_[c]->object_size, 8, c);
    if (random_() % 2 == 0) return;
    for (void* p : objects) EXPECT_EQ(model_.remove(p), "");
    cache_free_bulk(*m_, *caches_[c], objects.size(), objects.data());
  }
  void resize() {
    if (model_.empty()) return;
    void* const p = model_.nth(random_() % model_.size());
    if (model_.at(p).cache != from_kmalloc) return;
    const size_t size = 1 + random_() % (random_() % 4 != 0 ? 4000 : 70000);
    void* const q = krealloc(*m_, p, size, some_gfp());
    if (q == nullptr) {
      EXPECT_EQ(model_.check(p), "");
    } else {
      EXPECT_EQ(model_.move(p, q, size, 8), "") << size;
    }
  }
  void burst() {
    const auto c = static_cast<unsigned>(random_() % caches_.size());
    const uint64_t n = random_() % 400;
    for (uint64_t i = 0; i < n; ++i) added(cache_alloc(*m_, *caches_[c], some_gfp()), caches_[c]->object_size, 8, c);
    for (uint64_t i = 0; i < n && !model_.empty(); ++i) free_random();
  }
  void rare() {
    switch (random_() % 6) {
      case 0: drain_caches(*m_, true); break;
      case 1: drain_caches(*m_, false); break;
      case 2: cache_shrink(*m_, *caches_[random_() % caches_.size()]); break;
      default: break;
    }
  }

  kmalloc_machine m_;
  std::mt19937_64 random_;
  slab_model model_;
  std::vector<kmem_cache*> caches_;
};

TEST(slab_model, random_sequences_keep_every_object_whole) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    slab_world world(seed);
    for (int i = 0; i < 2500; ++i) {
      world.step();
      if (i % 250 == 0) world.check();
      if (::testing::Test::HasFailure()) return;
    }
    world.check();
  }
}

/// One cache whose slabs hold four objects; every sequence of `length` operations.
class one_slab {
 public:
  one_slab() : cache_(cache_create(*m_, {.name = "four", .object_size = 1024, .flags = slab_flags_t::no_merge})) {}
  ~one_slab() { EXPECT_EQ(cache_destroy(*m_, cache_), err::ok); }
  one_slab(const one_slab&) = delete;
  one_slab& operator=(const one_slab&) = delete;

  static constexpr unsigned nr_operations = 7;
  void run(uint64_t sequence, unsigned length) {
    for (unsigned i = 0; i < length; ++i, sequence /= nr_operations) operation(static_cast<unsigned>(sequence % nr_operations));
    EXPECT_EQ(model_.check_all(), "");
    while (!model_.empty()) give(model_.nth(0));
    if (++runs_ % 16 == 0) m_.check();
  }

 private:
  void give(void* p) {
    EXPECT_EQ(model_.remove(p), "");
    cache_free(*m_, *cache_, p);
  }
  void operation(unsigned what) {
    switch (what) {
      case 0: {
        void* const p = cache_alloc(*m_, *cache_, gfp::kernel);
        ASSERT_EQ(model_.add(p, 1024, 1024, 0), "");
        break;
      }
      case 1:
        if (!model_.empty()) give(model_.nth(0));
        break;
      case 2:
        if (!model_.empty()) give(model_.nth(model_.size() - 1));
        break;
      case 3:
        if (!model_.empty()) {
          void* p = model_.nth(model_.size() / 2);
          EXPECT_EQ(model_.remove(p), "");
          put_to_slabs(*m_, *cache_, &p, 1);
        }
        break;
      case 4: {
        void* objects[5];
        ASSERT_EQ(cache_alloc_bulk(*m_, *cache_, gfp::kernel, 5, objects), 5u);
        for (void* p : objects) ASSERT_EQ(model_.add(p, 1024, 1024, 0), "");
        break;
      }
      case 5: drain_caches(*m_, true); break;
      default: cache_shrink(*m_, *cache_); break;
    }
  }

  kmalloc_machine m_;
  kmem_cache* cache_;
  slab_model model_;
  uint64_t runs_ = 0;
};

TEST(slab_model, every_short_sequence_on_slabs_of_four) {
  one_slab world;
  for (unsigned length = 1; length <= 5; ++length) {
    uint64_t sequences = 1;
    for (unsigned i = 0; i < length; ++i) sequences *= one_slab::nr_operations;
    for (uint64_t s = 0; s < sequences; ++s) {
      world.run(s, length);
      if (::testing::Test::HasFailure()) FAIL() << "sequence " << s << " of length " << length;
    }
  }
}

}  // namespace
}  // namespace kmem::testing
