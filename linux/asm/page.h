/* The size of pages. */
#ifndef KMEM_ASM_PAGE_H
#define KMEM_ASM_PAGE_H

#define PAGE_SHIFT 12
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define clear_page(p) __builtin_memset(p, 0, PAGE_SIZE)
#define copy_page(to, from) __builtin_memcpy(to, from, PAGE_SIZE)

#endif
