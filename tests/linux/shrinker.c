/*
 * A cache with a shrinker gives its objects back before an allocation fails, and gets the caller's mask.
 *
 * ENV: KMEM_CMDLINE=mem=16M vm.kswapd=0
 */
#include <linux/list.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "check.h"

struct entry {
  struct list_head lru;
  char data[4000];
};

static LIST_HEAD(lru);
static DEFINE_SPINLOCK(lru_lock);
static unsigned long entries, scans, refused;
static struct kmem_cache *cache;

static unsigned long count(struct shrinker *shrinker, struct shrink_control *control) {
  CHECK(shrinker->private_data == &lru || !shrinker->private_data);
  CHECK(control->nid == 0);
  return entries ? entries : SHRINK_EMPTY;
}

static unsigned long scan(struct shrinker *shrinker, struct shrink_control *control) {
  unsigned long freed = 0;
  (void)shrinker;
  ++scans;
  if (!(control->gfp_mask & __GFP_FS)) { /* as file systems do: their locks may be held */
    ++refused;
    return SHRINK_STOP;
  }
  spin_lock(&lru_lock);
  while (freed < control->nr_to_scan && !list_empty(&lru)) {
    struct entry *entry = list_first_entry(&lru, struct entry, lru);
    list_del(&entry->lru);
    kmem_cache_free(cache, entry);
    --entries;
    ++freed;
  }
  spin_unlock(&lru_lock);
  return freed;
}

/* Allocates until it fails, or until far more than there is. Return: entries. */
static unsigned long fill(gfp_t gfp) {
  for (unsigned long n = 0; n < 20000; ++n) {
    struct entry *entry = kmem_cache_alloc(cache, gfp | __GFP_NOWARN);
    if (!entry) return n;
    spin_lock(&lru_lock);
    list_add_tail(&entry->lru, &lru);
    ++entries;
    spin_unlock(&lru_lock);
  }
  return 20000;
}

static void empty(void) {
  struct shrink_control all = { GFP_KERNEL, 0, ~0ul >> 1, 0 };
  scan(NULL, &all);
  kmem_cache_shrink(cache);
}

static struct shrinker shrinker = { .count_objects = count, .scan_objects = scan, .seeks = DEFAULT_SEEKS };

int main(void) {
  struct shrinker *own;
  cache = kmem_cache_create("entries", sizeof(struct entry), 0, SLAB_RECLAIM_ACCOUNT, NULL);
  CHECK(cache && fill(GFP_KERNEL) < 5000 && scans == 0);
  empty();

  CHECK(register_shrinker(&shrinker, "entries:%d", 1) == 0);
  CHECK(register_shrinker(&shrinker, "again") == -EEXIST);
  scans = 0;
  CHECK(fill(GFP_KERNEL) == 20000);
  CHECK(scans > 0 && refused == 0);
  empty();
  scans = 0;
  CHECK(fill(GFP_NOFS) < 5000);
  CHECK(refused > 0 && scans == refused);
  unregister_shrinker(&shrinker);
  empty();
  CHECK(register_shrinker(&shrinker) == 0);
  unregister_shrinker(&shrinker);

  own = shrinker_alloc(SHRINKER_NUMA_AWARE, "own-%s", "entries");
  CHECK(own && own->seeks == DEFAULT_SEEKS);
  own->count_objects = count;
  own->scan_objects = scan;
  own->private_data = &lru;
  shrinker_register(own);
  refused = 0;
  CHECK(fill(GFP_KERNEL) == 20000);
  shrinker_free(own);
  empty();
  shrinker_free(shrinker_alloc(0, "never registered"));
  kmem_cache_destroy(cache);
  return 0;
}
