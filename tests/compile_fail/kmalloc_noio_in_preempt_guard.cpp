// expect: cannot call function 'kmalloc' while atomic context 'atomic_context' is held
// NOIO forbids I/O, not sleeping.
#include <kmem/kmem.hpp>

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  const kmem::preempt_guard off;
  kmem::kfree(kmem::kmalloc<kmem::gfp::nowait>(64));
#else
  const kmem::preempt_guard off;
  kmem::kfree(kmem::kmalloc<kmem::gfp::noio>(64));
#endif
}
