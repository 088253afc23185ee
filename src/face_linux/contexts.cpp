// Contexts, sleeping and memory for the linux headers: what the C functions of the library do not have.
//
// States.   The place of a caller is kept in the thread's context while a call of it runs (kmem_linux_enter .. leave).
// Contexts. As the kernel's functions of the same name. Locks. None.
// Kernel.   schedule() lets others run and comes back: there is no state of a task that it could wait in.
// Tests.    tests/linux/
#include <kmem/kmem.h>

#include "face_linux/face_linux.hpp"

using namespace kmem;

// What linux/shrinker.h, linux/interrupt.h and linux/timer.h lay out by hand.
static_assert(sizeof(kmem_shrinker) == 88 && offsetof(kmem_shrinker, seeks) == 24 && offsetof(kmem_shrinker, private_data) == 40 &&
              offsetof(kmem_shrinker, library_list) == 56 && sizeof(kmem_shrink_control) == 24);
static_assert(sizeof(kmem_tasklet) == 40 && offsetof(kmem_tasklet, flags) == 16 && offsetof(kmem_tasklet, state) == 24);
static_assert(sizeof(kmem_timer) == 64 && offsetof(kmem_timer, flags) == 24 && offsetof(kmem_timer, due) == 32);
static_assert(sizeof(kmem::page) == 64 && offsetof(kmem::page, private_words) == 32);

extern "C" {

kmem_linux_site kmem_linux_enter(const char* file, int line) {
  task_context& task = current();
  const kmem_linux_site before{task.site_file, task.site_line};
  task.site_line = line;
  task.site_file = file;
  return before;
}

void kmem_linux_leave(kmem_linux_site before) {
  task_context& task = current();
  task.site_file = before.file;
  task.site_line = before.line;
}

unsigned kmem_linux_preempt_count(void) { return preempt_count(); }
void kmem_linux_preempt_count_add(unsigned units) { preempt_count_add(units); }
void kmem_linux_preempt_count_sub(unsigned units) { preempt_count_sub(units); }
bool kmem_linux_irqs_disabled(void) { return irqs_disabled(); }
bool kmem_linux_irqs_set_disabled(bool disabled) { return irqs_set_disabled(disabled); }

void kmem_linux_might_sleep(const char* file, int line) {
  const call_site here(file, line);
  check_may_sleep(file, line);
}

void kmem_linux_schedule(const char* file, int line) {
  const call_site here(file, line);
  constexpr unsigned yields = 199;  // the step of plat::relax that gives the CPU away
  check_schedule();
  plat::relax(yields);
}

void kmem_linux_cond_resched(const char* file, int line) {
  const call_site here(file, line);
  constexpr unsigned yields = 199;
  if (check_may_sleep(file, line)) plat::relax(yields);
}

void kmem_linux_sleep_ns(uint64_t ns, const char* file, int line) {
  const call_site here(file, line);
  check_schedule();
  const uint64_t until = plat::now_ns() + ns;
  atomic<uint32_t> never{0};
  for (uint64_t now = plat::now_ns(); now < until; now = plat::now_ns()) plat::futex_wait(never.word(), 0, until - now);
}

void kmem_linux_delay_ns(uint64_t ns) {
  const uint64_t until = plat::now_ns() + ns;
  while (plat::now_ns() < until) plat::relax(0);
}

unsigned kmem_linux_memalloc_save(unsigned scopes) { return memalloc_save(scopes); }
void kmem_linux_memalloc_restore(unsigned scopes, unsigned before) { memalloc_restore(scopes, before); }
int kmem_linux_cpu(void) { return plat::cpu(); }

void* kmem_linux_vmalloc(size_t size, uint32_t gfp) { return kmem::vmalloc(size, gfp_t(gfp)); }

}  // extern "C"
