#include "stress/chain_load.hpp"

#include <signal.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace kmem::stress {
namespace {

using std::chrono::steady_clock;
using ms = std::chrono::milliseconds;
using us = std::chrono::microseconds;

constexpr gfp_t quiet = gfp::nowarn;
constexpr int irq = 3;

// What the thread is at: reclaim's rules are about that.
thread_local const gfp_t* asking = nullptr;   // it asks for memory with this mask
thread_local const void* inside = nullptr;    // it is in this shrinker or notifier

/// What interrupts of this thread keep. Nothing that has a constructor to run at first use, as that may be in a handler.
struct kept_by_interrupts {
  piece pieces[12];
  unsigned n;
  uint32_t random;
};
constinit thread_local kept_by_interrupts kept{};

class asking_scope {
 public:
  explicit asking_scope(const gfp_t& mask) : before_(asking) { asking = &mask; }
  ~asking_scope() { asking = before_; }
  asking_scope(const asking_scope&) = delete;
  asking_scope& operator=(const asking_scope&) = delete;

 private:
  const gfp_t* before_;
};

uint32_t next_random(uint32_t& state) {
  state = state * 1664525u + 1013904223u;
  return state >> 16;
}

}  // namespace

chain_load::chain_load(machine& m, uint64_t seed) : m_(m), seed_(seed), shared_(m) {
  for (unsigned i = 0; i < nr_actors; ++i) {
    actor& me = actors_.emplace_back();
    me.load = this;
    me.number = i;
    me.random.seed(static_cast<unsigned>(seed * 131 + i + 1));
    me.kept_by_tasklet.random = me.kept_by_timer.random = static_cast<uint32_t>(seed + i);
    me.tasklet.data = me.timer.data = reinterpret_cast<uintptr_t>(&me);
    me.tasklet.function = [](kmem::tasklet& self) noexcept {
      actor& owner = *reinterpret_cast<actor*>(self.data);
      owner.load->run_deferred(owner.kept_by_tasklet);
      owner.load->counts.tasklets.fetch_add(1, std::memory_order_relaxed);
    };
    me.timer.function = [](kmem::timer& self) noexcept {
      actor& owner = *reinterpret_cast<actor*>(self.data);
      owner.load->run_deferred(owner.kept_by_timer);
      owner.load->counts.timers.fetch_add(1, std::memory_order_relaxed);
    };
  }
  mempool_source objects, pages, bytes;
  objects.kind = mempool_kind::slab;
  objects.cache = &shared_.cache();
  pages.kind = mempool_kind::pages;
  pages.order = 1;
  bytes.kind = mempool_kind::kmalloc;
  bytes.size = 1000;
  element_bytes_ = {136, 2 * page_size, 1000};
  pools_ = {mempool_create(m_, objects, 2, gfp::kernel), mempool_create(m_, pages, 2, gfp::kernel),
            mempool_create(m_, bytes, 2, gfp::kernel)};
  for (mempool* const pool : pools_) EXPECT_NE(pool, nullptr);
  lru_cache<uint64_t, lru_value>::options options;
  options.needs = gfp::none;
  options.gfp = gfp::kernel | gfp::nowarn;
  options.evicted = on_evicted;
  options.context = this;
  lru_ = std::make_unique<lru_cache<uint64_t, lru_value>>(options);
  EXPECT_TRUE(*lru_);
  EXPECT_EQ(request_irq(irq, on_interrupt, 0, "stress", this), 0);
}

chain_load::~chain_load() {
  free_irq(irq, this);
  lru_.reset();
  shared_.empty_mailbox();
  for (mempool* const pool : pools_) {
    // A pool that grew while nothing could be had is filled by what comes back.
    std::array<void*, 6> elements;
    for (void*& one : elements) one = mempool_alloc(*pool, gfp::kernel);
    for (void* const one : elements) mempool_free(*pool, one);
    mempool_figures figures;
    mempool_read_figures(*pool, figures);
    EXPECT_EQ(figures.waiting, 0u);
    EXPECT_EQ(figures.curr_nr, figures.min_nr) << "elements of a mempool are missing";
    mempool_destroy(*pool);
  }
  for (const std::string& what : wrong_) ADD_FAILURE() << what;
}

void chain_load::wrong(const char* what) {
  const std::lock_guard<std::mutex> hold(wrong_lock_);
  if (wrong_.size() < 10) wrong_.emplace_back(what);
}

// ---- threads ----------------------------------------------------------------------------------------------------------------------------

void chain_load::run_actor(actor& me) {
  kept.random = static_cast<uint32_t>(me.random());
  while (!stop_.load(std::memory_order_relaxed)) {
    pass_gate(gate_, nr_at_gate_);
    one_operation(me);
    me.progress.fetch_add(1, std::memory_order_relaxed);
    counts.operations.fetch_add(1, std::memory_order_relaxed);
  }
  finish(me);
}

void chain_load::pass_gate(const std::atomic<bool>& gate, std::atomic<unsigned>& arrived) {
  if (!gate.load(std::memory_order_relaxed)) return;
  std::this_thread::sleep_for(us(100));  // a signal that was sent before has been handled after that
  arrived.fetch_add(1);
  while (gate.load()) std::this_thread::sleep_for(us(200));
  arrived.fetch_sub(1);
}

void chain_load::finish(actor& me) {
  me.doing = "the end";
  if (me.shrinkable.registered) toggle_shrinker(me);
  if (me.notified.registered) toggle_notifier(me);
  while (!me.held.empty()) give_one(me);
  // Interrupts schedule anybody's tasklet: they go for good when no thread hears any more.
  while (!no_more_signals_.load()) std::this_thread::sleep_for(ms(1));
  wait_for_all(nr_stopped_);
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  wait_for_all(nr_deaf_);
  tasklet_kill(me.tasklet);
  del_timer_sync(me.timer);
  while (kept.n != 0) shared_.give(kept.pieces[--kept.n]);
  for (kept_pieces* const one : {&me.kept_by_tasklet, &me.kept_by_timer})
    while (one->n != 0) shared_.give(one->pieces[--one->n]);
  me.finished = true;
}

void chain_load::wait_for_all(std::atomic<unsigned>& arrived) {
  arrived.fetch_add(1);
  while (arrived.load() != nr_actors) std::this_thread::sleep_for(ms(1));
}

void chain_load::one_operation(actor& me) {
  const uint64_t dice = roll(me, 1000);
  const auto does = [&me](const char* what, auto operation) {
    me.doing.store(what, std::memory_order_relaxed);
    operation();
  };
  if (dice < 640) return does("allocates and frees", [&] { churn(me); });
  if (dice < 650) return does("clears memory", [&] { clear_memory(me); });
  if (dice < 720) return does("waits within bounds", [&] { wait_bounded(me); });
  if (dice < 740) return does("stops somebody", [&] { stop_somebody(me); });
  if (dice < 742) return does("asks with __GFP_NOFAIL", [&] { never_fail(me); });
  if (dice < 770) return does("uses a mempool", [&] { use_pool(me); });
  if (dice < 800) return does("takes objects in advance", [&] { reserve_objects(me); });
  if (dice < 810) return does("toggles a shrinker", [&] { toggle_shrinker(me); });
  if (dice < 815) return does("toggles an OOM notifier", [&] { toggle_notifier(me); });
  if (dice < 825) return does("makes and ends a cache", [&] { make_and_end_cache(me); });
  if (dice < 930) return does("uses the LRU cache", [&] { use_lru(me); });
  if (dice < 935) return does("drains", [&] { maintain(me); });
  return does("defers work", [&] { defer(me); });
}

// ---- memory that is held ----------------------------------------------------------------------------------------------------------------

void chain_load::keep(actor& me, const piece& p) {
  if (p.what != piece::kind::none) return me.held.push_back(p);
  counts.nulls.fetch_add(1, std::memory_order_relaxed);
  if (percent(me, 5)) me.grows = false;
}

void chain_load::give_one(actor& me) {
  const size_t at = roll(me, me.held.size());
  const piece p = me.held[at];
  me.held[at] = me.held.back();
  me.held.pop_back();
  shared_.give(p);
}

void chain_load::churn(actor& me) {
  constexpr gfp_t masks[] = {gfp::kernel,  gfp::kernel, gfp::atomic,         gfp::nowait,
                             gfp::noio,    gfp::nofs,   gfp::kernel | gfp::noretry, gfp::kernel | gfp::retry_mayfail};
  if (me.held.empty()) me.grows = true;
  if (roll(me, 2000) == 0) me.grows = false;
  if (percent(me, me.grows ? 65 : 25)) {
    const gfp_t mask = masks[roll(me, std::size(masks))] | quiet;
    const asking_scope scope(mask);
    if (may_block(mask) || percent(me, 50)) return keep(me, shared_.take(me.random, mask));
    const preempt_guard guard;
    return keep(me, shared_.take(me.random, mask));
  }
  if (me.held.empty()) return;
  if (!percent(me, 10)) return give_one(me);
  const piece p = me.held.back();
  me.held.pop_back();
  shared_.exchange(me.random, p);
}

void chain_load::clear_memory(actor& me) {
  const gfp_t mask = (percent(me, 50) ? gfp::kernel : gfp::atomic) | gfp::zero | quiet;
  const asking_scope scope(mask);
  piece p;
  p.what = piece::kind::object;
  p.bytes = 1 + roll(me, size_t{16} << roll(me, 11));
  p.tag = me.random();
  p.begin = static_cast<char*>(kmalloc(m_, p.bytes, mask));
  if (p.begin == nullptr) return keep(me, {});
  for (size_t i = 0; i < p.bytes; ++i)
    if (p.begin[i] != 0) {
      wrong("memory was not cleared");
      break;
    }
  write_pattern(p);
  keep(me, p);
}

// ---- waits that end ---------------------------------------------------------------------------------------------------------------------

void chain_load::check_ended_wait(bool has_deadline, steady_clock::time_point deadline, bool interruptible, bool stopped) {
  switch (last_wait()) {
    case wait_outcome::timed_out:
      counts.timed_out.fetch_add(1);
      if (!has_deadline || steady_clock::now() < deadline) wrong("a wait timed out before its deadline");
      break;
    case wait_outcome::interrupted:
      counts.interrupted.fetch_add(1);
      if (!interruptible) wrong("a wait was interrupted that may not be");
      break;
    case wait_outcome::stopped:
      counts.stopped.fetch_add(1);
      if (!stopped) wrong("a wait was stopped that nobody stopped");
      break;
    case wait_outcome::served:
      wrong("nothing for a request that was served");
      break;
    case wait_outcome::none:
    case wait_outcome::exhausted:
      // Nothing that it asks for is too much to wait for.
      if (has_deadline && !fails_.load()) wrong("a request gave up before its deadline");
      break;
  }
}

void chain_load::wait_bounded(actor& me) {
  const bool has_deadline = percent(me, 70), interruptible = percent(me, 50);
  const auto deadline = steady_clock::now() + us(roll(me, percent(me, 50) ? 500 : 60'000));
  const gfp_t mask = (percent(me, 70)   ? gfp::kernel
                      : percent(me, 50) ? gfp::nofs
                                        : gfp::kernel | gfp::retry_mayfail) | quiet;
  wait_options options;
  if (has_deadline) options.deadline = deadline;
  options.interruptible = interruptible;
  std::stop_source source;
  options.stop = source.get_token();
  {
    const std::lock_guard<std::mutex> hold(me.stop_lock);
    me.stop = source;
  }
  const asking_scope asks(mask);
  piece p;
  {
    const wait_scope scope(options);
    p = shared_.take(me.random, mask);
    if (p.what == piece::kind::none)
      check_ended_wait(has_deadline, deadline, interruptible, source.stop_requested());
    else if (last_wait() == wait_outcome::served)
      counts.served.fetch_add(1, std::memory_order_relaxed);
  }
  {
    const std::lock_guard<std::mutex> hold(me.stop_lock);
    me.stop = std::stop_source(std::nostopstate);
  }
  keep(me, p);
}

void chain_load::stop_somebody(actor& me) {
  actor& other = actors_[roll(me, actors_.size())];
  std::stop_source source(std::nostopstate);
  {
    const std::lock_guard<std::mutex> hold(other.stop_lock);
    source = other.stop;
  }
  if (source.stop_possible()) source.request_stop();
}

/// Whoever asks with __GFP_NOFAIL holds nothing: then somebody can always be served.
void chain_load::never_fail(actor& me) {
  while (!me.held.empty()) give_one(me);
  const gfp_t mask = gfp::kernel | gfp::nofail | quiet;
  const asking_scope scope(mask);
  piece p;
  p.tag = me.random();
  p.what = piece::kind::object;
  p.bytes = 1 + roll(me, 2 * page_size);
  p.begin = static_cast<char*>(kmalloc(m_, p.bytes, mask));
  if (p.begin == nullptr) return wrong("__GFP_NOFAIL got nothing");
  counts.never_failed.fetch_add(1, std::memory_order_relaxed);
  write_pattern(p);
  std::this_thread::yield();
  shared_.give(p);
}

// ---- memory that is set aside -----------------------------------------------------------------------------------------------------------

/// One element, kept for a moment in which nothing is needed that others could wait for.
void chain_load::use_pool(actor& me) {
  const size_t number = roll(me, pools_.size());
  mempool& pool = *pools_[number];
  if (percent(me, 5)) {
    const std::unique_lock<std::mutex> hold(resize_lock_, std::try_to_lock);
    if (hold && mempool_resize(pool, static_cast<uint32_t>(1 + roll(me, 6))) == err::ok) counts.resizes.fetch_add(1);
    return;
  }
  void* element = nullptr;
  if (percent(me, 25)) {
    const preempt_guard guard;
    element = mempool_alloc(pool, gfp::atomic | quiet);
    if (element == nullptr) return;
  } else {
    const gfp_t mask = percent(me, 50) ? gfp::kernel : gfp::noio;
    const asking_scope scope(mask);
    element = mempool_alloc(pool, mask | quiet);
    if (element == nullptr) return wrong("a mempool gave nothing to somebody who may block");
  }
  counts.elements.fetch_add(1, std::memory_order_relaxed);
  piece p;
  p.tag = me.random();
  p.bytes = element_bytes_[number];
  p.begin = static_cast<char*>(element);
  if (pool.source.kind == mempool_kind::pages) p.begin = m_.address_of(m_.pfn_of(static_cast<page*>(element)));
  write_pattern(p);
  std::this_thread::sleep_for(us(roll(me, 200)));
  if (!is_intact(p)) wrong("an element of a mempool changed while it was held");
  mempool_free(pool, element);
}

/// Objects that are taken in advance, and then cannot fail in atomic context.
void chain_load::reserve_objects(actor& me) {
  const bool of_cache = percent(me, 50);
  const size_t bytes = of_cache ? 136 : 1 + roll(me, 3000);
  const gfp_t mask = gfp::kernel | quiet;
  const asking_scope scope(mask);
  auto n = static_cast<uint32_t>(1 + roll(me, 8));
  slab_sheaf* sheaf = of_cache ? sheaf_prefill(m_, shared_.cache(), mask, n) : sheaf_prefill_kmalloc(m_, bytes, mask, n);
  if (sheaf == nullptr) return;
  if (percent(me, 30) && sheaf_refill(sheaf, mask, n + 5) == err::ok) n += 5;
  std::array<piece, 13> taken{};
  const auto nr_taken = static_cast<uint32_t>(roll(me, n + 1));
  {
    const preempt_guard guard;
    for (uint32_t i = 0; i < nr_taken; ++i) {
      piece& p = taken[i];
      p.begin = static_cast<char*>(sheaf_alloc(*sheaf, gfp::atomic));
      if (p.begin == nullptr) {
        wrong("an object that was set aside is not there");
        break;
      }
      p.what = of_cache ? piece::kind::cached : piece::kind::object;
      p.bytes = bytes;
      p.tag = me.random();
      write_pattern(p);
    }
  }
  counts.reserved.fetch_add(nr_taken, std::memory_order_relaxed);
  for (const piece& p : taken)
    if (p.what != piece::kind::none) me.held.push_back(p);
  sheaf_return(sheaf);
}

void chain_load::make_and_end_cache(actor& me) {
  const gfp_t mask = gfp::kernel | quiet;
  const asking_scope scope(mask);
  const size_t size = 8 + roll(me, 1500);
  kmem_cache* const cache = cache_create(m_, {.name = "short-lived", .object_size = size, .flags = slab_flags_t::no_merge});
  if (cache == nullptr) return;
  std::array<piece, 40> objects{};
  for (piece& p : objects) {
    p.begin = static_cast<char*>(cache_alloc(m_, *cache, mask));
    if (p.begin == nullptr) break;
    p.bytes = size;
    p.tag = me.random();
    write_pattern(p);
  }
  for (const piece& p : objects) {
    if (p.begin == nullptr) break;
    if (!is_intact(p)) wrong("an object of a short-lived cache changed");
    cache_free(m_, *cache, p.begin);
  }
  if (cache_destroy(m_, cache) != err::ok) wrong("a cache without objects could not be destroyed");
  counts.caches.fetch_add(1, std::memory_order_relaxed);
}

// ---- who is asked for memory back -------------------------------------------------------------------------------------------------------

void chain_load::check_asked(const void* asked, gfp_t needs, gfp_t told, bool gone) {
  if (gone) wrong("a shrinker or notifier was asked that had been unregistered");
  if ((needs & ~told) != gfp::none) wrong("a shrinker was told flags that lack what it needs");
  if (in_atomic()) wrong("a shrinker or notifier was asked in atomic context");
  if (inside != nullptr) wrong(inside == asked ? "a shrinker or notifier was entered again" : "a shrinker was entered from another one");
  if (asking != nullptr && (needs & ~*asking) != gfp::none) wrong("a shrinker was asked by a request that may not use it");
}

uint64_t chain_load::count_objects(kmem::shrinker* self, kmem::shrink_control* control) noexcept {
  actor& owner = *static_cast<actor*>(self->private_data);
  owner.load->check_asked(self, self->needs, control->gfp, owner.shrinkable.gone.load());
  const size_t n = owner.shrinkable.n.load(std::memory_order_relaxed);
  return n != 0 ? n : shrink_empty;
}

uint64_t chain_load::scan_objects(kmem::shrinker* self, kmem::shrink_control* control) noexcept {
  actor& owner = *static_cast<actor*>(self->private_data);
  chain_load& load = *owner.load;
  takeable& mine = owner.shrinkable;
  load.check_asked(self, self->needs, control->gfp, mine.gone.load());
  load.counts.scans.fetch_add(1, std::memory_order_relaxed);
  if (current().is_kswapd) load.counts.kswapd_scans.fetch_add(1, std::memory_order_relaxed);
  inside = self;
  uint64_t freed = 0;
  {
    const std::unique_lock<std::mutex> hold(mine.lock, std::try_to_lock);
    if (hold) {
      if (mine.moody) control->nr_scanned = control->nr_to_scan = (control->nr_to_scan + 1) / 2;
      for (; freed < control->nr_to_scan && !mine.pieces.empty(); ++freed) {
        const piece p = mine.pieces.back();
        mine.pieces.pop_back();
        if (p.tag % 4 == 0) {  // who frees memory may need some
          void* const own = kmalloc(load.m_, 64 + p.tag % 2000, gfp::kernel | quiet);
          load.counts.scan_allocations.fetch_add(1, std::memory_order_relaxed);
          kfree(load.m_, own);
        }
        load.shared_.give(p);
      }
      mine.n.store(mine.pieces.size(), std::memory_order_relaxed);
    }
  }
  std::this_thread::yield();  // in which it may be unregistered
  if (mine.gone.load()) load.wrong("a shrinker ran on after it had been unregistered");
  inside = nullptr;
  load.counts.scanned.fetch_add(freed, std::memory_order_relaxed);
  return freed != 0 ? freed : shrink_stop;
}

uint64_t chain_load::notify(kmem::oom_notifier* self) noexcept {
  actor& owner = *static_cast<actor*>(self->private_data);
  chain_load& load = *owner.load;
  takeable& mine = owner.notified;
  load.check_asked(self, gfp::none, gfp::none, mine.gone.load());
  inside = self;
  uint64_t freed = 0;
  {
    const std::unique_lock<std::mutex> hold(mine.lock, std::try_to_lock);
    while (hold && !mine.pieces.empty()) {
      const piece p = mine.pieces.back();
      mine.pieces.pop_back();
      freed += pages_for(p.bytes).raw();
      load.shared_.give(p);
    }
    if (hold) mine.n.store(0, std::memory_order_relaxed);
  }
  if (mine.gone.load()) load.wrong("an OOM notifier ran on after it had been unregistered");
  inside = nullptr;
  load.counts.notified.fetch_add(1, std::memory_order_relaxed);
  return freed;
}

/// Fills what reclaim may take. The lock is not held while memory is asked for: reclaim would find it taken by its own thread.
void chain_load::collect(actor& me, takeable& into, unsigned n) {
  const gfp_t mask = gfp::kernel | gfp::noretry | quiet;
  const asking_scope scope(mask);
  for (unsigned i = 0; i < n; ++i) {
    const piece p = shared_.take(me.random, mask);
    if (p.what == piece::kind::none) return;
    const std::lock_guard<std::mutex> hold(into.lock);
    into.pieces.push_back(p);
    into.n.store(into.pieces.size(), std::memory_order_relaxed);
  }
}

void chain_load::let_go(takeable& from) {
  from.gone = true;
  from.registered = false;
  const std::lock_guard<std::mutex> hold(from.lock);
  for (const piece& p : from.pieces) shared_.give(p);
  from.pieces.clear();
  from.n = 0;
}

void chain_load::toggle_shrinker(actor& me) {
  takeable& mine = me.shrinkable;
  if (mine.registered) {
    remove_shrinker(m_, me.shrinker);
    counts.removed.fetch_add(1, std::memory_order_relaxed);
    return let_go(mine);
  }
  constexpr gfp_t needs[] = {gfp::none, gfp::io, gfp::fs, gfp::io | gfp::fs};
  me.shrinker = {};
  me.shrinker.count_objects = &chain_load::count_objects;
  me.shrinker.scan_objects = &chain_load::scan_objects;
  me.shrinker.needs = needs[roll(me, 4)];
  me.shrinker.seeks = static_cast<int>(roll(me, 5));
  me.shrinker.batch = static_cast<long>(roll(me, 10));
  me.shrinker.private_data = &me;
  me.shrinker.name = "stress";
  mine.moody = percent(me, 30);
  mine.gone = false;
  if (add_shrinker(m_, me.shrinker) != err::ok) wrong("a shrinker could not be registered");
  mine.registered = true;
  collect(me, mine, static_cast<unsigned>(1 + roll(me, 60)));
}

void chain_load::toggle_notifier(actor& me) {
  takeable& mine = me.notified;
  if (mine.registered) {
    remove_oom_notifier(m_, me.notifier);
    return let_go(mine);
  }
  me.notifier = {};
  me.notifier.notify = &chain_load::notify;
  me.notifier.private_data = &me;
  mine.gone = false;
  if (add_oom_notifier(m_, me.notifier) != err::ok) wrong("an OOM notifier could not be registered");
  mine.registered = true;
  collect(me, mine, static_cast<unsigned>(roll(me, 12)));
}

chain_load::lru_value chain_load::value_of(uint64_t key) {
  lru_value value{};
  for (size_t i = 0; i < value.words.size(); ++i) value.words[i] = (key + 1) * 0x9e3779b97f4a7c15u + i;
  return value;
}

void chain_load::on_evicted(void* context, const uint64_t& key, lru_value& value) noexcept {
  auto& load = *static_cast<chain_load*>(context);
  load.counts.lru_evicted.fetch_add(1, std::memory_order_relaxed);
  if (value.words != value_of(key).words) load.wrong("an entry of the LRU cache had changed when it was evicted");
}

void chain_load::use_lru(actor& me) {
  const gfp_t mask = gfp::kernel | quiet;
  const asking_scope scope(mask);
  const uint64_t key = roll(me, 300), dice = roll(me, 100);
  if (dice < 55) {
    static_cast<void>(lru_->put(key, value_of(key)));
  } else if (dice < 95) {
    const auto hit = lru_->get(key);
    if (!hit) return;
    counts.lru_hits.fetch_add(1, std::memory_order_relaxed);
    if (dice < 65) std::this_thread::yield();
    if (hit->words != value_of(key).words) wrong("an entry of the LRU cache has changed");
  } else {
    lru_->erase(key);
  }
}

void chain_load::maintain(actor& me) {
  switch (roll(me, 5)) {
    case 0:
      drain_cpu_pages(m_, true);
      break;
    case 1:
      drain_caches(m_, true);
      break;
    case 2:
      give_back(m_, 1 + roll(me, 64), percent(me, 50));
      break;
    case 3:
      refill_reserve(m_);
      break;
    default:
      drain_deferred_vfree(m_);
      break;
  }
}

// ---- interrupts, tasklets, timers -------------------------------------------------------------------------------------------------------

void chain_load::run_deferred(kept_pieces& mine) {
  if (in_child_.load(std::memory_order_relaxed)) return;  // fork may have come upon the thread that changed it
  if (!in_interrupt()) wrong("a tasklet or timer does not run in softirq context");
  // Relaxed: the library alone orders one run before the next.
  if (mine.in_use.exchange(true, std::memory_order_relaxed)) return wrong("a tasklet or timer runs on two threads at once");
  keep_or_give(mine);
  mine.in_use.store(false, std::memory_order_relaxed);
}

void chain_load::keep_or_give(kept_pieces& mine) {
  if (mine.n == mine.pieces.size() || (mine.n != 0 && next_random(mine.random) % 2 == 0)) return shared_.give(mine.pieces[--mine.n]);
  std::minstd_rand random(next_random(mine.random));
  const piece p = shared_.take(random, gfp::atomic | quiet);
  if (p.what == piece::kind::none) return;
  mine.pieces[mine.n++] = p;
  counts.kept_by_handlers.fetch_add(1, std::memory_order_relaxed);
}

irq_return chain_load::on_interrupt(int, void* device) noexcept {
  auto& load = *static_cast<chain_load*>(device);
  load.counts.interrupts.fetch_add(1, std::memory_order_relaxed);
  if (kept.n == std::size(kept.pieces) || (kept.n != 0 && next_random(kept.random) % 3 == 0)) {
    load.shared_.give(kept.pieces[--kept.n]);
  } else {
    std::minstd_rand random(next_random(kept.random));
    const piece p = load.shared_.take(random, gfp::atomic | quiet);
    if (p.what != piece::kind::none) {
      kept.pieces[kept.n++] = p;
      load.counts.kept_by_handlers.fetch_add(1, std::memory_order_relaxed);
    }
  }
  tasklet_schedule(load.actors_[next_random(kept.random) % nr_actors].tasklet);
  return irq_return::handled;
}

void chain_load::defer(actor& me) {
  switch (roll(me, 5)) {
    case 0:
      tasklet_schedule(actors_[roll(me, actors_.size())].tasklet);
      break;
    case 1:
      tasklet_hi_schedule(actors_[roll(me, actors_.size())].tasklet);
      break;
    case 2:
      mod_timer(me.timer, jiffies() + roll(me, 4));
      break;
    case 3:
      if (percent(me, 50))
        del_timer(me.timer);
      else
        del_timer_sync(me.timer);
      break;
    default: {
      const bh_guard guard;
      raise_irq(irq);
      tasklet_schedule(me.tasklet);
      break;
    }
  }
}

}  // namespace kmem::stress
