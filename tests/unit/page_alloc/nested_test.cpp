// A signal handler that interrupts the allocator: it takes no lock that could be held below it, and loses nothing.
#include <signal.h>
#include <sys/time.h>

#include <atomic>
#include <thread>

#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using testing::held_pages;
using testing::test_machine;

/// What the interrupted frame holds: every lock of the zones.
class interrupted_frame {
 public:
  explicit interrupted_frame(test_machine& m) KMEM_NO_ANALYSIS : m_(m) {
    for (zone& z : m_->zones) {
      for (unsigned cpu = 0; z.nr_blocks != 0 && cpu < m_->nr_cpus; ++cpu) EXPECT_TRUE(z.per_cpu[cpu].lock.try_lock());
      EXPECT_TRUE(z.lock.try_lock());
    }
  }
  ~interrupted_frame() KMEM_NO_ANALYSIS {
    for (zone& z : m_->zones) {
      z.lock.unlock();
      for (unsigned cpu = 0; z.nr_blocks != 0 && cpu < m_->nr_cpus; ++cpu) z.per_cpu[cpu].lock.unlock();
    }
  }
  interrupted_frame(const interrupted_frame&) = delete;
  interrupted_frame& operator=(const interrupted_frame&) = delete;

 private:
  nest_guard guard_;
  test_machine& m_;
};

TEST(nested, single_pages_come_from_the_reserve_and_go_to_the_deferred_list) {
  test_machine m;
  page* const before = alloc_pages(*m, gfp::kernel, order_t(4));
  page* inside = nullptr;
  {
    const interrupted_frame below(m);
    inside = alloc_pages(*m, gfp::atomic, order_t(0));
    ASSERT_NE(inside, nullptr);
    EXPECT_NE(alloc_pages(*m, gfp::nowait | gfp::zero, order_t(0)), nullptr) << "free pages are above min: anybody may have them";
    EXPECT_EQ(alloc_pages(*m, gfp::atomic | gfp::nowarn, order_t(1)), nullptr) << "no two pages without a lock";
    free_pages(*m, before, order_t(4));
    EXPECT_EQ(m->deferred.nr_pages.load_relaxed(), 1u);
    EXPECT_EQ(charged_pages(*m), 18u);
    EXPECT_EQ(drain_deferred(*m), 0u) << "not from here";
    const int zone = charge_pages(*m, gfp::atomic | gfp::nowarn, nr_pages_t(1));
    EXPECT_EQ(zone, -1);
  }
  free_pages(*m, inside, order_t(0));
  drain_cpu_pages(*m, true);  // the next slow path
  EXPECT_EQ(m->deferred.nr_pages.load_relaxed(), 0u);
  EXPECT_EQ(charged_pages(*m), 1u);
  // The zeroed page is the one still out.
  for (uint32_t pfn = 1; pfn < m->span_pages; ++pfn) {
    page& p = m->page_of(pfn_t(pfn));
    if (p.kind != page_kind::allocated) continue;
    EXPECT_EQ(m.address(&p)[100], 0);
    free_pages(*m, &p, order_t(0));
    break;
  }
}

TEST(nested, a_free_of_what_is_deferred_already_is_reported_and_changes_nothing) {
  test_machine m;
  page* const a = alloc_pages(*m, gfp::kernel, order_t(4));
  page* const b = alloc_pages(*m, gfp::kernel, order_t(0));
  page* const c = alloc_pages(*m, gfp::kernel, order_t(4));
  testing::printed out;
  {
    const interrupted_frame below(m);
    for (page* const p : {a, c}) free_pages(*m, p, order_t(4));
    for (page* const p : {c, a}) free_pages(*m, p, order_t(4));
    put_page(*m, a);
    EXPECT_EQ(m->deferred.nr_pages.load_relaxed(), 2u);
  }
  EXPECT_TRUE(out.has("freed, but not allocated")) << out.text();
  EXPECT_TRUE(out.has("kind:deferred")) << out.text();
  EXPECT_EQ(m->stats.bad_pages.load_relaxed(), 3u);
  EXPECT_EQ(drain_deferred(*m), 32u);
  EXPECT_EQ(charged_pages(*m), 1u);
  free_pages(*m, b, order_t(0));
}

TEST(nested, charges_outside_the_arena_are_returned_later) {
  test_machine m;
  const int zone = charge_pages(*m, gfp::kernel, nr_pages_t(5));
  ASSERT_GE(zone, 0);
  {
    const interrupted_frame below(m);
    uncharge_pages(*m, zone, nr_pages_t(5));
    EXPECT_EQ(charged_pages(*m), 5u);
  }
  drain_cpu_pages(*m, false);
  EXPECT_EQ(charged_pages(*m), 0u);
}

TEST(nested, metadata_within_the_allowance_needs_no_lock) {
  test_machine m;
  const interrupted_frame below(m);
  const uint64_t within = m->metadata_allowance - m->metadata_pages.load_relaxed();
  EXPECT_TRUE(charge_metadata(*m, within));
  EXPECT_FALSE(charge_metadata(*m, 1));
  uncharge_metadata(*m, within);
}

TEST(nested, the_report_of_a_failure_takes_no_lock) {
  test_machine m;
  testing::printed out;
  const interrupted_frame below(m);
  EXPECT_EQ(alloc_pages(*m, gfp::atomic, order_t(3)), nullptr);
  EXPECT_TRUE(out.has("page allocation failure: order:3")) << out.text();
}

// ---- a storm of real signals -----------------------------------------------------------------------------------------------------

struct storm {
  page_allocator* pa = nullptr;
  page* kept[16] = {};
  unsigned position = 0;
  uint64_t handled = 0, nulls = 0, nested = 0;
};
storm the_storm;

void handler(int) {
  storm& s = the_storm;
  ++s.handled;
  s.nested += current().depth != 0;
  for (int i = 0; i < 3; ++i) {
    page*& slot = s.kept[s.position++ % std::size(s.kept)];
    if (slot != nullptr) {
      // Whoever has a page may write to all of it.
      std::memset(s.pa->address_of(s.pa->pfn_of(slot)), 0x77, 64);
      put_page(*s.pa, slot);
      slot = nullptr;
    } else {
      slot = alloc_pages(*s.pa, gfp::atomic | gfp::nowarn, order_t(s.position % 5 == 0 ? 1 : 0));
      s.nulls += slot == nullptr;
    }
  }
}

TEST(nested, handlers_that_allocate_and_free_at_any_moment_lose_nothing) {
  test_machine m;
  the_storm = {};
  the_storm.pa = &*m;
  struct sigaction action {};
  action.sa_handler = handler;
  struct sigaction saved {};
  ASSERT_EQ(sigaction(SIGALRM, &action, &saved), 0);
  itimerval timer{{0, 50}, {0, 50}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &timer, nullptr), 0);
  std::vector<page*> pages;
  uint64_t state = 1;
  for (int i = 0; i < 120'000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto draw = static_cast<unsigned>(state >> 33);
    if (pages.size() < 200 || draw % 2 == 0) {
      page* const p = alloc_pages(*m, gfp::kernel | gfp::nowarn, order_t(draw % 6));
      if (p != nullptr) pages.push_back(p);
    } else {
      std::swap(pages[draw % pages.size()], pages.back());
      put_page(*m, pages.back());
      pages.pop_back();
    }
    if (pages.size() > 400) {
      for (page* p : pages) put_page(*m, p);
      pages.clear();
    }
    if (i % 5000 == 0) drain_cpu_pages(*m, true);
    if (i % 20000 == 0) give_back(*m, 1000, true);
  }
  timer = {};
  setitimer(ITIMER_REAL, &timer, nullptr);
  sigaction(SIGALRM, &saved, nullptr);
  EXPECT_GT(the_storm.handled, 100u);
  EXPECT_LT(the_storm.nulls, the_storm.handled / 10)
      << "order 1 inside a locked zone may fail, single pages only when the reserve is empty";
  for (page* p : pages) put_page(*m, p);
  for (page*& p : the_storm.kept)
    if (p != nullptr) put_page(*m, p);
  drain_cpu_pages(*m, true);
}

}  // namespace
}  // namespace kmem
