// What vfork.S does around the system call.
//
// States.   `held`: how often this thread holds the arrays for children of vfork. The child shares the thread's variables and changes none.
// Contexts. As vfork: any, a signal handler too.
// Tests.    tests/programs/preload_vfork.sh
#include <sys/types.h>

#include "face_malloc/face_malloc.hpp"

namespace kmem {
namespace {

constinit thread_local unsigned held __attribute__((tls_model("initial-exec"))) = 0;

void hold_caches(machine& m, bool hold) noexcept {
  for (const reclaim_ops& ops : m.ops)
    if (ops.hold_caches != nullptr) ops.hold_caches(ops.context, hold);
}

}  // namespace
}  // namespace kmem

extern "C" {

/// Started if need be: what the child starts would be its parent's, too.
__attribute__((visibility("hidden"))) void kmem_vfork_prepare() noexcept {
  kmem::machine* const m = kmem::serving();
  if (m == nullptr) return;
  kmem::hold_caches(*m, true);
  ++kmem::held;
}

/// In the parent, when the child has ended or runs another program. Return: what vfork returns, for what the system call did.
__attribute__((visibility("hidden"))) pid_t kmem_vfork_parent(long result) noexcept {
  if (kmem::held != 0) {
    --kmem::held;
    kmem::hold_caches(kmem::process.object, false);
  }
  if (result >= 0) return static_cast<pid_t>(result);
  errno = static_cast<int>(-result);
  return -1;
}

}  // extern "C"
