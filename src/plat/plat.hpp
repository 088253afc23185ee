// The platform: everything the core asks of the machine, as a concept with two back ends.
//
//   linux/  system calls of a real process          sim/  a seeded scheduler: virtual CPUs, memory and clock
//
// The core names only `plat::` functions. Under KMEM_SIM they are the simulation's, and every atomic, lock and platform
// call is a scheduling point (yield_point). The two builds live in different inline namespaces, so they cannot be mixed.
//
// Context: every function may be called from any context unless it says otherwise; none allocates, none changes errno.
#pragma once
#include "plat/platform.hpp"

#if defined(KMEM_SIM)
#include "plat/sim/plat_sim.hpp"
namespace kmem {
KMEM_BUILD_NAMESPACE {
using plat = plat_sim;
}
}  // namespace kmem
#else
#include "plat/linux/plat_linux.hpp"
namespace kmem {
KMEM_BUILD_NAMESPACE {
using plat = plat_linux;
}
}  // namespace kmem
#endif

namespace kmem {
static_assert(platform<plat>);
}
