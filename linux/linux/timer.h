/* Timers: functions that run in softirq context at a time. */
#ifndef KMEM_LINUX_TIMER_H
#define KMEM_LINUX_TIMER_H

#include <kmem/linux_api.h>
#include <linux/container_of.h>
#include <linux/jiffies.h>
#include <linux/types.h>
#include <linux/version.h>

/* A timer's function takes the timer; before 4.15 it took `data`, which the version chosen decides. */
struct timer_list {
#if LINUX_VERSION_CODE >= KERNEL_VERSION(4, 15, 0)
  void (*function)(struct timer_list *timer);
#else
  void (*function)(unsigned long data);
#endif
  unsigned long expires;
  unsigned long data;
  unsigned int kmem_flags_; /* 1: the function takes data; 2: with interrupts off */
  unsigned int kmem_state_;
  unsigned long kmem_due_;
  struct timer_list *kmem_links_[3];
};

_Static_assert(sizeof(struct timer_list) == 64 && offsetof(struct timer_list, kmem_flags_) == 24 &&
                   offsetof(struct timer_list, kmem_due_) == 32,
               "as in the library");

/* No CPU is idle, and none is chosen: deferrable and pinned timers are like any other. */
#define TIMER_DEFERRABLE 0u
#define TIMER_PINNED 0u
#define TIMER_IRQSAFE 2u

static inline struct kmem_timer *kmem_of_timer_(struct timer_list *t) { return (struct kmem_timer *)(void *)t; }
#if LINUX_VERSION_CODE >= KERNEL_VERSION(4, 15, 0)
#define DEFINE_TIMER(name, callback) struct timer_list name = { .function = callback }
#define timer_setup(timer, callback, flags) ((void)(*(timer) = (struct timer_list){ .function = (callback), .kmem_flags_ = (flags) }))
#define timer_setup_on_stack(timer, callback, flags) timer_setup(timer, callback, flags)
#define destroy_timer_on_stack(timer) ((void)(timer))
#define from_timer(variable, timer, member) container_of(timer, __typeof__(*variable), member)
#define timer_container_of(variable, timer, member) from_timer(variable, timer, member)
#else
#define DEFINE_TIMER(name, callback, when, value) \
  struct timer_list name = { .function = callback, .expires = when, .data = value, .kmem_flags_ = 1 }
#define TIMER_INITIALIZER(callback, when, value) { .function = callback, .expires = when, .data = value, .kmem_flags_ = 1 }
static inline void init_timer(struct timer_list *t) {
  t->kmem_flags_ = 1;
  t->kmem_state_ = 0;
}
#define setup_timer(timer, callback, value) \
  ((void)(*(timer) = (struct timer_list){ .function = (callback), .data = (value), .kmem_flags_ = 1 }))
#endif

static inline void add_timer(struct timer_list *t) { kmem_add_timer(kmem_of_timer_(t)); }
static inline int mod_timer(struct timer_list *t, unsigned long expires) { return kmem_mod_timer(kmem_of_timer_(t), expires); }
static inline int mod_timer_pending(struct timer_list *t, unsigned long expires) {
  return kmem_mod_timer_pending(kmem_of_timer_(t), expires);
}
static inline int timer_reduce(struct timer_list *t, unsigned long expires) { return kmem_timer_reduce(kmem_of_timer_(t), expires); }
static inline int timer_pending(const struct timer_list *t) { return kmem_timer_pending((const struct kmem_timer *)(const void *)t); }
static inline int del_timer(struct timer_list *t) { return kmem_del_timer(kmem_of_timer_(t)); }
static inline int del_timer_sync(struct timer_list *t) { return kmem_del_timer_sync(kmem_of_timer_(t)); }
static inline int try_to_del_timer_sync(struct timer_list *t) { return kmem_try_to_del_timer_sync(kmem_of_timer_(t)); }
static inline int timer_delete(struct timer_list *t) { return del_timer(t); }
static inline int timer_delete_sync(struct timer_list *t) { return del_timer_sync(t); }
static inline int timer_shutdown_sync(struct timer_list *t) { return kmem_timer_shutdown_sync(kmem_of_timer_(t)); }

#endif
