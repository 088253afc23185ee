// expect: no viable conversion from 'kmem::atomic<uint32_t>'
#include "base/base.hpp"

kmem::atomic<uint32_t> word{0};

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  const uint32_t value = word.load_relaxed();
  (void)value;
#else
  const uint32_t value = word;
  (void)value;
#endif
}
