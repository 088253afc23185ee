/* Powers of two. */
#ifndef KMEM_LINUX_LOG2_H
#define KMEM_LINUX_LOG2_H

#include <linux/types.h>

static inline __attribute_const__ int fls(unsigned int x) { return x ? 32 - __builtin_clz(x) : 0; }
static inline __attribute_const__ int fls64(u64 x) { return x ? 64 - __builtin_clzll(x) : 0; }
static inline __attribute_const__ int ilog2(unsigned long n) { return fls64(n) - 1; }
static inline __attribute_const__ bool is_power_of_2(unsigned long n) { return n != 0 && (n & (n - 1)) == 0; }
static inline __attribute_const__ unsigned long roundup_pow_of_two(unsigned long n) { return n <= 1 ? 1 : 1UL << fls64(n - 1); }
static inline __attribute_const__ unsigned long rounddown_pow_of_two(unsigned long n) { return 1UL << (fls64(n) - 1); }
static inline __attribute_const__ int order_base_2(unsigned long n) { return n > 1 ? ilog2(n - 1) + 1 : 0; }

#endif
