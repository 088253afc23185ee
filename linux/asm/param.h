#ifndef KMEM_ASM_PARAM_H
#define KMEM_ASM_PARAM_H

#include <linux/param.h>

#endif
