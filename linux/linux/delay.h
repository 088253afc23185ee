/* Waiting: the delays are busy and may be used anywhere, msleep() sleeps. */
#ifndef KMEM_LINUX_DELAY_H
#define KMEM_LINUX_DELAY_H

#include <kmem/linux_api.h>
#include <linux/types.h>

#define ndelay(ns) kmem_linux_delay_ns((u64)(ns))
#define udelay(us) kmem_linux_delay_ns((u64)(us)*1000)
#define mdelay(ms) kmem_linux_delay_ns((u64)(ms)*1000000)
#define msleep(ms) kmem_linux_sleep_ns((u64)(ms)*1000000, __FILE__, __LINE__)
#define ssleep(s) kmem_linux_sleep_ns((u64)(s)*1000000000, __FILE__, __LINE__)
#define usleep_range(low, high) kmem_linux_sleep_ns(((u64)(low) + (u64)(high)) / 2 * 1000, __FILE__, __LINE__)

#endif
