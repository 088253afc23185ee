/* Locks that are held in atomic context. */
#ifndef KMEM_LINUX_SPINLOCK_TYPES_H
#define KMEM_LINUX_SPINLOCK_TYPES_H

#include <kmem/linux_api.h>
#include <linux/types.h>

typedef struct spinlock {
  struct kmem_linux_spinlock kmem;
} spinlock_t;
typedef spinlock_t raw_spinlock_t;
typedef struct {
  struct kmem_linux_rwlock kmem;
} rwlock_t;

#define KMEM_SPIN_FREE_ { { 0, 0, 0 } }
#define __SPIN_LOCK_UNLOCKED(name) (spinlock_t)KMEM_SPIN_FREE_
#define SPIN_LOCK_UNLOCKED (spinlock_t)KMEM_SPIN_FREE_
#define __RAW_SPIN_LOCK_UNLOCKED(name) __SPIN_LOCK_UNLOCKED(name)
#define DEFINE_SPINLOCK(name) spinlock_t name = KMEM_SPIN_FREE_
#define DEFINE_RAW_SPINLOCK(name) raw_spinlock_t name = KMEM_SPIN_FREE_
#define __RW_LOCK_UNLOCKED(name) (rwlock_t){ { 0, 0 } }
#define RW_LOCK_UNLOCKED (rwlock_t){ { 0, 0 } }
#define DEFINE_RWLOCK(name) rwlock_t name = { { 0, 0 } }

#endif
