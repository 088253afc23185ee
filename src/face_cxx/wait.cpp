// What may end a wait for memory: the scopes of the public header are those of the page allocator.
//
// Contexts. As declared in kmem/wait.hpp. The header keeps the scope's storage, since it may include neither the core nor its atomics.
// Tests.    tests/unit/face_cxx/wait_test.cpp, c_api_test.cpp
#include <kmem/wait.hpp>

#include <cerrno>
#include <new>

#include "face_cxx/face_cxx.hpp"

namespace kmem {
namespace {

static_assert(sizeof(wait_conditions) <= sizeof(detail::wait_storage) && alignof(wait_conditions) <= alignof(detail::wait_storage));
static_assert(static_cast<uint8_t>(wait_end::none) == static_cast<uint8_t>(wait_outcome::none) &&
              static_cast<uint8_t>(wait_end::served) == static_cast<uint8_t>(wait_outcome::served) &&
              static_cast<uint8_t>(wait_end::exhausted) == static_cast<uint8_t>(wait_outcome::exhausted) &&
              static_cast<uint8_t>(wait_end::timed_out) == static_cast<uint8_t>(wait_outcome::timed_out) &&
              static_cast<uint8_t>(wait_end::interrupted) == static_cast<uint8_t>(wait_outcome::interrupted) &&
              static_cast<uint8_t>(wait_end::stopped) == static_cast<uint8_t>(wait_outcome::stopped));

wait_conditions& conditions_of(detail::wait_storage& scope) noexcept {
  return *std::launder(reinterpret_cast<wait_conditions*>(scope.bytes));
}

}  // namespace

wait_end last_wait_end() noexcept { return static_cast<wait_end>(last_wait()); }

int wait_error() noexcept {
  switch (last_wait()) {
    case wait_outcome::none:
    case wait_outcome::served:
      return 0;
    case wait_outcome::exhausted:
      return -ENOMEM;
    case wait_outcome::timed_out:
      return -ETIMEDOUT;
    case wait_outcome::interrupted:
      return -EINTR;
    case wait_outcome::stopped:
      return -ECANCELED;
  }
  return -ENOMEM;
}

namespace detail {

void wait_enter(wait_storage& scope, uint64_t deadline_ns, bool interruptible) noexcept {
  real::wait_enter(*new (scope.bytes) wait_conditions, deadline_ns, interruptible);
}
void wait_leave(wait_storage& scope) noexcept { real::wait_leave(conditions_of(scope)); }
void wait_stop(wait_storage& scope) noexcept { real::wait_stop(conditions_of(scope)); }

}  // namespace detail
}  // namespace kmem
