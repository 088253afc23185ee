/* Orders of page blocks. MAX_ORDER was one more than the largest order until 6.4, which the version chosen decides. */
#ifndef KMEM_LINUX_MMZONE_H
#define KMEM_LINUX_MMZONE_H

#include <linux/version.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define MAX_ORDER 10
#define MAX_PAGE_ORDER 10
#else
#define MAX_ORDER 11
#endif
#define MAX_ORDER_NR_PAGES (1 << 10)
#define PAGE_ALLOC_COSTLY_ORDER 3
#define NUMA_NO_NODE (-1)
#define numa_node_id() 0

#endif
