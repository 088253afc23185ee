/* What code asks of the scheduler. */
#ifndef KMEM_LINUX_SCHED_H
#define KMEM_LINUX_SCHED_H

#include <kmem/linux_api.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/preempt.h>
#include <linux/spinlock.h>

#define schedule() kmem_linux_schedule(__FILE__, __LINE__)
#define yield() kmem_linux_schedule(__FILE__, __LINE__)

#endif
