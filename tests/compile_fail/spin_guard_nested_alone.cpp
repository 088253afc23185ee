// expect: requires holding atomic context 'atomic_context'
#include <kmem/context.hpp>

kmem::spinlock lock;

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  const kmem::spin_guard hold(lock);
#else
  const kmem::spin_guard_nested hold(lock);
#endif
}
