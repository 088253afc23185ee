// What the files of the face behind the linux headers share.
#pragma once
#include <kmem/kmem.hpp>

#include "debug/debug.hpp"
#include "kmem/linux_api.h"

namespace kmem {

/// A word of a C structure as an atomic.
inline atomic<uint32_t>& as_atomic(uint32_t& word) noexcept {
  static_assert(sizeof(atomic<uint32_t>) == sizeof(uint32_t) && alignof(atomic<uint32_t>) == alignof(uint32_t));
  return reinterpret_cast<atomic<uint32_t>&>(word);
}

/// Reports a mistake at a place of the program's, with the stack. `text`: what the kernel would say.
KMEM_COLD void report_at(log_level level, const char* text, size_t length) noexcept;

}  // namespace kmem
