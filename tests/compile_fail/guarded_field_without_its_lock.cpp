// expect: writing variable 'count' requires holding spinlock 'lock' exclusively
#include <kmem/context.hpp>

kmem::spinlock lock;
int count KMEM_GUARDED_BY(lock);

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  const kmem::spin_guard hold(lock);
  count = 1;
#else
  count = 1;
#endif
}
