// expect: cannot call function 'vmalloc' while atomic context 'atomic_context' is held
#include <kmem/kmem.hpp>

kmem::spinlock lock;

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  kmem::vfree(kmem::vmalloc(100000));
  const kmem::spin_guard hold(lock);
#else
  const kmem::spin_guard hold(lock);
  kmem::vfree(kmem::vmalloc(100000));
#endif
}
