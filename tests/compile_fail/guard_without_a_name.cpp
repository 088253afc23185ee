// expect: ignoring temporary created by a constructor declared with 'nodiscard'
// A temporary ends at the semicolon and guards nothing.
#include <kmem/context.hpp>

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  const kmem::preempt_guard off;
#else
  kmem::preempt_guard();
#endif
}
