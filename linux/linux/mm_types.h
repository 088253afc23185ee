/* A page of memory. */
#ifndef KMEM_LINUX_MM_TYPES_H
#define KMEM_LINUX_MM_TYPES_H

#include <linux/types.h>

/* What a page of the library's is made of, 64 bytes; pages of a block follow each other. Its user's are lru, index and private. */
struct page {
  unsigned int kmem_count_;
  unsigned char kmem_state_[28];
  struct list_head lru;
  unsigned long index;
  unsigned long private;
} __aligned(64);
_Static_assert(sizeof(struct page) == 64 && offsetof(struct page, lru) == 32, "as in the library");

#endif
