// Fail points: places that can be made to fail, by the kernel's names and knobs (failslab, fail_page_alloc, fail_mmap).
//
// Always compiled in: one predicted branch on slow paths. fail-nth works per thread: "fail the nth point I pass", once or for good.
#pragma once
#include "base/atomic.hpp"
#include "base/context.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

enum class fail_point : uint8_t { failslab, fail_page_alloc, fail_mmap };
inline constexpr unsigned nr_fail_points = 3;
const char* fail_point_name(fail_point point) noexcept;

/// The knobs of one fail point, as in the kernel's fault injection.
struct fail_attributes {
  uint32_t probability = 0;  // percent; 0: off
  uint32_t interval = 1;     // only every n-th call is a candidate
  int32_t times = -1;        // failures left; -1: no limit
  uint64_t space = 0;        // units (bytes or pages << 12) to let pass before the first failure
  uint64_t seed = 1;         // of the point's own random numbers
};

/// Sets a point's knobs and zeroes its counts. A passage at the same moment may see old and new knobs mixed. Context: any.
void set_fail_attributes(fail_point point, const fail_attributes& attributes) noexcept;
/// Reads "interval,probability,space,times" (the kernel's failslab= form). Return: false and nothing changed if malformed.
bool parse_fail_attributes(const char* text, fail_attributes& result) noexcept;
/// How often the point was passed and how often it failed since the knobs were set; a point that is off does not count.
struct fail_counts {
  uint64_t passed = 0;
  uint64_t failed = 0;
};
fail_counts get_fail_counts(fail_point point) noexcept;

namespace base_detail {
/// Not 0 while any point is on (bit per point) or any thread has armed fail-nth (in units of fail_nth_unit).
extern constinit atomic<uint32_t> fail_armed __attribute__((visibility("hidden")));
bool should_fail_slow(fail_point point, uint64_t units) noexcept;
}  // namespace base_detail

/// Is any point on, or any thread's fail-nth armed? Context: any.
KMEM_ALWAYS_INLINE bool fail_points_armed() noexcept { return KMEM_UNLIKELY(base_detail::fail_armed.load_relaxed() != 0); }

/// Should this passage fail? `units`: size of the request in bytes. Context: any.
inline bool should_fail(fail_point point, uint64_t units) noexcept {
  return fail_points_armed() && base_detail::should_fail_slow(point, units);
}

/// Arms fail-nth for the calling thread for a scope: the nth passage (1-based) of any point fails; all later ones too if persistent.
/// Scopes nest; the inner one hides the outer one, whose count stands still. While a scope is open the points' own knobs do not apply
/// to the thread, as in the kernel. nth 0 arms nothing.
class fail_nth_scope {
 public:
  [[nodiscard]] fail_nth_scope(uint32_t nth, bool persistent) noexcept;
  ~fail_nth_scope();
  fail_nth_scope(const fail_nth_scope&) = delete;
  fail_nth_scope& operator=(const fail_nth_scope&) = delete;
  /// True once the nth passage was reached.
  bool hit() const noexcept;

 private:
  uint32_t saved_nth_;
  uint32_t saved_hits_;
  bool saved_persistent_;
};

}  // inline namespace
}  // namespace kmem
