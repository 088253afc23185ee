/* Descriptors of pages, and memory that is contiguous only as addresses. */
#ifndef KMEM_LINUX_MM_H
#define KMEM_LINUX_MM_H

#include <linux/align.h>
#include <linux/bug.h>
#include <linux/gfp.h>
#include <linux/log2.h>
#include <linux/overflow.h>
#include <linux/string.h>

#define PAGE_ALIGN(x) ALIGN(x, PAGE_SIZE)
#define PAGE_ALIGNED(x) IS_ALIGNED((unsigned long)(x), PAGE_SIZE)
#define PAGE_ALIGN_DOWN(x) ALIGN_DOWN(x, PAGE_SIZE)
#define offset_in_page(p) ((unsigned long)(p) & ~PAGE_MASK)

static inline void *page_address(const struct page *page) { return kmem_page_address((const struct kmem_page *)page); }
static inline struct page *virt_to_page(const void *address) { return (struct page *)kmem_virt_to_page(address); }
#define virt_to_page(address) (virt_to_page)((const void *)(unsigned long)(address))
static inline unsigned long page_to_pfn(const struct page *page) { return kmem_page_to_pfn((const struct kmem_page *)page); }
static inline struct page *pfn_to_page(unsigned long pfn) { return (struct page *)kmem_pfn_to_page(pfn); }
#define nth_page(page, n) ((page) + (n))
#define virt_to_pfn(address) page_to_pfn(virt_to_page(address))
static inline void get_page(struct page *page) { kmem_get_page((struct kmem_page *)page); }
static inline void put_page(struct page *page) { kmem_put_page((struct kmem_page *)page); }
static inline int page_count(const struct page *page) { return (int)kmem_page_count((struct kmem_page *)(unsigned long)page); }
static inline void split_page(struct page *page, unsigned int order) { kmem_split_page((struct kmem_page *)page, order); }
#define page_private(page) ((page)->private)
#define set_page_private(page, value) ((void)((page)->private = (value)))
/* The order of a block that holds `size` bytes. */
static inline __attribute_const__ int get_order(unsigned long size) {
  return size <= PAGE_SIZE ? 0 : fls64((size - 1) >> PAGE_SHIFT);
}

static inline bool is_vmalloc_addr(const void *p) { return kmem_is_vmalloc_addr(p); }
static inline void *kvmalloc(size_t size, gfp_t gfp) { return kmem_kvmalloc(size, gfp); }
static inline void *kvzalloc(size_t size, gfp_t gfp) { return kmem_kvzalloc(size, gfp); }
static inline void *kvmalloc_node(size_t size, gfp_t gfp, int node) { (void)node; return kmem_kvmalloc(size, gfp); }
static inline void *kvmalloc_array(size_t n, size_t size, gfp_t gfp) { return kmem_kvmalloc_array(n, size, gfp); }
static inline void *kvcalloc(size_t n, size_t size, gfp_t gfp) { return kmem_kvcalloc(n, size, gfp); }
/* As of 6.1, where the old size is given, and as of 6.12, where it is known. */
static inline void *kmem_linux_kvrealloc4(const void *p, size_t old_size, size_t size, gfp_t gfp) {
  (void)old_size;
  return kmem_kvrealloc(p, size, gfp);
}
#define kmem_kvrealloc_pick_(_1, _2, _3, _4, name, ...) name
#define kvrealloc(...) \
  KMEM_LINUX_AT(kmem_kvrealloc_pick_(__VA_ARGS__, kmem_linux_kvrealloc4, kmem_kvrealloc, 0, 0)(__VA_ARGS__))
static inline void kvfree(const void *p) { kmem_kvfree(p); }
#define kvmalloc(...) KMEM_LINUX_AT((kvmalloc)(__VA_ARGS__))
#define kvzalloc(...) KMEM_LINUX_AT((kvzalloc)(__VA_ARGS__))
#define kvmalloc_node(...) KMEM_LINUX_AT((kvmalloc_node)(__VA_ARGS__))
#define kvmalloc_array(...) KMEM_LINUX_AT((kvmalloc_array)(__VA_ARGS__))
#define kvcalloc(...) KMEM_LINUX_AT((kvcalloc)(__VA_ARGS__))

#endif
