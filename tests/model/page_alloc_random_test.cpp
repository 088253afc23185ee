// Random and exhaustive sequences of operations on the page allocator against buddy_model, with every invariant checked on the way.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <memory>
#include <random>
#include <vector>

#include "model/buddy_model.hpp"
#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::buddy_model;

/// One machine, one model, and operations on both.
class pair_of_both {
 public:
  explicit pair_of_both(const machine_config& config) : pa_(std::make_unique<page_allocator>()) {
    if (page_alloc_init(*pa_, config) != err::ok) throw std::logic_error("no machine");
    for (const zone& z : pa_->zones) managed_ += z.managed_most;
  }
  ~pair_of_both() { page_alloc_destroy(*pa_); }
  pair_of_both(const pair_of_both&) = delete;
  pair_of_both& operator=(const pair_of_both&) = delete;

  page_allocator& pa() { return *pa_; }
  const buddy_model& model() const { return model_; }

  bool alloc(gfp_t gfp, unsigned order) {
    page* const p = alloc_pages(*pa_, gfp | gfp::nowarn, order_t(order));
    if (p == nullptr) return false;
    note(p, uint64_t{1} << order, true, gfp);
    return true;
  }
  bool alloc_n(gfp_t gfp, uint64_t n) {
    page* const p = alloc_run(*pa_, gfp | gfp::nowarn, nr_pages_t(n));
    if (p == nullptr) return false;
    if (run_pages(p).raw() != n) throw std::logic_error("a run of another length than asked for");
    note(p, n, is_power_of_two(n), gfp);
    return true;
  }
  void free(size_t index) {
    page* const p = take(index);
    model_.freed(pa_->pfn_of(p).raw(), memory(p));
    put_page(*pa_, p);
  }
  void resize(size_t index, uint64_t n) {
    page* const p = held_[index];
    if (resize_run(*pa_, p, nr_pages_t(n), gfp::kernel | gfp::nowarn)) model_.resized(pa_->pfn_of(p).raw(), n, memory(p));
  }
  void split(size_t index) {
    page* const p = held_[index];
    const unsigned order = p->order;
    if (run_pages(p).raw() != uint64_t{1} << order || order == 0 || order > 6 || (p->flags & page_flag_compound) != 0) return;
    model_.split(pa_->pfn_of(p).raw(), memory(p));
    split_page(*pa_, p, order_t(order));
    for (uint64_t i = 1; i < uint64_t{1} << order; ++i) held_.push_back(p + i);
  }
  bool charge(uint64_t n) {
    const int zone = charge_pages(*pa_, gfp::kernel | gfp::nowarn, nr_pages_t(n));
    if (zone < 0) return false;
    outside_.push_back({zone, n});
    outside_pages_ += n;
    return true;
  }
  void uncharge() {
    if (outside_.empty()) return;
    uncharge_pages(*pa_, outside_.back().zone, nr_pages_t(outside_.back().n));
    outside_pages_ -= outside_.back().n;
    outside_.pop_back();
  }
  void metadata(bool more, uint64_t n) {
    if (more) {
      if (charge_metadata(*pa_, n)) metadata_ += n;
    } else {
      n = n < metadata_ ? n : metadata_;
      uncharge_metadata(*pa_, n);
      metadata_ -= n;
    }
  }
  size_t held() const { return held_.size(); }
  void free_everything() {
    while (!held_.empty()) free(held_.size() - 1);
    while (!outside_.empty()) uncharge();
    metadata(false, metadata_);
  }

  /// Counts against the model, and the invariants of the budget.
  void check_counts() {
    uint64_t managed = 0, charged = 0, free = 0, in_lists = 0, pool = 0, committed = 0;
    for (unsigned i = 0; i < nr_zones; ++i) {
      zone_snapshot s;
      snapshot_zone(*pa_, zone_idx(i), s);
      ASSERT_EQ(s.managed, s.charged + s.free + s.in_cpu_lists + s.pool) << i;
      ASSERT_LE(s.committed, s.managed) << i;
      uint64_t listed = 0;
      for (unsigned order = 0; order < 11; ++order)
        for (const uint64_t runs : s.nr_free_runs[order]) listed += runs << order;
      ASSERT_EQ(listed, s.free - s.in_transit) << i;
      managed += s.managed;
      charged += s.charged;
      free += s.free;
      in_lists += s.in_cpu_lists;
      pool += s.pool;
      committed += s.committed;
    }
    ASSERT_EQ(charged, model_.pages() + outside_pages_);
    ASSERT_EQ(free, managed - charged - in_lists - pool);
    ASSERT_LE(managed + pa_->metadata_pages.load_relaxed(), pa_->limit.raw());
    committed_ = committed;
  }
  void check_structure() {
    const char* const wrong = page_alloc_is_valid(*pa_);
    ASSERT_EQ(wrong, nullptr) << wrong;
  }
  /// Nothing is resident that is not charged or counted as present.
  void check_residency() {
    std::vector<unsigned char> map(pa_->span_pages);
    ASSERT_EQ(mincore(pa_->base, size_t{pa_->span_pages} << page_shift, map.data()), 0);
    uint64_t resident = 0;
    for (const unsigned char m : map) resident += m & 1;
    ASSERT_LE(resident + outside_pages_, committed_);
  }

 private:
  char* memory(page* p) { return pa_->address_of(pa_->pfn_of(p)); }
  void note(page* p, uint64_t n, bool aligned, gfp_t gfp) {
    if (has(gfp, gfp::zero) && !model_.is_zero(memory(p), n)) throw std::logic_error("__GFP_ZERO pages that are not zero");
    model_.allocated(pa_->pfn_of(p).raw(), n, aligned ? n : 0, memory(p));
    held_.push_back(p);
  }
  page* take(size_t index) {
    page* const p = held_[index];
    held_[index] = held_.back();
    held_.pop_back();
    return p;
  }

  struct outside {
    int zone;
    uint64_t n;
  };
  std::unique_ptr<page_allocator> pa_;
  buddy_model model_;
  std::vector<page*> held_;
  std::vector<outside> outside_;
  uint64_t outside_pages_ = 0, metadata_ = 0, managed_ = 0, committed_ = 0;
};

gfp_t random_gfp(std::mt19937_64& random) {
  static const gfp_t masks[] = {gfp::kernel,
                                gfp::kernel,
                                gfp::kernel,
                                gfp::nowait,
                                gfp::atomic,
                                gfp::user,
                                gfp::highuser_movable,
                                gfp::nofs | gfp::noretry,
                                gfp::kernel | gfp::reclaimable};
  static const gfp_t extras[] = {gfp::none, gfp::none, gfp::none, gfp::zero, gfp::cold, gfp::comp, gfp::dma, gfp::high};
  gfp_t mask = masks[random() % std::size(masks)];
  gfp_t extra = extras[random() % std::size(extras)];
  if (extra == gfp::dma && has(mask, gfp::highmem_bit)) extra = gfp::none;
  return mask | extra;
}

uint64_t random_length(std::mt19937_64& random) {
  const uint64_t draw = random() % 100;
  if (draw < 60) return 1 + random() % 16;
  if (draw < 85) return 1 + random() % 200;
  if (draw < 97) return 1 + random() % 1100;
  return 1 + random() % 4000;
}

void random_step(pair_of_both& both, std::mt19937_64& random, uint64_t target_pages) {
  const bool grow = both.model().pages() < target_pages;
  const uint64_t draw = random() % 100;
  if (draw < (grow ? 50u : 25u)) {
    const unsigned order = random() % 4 != 0 ? static_cast<unsigned>(random() % 4) : static_cast<unsigned>(random() % 11);
    both.alloc(random_gfp(random), order);
  } else if (draw < (grow ? 60u : 30u)) {
    both.alloc_n(random_gfp(random), random_length(random));
  } else if (draw < 88) {
    if (both.held() != 0) both.free(random() % both.held());
  } else if (draw < 91) {
    if (both.held() != 0) both.resize(random() % both.held(), random_length(random));
  } else if (draw < 93) {
    if (both.held() != 0) both.split(random() % both.held());
  } else if (draw < 95) {
    both.charge(random_length(random));
  } else if (draw < 97) {
    both.uncharge();
  } else if (draw == 97) {
    both.metadata(random() % 2 != 0, random() % 64);
  } else if (draw == 98) {
    give_back(both.pa(), random() % 2000, random() % 2 != 0);
  } else if (random() % 2 != 0) {
    drain_cpu_pages(both.pa(), true);
  } else {
    refill_reserve(both.pa());
  }
}

struct shape {
  const char* name;
  uint64_t mem_mb, highmem_mb, movable_mb, dma32_mb, span_mb;
  backing kind;
};

class random_sequences : public ::testing::TestWithParam<shape> {};

TEST_P(random_sequences, agree_with_the_model) {
  const shape& s = GetParam();
  machine_config config = testing::small_config(s.mem_mb << 20);
  config.zone_highmem = s.highmem_mb << 20;
  config.zone_movable = s.movable_mb << 20;
  config.zone_dma32 = s.dma32_mb << 20;
  config.span = s.span_mb << 20;
  config.kind = s.kind;
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    pair_of_both both(config);
    const uint64_t all = (s.mem_mb << 20) >> page_shift;
    for (int step = 0; step < 2500; ++step) {
      // The load swings, so that the machine is full at times and nearly empty at others.
      const uint64_t target = step / 500 % 2 == 0 ? all : all / 10;
      ASSERT_NO_THROW(random_step(both, random, target)) << step;
      ASSERT_NO_FATAL_FAILURE(both.check_counts()) << step;
      if (step % 97 == 0) {
        ASSERT_NO_FATAL_FAILURE(both.check_structure()) << step;
      }
      if (step % 401 == 0) {
        ASSERT_NO_FATAL_FAILURE(both.check_residency()) << step;
      }
    }
    ASSERT_NO_THROW(both.free_everything());
    ASSERT_NO_FATAL_FAILURE(both.check_counts());
    ASSERT_NO_FATAL_FAILURE(both.check_structure());
    // However the memory was cut up: the largest block that NORMAL's free pages allow is there.
    EXPECT_EQ(charged_pages(both.pa()), 0u);
    const zone& normal = both.pa().zones[raw(zone_idx::normal)];
    const uint64_t blocks_cost = 2 * metadata_pages_per_block;
    unsigned order = 10;
    while (uint64_t{1} << order > zone_free(normal) - normal.watermarks[0] - blocks_cost) --order;
    EXPECT_TRUE(both.alloc(gfp::kernel, order)) << order;
    both.free_everything();
    ASSERT_NO_FATAL_FAILURE(both.check_structure());
  }
}

INSTANTIATE_TEST_SUITE_P(shapes, random_sequences,
                         ::testing::Values(shape{"least", 4, 0, 0, 0, 0, backing::anon}, shape{"small", 24, 0, 0, 0, 0, backing::anon},
                                           shape{"tight_span", 24, 0, 0, 0, 1, backing::anon},
                                           shape{"all_zones", 48, 8, 8, 8, 0, backing::anon},
                                           shape{"memfd", 24, 0, 0, 0, 0, backing::memfd}),
                         [](const auto& info) { return info.param.name; });

/// The operations of the exhaustive test, each as small as it can be.
void exhaustive_step(pair_of_both& both, unsigned operation) {
  switch (operation) {
    case 0:
      both.alloc(gfp::nowait, 0);
      break;
    case 1:
      both.alloc(gfp::kernel, 1);
      break;
    case 2:
      both.alloc(gfp::kernel | gfp::movable, 9);
      break;
    case 3:
      both.alloc_n(gfp::kernel, 700);
      break;
    case 4:
      if (both.held() != 0) both.free(0);
      break;
    case 5:
      if (both.held() != 0) both.free(both.held() - 1);
      break;
    case 6:
      give_back(both.pa(), 1, true);
      break;
    default:
      drain_cpu_pages(both.pa(), true);
      break;
  }
}

TEST(exhaustive_sequences, of_four_operations_agree_with_the_model) {
  constexpr unsigned operations = 8, length = 4;
  machine_config config = testing::small_config(uint64_t{6} << 20);
  pair_of_both both(config);
  unsigned total = 1;
  for (unsigned i = 0; i < length; ++i) total *= operations;
  for (unsigned sequence = 0; sequence < total; ++sequence) {
    for (unsigned i = 0, rest = sequence; i < length; ++i, rest /= operations)
      ASSERT_NO_THROW(exhaustive_step(both, rest % operations)) << sequence;
    ASSERT_NO_FATAL_FAILURE(both.check_counts()) << sequence;
    if (sequence % 16 == 0) {
      ASSERT_NO_FATAL_FAILURE(both.check_structure()) << sequence;
    }
    ASSERT_NO_THROW(both.free_everything()) << sequence;
  }
  ASSERT_NO_FATAL_FAILURE(both.check_structure());
}

}  // namespace
}  // namespace kmem
