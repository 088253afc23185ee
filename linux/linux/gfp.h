/* Pages, by their descriptor or their address. */
#ifndef KMEM_LINUX_GFP_H
#define KMEM_LINUX_GFP_H

#include <asm/page.h>
#include <kmem/linux_api.h>
#include <linux/gfp_types.h>
#include <linux/mm_types.h>
#include <linux/mmzone.h>

static inline bool gfpflags_allow_blocking(gfp_t gfp) { return (gfp & __GFP_DIRECT_RECLAIM) != 0; }

static inline struct page *alloc_pages(gfp_t gfp, unsigned int order) { return (struct page *)kmem_alloc_pages(gfp, order); }
static inline struct page *alloc_pages_node(int node, gfp_t gfp, unsigned int order) {
  (void)node;  /* there is one */
  return (struct page *)kmem_alloc_pages(gfp, order);
}
static inline unsigned long __get_free_pages(gfp_t gfp, unsigned int order) { return (unsigned long)kmem_get_free_pages(gfp, order); }
static inline unsigned long get_zeroed_page(gfp_t gfp) { return (unsigned long)kmem_get_zeroed_page(gfp); }
static inline void *alloc_pages_exact(size_t size, gfp_t gfp) { return kmem_alloc_pages_exact(size, gfp); }
static inline unsigned long alloc_pages_bulk_array(gfp_t gfp, unsigned long n, struct page **pages) {
  return kmem_alloc_pages_bulk(gfp, (unsigned int)n, (struct kmem_page **)(void *)pages);
}
#define alloc_pages(...) KMEM_LINUX_AT((alloc_pages)(__VA_ARGS__))
#define alloc_pages_node(...) KMEM_LINUX_AT((alloc_pages_node)(__VA_ARGS__))
#define __get_free_pages(...) KMEM_LINUX_AT((__get_free_pages)(__VA_ARGS__))
#define get_zeroed_page(...) KMEM_LINUX_AT((get_zeroed_page)(__VA_ARGS__))
#define alloc_pages_exact(...) KMEM_LINUX_AT((alloc_pages_exact)(__VA_ARGS__))
#define alloc_pages_bulk_array(...) KMEM_LINUX_AT((alloc_pages_bulk_array)(__VA_ARGS__))
#define alloc_page(gfp) alloc_pages(gfp, 0)
#define __get_free_page(gfp) __get_free_pages(gfp, 0)
#define __get_dma_pages(gfp, order) __get_free_pages((gfp) | GFP_DMA, order)

static inline void __free_pages(struct page *page, unsigned int order) { kmem_free_pages((struct kmem_page *)page, order); }
static inline void free_pages(unsigned long address, unsigned int order) { kmem_free_pages_at((void *)address, order); }
static inline void free_pages_exact(void *address, size_t size) { kmem_free_pages_exact(address, size); }
#define __free_page(page) __free_pages(page, 0)
#define free_page(address) free_pages((unsigned long)(address), 0)

#endif
