#ifndef KMEM_LINUX_SMP_H
#define KMEM_LINUX_SMP_H

#include <linux/preempt.h>

#endif
