/* What nearly all kernel code uses. */
#ifndef KMEM_LINUX_KERNEL_H
#define KMEM_LINUX_KERNEL_H

#include <linux/align.h>
#include <linux/bug.h>
#include <linux/compiler.h>
#include <linux/container_of.h>
#include <linux/errno.h>
#include <linux/limits.h>
#include <linux/log2.h>
#include <linux/math.h>
#include <linux/minmax.h>
#include <linux/printk.h>
#include <linux/types.h>

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]) + BUILD_BUG_ON_ZERO(__same_type((array), &(array)[0])))
#define FIELD_SIZEOF(type, member) sizeof_field(type, member)
#define upper_32_bits(n) ((u32)(((n) >> 16) >> 16))
#define lower_32_bits(n) ((u32)((n)&0xffffffff))

#define snprintf(...) kmem_linux_snprintf(__VA_ARGS__)
#define vsnprintf(buffer, size, format, arguments) kmem_linux_vsnprintf(buffer, size, format, arguments)
#define kasprintf(gfp, ...) KMEM_LINUX_AT(kmem_linux_asprintf(gfp, __VA_ARGS__))
#define kvasprintf(gfp, format, arguments) KMEM_LINUX_AT(kmem_linux_vasprintf(gfp, format, arguments))
#define panic(...) kmem_linux_panic(__VA_ARGS__)

/* A function that may sleep says so; in atomic context that is reported with the place. */
#define might_sleep() kmem_linux_might_sleep(__FILE__, __LINE__)
#define might_sleep_if(condition) do { if (condition) might_sleep(); } while (0)
#define cond_resched() __extension__({ kmem_linux_cond_resched(__FILE__, __LINE__); 0; })

#endif
