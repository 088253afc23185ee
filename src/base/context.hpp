// The execution context of the calling thread, one cache line of thread-local words. Public face: include/kmem/context.hpp.
#pragma once
#include <kmem/checker.hpp>
#include <kmem/context.hpp>

#include "base/gfp.hpp"
#include "base/types.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

struct wait_conditions;  // page_alloc/waiting.hpp

inline constexpr unsigned scope_pcs_max = 8;

/// Written by the owning thread only, and by signal handlers on it, which restore what they change.
/// All zero at the start of a thread.
struct task_context {
  uint32_t preempt_count = 0;        // layout: kmem/context.hpp
  uint32_t irqs_off = 0;             // 0 or 1
  uint32_t memalloc_scopes = 0;      // scope_noio | scope_nofs | scope_noreclaim
  uint32_t depth = 0;                // allocator slow paths this thread is in; > 0 in a handler that interrupted one
  uint32_t fork_levels = 0;          // 1 while fork's handlers hold the locks and have raised `depth` from 0: signal handlers only try
  uint64_t claimed[nr_zones] = {};   // pages committed for this thread that it has not taken yet; written inside a nest_guard
  uint64_t held_ranks = 0;           // KMEM_DEBUG: how many locks of each rank this thread holds, held_bits bits a rank
  const char* site_file = nullptr;   // call_site: who called the library, for reports
  int32_t site_line = 0;
  uint32_t fail_nth = 0;             // fail the nth fail point from now; 0: off
  uint32_t fail_nth_hits = 0;        // fail points passed while fail_nth was armed
  bool fail_nth_persistent = false;  // fail every one from the nth on
  bool in_report = false;            // writing a report: no report inside a report
  bool deferred = false;             // something waits for a count to drop or interrupts to be on: the settle hook is called then
  uint8_t last_wait = 0;             // how the last allocation that could have waited ended (wait_outcome)
  wait_conditions* conditions = nullptr;  // the innermost scope that may end its waits
  uint8_t deepest_path = 0;          // how far the last allocations went (alloc_path): slow paths raise it, its reader resets it
  uint8_t nr_scope_pcs[2] = {};        // see scope_pcs
  bool is_kswapd = false;              // what this thread frees, kswapd frees
  detail::region* regions = nullptr;   // what the thread is inside of, innermost first (checker.hpp)
  const void* scope_pcs[2][scope_pcs_max] = {};  // where the noio and the nofs scope were entered, if the reclaim checker was on
};

#if defined(KMEM_SIM)
static_assert(sizeof(task_context) <= plat::task_storage_bytes);
/// The running task's context; outside a simulation that of the thread that drives it.
inline task_context& current() noexcept { return *static_cast<task_context*>(plat::task_storage()); }
#else
namespace base_detail {
// constinit on the declaration tells the compiler that no wrapper function has to initialise it.
extern constinit thread_local task_context this_task __attribute__((tls_model("initial-exec")));
}  // namespace base_detail
/// The calling thread's context. Context: any.
KMEM_ALWAYS_INLINE task_context& current() noexcept { return base_detail::this_task; }
#endif

/// Notes that the running allocation has come this far. Called on slow paths only.
inline void note_path(uint8_t path) noexcept {
  task_context& task = current();
  if (path > task.deepest_path) task.deepest_path = path;
}
inline constexpr uint8_t path_slab_refill = 1, path_page_allocator = 2, path_chain = 3;

/// Marks an allocator slow path. A handler that interrupts it sees depth > 0 and takes only try-locks.
/// Taken once, by the entry points: an entry point called by another one looks nested, and then waits for no lock.
class nest_guard {
 public:
  [[nodiscard]] nest_guard() noexcept : task_(current()), saved_(task_.depth) {
    task_.depth = saved_ + 1;
    arch::compiler_barrier();
  }
  ~nest_guard() {
    arch::compiler_barrier();
    task_.depth = saved_;
  }
  nest_guard(const nest_guard&) = delete;
  nest_guard& operator=(const nest_guard&) = delete;
  /// True when this slow path interrupted another one of the same thread.
  bool nested() const noexcept { return saved_ != 0; }

 private:
  task_context& task_;
  uint32_t saved_;
};

/// Called, on the same thread, when a count has dropped or interrupts are on again and task_context::deferred is set. `may_start`: the
/// thread may be in process context now, so threads may be started. A slow path; set by whoever sets `deferred`.
using settle_hook = void (*)(bool may_start) noexcept;
void set_settle_hook(settle_hook hook) noexcept;

/// While it lives, reports of this thread about sleeping name this place instead of the library's: for callers that know theirs.
class call_site {
 public:
  [[nodiscard]] call_site(const char* file, int line) noexcept
      : task_(current()), saved_file_(task_.site_file), saved_line_(task_.site_line) {
    task_.site_line = line;
    task_.site_file = file;
  }
  ~call_site() {
    task_.site_file = saved_file_;
    task_.site_line = saved_line_;
  }
  call_site(const call_site&) = delete;
  call_site& operator=(const call_site&) = delete;

 private:
  task_context& task_;
  const char* saved_file_;
  int saved_line_;
};

/// The rules of the reclaim checker (checker.cpp).
enum class reclaim_rule : uint8_t { recursion, violation };
/// Where something began that a broken rule is about.
struct earlier_place {
  const char* text;
  const void* const* pcs;
  unsigned nr_pcs;
};
/// Counts a break and reports it as the policy wants: `text`, the stack of here, and the one of an earlier place if it is known.
KMEM_COLD void report_reclaim_rule(reclaim_rule rule, const char* text, const earlier_place& earlier) noexcept;
/// Notes where scopes were entered, or that it is not known.
void note_scopes(uint32_t entered) noexcept;

/// Forgets the violations counted so far, the rate limits of their reports and the policy: for simulations that run many seeds.
void reset_context_rules() noexcept;

}  // inline namespace
}  // namespace kmem
