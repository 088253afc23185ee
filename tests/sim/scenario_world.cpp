#include "sim/scenario_world.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <utility>

namespace kmem::sim_test {
namespace {

constexpr uint64_t gate_patience_ns = 200'000'000;

core_world* hooked = nullptr;  // whose load's platform calls fail

}  // namespace

// ---- set-up -------------------------------------------------------------------------------------------------------------------------

core_world::core_world(world& w, const load& wanted, coverage& seen) : w_(w), load_(wanted), seen_(seen), m_(w.make<machine>()) {
  machine_config config;
  config.kswapd = kswapd_mode::off;  // unless a test asks for it
  config.cgroup = false;
  config_error error;
  const std::string& parameters = load_.parameters[w.random(load_.parameters.size())];
  if (!parse_config(parameters.c_str(), config, error)) fail_world(error.text);
  if (machine_init(m_, config, error) != err::ok) fail_world(parameters + ": " + error.text);
  if (percent(50))  // lists that take much at once, as those of a large machine do
    for (zone& z : m_.zones) {
      z.cpu_batch = 1u << roll(5);
      z.cpu_high = z.cpu_batch * 4;
    }
  make_caches();
  for (int i = 0; i < load_.nr_tasks; ++i) {
    auto& me = w.make<actor>();
    me.number = i;
    me.reclaimable.owner = me.shrinkable.owner = me.oom.owner = this;
    actors_.push_back(&me);
    me.task = w.spawn("actor" + std::to_string(i), [this, &me] { run_actor(me); });
    if (load_.handlers && i % 2 == 0) w.set_handler(me.task, [this, &me] { run_handler(me); });
  }
  nr_inside_ = nr_actors_ = load_.nr_tasks;
  if (load_.chain != 0) make_pools();
  if (load_.judged) w.spawn("judge", [this] { run_judge(); });
  w.at_end([this] { end_of_world(); });
  if (percent(load_.tight)) take_ballast();
  hooked = this;
  simulation::set_fail_hook(fail_platform_call);
  if (load_.judged) watch_sleepers();
  ready_ = true;
}

bool core_world::fail_platform_call(simulation::platform_call, size_t) noexcept {
  if (hooked == nullptr || simulation::random(1000) >= hooked->load_.platform_failures) return false;
  ++hooked->nr_platform_failures_;
  return true;
}

core_world::~core_world() {
  if (hooked == this) hooked = nullptr;
}

/// Takes all memory in small blocks and gives some of them back, so that what is free is little and scattered.
void core_world::take_ballast() {
  ask asked;
  asked.gfp = gfp::highuser_movable | gfp::nowarn | gfp::noretry;
  for (;;) {
    asked.pages = uint64_t{1} << (percent(70) ? 0 : roll(4));
    char* const begin = perform(asked);
    if (begin == nullptr) break;
    ballast_.push_back(begin);
  }
  for (uint64_t n = 10 + roll(ballast_.size() / load_.spare); n != 0 && !ballast_.empty(); --n) {
    const size_t at = roll(ballast_.size());
    std::swap(ballast_[at], ballast_.back());
    give(ballast_.back());
    ballast_.pop_back();
  }
}

// ---- the gate -----------------------------------------------------------------------------------------------------------------------

void core_world::wake_gate() {
  ++gate_word_;
  plat::futex_wake(&gate_word_, 1 << 30);
}

bool core_world::close_gate(int own) {
  if (gate_closed_) return false;
  gate_closed_ = true;
  const uint64_t deadline = plat::now_ns() + gate_patience_ns;
  const auto busy = [&] { return nr_inside_ - nr_asleep() > own || !simulation::services_sleep(); };
  while (busy()) {
    const uint32_t word = gate_word_;
    plat::futex_wait(&gate_word_, word, gate_patience_ns / 4);
    if (busy() && plat::now_ns() > deadline) {
      open_gate();
      return false;
    }
  }
  simulation::run_alone(true);
  return true;
}

void core_world::open_gate() {
  simulation::run_alone(false);
  gate_closed_ = false;
  wake_gate();
}

void core_world::pass_gate() {
  if (!gate_closed_) return;
  --nr_inside_;
  wake_gate();
  while (gate_closed_) {
    const uint32_t word = gate_word_;
    plat::futex_wait(&gate_word_, word, ~uint64_t{0});
  }
  ++nr_inside_;
}

// ---- tasks --------------------------------------------------------------------------------------------------------------------------

void core_world::run_actor(actor& me) {
  for (unsigned round = 0; round < load_.rounds; ++round) {
    pass_gate();
    one_operation(me);
    check_account();
    if (load_.judged && percent(10)) look_for_suspects();
    ++seen_.operations;
  }
  finish_actor(me);
}

void core_world::one_operation(actor& me) {
  if (percent(me.grows ? 2 : 8)) me.grows = !me.grows;
  if (me.shrinkable.registered && me.shrinkable.hooks.running != 0 && percent(70)) return toggle_shrinker(me);
  if (percent(load_.chain)) return chain_operation(me);
  const uint64_t dice = roll(100);
  if (load_.narrow && dice >= 70 && dice < 88) return maintain(me);
  if (dice < 60) return percent(me.grows ? load_.greed : 100 - load_.greed) ? allocate(me) : free_one(me);
  if (dice < 68) return hand_over(me);
  if (dice < 76) return take_over();
  if (dice < 81) return resize(me);
  if (dice < 85) return bulk(me);
  if (dice < 88) return area(me);
  if (dice < 92) return maintain(me);
  if (dice < 95) return toggle_cache(me);
  if (dice < 98) return toggle_callback(me);
  if (dice < 99) return walk(me);
  if (percent(load_.forks)) fork_now(me);
}

void core_world::finish_actor(actor& me) {
  me.ending = true;
  if (me.reclaimable.number >= 0) toggle_callback(me);
  finish_chain(me);
  while (!me.held.empty()) free_one(me);
  while (!me.held_by_handler.empty()) {
    char* const begin = me.held_by_handler.back();
    me.held_by_handler.pop_back();
    give(begin);
  }
  while (!mailbox_.empty()) take_over();
  if (me.own_cache != nullptr) toggle_cache(me);
  --nr_inside_;
  --nr_actors_;
  wake_gate();
  if (load_.judged) plat::futex_wake(&judge_word_, 1);
}

void core_world::run_handler(actor& me) {
  ++me.nr_handlers;
  if (me.ending || gate_closed_ || simulation::runs_alone() || !ready_) return;
  ++nr_inside_;
  ++seen_.handlers_run;
  {
    const hardirq_guard interrupt;
    const ask* const interrupted = std::exchange(me.asked, nullptr);
    const bool was_atomic = std::exchange(me.atomic, true);
    const bool alone = percent(30);
    const bool nested = current().depth != 0;
    if (alone) simulation::run_alone(true);
    if (!me.held_by_handler.empty() && percent(45)) {
      char* const begin = me.held_by_handler.back();
      me.held_by_handler.pop_back();
      give(begin);
    } else if (!mailbox_.empty() && percent(10)) {
      take_over();
    } else {
      ask asked;
      asked.gfp = gfp::atomic | gfp::nowarn;
      asked.kind = static_cast<ask::what>(roll(4));
      asked.pages = asked.kind == ask::what::run ? 1 + roll(3) : 1;
      asked.size = 1 + roll(600);
      asked.cache = caches_[roll(caches_.size() - 1)];
      if (load_.narrow) asked = narrow_ask(gfp::atomic | gfp::nowarn);
      if (char* const begin = perform(asked); begin != nullptr) {
        me.held_by_handler.push_back(begin);
      } else {
        ++seen_.nested_nulls;
        if (alone && simulation::runs_alone()) check_null(asked, nested);
      }
    }
    if (alone) simulation::run_alone(false);
    me.asked = interrupted;
    me.atomic = was_atomic;
  }
  --nr_inside_;
  if (gate_closed_) wake_gate();
}

void core_world::end_of_world() {
  for (char* const begin : ballast_) give(begin);
  if (!mailbox_.empty() || !shadow_.empty()) fail_world(std::to_string(shadow_.size()) + " ranges are still held at the end");
  hooked = nullptr;
  if (load_.chain != 0) end_of_pools();
  check_reserves();
  for (kmem_cache* const cache : caches_)
    if (cache_destroy(m_, cache) != err::ok) fail_world("a cache could not be destroyed at the end");
  drain_deferred_vfree(m_);  // areas that the last handlers freed
  drain_cpu_pages(m_, true);
  drain_caches(m_, true);
  drain_cpu_pages(m_, true);
  uint64_t slab_pages = 0;
  cache_info info;
  for (unsigned i = 0; read_cache_info(m_, i, info); ++i) {
    slab_pages += info.slabs * info.pages_per_slab;
    // kmalloc's DMA and reclaimable caches are made at first use and stay.
    if (info.active != 0 && std::strcmp(info.name, "kmem_cache") != 0)
      fail_world(std::string("objects of ") + info.name + " are still out");
  }
  if (const uint64_t charged = charged_pages(m_); charged != slab_pages)
    fail_world(std::to_string(charged) + " pages are still charged, slabs have " + std::to_string(slab_pages));
  if (const char* const wrong = machine_is_valid(m_)) fail_world(wrong);
  check_residency();
  page_alloc_totals totals;
  page_alloc_read_totals(m_, totals);
  seen_.worlds += 1;
  seen_.stalls += totals.allocstall;
  seen_.given_back += totals.pages_given_back;
  seen_.reserve_used += totals.reserve_used;
  seen_.reclaimed += totals.pgreclaimed;
  seen_.waits += totals.waits;
  seen_.deferred += totals.deferred_frees;
  seen_.drains += totals.cpu_list_drains;
  seen_.kswapd_rounds += m_.kswapd.pageoutrun.peek();
  seen_.turns += m_.stats.wait_turns.peek();
  seen_.platform_failures += nr_platform_failures_;
  if (totals.bad_pages != 0 || m_.bad_frees.peek() != 0) fail_world("the allocator refused a free that was right");
  if (context_violations() != 0) fail_world("a rule about contexts was broken");
  if (!machine_destroy(m_)) fail_world("the machine does not come down");
  if (simulation::nr_areas() != 0) fail_world("mappings are left when the machine is gone");
}

// ---- checks -------------------------------------------------------------------------------------------------------------------------

void core_world::check_account() {
  uint64_t committed = 0;
  for (const zone& z : m_.zones) {
    committed += z.committed.peek();
    if (z.committed.peek() > z.managed.peek()) fail_world("committed exceeds managed in zone " + std::to_string(static_cast<int>(z.idx)));
  }
  if (committed + m_.metadata_pages.peek() > m_.limit.raw()) fail_world("committed pages and metadata exceed the limit");
}

/// No page that counts as absent is resident.
void core_world::check_residency() {
  std::vector<unsigned char> resident(pages_per_block);
  for (const zone& z : m_.zones)
    for (uint32_t block = z.first_block; block < z.first_block + z.nr_blocks; ++block) {
      const page_block& b = m_.blocks[block];
      if (b.opened == 0) break;
      char* const begin = m_.address_of(pfn_t(block * pages_per_block));
      if (mincore(begin, block_bytes, resident.data()) != 0) fail_world("mincore refuses an opened block");
      for (unsigned i = 0; i < pages_per_block; ++i)
        if ((b.absent.words[i / 64] >> (i % 64) & 1) != 0 && (resident[i] & 1) != 0)
          fail_world("page " + std::to_string(block * pages_per_block + i) + " counts as absent, but is resident");
    }
}

void core_world::walk(actor&) {
  if (!close_gate()) return;
  ++seen_.walks;
  if (const char* const wrong = machine_is_valid(m_)) fail_world(wrong);
  shadow_.verify_all();
  check_residency();
  check_sleepers();
  if (!simulation::runs_alone()) fail_world("a walk of a quiet machine had to wait");
  open_gate();
}

void core_world::forget_callback_calls() {
  pages_reclaimed_ = 0;
  for (actor* other : actors_) other->reclaimable.calls = other->shrinkable.calls = other->oom.calls = 0;
}

bool core_world::can_never_fit(const ask& asked) {
  uint64_t n = asked.pages;
  if (asked.kind == ask::what::cache_object) return false;
  if (asked.kind == ask::what::kmalloc_object) {
    if (asked.size <= m_.class_max_bytes) return false;
    n = pages_for(asked.size).raw();
  }
  const unsigned highest = highest_zone(asked.gfp);
  for (unsigned i = 0; i <= highest; ++i) {
    const zone& z = m_.zones[i];
    if (z.nr_blocks == 0) continue;
    uint64_t floor = z.watermarks[0];
    if (has(asked.gfp, gfp::high)) {
      if (m_.config.policy == reserve_policy::linux6_1)
        floor -= floor / 2;
      else if (!has(asked.gfp, gfp::nomemalloc))
        floor = 0;
    }
    if (n + floor + z.lowmem_reserve[highest] <= z.managed_most) return false;
  }
  return true;
}

bool core_world::callback_was_passed_over(const ask& asked) {
  if (!has(asked.gfp, gfp::direct_reclaim) || has(asked.gfp, gfp::memalloc) || can_never_fit(asked)) return false;
  // A pass asks in turn until it has what it needs; how many passes there are depends on the flags.
  if (pages_reclaimed_ >= (asked.kind == ask::what::block || asked.kind == ask::what::run ? asked.pages : 1)) return false;
  for (const actor* other : actors_) {
    const cache_of_pages& c = other->reclaimable;
    if (c.number < 0 || c.calls != 0 || (c.needs & ~asked.gfp) != gfp::none) continue;
    for (const char* page_begin : c.pages)
      if (zone_number_of(m_, page_begin) <= highest_zone(asked.gfp)) return true;
  }
  return false;
}

void core_world::check_null(const ask& asked, bool nested) {
  const std::string left = nested ? left_over_in_reserve(m_, asked) : left_over(m_, asked);
  if (!left.empty()) fail_world("NULL for " + describe(asked) + (nested ? " in a nested handler" : "") + ", but there was: " + left);
}

void core_world::check_passed_over(const ask& asked) {
  if (callback_was_passed_over(asked)) fail_world("NULL for " + describe(asked) + ", but a callback that may run was not asked");
  const std::string other = chain_passed_over(asked);
  if (!other.empty()) fail_world("NULL for " + describe(asked) + ", but " + other);
}

void core_world::on_null(actor& me, const ask& asked, bool exact) {
  ++seen_.nulls;
  if (percent(20)) me.grows = false;
  if (!may_fail(asked.gfp)) fail_world("__GFP_NOFAIL got NULL: " + describe(asked));
  if (exact) {
    ++seen_.exact_nulls;
    check_null(asked, false);
    check_passed_over(asked);
    return;
  }
  simulation::run_alone(false);
  if (!percent(30) || !close_gate()) return;
  // Everybody stands between two operations: the same request now sees a state that nobody changes.
  const uint64_t failures_before = nr_platform_failures_;
  forget_callback_calls();
  char* const begin = perform_for(me, asked, asked);
  if (begin != nullptr) {
    me.held.push_back(begin);
    ++seen_.served_when_quiet;
  } else if (simulation::runs_alone() && nr_platform_failures_ == failures_before) {
    ++seen_.quiet_nulls;
    check_null(asked, false);
    check_passed_over(asked);
  }
  open_gate();
}

void expect_load_passes(const load& wanted, simulation::config knobs, uint64_t seeds, coverage& seen, uint64_t first) {
  if (knobs.max_steps < 60'000'000) knobs.max_steps = 60'000'000;
  expect_seeds_pass([&](world& w) { w.make<core_world>(w, wanted, seen); }, knobs, seeds, first);
}

bool runs_few_seeds() { return std::getenv("KMEM_SEED") != nullptr || std::getenv("KMEM_SEEDS") != nullptr || testing::Test::HasFailure(); }

}  // namespace kmem::sim_test
