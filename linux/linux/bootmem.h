/* Memory taken before the allocator is up, in old kernels: here there is no such time, and a failure ends the process as there. */
#ifndef KMEM_LINUX_BOOTMEM_H
#define KMEM_LINUX_BOOTMEM_H

#include <linux/kernel.h>
#include <linux/slab.h>

static inline void *kmem_bootmem_(unsigned long size, gfp_t gfp) {
  void *memory = kmem_alloc_pages_exact(size, gfp | __GFP_ZERO);
  if (!memory) panic("alloc_bootmem: out of memory for %lu bytes", size);
  return memory;
}
#define alloc_bootmem(size) KMEM_LINUX_AT(kmem_bootmem_(size, GFP_KERNEL))
#define alloc_bootmem_pages(size) alloc_bootmem(size)
#define alloc_bootmem_low(size) KMEM_LINUX_AT(kmem_bootmem_(size, GFP_KERNEL | __GFP_DMA32))
#define alloc_bootmem_low_pages(size) alloc_bootmem_low(size)
static inline void free_bootmem(unsigned long address, unsigned long size) { kmem_free_pages_exact((void *)address, size); }

#endif
