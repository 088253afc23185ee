/*
 * Names that newer kernels have.
 *
 * FLAGS: -DKMEM_LINUX_VERSION=KERNEL_VERSION(6,12,0)
 */
#include <linux/interrupt.h>
#include <linux/mempool.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/timer.h>
#include <linux/vmalloc.h>

#include "check.h"

_Static_assert(MAX_ORDER == 10 && MAX_PAGE_ORDER == 10, "inclusive since 6.4");

struct thing {
  int number;
  char name[60];
};
static void nothing(struct timer_list *t) { (void)t; }

int main(void) {
  struct kmem_cache *cache = KMEM_CACHE(thing, SLAB_NO_MERGE | SLAB_ACCOUNT);
  struct slab_sheaf *sheaf;
  struct timer_list timer;
  struct thing *things[20];
  mempool_t pool;
  unsigned int flags;
  void *p;

  CHECK(cache && kmem_cache_size(cache) == sizeof(struct thing));
  sheaf = kmem_cache_prefill_sheaf(cache, GFP_KERNEL, 10);
  CHECK(sheaf && kmem_cache_sheaf_size(sheaf) >= 10);
  preempt_disable();
  for (int i = 0; i < 10; ++i) CHECK((things[i] = kmem_cache_alloc_from_sheaf(cache, GFP_NOWAIT, sheaf)));
  preempt_enable();
  CHECK(kmem_cache_refill_sheaf(cache, GFP_KERNEL, &sheaf, 10) == 0);
  for (int i = 10; i < 20; ++i) CHECK((things[i] = kmem_cache_alloc_from_sheaf(cache, GFP_NOWAIT, sheaf)));
  kmem_cache_return_sheaf(cache, GFP_KERNEL, sheaf);
  kmem_cache_free_bulk(cache, 20, (void **)things);
  CHECK(kmem_cache_alloc_bulk(cache, GFP_KERNEL, 20, (void **)things) == 20);
  kmem_cache_free_bulk(cache, 20, (void **)things);

  CHECK(mempool_init_slab_pool(&pool, 3, cache) == 0);
  CHECK(pool.min_nr == 3 && mempool_resize(&pool, 5) == 0 && pool.min_nr == 5);
  p = mempool_alloc(&pool, GFP_KERNEL);
  mempool_free(p, &pool);
  mempool_exit(&pool);
  CHECK(kmem_cache_shrink(cache) == 0);
  kmem_cache_destroy(cache);

  p = kvmalloc(1 << 20, GFP_KERNEL);
  memset(p, 7, 1 << 20);
  p = kvrealloc(p, 2 << 20, GFP_KERNEL);
  CHECK(p && !memchr_inv(p, 7, 1 << 20));
  p = kvrealloc(p, 2 << 20, 3 << 20, GFP_KERNEL);
  CHECK(p);
  kvfree(p);
  p = vmalloc_array(3, 5000);
  CHECK(is_vmalloc_addr(p) && PAGE_ALIGNED(p));
  vfree(p);
  p = __vmalloc(5000, GFP_KERNEL | __GFP_ZERO);
  CHECK(!memchr_inv(p, 0, 5000));
  vfree(p);
  CHECK(!kmalloc_array(SIZE_MAX / 2, 3, GFP_KERNEL));
  CHECK(ZERO_OR_NULL_PTR(kmalloc(0, GFP_KERNEL)));
  kfree_sensitive(kstrdup("secret", GFP_KERNEL));

  flags = memalloc_noio_save();
  CHECK(memalloc_noio_save() == 1);
  memalloc_noio_restore(flags);
  flags = memalloc_nofs_save();
  memalloc_nofs_restore(flags);
  timer_setup(&timer, nothing, TIMER_IRQSAFE);
  mod_timer(&timer, jiffies + 100000);
  CHECK(timer_shutdown_sync(&timer));
  CHECK(!mod_timer(&timer, jiffies) && !timer_pending(&timer));
  return 0;
}
