// Shrinkers and OOM notifiers. Part of the layer `reclaim`; see shrinker.cpp.
#pragma once
#include <kmem/shrinker.hpp>

#include "vmalloc/vmalloc.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
struct machine;

/// A thread inside a shrinker or a notifier: lives on its stack, linked while it runs.
struct shrinker_frame {
  shrinker_frame* next = nullptr;
  const task_context* thread = nullptr;
  const void* inside = nullptr;  // the shrinker or notifier
  uint32_t* running = nullptr;   // its count
};

struct shrinker_state {
  ranked_lock lock{lock_rank::shrinkers};
  fork_lock fork;
  shrinker* first KMEM_GUARDED_BY(lock) = nullptr;  // in the order of registration
  shrinker* last KMEM_GUARDED_BY(lock) = nullptr;
  oom_notifier* first_notifier KMEM_GUARDED_BY(lock) = nullptr;
  oom_notifier* last_notifier KMEM_GUARDED_BY(lock) = nullptr;
  shrinker_frame* frames KMEM_GUARDED_BY(lock) = nullptr;
  atomic<uint32_t> nr_shrinkers{0}, nr_notifiers{0};  // on the lists
  atomic<uint32_t> ends{0};                           // futex word: raised whenever one returns
};

/// Priorities go from here to 0; at `priority` a shrinker is asked for 4 / seeks of count / 2^priority of its objects.
inline constexpr unsigned reclaim_priority_first = 12;

err add_shrinker(machine& m, shrinker& s) noexcept;
void remove_shrinker(machine& m, shrinker& s) noexcept;
/// Asks every shrinker that `gfp` permits for its share at `priority`. Return: objects freed. Context: process, no lock held; elsewhere
/// nothing happens.
uint64_t run_shrinkers(machine& m, gfp_t gfp, unsigned priority) noexcept;
/// The same with falling priority, until `nr_pages` are free above min in a zone that `gfp` may use. Return: pages freed, by whomever.
uint64_t shrink_pages(machine& m, gfp_t gfp, uint64_t nr_pages) noexcept;

err add_oom_notifier(machine& m, oom_notifier& n) noexcept;
void remove_oom_notifier(machine& m, oom_notifier& n) noexcept;
/// Asks every notifier. Return: pages freed. Context: as run_shrinkers.
uint64_t run_oom_notifiers(machine& m, gfp_t gfp) noexcept;

void forget_shrinkers(machine& m) noexcept;
/// Return: nullptr, or what is wrong.
const char* shrinkers_are_valid(machine& m) noexcept;
/// In the child of a fork: other threads are gone, and with them what they had been running.
void shrinkers_fork_child(machine& m) noexcept;

}  // inline namespace
}  // namespace kmem
