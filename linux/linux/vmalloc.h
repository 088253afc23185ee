/* Memory that is contiguous only as addresses. */
#ifndef KMEM_LINUX_VMALLOC_H
#define KMEM_LINUX_VMALLOC_H

#include <linux/gfp.h>
#include <linux/mm.h>

static inline void *__vmalloc(unsigned long size, gfp_t gfp) { return kmem_linux_vmalloc(size, gfp); }
static inline void *vmalloc(unsigned long size) { return kmem_linux_vmalloc(size, GFP_KERNEL); }
static inline void *vzalloc(unsigned long size) { return kmem_linux_vmalloc(size, GFP_KERNEL | __GFP_ZERO); }
static inline void *vmalloc_node(unsigned long size, int node) { (void)node; return kmem_linux_vmalloc(size, GFP_KERNEL); }
static inline void *vzalloc_node(unsigned long size, int node) { (void)node; return kmem_linux_vmalloc(size, GFP_KERNEL | __GFP_ZERO); }
static inline void *vmalloc_user(unsigned long size) { return kmem_linux_vmalloc(size, GFP_KERNEL | __GFP_ZERO); }
static inline void *vmalloc_array(size_t n, size_t size) { return vmalloc(array_size(n, size)); }
static inline void *vcalloc(size_t n, size_t size) { return vzalloc(array_size(n, size)); }
static inline void vfree(const void *p) { kmem_vfree(p); }
#define __vmalloc(...) KMEM_LINUX_AT((__vmalloc)(__VA_ARGS__))
#define vmalloc(...) KMEM_LINUX_AT((vmalloc)(__VA_ARGS__))
#define vzalloc(...) KMEM_LINUX_AT((vzalloc)(__VA_ARGS__))
#define vmalloc_node(...) KMEM_LINUX_AT((vmalloc_node)(__VA_ARGS__))
#define vzalloc_node(...) KMEM_LINUX_AT((vzalloc_node)(__VA_ARGS__))
#define vmalloc_user(...) KMEM_LINUX_AT((vmalloc_user)(__VA_ARGS__))
#define vmalloc_array(...) KMEM_LINUX_AT((vmalloc_array)(__VA_ARGS__))
#define vcalloc(...) KMEM_LINUX_AT((vcalloc)(__VA_ARGS__))
#define vfree(...) KMEM_LINUX_AT_VOID((vfree)(__VA_ARGS__))

#endif
