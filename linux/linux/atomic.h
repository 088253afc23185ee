/* Atomic counters. Operations that return a value order everything, the others nothing, as in the kernel. */
#ifndef KMEM_LINUX_ATOMIC_H
#define KMEM_LINUX_ATOMIC_H

#include <linux/types.h>

#define ATOMIC_INIT(value) { (value) }
#define ATOMIC64_INIT(value) { (value) }
#define kmem_atomic_family_(prefix, type, value_type)                                                                             \
  static inline value_type prefix##_read(const type *v) { return __atomic_load_n(&v->counter, __ATOMIC_RELAXED); }               \
  static inline void prefix##_set(type *v, value_type i) { __atomic_store_n(&v->counter, i, __ATOMIC_RELAXED); }                 \
  static inline void prefix##_add(value_type i, type *v) { __atomic_fetch_add(&v->counter, i, __ATOMIC_RELAXED); }               \
  static inline void prefix##_sub(value_type i, type *v) { __atomic_fetch_sub(&v->counter, i, __ATOMIC_RELAXED); }               \
  static inline void prefix##_inc(type *v) { prefix##_add(1, v); }                                                               \
  static inline void prefix##_dec(type *v) { prefix##_sub(1, v); }                                                               \
  static inline value_type prefix##_add_return(value_type i, type *v) { return __atomic_add_fetch(&v->counter, i, __ATOMIC_SEQ_CST); } \
  static inline value_type prefix##_sub_return(value_type i, type *v) { return __atomic_sub_fetch(&v->counter, i, __ATOMIC_SEQ_CST); } \
  static inline value_type prefix##_fetch_add(value_type i, type *v) { return __atomic_fetch_add(&v->counter, i, __ATOMIC_SEQ_CST); }  \
  static inline value_type prefix##_inc_return(type *v) { return prefix##_add_return(1, v); }                                    \
  static inline value_type prefix##_dec_return(type *v) { return prefix##_sub_return(1, v); }                                    \
  static inline bool prefix##_inc_and_test(type *v) { return prefix##_inc_return(v) == 0; }                                      \
  static inline bool prefix##_dec_and_test(type *v) { return prefix##_dec_return(v) == 0; }                                      \
  static inline bool prefix##_sub_and_test(value_type i, type *v) { return prefix##_sub_return(i, v) == 0; }                     \
  static inline value_type prefix##_xchg(type *v, value_type i) { return __atomic_exchange_n(&v->counter, i, __ATOMIC_SEQ_CST); }  \
  static inline value_type prefix##_cmpxchg(type *v, value_type old, value_type wanted) {                                        \
    __atomic_compare_exchange_n(&v->counter, &old, wanted, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);                               \
    return old;                                                                                                                  \
  }                                                                                                                              \
  static inline bool prefix##_add_unless(type *v, value_type i, value_type unless) {                                             \
    value_type seen = prefix##_read(v);                                                                                          \
    while (seen != unless)                                                                                                       \
      if (__atomic_compare_exchange_n(&v->counter, &seen, seen + i, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) return true;         \
    return false;                                                                                                                \
  }                                                                                                                              \
  static inline bool prefix##_inc_not_zero(type *v) { return prefix##_add_unless(v, 1, 0); }
kmem_atomic_family_(atomic, atomic_t, int)
kmem_atomic_family_(atomic64, atomic64_t, s64)
typedef atomic64_t atomic_long_t;
#define ATOMIC_LONG_INIT(value) ATOMIC64_INIT(value)
#define atomic_long_read(v) ((long)atomic64_read(v))
#define atomic_long_set(v, i) atomic64_set(v, i)
#define atomic_long_add(i, v) atomic64_add(i, v)
#define atomic_long_sub(i, v) atomic64_sub(i, v)
#define atomic_long_inc(v) atomic64_inc(v)
#define atomic_long_dec(v) atomic64_dec(v)
#define atomic_long_add_return(i, v) ((long)atomic64_add_return(i, v))
#define atomic_long_xchg(v, i) ((long)atomic64_xchg(v, i))
#define cmpxchg(p, old, wanted)                                                                                         \
  __extension__({                                                                                                       \
    __typeof__(*(p)) kmem_old_ = (old);                                                                                 \
    __atomic_compare_exchange_n(p, &kmem_old_, wanted, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);                          \
    kmem_old_;                                                                                                          \
  })
#define xchg(p, value) __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST)

#endif
