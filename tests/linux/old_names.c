/*
 * Source of the time of the 2.6 kernels compiles and runs: names of masks, caches, tasklets, timers, semaphores.
 *
 * FLAGS: -DKMEM_LINUX_VERSION=KERNEL_VERSION(2,6,32)
 */
#include <asm/atomic.h>
#include <asm/page.h>
#include <asm/semaphore.h>
#include <linux/bootmem.h>
#include <linux/init.h>
#include <linux/interrupt.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/timer.h>

#include "check.h"

_Static_assert(__GFP_WAIT == __GFP_DIRECT_RECLAIM && __GFP_REPEAT == __GFP_RETRY_MAYFAIL, "one bit each");
_Static_assert(__GFP_COLD != 0 && (__GFP_COLD & (__GFP_COLD - 1)) == 0, "one bit");
_Static_assert(MAX_ORDER == 11, "exclusive");
_Static_assert(SLAB_KERNEL == GFP_KERNEL && SLAB_ATOMIC == GFP_ATOMIC && SLAB_DMA == GFP_DMA && SLAB_NOFS == GFP_NOFS &&
                   SLAB_NOIO == GFP_NOIO && SLAB_USER == GFP_USER, "masks");

static kmem_cache_t *cache;
static int tasklets, timers;
static void do_tasklet(unsigned long data) { tasklets += (int)data; }
static void do_timer(unsigned long data) { WRITE_ONCE(timers, timers + (int)data); }
static DECLARE_TASKLET(tasklet, do_tasklet, 5);
static DECLARE_TASKLET_DISABLED(sleeper, do_tasklet, 10);
static DEFINE_TIMER(timer, do_timer, 0, 3);
static DECLARE_MUTEX(mutex);
static spinlock_t lock = SPIN_LOCK_UNLOCKED;

static int __init old_init(void) {
  struct timer_list own;
  struct semaphore sem;
  struct page *page;
  unsigned long pages, flags;
  void *p;
  int i;

  cache = kmem_cache_create("old", 100, 0, SLAB_HWCACHE_ALIGN, NULL);
  if (!cache) return -ENOMEM;
  p = kmem_cache_alloc(cache, SLAB_KERNEL);
  CHECK(p);
  kmem_cache_free(cache, p);
  p = kmem_cache_alloc(cache, SLAB_ATOMIC);
  kmem_cache_free(cache, p);
  kmem_cache_destroy(cache);

  p = kmalloc(100, __GFP_WAIT | __GFP_REPEAT);
  CHECK(p);
  kfree(p);
  page = alloc_pages(GFP_KERNEL | __GFP_COLD, MAX_ORDER - 1);
  CHECK(page && page_count(page) == 1);
  CHECK(virt_to_page(page_address(page) + PAGE_SIZE) == page + 1);
  __free_pages(page, MAX_ORDER - 1);
  CHECK(!alloc_pages(GFP_KERNEL | __GFP_NOWARN, MAX_ORDER));
  pages = __get_dma_pages(GFP_KERNEL, 0);
  CHECK(pages && page_to_pfn(virt_to_page(pages)) < (16 << 20 >> PAGE_SHIFT));
  free_page(pages);
  p = alloc_bootmem(3 * PAGE_SIZE);
  CHECK(!memchr_inv(p, 0, 3 * PAGE_SIZE));
  free_bootmem((unsigned long)p, 3 * PAGE_SIZE);

  irq_enter();
  tasklet_schedule(&tasklet);
  tasklet_schedule(&sleeper);
  irq_exit();
  CHECK(tasklets == 5);
  irq_enter();
  tasklet_enable(&sleeper);
  irq_exit();
  CHECK(tasklets == 15);

  timer.expires = jiffies + 1;
  add_timer(&timer);
  init_timer(&own);
  own.function = do_timer;
  own.data = 4;
  own.expires = jiffies + 1;
  add_timer(&own);
  WAIT_UNTIL(READ_ONCE(timers) == 7);
  del_timer_sync(&own);
  setup_timer(&own, do_timer, 8);
  mod_timer(&own, jiffies + 100000);
  CHECK(timer_pending(&own) && del_timer(&own));

  init_MUTEX_LOCKED(&sem);
  CHECK(down_trylock(&sem));
  up(&sem);
  CHECK(down_interruptible(&sem) == 0);
  down(&mutex);
  up(&mutex);
  spin_lock_irqsave(&lock, flags);
  CHECK(irqs_disabled() && spin_is_locked(&lock));
  spin_unlock_irqrestore(&lock, flags);
  for (i = 0; i < 3; ++i) cond_resched();
  return 0;
}
static void __exit old_exit(void) {}
module_init(old_init);
module_exit(old_exit);
EXPORT_SYMBOL(old_init);

int main(void) { return init_module(); }
