// The operations of a core_world's tasks: what they ask for, how it is compared with what they got, and how it goes back.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "sim/scenario_world.hpp"

namespace kmem::sim_test {
namespace {

constexpr uint64_t constructed = 0x636f6e7374727563u;

void construct(void* object) noexcept { std::memcpy(object, &constructed, sizeof constructed); }

bool starts_with(const char* text, const char* prefix) { return std::strncmp(text, prefix, std::strlen(prefix)) == 0; }

}  // namespace

void core_world::make_caches() {
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

char* core_world::perform_for(actor& me, const ask& asked, const ask& effective) {
  me.asked = &effective;
  char* const begin = perform(asked);
  me.asked = nullptr;
  return begin;
}

void core_world::allocate(actor& me) {
  const ask asked = random_ask(me);
  const bool alone = percent(load_.chain != 0 ? 60 : 35);
  const uint64_t failures_before = nr_platform_failures_;
  if (alone) {
    simulation::run_alone(true);
    forget_callback_calls();
  }
  char* begin = nullptr;
  ask effective = asked;
  if (has(asked.gfp, gfp::direct_reclaim) && percent(6)) {
    const memalloc_nofs_scope scope;
    effective.gfp = current_gfp(asked.gfp);
    begin = perform_for(me, asked, effective);
  } else if (!has(asked.gfp, gfp::direct_reclaim) && percent(50)) {
    const preempt_guard guard;
    me.atomic = true;
    begin = perform_for(me, asked, asked);
    me.atomic = false;
  } else {
    begin = perform_for(me, asked, asked);
  }
  const bool exact = alone && simulation::runs_alone() && nr_platform_failures_ == failures_before;
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

// Taken off one by one: a giver may be interrupted by somebody who looks.
void core_world::give_all(std::vector<char*>& begins) {
  while (!begins.empty()) {
    char* const begin = begins.back();
    begins.pop_back();
    give(begin);
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
    give_all(mine.pages);
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

}  // namespace kmem::sim_test
