#ifndef KMEM_ASM_SEMAPHORE_H
#define KMEM_ASM_SEMAPHORE_H

#include <linux/semaphore.h>

#endif
