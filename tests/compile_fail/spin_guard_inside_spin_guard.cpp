// expect: acquiring (atomic context|spinlock) 'atomic_context' that is already held
// A second lock says that it is one: spin_guard_nested.
#include <kmem/context.hpp>

kmem::spinlock outer, inner;

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  const kmem::spin_guard a(outer);
  const kmem::spin_guard_nested b(inner);
#else
  const kmem::spin_guard a(outer);
  const kmem::spin_guard b(inner);
#endif
}
