// expect: bits that are no GFP flags
// compiler: g++
#include <kmem/kmem.hpp>

#if defined(KMEM_COMPILE_FAIL_FIXED)
constexpr kmem::gfp_t mask{0xcc0};
#else
constexpr kmem::gfp_t mask{0x80000cc0};
#endif
void* f() { return kmem::kmalloc<mask>(64); }
