/* Rights of every allocation in a part of the code, whatever masks it uses. */
#ifndef KMEM_LINUX_SCHED_MM_H
#define KMEM_LINUX_SCHED_MM_H

#include <kmem/linux_api.h>
#include <linux/gfp.h>
#include <linux/types.h>

static inline unsigned int memalloc_noio_save(void) { return kmem_linux_memalloc_save(1); }
static inline void memalloc_noio_restore(unsigned int flags) { kmem_linux_memalloc_restore(1, flags); }
static inline unsigned int memalloc_nofs_save(void) { return kmem_linux_memalloc_save(2); }
static inline void memalloc_nofs_restore(unsigned int flags) { kmem_linux_memalloc_restore(2, flags); }
static inline unsigned int memalloc_noreclaim_save(void) { return kmem_linux_memalloc_save(4); }
static inline void memalloc_noreclaim_restore(unsigned int flags) { kmem_linux_memalloc_restore(4, flags); }
#define might_alloc(gfp) might_sleep_if(gfpflags_allow_blocking(gfp))

#endif
