// expect: cannot call function 'might_sleep' while atomic context 'atomic_context' is held
#include <kmem/context.hpp>

kmem::spinlock lock;

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  {
    const kmem::spin_irq_guard guard(lock);
  }
  kmem::might_sleep();
#else
  const kmem::spin_irq_guard guard(lock);
  kmem::might_sleep();
#endif
}
