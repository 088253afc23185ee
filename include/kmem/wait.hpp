// Waiting for memory: what may end it besides memory, and how it ended.
//
// An allocation that may block waits for `vm.alloc_wait_ms` before it fails. A scope changes that for everything its thread allocates
// inside: a deadline takes the place of vm.alloc_wait_ms, a stop_token or a signal ends the wait. Scopes nest, and all of them count.
// __GFP_NOFAIL waits until there is memory, whatever the scope, and __GFP_NORETRY does not wait. A process with one thread never waits,
// since nobody could free.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <chrono>
#include <optional>
#include <stop_token>

#include <kmem/context.hpp>

namespace kmem {

/// How an allocation that could have waited for memory ended.
enum class wait_end : uint8_t {
  none,         // it had memory without waiting
  served,       // it had to wait, and was served
  exhausted,    // nullptr: everything its mask permits was tried
  timed_out,    // nullptr: its deadline came
  interrupted,  // nullptr: a signal handler ran
  stopped,      // nullptr: a stop was requested
};

/// How the calling thread's last allocation that failed, or had to go beyond the free lists, ended. Only blocking masks count, so that a
/// signal handler's allocations do not change it. Meaningful after a nullptr. Context: any.
[[nodiscard]] KMEM_EXPORT wait_end last_wait_end() noexcept;
/// The same as an error of the system's: 0 for none and served, -ENOMEM, -ETIMEDOUT, -EINTR or -ECANCELED. Context: any.
[[nodiscard]] KMEM_EXPORT int wait_error() noexcept;

namespace detail {
/// The library's part of a scope.
struct wait_storage {
  alignas(8) unsigned char bytes[48];
};
KMEM_EXPORT void wait_enter(wait_storage& scope, uint64_t deadline_ns, bool interruptible) noexcept;
KMEM_EXPORT void wait_leave(wait_storage& scope) noexcept;
KMEM_EXPORT void wait_stop(wait_storage& scope) noexcept;
}  // namespace detail

struct wait_options {
  /// When waits end; none: vm.alloc_wait_ms decides. time_point::max(): not before something else ends them.
  std::optional<std::chrono::steady_clock::time_point> deadline = {};
  /// A stop that is requested ends waits at once, later ones too.
  std::stop_token stop = {};
  /// A signal handler that was installed without SA_RESTART and runs while the thread sleeps ends the wait, and later ones of this scope
  /// too. Before Linux 5.16 every handler does. One that runs just before the thread falls asleep is noticed when the sleep ends: use a
  /// deadline as well.
  bool interruptible = false;
};

/// The waits of the calling thread while it lives. Context: process; destroyed by the thread that made it, inner scopes first.
class wait_scope : detail::no_copy {
 public:
  [[nodiscard]] explicit wait_scope(const wait_options& options) noexcept {
    detail::wait_enter(storage_, nanoseconds(options.deadline), options.interruptible);
    if (options.stop.stop_possible()) on_stop_.emplace(options.stop, stopper{&storage_});
  }
  ~wait_scope() {
    on_stop_.reset();  // waits for a stop that is being requested
    detail::wait_leave(storage_);
  }

 private:
  struct stopper {
    detail::wait_storage* storage;
    void operator()() const noexcept { detail::wait_stop(*storage); }
  };
  /// 0: none. A deadline that is long past is the first nanosecond.
  static uint64_t nanoseconds(const std::optional<std::chrono::steady_clock::time_point>& deadline) noexcept {
    if (!deadline) return 0;
    const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(deadline->time_since_epoch()).count();
    return since > 0 ? static_cast<uint64_t>(since) : 1;
  }

  detail::wait_storage storage_;
  std::optional<std::stop_callback<stopper>> on_stop_;
};

}  // namespace kmem
