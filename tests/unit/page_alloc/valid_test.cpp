// The walk finds each kind of damage. Every test plants one mistake, looks, and repairs it.
#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::test_machine;

class damage : public ::testing::Test {
 protected:
  damage() {
    for (int i = 0; i < 40; ++i) held_.push_back(alloc_pages(*m_, gfp::kernel, order_t(static_cast<unsigned>(i) % 5)));
    for (size_t i = 0; i < held_.size(); i += 2) {
      put_page(*m_, held_[i]);
      held_[i] = nullptr;
    }
    std::erase(held_, nullptr);
    drain_cpu_pages(*m_, true);
    cpu_page_ = alloc_pages(*m_, gfp::kernel, order_t(0));
    held_.push_back(cpu_page_);
    EXPECT_EQ(page_alloc_is_valid(*m_), nullptr);
  }
  ~damage() override {
    for (page* p : held_) put_page(*m_, p);
  }
  void expect(const char* what) {
    const char* const wrong = page_alloc_is_valid(*m_);
    ASSERT_NE(wrong, nullptr);
    EXPECT_STREQ(wrong, what);
  }
  page_block& block() { return m_->blocks[m_->pfn_of(held_[0]).raw() / pages_per_block]; }
  template <class T>
  void with(T& field, T value, const char* what) {
    const T saved = field;
    field = value;
    expect(what);
    field = saved;
  }
  template <class T>
  void off_by_one(atomic<T>& field, const char* what) {
    field.fetch_add_relaxed(1);
    expect(what);
    field.fetch_sub_relaxed(1);
  }
  test_machine m_;
  std::vector<page*> held_;
  page* cpu_page_ = nullptr;
};

TEST_F(damage, counters) {
  zone& z = m_.normal();
  off_by_one(z.present_free, "present_free");
  off_by_one(z.committed, "committed");
  off_by_one(z.taken, "committed");
  off_by_one(z.in_transit, "committed");
  off_by_one(z.reserve.nr_pages, "pages marked as reserve that are in no reserve");
  z.managed.fetch_add_relaxed(m_->limit.raw());
  expect("managed pages and metadata exceed the limit");
  z.managed.fetch_sub_relaxed(m_->limit.raw());
  const uint64_t managed = z.managed.load_relaxed();
  z.managed.store_relaxed(0);
  expect("more committed than managed");
  z.managed.store_relaxed(managed);
}

TEST_F(damage, block_descriptors) {
  page_block& b = block();
  with<uint16_t>(b.nr_free, static_cast<uint16_t>(b.nr_free + 1), "nr_free of a block");
  with<uint16_t>(b.nr_absent, static_cast<uint16_t>(b.nr_absent + 1), "nr_absent of a block");
  with<uint16_t>(b.nr_transit, 1, "pages that are neither free nor part of anything");
  with<uint8_t>(b.list, 0, "a block on the wrong list");
  with<uint8_t>(b.opened, 0, "a block below opened_blocks that is not open");
  with<uint8_t>(b.longest_order, 0, "longest_order of a block is too small");
  with<uint8_t>(b.longest_present_order, 0, "longest_present_order of a block is too small");
  with<uint32_t>(b.prev, 77, "a block list whose links disagree");
}

TEST_F(damage, bitmaps) {
  page_block& b = block();
  const unsigned taken = m_->pfn_of(held_[0]).raw() % pages_per_block;
  const uint64_t bit = uint64_t{1} << (taken % 64);
  uint64_t& free = b.free.words[taken / 64];
  free |= bit;
  ++b.nr_free;
  expect("a free page whose descriptor heads something");
  free &= ~bit;
  --b.nr_free;
  b.zero.words[taken / 64] |= bit;
  expect("a zero bit of a page that is not free");
  b.zero.words[taken / 64] &= ~bit;
  for (unsigned i = 0; i < pages_per_block; ++i) {
    if ((b.free.words[i / 64] >> (i % 64) & 1) == 0) continue;
    b.absent.words[i / 64] |= uint64_t{1} << (i % 64);
    expect("a page both backed and absent");
    b.absent.words[i / 64] &= ~(uint64_t{1} << (i % 64));
    // Lost: in no bitmap, and nobody's.
    b.free.words[i / 64] &= ~(uint64_t{1} << (i % 64));
    --b.nr_free;
    expect("pages that are neither free nor part of anything");
    b.free.words[i / 64] |= uint64_t{1} << (i % 64);
    ++b.nr_free;
    break;
  }
}

TEST_F(damage, page_descriptors) {
  page& p = *held_[0];
  with<page_kind>(p.kind, page_kind::free, "pages that are neither free nor part of anything");
  with<uint8_t>(p.zone, 0, "a head that names another zone");
  with<uint32_t>(p.run.nr_pages, 0, "a head that covers no page");
  page* large = nullptr;
  for (page* q : held_)
    if (q->order >= 2) large = q;
  ASSERT_NE(large, nullptr);
  with<uint32_t>(large->run.nr_pages, large->run.nr_pages - 1, "pages that are neither free nor part of anything");
}

TEST_F(damage, cpu_lists) {
  zone& z = m_.normal();
  put_page(*m_, held_.back());
  held_.pop_back();
  for (unsigned cpu = 0; cpu < m_->nr_cpus; ++cpu) {
    cpu_pages& c = z.per_cpu[cpu];
    if (c.nr_pages.load_relaxed() == 0) continue;
    lock_guard guard(c.lock);
    for (auto& lists : c.lists)
      for (auto& list : lists) {
        if (list.nr_blocks < 2) continue;
        c.lock.unlock();
        page& first = m_->page_of(list.warm);
        with<page_kind>(first.kind, page_kind::reserve, "a CPU list with a page that is not its");
        with<pfn_t>(first.prev, pfn_t(9), "a CPU list whose links disagree");
        with<uint32_t>(list.nr_blocks, list.nr_blocks + 1, "nr_blocks of a CPU list");
        with<pfn_t>(list.cold, list.warm, "a CPU list whose cold end is not its end");
        off_by_one(c.nr_pages, "nr_pages of a CPU");
        c.lock.lock();
        expect("a CPU list is busy: the walk is for quiet moments");
        return;
      }
  }
  FAIL() << "no CPU list has two blocks";
}

TEST_F(damage, lists) {
  zone& z = m_.normal();
  page_block& b = block();
  ASSERT_NE(b.list, 0);
  const unsigned list = b.list - 1u;
  uint32_t& head = z.lists[list];
  const uint32_t saved = head;
  head = 0;
  expect("a block that no list leads to");
  head = saved;
  with<uint8_t>(z.list_usable_order[list], 0, "a list's longest order is too small");
}

}  // namespace
}  // namespace kmem
