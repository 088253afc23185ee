// What the files of this layer share with each other.
#pragma once
#include "memmap/memmap.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

/// Told of every level of a cgroup hierarchy that has a limit: bytes, at least 1, and what the group uses without inactive file cache.
struct cgroup_visitor {
  void* context;
  void (*visit)(void* context, uint64_t limit_bytes, uint64_t usage_bytes) noexcept;
};
/// Context: reads files; makes and drops a small mapping.
void for_each_cgroup_limit(const char* path_prefix, const cgroup_visitor& visitor) noexcept;

}  // inline namespace
}  // namespace kmem
