// Execution context of the calling thread: preempt, softirq and hardirq counts, memalloc scopes, and locks that raise them.
//
// User space cannot stop preemption: a preempt guard means "this thread has declared atomic context and may not block in this
// library", not "nobody else runs on this CPU" (docs/kernel-differences.md).
#pragma once
#include <stdint.h>

#include <kmem/annotations.hpp>
#include <kmem/gfp.hpp>

#if defined(__GNUC__)
#define KMEM_EXPORT __attribute__((visibility("default")))
#else
#define KMEM_EXPORT
#endif

namespace kmem {

/// The capability "is in atomic context": acquired by the guards below, excluded by whatever may sleep.
struct KMEM_CAPABILITY("atomic context") atomic_context_t {};
inline constexpr atomic_context_t atomic_context{};

// preempt_count() has the kernel's layout.
inline constexpr uint32_t preempt_unit = 1u, preempt_mask = 0xffu;
inline constexpr uint32_t softirq_unit = 1u << 8, softirq_mask = 0xff00u;
inline constexpr uint32_t hardirq_unit = 1u << 16, hardirq_mask = 0xf0000u;
/// local_bh_disable() counts twice a served softirq, so that in_serving_softirq() can tell them apart.
inline constexpr uint32_t softirq_disable_unit = 2 * softirq_unit;

/// The calling thread's count. Context: any.
[[nodiscard]] KMEM_EXPORT uint32_t preempt_count() noexcept;
[[nodiscard]] KMEM_EXPORT bool irqs_disabled() noexcept;
/// True in atomic context: any count is raised or interrupts are off. Context: any.
[[nodiscard]] KMEM_EXPORT bool in_atomic() noexcept;
/// True in an interrupt handler, a softirq, or with softirqs disabled.
[[nodiscard]] KMEM_EXPORT bool in_interrupt() noexcept;

// The building blocks; prefer the guards.
KMEM_EXPORT void preempt_count_add(uint32_t units) noexcept;
KMEM_EXPORT void preempt_count_sub(uint32_t units) noexcept;
/// Sets "interrupts off" for this thread. Return: what it was before.
KMEM_EXPORT bool irqs_set_disabled(bool disabled) noexcept;

/// Annotates a function that may sleep: reports "sleeping function called from invalid context" in atomic context.
KMEM_EXPORT void might_sleep(const char* file = __builtin_FILE(), int line = __builtin_LINE()) noexcept
    KMEM_EXCLUDES(atomic_context);

/// What a report of a broken context rule does besides being counted.
enum class context_policy : uint8_t { report, count, abort };
KMEM_EXPORT void set_context_policy(context_policy policy) noexcept;
/// Broken context rules so far: every one counts, reported or not. Context: any.
[[nodiscard]] KMEM_EXPORT uint64_t context_violations() noexcept;

// memalloc scopes: allocation rights of everything the thread calls inside.
inline constexpr uint32_t scope_noio = 1, scope_nofs = 2, scope_noreclaim = 4;
/// Return: the scope bits that were set before; give them to memalloc_restore.
[[nodiscard]] KMEM_EXPORT uint32_t memalloc_save(uint32_t scope_bits) noexcept;
KMEM_EXPORT void memalloc_restore(uint32_t scope_bits, uint32_t saved) noexcept;
/// The mask with the calling thread's scopes applied (the kernel's current_gfp_context).
[[nodiscard]] KMEM_EXPORT gfp_t current_gfp(gfp_t mask) noexcept;

namespace detail {
/// Base of the guards, which are not copied, moved or released early: open a smaller block instead.
class no_copy {
 public:
  no_copy(const no_copy&) = delete;
  no_copy& operator=(const no_copy&) = delete;

 protected:
  constexpr no_copy() noexcept = default;
};
}  // namespace detail

class KMEM_SCOPED_CAPABILITY preempt_guard : detail::no_copy {
 public:
  [[nodiscard]] preempt_guard() noexcept KMEM_ACQUIRE(atomic_context) { preempt_count_add(preempt_unit); }
  ~preempt_guard() KMEM_RELEASE() { preempt_count_sub(preempt_unit); }
};

/// Softirqs off (local_bh_disable).
class KMEM_SCOPED_CAPABILITY bh_guard : detail::no_copy {
 public:
  [[nodiscard]] bh_guard() noexcept KMEM_ACQUIRE(atomic_context) { preempt_count_add(softirq_disable_unit); }
  ~bh_guard() KMEM_RELEASE() { preempt_count_sub(softirq_disable_unit); }
};

/// Interrupts off (local_irq_save).
class KMEM_SCOPED_CAPABILITY irq_guard : detail::no_copy {
 public:
  [[nodiscard]] irq_guard() noexcept KMEM_ACQUIRE(atomic_context) : saved_(irqs_set_disabled(true)) {}
  ~irq_guard() KMEM_RELEASE() { irqs_set_disabled(saved_); }

 private:
  bool saved_;
};

/// The body of an interrupt handler (irq_enter .. irq_exit).
class KMEM_SCOPED_CAPABILITY hardirq_guard : detail::no_copy {
 public:
  [[nodiscard]] hardirq_guard() noexcept KMEM_ACQUIRE(atomic_context) { preempt_count_add(hardirq_unit); }
  ~hardirq_guard() KMEM_RELEASE() { preempt_count_sub(hardirq_unit); }
};

/// The body of a softirq or tasklet.
class KMEM_SCOPED_CAPABILITY softirq_guard : detail::no_copy {
 public:
  [[nodiscard]] softirq_guard() noexcept KMEM_ACQUIRE(atomic_context) { preempt_count_add(softirq_unit); }
  ~softirq_guard() KMEM_RELEASE() { preempt_count_sub(softirq_unit); }
};

template <uint32_t ScopeBits>
class memalloc_scope : detail::no_copy {
 public:
  [[nodiscard]] memalloc_scope() noexcept : saved_(memalloc_save(ScopeBits)) {}
  ~memalloc_scope() { memalloc_restore(ScopeBits, saved_); }

 private:
  uint32_t saved_;
};
/// Allocations inside start no I/O and call no file system.
using memalloc_noio_scope = memalloc_scope<scope_noio>;
/// Allocations inside call no file system.
using memalloc_nofs_scope = memalloc_scope<scope_nofs>;
/// Allocations inside may use all reserves and never reclaim: for code that frees memory.
using memalloc_noreclaim_scope = memalloc_scope<scope_noreclaim>;

/// A spin lock for users of the library; holding it is atomic context.
class KMEM_CAPABILITY("spinlock") spinlock {
 public:
  constexpr spinlock() noexcept = default;
  spinlock(const spinlock&) = delete;
  spinlock& operator=(const spinlock&) = delete;
  KMEM_EXPORT void lock() noexcept KMEM_ACQUIRE();
  [[nodiscard]] KMEM_EXPORT bool try_lock() noexcept KMEM_TRY_ACQUIRE(true);
  /// Tries for about a millisecond: for shrinkers, which may run in the child of a fork, where a thread that held the lock is not there any
  /// more.
  [[nodiscard]] KMEM_EXPORT bool try_lock_briefly() noexcept KMEM_TRY_ACQUIRE(true);
  KMEM_EXPORT void unlock() noexcept KMEM_RELEASE();

 private:
  uint32_t word_ = 0;
};

class KMEM_SCOPED_CAPABILITY spin_guard : detail::no_copy {
 public:
  [[nodiscard]] explicit spin_guard(spinlock& lock) noexcept KMEM_ACQUIRE(lock, atomic_context) : lock_(lock) { lock_.lock(); }
  ~spin_guard() KMEM_RELEASE() { lock_.unlock(); }

 private:
  spinlock& lock_;
};

/// A spin lock with interrupts off (spin_lock_irqsave): for data that an interrupt handler of this thread uses, too.
class KMEM_SCOPED_CAPABILITY spin_irq_guard : detail::no_copy {
 public:
  [[nodiscard]] explicit spin_irq_guard(spinlock& lock) noexcept KMEM_ACQUIRE(lock, atomic_context)
      : lock_(lock), irqs_were_off_(irqs_set_disabled(true)) {
    lock_.lock();
  }
  ~spin_irq_guard() KMEM_RELEASE() {
    lock_.unlock();
    irqs_set_disabled(irqs_were_off_);
  }

 private:
  spinlock& lock_;
  bool irqs_were_off_;
};

/// For a second lock inside a spin_guard (the kernel's spin_lock_nested).
class KMEM_SCOPED_CAPABILITY spin_guard_nested : detail::no_copy {
 public:
  [[nodiscard]] explicit spin_guard_nested(spinlock& lock) noexcept KMEM_ACQUIRE(lock) KMEM_REQUIRES(atomic_context) : lock_(lock) {
    lock_.lock();
  }
  ~spin_guard_nested() KMEM_RELEASE() { lock_.unlock(); }

 private:
  spinlock& lock_;
};

}  // namespace kmem
