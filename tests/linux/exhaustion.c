/*
 * When memory is short: GFP_KERNEL stops at the reserve, GFP_ATOMIC goes on, a mempool always serves who may sleep, and everything
 * comes back.
 *
 * ENV: KMEM_CMDLINE=mem=8M
 */
#include <linux/mempool.h>
#include <linux/slab.h>

#include "check.h"

static struct page *taken[8192];
static unsigned int n;

int main(void) {
  mempool_t *pool = mempool_create_kmalloc_pool(2, 1000);
  unsigned int ordinary, atomic;
  void *first, *second;
  CHECK(pool);
  for (;;) {
    struct page *page = alloc_page(GFP_KERNEL | __GFP_NOWARN);
    if (!page) break;
    taken[n++] = page;
  }
  ordinary = n;
  for (;;) {
    struct page *page = alloc_page(GFP_ATOMIC | __GFP_NOWARN);
    if (!page) break;
    taken[n++] = page;
  }
  atomic = n - ordinary;
  CHECK(ordinary > 500 && atomic > 0);
  CHECK(!kmalloc(100000, GFP_KERNEL | __GFP_NOWARN));
  first = mempool_alloc(pool, GFP_NOIO);
  second = mempool_alloc(pool, GFP_NOIO);
  CHECK(first && second);
  mempool_free(first, pool);
  CHECK(mempool_alloc(pool, GFP_NOWAIT) == first);
  mempool_free(first, pool);
  mempool_free(second, pool);
  while (n) __free_page(taken[--n]);
  mempool_destroy(pool);
  CHECK((first = kmalloc(100000, GFP_KERNEL)));
  kfree(first);
  return 0;
}
