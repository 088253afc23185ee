// Assertions and the reports of programmer errors.
#pragma once
#include "base/printk.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

/// Prints "kernel BUG"-like text with file and line, then dies. Context: any.
[[noreturn]] KMEM_COLD void bug(const char* what, const char* file, int line) noexcept;

/// Return addresses of the callers, innermost first, found through frame pointers checked against the stack. Return: how many.
unsigned capture_stack(const void** pcs, unsigned capacity) noexcept;

/// The check behind might_sleep(): a report when the calling thread is in atomic context. Return: true if the context was fine.
bool check_may_sleep(const char* file, int line) noexcept;
/// Called by whoever is about to really block: "scheduling while atomic". Return: true if the context was fine.
bool check_schedule() noexcept;

}  // inline namespace
}  // namespace kmem

/// Always on: O(1) checks on slow paths and at frees.
#define KMEM_CHECK(condition) (KMEM_LIKELY(condition) ? void(0) : ::kmem::bug(#condition, __FILE__, __LINE__))
/// Debug builds only; the expression is still compiled in release.
#if defined(KMEM_DEBUG)
#define KMEM_ASSERT(condition) KMEM_CHECK(condition)
#else
#define KMEM_ASSERT(condition) ((void)sizeof(!(condition)))
#endif
