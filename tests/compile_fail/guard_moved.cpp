// expect: call to (implicitly-)?deleted (copy )?constructor
#include <utility>
#include <kmem/context.hpp>

void example() {
#if defined(KMEM_COMPILE_FAIL_FIXED)
  kmem::preempt_guard a;
#else
  kmem::preempt_guard a;
  kmem::preempt_guard b(std::move(a));
#endif
}
