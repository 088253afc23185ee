// expect: no matching function for call to 'kmalloc'
#include <kmem/kmem.hpp>

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  kmem::kfree(kmem::kmalloc(64, kmem::gfp::kernel));
#else
  kmem::kfree(kmem::kmalloc(kmem::gfp::kernel, 64));
#endif
}
