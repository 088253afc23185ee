// expect: cannot be used together with the kernel face
// compiler: g++
#if !defined(KMEM_COMPILE_FAIL_FIXED)
#define GFP_KERNEL 0xcc0u  // as linux/gfp.h has it
#endif
#include <kmem/gfp_names.hpp>

static_assert(kmem::names::GFP_ATOMIC == kmem::gfp::atomic);
