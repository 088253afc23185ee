// Part of ops_machine.hpp: one step in its surroundings, wrong frees, and the comparisons.
#pragma once
#include "model/ops_machine.hpp"
#include "page_alloc/internal.hpp"

namespace kmem::testing {

// ---- wrong frees: each is refused, said, and changes nothing ----------------------------------------------------------------------

inline void ops_machine::refused(std::uint64_t before, std::uint64_t after, const char* what) {
  if (after != before + 1) throw ops_error(std::string(what) + " was refused " + std::to_string(after - before) + " times, not once");
}

/// Objects: in release builds a wrong pointer shows when it leaves the CPU's array at the latest, so the arrays are drained.
inline void ops_machine::wrong_free_of_object(const operation& op) {
  machine& m = *machine_;
  const std::uint64_t before = m.bad_frees.load_relaxed();
  const auto seen = [&] {
    drain_caches(m, true);
    return m.bad_frees.load_relaxed();
  };
  const entry e = held_[pick_of(op)];
  const bool is_object = e.kind == entry_kind::kmalloc || e.kind == entry_kind::object;
  switch (op.size % 6) {
    case 0: {
      char outside[64] = {};
      kfree(m, outside + op.size % 48);
      return refused(before, seen(), "kfree of an address outside the arena");
    }
    case 1:
      kfree(m, m.base + 64);
      return refused(before, seen(), "kfree of an address in page 0");
    case 2: {
      if (!is_object || e.bytes <= 8) return;
      kfree(m, e.at + 1 + op.size / 8 % (e.bytes - 1));
      return refused(before, seen(), "kfree of the middle of an object");
    }
    case 3: {
      if (!is_object) return;
      free_at(pick_of(op));
      kfree(m, e.at);
      return refused(before, seen(), "a second kfree");
    }
    case 4: {
      const cache_slot& slot = slots_[op.size / 8 % nr_slots];
      if (slot.cache == nullptr || e.cache == slot.cache || !m.contains(e.at)) return;
      cache_free(m, *slot.cache, e.at);
      return refused(before, seen(), "kmem_cache_free with another cache");
    }
    default:
      if (e.kind != entry_kind::pages && e.kind != entry_kind::exact && e.kind != entry_kind::run) return;
      kfree(m, e.at);
      if (krealloc(m, e.at, 100, gfp::kernel) != nullptr) throw ops_error("krealloc took pages");
      return refused(before + 1, seen(), "kfree and krealloc of pages");
  }
}

inline void ops_machine::wrong_free_of_page(const operation& op) {
  machine& m = *machine_;
  const std::uint64_t before = m.stats.bad_pages.load_relaxed();
  const auto seen = [&] { return m.stats.bad_pages.load_relaxed(); };
  const entry e = held_[pick_of(op)];
  switch (op.size % 7) {
    case 0: {
      char outside[64] = {};
      free_pages_at(m, outside, order_t(0));
      return refused(before, seen(), "free_pages of an address outside the arena");
    }
    case 1: {
      if (e.kind != entry_kind::pages || e.references != 1) return;
      free_at(pick_of(op));
      free_pages(m, e.head, order_t(e.order));
      return refused(before, seen(), "a second free_pages");
    }
    case 2: {
      if (e.kind != entry_kind::run) return;
      free_at(pick_of(op));
      put_page(m, e.head);
      return refused(before, seen(), "a second put_page");
    }
    case 3: {
      if (!m.contains(e.at) || (e.kind != entry_kind::kmalloc && e.kind != entry_kind::object) || cache_of(m, e.at) == nullptr) return;
      page& p = m.page_of(m.pfn_of(e.at));
      free_pages(m, &p, order_t(p.order));
      return refused(before, seen(), "free_pages of a page of a slab");
    }
    case 4: {
      const std::uint64_t n = e.bytes >> page_shift;
      if (n < 2 || (e.kind != entry_kind::pages && e.kind != entry_kind::run && e.kind != entry_kind::exact)) return;
      if (e.head != nullptr && (e.head->flags & page_flag_compound) != 0) return;  // a page of a compound block stands for its head
      put_page(m, &m.page_of(m.pfn_of(e.at)) + 1 + op.size / 8 % (n - 1));
      return refused(before, seen(), "put_page of the middle of a block");
    }
    case 5: {
      free_pages_at(m, m.base, order_t(0));
      return refused(before, seen(), "free_pages of page 0");
    }
    default: {
      const zone& normal = m.zones[static_cast<unsigned>(zone_idx::normal)];
      const std::uint32_t far = (normal.first_block + normal.nr_blocks) * pages_per_block - 1;
      if (m.is_open(pfn_t(far))) return;
      const std::uint64_t frees = m.bad_frees.load_relaxed();
      free_pages_at(m, m.address_of(pfn_t(far)), order_t(0));
      kfree(m, m.address_of(pfn_t(far)));
      refused(frees, m.bad_frees.load_relaxed(), "kfree of an address that was never handed out");
      return refused(before, seen(), "free_pages of a page that was never handed out");
    }
  }
}

inline void ops_machine::wrong_free(const operation& op) {
  machine& m = *machine_;
  if (held_.empty()) return;
  drain_deferred_vfree(m);
  const std::uint64_t charged = charged_pages(m), vmalloced = m.vmalloc_pages.load_relaxed();
  const entry e = held_[pick_of(op)];
  switch (op.mode % 3) {
    case 0:
      return wrong_free_of_object(op);
    case 1:
      return wrong_free_of_page(op);
    default:
      vfree(m, e.at + (op.size % 2 != 0 ? 8 : page_size));
      vfree(m, m.base + page_size);
      if (e.kind == entry_kind::vmalloc) {
        free_at(pick_of(op));
        const std::uint64_t now = m.vmalloc_pages.load_relaxed();
        vfree(m, e.at);
        if (now != m.vmalloc_pages.load_relaxed()) throw ops_error("a second vfree took an area");
      } else if (vmalloced != m.vmalloc_pages.load_relaxed() || charged != charged_pages(m)) {
        throw ops_error("vfree of no area took something");
      }
  }
}

// ---- surroundings -------------------------------------------------------------------------------------------------------------------

inline std::uint64_t ops_machine::reclaim(void* context, gfp_t, std::uint64_t nr_pages) noexcept {
  auto& self = *static_cast<ops_machine*>(context);
  machine& m = *self.machine_;
  std::uint64_t freed = 0;
  try {
    if (self.callback_allocates_) {
      void* const p = kmalloc(m, 200, gfp::kernel | gfp::nowarn);
      page* const q = alloc_pages(m, gfp::kernel | gfp::nowarn, order_t(1));
      kfree(m, p);
      free_pages(m, q, order_t(1));
    }
    while (freed < nr_pages && !self.pool_.empty()) {
      const entry e = self.pool_.back();
      self.pool_.pop_back();
      self.release(e);
      freed += (e.bytes + page_size - 1) >> page_shift;
    }
  } catch (const std::exception& e) {
    self.callback_error_ = std::string("in a reclaim callback: ") + e.what();
  }
  return freed;
}

/// What a handler may do that interrupted the allocator: nothing that waits, and no set-up or walk.
inline bool ops_machine::allowed_in_handler(const operation& op) const {
  switch (op.kind) {
    case op_kind::kmalloc:
    case op_kind::kmalloc_align:
    case op_kind::kmalloc_huge:
    case op_kind::krealloc:
    case op_kind::free:
    case op_kind::cache_alloc:
    case op_kind::cache_bulk:
    case op_kind::cache_give:
    case op_kind::pages:
    case op_kind::run:
    case op_kind::resize:
    case op_kind::exact:
    case op_kind::page_bulk:
    case op_kind::kvmalloc:
    case op_kind::burst:
    case op_kind::free_many:
      return true;
    default:
      return false;
  }
}

inline void ops_machine::modify(const operation& op) {
  switch (op.kind) {
    case op_kind::fail_nth:
      next_.fail_nth = 1 + op.size % 12;
      next_.fail_persistent = op.pick % 2 != 0;
      return;
    case op_kind::scope:
      next_.scopes = std::uint32_t{1} << op.pick % 3;
      return;
    case op_kind::busy:
      next_.nested = true;
      busy_locks_ = op.pick;
      return;
    default: {
      fail_attributes attributes;
      attributes.probability = op.mode % 3 == 0 ? 0 : 1 + op.size % 60;
      attributes.interval = 1 + op.pick / 8 % 4;
      attributes.times = op.pick % 5 == 0 ? -1 : static_cast<std::int32_t>(op.pick / 32 % 20);
      attributes.seed = op.size;
      set_fail_attributes(fail_point(op.pick % nr_fail_points), attributes);
      if (attributes.probability != 0) points_armed_ = true;
    }
  }
}

inline void ops_machine::disarm() {
  for (unsigned i = 0; i < nr_fail_points; ++i) set_fail_attributes(fail_point(i), {});
  points_armed_ = false;
}

inline void ops_machine::drain(unsigned which) {
  machine& m = *machine_;
  switch (which % 7) {
    case 0:
      drain_cpu_pages(m, true);
      return;
    case 1:
      drain_cpu_pages(m, false);
      return;
    case 2:
      drain_caches(m, true);
      return;
    case 3:
      drain_caches(m, false);
      return;
    case 4:
      refill_reserve(m);
      return;
    case 5:
      drain_deferred_vfree(m);
      return;
    default:
      settle();
  }
}

/// Nothing deferred, nothing in arrays and CPU lists.
inline void ops_machine::settle() {
  machine& m = *machine_;
  drain_deferred_vfree(m);
  drain_deferred(m);
  drain_caches(m, true);
  drain_deferred(m);
  drain_cpu_pages(m, true);
  unsettled_ = false;
}

inline void ops_machine::run_one(const operation& op) {
  if (held_.size() > held_most && op.kind != op_kind::free && op.kind != op_kind::free_many) return;
  machine& m = *machine_;
  switch (op.kind) {
    case op_kind::kmalloc:
    case op_kind::kmalloc_align:
    case op_kind::kmalloc_huge:
    case op_kind::vmalloc:
    case op_kind::kvmalloc:
      return allocate(op);
    case op_kind::pages:
    case op_kind::run:
    case op_kind::exact:
      return allocate_pages(op);
    case op_kind::krealloc:
    case op_kind::kvrealloc:
    case op_kind::resize:
      return reallocate(op);
    case op_kind::page_bulk:
    case op_kind::cache_alloc:
    case op_kind::cache_bulk:
    case op_kind::cache_give:
      return bulk(op);
    case op_kind::cache_create:
      return create_cache(op);
    case op_kind::cache_destroy:
      return destroy_cache(op);
    case op_kind::burst: {
      operation one = op;
      one.kind = op_kind::kmalloc;
      if (size_from(op.size) > 40'000) one.size &= 0x1fff;
      for (unsigned i = 0; i < 1u + op.pick % 400; ++i) allocate(one);
      return;
    }
    case op_kind::free:
      if (!held_.empty()) free_at(pick_of(op));
      return;
    case op_kind::free_many:
      for (unsigned i = 0; i < 1u + op.size % 500 && !held_.empty(); ++i) free_at(op.pick % held_.size());
      return;
    case op_kind::split: {
      if (held_.empty()) return;
      const entry e = held_[pick_of(op)];
      if (e.kind != entry_kind::pages || e.order == 0 || e.order > 6 || (e.head->flags & page_flag_compound) != 0) return;
      check_pattern(e.at, e.bytes, e.bytes, e.id, "before split_page");
      split_page(m, e.head, order_t(e.order));
      ranges_.remove(e.at);
      held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(pick_of(op)));
      for (unsigned i = 0; i < 1u << e.order; ++i) {
        entry one = e;
        one.head = e.head + i;
        one.at = e.at + (std::size_t{i} << page_shift);
        one.bytes = page_size;
        one.order = 0;
        one.id = ++ids_;
        ranges_.add(one.at, one.bytes);
        fill_pattern(one.at, one.bytes, one.id);
        held_.push_back(one);
      }
      return;
    }
    case op_kind::reference: {
      if (held_.empty()) return;
      entry& e = held_[pick_of(op)];
      if (e.kind != entry_kind::pages) return;
      page* const part = (e.head->flags & page_flag_compound) != 0 ? e.head + op.size / 2 % (1u << e.order) : e.head;
      if (op.size % 2 != 0 && e.references < 50) {
        get_page(part);
        ++e.references;
      } else if (e.references > 1) {
        put_page(m, part);
        --e.references;
      }
      if (e.head->refcount.load_relaxed() != e.references) throw ops_error("the reference count is not what was taken");
      return;
    }
    case op_kind::drain:
      return drain(op.pick);
    case op_kind::give_back:
      give_back(m, op.size % 2000, op.pick % 2 != 0);
      return;
    case op_kind::shrink:
      if (slots_[op.pick % nr_slots].cache != nullptr) cache_shrink(m, *slots_[op.pick % nr_slots].cache);
      return;
    case op_kind::to_pool:
      if (held_.empty()) return;
      pool_.push_back(held_[pick_of(op)]);
      held_[pick_of(op)] = held_.back();
      held_.pop_back();
      return;
    case op_kind::callback:
      callback_allocates_ = op.pick % 2 != 0;
      if (callback_ >= 0) {
        unregister_callback(m, callback_);
        callback_ = -1;
      } else {
        static constexpr gfp_t needs[] = {gfp::none, gfp::fs, gfp::io | gfp::fs};
        callback_ = register_callback(m, {this, reclaim, needs[op.size % 3]});
        if (callback_ < 0) throw ops_error("no callback could be registered");
      }
      return;
    case op_kind::wrong_free:
      return wrong_free(op);
    case op_kind::move:
      return cpus_.move_to(op.pick);
    default:
      return check_everything();
  }
}

/// Runs the operation under locks that a slow path below it is said to hold.
inline void ops_machine::run_with_locks(const operation& op) {
  machine& m = *machine_;
  const nest_guard frame_below;
  const auto cpu = static_cast<std::uint32_t>(plat::cpu()) % m.nr_cpus;
  zone& normal = m.zones[static_cast<unsigned>(zone_idx::normal)];
  kmem_cache* cache = slots_[op.pick % nr_slots].cache;
  if (cache == nullptr) cache = &m.kmalloc_caches[size_class_of(1 + size_from(op.size) % size_class_max) - 1];
  ranked_lock* const locks[] = {&m.cache_list_lock, &m.vmalloc_lock,           &m.cpu_slots[cpu].lock, &cache->barn_lock,
                                &cache->lock,       &normal.per_cpu[cpu].lock, &normal.lock,           &m.section_lock};
  std::vector<ranked_lock*> taken;
  const auto give = [&] {
    while (!taken.empty()) {
      taken.back()->unlock();
      taken.pop_back();
    }
  };
  for (unsigned i = 0; i < std::size(locks); ++i)
    if ((busy_locks_ >> i & 1) != 0 && locks[i]->try_lock()) taken.push_back(locks[i]);
  try {
    run_one(op);
  } catch (...) {
    give();
    throw;
  }
  give();
  unsettled_ = true;
}

inline void ops_machine::run_surrounded(const operation& op) {
  const std::uint64_t violations = context_violations();
  const std::size_t held = held_.size();
  const std::uint32_t saved = memalloc_save(now_.scopes);
  std::optional<fail_nth_scope> failing;
  if (now_.fail_nth != 0) failing.emplace(now_.fail_nth, now_.fail_persistent);
  const auto run = [&] { now_.nested ? run_with_locks(op) : run_one(op); };
  switch (now_.context) {
    case op_context::process:
      run();
      break;
    case op_context::preempt_off: {
      const preempt_guard guard;
      run();
      break;
    }
    case op_context::hardirq: {
      const hardirq_guard guard;
      run();
      break;
    }
    case op_context::softirq: {
      const softirq_guard guard;
      run();
      break;
    }
    case op_context::irqs_off: {
      const irq_guard guard;
      run();
      break;
    }
  }
  failing.reset();
  memalloc_restore(now_.scopes, saved);
  if (preempt_count() != 0 || irqs_disabled()) throw ops_error("the context was not left as it was found");
  const bool allocates = op.kind == op_kind::kmalloc || op.kind == op_kind::pages || op.kind == op_kind::cache_alloc;
  if (!allocates) return;
  const bool complained = context_violations() != violations;
  const bool wrong = now_.context != op_context::process && may_block(now_.gfp) && now_.scopes == 0;
  if (complained && !wrong && now_.scopes == 0) throw ops_error("a context rule is said to be broken, and was not");
  if (!complained && wrong && held_.size() > held) throw ops_error("a mask that may block was not reported in atomic context");
}

inline void ops_machine::step(const operation& op) {
  if (op.kind == op_kind::fail_nth || op.kind == op_kind::scope || op.kind == op_kind::busy || op.kind == op_kind::fail_point)
    return modify(op);
  now_ = next_;
  next_ = {};
  now_.gfp = mask_of(op);
  now_.context = context_of(op);
  const bool sleeps = op.kind == op_kind::cache_create || op.kind == op_kind::cache_destroy || op.kind == op_kind::drain ||
                      op.kind == op_kind::give_back || op.kind == op_kind::shrink || op.kind == op_kind::callback ||
                      op.kind == op_kind::wrong_free || op.kind == op_kind::check;
  if (sleeps) now_.context = op_context::process;
  if (now_.nested && !allowed_in_handler(op)) now_.nested = false;
  if (now_.nested && may_block(now_.gfp)) now_.gfp = gfp::atomic | (now_.gfp & (gfp::zero | gfp::dma));
  if (!may_fail(now_.gfp)) {
    // NOFAIL waits for ever for what a single thread will not free.
    const bool small = op.kind == op_kind::kmalloc || op.kind == op_kind::pages || op.kind == op_kind::cache_alloc;
    const std::uint64_t n = op.kind == op_kind::kmalloc ? pages_for(size_from(op.size)).raw() : 2048;
    if (!small || !must_succeed(n)) now_.gfp &= ~gfp::nofail;
  }
  if (op.kind == op_kind::check || op.kind == op_kind::wrong_free) now_.fail_nth = 0;
  run_surrounded(op);
  if (!callback_error_.empty()) throw ops_error(callback_error_);
  check_budget();
}

// ---- comparisons --------------------------------------------------------------------------------------------------------------------

inline void ops_machine::check_budget() {
  machine& m = *machine_;
  std::uint64_t managed = 0;
  for (const zone& z : m.zones) {
    managed += z.managed.load_relaxed();
    if (z.committed.load_relaxed() > z.managed.load_relaxed()) throw ops_error("a zone has committed more than it manages");
  }
  const std::uint64_t metadata = m.metadata_pages.load_relaxed();
  if (managed + metadata > m.limit.raw())
    throw ops_error("managed " + std::to_string(managed) + " + metadata " + std::to_string(metadata) + " > limit " +
                    std::to_string(m.limit.raw()));
}

/// Pages that areas keep besides their own: lists of frames of a memfd machine, where they lie neither in slabs nor in areas of their own,
/// and page tables that are charged to a zone.
inline std::uint64_t pages_besides(machine& m, const vmap_area* area) {
  if (area == nullptr) return 0;
  std::uint64_t pages = pages_besides(m, area->left) + pages_besides(m, area->right);
  if (area->frames != nullptr && m.contains(area->frames) && cache_of(m, area->frames) == nullptr)
    pages += ksize(m, area->frames) >> page_shift;
  if (area->table_zone >= 0) pages += area->table_pages;
  return pages;
}

/// Every charged page is somebody's.
inline void ops_machine::check_charged() {
  machine& m = *machine_;
  std::uint64_t expected = m.vmalloc_pages.load_relaxed();
  {
    const lock_guard lock(m.vmalloc_lock);
    expected += pages_besides(m, m.areas);
  }
  for (const std::vector<entry>* list : {&held_, &pool_})
    for (const entry& e : *list) {
      if (!m.contains(e.at)) continue;  // vmalloc
      const bool pages = e.kind != entry_kind::object && (e.kind == entry_kind::pages || cache_of(m, e.at) == nullptr);
      if (pages) expected += e.bytes >> page_shift;
    }
  cache_info info;
  for (unsigned i = 0; read_cache_info(m, i, info); ++i) expected += info.slabs * info.pages_per_slab;
  if (charged_pages(m) != expected)
    throw ops_error("charged " + std::to_string(charged_pages(m)) + " pages, handed out " + std::to_string(expected));
}

inline void ops_machine::check_everything() {
  for (const std::vector<entry>* list : {&held_, &pool_})
    for (const entry& e : *list) check_pattern(e.at, e.bytes, e.bytes, e.id, "while it is held");
  if (unsettled_) settle();
  check_charged();
  const char* const wrong = machine_is_valid(*machine_);
  if (wrong != nullptr) throw ops_error(std::string("the walk finds: ") + wrong);
}

inline void ops_machine::finish() {
  machine& m = *machine_;
  now_ = {};
  next_ = {};
  disarm();
  if (callback_ >= 0) unregister_callback(m, callback_);
  callback_ = -1;
  check_everything();
  for (const entry& e : pool_) release(e);
  pool_.clear();
  while (!held_.empty()) free_at(held_.size() - 1);
  if (ranges_.size() != 0) throw ops_error("the test kept a range");
  for (cache_slot& slot : slots_) {
    if (slot.cache != nullptr && cache_destroy(m, slot.cache) != err::ok) throw ops_error("a cache without objects could not be destroyed");
    slot = {};
  }
  settle();
  check_everything();
  // What is left are the descriptions of the caches that kmalloc made for DMA and reclaimable objects.
  std::uint64_t left = charged_at_start_, made = 0;
  for (const auto& row : m.other_caches)
    for (const atomic<kmem_cache*>& entry : row) made += entry.load_relaxed() != nullptr ? 1 : 0;
  cache_info info;
  for (unsigned i = 0; read_cache_info(m, i, info); ++i) {
    const bool descriptions = std::strcmp(info.name, "kmem_cache") == 0;
    if (info.active != (descriptions ? made : 0)) throw ops_error(std::string("objects of ") + info.name + " are still out");
    if (descriptions) left += info.slabs * info.pages_per_slab;
    if (!descriptions && info.slabs != 0) throw ops_error(std::string("an empty slab of ") + info.name + " was not given back");
  }
  if (charged_pages(m) != left) throw ops_error("after everything was freed " + std::to_string(charged_pages(m)) + " pages are charged");
}

}  // namespace kmem::testing
