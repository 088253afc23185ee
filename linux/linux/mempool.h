/* Elements set aside, so that who may block always gets one. */
#ifndef KMEM_LINUX_MEMPOOL_H
#define KMEM_LINUX_MEMPOOL_H

#include <linux/gfp.h>
#include <linux/slab.h>

typedef void *(mempool_alloc_t)(gfp_t gfp_mask, void *pool_data);
typedef void(mempool_free_t)(void *element, void *pool_data);

typedef struct mempool_s {
  struct kmem_mempool *kmem;
  int min_nr;
  void *pool_data;
  mempool_alloc_t *alloc;
  mempool_free_t *free;
} mempool_t;

/* Return: 0 or -ENOMEM. */
static inline int mempool_init(mempool_t *pool, int min_nr, mempool_alloc_t *alloc, mempool_free_t *free, void *pool_data) {
  *pool = (mempool_t){ kmem_mempool_create((unsigned)min_nr, alloc, free, pool_data), min_nr, pool_data, alloc, free };
  return pool->kmem ? 0 : -12;
}
static inline void mempool_exit(mempool_t *pool) {
  kmem_mempool_destroy(pool->kmem);
  pool->kmem = NULL;
}
static inline mempool_t *mempool_create(int min_nr, mempool_alloc_t *alloc, mempool_free_t *free, void *pool_data) {
  mempool_t *pool = (mempool_t *)kmem_kmalloc(sizeof(*pool), GFP_KERNEL);
  if (pool && mempool_init(pool, min_nr, alloc, free, pool_data)) {
    kmem_kfree(pool);
    pool = NULL;
  }
  return pool;
}
static inline void mempool_destroy(mempool_t *pool) {
  if (!pool) return;
  mempool_exit(pool);
  kmem_kfree(pool);
}
static inline int mempool_resize(mempool_t *pool, int min_nr) {
  int error = kmem_mempool_resize(pool->kmem, (unsigned)min_nr);
  if (!error) pool->min_nr = min_nr;
  return error;
}
static inline void *mempool_alloc(mempool_t *pool, gfp_t gfp) { return kmem_mempool_alloc(pool->kmem, gfp); }
static inline void mempool_free(void *element, mempool_t *pool) { kmem_mempool_free(element, pool->kmem); }
#define mempool_init(...) KMEM_LINUX_AT((mempool_init)(__VA_ARGS__))
#define mempool_create(...) KMEM_LINUX_AT((mempool_create)(__VA_ARGS__))
#define mempool_resize(...) KMEM_LINUX_AT((mempool_resize)(__VA_ARGS__))
#define mempool_alloc(...) KMEM_LINUX_AT((mempool_alloc)(__VA_ARGS__))

static inline void *mempool_alloc_slab(gfp_t gfp, void *cache) { return (kmem_cache_alloc)((struct kmem_cache *)cache, gfp); }
static inline void mempool_free_slab(void *element, void *cache) { kmem_cache_free((struct kmem_cache *)cache, element); }
static inline void *mempool_kmalloc(gfp_t gfp, void *size) { return kmem_kmalloc((size_t)size, gfp); }
static inline void mempool_kfree(void *element, void *size) {
  (void)size;
  kmem_kfree(element);
}
static inline void *mempool_alloc_pages(gfp_t gfp, void *order) { return kmem_alloc_pages(gfp, (unsigned)(unsigned long)order); }
static inline void mempool_free_pages(void *element, void *order) {
  kmem_free_pages((struct kmem_page *)element, (unsigned)(unsigned long)order);
}
#define mempool_create_slab_pool(n, cache) mempool_create(n, mempool_alloc_slab, mempool_free_slab, (void *)(cache))
#define mempool_create_kmalloc_pool(n, size) mempool_create(n, mempool_kmalloc, mempool_kfree, (void *)(size_t)(size))
#define mempool_create_page_pool(n, order) mempool_create(n, mempool_alloc_pages, mempool_free_pages, (void *)(unsigned long)(order))
#define mempool_init_slab_pool(pool, n, cache) mempool_init(pool, n, mempool_alloc_slab, mempool_free_slab, (void *)(cache))
#define mempool_init_kmalloc_pool(pool, n, size) mempool_init(pool, n, mempool_kmalloc, mempool_kfree, (void *)(size_t)(size))
#define mempool_init_page_pool(pool, n, order) \
  mempool_init(pool, n, mempool_alloc_pages, mempool_free_pages, (void *)(unsigned long)(order))

#endif
