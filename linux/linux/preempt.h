/* The counts of the calling thread, and what they say about its context. */
#ifndef KMEM_LINUX_PREEMPT_H
#define KMEM_LINUX_PREEMPT_H

#include <kmem/linux_api.h>
#include <linux/types.h>

#define PREEMPT_BITS 8
#define SOFTIRQ_BITS 8
#define HARDIRQ_BITS 4
#define PREEMPT_SHIFT 0
#define SOFTIRQ_SHIFT 8
#define HARDIRQ_SHIFT 16
#define PREEMPT_MASK 0x000000ffu
#define SOFTIRQ_MASK 0x0000ff00u
#define HARDIRQ_MASK 0x000f0000u
#define PREEMPT_OFFSET 0x1u
#define SOFTIRQ_OFFSET 0x100u
#define SOFTIRQ_DISABLE_OFFSET 0x200u
#define HARDIRQ_OFFSET 0x10000u

#define preempt_count() ((int)kmem_linux_preempt_count())
#define hardirq_count() (kmem_linux_preempt_count() & HARDIRQ_MASK)
#define softirq_count() (kmem_linux_preempt_count() & SOFTIRQ_MASK)
#define irq_count() (kmem_linux_preempt_count() & (HARDIRQ_MASK | SOFTIRQ_MASK))
#define in_hardirq() (hardirq_count() != 0)
#define in_irq() in_hardirq()
#define in_softirq() (softirq_count() != 0)
#define in_serving_softirq() ((softirq_count() & SOFTIRQ_OFFSET) != 0)
#define in_interrupt() (irq_count() != 0)
#define in_task() (!(kmem_linux_preempt_count() & (HARDIRQ_MASK | SOFTIRQ_OFFSET)))
#define in_atomic() (kmem_linux_preempt_count() != 0)
#define preemptible() (kmem_linux_preempt_count() == 0 && !kmem_linux_irqs_disabled())

#define preempt_disable() kmem_linux_preempt_count_add(PREEMPT_OFFSET)
#define preempt_enable() kmem_linux_preempt_count_sub(PREEMPT_OFFSET)
#define preempt_enable_no_resched() preempt_enable()
#define get_cpu() __extension__({ preempt_disable(); kmem_linux_cpu(); })
#define put_cpu() preempt_enable()
#define smp_processor_id() kmem_linux_cpu()
#define raw_smp_processor_id() kmem_linux_cpu()

#endif
