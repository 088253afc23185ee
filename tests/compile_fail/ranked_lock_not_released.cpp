// expect: (ranked lock|mutex) 'lock' is (still held at the end of function|not held on every path)
#include "base/base.hpp"

kmem::ranked_lock lock{kmem::lock_rank::zone};

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  if (lock.lock_unless_nested()) lock.unlock();
#else
  if (lock.lock_unless_nested()) return;
#endif
}
