/* Bits of longs, changed atomically but for the __ ones. */
#ifndef KMEM_LINUX_BITOPS_H
#define KMEM_LINUX_BITOPS_H

#include <linux/log2.h>
#include <linux/types.h>

#define BITS_PER_BYTE 8
#define BITS_PER_LONG 64
#define BIT(n) (1UL << (n))
#define BIT_ULL(n) (1ULL << (n))
#define BIT_MASK(n) (1UL << ((n) % BITS_PER_LONG))
#define BIT_WORD(n) ((n) / BITS_PER_LONG)
#define BITS_TO_LONGS(n) (((n) + BITS_PER_LONG - 1) / BITS_PER_LONG)
#define GENMASK(h, l) ((~0UL << (l)) & (~0UL >> (BITS_PER_LONG - 1 - (h))))
#define DECLARE_BITMAP(name, bits) unsigned long name[BITS_TO_LONGS(bits)]

static inline void set_bit(long n, volatile unsigned long *p) { __atomic_fetch_or(p + BIT_WORD(n), BIT_MASK(n), __ATOMIC_RELAXED); }
static inline void clear_bit(long n, volatile unsigned long *p) { __atomic_fetch_and(p + BIT_WORD(n), ~BIT_MASK(n), __ATOMIC_RELAXED); }
static inline void change_bit(long n, volatile unsigned long *p) { __atomic_fetch_xor(p + BIT_WORD(n), BIT_MASK(n), __ATOMIC_RELAXED); }
static inline bool test_and_set_bit(long n, volatile unsigned long *p) {
  return (__atomic_fetch_or(p + BIT_WORD(n), BIT_MASK(n), __ATOMIC_SEQ_CST) & BIT_MASK(n)) != 0;
}
static inline bool test_and_clear_bit(long n, volatile unsigned long *p) {
  return (__atomic_fetch_and(p + BIT_WORD(n), ~BIT_MASK(n), __ATOMIC_SEQ_CST) & BIT_MASK(n)) != 0;
}
static inline bool test_bit(long n, const volatile unsigned long *p) {
  return (__atomic_load_n(p + BIT_WORD(n), __ATOMIC_RELAXED) & BIT_MASK(n)) != 0;
}
static inline void __set_bit(long n, volatile unsigned long *p) { p[BIT_WORD(n)] |= BIT_MASK(n); }
static inline void __clear_bit(long n, volatile unsigned long *p) { p[BIT_WORD(n)] &= ~BIT_MASK(n); }
static inline unsigned long __ffs(unsigned long x) { return (unsigned long)__builtin_ctzl(x); }
static inline unsigned int hweight32(unsigned int x) { return (unsigned int)__builtin_popcount(x); }
static inline unsigned long hweight64(u64 x) { return (unsigned long)__builtin_popcountll(x); }

#endif
