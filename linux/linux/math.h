/* Rounding and division. */
#ifndef KMEM_LINUX_MATH_H
#define KMEM_LINUX_MATH_H

#define __round_mask(x, y) ((__typeof__(x))((y) - 1))
#define round_up(x, y) ((((x) - 1) | __round_mask(x, y)) + 1)
#define round_down(x, y) ((x) & ~__round_mask(x, y))
#define roundup(x, y) __extension__({ __typeof__(y) kmem_unit_ = (y); (((x) + (kmem_unit_ - 1)) / kmem_unit_) * kmem_unit_; })
#define rounddown(x, y) __extension__({ __typeof__(x) kmem_value_ = (x); kmem_value_ - (kmem_value_ % (y)); })
#define DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))
#define DIV_ROUND_DOWN_ULL(n, d) ((unsigned long long)(n) / (d))
#define DIV_ROUND_UP_ULL(n, d) (((unsigned long long)(n) + (d) - 1) / (d))
#define DIV_ROUND_CLOSEST(n, d) (((n) + (d) / 2) / (d))
#define abs(x) __extension__({ __typeof__(x) kmem_abs_ = (x); kmem_abs_ < 0 ? -kmem_abs_ : kmem_abs_; })

#endif
