// expect: no viable overloaded '='
// Which order? Operations name it.
#include "base/base.hpp"

kmem::atomic<uint32_t> word{0};

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  word.store_relaxed(1);
#else
  word = 1u;
#endif
}
