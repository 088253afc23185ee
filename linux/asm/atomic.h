#ifndef KMEM_ASM_ATOMIC_H
#define KMEM_ASM_ATOMIC_H

#include <linux/atomic.h>

#endif
