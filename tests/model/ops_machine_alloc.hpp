// Part of ops_machine.hpp: the operations that hand memory out or take it back, right and wrong.
#pragma once
#include "model/ops_machine.hpp"

namespace kmem::testing {

/// Takes what was handed out into the model, with its pattern.
inline void ops_machine::keep(entry e, bool zeroed, std::size_t asked) {
  if (e.bytes < asked) throw ops_error("asked for " + std::to_string(asked) + " bytes, may use " + std::to_string(e.bytes));
  check_place(e, now_.gfp);
  if (zeroed) check_zero(e.at, 0, asked, "zeroed memory");
  ranges_.add(e.at, e.bytes);
  e.id = ++ids_;
  fill_pattern(e.at, e.bytes, e.id);
  held_.push_back(e);
}

/// The zone of everything in the arena is one that the mask allows.
inline void ops_machine::check_place(const entry& e, gfp_t gfp) const {
  const machine& m = *machine_;
  if (!m.contains(e.at)) {
    if (e.kind != entry_kind::vmalloc && e.kind != entry_kind::kvmalloc) throw ops_error("memory outside the arena: " + hex_text(e.at));
    return;
  }
  gfp_t mask = gfp;
  if (e.kind != entry_kind::pages && e.kind != entry_kind::run) mask &= ~(gfp::highmem_bit | gfp::movable | gfp::dma32);
  if (e.kind == entry_kind::exact) mask = gfp & ~gfp::highmem_bit;
  if (e.kind == entry_kind::object) {
    mask &= ~gfp::dma;
    for (const cache_slot& slot : slots_)
      if (slot.cache == e.cache && slot.dma) mask |= gfp::dma;
  }
  auto highest = static_cast<unsigned>(gfp_zone(mask));
  if (highest < static_cast<unsigned>(zone_idx::normal) && m.zones[highest].nr_blocks == 0)
    highest = static_cast<unsigned>(zone_idx::normal);
  for (const char* at : {e.at, e.at + e.bytes - 1}) {
    const std::uint32_t block = m.pfn_of(at).raw() / pages_per_block;
    unsigned zone = 0;
    while (zone < nr_zones && block - m.zones[zone].first_block >= m.zones[zone].nr_blocks) ++zone;
    if (zone > highest) throw ops_error("in zone " + std::to_string(zone) + ", allowed up to " + std::to_string(highest));
  }
}

/// Is there so much free memory that a request for n pages has no excuse?
inline bool ops_machine::must_succeed(std::uint64_t n) const {
  const machine& m = *machine_;
  if (points_armed_ || now_.fail_nth != 0 || now_.scopes != 0 || now_.context != op_context::process || now_.nested) return false;
  if (!may_block(now_.gfp) || has(now_.gfp, gfp::dma | gfp::dma32 | gfp::memalloc) || m.config.span != 0) return false;
  const zone& normal = m.zones[static_cast<unsigned>(zone_idx::normal)];
  const std::uint64_t managed = normal.managed.load_relaxed(), taken = normal.taken.load_relaxed();
  const std::uint64_t kept = normal.watermarks[0] + normal.lowmem_reserve[static_cast<unsigned>(zone_idx::movable)];
  return managed > taken + kept + n + plenty_pages;
}

inline void ops_machine::expect_served(bool served, std::uint64_t n, const char* what) const {
  if (!served && (must_succeed(n) || (!may_fail(now_.gfp) && may_block(now_.gfp))))
    throw ops_error(std::string(what) + " of " + std::to_string(n) + " pages failed with plenty free");
}

inline void ops_machine::allocate(const operation& op) {
  machine& m = *machine_;
  const gfp_t gfp = now_.gfp;
  const std::size_t size = size_from(op.size);
  const std::uint64_t n = pages_for(size).raw();
  entry e;
  std::size_t align = size >= 16 ? 16 : 8, wanted_align = 1;
  if (is_power_of_two(size)) align = size < 8 ? 8 : size;
  switch (op.kind) {
    case op_kind::kmalloc_align: {
      wanted_align = std::size_t{1} << op.pick % 18;
      if (wanted_align > align) align = wanted_align;
      e.at = static_cast<char*>(kmalloc_aligned(m, size, wanted_align, gfp));
      break;
    }
    case op_kind::kmalloc_huge:
      e.at = static_cast<char*>(kmalloc_huge(m, size, 1, gfp));
      break;
    case op_kind::vmalloc:
      e.kind = entry_kind::vmalloc;
      align = page_size;
      e.at = static_cast<char*>(vmalloc(m, size, gfp, nullptr));
      break;
    case op_kind::kvmalloc:
      e.kind = entry_kind::kvmalloc;
      align = 8;
      e.at = static_cast<char*>(kvmalloc(m, size, gfp, nullptr));
      break;
    default:
      e.at = static_cast<char*>(kmalloc(m, size, gfp));
  }
  // The zero pointer, 16, is as aligned as that; for more there is memory.
  if (size == 0 && op.kind != op_kind::vmalloc && wanted_align <= reinterpret_cast<std::uintptr_t>(zero_size_ptr)) {
    if (e.at == nullptr && (points_armed_ || now_.fail_nth != 0)) return;
    if (e.at != zero_size_ptr) throw ops_error("0 bytes are not the zero pointer");
    return kvfree(m, e.at);
  }
  const bool too_large = size > m.kmalloc_max_bytes && op.kind != op_kind::kmalloc_huge && op.kind != op_kind::vmalloc;
  if (e.at == nullptr) {
    // For an alignment that the run would not have anyway more pages are asked for than are kept.
    const std::uint64_t whole = run_alignment(n) < align >> page_shift ? std::max(2 * n, std::uint64_t{align >> page_shift}) : n;
    if (size != 0 && (!too_large || op.kind == op_kind::kvmalloc)) expect_served(false, whole, "kmalloc or vmalloc");
    return;
  }
  if (too_large && op.kind != op_kind::kvmalloc) throw ops_error("more than kmalloc_max was served");
  check_aligned(e.at, align, op_names[static_cast<unsigned>(op.kind)]);
  e.bytes = e.kind == entry_kind::kmalloc ? ksize(m, e.at) : kvsize(m, e.at);
  if (e.kind == entry_kind::vmalloc) {
    if (!is_vmalloc_addr(m, e.at) || is_vmalloc_addr(m, e.at + e.bytes)) throw ops_error("is_vmalloc_addr does not know the area");
    if (plat::is_readable(e.at - 8) || plat::is_readable(e.at + e.bytes)) throw ops_error("a guard page is readable");
  }
  keep(e, has(gfp, gfp::zero), size);
}

inline void ops_machine::allocate_pages(const operation& op) {
  machine& m = *machine_;
  const gfp_t gfp = now_.gfp;
  const bool zeroed = has(gfp, gfp::zero);
  entry e;
  std::size_t asked = 0;
  if (op.kind == op_kind::pages) {
    // Small orders more often; one beyond the last as well.
    const unsigned order = op.size % 4 != 0 ? op.size / 4 % 4 : op.size / 4 % 13;
    e.kind = entry_kind::pages;
    e.order = order;
    e.head = alloc_pages(m, gfp, order_t(order));
    if (order >= m.max_order) {
      if (e.head != nullptr) throw ops_error("an order of MAX_ORDER was served");
      return;
    }
    asked = page_size << order;
    if (e.head != nullptr) check_aligned(m.address_of(m.pfn_of(e.head)), asked, "a block");
  } else if (op.kind == op_kind::run) {
    const std::uint64_t n = op.size % 4 != 0 ? 1 + op.size / 4 % 40 : 1 + op.size / 4 % 2100;
    e.kind = entry_kind::run;
    e.head = alloc_run(m, gfp, nr_pages_t(n));
    asked = n << page_shift;
    if (e.head != nullptr && run_pages(e.head).raw() != n) throw ops_error("a run of another length than asked for");
  } else {
    const std::size_t size = size_from(op.size);
    e.kind = entry_kind::exact;
    e.at = static_cast<char*>(alloc_pages_exact(m, size, gfp));
    asked = bytes(pages_for(size));
    if (asked == 0 || order_for(size).raw() >= m.max_order) {
      if (e.at != nullptr) throw ops_error("alloc_pages_exact of 0 bytes, or of more than a block, was served");
      return;
    }
  }
  if (e.head != nullptr) e.at = m.address_of(m.pfn_of(e.head));
  if (e.at == nullptr) return expect_served(false, asked >> page_shift, op_names[static_cast<unsigned>(op.kind)]);
  e.bytes = asked;
  keep(e, zeroed, asked);
}

inline void ops_machine::reallocate(const operation& op) {
  if (held_.empty()) return;
  machine& m = *machine_;
  const std::size_t index = pick_of(op);
  entry e = held_[index];
  if (op.kind == op_kind::resize) {
    if (e.kind != entry_kind::run) return;
    const std::uint64_t n = op.size % 2 != 0 ? 1 + op.size / 2 % 40 : 1 + op.size / 2 % 1200;
    check_pattern(e.at, e.bytes, e.bytes, e.id, "before resize_run");
    const bool done = resize_run(m, e.head, nr_pages_t(n), now_.gfp);
    if (!done && n <= e.bytes >> page_shift) throw ops_error("a run could not shrink");
    if (!done) return;
    const std::size_t now = n << page_shift;
    check_pattern(e.at, e.bytes, std::min(e.bytes, now), e.id, "after resize_run");
    ranges_.remove(e.at);
    ranges_.add(e.at, now);
    e.bytes = now;
    fill_pattern(e.at, e.bytes, e.id);
    held_[index] = e;
    return;
  }
  const bool kv = op.kind == op_kind::kvrealloc;
  if (e.kind != (kv ? entry_kind::kvmalloc : entry_kind::kmalloc)) return;
  const std::size_t size = size_from(op.size);
  check_pattern(e.at, e.bytes, e.bytes, e.id, "before krealloc");
  auto* const at = static_cast<char*>(kv ? kvrealloc(m, e.at, size, now_.gfp, nullptr) : krealloc(m, e.at, size, now_.gfp));
  if (at == nullptr) {
    check_pattern(e.at, e.bytes, e.bytes, e.id, "krealloc failed");
    if (size <= e.bytes && !kv) throw ops_error("krealloc to a smaller size failed");
    if (kv || size <= m.kmalloc_max_bytes) expect_served(false, pages_for(size).raw(), "krealloc");
    return;
  }
  ranges_.remove(e.at);
  if (size == 0) {
    if (at != zero_size_ptr) throw ops_error("krealloc to 0 bytes is not the zero pointer");
    held_[index] = held_.back();
    held_.pop_back();
    return;
  }
  const std::size_t usable = kv ? kvsize(m, at) : ksize(m, at);
  if (usable < size) throw ops_error("krealloc to " + std::to_string(size) + " bytes, may use " + std::to_string(usable));
  check_pattern(at, e.bytes, std::min(e.bytes, size), e.id, "after krealloc");
  if (has(now_.gfp, gfp::zero) && size > e.bytes) check_zero(at, e.bytes, size, "krealloc with zero");
  if (usable > 8) check_aligned(at, 8, "krealloc");
  ranges_.add(at, usable);
  e.at = at;
  e.bytes = usable;
  e.id = ++ids_;
  fill_pattern(e.at, e.bytes, e.id);
  held_[index] = e;
  // The zone of what moved may be the old one's: a run that stays where it is was placed by another mask.
}

inline void ops_machine::bulk(const operation& op) {
  machine& m = *machine_;
  if (op.kind == op_kind::page_bulk) {
    page* pages[48] = {};
    const unsigned n = 1 + op.size % 48;
    const unsigned filled = alloc_pages_bulk(m, now_.gfp, n, pages);
    unsigned counted = 0;
    for (page* const p : pages) {
      if (p == nullptr) continue;
      ++counted;
      entry e;
      e.kind = entry_kind::pages;
      e.head = p;
      e.at = m.address_of(m.pfn_of(p));
      e.bytes = page_size;
      keep(e, has(now_.gfp, gfp::zero), page_size);
    }
    if (counted != filled) throw ops_error("alloc_pages_bulk counts other than it fills");
    expect_served(filled == n, n, "alloc_pages_bulk");
    return;
  }
  const cache_slot slot = slots_[op.pick % nr_slots];
  if (slot.cache == nullptr) return;
  if (op.kind == op_kind::cache_give) {
    void* objects[100] = {};
    unsigned n = 0;
    for (std::size_t i = held_.size(); i-- != 0 && n < 1u + op.size % 100;) {
      const entry e = held_[i];
      if (e.kind != entry_kind::object || e.cache != slot.cache) continue;
      check_pattern(e.at, e.bytes, e.bytes, e.id, "before kmem_cache_free_bulk");
      if (slot.constructed) constructor_of_ops(e.at);
      ranges_.remove(e.at);
      objects[n++] = e.at;
      held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
    }
    return cache_free_bulk(m, *slot.cache, n, objects);
  }
  const std::size_t n = op.kind == op_kind::cache_bulk ? 1 + op.size % 200 : 1;
  void* objects[200] = {};
  if (op.kind == op_kind::cache_bulk) {
    if (cache_alloc_bulk(m, *slot.cache, now_.gfp, n, objects) != n) objects[0] = nullptr;
  } else {
    objects[0] = cache_alloc(m, *slot.cache, now_.gfp);
  }
  if (objects[0] == nullptr) {
    const std::uint64_t slabs = n / slot.cache->capacity + 1;
    if (!slot.dma && !(slot.constructed && has(now_.gfp, gfp::zero)))
      expect_served(false, slabs << slot.cache->slab_order, "kmem_cache_alloc");
    return;
  }
  for (std::size_t i = 0; i < n; ++i) {
    entry e;
    e.kind = entry_kind::object;
    e.cache = slot.cache;
    e.at = static_cast<char*>(objects[i]);
    e.bytes = slot.cache->object_size;
    check_aligned(e.at, slot.cache->align, "an object");
    if (slot.constructed)
      for (unsigned b = 0; b < 8; ++b)
        if (e.at[b] != 0x5c) throw ops_error("an object is not as its constructor made it");
    keep(e, has(now_.gfp, gfp::zero), e.bytes);
  }
}

inline void ops_machine::create_cache(const operation& op) {
  cache_slot& slot = slots_[op.pick % nr_slots];
  if (slot.cache != nullptr) return;
  static constexpr slab_flags_t flags[] = {
      slab_flags_t::none,    slab_flags_t::none, slab_flags_t::hwcache_align, slab_flags_t::cache_dma, slab_flags_t::reclaim_account,
      slab_flags_t::no_merge};
  cache_args args;
  char name[32];
  std::snprintf(name, sizeof name, "ops-%u", op.pick % nr_slots);
  args.name = name;
  args.flags = flags[op.pick / nr_slots % std::size(flags)];
  args.align = op.pick & 0x4000 ? std::size_t{1} << op.pick / 256 % 13 : 0;
  args.object_size = 8 + size_from(op.size) % (op.mode & 1 ? 70'000u : 600u);
  if (op.pick & 0x8000) args.constructor = constructor_of_ops;
  slot.cache = cache_create(*machine_, args);
  if (slot.cache == nullptr) return;
  slot.constructed = args.constructor != nullptr;
  slot.dma = has(args.flags, slab_flags_t::cache_dma);
  if (slot.cache->object_size < args.object_size) throw ops_error("merged with a cache of smaller objects");
}

inline void ops_machine::destroy_cache(const operation& op) {
  cache_slot& slot = slots_[op.pick % nr_slots];
  if (slot.cache == nullptr) return;
  const auto uses = std::count_if(std::begin(slots_), std::end(slots_), [&](const cache_slot& s) { return s.cache == slot.cache; });
  const auto is_its = [&](const entry& e) { return e.kind == entry_kind::object && e.cache == slot.cache; };
  const bool busy = uses == 1 && (std::any_of(held_.begin(), held_.end(), is_its) || std::any_of(pool_.begin(), pool_.end(), is_its));
  const err result = cache_destroy(*machine_, slot.cache);
  if (result != (busy ? err::busy : err::ok)) throw ops_error("kmem_cache_destroy: " + std::to_string(static_cast<int>(result)));
  if (!busy) slot = {};
}

/// Gives one range back by the function that belongs to it.
inline void ops_machine::release(const entry& e) {
  machine& m = *machine_;
  check_pattern(e.at, e.bytes, e.bytes, e.id, "before its free");
  ranges_.remove(e.at);
  switch (e.kind) {
    case entry_kind::kmalloc:
      return e.id % 8 == 0 ? kfree_sensitive(m, e.at) : kfree(m, e.at);
    case entry_kind::object: {
      for (const cache_slot& slot : slots_)
        if (slot.cache == e.cache && slot.constructed) constructor_of_ops(e.at);
      return e.id % 4 == 0 ? kfree(m, e.at) : cache_free(m, *e.cache, e.at);
    }
    case entry_kind::pages:
      for (unsigned i = 1; i < e.references; ++i) put_page(m, e.head);
      return e.id % 3 == 0 ? put_page(m, e.head) : free_pages(m, e.head, order_t(e.order));
    case entry_kind::run:
      return free_run(m, e.head);
    case entry_kind::exact:
      return free_pages_exact(m, e.at, e.bytes);
    case entry_kind::vmalloc:
      return vfree(m, e.at);
    case entry_kind::kvmalloc:
      return kvfree(m, e.at);
  }
}

inline void ops_machine::free_at(std::size_t index) {
  const entry e = held_[index];
  held_[index] = held_.back();
  held_.pop_back();
  release(e);
}

}  // namespace kmem::testing
