/* Counting semaphores; down() sleeps. */
#ifndef KMEM_LINUX_SEMAPHORE_H
#define KMEM_LINUX_SEMAPHORE_H

#include <kmem/linux_api.h>
#include <linux/spinlock.h>
#include <linux/types.h>

struct semaphore {
  struct kmem_linux_semaphore kmem;
};
#define DEFINE_SEMAPHORE(name, ...) struct semaphore name = { { 1 } }
#define DECLARE_MUTEX(name) struct semaphore name = { { 1 } }
static inline void sema_init(struct semaphore *sem, int value) { sem->kmem = (struct kmem_linux_semaphore){ (unsigned)value }; }
#define init_MUTEX(sem) sema_init(sem, 1)
#define init_MUTEX_LOCKED(sem) sema_init(sem, 0)
#define down(sem) kmem_linux_down(&(sem)->kmem, __FILE__, __LINE__)
#define down_interruptible(sem) kmem_linux_down_interruptible(&(sem)->kmem, __FILE__, __LINE__)
/* Return: 0 when it was got. */
#define down_trylock(sem) (!kmem_linux_down_trylock(&(sem)->kmem))
#define up(sem) kmem_linux_up(&(sem)->kmem)

#endif
