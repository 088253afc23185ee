/* From a member to the object that it is in. */
#ifndef KMEM_LINUX_CONTAINER_OF_H
#define KMEM_LINUX_CONTAINER_OF_H

#include <linux/stddef.h>

#define container_of(pointer, type, member)                                                                             \
  __extension__({                                                                                                       \
    const __typeof__(((type *)0)->member) *kmem_member_ = (pointer);                                                    \
    (type *)(void *)((char *)(__UINTPTR_TYPE__)kmem_member_ - offsetof(type, member));                                  \
  })
#define typeof_member(type, member) __typeof__(((type *)0)->member)

#endif
