/* Time in ticks. */
#ifndef KMEM_LINUX_JIFFIES_H
#define KMEM_LINUX_JIFFIES_H

#include <kmem/linux_api.h>
#include <linux/limits.h>
#include <linux/param.h>
#include <linux/types.h>

#define jiffies ((unsigned long)kmem_jiffies())
#define get_jiffies_64() ((u64)kmem_jiffies())
#define MAX_JIFFY_OFFSET ((LONG_MAX >> 1) - 1)

#define time_after(a, b) ((long)((b) - (a)) < 0)
#define time_before(a, b) time_after(b, a)
#define time_after_eq(a, b) ((long)((a) - (b)) >= 0)
#define time_before_eq(a, b) time_after_eq(b, a)
#define time_in_range(a, b, c) (time_after_eq(a, b) && time_before_eq(a, c))
#define time_is_before_jiffies(a) time_after(jiffies, a)
#define time_is_after_jiffies(a) time_before(jiffies, a)

static inline unsigned int jiffies_to_msecs(unsigned long j) { return (unsigned int)(j * (1000 / HZ)); }
static inline unsigned int jiffies_to_usecs(unsigned long j) { return (unsigned int)(j * (1000000 / HZ)); }
/* Rounded up: nobody waits for less than asked. */
static inline unsigned long msecs_to_jiffies(unsigned int ms) {
  return (int)ms < 0 ? MAX_JIFFY_OFFSET : ((unsigned long)ms + 1000 / HZ - 1) / (1000 / HZ);
}
static inline unsigned long usecs_to_jiffies(unsigned int us) { return ((unsigned long)us + 1000000 / HZ - 1) / (1000000 / HZ); }
static inline unsigned long round_jiffies(unsigned long j) { return (j + HZ - 1) / HZ * HZ; }

#endif
