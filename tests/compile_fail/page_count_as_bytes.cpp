// expect: no viable conversion from '(kmem::)?nr_pages_t' to '(const )?size_t'
#include "base/base.hpp"

void example(kmem::nr_pages_t n) {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  const size_t size = bytes(n);
  (void)size;
#else
  const size_t size = n;
  (void)size;
#endif
}
