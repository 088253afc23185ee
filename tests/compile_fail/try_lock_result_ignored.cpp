// expect: ignoring return value of function declared with 'nodiscard'
#include <kmem/context.hpp>

kmem::spinlock lock;

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  if (lock.try_lock()) lock.unlock();
#else
  lock.try_lock();
#endif
}
