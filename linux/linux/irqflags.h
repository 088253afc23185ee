/* Interrupts of the calling thread. */
#ifndef KMEM_LINUX_IRQFLAGS_H
#define KMEM_LINUX_IRQFLAGS_H

#include <kmem/linux_api.h>
#include <linux/types.h>

#define local_irq_disable() ((void)kmem_linux_irqs_set_disabled(1))
#define local_irq_enable() ((void)kmem_linux_irqs_set_disabled(0))
#define local_irq_save(flags) \
  do {                        \
    unsigned long *kmem_flags_ = &(flags);             \
    *kmem_flags_ = kmem_linux_irqs_set_disabled(1);    \
  } while (0)
#define local_irq_restore(flags) ((void)kmem_linux_irqs_set_disabled((flags) != 0))
#define local_save_flags(flags) do { unsigned long *kmem_flags_ = &(flags); *kmem_flags_ = kmem_linux_irqs_disabled(); } while (0)
#define irqs_disabled() kmem_linux_irqs_disabled()
#define irqs_disabled_flags(flags) ((flags) != 0)

#endif
