// expect: no viable conversion from 'int' to '(const )?kmem::order_t'
#include "base/base.hpp"

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  const kmem::order_t order{3};
  (void)order;
#else
  const kmem::order_t order = 3;
  (void)order;
#endif
}
