/* Locks that are held by threads that may sleep. */
#ifndef KMEM_LINUX_MUTEX_H
#define KMEM_LINUX_MUTEX_H

#include <kmem/linux_api.h>
#include <linux/types.h>

struct mutex {
  struct kmem_linux_mutex kmem;
};
#define __MUTEX_INITIALIZER(name) { { 0, 0, 0 } }
#define DEFINE_MUTEX(name) struct mutex name = __MUTEX_INITIALIZER(name)
#define mutex_init(lock) ((void)(*(lock) = (struct mutex)__MUTEX_INITIALIZER(lock)))
#define mutex_destroy(lock) ((void)(lock))
#define mutex_lock(lock) kmem_linux_mutex_lock(&(lock)->kmem, __FILE__, __LINE__)
#define mutex_trylock(lock) kmem_linux_mutex_trylock(&(lock)->kmem)
#define mutex_unlock(lock) kmem_linux_mutex_unlock(&(lock)->kmem, __FILE__, __LINE__)
#define mutex_is_locked(lock) kmem_linux_mutex_is_locked(&(lock)->kmem)

#endif
