/* Interrupts on real-time signals (number 0 is SIGRTMIN), and tasklets. */
#ifndef KMEM_LINUX_INTERRUPT_H
#define KMEM_LINUX_INTERRUPT_H

#include <kmem/linux_api.h>
#include <linux/bottom_half.h>
#include <linux/hardirq.h>
#include <linux/irqflags.h>
#include <linux/irqreturn.h>
#include <linux/kernel.h>
#include <linux/preempt.h>

typedef irqreturn_t (*irq_handler_t)(int irq, void *device);

#define IRQF_SHARED 0x80u
/* A signal comes once for each time that it was sent: an edge. Handlers run with interrupts off. */
#define IRQF_TRIGGER_NONE 0u
#define IRQF_TRIGGER_RISING 0u
#define IRQF_TRIGGER_FALLING 0u
#define SA_SHIRQ IRQF_SHARED
#define SA_INTERRUPT 0u

static inline int __must_check request_irq(unsigned int irq, irq_handler_t handler, unsigned long flags, const char *name, void *device) {
  union {
    irq_handler_t kernel;
    int (*library)(int irq, void *device);
  } function = { handler };
  return kmem_request_irq((int)irq, function.library, (unsigned int)flags, name, device);
}
#define request_irq(...) KMEM_LINUX_AT((request_irq)(__VA_ARGS__))
#define free_irq(irq, device) KMEM_LINUX_AT_VOID(kmem_free_irq((int)(irq), device))
#define disable_irq(irq) KMEM_LINUX_AT_VOID(kmem_disable_irq((int)(irq)))
#define disable_irq_nosync(irq) kmem_disable_irq_nosync((int)(irq))
#define enable_irq(irq) kmem_enable_irq((int)(irq))

struct tasklet_struct {
  union {
    void (*callback)(struct tasklet_struct *t);
    void (*func)(unsigned long data);
  };
  unsigned long data;
  unsigned int kmem_flags_; /* 1: func */
  unsigned int kmem_reserved_;
  unsigned long kmem_state_; /* the count of disables in bits 16 to 31 */
  struct tasklet_struct *kmem_next_;
};

_Static_assert(sizeof(struct tasklet_struct) == 40 && offsetof(struct tasklet_struct, kmem_flags_) == 16 &&
                   offsetof(struct tasklet_struct, kmem_state_) == 24,
               "as in the library");

#define kmem_tasklet_new_(name, function) struct tasklet_struct name = { .callback = function }
#define kmem_tasklet_old_(name, function, value) struct tasklet_struct name = { .func = function, .data = value, .kmem_flags_ = 1 }
#define kmem_tasklet_new_off_(name, function) struct tasklet_struct name = { .callback = function, .kmem_state_ = 1ul << 16 }
#define kmem_tasklet_old_off_(name, function, value) \
  struct tasklet_struct name = { .func = function, .data = value, .kmem_flags_ = 1, .kmem_state_ = 1ul << 16 }
#define kmem_pick3_(_1, _2, _3, name, ...) name
/* DECLARE_TASKLET(name, callback), or as it was until 5.9: DECLARE_TASKLET(name, func, data). */
#define DECLARE_TASKLET(...) kmem_pick3_(__VA_ARGS__, kmem_tasklet_old_, kmem_tasklet_new_, 0)(__VA_ARGS__)
#define DECLARE_TASKLET_DISABLED(...) kmem_pick3_(__VA_ARGS__, kmem_tasklet_old_off_, kmem_tasklet_new_off_, 0)(__VA_ARGS__)
#define DECLARE_TASKLET_OLD(name, function) kmem_tasklet_old_(name, function, 0)
#define DECLARE_TASKLET_DISABLED_OLD(name, function) kmem_tasklet_old_off_(name, function, 0)
#define from_tasklet(variable, tasklet, member) container_of(tasklet, __typeof__(*variable), member)

static inline struct kmem_tasklet *kmem_of_tasklet_(struct tasklet_struct *t) { return (struct kmem_tasklet *)(void *)t; }
static inline void tasklet_setup(struct tasklet_struct *t, void (*callback)(struct tasklet_struct *)) {
  *t = (struct tasklet_struct){ .callback = callback };
}
static inline void tasklet_init(struct tasklet_struct *t, void (*func)(unsigned long), unsigned long data) {
  *t = (struct tasklet_struct){ .func = func, .data = data, .kmem_flags_ = 1 };
}
static inline void tasklet_schedule(struct tasklet_struct *t) { kmem_tasklet_schedule(kmem_of_tasklet_(t)); }
static inline void tasklet_hi_schedule(struct tasklet_struct *t) { kmem_tasklet_hi_schedule(kmem_of_tasklet_(t)); }
static inline void tasklet_disable_nosync(struct tasklet_struct *t) { kmem_tasklet_disable_nosync(kmem_of_tasklet_(t)); }
static inline void tasklet_enable(struct tasklet_struct *t) { kmem_tasklet_enable(kmem_of_tasklet_(t)); }
#define tasklet_disable(t) KMEM_LINUX_AT_VOID(kmem_tasklet_disable(kmem_of_tasklet_(t)))
#define tasklet_kill(t) KMEM_LINUX_AT_VOID(kmem_tasklet_kill(kmem_of_tasklet_(t)))

#endif
