/*
 * A store of bytes in quanta, as a memory device keeps it, in five variants: kmalloc, a lookaside cache, pages, vmalloc and a mempool.
 */
#include <linux/list.h>
#include <linux/mempool.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "check.h"

#define QUANTUM 4000
#define QSET 16

struct store_ops {
  const char *name;
  int (*start)(void);
  void *(*get)(void);
  void (*put)(void *quantum);
  void (*stop)(void);
};

struct store_qset {
  struct list_head list;
  void *data[QSET];
};

struct store_dev {
  const struct store_ops *ops;
  struct list_head qsets;
  size_t size;
  struct mutex lock;
};

static struct kmem_cache *cache;
static mempool_t *pool;
static int order;

static int nothing(void) { return 0; }
static void no_stop(void) {}
static void *get_kmalloc(void) { return kmalloc(QUANTUM, GFP_KERNEL); }
static void put_kmalloc(void *p) { kfree(p); }
static int start_cache(void) {
  cache = kmem_cache_create("scullc", QUANTUM, 0, SLAB_HWCACHE_ALIGN, NULL);
  return cache ? 0 : -ENOMEM;
}
static void *get_cache(void) { return kmem_cache_alloc(cache, GFP_KERNEL); }
static void put_cache(void *p) { kmem_cache_free(cache, p); }
static void stop_cache(void) { kmem_cache_destroy(cache); }
static void *get_pages(void) { return (void *)__get_free_pages(GFP_KERNEL, order); }
static void put_pages(void *p) { free_pages((unsigned long)p, order); }
static void *get_vmalloc(void) { return vmalloc(QUANTUM); }
static void put_vmalloc(void *p) { vfree(p); }
static int start_pool(void) {
  if (start_cache()) return -ENOMEM;
  pool = mempool_create(4, mempool_alloc_slab, mempool_free_slab, cache);
  if (!pool) kmem_cache_destroy(cache);
  return pool ? 0 : -ENOMEM;
}
static void *get_pool(void) { return mempool_alloc(pool, GFP_NOIO); }
static void put_pool(void *p) { mempool_free(p, pool); }
static void stop_pool(void) {
  mempool_destroy(pool);
  kmem_cache_destroy(cache);
}

static const struct store_ops variants[] = {
  { "kmalloc", nothing, get_kmalloc, put_kmalloc, no_stop },
  { "cache", start_cache, get_cache, put_cache, stop_cache },
  { "pages", nothing, get_pages, put_pages, no_stop },
  { "vmalloc", nothing, get_vmalloc, put_vmalloc, no_stop },
  { "mempool", start_pool, get_pool, put_pool, stop_pool },
};

static void **follow(struct store_dev *dev, size_t quantum) {
  struct store_qset *qset;
  size_t number = 0;
  list_for_each_entry(qset, &dev->qsets, list)
    if (number++ == quantum / QSET) return &qset->data[quantum % QSET];
  qset = kzalloc(sizeof(*qset), GFP_KERNEL);
  if (!qset) return NULL;
  list_add_tail(&qset->list, &dev->qsets);
  return &qset->data[quantum % QSET];
}

static ssize_t store_write(struct store_dev *dev, const char *from, size_t count, size_t at) {
  void **data;
  mutex_lock(&dev->lock);
  data = follow(dev, at / QUANTUM);
  if (data && !*data && (*data = dev->ops->get())) memset(*data, 0, QUANTUM);
  if (!data || !*data) {
    mutex_unlock(&dev->lock);
    return -ENOMEM;
  }
  count = min_t(size_t, count, QUANTUM - at % QUANTUM);
  memcpy((char *)*data + at % QUANTUM, from, count);
  dev->size = max(dev->size, at + count);
  mutex_unlock(&dev->lock);
  return (ssize_t)count;
}

static ssize_t store_read(struct store_dev *dev, char *to, size_t count, size_t at) {
  ssize_t result = 0;
  mutex_lock(&dev->lock);
  if (at < dev->size) {
    void **data = follow(dev, at / QUANTUM);
    count = min3(count, dev->size - at, (size_t)(QUANTUM - at % QUANTUM));
    if (data && *data) {
      memcpy(to, (char *)*data + at % QUANTUM, count);
      result = (ssize_t)count;
    }
  }
  mutex_unlock(&dev->lock);
  return result;
}

static void store_trim(struct store_dev *dev) {
  struct store_qset *qset, *next;
  list_for_each_entry_safe(qset, next, &dev->qsets, list) {
    for (int i = 0; i < QSET; ++i)
      if (qset->data[i]) dev->ops->put(qset->data[i]);
    list_del(&qset->list);
    kfree(qset);
  }
  dev->size = 0;
}

static int __init scull_init(void) {
  order = get_order(QUANTUM);
  for (size_t v = 0; v < ARRAY_SIZE(variants); ++v) {
    struct store_dev *dev = kzalloc(sizeof(*dev), GFP_KERNEL);
    char block[100], back[100];
    if (!dev) return -ENOMEM;
    dev->ops = &variants[v];
    INIT_LIST_HEAD(&dev->qsets);
    mutex_init(&dev->lock);
    CHECK(dev->ops->start() == 0);
    for (size_t at = 0; at < 100 * QUANTUM; at += sizeof(block)) {
      memset(block, (int)(at / sizeof(block) + v), sizeof(block));
      CHECK(store_write(dev, block, sizeof(block), at) == sizeof(block));
    }
    for (size_t at = 0; at < 100 * QUANTUM; at += sizeof(block)) {
      CHECK(store_read(dev, back, sizeof(back), at) == sizeof(back));
      CHECK(!memchr_inv(back, (int)(at / sizeof(block) + v), sizeof(back)));
    }
    CHECK(store_read(dev, back, sizeof(back), 100 * QUANTUM) == 0);
    store_trim(dev);
    dev->ops->stop();
    kfree(dev);
  }
  return 0;
}
static void __exit scull_exit(void) { pr_info("scull: gone\n"); }

module_init(scull_init);
module_exit(scull_exit);
MODULE_LICENSE("Dual BSD/GPL");
MODULE_DESCRIPTION("a store");

int main(void) {
  int error = init_module();
  cleanup_module();
  return -error;
}
