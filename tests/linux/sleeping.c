/*
 * What may not be done in atomic context is reported with this file and the line. Reports of a kind come once a second at most, so
 * each mistake is made by a process of its own.
 *
 * SAYS: BUG: sleeping function called from invalid context at [^\n]*sleeping\.c:@SPIN\n.*in_atomic\(\): 1, irqs_disabled\(\): 0
 * SAYS: invalid context at [^\n]*sleeping\.c:@CACHE\n
 * SAYS: invalid context at [^\n]*sleeping\.c:@PAGES\n
 * SAYS: invalid context at [^\n]*sleeping\.c:@VMALLOC\n.*in_atomic\(\): 0, irqs_disabled\(\): 1
 * SAYS: invalid context at [^\n]*sleeping\.c:@MUTEX\n
 * SAYS: invalid context at [^\n]*sleeping\.c:@TASKLET\n[^\n]*\npreempt_count: 100, expected: 0
 * SAYS: invalid context at [^\n]*sleeping\.c:@TIMER\n
 * SAYS: invalid context at [^\n]*sleeping\.c:@IRQ\n[^\n]*irqs_disabled\(\): 1[^\n]*\npreempt_count: 10000, expected: 0
 * SAYS: invalid context at [^\n]*sleeping\.c:@MIGHT\n
 * SAYS: BUG: scheduling while atomic: sleeping/\d+/0x00000002
 * TIMES 9: sleeping function called from invalid context
 */
#include <linux/delay.h>
#include <linux/interrupt.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/vmalloc.h>

#include "check.h"

static DEFINE_SPINLOCK(lock);
static DEFINE_MUTEX(mutex);
static int done;

/* A new process: true in the child, which ends at the next call. */
static int child_of_its_own(void) {
  static int in_child;
  int status = -1, child;
  if (in_child) _exit(0);
  child = fork();
  if (child == 0) return in_child = 1;
  CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
  return 0;
}

static void in_tasklet(struct tasklet_struct *t) {
  void *p = kmalloc(100, GFP_KERNEL); /* at TASKLET */
  (void)t;
  kfree(p);
  WRITE_ONCE(done, 1);
}
static DECLARE_TASKLET(tasklet, in_tasklet);

static void in_timer(struct timer_list *t) {
  void *p = kzalloc(100, GFP_NOFS); /* at TIMER */
  (void)t;
  kfree(p);
  WRITE_ONCE(done, 1);
}
static DEFINE_TIMER(timer, in_timer);

static irqreturn_t in_irq_handler(int irq, void *device) {
  void *p = kmalloc_array(10, 10, GFP_NOIO); /* at IRQ */
  (void)irq;
  (void)device;
  kfree(p);
  return IRQ_HANDLED;
}

int main(void) {
  struct kmem_cache *cache = kmem_cache_create("things", 64, 0, 0, NULL);
  unsigned long flags;
  void *p;

  if (child_of_its_own()) {
    spin_lock(&lock);
    p = kmalloc(100, GFP_KERNEL); /* at SPIN */
    kfree(p);
    p = kmalloc(100, GFP_ATOMIC);
    kfree(p);
    spin_unlock(&lock);
    child_of_its_own();
  }
  if (child_of_its_own()) {

    spin_lock_bh(&lock);
    p = kmem_cache_alloc(cache, GFP_KERNEL); /* at CACHE */
    kmem_cache_free(cache, p);
    p = kmem_cache_alloc(cache, GFP_NOWAIT);
    kmem_cache_free(cache, p);
    spin_unlock_bh(&lock);
    child_of_its_own();
  }
  if (child_of_its_own()) {

    preempt_disable();
    p = (void *)__get_free_page(GFP_USER); /* at PAGES */
    free_page(p);
    preempt_enable();
    child_of_its_own();
  }
  if (child_of_its_own()) {

    local_irq_save(flags);
    p = vmalloc(100); /* at VMALLOC */
    local_irq_restore(flags);
    vfree(p);
    child_of_its_own();
  }
  if (child_of_its_own()) {

    spin_lock(&lock);
    mutex_lock(&mutex); /* at MUTEX */
    mutex_unlock(&mutex);
    spin_unlock(&lock);
    child_of_its_own();
  }
  if (child_of_its_own()) {

    tasklet_schedule(&tasklet);
    WAIT_UNTIL(READ_ONCE(done));
    tasklet_kill(&tasklet);
    child_of_its_own();
  }
  if (child_of_its_own()) {

    done = 0;
    mod_timer(&timer, jiffies);
    WAIT_UNTIL(READ_ONCE(done));
    del_timer_sync(&timer);
    child_of_its_own();
  }
  if (child_of_its_own()) {

    CHECK(request_irq(1, in_irq_handler, 0, "device", NULL) == 0);
    raise(kmem_irq_signal(1));
    free_irq(1, NULL);
    child_of_its_own();
  }
  if (child_of_its_own()) {

    spin_lock(&lock);
    might_sleep(); /* at MIGHT */
    msleep(1);
    spin_unlock(&lock);
    child_of_its_own();
  }
  kmem_cache_destroy(cache);
  return 0;
}
