/* Messages, into the library's ring and to its sink. */
#ifndef KMEM_LINUX_PRINTK_H
#define KMEM_LINUX_PRINTK_H

#include <kmem/linux_api.h>
#include <linux/kern_levels.h>
#include <linux/types.h>

#define printk(...) kmem_linux_printk(__VA_ARGS__)
#define vprintk(format, arguments) kmem_linux_vprintk(format, arguments)
#ifndef pr_fmt
#define pr_fmt(format) format
#endif
#define pr_emerg(format, ...) printk(KERN_EMERG pr_fmt(format), ##__VA_ARGS__)
#define pr_alert(format, ...) printk(KERN_ALERT pr_fmt(format), ##__VA_ARGS__)
#define pr_crit(format, ...) printk(KERN_CRIT pr_fmt(format), ##__VA_ARGS__)
#define pr_err(format, ...) printk(KERN_ERR pr_fmt(format), ##__VA_ARGS__)
#define pr_warn(format, ...) printk(KERN_WARNING pr_fmt(format), ##__VA_ARGS__)
#define pr_warning pr_warn
#define pr_notice(format, ...) printk(KERN_NOTICE pr_fmt(format), ##__VA_ARGS__)
#define pr_info(format, ...) printk(KERN_INFO pr_fmt(format), ##__VA_ARGS__)
#define no_printk(format, ...) __extension__({ if (0) printk(format, ##__VA_ARGS__); 0; })
#ifdef DEBUG
#define pr_debug(format, ...) printk(KERN_DEBUG pr_fmt(format), ##__VA_ARGS__)
#else
#define pr_debug(format, ...) no_printk(KERN_DEBUG pr_fmt(format), ##__VA_ARGS__)
#endif
#define pr_devel pr_debug

#define kmem_once_(call) __extension__({ static int kmem_done_; if (!__atomic_exchange_n(&kmem_done_, 1, __ATOMIC_RELAXED)) call; })
#define printk_once(...) kmem_once_(printk(__VA_ARGS__))
#define pr_err_once(format, ...) kmem_once_(pr_err(format, ##__VA_ARGS__))
#define pr_warn_once(format, ...) kmem_once_(pr_warn(format, ##__VA_ARGS__))
#define pr_info_once(format, ...) kmem_once_(pr_info(format, ##__VA_ARGS__))
#define printk_ratelimit() __extension__({ static unsigned long long kmem_state_; kmem_linux_ratelimit(&kmem_state_); })
#define printk_ratelimited(...) \
  __extension__({ static unsigned long long kmem_state_; if (kmem_linux_ratelimit(&kmem_state_)) printk(__VA_ARGS__); })
#define pr_err_ratelimited(format, ...) printk_ratelimited(KERN_ERR pr_fmt(format), ##__VA_ARGS__)
#define pr_warn_ratelimited(format, ...) printk_ratelimited(KERN_WARNING pr_fmt(format), ##__VA_ARGS__)
#define pr_info_ratelimited(format, ...) printk_ratelimited(KERN_INFO pr_fmt(format), ##__VA_ARGS__)

#endif
