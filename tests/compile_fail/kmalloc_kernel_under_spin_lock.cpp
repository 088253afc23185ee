// expect: cannot call function 'kmalloc' while atomic context 'atomic_context' is held
// GFP_KERNEL may sleep; GFP_ATOMIC under the lock and GFP_KERNEL after it are fine.
#include <kmem/kmem.hpp>

kmem::spinlock lock;

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  {
    const kmem::spin_guard hold(lock);
    kmem::kfree(kmem::kmalloc<kmem::gfp::atomic>(64));
  }
  kmem::kfree(kmem::kmalloc<kmem::gfp::kernel>(64));
#else
  const kmem::spin_guard hold(lock);
  kmem::kfree(kmem::kmalloc<kmem::gfp::kernel>(64));
#endif
}
