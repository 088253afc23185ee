// expect: ignoring return value of function declared with 'nodiscard'
#include <kmem/kmem.hpp>

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  kmem::kfree(kmem::kmalloc(64, kmem::gfp::kernel));
#else
  kmem::kmalloc(64, kmem::gfp::kernel);
#endif
}
