// expect: gfp::nofail needs gfp::direct_reclaim
#include <kmem/kmem.hpp>

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  kmem::kfree(kmem::kmalloc<kmem::gfp::kernel | kmem::gfp::nofail>(64));
#else
  kmem::kfree(kmem::kmalloc<kmem::gfp::atomic | kmem::gfp::nofail>(64));
#endif
}
