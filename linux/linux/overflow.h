/* Arithmetic that says whether it overflowed, and sizes that then are too large for any allocation. */
#ifndef KMEM_LINUX_OVERFLOW_H
#define KMEM_LINUX_OVERFLOW_H

#include <linux/limits.h>
#include <linux/types.h>

#define check_add_overflow(a, b, d) __builtin_add_overflow(a, b, d)
#define check_sub_overflow(a, b, d) __builtin_sub_overflow(a, b, d)
#define check_mul_overflow(a, b, d) __builtin_mul_overflow(a, b, d)
static inline size_t __must_check size_mul(size_t a, size_t b) { size_t r; return check_mul_overflow(a, b, &r) ? SIZE_MAX : r; }
static inline size_t __must_check size_add(size_t a, size_t b) { size_t r; return check_add_overflow(a, b, &r) ? SIZE_MAX : r; }
static inline size_t __must_check size_sub(size_t a, size_t b) {
  size_t r;
  return a == SIZE_MAX || b == SIZE_MAX || check_sub_overflow(a, b, &r) ? SIZE_MAX : r;
}
#define array_size(a, b) size_mul(a, b)
#define array3_size(a, b, c) size_mul(size_mul(a, b), c)
#define flex_array_size(p, member, count) size_mul(count, sizeof(*(p)->member))
#define struct_size(p, member, count) size_add(sizeof(*(p)), flex_array_size(p, member, count))

#endif
