/* Pages of high memory have an address all the time. Mapping one is atomic context only where the kernel says so. */
#ifndef KMEM_LINUX_HIGHMEM_H
#define KMEM_LINUX_HIGHMEM_H

#include <linux/mm.h>
#include <linux/preempt.h>

static inline void *kmap(struct page *page) { return page_address(page); }
#define kmap(page) __extension__({ kmem_linux_might_sleep(__FILE__, __LINE__); (kmap)(page); })
static inline void kunmap(struct page *page) { (void)page; }
static inline void *kmap_local_page(struct page *page) { return page_address(page); }
static inline void kunmap_local(const void *address) { (void)address; }
static inline void *kmap_atomic(struct page *page) {
  preempt_disable();
  return page_address(page);
}
static inline void kunmap_atomic(const void *address) {
  (void)address;
  preempt_enable();
}
static inline void clear_highpage(struct page *page) { clear_page(page_address(page)); }
static inline void copy_highpage(struct page *to, struct page *from) { copy_page(page_address(to), page_address(from)); }

#endif
