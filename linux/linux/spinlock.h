/* Spin locks and readers' and writers' locks: who holds one is in atomic context. */
#ifndef KMEM_LINUX_SPINLOCK_H
#define KMEM_LINUX_SPINLOCK_H

#include <linux/bottom_half.h>
#include <linux/bug.h>
#include <linux/irqflags.h>
#include <linux/preempt.h>
#include <linux/spinlock_types.h>

#define spin_lock_init(lock) ((void)(*(lock) = __SPIN_LOCK_UNLOCKED(lock)))
#define raw_spin_lock_init(lock) spin_lock_init(lock)
#define spin_lock(lock) kmem_linux_spin_lock(&(lock)->kmem, __FILE__, __LINE__)
#define spin_unlock(lock) kmem_linux_spin_unlock(&(lock)->kmem, __FILE__, __LINE__)
#define spin_trylock(lock) kmem_linux_spin_trylock(&(lock)->kmem)
#define spin_is_locked(lock) kmem_linux_spin_is_locked(&(lock)->kmem)
#define assert_spin_locked(lock) BUG_ON(!spin_is_locked(lock))
#define spin_lock_nested(lock, subclass) spin_lock(lock)
#define spin_lock_irq(lock) do { local_irq_disable(); spin_lock(lock); } while (0)
#define spin_unlock_irq(lock) do { spin_unlock(lock); local_irq_enable(); } while (0)
#define spin_lock_irqsave(lock, flags) do { local_irq_save(flags); spin_lock(lock); } while (0)
#define spin_unlock_irqrestore(lock, flags) do { spin_unlock(lock); local_irq_restore(flags); } while (0)
#define spin_lock_bh(lock) do { local_bh_disable(); spin_lock(lock); } while (0)
#define spin_unlock_bh(lock) do { spin_unlock(lock); local_bh_enable(); } while (0)
#define spin_trylock_bh(lock) \
  __extension__({ local_bh_disable(); int kmem_got_ = spin_trylock(lock); if (!kmem_got_) local_bh_enable(); kmem_got_; })
#define spin_trylock_irq(lock) \
  __extension__({ local_irq_disable(); int kmem_got_ = spin_trylock(lock); if (!kmem_got_) local_irq_enable(); kmem_got_; })
#define spin_trylock_irqsave(lock, flags) \
  __extension__({ local_irq_save(flags); int kmem_got_ = spin_trylock(lock); if (!kmem_got_) local_irq_restore(flags); kmem_got_; })
#define lockdep_assert_held(lock) WARN_ON(!kmem_linux_spin_is_mine(&(lock)->kmem))

#define rwlock_init(lock) ((void)(*(lock) = __RW_LOCK_UNLOCKED(lock)))
#define raw_spin_lock(lock) spin_lock(lock)
#define raw_spin_unlock(lock) spin_unlock(lock)
#define raw_spin_trylock(lock) spin_trylock(lock)
#define raw_spin_lock_irq(lock) spin_lock_irq(lock)
#define raw_spin_unlock_irq(lock) spin_unlock_irq(lock)
#define raw_spin_lock_bh(lock) spin_lock_bh(lock)
#define raw_spin_unlock_bh(lock) spin_unlock_bh(lock)
#define raw_spin_is_locked(lock) spin_is_locked(lock)
#define raw_spin_lock_irqsave(lock, flags) spin_lock_irqsave(lock, flags)
#define raw_spin_unlock_irqrestore(lock, flags) spin_unlock_irqrestore(lock, flags)

#define read_lock(lock) kmem_linux_read_lock(&(lock)->kmem)
#define read_trylock(lock) kmem_linux_read_trylock(&(lock)->kmem)
#define read_unlock(lock) kmem_linux_read_unlock(&(lock)->kmem, __FILE__, __LINE__)
#define read_lock_irq(lock) do { local_irq_disable(); read_lock(lock); } while (0)
#define read_unlock_irq(lock) do { read_unlock(lock); local_irq_enable(); } while (0)
#define read_lock_irqsave(lock, flags) do { local_irq_save(flags); read_lock(lock); } while (0)
#define read_unlock_irqrestore(lock, flags) do { read_unlock(lock); local_irq_restore(flags); } while (0)
#define read_lock_bh(lock) do { local_bh_disable(); read_lock(lock); } while (0)
#define read_unlock_bh(lock) do { read_unlock(lock); local_bh_enable(); } while (0)

#define write_lock(lock) kmem_linux_write_lock(&(lock)->kmem)
#define write_trylock(lock) kmem_linux_write_trylock(&(lock)->kmem)
#define write_unlock(lock) kmem_linux_write_unlock(&(lock)->kmem, __FILE__, __LINE__)
#define write_lock_irq(lock) do { local_irq_disable(); write_lock(lock); } while (0)
#define write_unlock_irq(lock) do { write_unlock(lock); local_irq_enable(); } while (0)
#define write_lock_irqsave(lock, flags) do { local_irq_save(flags); write_lock(lock); } while (0)
#define write_unlock_irqrestore(lock, flags) do { write_unlock(lock); local_irq_restore(flags); } while (0)
#define write_lock_bh(lock) do { local_bh_disable(); write_lock(lock); } while (0)
#define write_unlock_bh(lock) do { write_unlock(lock); local_bh_enable(); } while (0)

#endif
