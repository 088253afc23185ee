/* Caches that give memory back when it runs short. */
#ifndef KMEM_LINUX_SHRINKER_H
#define KMEM_LINUX_SHRINKER_H

#include <kmem/linux_api.h>
#include <linux/gfp.h>
#include <linux/slab.h>
#include <linux/types.h>
#include <linux/version.h>

struct shrink_control {
  gfp_t gfp_mask;
  int nid;
  unsigned long nr_to_scan;
  unsigned long nr_scanned;
};

#define SHRINK_STOP (~0UL)
#define SHRINK_EMPTY (~0UL - 1)
#define DEFAULT_SEEKS 2
/* One node, no groups, no page cache. */
#define SHRINKER_NUMA_AWARE 0u
#define SHRINKER_MEMCG_AWARE 0u
#define SHRINKER_NONSLAB 0u

/* Laid out as the library's, which gets a pointer to it. Members with a trailing underscore are the library's. */
struct shrinker {
  unsigned long (*count_objects)(struct shrinker *shrinker, struct shrink_control *control);
  unsigned long (*scan_objects)(struct shrinker *shrinker, struct shrink_control *control);
  long batch;
  int seeks;
  gfp_t kmem_needs_;
  unsigned int flags;
  void *private_data;
  const char *kmem_name_;
  void *kmem_list_[2];
  unsigned long kmem_deferred_;
  unsigned int kmem_state_[2];
};
_Static_assert(sizeof(struct shrinker) == 88 && offsetof(struct shrinker, seeks) == 24 && offsetof(struct shrinker, private_data) == 40 &&
                   offsetof(struct shrinker, kmem_list_) == 56 && sizeof(struct shrink_control) == 24,
               "as in the library");

static inline int kmem_register_shrinker_(struct shrinker *shrinker, char *name, bool named) {
  const char *before = shrinker->kmem_name_;
  int error;
  if (named && !name) return -12;
  shrinker->kmem_name_ = name;
  error = kmem_register_shrinker((struct kmem_shrinker *)(void *)shrinker);
  if (error) {
    shrinker->kmem_name_ = before;
    kmem_kfree(name);
  }
  return error;
}
#define kmem_register_unnamed_(shrinker) KMEM_LINUX_AT(kmem_register_shrinker_(shrinker, NULL, false))
#define kmem_register_named_(shrinker, ...) \
  KMEM_LINUX_AT(kmem_register_shrinker_(shrinker, kmem_linux_asprintf(GFP_KERNEL, __VA_ARGS__), true))
#define kmem_pick_register_(_1, _2, _3, _4, _5, _6, _7, _8, name, ...) name
/* register_shrinker(shrinker, format, ...); without a name until 5.19. */
#define register_shrinker(...)                                                                                                    \
  kmem_pick_register_(__VA_ARGS__, kmem_register_named_, kmem_register_named_, kmem_register_named_, kmem_register_named_,         \
                      kmem_register_named_, kmem_register_named_, kmem_register_named_, kmem_register_unnamed_, 0)(__VA_ARGS__)

static inline void unregister_shrinker(struct shrinker *shrinker) {
  kmem_unregister_shrinker((struct kmem_shrinker *)(void *)shrinker);
  kmem_kfree(shrinker->kmem_name_);
  shrinker->kmem_name_ = NULL;
}
#define unregister_shrinker(shrinker) KMEM_LINUX_AT_VOID((unregister_shrinker)(shrinker))

/* As of 6.7: allocated, filled in, registered. */
static inline struct shrinker *kmem_shrinker_alloc_(unsigned int flags, char *name) {
  struct shrinker *shrinker = name ? (struct shrinker *)kmem_kzalloc(sizeof(*shrinker), GFP_KERNEL) : NULL;
  if (!shrinker) {
    kmem_kfree(name);
    return NULL;
  }
  shrinker->flags = flags;
  shrinker->seeks = DEFAULT_SEEKS;
  shrinker->kmem_name_ = name;
  return shrinker;
}
#define shrinker_alloc(flags, ...) KMEM_LINUX_AT(kmem_shrinker_alloc_(flags, kmem_linux_asprintf(GFP_KERNEL, __VA_ARGS__)))
/* One that cannot be registered says why in the log, and is never asked. */
static inline void shrinker_register(struct shrinker *shrinker) {
  int error = kmem_register_shrinker((struct kmem_shrinker *)(void *)shrinker);
  if (error) kmem_linux_printk("\0013shrinker_register: %s: error %d\n", shrinker->kmem_name_, error);
}
#define shrinker_register(shrinker) KMEM_LINUX_AT_VOID((shrinker_register)(shrinker))
static inline void shrinker_free(struct shrinker *shrinker) {
  if (!shrinker) return;
  if (shrinker->kmem_state_[1]) kmem_unregister_shrinker((struct kmem_shrinker *)(void *)shrinker);
  kmem_kfree(shrinker->kmem_name_);
  kmem_kfree(shrinker);
}
#define shrinker_free(shrinker) KMEM_LINUX_AT_VOID((shrinker_free)(shrinker))

#endif
