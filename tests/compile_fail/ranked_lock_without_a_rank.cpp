// expect: no matching constructor for initialization of '(kmem::)?ranked_lock'
#include "base/base.hpp"

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  kmem::ranked_lock lock(kmem::lock_rank::zone);
  (void)lock;
#else
  kmem::ranked_lock lock;
  (void)lock;
#endif
}
