// Which flag permits which step of the chain: the one table that the allocator, the tests and the documentation are made from.
//
// A step needs the permission of every flag that is set: NOFS with NORETRY starts no file write-back *and* makes one pass.
#pragma once
#include "memmap/memmap.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

/// The steps of the chain in their order. No allocation returns NULL before its permitted part is done.
enum class chain_step : uint8_t {
  lists,         // per-CPU lists, free areas, other zones, down to the caller's watermark
  larger_class,  // a free object of a larger class (kmalloc)
  drain_try,     // what can be drained without waiting: CPU lists and arrays whose lock is free
  reserve,       // below the min watermark, and the reserve itself
  drain_all,     // drain every CPU, free the empty slabs of all caches
  transit,       // wait for pages on their way back to the system
  give_back,     // give scattered pages back and back a fresh contiguous block (order > 0)
  reclaim,       // shrinkers and registered reclaim callbacks
  oom,           // OOM notifiers
  wait,          // sleep until somebody frees
  fail,          // NULL, with a report unless NOWARN
  refused,       // of no row of the table: nothing was asked, because of a limit, an injected failure or a refused mapping
};
inline constexpr unsigned nr_chain_steps = 11;  // rows of the table
const char* chain_step_name(chain_step step) noexcept;

/// May `gfp` (scopes already applied) take this step? `order`: of the request.
constexpr bool step_permitted(chain_step step, gfp_t gfp, order_t order) noexcept;

/// Most retries of the blocking steps, each only after a pass that made progress.
inline constexpr unsigned chain_retries = 16;
/// Orders above this are "costly" (the kernel's PAGE_ALLOC_COSTLY_ORDER).
inline constexpr unsigned costly_order = 3;
/// Passes over the blocking steps: 1 with NORETRY and for costly orders without RETRY_MAYFAIL, without end with NOFAIL, else 1 + 16.
constexpr unsigned passes_permitted(gfp_t gfp, order_t order) noexcept {
  if (has(gfp, gfp::nofail)) return ~0u;
  if (has(gfp, gfp::noretry)) return 1;
  return order > order_t(costly_order) && !has(gfp, gfp::retry_mayfail) ? 1 : 1 + chain_retries;
}
/// vm.alloc_wait_ms counts this many times for RETRY_MAYFAIL.
inline constexpr unsigned retry_mayfail_waits = 4;

constexpr bool step_permitted(chain_step step, gfp_t gfp, order_t order) noexcept {
  const bool block = may_block(gfp) && !has(gfp, gfp::memalloc);
  switch (step) {
    case chain_step::lists:
    case chain_step::larger_class:
    case chain_step::drain_try:
      return true;
    case chain_step::reserve:
      return may_use_reserve(gfp) || (has(gfp, gfp::nofail) && !has(gfp, gfp::nomemalloc));
    case chain_step::drain_all:
    case chain_step::transit:
      return block;
    case chain_step::give_back:
      return block && order > order_t(0);
    case chain_step::reclaim:
      return block;
    case chain_step::oom:
      if (!block || has(gfp, gfp::noretry) || has(gfp, gfp::retry_mayfail)) return false;
      return has(gfp, gfp::nofail) || (has(gfp, gfp::fs) && order <= order_t(costly_order));
    case chain_step::wait:
      return (block && !has(gfp, gfp::noretry)) || (may_block(gfp) && has(gfp, gfp::nofail));
    case chain_step::fail:
    case chain_step::refused:
      return may_fail(gfp);
  }
  return false;
}

}  // inline namespace
}  // namespace kmem
