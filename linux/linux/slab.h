/* kmalloc and caches of equal objects. */
#ifndef KMEM_LINUX_SLAB_H
#define KMEM_LINUX_SLAB_H

#include <linux/cache.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/string.h>
#include <linux/types.h>

#define SLAB_HWCACHE_ALIGN ((slab_flags_t)0x2000u)
#define SLAB_CACHE_DMA ((slab_flags_t)0x4000u)
#define SLAB_CACHE_DMA32 ((slab_flags_t)0x8000u)
#define SLAB_RECLAIM_ACCOUNT ((slab_flags_t)0x20000u)
#define SLAB_PANIC ((slab_flags_t)0x40000u)
#define SLAB_TEMPORARY SLAB_RECLAIM_ACCOUNT
#define SLAB_NO_MERGE ((slab_flags_t)0x1000000u)
/* One node, no tenants: every cache is spread over all nodes, and charged to the only account there is. */
#define SLAB_MEM_SPREAD ((slab_flags_t)0)
#define SLAB_ACCOUNT ((slab_flags_t)0)
#define ARCH_KMALLOC_MINALIGN 8
#define ARCH_SLAB_MINALIGN 8
#define KMALLOC_MIN_SIZE 8
#define KMALLOC_MAX_SIZE (1UL << (PAGE_SHIFT + 10))

/* Masks under their oldest names. */
#define SLAB_ATOMIC GFP_ATOMIC
#define SLAB_KERNEL GFP_KERNEL
#define SLAB_USER GFP_USER
#define SLAB_NOFS GFP_NOFS
#define SLAB_NOIO GFP_NOIO
#define SLAB_DMA GFP_DMA

#define ZERO_SIZE_PTR ((void *)16)
#define ZERO_OR_NULL_PTR(p) ((unsigned long)(p) <= (unsigned long)ZERO_SIZE_PTR)

static inline void *kmalloc(size_t size, gfp_t gfp) { return kmem_kmalloc(size, gfp); }
static inline void *kzalloc(size_t size, gfp_t gfp) { return kmem_kzalloc(size, gfp); }
static inline void *kmalloc_node(size_t size, gfp_t gfp, int node) { (void)node; return kmem_kmalloc(size, gfp); }
static inline void *kzalloc_node(size_t size, gfp_t gfp, int node) { (void)node; return kmem_kzalloc(size, gfp); }
static inline void *kmalloc_array(size_t n, size_t size, gfp_t gfp) { return kmem_kmalloc_array(n, size, gfp); }
static inline void *kcalloc(size_t n, size_t size, gfp_t gfp) { return kmem_kcalloc(n, size, gfp); }
static inline void *krealloc(const void *p, size_t size, gfp_t gfp) { return kmem_krealloc(p, size, gfp); }
static inline void *krealloc_array(const void *p, size_t n, size_t size, gfp_t gfp) { return kmem_krealloc_array(p, n, size, gfp); }
static inline void kfree(const void *p) { kmem_kfree(p); }
static inline void kfree_sensitive(const void *p) { kmem_kfree_sensitive(p); }
#define kzfree(p) kfree_sensitive(p)
static inline size_t ksize(const void *p) { return kmem_ksize(p); }
static inline size_t kmalloc_size_roundup(size_t size) { return kmem_kmalloc_size_roundup(size); }
#define kmalloc(...) KMEM_LINUX_AT((kmalloc)(__VA_ARGS__))
#define kzalloc(...) KMEM_LINUX_AT((kzalloc)(__VA_ARGS__))
#define kmalloc_node(...) KMEM_LINUX_AT((kmalloc_node)(__VA_ARGS__))
#define kzalloc_node(...) KMEM_LINUX_AT((kzalloc_node)(__VA_ARGS__))
#define kmalloc_array(...) KMEM_LINUX_AT((kmalloc_array)(__VA_ARGS__))
#define kcalloc(...) KMEM_LINUX_AT((kcalloc)(__VA_ARGS__))
#define krealloc(...) KMEM_LINUX_AT((krealloc)(__VA_ARGS__))
#define krealloc_array(...) KMEM_LINUX_AT((krealloc_array)(__VA_ARGS__))

typedef struct kmem_cache kmem_cache_t;

static inline void *kmem_cache_alloc_node(struct kmem_cache *cache, gfp_t gfp, int node) {
  (void)node;
  return kmem_cache_alloc(cache, gfp);
}
#define kmem_cache_create(...) KMEM_LINUX_AT((kmem_cache_create)(__VA_ARGS__))
#define kmem_cache_create_usercopy(name, size, align, flags, offset, length, constructor) \
  __extension__({ (void)(offset); (void)(length); kmem_cache_create(name, size, align, flags, constructor); })
#define KMEM_CACHE(type, flags) kmem_cache_create(#type, sizeof(struct type), __alignof__(struct type), (flags), NULL)
#define kmem_cache_destroy(...) KMEM_LINUX_AT_VOID((kmem_cache_destroy)(__VA_ARGS__))
#define kmem_cache_alloc(...) KMEM_LINUX_AT((kmem_cache_alloc)(__VA_ARGS__))
#define kmem_cache_zalloc(...) KMEM_LINUX_AT((kmem_cache_zalloc)(__VA_ARGS__))
#define kmem_cache_alloc_node(...) KMEM_LINUX_AT((kmem_cache_alloc_node)(__VA_ARGS__))
#define kmem_cache_alloc_bulk(...) KMEM_LINUX_AT((int)(kmem_cache_alloc_bulk)(__VA_ARGS__))
#define kmem_cache_shrink(...) KMEM_LINUX_AT((int)((kmem_cache_shrink)(__VA_ARGS__), 0))

/* Objects taken in advance, which then cannot fail to be there. */
struct slab_sheaf;
#define kmem_cache_prefill_sheaf(cache, gfp, size) \
  KMEM_LINUX_AT((struct slab_sheaf *)(kmem_cache_prefill_sheaf)(cache, gfp, size))
#define kmem_cache_alloc_from_sheaf(cache, gfp, sheaf) (kmem_cache_alloc_from_sheaf)(cache, gfp, (struct kmem_sheaf *)(sheaf))
#define kmem_cache_refill_sheaf(cache, gfp, sheafp, size) \
  KMEM_LINUX_AT((kmem_cache_refill_sheaf)(cache, gfp, (struct kmem_sheaf **)(void *)(sheafp), size))
#define kmem_cache_return_sheaf(cache, gfp, sheaf) (kmem_cache_return_sheaf)(cache, gfp, (struct kmem_sheaf *)(sheaf))
#define kmem_cache_sheaf_size(sheaf) (kmem_cache_sheaf_size)((const struct kmem_sheaf *)(sheaf))

#endif
