#include "sim/scenario_world.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace kmem::sim_test {
namespace {

constexpr uint64_t gate_patience_ns = 200'000'000;
constexpr uint64_t constructed = 0x636f6e7374727563u;

void construct(void* object) noexcept { std::memcpy(object, &constructed, sizeof constructed); }

core_world* hooked = nullptr;  // whose load's platform calls fail
unsigned failures_per_mille = 0;
uint64_t nr_platform_failures = 0;

bool fail_platform_call(simulation::platform_call, size_t) noexcept {
  if (hooked == nullptr || simulation::random(1000) >= failures_per_mille) return false;
  ++nr_platform_failures;
  return true;
}

bool starts_with(const char* text, const char* prefix) { return std::strncmp(text, prefix, std::strlen(prefix)) == 0; }

}  // namespace

// ---- set-up -------------------------------------------------------------------------------------------------------------------------

core_world::core_world(world& w, const load& wanted, coverage& seen) : w_(w), load_(wanted), seen_(seen), m_(w.make<machine>()) {
  machine_config config;
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
  const cache_args shapes[] = {
      {.name = "sim_constructed", .object_size = 56, .constructor = construct},
      {.name = "sim_tiny", .object_size = 8, .flags = slab_flags_t::no_merge},
      {.name = "sim_lines", .object_size = 200, .flags = slab_flags_t::hwcache_align | slab_flags_t::no_merge},
      {.name = "sim_reclaimable", .object_size = 1000, .flags = slab_flags_t::reclaim_account},
      {.name = "sim_large", .object_size = 5000, .align = 64},
      {.name = "sim_dma", .object_size = 300, .flags = slab_flags_t::cache_dma | slab_flags_t::no_merge},
  };
  for (const cache_args& args : shapes) {
    caches_.push_back(cache_create(m_, args));
    if (caches_.back() == nullptr) fail_world("a cache could not be made");
  }
  for (int i = 0; i < load_.nr_tasks; ++i) {
    auto& me = w.make<actor>();
    me.number = i;
    me.reclaimable.owner = this;
    actors_.push_back(&me);
    const int task = w.spawn("actor" + std::to_string(i), [this, &me] { run_actor(me); });
    if (load_.handlers && i % 2 == 0) w.set_handler(task, [this, &me] { run_handler(me); });
  }
  nr_inside_ = load_.nr_tasks;
  w.at_end([this] { end_of_world(); });
  if (percent(load_.tight)) take_ballast();
  failures_per_mille = load_.platform_failures;
  nr_platform_failures = 0;
  hooked = this;
  simulation::set_fail_hook(fail_platform_call);
  ready_ = true;
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
  for (uint64_t n = 10 + roll(ballast_.size() / 2); n != 0 && !ballast_.empty(); --n) {
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

bool core_world::close_gate() {
  if (gate_closed_) return false;
  gate_closed_ = true;
  const uint64_t deadline = plat::now_ns() + gate_patience_ns;
  while (nr_inside_ > 1) {
    const uint32_t word = gate_word_;
    plat::futex_wait(&gate_word_, word, gate_patience_ns / 4);
    if (nr_inside_ > 1 && plat::now_ns() > deadline) {  // somebody sleeps until memory is freed
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
    ++seen_.operations;
  }
  finish_actor(me);
}

void core_world::one_operation(actor& me) {
  if (percent(me.grows ? 2 : 8)) me.grows = !me.grows;
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
  while (!me.held.empty()) free_one(me);
  while (!me.held_by_handler.empty()) {
    char* const begin = me.held_by_handler.back();
    me.held_by_handler.pop_back();
    give(begin);
  }
  while (!mailbox_.empty()) take_over();
  if (me.own_cache != nullptr) toggle_cache(me);
  --nr_inside_;
  wake_gate();
}

void core_world::run_handler(actor& me) {
  if (me.ending || gate_closed_ || simulation::runs_alone() || !ready_) return;
  ++nr_inside_;
  ++seen_.handlers_run;
  {
    const hardirq_guard interrupt;
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
  }
  --nr_inside_;
  if (gate_closed_) wake_gate();
}

void core_world::end_of_world() {
  for (char* const begin : ballast_) give(begin);
  if (!mailbox_.empty() || !shadow_.empty()) fail_world(std::to_string(shadow_.size()) + " ranges are still held at the end");
  hooked = nullptr;
  for (kmem_cache* const cache : caches_)
    if (cache_destroy(m_, cache) != err::ok) fail_world("a cache could not be destroyed at the end");
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
  seen_.platform_failures += nr_platform_failures;
  if (totals.bad_pages != 0 || m_.bad_frees.peek() != 0) fail_world("the allocator refused a free that was right");
  if (context_violations() != 0) fail_world("a rule about contexts was broken");
  if (!machine_destroy(m_)) fail_world("the machine does not come down");
  if (simulation::nr_areas() != 0) fail_world("mappings are left when the machine is gone");
}

// ---- checks -------------------------------------------------------------------------------------------------------------------------

void core_world::check_account() {
  uint64_t committed = 0, managed = 0;
  for (const zone& z : m_.zones) {
    committed += z.committed.peek();
    managed += z.managed.peek();
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
  if (!simulation::runs_alone()) fail_world("a walk of a quiet machine had to wait");
  open_gate();
}

void core_world::forget_callback_calls() {
  pages_reclaimed_ = 0;
  for (actor* other : actors_) other->reclaimable.calls = 0;
}

bool core_world::callback_was_passed_over(const ask& asked) {
  if (!has(asked.gfp, gfp::direct_reclaim) || has(asked.gfp, gfp::memalloc)) return false;
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

void core_world::on_null(actor& me, const ask& asked, bool exact) {
  ++seen_.nulls;
  if (percent(20)) me.grows = false;
  if (!may_fail(asked.gfp)) fail_world("__GFP_NOFAIL got NULL: " + describe(asked));
  if (exact) {
    ++seen_.exact_nulls;
    check_null(asked, false);
    if (callback_was_passed_over(asked)) fail_world("NULL for " + describe(asked) + ", but a callback that may run was not asked");
    return;
  }
  simulation::run_alone(false);
  if (!percent(30) || !close_gate()) return;
  // Everybody stands between two operations: the same request now sees a state that nobody changes.
  const uint64_t failures_before = nr_platform_failures;
  forget_callback_calls();
  char* const begin = perform(asked);
  if (begin != nullptr) {
    me.held.push_back(begin);
    ++seen_.served_when_quiet;
  } else if (simulation::runs_alone() && nr_platform_failures == failures_before) {
    ++seen_.quiet_nulls;
    check_null(asked, false);
    if (callback_was_passed_over(asked)) fail_world("NULL for " + describe(asked) + ", but a callback that may run was not asked");
  }
  open_gate();
}

// ---- allocating and freeing -----------------------------------------------------------------------------------------------------------

gfp_t core_world::random_mask(actor& me) {
  constexpr gfp_t masks[] = {gfp::kernel,
                             gfp::kernel,
                             gfp::kernel,
                             gfp::atomic,
                             gfp::atomic,
                             gfp::nowait,
                             gfp::noio,
                             gfp::nofs,
                             gfp::user,
                             gfp::kernel | gfp::noretry,
                             gfp::kernel | gfp::retry_mayfail,
                             gfp::kernel | gfp::high,
                             gfp::kernel | gfp::dma,
                             gfp::atomic | gfp::dma,
                             gfp::nowait | gfp::memalloc,
                             gfp::kernel | gfp::nomemalloc,
                             gfp::kernel | gfp::reclaimable,
                             gfp::kernel | gfp::zero,
                             gfp::kernel | gfp::cold};
  constexpr size_t nr = sizeof masks / sizeof masks[0];
  gfp_t mask = masks[roll(nr)];
  if (load_.waits && me.number == 0 && percent(10)) mask = gfp::kernel | gfp::nofail;
  return percent(90) ? mask | gfp::nowarn : mask;
}

ask core_world::narrow_ask(gfp_t mask) {
  ask asked;
  asked.gfp = mask;
  switch (roll(4)) {
    case 0:
      asked.kind = ask::what::block;
      break;
    case 1:  // no power of two: past the CPU's list, to the zone
      asked.kind = ask::what::run;
      asked.pages = 3;
      break;
    case 2:
      asked.kind = ask::what::kmalloc_object;
      asked.size = 100;
      break;
    default:
      asked.kind = ask::what::cache_object;
      asked.cache = caches_[2];
      break;
  }
  return asked;
}

ask core_world::random_ask(actor& me) {
  if (load_.narrow) return narrow_ask((percent(60) ? gfp::kernel : gfp::atomic) | gfp::nowarn);
  ask asked;
  asked.gfp = random_mask(me);
  asked.kind = static_cast<ask::what>(roll(4));
  const unsigned orders = load_.most_order < m_.max_order ? load_.most_order : m_.max_order;
  unsigned order = 0;
  switch (roll(10)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
      break;
    case 5:
    case 6:
      order = 1 + static_cast<unsigned>(roll(3));
      break;
    case 7:
    case 8:
      order = static_cast<unsigned>(roll(7));
      break;
    default:
      order = static_cast<unsigned>(roll(orders));
      break;
  }
  if (order >= orders) order = orders - 1;
  switch (asked.kind) {
    case ask::what::block:
      asked.pages = uint64_t{1} << order;
      if (percent(20) && !has(asked.gfp, gfp::dma)) asked.gfp = (asked.gfp | gfp::highmem_bit | gfp::movable) & ~gfp::reclaimable;
      if (order > 0 && percent(20)) asked.gfp |= gfp::comp;
      break;
    case ask::what::run:
      asked.pages = (uint64_t{1} << order) + roll(uint64_t{1} << order);
      break;
    case ask::what::kmalloc_object: {
      constexpr size_t limits[] = {64, 256, 512, 1024, 4096, 8192, 32768, 300'000};
      asked.size = 1 + roll(limits[roll(8)]);
      break;
    }
    case ask::what::cache_object:
      asked.cache = me.own_cache != nullptr && percent(30) ? me.own_cache : caches_[roll(caches_.size())];
      asked.gfp &= ~(gfp::zero | gfp::dma);
      break;
  }
  if (!may_fail(asked.gfp)) {  // only what is sure to come free again: a page, when everybody else has ended
    if (asked.kind == ask::what::cache_object) asked.kind = ask::what::block;
    asked.pages = 1;
    asked.size = 1 + roll(4096);
  }
  return asked;
}

char* core_world::enter(holding h, gfp_t mask) {
  const unsigned zone = zone_number_of(m_, h.begin);
  if (zone > highest_zone(mask)) fail_world(hex(h.begin) + " lies in zone " + std::to_string(zone) + ", which the flags do not allow");
  if (has(mask, gfp::zero) && find_nonzero(h.begin, h.bytes) != h.bytes)
    fail_world("__GFP_ZERO gave memory that is not zero at " + hex(h.begin));
  shadow_.add(h);
  return h.begin;
}

char* core_world::perform(const ask& asked) {
  holding h;
  gfp_t zones = asked.gfp;
  switch (asked.kind) {
    case ask::what::block:
    case ask::what::run: {
      const bool block = asked.kind == ask::what::block;
      h.kind = block ? holding_kind::block : holding_kind::run;
      h.order = static_cast<unsigned>(__builtin_ctzll(asked.pages));
      h.head = block ? alloc_pages(m_, asked.gfp, order_t(h.order)) : alloc_run(m_, asked.gfp, nr_pages_t(asked.pages));
      if (h.head == nullptr) return nullptr;
      h.begin = m_.address_of(m_.pfn_of(h.head));
      h.bytes = bytes(nr_pages_t(asked.pages));
      const uint32_t pfn = m_.pfn_of(h.head).raw();
      if (block && pfn % asked.pages != 0) fail_world("pfn " + std::to_string(pfn) + " is not aligned to its order");
      break;
    }
    case ask::what::kmalloc_object:
      h.kind = holding_kind::kmalloc_object;
      h.begin = static_cast<char*>(kmalloc(m_, asked.size, asked.gfp));
      if (h.begin == nullptr) return nullptr;
      h.bytes = ksize(m_, h.begin);
      if (h.bytes < asked.size) fail_world("ksize is less than what was asked for");
      if (is_power_of_two(asked.size) && asked.size <= size_class_max && reinterpret_cast<uintptr_t>(h.begin) % asked.size != 0)
        fail_world("kmalloc of a power of two is not naturally aligned");
      zones &= ~(gfp::highmem_bit | gfp::movable);
      break;
    case ask::what::cache_object:
      h.kind = holding_kind::cache_object;
      h.cache = asked.cache;
      h.begin = static_cast<char*>(cache_alloc(m_, *asked.cache, asked.gfp));
      if (h.begin == nullptr) return nullptr;
      h.bytes = asked.cache->object_size;
      if (cache_of(m_, h.begin) != asked.cache) fail_world("an object lies in a slab of another cache");
      if (reinterpret_cast<uintptr_t>(h.begin) % asked.cache->align != 0) fail_world("an object is not aligned as its cache says");
      if (asked.cache->constructor != nullptr && std::memcmp(h.begin, &constructed, sizeof constructed) != 0)
        fail_world("an object is not as its constructor left it");
      zones = (zones & ~(gfp::highmem_bit | gfp::movable)) | asked.cache->slab_gfp;
      break;
  }
  return enter(h, zones);
}

void core_world::allocate(actor& me) {
  const ask asked = random_ask(me);
  const bool alone = percent(35);
  const uint64_t failures_before = nr_platform_failures;
  if (alone) {
    simulation::run_alone(true);
    forget_callback_calls();
  }
  char* begin = nullptr;
  ask effective = asked;
  if (has(asked.gfp, gfp::direct_reclaim) && percent(6)) {
    const memalloc_nofs_scope scope;
    effective.gfp = current_gfp(asked.gfp);
    begin = perform(asked);
  } else if (!has(asked.gfp, gfp::direct_reclaim) && percent(50)) {
    const preempt_guard guard;
    begin = perform(asked);
  } else {
    begin = perform(asked);
  }
  const bool exact = alone && simulation::runs_alone() && nr_platform_failures == failures_before;
  if (begin != nullptr)
    me.held.push_back(begin);
  else
    on_null(me, effective, exact);
  simulation::run_alone(false);
}

void core_world::give(char* begin) {
  const holding h = shadow_.remove(begin);
  switch (h.kind) {
    case holding_kind::block:
      free_pages(m_, h.head, order_t(h.order));
      break;
    case holding_kind::run:
      free_run(m_, h.head);
      break;
    case holding_kind::exact:
      free_pages_exact(m_, h.begin, h.bytes);
      break;
    case holding_kind::kmalloc_object:
      kfree(m_, h.begin);
      break;
    case holding_kind::cache_object:
      if (h.cache->constructor != nullptr) construct(h.begin);
      cache_free(m_, *h.cache, h.begin);
      break;
    case holding_kind::area:
      kvfree(m_, h.begin);
      break;
  }
}

void core_world::free_one(actor& me) {
  if (me.held.empty()) return;
  const size_t at = percent(50) ? me.held.size() - 1 : roll(me.held.size());
  char* const begin = me.held[at];
  me.held[at] = me.held.back();
  me.held.pop_back();
  give(begin);
}

void core_world::hand_over(actor& me) {
  if (me.held.empty()) return;
  const size_t at = roll(me.held.size());
  char* const begin = me.held[at];
  if (me.own_cache != nullptr && cache_of(m_, begin) == me.own_cache) return;  // whoever takes it may outlive the cache
  for (size_t i = 0; i < me.held.size(); ++i) {
    if (me.held[i] != begin) continue;
    me.held[i] = me.held.back();
    me.held.pop_back();
    mailbox_.push_back(begin);
    ++seen_.handed_over;
    return;
  }
}

void core_world::take_over() {
  if (mailbox_.empty()) return;
  const size_t at = roll(mailbox_.size());
  char* const begin = mailbox_[at];
  mailbox_[at] = mailbox_.back();
  mailbox_.pop_back();
  give(begin);
}

void core_world::resize(actor& me) {
  if (me.held.empty()) return;
  char* const begin = me.held.back();
  const bool is_area = !m_.contains(begin);
  if (is_area || cache_of(m_, begin) == nullptr || !starts_with(cache_of(m_, begin)->name, "kmalloc-")) return;
  me.held.pop_back();
  holding h = shadow_.remove(begin);
  const size_t wanted = 1 + roll(h.bytes * 3);
  auto* const moved = static_cast<char*>(krealloc(m_, begin, wanted, gfp::kernel | gfp::nowarn));
  char* const now = moved != nullptr ? moved : begin;
  const size_t size = ksize(m_, now), kept = moved == nullptr || h.bytes < wanted ? h.bytes : wanted;
  if (find_damage(now, kept / 8 * 8, h.tag) != kept / 8 * 8) fail_world("krealloc lost contents");
  h.begin = now;
  h.bytes = size;
  shadow_.add(h);
  me.held.push_back(now);
}

void core_world::bulk(actor& me) {
  kmem_cache& cache = *caches_[roll(caches_.size())];
  void* objects[40];
  const size_t n = 1 + roll(40);
  if (cache_alloc_bulk(m_, cache, gfp::kernel | gfp::nowarn, n, objects) == 0) return;
  for (size_t i = 0; i < n; ++i) {
    holding h;
    h.kind = holding_kind::cache_object;
    h.cache = &cache;
    h.begin = static_cast<char*>(objects[i]);
    h.bytes = cache.object_size;
    enter(h, cache.slab_gfp);
  }
  const size_t kept = roll(n + 1);
  for (size_t i = 0; i < kept; ++i) me.held.push_back(static_cast<char*>(objects[i]));
  for (size_t i = kept; i < n; ++i) {
    shadow_.remove(static_cast<char*>(objects[i]));
    if (cache.constructor != nullptr) construct(objects[i]);
  }
  cache_free_bulk(m_, cache, n - kept, objects + kept);
}

void core_world::area(actor& me) {
  holding h;
  h.kind = holding_kind::area;
  const size_t size = 1 + roll(percent(50) ? 20'000 : 400'000);
  h.begin = static_cast<char*>(kvmalloc(m_, size, gfp::kernel | gfp::nowarn, nullptr));
  if (h.begin == nullptr) return;
  h.bytes = kvsize(m_, h.begin);
  if (h.bytes < size) fail_world("kvmalloc gave less than was asked for");
  shadow_.add(h);
  me.held.push_back(h.begin);
}

// ---- everything else --------------------------------------------------------------------------------------------------------------------

void core_world::maintain(actor&) {
  switch (roll(6)) {
    case 0:
      drain_cpu_pages(m_, percent(50));
      break;
    case 1:
      drain_caches(m_, percent(50));
      break;
    case 2:
      cache_shrink(m_, *caches_[roll(caches_.size())]);
      break;
    case 3:
      give_back(m_, 1 + roll(600), percent(50));
      break;
    case 4:
      refill_reserve(m_);
      break;
    default: {
      // A reader of texts: snapshots at any moment must be readable, whatever they say.
      zone_snapshot snapshot;
      snapshot_zone(m_, static_cast<zone_idx>(roll(nr_zones)), snapshot);
      cache_info info;
      for (unsigned i = 0; read_cache_info(m_, i, info) && i < 8; ++i) KMEM_SIM_CHECK(info.active <= info.total);
      break;
    }
  }
}

void core_world::toggle_cache(actor& me) {
  if (me.own_cache == nullptr) {
    cache_args args;
    args.name = "sim_own";
    args.object_size = 16 + 8 * roll(100);
    args.flags = percent(50) ? slab_flags_t::no_merge : slab_flags_t::none;
    me.own_cache = cache_create(m_, args);
    ++seen_.caches_made;
    return;
  }
  kmem_cache* const cache = me.own_cache;
  me.own_cache = nullptr;
  for (size_t i = me.held.size(); i-- != 0;) {
    char* const begin = me.held[i];
    if (!m_.contains(begin) || cache_of(m_, begin) != cache) continue;
    const auto at = std::find(me.held.begin(), me.held.end(), begin);
    *at = me.held.back();
    me.held.pop_back();
    give(begin);
  }
  if (cache_destroy(m_, cache) != err::ok) fail_world("a cache without objects could not be destroyed");
}

uint64_t core_world::reclaim(void* context, gfp_t mask, uint64_t nr_pages) noexcept {
  auto& mine = *static_cast<cache_of_pages*>(context);
  core_world& core = *mine.owner;
  ++mine.calls;
  ++core.seen_.callbacks_run;
  if ((mine.needs & ~mask) != gfp::none) fail_world("a callback was asked by an allocation that may not use it");
  if (core.percent(20)) {  // who frees memory may need some
    void* const own = kmalloc(core.m_, 64, gfp::kernel | gfp::nowarn);
    kfree(core.m_, own);
  }
  uint64_t freed = 0;
  while (freed < nr_pages && !mine.pages.empty()) {
    char* const begin = mine.pages.back();
    mine.pages.pop_back();
    core.give(begin);
    ++freed;
  }
  if (mine.gone) fail_world("a callback ran on after it had been unregistered");
  core.seen_.callback_pages += freed;
  core.pages_reclaimed_ += freed;
  return freed;
}

void core_world::toggle_callback(actor& me) {
  cache_of_pages& mine = me.reclaimable;
  if (mine.number >= 0) {
    const int number = mine.number;
    mine.number = -1;
    unregister_callback(m_, number);
    mine.gone = true;
    while (!mine.pages.empty()) {
      char* const begin = mine.pages.back();
      mine.pages.pop_back();
      give(begin);
    }
    return;
  }
  if (me.ending) return;
  const uint64_t n = 1 + roll(40);
  ask asked;
  asked.gfp = gfp::highuser_movable | gfp::nowarn | gfp::noretry;
  for (uint64_t i = 0; i < n; ++i) {
    char* const begin = perform(asked);
    if (begin == nullptr) break;
    mine.pages.push_back(begin);
  }
  constexpr gfp_t needs[] = {gfp::none, gfp::io, gfp::io | gfp::fs};
  mine.needs = needs[roll(3)];
  mine.calls = 0;
  mine.gone = false;
  mine.number = register_callback(m_, {&mine, &core_world::reclaim, mine.needs});
  if (mine.number < 0) fail_world("a callback could not be registered");
}

void expect_load_passes(const load& wanted, simulation::config knobs, uint64_t seeds, coverage& seen, uint64_t first) {
  if (knobs.max_steps < 60'000'000) knobs.max_steps = 60'000'000;
  expect_seeds_pass([&](world& w) { w.make<core_world>(w, wanted, seen); }, knobs, seeds, first);
}

bool runs_few_seeds() { return std::getenv("KMEM_SEED") != nullptr || std::getenv("KMEM_SEEDS") != nullptr || testing::Test::HasFailure(); }

}  // namespace kmem::sim_test
