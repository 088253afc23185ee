/*
 * GFP_ATOMIC where it belongs: an interrupt fills a ring with allocated records, a tasklet and a timer do the same, a thread drains it.
 */
#include <linux/interrupt.h>
#include <linux/list.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timer.h>

#include "check.h"

struct record {
  struct list_head list;
  int from, context;
};

static LIST_HEAD(ring);
static DEFINE_SPINLOCK(ring_lock);
static int received[3], failures;

static void produce(int from) {
  struct record *r = kmalloc(sizeof(*r), GFP_ATOMIC);
  unsigned long flags;
  if (!r) {
    ++failures;
    return;
  }
  r->from = from;
  r->context = in_hardirq() ? 1 : in_serving_softirq() ? 2 : 0;
  CHECK(in_interrupt() && !in_task());
  spin_lock_irqsave(&ring_lock, flags);
  list_add_tail(&r->list, &ring);
  spin_unlock_irqrestore(&ring_lock, flags);
}

static void drain(void) {
  for (;;) {
    struct record *r;
    unsigned long flags;
    spin_lock_irqsave(&ring_lock, flags);
    r = list_first_entry_or_null(&ring, struct record, list);
    if (r) list_del(&r->list);
    spin_unlock_irqrestore(&ring_lock, flags);
    if (!r) return;
    CHECK(r->context == (r->from == 0 ? 1 : 2));
    ++received[r->from];
    kfree(r);
  }
}

struct device {
  struct tasklet_struct bottom;
  struct timer_list poll;
  int ticks;
};

static void bottom_half(struct tasklet_struct *t) {
  struct device *device = from_tasklet(device, t, bottom);
  CHECK(device->ticks >= 0 && !in_hardirq());
  produce(1);
}

static void poll(struct timer_list *t) {
  struct device *device = from_timer(device, t, poll);
  produce(2);
  if (++device->ticks < 5) mod_timer(&device->poll, jiffies + 1);
}

static irqreturn_t handler(int irq, void *p) {
  struct device *device = p;
  CHECK(irq == 3 && irqs_disabled());
  produce(0);
  tasklet_schedule(&device->bottom);
  return IRQ_HANDLED;
}

int main(void) {
  struct device *device = kzalloc(sizeof(*device), GFP_KERNEL);
  unsigned long flags;
  CHECK(device);
  tasklet_setup(&device->bottom, bottom_half);
  timer_setup(&device->poll, poll, 0);
  CHECK(request_irq(3, handler, IRQF_SHARED, "device", device) == 0);
  CHECK(request_irq(3, handler, 0, "greedy", NULL) == -EBUSY);

  for (int i = 0; i < 100; ++i) CHECK(raise(kmem_irq_signal(3)) == 0);
  drain();
  CHECK(received[0] == 100);
  CHECK(received[1] == 100);

  /* Kept while interrupts are off, and by a lock that the handler takes, too. */
  spin_lock_irqsave(&ring_lock, flags);
  for (int i = 0; i < 3; ++i) raise(kmem_irq_signal(3));
  CHECK(list_empty(&ring));
  spin_unlock_irqrestore(&ring_lock, flags);
  drain();
  CHECK(received[0] == 103);

  disable_irq(3);
  raise(kmem_irq_signal(3));
  enable_irq(3);
  drain();
  CHECK(received[0] == 104);

  local_bh_disable();
  raise(kmem_irq_signal(3));
  drain();
  CHECK(received[0] == 105 && received[1] == 104 - 2); /* three at once were one run */
  local_bh_enable();
  drain();
  CHECK(received[1] == 103);

  device->poll.expires = jiffies + 1;
  add_timer(&device->poll);
  WAIT_UNTIL(READ_ONCE(device->ticks) == 5);
  CHECK(del_timer_sync(&device->poll) == 0);
  drain();
  CHECK(received[2] == 5);

  free_irq(3, device);
  tasklet_kill(&device->bottom);
  CHECK(failures == 0);
  kfree(device);
  return 0;
}
