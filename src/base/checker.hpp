// What a thread reclaims for and which work it is in: for the reclaim checker, and so that reclaim is never entered twice.
#pragma once
#include <kmem/checker.hpp>

#include "base/context.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

/// The reclaim that the calling thread is in. Return: nullptr if it is in none.
inline const detail::region* inside_reclaim() noexcept {
  const detail::region* r = current().regions;
  while (r != nullptr && r->kind != detail::region_kind::reclaim) r = r->outer;
  return r;
}

/// The thread reclaims for `gfp` in this scope.
class reclaim_region {
 public:
  [[nodiscard]] explicit reclaim_region(gfp_t gfp) noexcept;
  ~reclaim_region() { current().regions = region_.outer; }
  reclaim_region(const reclaim_region&) = delete;
  reclaim_region& operator=(const reclaim_region&) = delete;

 private:
  detail::region region_;
};

/// May the thread begin to reclaim for `gfp`? Not while it does already (reported if the checker is on).
bool check_no_recursion(gfp_t gfp) noexcept;

}  // inline namespace
}  // namespace kmem
