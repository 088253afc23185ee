// expect: gfp::dma with gfp::highmem_bit
#include <kmem/kmem.hpp>

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  kmem::kfree(kmem::kmalloc<kmem::gfp::kernel | kmem::gfp::dma>(64));
#else
  kmem::kfree(kmem::kmalloc<kmem::gfp::kernel | kmem::gfp::dma | kmem::gfp::highmem_bit>(64));
#endif
}
