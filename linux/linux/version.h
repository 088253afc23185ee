/* Which kernel's names are meant, where they changed: 6.1, or what -DKMEM_LINUX_VERSION="KERNEL_VERSION(a, b, c)" says. */
#ifndef KMEM_LINUX_VERSION_H
#define KMEM_LINUX_VERSION_H

#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
#ifdef KMEM_LINUX_VERSION
#define LINUX_VERSION_CODE KMEM_LINUX_VERSION
#else
#define LINUX_VERSION_CODE KERNEL_VERSION(6, 1, 0)
#endif

#endif
