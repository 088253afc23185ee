// What a core_world's tasks do with the end of the chain: shrinkers, OOM notifiers, mempools, reservations and bounded waits; and the
// judgement of those who sleep for memory.
//
// Who goes to sleep is looked at while nobody else runs. Either nothing is left that it may have, or somebody is in the middle of
// something: has freed and not looked for waiters yet, or has the turn and not passed it on. Then a judge closes the gate, which lets
// everybody finish what he does or fall asleep as well. After that nobody is left who could still wake anybody: whoever sleeps although
// there is something for it would never wake but for its own time-out.
#include <algorithm>
#include <utility>

#include "sim/scenario_world.hpp"

namespace kmem::sim_test {
namespace {

core_world* watched = nullptr;  // whose sleepers are judged
constexpr size_t scarce_bytes = 128;
constexpr gfp_t impatient = gfp::highuser_movable | gfp::nowarn | gfp::noretry;

}  // namespace

void core_world::chain_operation(actor& me) {
  const uint64_t dice = roll(100);
  if (dice < 25) return toggle_shrinker(me);
  if (dice < 33) return toggle_notifier(me);
  if (dice < 55) return use_pool(me);
  if (dice < 70) return reserve_objects(me);
  if (dice < 92) return wait_bounded(me);
  stop_somebody();
}

core_world::actor* core_world::running_actor() {
  for (actor* one : actors_)
    if (one->task == simulation::running_task()) return one;
  return nullptr;
}

void core_world::pause(uint64_t most) {
  for (uint64_t n = roll(most); n != 0; --n) plat::yield_point();
}

// ---- who is asked for memory back -----------------------------------------------------------------------------------------------------

void core_world::check_asked_rightly(const void* inside, gfp_t needs, gfp_t told, bool gone) {
  if (gone) fail_world("a shrinker or notifier was asked that had been unregistered");
  if ((needs & ~told) != gfp::none) fail_world("a shrinker was told flags that lack what it needs");
  const actor* const me = running_actor();
  const bool atomic = in_atomic() || current().depth != 0 || (me != nullptr && me->atomic);
  if (atomic) fail_world("a shrinker or notifier was asked in atomic context");
  if (me == nullptr) return;
  if (me->inside != nullptr)
    fail_world(std::string("a shrinker or notifier was asked on a thread that is inside ") + (me->inside == inside ? "it" : "another one"));
  if (me->asked != nullptr && (needs & ~me->asked->gfp) != gfp::none)
    fail_world("a shrinker was asked by " + describe(*me->asked) + ", which may not use it");
}

uint64_t core_world::count_objects(kmem::shrinker* self, kmem::shrink_control* control) noexcept {
  auto& mine = *static_cast<cache_of_objects*>(self->private_data);
  ++mine.calls;
  mine.owner->check_asked_rightly(self, self->needs, control->gfp, mine.gone);
  return mine.objects.empty() && mine.owner->percent(50) ? shrink_empty : mine.objects.size();
}

uint64_t core_world::scan_objects(kmem::shrinker* self, kmem::shrink_control* control) noexcept {
  auto& mine = *static_cast<cache_of_objects*>(self->private_data);
  core_world& core = *mine.owner;
  core.check_asked_rightly(self, self->needs, control->gfp, mine.gone);
  ++core.seen_.shrinker_scans;
  actor* const me = core.running_actor();
  if (me == nullptr) ++core.seen_.kswapd_scans;
  if (me != nullptr) me->inside = self;
  core.pause(200);  // in which it may be unregistered
  const bool refuses = mine.moody && core.percent(20);
  uint64_t freed = 0;
  if (!refuses) {
    if (mine.moody && core.percent(30)) control->nr_scanned = control->nr_to_scan = (control->nr_to_scan + 1) / 2;
    if (core.percent(20)) {  // who frees memory may need some
      void* const own = kmalloc(core.m_, 64 + core.roll(2000), gfp::kernel | gfp::nowarn);
      kfree(core.m_, own);
      ++core.seen_.shrinker_allocations;
    }
    for (; freed < control->nr_to_scan && !mine.objects.empty(); ++freed) {
      char* const begin = mine.objects.back();
      mine.objects.pop_back();
      core.give(begin);
    }
  }
  if (mine.gone) fail_world("a shrinker ran on after it had been unregistered");
  if (me != nullptr) me->inside = nullptr;
  core.seen_.shrinker_objects += freed;
  return refuses ? shrink_stop : freed;
}

void core_world::toggle_shrinker(actor& me) {
  cache_of_objects& mine = me.shrinkable;
  if (mine.registered) {
    mine.registered = false;
    if (mine.hooks.running != 0) ++seen_.shrinkers_removed_inside;
    remove_shrinker(m_, mine.hooks);
    mine.gone = true;
    give_all(mine.objects);
    return;
  }
  if (me.ending) return;
  for (uint64_t n = 1 + roll(30); n != 0; --n) {
    ask asked;
    asked.gfp = impatient;
    if (percent(50)) {
      asked.kind = ask::what::cache_object;
      asked.cache = caches_[roll(caches_.size())];
      asked.gfp = gfp::kernel | gfp::nowarn | gfp::noretry;
    }
    char* const begin = perform(asked);
    if (begin == nullptr) break;
    mine.objects.push_back(begin);
  }
  constexpr gfp_t needs[] = {gfp::none, gfp::io, gfp::fs, gfp::io | gfp::fs};
  mine.hooks = {};
  mine.hooks.count_objects = &core_world::count_objects;
  mine.hooks.scan_objects = &core_world::scan_objects;
  mine.hooks.needs = needs[roll(4)];
  mine.hooks.seeks = static_cast<int>(roll(5));
  mine.hooks.batch = static_cast<long>(roll(10));
  mine.hooks.private_data = &mine;
  mine.hooks.name = "sim";
  mine.moody = percent(30);
  mine.gone = false;
  mine.calls = 0;
  if (add_shrinker(m_, mine.hooks) != err::ok) fail_world("a shrinker could not be registered");
  mine.registered = true;
  ++seen_.shrinkers;
}

uint64_t core_world::notify(kmem::oom_notifier* self) noexcept {
  auto& mine = *static_cast<notified*>(self->private_data);
  core_world& core = *mine.owner;
  ++mine.calls;
  ++core.seen_.notifier_calls;
  core.check_asked_rightly(self, gfp::none, gfp::none, mine.gone);
  actor* const me = core.running_actor();
  if (me != nullptr) me->inside = self;
  uint64_t freed = 0;
  for (; !mine.pages.empty(); ++freed) {
    char* const begin = mine.pages.back();
    mine.pages.pop_back();
    core.give(begin);
  }
  if (mine.gone) fail_world("an OOM notifier ran on after it had been unregistered");
  if (me != nullptr) me->inside = nullptr;
  core.seen_.notifier_pages += freed;
  return freed;
}

void core_world::toggle_notifier(actor& me) {
  notified& mine = me.oom;
  if (mine.registered) {
    mine.registered = false;
    remove_oom_notifier(m_, mine.hooks);
    mine.gone = true;
    while (!mine.pages.empty()) {
      char* const begin = mine.pages.back();
      mine.pages.pop_back();
      give(begin);
    }
    return;
  }
  if (me.ending) return;
  ask asked;
  asked.gfp = impatient;
  for (uint64_t n = roll(12); n != 0; --n) {
    char* const begin = perform(asked);
    if (begin == nullptr) break;
    mine.pages.push_back(begin);
  }
  mine.hooks = {};
  mine.hooks.notify = &core_world::notify;
  mine.hooks.private_data = &mine;
  mine.gone = false;
  mine.calls = 0;
  if (add_oom_notifier(m_, mine.hooks) != err::ok) fail_world("an OOM notifier could not be registered");
  mine.registered = true;
  ++seen_.notifiers;
}

void core_world::finish_chain(actor& me) {
  if (me.shrinkable.registered) toggle_shrinker(me);
  if (me.oom.registered) toggle_notifier(me);
}

std::string core_world::chain_passed_over(const ask& asked) {
  if (!has(asked.gfp, gfp::direct_reclaim) || has(asked.gfp, gfp::memalloc) || can_never_fit(asked)) return {};
  const bool pages = asked.kind == ask::what::block || asked.kind == ask::what::run;
  const bool one_page = pages && asked.pages == 1;
  uint64_t n = asked.pages;
  if (asked.kind == ask::what::cache_object) n = uint64_t{1} << asked.cache->slab_order;
  if (asked.kind == ask::what::kmalloc_object) n = asked.size > size_class_max ? pages_for(asked.size).raw() : 1;
  for (const actor* other : actors_) {
    const cache_of_objects& c = other->shrinkable;
    if (!c.registered || c.objects.empty() || (c.hooks.needs & ~asked.gfp) != gfp::none) continue;
    if (c.calls == 0 && pages_reclaimed_ < n) return "a shrinker that may run was not asked";
    // Who retries comes to an end only when they have nothing more.
    if (one_page && !c.moody && !has(asked.gfp, gfp::noretry))
      return "a shrinker that may run still has " + std::to_string(c.objects.size()) + " objects";
  }
  constexpr uint64_t most = 8;  // pages of an order that is not costly
  if (has(asked.gfp, gfp::noretry | gfp::retry_mayfail) || !has(asked.gfp, gfp::fs) || n > most) return {};
  for (const actor* other : actors_)
    if (other->oom.registered && other->oom.calls == 0) return "an OOM notifier was not asked";
  return {};
}

// ---- memory that is set aside ---------------------------------------------------------------------------------------------------------

/// A source that mostly has nothing, so that elements are waited for.
void* core_world::scarce_alloc(gfp_t mask, void* data) noexcept {
  auto& core = *static_cast<core_world*>(data);
  return core.ready_ && core.percent(90) ? nullptr : kmalloc(core.m_, scarce_bytes, mask);
}
void core_world::scarce_free(void* element, void* data) noexcept { kfree(static_cast<core_world*>(data)->m_, element); }

void core_world::make_pools() {
  mempool_source objects, pages, scarce;
  objects.kind = mempool_kind::slab;
  objects.cache = caches_[2];
  pages.kind = mempool_kind::pages;
  pages.order = 2;
  scarce.alloc = &core_world::scarce_alloc;
  scarce.free = &core_world::scarce_free;
  scarce.data = this;
  for (const mempool_source& source : {objects, pages, scarce}) {
    pools_.push_back(mempool_create(m_, source, 1, gfp::kernel));
    if (pools_.back() == nullptr) fail_world("a mempool could not be made");
  }
}

void core_world::end_of_pools() {
  for (mempool* const pool : pools_) {
    mempool_figures info;
    mempool_read_figures(*pool, info);
    if (info.curr_nr != info.min_nr || info.waiting != 0) fail_world("elements of a mempool are missing at the end");
    seen_.element_waits += info.waits;
    mempool_destroy(*pool);
  }
}

/// One element, kept for a moment in which nothing is needed that others could wait for.
void core_world::use_pool(actor& me) {
  mempool& pool = *pools_[roll(pools_.size())];
  void* element = nullptr;
  if (percent(25)) {
    const preempt_guard guard;
    me.atomic = true;
    element = mempool_alloc(pool, gfp::atomic);
    me.atomic = false;
    if (element == nullptr) return;
  } else {
    element = mempool_alloc(pool, percent(50) ? gfp::kernel : gfp::noio);
    if (element == nullptr) fail_world("mempool_alloc gave nothing to somebody who may block");
  }
  ++seen_.elements;
  holding h;
  h.kind = holding_kind::block;
  h.begin = static_cast<char*>(element);
  h.bytes = scarce_bytes;
  if (pool.source.kind == mempool_kind::slab) h.bytes = pool.source.cache->object_size;
  if (pool.source.kind == mempool_kind::pages) {
    h.begin = m_.address_of(m_.pfn_of(static_cast<page*>(element)));
    h.bytes = page_size << pool.source.order;
  }
  shadow_.add(h);
  pause(pool.source.kind == mempool_kind::functions ? 3000 : 60);
  shadow_.remove(h.begin);
  mempool_free(pool, element);
}

/// Objects that are taken in advance, and then cannot fail in atomic context.
void core_world::reserve_objects(actor& me) {
  kmem_cache& cache = *caches_[roll(caches_.size() - 1)];
  constexpr gfp_t mask = gfp::kernel | gfp::nowarn;
  uint32_t n = 1 + static_cast<uint32_t>(roll(6));
  slab_sheaf* sheaf = sheaf_prefill(m_, cache, mask, n);
  if (sheaf == nullptr) return;
  ++seen_.reservations;
  if (percent(30) && sheaf_refill(sheaf, mask, n + 3) == err::ok) n += 3;
  const uint32_t taken = static_cast<uint32_t>(roll(n + 1));
  {
    const preempt_guard guard;
    me.atomic = true;
    for (uint32_t i = 0; i < taken; ++i) {
      holding h;
      h.kind = holding_kind::cache_object;
      h.cache = &cache;
      h.begin = static_cast<char*>(sheaf_alloc(*sheaf, gfp::atomic));
      if (h.begin == nullptr) fail_world("an object that was set aside is not there");
      h.bytes = cache.object_size;
      me.held.push_back(enter(h, cache.slab_gfp));
      ++seen_.reserved_objects;
    }
    me.atomic = false;
  }
  sheaf_return(sheaf);
}

/// When all memory is back, so is what is kept for those who may not wait, and for reclaimers.
void core_world::check_reserves() {
  kswapd_stop(m_);
  refill_reserve(m_);
  for (const zone& z : m_.zones)
    if (z.reserve.nr_pages.peek() < z.reserve_target.peek())
      fail_world("the reserve of zone " + std::to_string(static_cast<int>(z.idx)) + " is not full at the end: it has " +
                 std::to_string(z.reserve.nr_pages.peek()) + " pages of " + std::to_string(z.reserve_target.peek()));
  if (m_.memalloc_pool.nr_pages.peek() < m_.memalloc_pool_target)
    fail_world("the reclaimers' pool has " + std::to_string(m_.memalloc_pool.nr_pages.peek()) + " pages at the end");
}

// ---- waits that end -------------------------------------------------------------------------------------------------------------------

void core_world::wait_bounded(actor& me) {
  ask asked = random_ask(me);
  const gfp_t zones = asked.gfp & (gfp::dma | gfp::zero);
  asked.gfp = (percent(70) ? gfp::kernel : percent(50) ? gfp::nofs : gfp::kernel | gfp::retry_mayfail) | gfp::nowarn | zones;
  wait_conditions conditions;
  const uint64_t deadline = percent(30) ? 0 : plat::now_ns() + 1 + roll(percent(50) ? 200'000 : 30'000'000);
  const bool interruptible = percent(50);
  const uint64_t handlers = me.nr_handlers;
  me.was_stopped = false;
  wait_enter(conditions, deadline, interruptible);
  me.conditions = &conditions;
  char* const begin = perform_for(me, asked, asked);
  const wait_outcome how = last_wait();
  me.conditions = nullptr;
  while (me.nr_stopping != 0) plat::relax(1);
  wait_leave(conditions);
  if (begin != nullptr) return me.held.push_back(begin);
  ++seen_.nulls;
  switch (how) {
    case wait_outcome::timed_out:
      ++seen_.waits_timed_out;
      if (deadline == 0 || plat::now_ns() < deadline) fail_world("a wait timed out before its deadline");
      break;
    case wait_outcome::interrupted:
      ++seen_.waits_interrupted;
      if (!interruptible || handlers == me.nr_handlers) fail_world("a wait was interrupted that nobody interrupted");
      break;
    case wait_outcome::stopped:
      ++seen_.waits_stopped;
      if (!me.was_stopped) fail_world("a wait was stopped that nobody stopped");
      break;
    case wait_outcome::served:
      fail_world("NULL for a request that was served");
    case wait_outcome::none:
    case wait_outcome::exhausted:
      break;
  }
}

void core_world::stop_somebody() {
  const size_t start = roll(actors_.size());
  for (size_t i = 0; i < actors_.size(); ++i) {
    actor& other = *actors_[(start + i) % actors_.size()];
    if (other.conditions == nullptr) continue;
    ++other.nr_stopping;
    other.was_stopped = true;
    wait_stop(*other.conditions);
    --other.nr_stopping;
    return;
  }
}

// ---- sleepers -------------------------------------------------------------------------------------------------------------------------

const waiter* core_world::waiter_on(const uint32_t* word) KMEM_NO_ANALYSIS {
  if (m_.queue.lock.is_locked()) return nullptr;  // somebody is just changing the queue
  for (waiter* one = m_.queue.first; one != nullptr; one = one->next)
    if (one->word.word() == word) return one;
  return nullptr;
}

int core_world::nr_asleep() {
  int n = 0;
  for (const actor* one : actors_) {
    const uint32_t* const word = simulation::sleeps_on(one->task);
    if (word == nullptr) continue;
    const auto is_of = [&](mempool* pool) { return pool->sequence.word() == word; };
    if (waiter_on(word) != nullptr || std::any_of(pools_.begin(), pools_.end(), is_of)) ++n;
  }
  return n;
}

void core_world::watch_sleepers() {
  watched = this;
  simulation::set_sleep_hook(on_sleep);
}

void core_world::on_sleep(const uint32_t* word) noexcept {
  if (watched == nullptr || word == &watched->gate_word_ || word == &watched->judge_word_) return;
  if (actor* const me = watched->running_actor(); me != nullptr) watched->note_sleep(*me, word);
  if (watched->gate_closed_) watched->wake_gate();
}

void core_world::note_sleep(actor& me, const uint32_t* word) {
  const waiter* const place = waiter_on(word);
  bool for_memory = place != nullptr || word == m_.free_sequence.word() || word == m_.throttle.word();
  for (mempool* const pool : pools_) for_memory |= word == pool->sequence.word();
  if (for_memory && me.atomic) fail_world("somebody sleeps for memory in atomic context");
  if (place == nullptr) return;
  ++seen_.sleeps;
  if (me.asked == nullptr) return;
  if (!has(me.asked->gfp, gfp::direct_reclaim)) fail_world("somebody sleeps for " + describe(*me.asked));
  if (left_for_sleeper(m_, *me.asked).empty()) {
    ++seen_.sound_sleeps;
    return;
  }
  call_judge();
}

void core_world::call_judge() {
  ++seen_.suspect_sleeps;
  ++judge_word_;
  plat::futex_wake(&judge_word_, 1);
}

void core_world::look_for_suspects() {
  simulation::run_alone(true);
  const bool found = std::any_of(actors_.begin(), actors_.end(), [&](const actor* one) {
    const uint32_t* const word = simulation::sleeps_on(one->task);
    if (word == nullptr || one->asked == nullptr || waiter_on(word) == nullptr) return false;
    return !left_for_sleeper(m_, *one->asked).empty();
  });
  simulation::run_alone(false);
  if (found) call_judge();
}

void core_world::check_sleepers() {
  for (const actor* one : actors_) {
    const uint32_t* const word = simulation::sleeps_on(one->task);
    if (word == nullptr) continue;
    for (mempool* const pool : pools_)
      if (word == pool->sequence.word() && pool->curr_nr.peek() != 0)
        fail_world("actor " + std::to_string(one->number) + " sleeps for an element of a mempool, which has some");
    const waiter* const place = waiter_on(word);
    if (place == nullptr || !load_.judged) continue;
    const std::string who = "actor " + std::to_string(one->number) + " sleeps for " +
                            (one->asked != nullptr ? describe(*one->asked) : std::string("memory"));
    if (*word != 0) fail_world(who + ", though it is its turn: nobody woke it");
    for (const wait_conditions* c = place->conditions; c != nullptr; c = c->outer)
      if ((c->state.peek() & wait_stopped) != 0) fail_world(who + ", though it was told to stop");
    if (one->asked == nullptr) continue;
    ++seen_.judged_sleepers;
    const std::string left = left_for_sleeper(m_, *one->asked);
    if (!left.empty()) fail_world(who + " and nobody will wake it, but there is: " + left);
  }
}

void core_world::run_judge() {
  for (uint32_t judged = 0; nr_actors_ != 0;) {
    const uint32_t wanted = judge_word_;
    if (wanted == judged) {
      plat::futex_wait(&judge_word_, wanted, ~uint64_t{0});
      continue;
    }
    while (gate_closed_) {
      const uint32_t word = gate_word_;
      plat::futex_wait(&gate_word_, word, ~uint64_t{0});
    }
    judged = judge_word_;
    if (!close_gate(0)) continue;
    check_sleepers();
    open_gate();
  }
  watched = nullptr;
}

}  // namespace kmem::sim_test
