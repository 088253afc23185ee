#ifndef KMEM_ASM_ERRNO_H
#define KMEM_ASM_ERRNO_H

#include <linux/errno.h>

#endif
