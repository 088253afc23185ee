// expect: acquiring spinlock 'lock' that is already held
#include <kmem/context.hpp>

kmem::spinlock lock;

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  const kmem::spin_guard a(lock);
#else
  const kmem::spin_guard a(lock);
  const kmem::spin_guard_nested b(lock);
#endif
}
