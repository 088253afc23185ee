// expect: cannot call function 'might_sleep' while atomic context 'atomic_context' is held
#include <kmem/context.hpp>

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  {
    const kmem::hardirq_guard guard;
  }
  kmem::might_sleep();
#else
  const kmem::hardirq_guard guard;
  kmem::might_sleep();
#endif
}
