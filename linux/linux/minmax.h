/* min, max and their relatives; both sides have the same type. */
#ifndef KMEM_LINUX_MINMAX_H
#define KMEM_LINUX_MINMAX_H

#include <linux/compiler.h>

#define kmem_choose_(a, op, b)                                                                                          \
  __extension__({                                                                                                       \
    __typeof__(a) kmem_a_ = (a);                                                                                        \
    __typeof__(b) kmem_b_ = (b);                                                                                        \
    (void)(&kmem_a_ == &kmem_b_);                                                                                       \
    kmem_a_ op kmem_b_ ? kmem_a_ : kmem_b_;                                                                             \
  })
#define min(a, b) kmem_choose_(a, <, b)
#define max(a, b) kmem_choose_(a, >, b)
#define min_t(type, a, b) __extension__({ type kmem_x_ = (a), kmem_y_ = (b); kmem_x_ < kmem_y_ ? kmem_x_ : kmem_y_; })
#define max_t(type, a, b) __extension__({ type kmem_x_ = (a), kmem_y_ = (b); kmem_x_ > kmem_y_ ? kmem_x_ : kmem_y_; })
#define min3(a, b, c) min_t(__typeof__(a), min_t(__typeof__(a), a, b), c)
#define max3(a, b, c) max_t(__typeof__(a), max_t(__typeof__(a), a, b), c)
#define clamp_t(type, value, low, high) min_t(type, max_t(type, value, low), high)
#define clamp(value, low, high) clamp_t(__typeof__(value), value, low, high)
#define swap(a, b) do { __typeof__(a) kmem_swap_ = (a); (a) = (b); (b) = kmem_swap_; } while (0)

#endif
