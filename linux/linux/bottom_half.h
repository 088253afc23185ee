/* Softirqs of the calling thread. */
#ifndef KMEM_LINUX_BOTTOM_HALF_H
#define KMEM_LINUX_BOTTOM_HALF_H

#include <linux/preempt.h>

#define local_bh_disable() kmem_linux_preempt_count_add(SOFTIRQ_DISABLE_OFFSET)
#define local_bh_enable() kmem_linux_preempt_count_sub(SOFTIRQ_DISABLE_OFFSET)

#endif
