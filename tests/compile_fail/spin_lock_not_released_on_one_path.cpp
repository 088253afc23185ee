// expect: (spinlock|mutex) 'lock' is not held on every path through here
// A guard would have seen to it.
#include <kmem/context.hpp>

kmem::spinlock lock;

void example(bool stop) {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  lock.lock();
  if (stop) {
    lock.unlock();
    return;
  }
  lock.unlock();
#else
  lock.lock();
  if (stop) return;
  lock.unlock();
#endif
}
