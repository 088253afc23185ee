// expect: gfp::nofail with gfp::noretry
#include <kmem/kmem.hpp>

#if defined(KMEM_COMPILE_FAIL_FIXED)
constexpr kmem::gfp_t mask = kmem::gfp::kernel | kmem::gfp::noretry;
#else
constexpr kmem::gfp_t mask = kmem::gfp::kernel | kmem::gfp::nofail | kmem::gfp::noretry;
#endif
void* f(kmem::kmem_cache* cache) { return kmem::kmem_cache_alloc<mask>(cache); }
