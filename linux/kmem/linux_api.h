/*
 * What the linux headers call: functions of the library, declared without the C library's headers, which kernel code is compiled without.
 * Those without _linux_ are declared in kmem/kmem.h, too, where each is described.
 */
#ifndef KMEM_LINUX_API_H
#define KMEM_LINUX_API_H

#ifdef __cplusplus
#define KMEM_LINUX_BOOL bool
extern "C" {
#else
#define KMEM_LINUX_BOOL _Bool
#endif
#pragma GCC visibility push(default)

struct kmem_cache;
struct kmem_page;
struct kmem_mempool;
struct kmem_sheaf;
struct kmem_tasklet;
struct kmem_timer;
struct kmem_shrinker;

/* kmalloc */
void *kmem_kmalloc(__SIZE_TYPE__ size, __UINT32_TYPE__ gfp);
void *kmem_kzalloc(__SIZE_TYPE__ size, __UINT32_TYPE__ gfp);
void *kmem_kmalloc_array(__SIZE_TYPE__ n, __SIZE_TYPE__ size, __UINT32_TYPE__ gfp);
void *kmem_kcalloc(__SIZE_TYPE__ n, __SIZE_TYPE__ size, __UINT32_TYPE__ gfp);
void *kmem_krealloc(const void *old, __SIZE_TYPE__ size, __UINT32_TYPE__ gfp);
void *kmem_krealloc_array(const void *old, __SIZE_TYPE__ n, __SIZE_TYPE__ size, __UINT32_TYPE__ gfp);
void kmem_kfree(const void *p);
void kmem_kfree_sensitive(const void *p);
__SIZE_TYPE__ kmem_ksize(const void *p);
__SIZE_TYPE__ kmem_kmalloc_size_roundup(__SIZE_TYPE__ size);
void *kmem_kmemdup(const void *source, __SIZE_TYPE__ size, __UINT32_TYPE__ gfp);
char *kmem_kstrdup(const char *text, __UINT32_TYPE__ gfp);
char *kmem_kstrndup(const char *text, __SIZE_TYPE__ max, __UINT32_TYPE__ gfp);

/* caches */
struct kmem_cache *kmem_cache_create(const char *name, __SIZE_TYPE__ size, __SIZE_TYPE__ align, __UINT32_TYPE__ flags,
                                     void (*constructor)(void *object));
void kmem_cache_destroy(struct kmem_cache *cache);
void *kmem_cache_alloc(struct kmem_cache *cache, __UINT32_TYPE__ gfp);
void *kmem_cache_zalloc(struct kmem_cache *cache, __UINT32_TYPE__ gfp);
void kmem_cache_free(struct kmem_cache *cache, void *object);
__SIZE_TYPE__ kmem_cache_alloc_bulk(struct kmem_cache *cache, __UINT32_TYPE__ gfp, __SIZE_TYPE__ n, void **objects);
void kmem_cache_free_bulk(struct kmem_cache *cache, __SIZE_TYPE__ n, void **objects);
__UINT64_TYPE__ kmem_cache_shrink(struct kmem_cache *cache);
__SIZE_TYPE__ kmem_cache_size(const struct kmem_cache *cache);
struct kmem_sheaf *kmem_cache_prefill_sheaf(struct kmem_cache *cache, __UINT32_TYPE__ gfp, unsigned size);
void *kmem_cache_alloc_from_sheaf(struct kmem_cache *cache, __UINT32_TYPE__ gfp, struct kmem_sheaf *sheaf);
int kmem_cache_refill_sheaf(struct kmem_cache *cache, __UINT32_TYPE__ gfp, struct kmem_sheaf **sheaf, unsigned size);
void kmem_cache_return_sheaf(struct kmem_cache *cache, __UINT32_TYPE__ gfp, struct kmem_sheaf *sheaf);
unsigned kmem_cache_sheaf_size(const struct kmem_sheaf *sheaf);

/* pages */
struct kmem_page *kmem_alloc_pages(__UINT32_TYPE__ gfp, unsigned order);
void kmem_free_pages(struct kmem_page *page, unsigned order);
unsigned kmem_alloc_pages_bulk(__UINT32_TYPE__ gfp, unsigned n, struct kmem_page **pages);
void kmem_get_page(struct kmem_page *page);
void kmem_put_page(struct kmem_page *page);
unsigned kmem_page_count(struct kmem_page *page);
void kmem_split_page(struct kmem_page *page, unsigned order);
void *kmem_page_address(const struct kmem_page *page);
struct kmem_page *kmem_virt_to_page(const void *address);
__UINT64_TYPE__ kmem_page_to_pfn(const struct kmem_page *page);
struct kmem_page *kmem_pfn_to_page(__UINT64_TYPE__ pfn);
void *kmem_get_free_pages(__UINT32_TYPE__ gfp, unsigned order);
void *kmem_get_zeroed_page(__UINT32_TYPE__ gfp);
void kmem_free_pages_at(void *address, unsigned order);
void *kmem_alloc_pages_exact(__SIZE_TYPE__ size, __UINT32_TYPE__ gfp);
void kmem_free_pages_exact(void *address, __SIZE_TYPE__ size);

/* vmalloc */
void *kmem_linux_vmalloc(__SIZE_TYPE__ size, __UINT32_TYPE__ gfp);
void kmem_vfree(const void *p);
KMEM_LINUX_BOOL kmem_is_vmalloc_addr(const void *p);
void *kmem_kvmalloc(__SIZE_TYPE__ size, __UINT32_TYPE__ gfp);
void *kmem_kvzalloc(__SIZE_TYPE__ size, __UINT32_TYPE__ gfp);
void *kmem_kvmalloc_array(__SIZE_TYPE__ n, __SIZE_TYPE__ size, __UINT32_TYPE__ gfp);
void *kmem_kvcalloc(__SIZE_TYPE__ n, __SIZE_TYPE__ size, __UINT32_TYPE__ gfp);
void *kmem_kvrealloc(const void *old, __SIZE_TYPE__ size, __UINT32_TYPE__ gfp);
void kmem_kvfree(const void *p);

/* mempools */
struct kmem_mempool *kmem_mempool_create(unsigned min_nr, void *(*alloc)(__UINT32_TYPE__ gfp, void *pool_data),
                                         void (*free)(void *element, void *pool_data), void *pool_data);
void kmem_mempool_destroy(struct kmem_mempool *pool);
void *kmem_mempool_alloc(struct kmem_mempool *pool, __UINT32_TYPE__ gfp);
void kmem_mempool_free(void *element, struct kmem_mempool *pool);
int kmem_mempool_resize(struct kmem_mempool *pool, unsigned min_nr);

/* shrinkers */
int kmem_register_shrinker(struct kmem_shrinker *shrinker);
void kmem_unregister_shrinker(struct kmem_shrinker *shrinker);

/* Who called, for reports about sleeping: pushed before the arguments are evaluated, popped after the call. */
struct kmem_linux_site {
  const char *file;
  int line;
};
struct kmem_linux_site kmem_linux_enter(const char *file, int line);
void kmem_linux_leave(struct kmem_linux_site before);

/* contexts */
unsigned kmem_linux_preempt_count(void);
void kmem_linux_preempt_count_add(unsigned units);
void kmem_linux_preempt_count_sub(unsigned units);
KMEM_LINUX_BOOL kmem_linux_irqs_disabled(void);
KMEM_LINUX_BOOL kmem_linux_irqs_set_disabled(KMEM_LINUX_BOOL disabled); /* returns what it was before */
void kmem_linux_might_sleep(const char *file, int line);
void kmem_linux_schedule(const char *file, int line);       /* lets others run; reported in atomic context */
void kmem_linux_cond_resched(const char *file, int line);
void kmem_linux_sleep_ns(__UINT64_TYPE__ ns, const char *file, int line);
void kmem_linux_delay_ns(__UINT64_TYPE__ ns); /* busy */
unsigned kmem_linux_memalloc_save(unsigned scopes);
void kmem_linux_memalloc_restore(unsigned scopes, unsigned before);
int kmem_linux_cpu(void);

/* locks: a lock of all zeroes is free */
struct kmem_linux_spinlock {
  __UINT32_TYPE__ word;
  __UINT32_TYPE__ reserved;
  const void *owner;
};
void kmem_linux_spin_lock(struct kmem_linux_spinlock *lock, const char *file, int line);
KMEM_LINUX_BOOL kmem_linux_spin_trylock(struct kmem_linux_spinlock *lock);
void kmem_linux_spin_unlock(struct kmem_linux_spinlock *lock, const char *file, int line);
KMEM_LINUX_BOOL kmem_linux_spin_is_locked(const struct kmem_linux_spinlock *lock);
KMEM_LINUX_BOOL kmem_linux_spin_is_mine(const struct kmem_linux_spinlock *lock);
struct kmem_linux_rwlock {
  __UINT32_TYPE__ word; /* readers, or ~0 */
  __UINT32_TYPE__ reserved;
};
void kmem_linux_read_lock(struct kmem_linux_rwlock *lock);
KMEM_LINUX_BOOL kmem_linux_read_trylock(struct kmem_linux_rwlock *lock);
void kmem_linux_read_unlock(struct kmem_linux_rwlock *lock, const char *file, int line);
void kmem_linux_write_lock(struct kmem_linux_rwlock *lock);
KMEM_LINUX_BOOL kmem_linux_write_trylock(struct kmem_linux_rwlock *lock);
void kmem_linux_write_unlock(struct kmem_linux_rwlock *lock, const char *file, int line);
struct kmem_linux_mutex {
  __UINT32_TYPE__ word;
  __UINT32_TYPE__ reserved;
  const void *owner;
};
void kmem_linux_mutex_lock(struct kmem_linux_mutex *mutex, const char *file, int line);
KMEM_LINUX_BOOL kmem_linux_mutex_trylock(struct kmem_linux_mutex *mutex);
void kmem_linux_mutex_unlock(struct kmem_linux_mutex *mutex, const char *file, int line);
KMEM_LINUX_BOOL kmem_linux_mutex_is_locked(const struct kmem_linux_mutex *mutex);
struct kmem_linux_semaphore {
  __UINT32_TYPE__ count;
};
void kmem_linux_down(struct kmem_linux_semaphore *semaphore, const char *file, int line);
KMEM_LINUX_BOOL kmem_linux_down_trylock(struct kmem_linux_semaphore *semaphore);
int kmem_linux_down_interruptible(struct kmem_linux_semaphore *semaphore, const char *file, int line); /* 0 or -EINTR */
void kmem_linux_up(struct kmem_linux_semaphore *semaphore);

/* interrupts, tasklets, timers */
KMEM_LINUX_BOOL kmem_tasklet_schedule(struct kmem_tasklet *tasklet);
KMEM_LINUX_BOOL kmem_tasklet_hi_schedule(struct kmem_tasklet *tasklet);
void kmem_tasklet_disable(struct kmem_tasklet *tasklet);
void kmem_tasklet_disable_nosync(struct kmem_tasklet *tasklet);
void kmem_tasklet_enable(struct kmem_tasklet *tasklet);
void kmem_tasklet_kill(struct kmem_tasklet *tasklet);
__UINT64_TYPE__ kmem_jiffies(void);
void kmem_add_timer(struct kmem_timer *timer);
KMEM_LINUX_BOOL kmem_mod_timer(struct kmem_timer *timer, __UINT64_TYPE__ expires);
KMEM_LINUX_BOOL kmem_mod_timer_pending(struct kmem_timer *timer, __UINT64_TYPE__ expires);
KMEM_LINUX_BOOL kmem_timer_reduce(struct kmem_timer *timer, __UINT64_TYPE__ expires);
KMEM_LINUX_BOOL kmem_del_timer(struct kmem_timer *timer);
int kmem_try_to_del_timer_sync(struct kmem_timer *timer);
KMEM_LINUX_BOOL kmem_del_timer_sync(struct kmem_timer *timer);
KMEM_LINUX_BOOL kmem_timer_shutdown_sync(struct kmem_timer *timer);
KMEM_LINUX_BOOL kmem_timer_pending(const struct kmem_timer *timer);
int kmem_request_irq(int irq, int (*handler)(int irq, void *device), __UINT32_TYPE__ flags, const char *name, void *device);
void kmem_free_irq(int irq, void *device);
void kmem_disable_irq(int irq);
void kmem_disable_irq_nosync(int irq);
void kmem_enable_irq(int irq);
void kmem_synchronize_irq(int irq);
void kmem_raise_irq(int irq);
int kmem_irq_signal(int irq);

/* messages; a format may begin with a level, "\001" and a digit */
int kmem_linux_printk(const char *format, ...) __attribute__((format(printf, 1, 2)));
int kmem_linux_vprintk(const char *format, __builtin_va_list arguments) __attribute__((format(printf, 1, 0)));
KMEM_LINUX_BOOL kmem_linux_ratelimit(unsigned long long *state); /* at most 10 in 5 seconds; state: zero at first */
void kmem_linux_warn(const char *file, int line, const char *function, const char *format, ...) __attribute__((format(printf, 4, 5)));
__attribute__((noreturn)) void kmem_linux_bug(const char *file, int line, const char *function);
__attribute__((noreturn)) void kmem_linux_panic(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *kmem_linux_asprintf(__UINT32_TYPE__ gfp, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *kmem_linux_vasprintf(__UINT32_TYPE__ gfp, const char *format, __builtin_va_list arguments) __attribute__((format(printf, 2, 0)));
int kmem_linux_snprintf(char *buffer, __SIZE_TYPE__ size, const char *format, ...) __attribute__((format(printf, 3, 4)));
int kmem_linux_vsnprintf(char *buffer, __SIZE_TYPE__ size, const char *format, __builtin_va_list arguments)
    __attribute__((format(printf, 3, 0)));

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

/* For a header that wraps a call: the value of `call`, which knows its caller's file and line. */
#define KMEM_LINUX_AT(call)                                                          \
  __extension__({                                                                    \
    struct kmem_linux_site kmem_before_ = kmem_linux_enter(__FILE__, __LINE__);      \
    __typeof__(call) kmem_result_ = (call);                                          \
    kmem_linux_leave(kmem_before_);                                                  \
    kmem_result_;                                                                    \
  })
#define KMEM_LINUX_AT_VOID(call)                                                     \
  __extension__({                                                                    \
    struct kmem_linux_site kmem_before_ = kmem_linux_enter(__FILE__, __LINE__);      \
    call;                                                                            \
    kmem_linux_leave(kmem_before_);                                                  \
  })

#endif
