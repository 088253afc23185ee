// The reclaim checker: who is in reclaim, in work that reclaim may come to, or in a scope that forbids it.
//
// States.   A thread's regions are a list on its own stack. Reclaim is on it always, so that it is not entered twice; work only while the
//           checker is on. A region entered while it was off stays unlinked and is left without a trace.
// Rules.    recursion: no reclaim, and no allocation that may reclaim, inside reclaim; no work inside work of the same kind with reclaim in
//           between. violation: file system work needs __GFP_FS in the mask of the innermost reclaim, and no nofs or noio scope; I/O needs
//           __GFP_IO, and no noio scope. A break is counted and reported as the rules of contexts are (context.cpp), with a second record:
//           the stack of where the reclaim, the scope or the outer work was entered.
// Locks.    None; any context. Ordering. None: words of the own thread, and a switch.
// Kernel.   lockdep's fs_reclaim finds that locks could meet in reclaim; this finds that marked code has met it.
// Tests.    tests/unit/base/checker_test.cpp, tests/unit/reclaim/shrinker_test.cpp
#include "base/checker.hpp"

#include "base/bug.hpp"
#include "base/gfp.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

using detail::region;
using detail::region_kind;

const char* work_name(region_kind kind) noexcept { return kind == region_kind::fs_work ? "file system work" : "I/O"; }

text_writer& append_gfp(text_writer& text, gfp_t gfp) noexcept {
  char mask[160];
  format_gfp(gfp, mask, sizeof mask);
  return text.str(mask);
}

void note_entry(region& r) noexcept {
  if (reclaim_checker()) r.nr_pcs = static_cast<uint8_t>(capture_stack(r.pcs, detail::region_pcs));
}

KMEM_COLD void report_recursion(gfp_t gfp, const region& outer) noexcept {
  char buffer[420];
  text_writer text(buffer, sizeof buffer);
  text.str("BUG: reclaim recursion: ");
  append_gfp(text, gfp).str(" may reclaim, on a thread that reclaims for ");
  append_gfp(text, outer.gfp).ch('\n');
  report_reclaim_rule(reclaim_rule::recursion, buffer, {"The outer reclaim was entered here:\n", outer.pcs, outer.nr_pcs});
}

KMEM_COLD void report_work_in_reclaim(const region& r, const region& reclaim) noexcept {
  char buffer[420];
  text_writer text(buffer, sizeof buffer);
  text.str("BUG: ").str(work_name(r.kind)).str(" in reclaim for ");
  append_gfp(text, reclaim.gfp).str(r.kind == region_kind::fs_work ? ", without __GFP_FS\n" : ", without __GFP_IO\n");
  report_reclaim_rule(reclaim_rule::violation, buffer, {"Reclaim was entered here:\n", reclaim.pcs, reclaim.nr_pcs});
}

KMEM_COLD void report_work_in_scope(const region& r, unsigned scope) noexcept {
  char buffer[160];
  text_writer text(buffer, sizeof buffer);
  text.str("BUG: ").str(work_name(r.kind)).str(scope == 0 ? " inside a noio scope\n" : " inside a nofs scope\n");
  const task_context& task = current();
  report_reclaim_rule(reclaim_rule::violation, buffer, {"The scope was entered here:\n", task.scope_pcs[scope], task.nr_scope_pcs[scope]});
}

KMEM_COLD void report_work_again(const region& r, const region& outer) noexcept {
  char buffer[160];
  text_writer text(buffer, sizeof buffer);
  text.str("BUG: reclaim recursion: ").str(work_name(r.kind)).str(" entered by reclaim inside ").str(work_name(r.kind)).ch('\n');
  report_reclaim_rule(reclaim_rule::recursion, buffer, {"The outer one was entered here:\n", outer.pcs, outer.nr_pcs});
}

/// Is this kind of work permitted to whoever the thread reclaims for, and in its scopes?
void check_work(const region& r) noexcept {
  const bool fs = r.kind == region_kind::fs_work;
  const region* e = r.outer;
  while (e != nullptr && e->kind != region_kind::reclaim) e = e->outer;
  if (e != nullptr && !has(e->gfp, fs ? gfp::fs : gfp::io)) return report_work_in_reclaim(r, *e);
  const uint32_t scopes = current().memalloc_scopes;
  if ((scopes & scope_noio) != 0) return report_work_in_scope(r, 0);
  if (fs && (scopes & scope_nofs) != 0) return report_work_in_scope(r, 1);
  for (; e != nullptr; e = e->outer)
    if (e->kind == r.kind) return report_work_again(r, *e);
}

constinit atomic<uint32_t> checker{0};

}  // namespace

reclaim_region::reclaim_region(gfp_t gfp) noexcept {
  task_context& task = current();
  region_.outer = task.regions;
  region_.gfp = gfp;
  region_.kind = region_kind::reclaim;
  note_entry(region_);
  task.regions = &region_;
}

bool check_no_recursion(gfp_t gfp) noexcept {
  const region* const outer = inside_reclaim();
  if (KMEM_LIKELY(outer == nullptr)) return true;
  if (reclaim_checker()) report_recursion(gfp, *outer);
  return false;
}

void note_scopes(uint32_t entered) noexcept {
  task_context& task = current();
  const bool on = reclaim_checker();
  for (unsigned scope = 0; scope < 2; ++scope)
    if ((entered & (scope == 0 ? scope_noio : scope_nofs)) != 0)
      task.nr_scope_pcs[scope] = on ? static_cast<uint8_t>(capture_stack(task.scope_pcs[scope], scope_pcs_max)) : uint8_t{0};
}

}  // inline namespace

void set_reclaim_checker(bool on) noexcept { checker.store_relaxed(on ? 1 : 0); }
bool reclaim_checker() noexcept { return checker.load_relaxed() != 0; }

namespace detail {

void enter_work(region& r, region_kind kind) noexcept {
  r.entered = reclaim_checker();
  if (KMEM_LIKELY(!r.entered)) return;
  r.kind = kind;
  note_entry(r);
  r.outer = current().regions;
  current().regions = &r;
  check_work(r);
}

void leave_work(region& r) noexcept {
  if (KMEM_UNLIKELY(r.entered)) current().regions = r.outer;
}

}  // namespace detail
}  // namespace kmem
