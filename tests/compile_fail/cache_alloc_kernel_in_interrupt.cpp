// expect: cannot call function 'kmem_cache_alloc' while atomic context 'atomic_context' is held
#include <kmem/kmem.hpp>

extern kmem::kmem_cache* cache;

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  const kmem::hardirq_guard interrupt;
  kmem::kmem_cache_free(cache, kmem::kmem_cache_alloc<kmem::gfp::atomic>(cache));
#else
  const kmem::hardirq_guard interrupt;
  kmem::kmem_cache_free(cache, kmem::kmem_cache_alloc<kmem::gfp::kernel>(cache));
#endif
}
