// The table of rights, tried out: every combination of the flags that decide what an allocation may do, in every context, in every memory
// state of a small machine, against what the documentation of the flags says must come out. The model below is written from that
// documentation; it shares no code with the allocator.
#include <atomic>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "page_alloc/internal.hpp"
#include "promises/promise_machine.hpp"

namespace kmem {
namespace {

using test::promise_machine;

// ---- what a case is ------------------------------------------------------------------------------------------------------------------

constexpr gfp_t tried_flags[] = {gfp::high,   gfp::io,            gfp::fs,     gfp::direct_reclaim, gfp::kswapd_reclaim, gfp::nowarn,
                                 gfp::nofail, gfp::retry_mayfail, gfp::noretry, gfp::memalloc,       gfp::nomemalloc};
constexpr unsigned nr_masks = 1u << std::size(tried_flags);

gfp_t mask_of(unsigned number) {
  gfp_t mask = gfp::none;
  for (unsigned i = 0; i < std::size(tried_flags); ++i)
    if ((number >> i & 1) != 0) mask |= tried_flags[i];
  return mask;
}

enum class context : uint8_t { process, preempt, bottom_halves, softirq, hardirq, irqs_off, noio, nofs, noreclaim };
constexpr unsigned nr_contexts = 9;
constexpr const char* context_names[nr_contexts] = {"process", "preempt", "bh off",  "softirq",  "hardirq",
                                                    "irqs off", "noio",   "nofs", "noreclaim"};

/// Where memory is when the allocation comes. All but `above_min` are short of it.
enum class memory : uint8_t {
  above_min,     // enough for everybody
  at_min,        // as much as is kept from those who may not dig
  last_page,     // one page
  in_cpu_lists,  // at min, and more in this CPU's list
  pool_only,     // a page of the reclaimers' own
  reclaimable,   // nothing free; a callback frees more than min
  needs_io,      // the same, if I/O may be started
  needs_fs,      // the same, if file systems may be called
  nothing,
};
constexpr unsigned nr_states = 9;
constexpr const char* state_names[nr_states] = {"above min",   "at min",   "last page", "in CPU lists",           "pool only",
                                                "reclaimable", "needs io", "needs fs",  "nothing"};

// ---- what must come out ----------------------------------------------------------------------------------------------------------------

struct expectation {
  bool served = false;
  bool callback_ran = false;
  bool waited = false;  // announced that it waits: whether it came to sleep is a matter of who is faster
  bool sleeping_reported = false;  // a context rule is broken
};

/// Bits of the kernel's documentation, by number.
struct wishes {
  bool high, io, fs, direct, nofail, noretry, memalloc, nomemalloc;
};

/// `patient`: vm.alloc_wait_ms gives the other thread, which frees as soon as somebody waits, time to do it.
expectation expected(uint32_t bits, context where, memory state, bool patient) {
  wishes w{(bits & 0x20) != 0,   (bits & 0x40) != 0,    (bits & 0x80) != 0,    (bits & 0x400) != 0,
           (bits & 0x8000) != 0, (bits & 0x10000) != 0, (bits & 0x20000) != 0, (bits & 0x80000) != 0};
  if (where == context::noio) w.io = w.fs = false;
  if (where == context::nofs) w.fs = false;
  if (where == context::noreclaim) {
    w.memalloc = true;
    w.direct = false;
  }
  const bool atomic = where != context::process && where < context::noio;
  const bool all_reserves = w.memalloc && !w.nomemalloc;
  const bool may_dig = (w.high || w.memalloc || w.nofail) && !w.nomemalloc;
  const bool reclaims = w.direct && !w.memalloc;         // who frees memory does not reclaim for himself
  const bool waits = (w.direct && w.nofail) || (reclaims && !w.noretry && patient);

  expectation e;
  e.sleeping_reported = w.direct && atomic;
  switch (state) {
    case memory::above_min:
    case memory::in_cpu_lists:
      e.served = true;
      return e;
    case memory::at_min:
    case memory::last_page:
      e.served = may_dig;
      break;
    case memory::pool_only:
      e.served = all_reserves;
      break;
    case memory::reclaimable:
    case memory::needs_io:
    case memory::needs_fs:
      // Callbacks are code that may sleep: they do not run in atomic context, whoever claims that he may wait there.
      e.callback_ran = reclaims && !atomic && (state != memory::needs_io || w.io) && (state != memory::needs_fs || w.fs);
      e.served = e.callback_ran;
      break;
    case memory::nothing:
      break;
  }
  if (!e.served && waits) e.served = e.waited = true;
  return e;
}

// ---- the machine -----------------------------------------------------------------------------------------------------------------------

class small_machine {
 public:
  explicit small_machine(bool patient)
      : machine_(patient ? "mem=8M vm.alloc_wait_ms=60000" : "mem=8M vm.alloc_wait_ms=0"),
        min_(machine_->zones[raw(zone_idx::normal)].watermarks[0]) {
    empty();
    partner_ = std::thread([this] { free_for_waiters(); });
  }
  ~small_machine() {
    done_ = true;
    partner_.join();
    free_held(normal_.size());
    for (page* const p : others_) put_page(*machine_, p);
  }
  promise_machine& operator*() { return machine_; }

  void prepare(memory state) {
    constexpr uint64_t spare = 8;
    machine& m = *machine_;
    if (state == memory::pool_only && m.memalloc_pool.nr_pages.load_relaxed() == 0) {
      // The pool is filled from pages above min; those that it leaves are taken again.
      set_free(min_ + m.memalloc_pool_target + spare);
      refill_reserve(m);
    }
    if (state != memory::pool_only && m.memalloc_pool.nr_pages.load_relaxed() != 0) empty();
    switch (state) {
      case memory::above_min:
        return set_free(min_ + spare);
      case memory::at_min:
        return set_free(min_);
      case memory::in_cpu_lists:
        set_free(min_);
        return free_held(spare);
      case memory::last_page:
        return set_free(1);
      case memory::pool_only:
      case memory::reclaimable:
      case memory::needs_io:
      case memory::needs_fs:
      case memory::nothing:
        return set_free(0);
    }
  }

  /// Runs one case. Return: what came out.
  expectation run(gfp_t mask, context where, memory state) {
    int callback = -1;
    if (state == memory::reclaimable || state == memory::needs_io || state == memory::needs_fs)
      callback = add_callback(state == memory::needs_io ? gfp::io : state == memory::needs_fs ? gfp::fs : gfp::none);
    callback_ran_ = false;
    reset_context_rules();
    set_context_policy(context_policy::count);
    freed_ = false;
    may_free_ = true;
    page* const p = allocate(mask, where);
    may_free_ = false;
    while (freeing_) std::this_thread::yield();
    expectation out;
    out.served = p != nullptr;
    out.callback_ran = callback_ran_;
    out.waited = freed_;
    out.sleeping_reported = context_violations() != 0;
    set_context_policy(context_policy::report);
    if (p != nullptr) keep(p);
    if (callback >= 0) unregister_callback(*machine_, callback);
    return out;
  }
  uint64_t nr_failures() { return machine_->failure_sequence.load_relaxed(); }
  machine& real() { return *machine_; }

 private:
  static page* alloc(machine& m, gfp_t mask) { return alloc_pages(m, mask, order_t(0)); }

  page* allocate(gfp_t mask, context where) {
    machine& m = *machine_;
    switch (where) {
      case context::process:
        return alloc(m, mask);
      case context::preempt: {
        const preempt_guard guard;
        return alloc(m, mask);
      }
      case context::bottom_halves: {
        const bh_guard guard;
        return alloc(m, mask);
      }
      case context::softirq: {
        const softirq_guard guard;
        return alloc(m, mask);
      }
      case context::hardirq: {
        const hardirq_guard guard;
        return alloc(m, mask);
      }
      case context::irqs_off: {
        const irq_guard guard;
        return alloc(m, mask);
      }
      case context::noio: {
        const memalloc_noio_scope scope;
        return alloc(m, mask);
      }
      case context::nofs: {
        const memalloc_nofs_scope scope;
        return alloc(m, mask);
      }
      case context::noreclaim: {
        const memalloc_noreclaim_scope scope;
        return alloc(m, mask);
      }
    }
    return nullptr;
  }

  void keep(page* p) {
    const bool normal = p->zone == static_cast<uint8_t>(zone_idx::normal);
    (normal ? normal_ : others_).push_back(p);
  }
  bool take(gfp_t mask) {
    page* const p = alloc_pages(*machine_, mask | gfp::nowarn, order_t(0));
    if (p != nullptr) keep(p);
    return p != nullptr;
  }
  /// Takes all there is, the reclaimers' pages included.
  void empty() {
    while (take(gfp::memalloc)) continue;
  }
  /// Leaves `n` pages of NORMAL free, none of them in lists.
  void set_free(uint64_t n) {
    zone& normal = machine_->zones[raw(zone_idx::normal)];
    drain_cpu_pages(*machine_, true);
    if (zone_free(normal) < n) free_held(n - zone_free(normal));
    drain_cpu_pages(*machine_, true);
    // Not a page more than those, so that nobody gets to the pool.
    while (zone_free(normal) > n && take(gfp::high)) continue;
    drain_cpu_pages(*machine_, true);
    ASSERT_EQ(zone_free(normal), n);
  }
  void free_held(uint64_t n) {
    for (; n != 0 && !normal_.empty(); --n) {
      put_page(*machine_, normal_.back());
      normal_.pop_back();
    }
  }
  int add_callback(gfp_t needs) {
    const reclaim_callback callback{this,
                                    [](void* self, gfp_t, uint64_t) noexcept {
                                      auto& m = *static_cast<small_machine*>(self);
                                      m.callback_ran_ = true;
                                      const uint64_t n = m.min_ + 8;
                                      m.free_held(n);
                                      return n;
                                    },
                                    needs};
    return register_callback(*machine_, callback);
  }
  /// The other thread: frees what is above min as soon as somebody waits.
  void free_for_waiters() {
    while (!done_) {
      freeing_ = true;
      if (may_free_ && machine_->waiters.load_relaxed() != 0) {
        may_free_ = false;
        freed_ = true;
        free_held(min_ + 8);
        drain_cpu_pages(*machine_, true);
      }
      freeing_ = false;
      std::this_thread::yield();
    }
  }

  promise_machine machine_;
  const uint64_t min_;
  std::vector<page*> normal_, others_;  // the first only by the thread whose turn it is: see may_free_
  bool callback_ran_ = false;
  std::atomic<bool> may_free_{false}, freeing_{false}, freed_{false}, done_{false};
  std::thread partner_;
};

// ---- the test --------------------------------------------------------------------------------------------------------------------------

unsigned nr_failure_reports = 0;  // by the thread under test: the partner's frees report nothing
void count_reports(log_level, const char* text, size_t bytes, const void* const*, unsigned) noexcept {
  if (std::string_view(text, bytes).find("page allocation failure: order:0") != std::string_view::npos) ++nr_failure_reports;
}

std::string describe(gfp_t mask, context where, memory state) {
  char name[200];
  format_gfp(mask, name, sizeof name);
  return std::string(name) + ", " + context_names[static_cast<unsigned>(where)] + ", " + state_names[static_cast<unsigned>(state)];
}

class RightsTable : public ::testing::TestWithParam<std::tuple<unsigned, bool>> {};

TEST_P(RightsTable, EveryMaskInEveryContext) {
#if defined(KMEM_DEBUG)
  const unsigned stride = 31;  // every structure is walked at every step
#else
  const unsigned stride = std::getenv("KMEM_TEST_FULL") != nullptr ? 1 : 3;  // a part of the masks, another one in each state and context
#endif
  const bool patient = std::get<1>(GetParam());
  small_machine m(patient);
  const auto state = static_cast<memory>(std::get<0>(GetParam()));
  const printk_sink before = set_printk_sink(count_reports);
  unsigned wrong = 0;
  for (unsigned c = 0; c < nr_contexts; ++c) {
    for (unsigned number = (c + std::get<0>(GetParam())) % stride; number < nr_masks && wrong < 10; number += stride) {
      const gfp_t mask = mask_of(number);
      const auto where = static_cast<context>(c);
      m.prepare(state);
      const uint64_t failures = m.nr_failures();
      m.real().page_failure_reports.reset();
      nr_failure_reports = 0;
      const expectation want = expected(static_cast<uint32_t>(mask), where, state, patient);
      const expectation got = m.run(mask, where, state);
      const bool right = got.served == want.served && got.callback_ran == want.callback_ran && got.waited == want.waited &&
                         got.sleeping_reported == want.sleeping_reported && (m.nr_failures() == failures) == want.served &&
                         (nr_failure_reports != 0) == (!want.served && !has(mask, gfp::nowarn));
      EXPECT_TRUE(right) << describe(mask, where, state) << ": served " << got.served << " (want " << want.served << "), callback "
                         << got.callback_ran << " (" << want.callback_ran << "), waited " << got.waited << " (" << want.waited
                         << "), context report " << got.sleeping_reported << " (" << want.sleeping_reported << "), records "
                         << m.nr_failures() - failures << ", reports " << nr_failure_reports;
      wrong += right ? 0 : 1;
    }
  }
  set_printk_sink(before);
}

INSTANTIATE_TEST_SUITE_P(States, RightsTable, ::testing::Combine(::testing::Range(0u, nr_states), ::testing::Bool()));

}  // namespace
}  // namespace kmem
