/*
 * The C subset of the API (C11): the kernel's names with the prefix kmem_, the same functions as in kmem/kmem.hpp, where each is described.
 *
 *     void *p = kmem_kmalloc(100, KMEM_GFP_KERNEL);
 *     kmem_kfree(p);
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define KMEM_API __attribute__((visibility("default")))
#define KMEM_MUST_USE __attribute__((warn_unused_result))
#else
#define KMEM_API
#define KMEM_MUST_USE
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef uint32_t kmem_gfp_t;

/* One bit each: the kernel's names with two leading underscores. Values of Linux 6.1. */
#define KMEM_GFP_DMA_BIT ((kmem_gfp_t)0x1)
#define KMEM_GFP_HIGHMEM_BIT ((kmem_gfp_t)0x2)
#define KMEM_GFP_DMA32_BIT ((kmem_gfp_t)0x4)
#define KMEM_GFP_MOVABLE_BIT ((kmem_gfp_t)0x8)
#define KMEM_GFP_RECLAIMABLE_BIT ((kmem_gfp_t)0x10)
#define KMEM_GFP_HIGH_BIT ((kmem_gfp_t)0x20)
#define KMEM_GFP_IO_BIT ((kmem_gfp_t)0x40)
#define KMEM_GFP_FS_BIT ((kmem_gfp_t)0x80)
#define KMEM_GFP_ZERO_BIT ((kmem_gfp_t)0x100)
#define KMEM_GFP_ATOMIC_BIT ((kmem_gfp_t)0x200)
#define KMEM_GFP_DIRECT_RECLAIM_BIT ((kmem_gfp_t)0x400)
#define KMEM_GFP_KSWAPD_RECLAIM_BIT ((kmem_gfp_t)0x800)
#define KMEM_GFP_WRITE_BIT ((kmem_gfp_t)0x1000)
#define KMEM_GFP_NOWARN_BIT ((kmem_gfp_t)0x2000)
#define KMEM_GFP_RETRY_MAYFAIL_BIT ((kmem_gfp_t)0x4000)
#define KMEM_GFP_REPEAT_BIT KMEM_GFP_RETRY_MAYFAIL_BIT
#define KMEM_GFP_NOFAIL_BIT ((kmem_gfp_t)0x8000)
#define KMEM_GFP_NORETRY_BIT ((kmem_gfp_t)0x10000)
#define KMEM_GFP_MEMALLOC_BIT ((kmem_gfp_t)0x20000)
#define KMEM_GFP_COMP_BIT ((kmem_gfp_t)0x40000)
#define KMEM_GFP_NOMEMALLOC_BIT ((kmem_gfp_t)0x80000)
#define KMEM_GFP_HARDWALL_BIT ((kmem_gfp_t)0x100000)
#define KMEM_GFP_THISNODE_BIT ((kmem_gfp_t)0x200000)
#define KMEM_GFP_ACCOUNT_BIT ((kmem_gfp_t)0x400000)
#define KMEM_GFP_ZEROTAGS_BIT ((kmem_gfp_t)0x800000)
#define KMEM_GFP_COLD_BIT ((kmem_gfp_t)0x1000000)

/* Combinations: who should use them. */
#define KMEM_GFP_ATOMIC ((kmem_gfp_t)0xa20)             /* interrupts, tasklets, timers; never sleeps */
#define KMEM_GFP_KERNEL ((kmem_gfp_t)0xcc0)             /* on behalf of a process; may sleep */
#define KMEM_GFP_KERNEL_ACCOUNT ((kmem_gfp_t)0x400cc0)
#define KMEM_GFP_NOWAIT ((kmem_gfp_t)0x800)             /* no waiting, no reserve */
#define KMEM_GFP_NOIO ((kmem_gfp_t)0xc00)               /* may sleep, starts no I/O */
#define KMEM_GFP_NOFS ((kmem_gfp_t)0xc40)               /* may sleep, calls no file system */
#define KMEM_GFP_USER ((kmem_gfp_t)0x100cc0)
#define KMEM_GFP_HIGHUSER ((kmem_gfp_t)0x100cc2)
#define KMEM_GFP_HIGHUSER_MOVABLE ((kmem_gfp_t)0x100cca)

/* Starts the allocator with parameters instead of KMEM_CMDLINE. Returns false, with the reason in error, if it cannot. */
KMEM_API KMEM_MUST_USE bool kmem_init(const char *cmdline, char *error, size_t error_capacity);

KMEM_API KMEM_MUST_USE void *kmem_kmalloc(size_t size, kmem_gfp_t gfp);
KMEM_API KMEM_MUST_USE void *kmem_kmalloc_aligned(size_t size, size_t align, kmem_gfp_t gfp);
KMEM_API KMEM_MUST_USE void *kmem_kzalloc(size_t size, kmem_gfp_t gfp);
KMEM_API KMEM_MUST_USE void *kmem_kmalloc_array(size_t n, size_t size, kmem_gfp_t gfp);
KMEM_API KMEM_MUST_USE void *kmem_kcalloc(size_t n, size_t size, kmem_gfp_t gfp);
KMEM_API KMEM_MUST_USE void *kmem_krealloc(const void *old, size_t size, kmem_gfp_t gfp);
KMEM_API KMEM_MUST_USE void *kmem_krealloc_array(const void *old, size_t n, size_t size, kmem_gfp_t gfp);
KMEM_API void kmem_kfree(const void *p);
KMEM_API void kmem_kfree_sensitive(const void *p);
KMEM_API KMEM_MUST_USE size_t kmem_ksize(const void *p);
KMEM_API KMEM_MUST_USE size_t kmem_kmalloc_size_roundup(size_t size);
KMEM_API KMEM_MUST_USE void *kmem_kmemdup(const void *source, size_t size, kmem_gfp_t gfp);
KMEM_API KMEM_MUST_USE char *kmem_kstrdup(const char *text, kmem_gfp_t gfp);
KMEM_API KMEM_MUST_USE char *kmem_kstrndup(const char *text, size_t max, kmem_gfp_t gfp);

/* Caches. Their names have the prefix already, as in the kernel. */
struct kmem_cache;
typedef struct kmem_cache kmem_cache_t;

#define KMEM_SLAB_HWCACHE_ALIGN 0x2000u
#define KMEM_SLAB_CACHE_DMA 0x4000u
#define KMEM_SLAB_CACHE_DMA32 0x8000u
#define KMEM_SLAB_RECLAIM_ACCOUNT 0x20000u
#define KMEM_SLAB_PANIC 0x40000u
#define KMEM_SLAB_NO_MERGE 0x1000000u

KMEM_API KMEM_MUST_USE kmem_cache_t *kmem_cache_create(const char *name, size_t size, size_t align, uint32_t flags,
                                                       void (*constructor)(void *object));
KMEM_API void kmem_cache_destroy(kmem_cache_t *cache);
KMEM_API KMEM_MUST_USE void *kmem_cache_alloc(kmem_cache_t *cache, kmem_gfp_t gfp);
KMEM_API KMEM_MUST_USE void *kmem_cache_zalloc(kmem_cache_t *cache, kmem_gfp_t gfp);
KMEM_API void kmem_cache_free(kmem_cache_t *cache, void *object);
KMEM_API KMEM_MUST_USE size_t kmem_cache_alloc_bulk(kmem_cache_t *cache, kmem_gfp_t gfp, size_t n, void **objects);
KMEM_API void kmem_cache_free_bulk(kmem_cache_t *cache, size_t n, void **objects);
KMEM_API uint64_t kmem_cache_shrink(kmem_cache_t *cache);
KMEM_API KMEM_MUST_USE size_t kmem_cache_size(const kmem_cache_t *cache);

/* Pages. */
struct kmem_page;
typedef struct kmem_page kmem_page_t;

KMEM_API KMEM_MUST_USE kmem_page_t *kmem_alloc_pages(kmem_gfp_t gfp, unsigned order);
KMEM_API void kmem_free_pages(kmem_page_t *page, unsigned order);
KMEM_API KMEM_MUST_USE unsigned kmem_alloc_pages_bulk(kmem_gfp_t gfp, unsigned n, kmem_page_t **pages);
KMEM_API void kmem_get_page(kmem_page_t *page);
KMEM_API void kmem_put_page(kmem_page_t *page);
KMEM_API KMEM_MUST_USE unsigned kmem_page_count(kmem_page_t *page);
KMEM_API void kmem_split_page(kmem_page_t *page, unsigned order);
KMEM_API KMEM_MUST_USE void *kmem_page_address(const kmem_page_t *page);
KMEM_API KMEM_MUST_USE kmem_page_t *kmem_virt_to_page(const void *address);
KMEM_API KMEM_MUST_USE uint64_t kmem_page_to_pfn(const kmem_page_t *page);
KMEM_API KMEM_MUST_USE kmem_page_t *kmem_pfn_to_page(uint64_t pfn);
KMEM_API KMEM_MUST_USE const char *kmem_page_zone(const kmem_page_t *page);
KMEM_API KMEM_MUST_USE void *kmem_get_free_pages(kmem_gfp_t gfp, unsigned order);
KMEM_API KMEM_MUST_USE void *kmem_get_zeroed_page(kmem_gfp_t gfp);
KMEM_API void kmem_free_pages_at(void *address, unsigned order);
KMEM_API KMEM_MUST_USE void *kmem_alloc_pages_exact(size_t size, kmem_gfp_t gfp);
KMEM_API void kmem_free_pages_exact(void *address, size_t size);

/* vmalloc and kvmalloc. */
KMEM_API KMEM_MUST_USE void *kmem_vmalloc(size_t size);
KMEM_API KMEM_MUST_USE void *kmem_vzalloc(size_t size);
KMEM_API void kmem_vfree(const void *p);
KMEM_API KMEM_MUST_USE bool kmem_is_vmalloc_addr(const void *p);
KMEM_API KMEM_MUST_USE void *kmem_kvmalloc(size_t size, kmem_gfp_t gfp);
KMEM_API KMEM_MUST_USE void *kmem_kvzalloc(size_t size, kmem_gfp_t gfp);
KMEM_API KMEM_MUST_USE void *kmem_kvmalloc_array(size_t n, size_t size, kmem_gfp_t gfp);
KMEM_API KMEM_MUST_USE void *kmem_kvcalloc(size_t n, size_t size, kmem_gfp_t gfp);
KMEM_API KMEM_MUST_USE void *kmem_kvrealloc(const void *old, size_t size, kmem_gfp_t gfp);
KMEM_API void kmem_kvfree(const void *p);
/* Usable bytes of kvmalloc's memory, of either kind; 0 for NULL. */
KMEM_API KMEM_MUST_USE size_t kmem_kvsize(const void *p);

/* Execution context: the counts behind "may I sleep here?". */
KMEM_API void kmem_preempt_disable(void);
KMEM_API void kmem_preempt_enable(void);
KMEM_API void kmem_local_bh_disable(void);
KMEM_API void kmem_local_bh_enable(void);
/* Around the body of an interrupt handler of the program's own, say a signal handler: what may sleep is reported there. */
KMEM_API void kmem_hardirq_enter(void);
KMEM_API void kmem_hardirq_exit(void);
KMEM_API KMEM_MUST_USE bool kmem_in_atomic(void);
KMEM_API KMEM_MUST_USE bool kmem_in_interrupt(void);
KMEM_API void kmem_might_sleep(const char *file, int line);
/* What a broken context rule does besides being counted; the parameter context_policy= says the same. */
enum kmem_context_policy { KMEM_CONTEXT_REPORT, KMEM_CONTEXT_COUNT, KMEM_CONTEXT_ABORT };
KMEM_API void kmem_set_context_policy(enum kmem_context_policy policy);
KMEM_API KMEM_MUST_USE uint64_t kmem_context_violations(void);
/* Return what is to be given to the restore function. */
KMEM_API KMEM_MUST_USE uint32_t kmem_memalloc_noio_save(void);
KMEM_API void kmem_memalloc_noio_restore(uint32_t saved);
KMEM_API KMEM_MUST_USE uint32_t kmem_memalloc_nofs_save(void);
KMEM_API void kmem_memalloc_nofs_restore(uint32_t saved);

/*
 * The reclaim checker (kmem/checker.hpp), vm.reclaim_checker=: work that a mask without __GFP_FS or __GFP_IO forbids is marked from enter
 * to leave, on one thread and properly nested; reclaim or a scope that forbids it is reported.
 */
struct kmem_work_region {
  uint64_t library[14];
};
KMEM_API void kmem_set_reclaim_checker(bool on);
KMEM_API KMEM_MUST_USE bool kmem_reclaim_checker(void);
KMEM_API void kmem_fs_work_enter(struct kmem_work_region *region);
KMEM_API void kmem_io_work_enter(struct kmem_work_region *region);
KMEM_API void kmem_work_leave(struct kmem_work_region *region);

/*
 * Interrupts, tasklets and timers (kmem/interrupt.hpp). Members below data are the library's. All zero but for the function is a start.
 */
#define KMEM_CALLS_BY_DATA 1u  /* flag of both: the function is a void (*)(uintptr_t) and is given data */
#define KMEM_TIMER_IRQ_SAFE 2u

struct kmem_tasklet {
  void (*function)(struct kmem_tasklet *self);
  uintptr_t data;
  uint32_t flags;
  uint32_t reserved;
  uint64_t state;
  struct kmem_tasklet *next;
};

KMEM_API bool kmem_tasklet_schedule(struct kmem_tasklet *tasklet);
KMEM_API bool kmem_tasklet_hi_schedule(struct kmem_tasklet *tasklet);
KMEM_API void kmem_tasklet_disable(struct kmem_tasklet *tasklet);
KMEM_API void kmem_tasklet_disable_nosync(struct kmem_tasklet *tasklet);
KMEM_API void kmem_tasklet_enable(struct kmem_tasklet *tasklet);
KMEM_API void kmem_tasklet_kill(struct kmem_tasklet *tasklet);

struct kmem_timer {
  void (*function)(struct kmem_timer *self);
  uint64_t expires;
  uintptr_t data;
  uint32_t flags;
  uint32_t state;
  uint64_t due;
  struct kmem_timer *child, *next, *previous;
};

/* Ticks of 4 ms. */
KMEM_API uint64_t kmem_jiffies(void);
KMEM_API void kmem_add_timer(struct kmem_timer *timer);
KMEM_API bool kmem_mod_timer(struct kmem_timer *timer, uint64_t expires);
KMEM_API bool kmem_mod_timer_pending(struct kmem_timer *timer, uint64_t expires);
KMEM_API bool kmem_timer_reduce(struct kmem_timer *timer, uint64_t expires);
KMEM_API bool kmem_del_timer(struct kmem_timer *timer);
KMEM_API int kmem_try_to_del_timer_sync(struct kmem_timer *timer);
KMEM_API bool kmem_del_timer_sync(struct kmem_timer *timer);
KMEM_API bool kmem_timer_shutdown_sync(struct kmem_timer *timer);
KMEM_API bool kmem_timer_pending(const struct kmem_timer *timer);

#define KMEM_IRQ_SHARED 0x80u
/* Returns 1 when the interrupt was the device's, else 0. */
typedef int (*kmem_irq_handler_t)(int irq, void *device);

KMEM_API int kmem_nr_irqs(void);
KMEM_API int kmem_irq_signal(int irq);
KMEM_API KMEM_MUST_USE int kmem_request_irq(int irq, kmem_irq_handler_t handler, uint32_t flags, const char *name, void *device);
KMEM_API void kmem_free_irq(int irq, void *device);
KMEM_API void kmem_disable_irq(int irq);
KMEM_API void kmem_disable_irq_nosync(int irq);
KMEM_API void kmem_enable_irq(int irq);
KMEM_API void kmem_synchronize_irq(int irq);
KMEM_API void kmem_raise_irq(int irq);

/*
 * A cache of the program's that gives memory back before an allocation fails: reclaim() frees about nr_pages pages' worth and returns how
 * many pages it freed. needs: KMEM_GFP_IO_BIT, KMEM_GFP_FS_BIT, both or 0. Returns a number for kmem_unregister_reclaim, or a negative
 * errno value.
 */
KMEM_API KMEM_MUST_USE int kmem_register_reclaim(uint64_t (*reclaim)(void *context, kmem_gfp_t gfp, uint64_t nr_pages), void *context,
                                                 kmem_gfp_t needs);
KMEM_API void kmem_unregister_reclaim(int number);

/*
 * Shrinkers (kmem/shrinker.hpp): count_objects says how many objects could be freed, scan_objects frees about nr_to_scan of them and
 * returns how many it freed. Everything else is 0 by default, seeks included, which then means "costs nothing to make again":
 * KMEM_DEFAULT_SEEKS is the usual value. The struct must stay where it is while it is registered. Returns 0, or a negative errno value.
 */
struct kmem_shrink_control {
  kmem_gfp_t gfp;
  int nid;
  uint64_t nr_to_scan;
  uint64_t nr_scanned;
};
struct kmem_shrinker {
  uint64_t (*count_objects)(struct kmem_shrinker *self, struct kmem_shrink_control *control);
  uint64_t (*scan_objects)(struct kmem_shrinker *self, struct kmem_shrink_control *control);
  long batch;
  int seeks;
  kmem_gfp_t needs; /* KMEM_GFP_IO_BIT, KMEM_GFP_FS_BIT, both or 0 */
  uint32_t flags;   /* 0 */
  void *private_data;
  const char *name;
  void *library_list[2];
  uint64_t library_deferred;
  uint32_t library_state[2];
};
#define KMEM_SHRINK_STOP (~(uint64_t)0)
#define KMEM_SHRINK_EMPTY (~(uint64_t)0 - 1)
#define KMEM_DEFAULT_SEEKS 2
KMEM_API KMEM_MUST_USE int kmem_register_shrinker(struct kmem_shrinker *shrinker);
KMEM_API void kmem_unregister_shrinker(struct kmem_shrinker *shrinker);

/* Asked last, before an allocation that may call file systems waits or fails. notify returns the pages that it freed. */
struct kmem_oom_notifier {
  uint64_t (*notify)(struct kmem_oom_notifier *self);
  void *private_data;
  void *library_list[2];
  uint32_t library_state[2];
};
KMEM_API KMEM_MUST_USE int kmem_register_oom_notifier(struct kmem_oom_notifier *notifier);
KMEM_API void kmem_unregister_oom_notifier(struct kmem_oom_notifier *notifier);

/*
 * Mempools (kmem/mempool.hpp): min_nr elements are set aside, so that kmem_mempool_alloc with a mask that may block never returns NULL.
 * The functions get pool_data. kmem_mempool_resize returns 0, or a negative errno value and nothing has changed.
 */
struct kmem_mempool;
typedef struct kmem_mempool kmem_mempool_t;
typedef void *(kmem_mempool_alloc_t)(kmem_gfp_t gfp, void *pool_data);
typedef void(kmem_mempool_free_t)(void *element, void *pool_data);

KMEM_API KMEM_MUST_USE kmem_mempool_t *kmem_mempool_create(unsigned min_nr, kmem_mempool_alloc_t *alloc, kmem_mempool_free_t *free,
                                                           void *pool_data);
KMEM_API KMEM_MUST_USE kmem_mempool_t *kmem_mempool_create_slab_pool(unsigned min_nr, kmem_cache_t *cache);
KMEM_API KMEM_MUST_USE kmem_mempool_t *kmem_mempool_create_kmalloc_pool(unsigned min_nr, size_t size);
/* The elements are kmem_page_t *. */
KMEM_API KMEM_MUST_USE kmem_mempool_t *kmem_mempool_create_page_pool(unsigned min_nr, unsigned order);
KMEM_API void kmem_mempool_destroy(kmem_mempool_t *pool);
KMEM_API KMEM_MUST_USE void *kmem_mempool_alloc(kmem_mempool_t *pool, kmem_gfp_t gfp);
KMEM_API void kmem_mempool_free(void *element, kmem_mempool_t *pool);
KMEM_API KMEM_MUST_USE int kmem_mempool_resize(kmem_mempool_t *pool, unsigned min_nr);
/* Elements that are to be, and that are, set aside. */
KMEM_API KMEM_MUST_USE unsigned kmem_mempool_min_nr(const kmem_mempool_t *pool);
KMEM_API KMEM_MUST_USE unsigned kmem_mempool_curr_nr(const kmem_mempool_t *pool);

/*
 * Sheaves (kmem/reservation.hpp): objects taken in advance. As many kmem_cache_alloc_from_sheaf as the sheaf has objects cannot fail.
 * kmem_cache_refill_sheaf returns 0, or a negative errno value and nothing has changed.
 */
struct kmem_sheaf;
typedef struct kmem_sheaf kmem_sheaf_t;

KMEM_API KMEM_MUST_USE kmem_sheaf_t *kmem_cache_prefill_sheaf(kmem_cache_t *cache, kmem_gfp_t gfp, unsigned size);
KMEM_API KMEM_MUST_USE void *kmem_cache_alloc_from_sheaf(kmem_cache_t *cache, kmem_gfp_t gfp, kmem_sheaf_t *sheaf);
KMEM_API KMEM_MUST_USE int kmem_cache_refill_sheaf(kmem_cache_t *cache, kmem_gfp_t gfp, kmem_sheaf_t **sheaf, unsigned size);
KMEM_API void kmem_cache_return_sheaf(kmem_cache_t *cache, kmem_gfp_t gfp, kmem_sheaf_t *sheaf);
KMEM_API KMEM_MUST_USE unsigned kmem_cache_sheaf_size(const kmem_sheaf_t *sheaf);

/*
 * What may end the waits of the calling thread for memory, from enter to leave; see kmem/wait.hpp. deadline_ns: of CLOCK_MONOTONIC,
 * 0: none. kmem_wait_stop may be called by any thread in between. Scopes nest.
 */
struct kmem_wait_scope {
  uint64_t storage[6];
};
KMEM_API void kmem_wait_enter(struct kmem_wait_scope *scope, uint64_t deadline_ns, bool interruptible);
KMEM_API void kmem_wait_leave(struct kmem_wait_scope *scope);
KMEM_API void kmem_wait_stop(struct kmem_wait_scope *scope);
/* After an allocation returned NULL: -ENOMEM, -ETIMEDOUT, -EINTR or -ECANCELED. */
KMEM_API KMEM_MUST_USE int kmem_wait_error(void);

/* Bytes of the budget that are still free. */
KMEM_API KMEM_MUST_USE uint64_t kmem_remaining_bytes(void);

#ifdef __cplusplus
}
#endif
