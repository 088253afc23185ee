// What the files of this layer share with each other.
#pragma once
#include "memmap/memmap.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
/// A piece of text that is not NUL-terminated; reading past its end gives NUL.
struct piece {
  const char* text = nullptr;
  size_t length = 0;
  char operator[](size_t i) const noexcept { return i < length ? text[i] : '\0'; }
  piece from(size_t i) const noexcept { return i < length ? piece{text + i, length - i} : piece{}; }
};

inline piece whole(const char* text) noexcept {
  size_t n = 0;
  while (text[n] != '\0') ++n;
  return {text, n};
}

inline bool equal(piece p, const char* text) noexcept {
  for (size_t i = 0; i < p.length; ++i)
    if (text[i] == '\0' || text[i] != p.text[i]) return false;
  return text[p.length] == '\0';
}

/// Told of every level of a cgroup hierarchy that has a limit: bytes, at least 1, and what the group uses without inactive file cache.
struct cgroup_visitor {
  void* context;
  void (*visit)(void* context, uint64_t limit_bytes, uint64_t usage_bytes) noexcept;
};
/// Context: reads files; makes and drops a small mapping.
void for_each_cgroup_limit(const char* path_prefix, const cgroup_visitor& visitor) noexcept;

}  // inline namespace
}  // namespace kmem
