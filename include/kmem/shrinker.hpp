// Shrinkers: caches of the program's that are asked for a share of their objects when memory runs short, as in the kernel.
//
//     struct my_cache : kmem::shrinker { ... };
//     cache.count_objects = [](kmem::shrinker* self, kmem::shrink_control*) noexcept -> uint64_t { return objects that could be freed; };
//     cache.scan_objects = [](kmem::shrinker* self, kmem::shrink_control* sc) noexcept -> uint64_t { free sc->nr_to_scan; return freed; };
//     int error = kmem::register_shrinker(cache);
#pragma once
#include <stdint.h>

#include <kmem/context.hpp>
#include <kmem/gfp.hpp>

namespace kmem {

struct shrink_control {
  gfp_t gfp = gfp::none;    // what the allocation that is short of memory may do; kswapd: gfp::kernel
  int nid = 0;              // node; always 0
  uint64_t nr_to_scan = 0;  // scan: objects to look at
  uint64_t nr_scanned = 0;  // scan: objects looked at; nr_to_scan unless the shrinker says something else
};

inline constexpr uint64_t shrink_stop = ~uint64_t{0};       // SHRINK_STOP, from scan: no progress without a deadlock, do not ask again now
inline constexpr uint64_t shrink_empty = ~uint64_t{0} - 1;  // SHRINK_EMPTY, from count: there are no objects at all
inline constexpr int default_seeks = 2;                     // DEFAULT_SEEKS
inline constexpr long shrink_batch = 128;                   // objects in one call of scan

/// What a cache tells about itself. It must stay where it is while it is registered; only `private_data` may change then. In the child of a
/// fork it is still registered: a lock that another thread may have held is only tried (spinlock::try_lock_briefly), or pthread_atfork
/// handlers of the program hold it over the fork.
struct shrinker {
  /// Return: objects that could be freed now, an estimate; 0 or shrink_empty: none. Context: process; may not sleep for long.
  uint64_t (*count_objects)(shrinker* self, shrink_control* control) noexcept = nullptr;
  /// Looks at control->nr_to_scan objects and frees those that it can. Return: objects freed, or shrink_stop. Context: process, on a thread
  /// whose allocation is short of memory, or kswapd; no lock of the library held. What it allocates may use the reserves and never
  /// reclaims.
  uint64_t (*scan_objects)(shrinker* self, shrink_control* control) noexcept = nullptr;
  long batch = 0;               // objects in one call of scan; 0: shrink_batch
  int seeks = default_seeks;    // what an object costs to make again; 0: nothing, half of all are scanned at once
  gfp_t needs = gfp::none;      // gfp::io, gfp::fs or both: left out when the allocation's flags lack one of them
  uint32_t flags = 0;           // always 0
  void* private_data = nullptr;
  const char* name = nullptr;   // for reports

  // The library's.
  shrinker* next = nullptr;
  shrinker* previous = nullptr;
  uint64_t nr_deferred = 0;  // objects that were due but made no batch
  uint32_t running = 0;      // threads in it
  uint32_t state = 0;        // 0: not registered; 1: registered; 2: leaving
};

/// Has it asked from now on. From any thread, a shrinker included. Context: may sleep. Return: 0, or -22 for one without both functions,
/// with a negative batch or seeks or with needs other than io and fs, or -17 for one that is registered already.
[[nodiscard]] KMEM_EXPORT int register_shrinker(shrinker& s) noexcept KMEM_EXCLUDES(atomic_context);
/// Ends that, and waits until nobody is in it. Context: may sleep; not from the shrinker itself, which cannot be waited for (reported).
KMEM_EXPORT void unregister_shrinker(shrinker& s) noexcept KMEM_EXCLUDES(atomic_context);

/// Asked last, when reclaim has found nothing and before an allocation of order <= 3 that may call file systems waits or fails.
struct oom_notifier {
  /// Frees what the program can do without. Return: pages freed. Context: as for scan_objects.
  uint64_t (*notify)(oom_notifier* self) noexcept = nullptr;
  void* private_data = nullptr;

  // The library's.
  oom_notifier* next = nullptr;
  oom_notifier* previous = nullptr;
  uint32_t running = 0;
  uint32_t state = 0;
};

/// Context: may sleep. Return: 0, -22 without a function, or -17 if it is registered already.
[[nodiscard]] KMEM_EXPORT int register_oom_notifier(oom_notifier& n) noexcept KMEM_EXCLUDES(atomic_context);
/// Ends that, and waits until nobody is in it. Context: may sleep; not from the notifier itself.
KMEM_EXPORT void unregister_oom_notifier(oom_notifier& n) noexcept KMEM_EXCLUDES(atomic_context);

}  // namespace kmem
