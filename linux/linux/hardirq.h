/* The contexts of interrupts. */
#ifndef KMEM_LINUX_HARDIRQ_H
#define KMEM_LINUX_HARDIRQ_H

#include <linux/bottom_half.h>
#include <linux/irqflags.h>
#include <linux/preempt.h>

#define irq_enter() kmem_linux_preempt_count_add(HARDIRQ_OFFSET)
#define irq_exit() kmem_linux_preempt_count_sub(HARDIRQ_OFFSET)
#define synchronize_irq(irq) kmem_synchronize_irq((int)(irq))

#endif
