// expect: deleting through a base class without a virtual destructor
// compiler: g++
#include <kmem/memory.hpp>

struct base {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  virtual ~base() = default;
#else
  ~base() = default;
#endif
  virtual int value() { return 1; }
};
struct derived final : base {};

int f() {
  const kmem::unique_ptr<base> p = kmem::make<derived>(kmem::gfp::kernel);
  return p->value();
}
