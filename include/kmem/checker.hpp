// The reclaim checker: reports code that reclaim must not come to, with the stack of here and that of where the rule began.
//
//     void my_fs::write_back() {
//       kmem::fs_work work;   // takes locks that a caller of gfp::nofs may hold
//       ...
//
// Reported are: file system work (I/O) on a thread that reclaims for a mask without __GFP_FS (__GFP_IO), or inside a nofs (noio) scope; the
// same kind of work entered again by reclaim; and an allocation inside reclaim that may itself reclaim. Off it costs a call for a region.
#pragma once
#include <stdint.h>

#include <kmem/context.hpp>
#include <kmem/gfp.hpp>

namespace kmem {

/// Switches the checker for the process, as vm.reclaim_checker= does at the start. Context: any.
KMEM_EXPORT void set_reclaim_checker(bool on) noexcept;
/// Context: any.
[[nodiscard]] KMEM_EXPORT bool reclaim_checker() noexcept;

namespace detail {

enum class region_kind : uint8_t { io_work, fs_work, reclaim };
inline constexpr unsigned region_pcs = 12;

/// What a thread is inside of; on its stack, linked from the innermost one outwards.
struct region {
  region* outer = nullptr;
  const void* pcs[region_pcs] = {};  // where it was entered
  gfp_t gfp = gfp::none;             // reclaim: of the allocation
  region_kind kind = region_kind::io_work;
  uint8_t nr_pcs = 0;
  bool entered = false;
};
KMEM_EXPORT void enter_work(region& r, region_kind kind) noexcept;
KMEM_EXPORT void leave_work(region& r) noexcept;

template <region_kind Kind>
class work : no_copy {
 public:
  [[nodiscard]] work() noexcept { enter_work(region_, Kind); }
  ~work() { leave_work(region_); }

 private:
  region region_;
};

}  // namespace detail

/// Marks a region that __GFP_FS permits: work of a file system's, and whatever takes locks that are held around gfp::nofs. Context: any.
using fs_work = detail::work<detail::region_kind::fs_work>;
/// Marks a region that __GFP_IO permits: starting I/O, and whatever takes locks that are held around gfp::noio. Context: any.
using io_work = detail::work<detail::region_kind::io_work>;

}  // namespace kmem
