/* What must hold when the code runs: WARN_ON() reports and goes on, BUG_ON() reports and ends the process. */
#ifndef KMEM_LINUX_BUG_H
#define KMEM_LINUX_BUG_H

#include <kmem/linux_api.h>
#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/printk.h>

#define BUG() kmem_linux_bug(__FILE__, __LINE__, __func__)
#define BUG_ON(condition) do { if (unlikely(condition)) BUG(); } while (0)
#define WARN(condition, ...)                                                                \
  __extension__({                                                                           \
    int kmem_warn_ = !!(condition);                                                         \
    if (unlikely(kmem_warn_)) kmem_linux_warn(__FILE__, __LINE__, __func__, __VA_ARGS__);   \
    unlikely(kmem_warn_);                                                                   \
  })
#define WARN_ON(condition) WARN(condition, "%s", #condition)
#define WARN_ONCE(condition, ...)                                                                                       \
  __extension__({                                                                                                       \
    static int kmem_warned_;                                                                                            \
    int kmem_once_ = !!(condition);                                                                                     \
    if (unlikely(kmem_once_) && !__atomic_exchange_n(&kmem_warned_, 1, __ATOMIC_RELAXED))                               \
      kmem_linux_warn(__FILE__, __LINE__, __func__, __VA_ARGS__);                                                       \
    unlikely(kmem_once_);                                                                                               \
  })
#define WARN_ON_ONCE(condition) WARN_ONCE(condition, "%s", #condition)

#endif
