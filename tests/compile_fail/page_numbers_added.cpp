// expect: invalid operands to binary expression \('(kmem::)?pfn_t' and '(kmem::)?pfn_t'\)
// The distance of two is a count of pages, and can be added.
#include "base/base.hpp"

void example(kmem::pfn_t a, kmem::pfn_t b) {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  (void)(a + (b - a));
#else
  (void)(a + b);
#endif
}
