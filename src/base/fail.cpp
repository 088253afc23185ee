// Fault injection: which passages of a fail point fail.
//
// States.   A point is off (probability 0) or on. On: a passage is counted; it fails if failures are left (times), `space` units have
//           passed, it is a multiple of `interval`, and a random number says so, in this order, as in the kernel.
//           A thread with fail-nth armed counts its passages of all points instead.
// Locks.    None; any context. Knobs are words of their own, so a passage during a change may see a mixture.
// Ordering. pairs: fail_knobs - arming releases the knobs, a passage that finds its point armed acquires them.
// Kernel.   Random numbers come from a seed and the number of draws, so that a run can be repeated; times of fail-nth are per
//           thread, "persistent" is ours. interval 0 is refused, where the kernel takes it for 1.
// Tests.    tests/unit/base/fail_test.cpp
#include "base/fail.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

namespace base_detail {
constinit atomic<uint32_t> fail_armed{0};
}

namespace {

const char* const point_names[] = {"failslab", "fail_page_alloc", "fail_mmap"};
static_assert(sizeof point_names / sizeof point_names[0] == nr_fail_points);

constexpr uint32_t fail_nth_unit = 1u << nr_fail_points;

struct point_state {
  atomic<uint32_t> probability{0};
  atomic<uint32_t> interval{1};
  atomic<uint32_t> times{0};  // an int32_t: -1 is "no limit"
  atomic<uint64_t> space{0};
  atomic<uint64_t> seed{0};
  atomic<uint64_t> draws{0};       // random numbers taken since the knobs were set
  atomic<uint64_t> candidates{0};  // passages that reached the interval test
  atomic<uint64_t> passed{0};
  atomic<uint64_t> failed{0};
};
constinit point_state points[nr_fail_points];

point_state& state_of(fail_point point) noexcept { return points[static_cast<unsigned>(point)]; }
constexpr uint32_t armed_bit(fail_point point) noexcept { return 1u << static_cast<unsigned>(point); }
constexpr uint32_t unlimited = ~uint32_t{0};

/// splitmix64: the n-th number of a seed without a state to keep consistent.
uint64_t random_number(uint64_t seed, uint64_t n) noexcept {
  uint64_t z = seed + (n + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/// Lets `units` pass if that much space is left. Return: whether it was.
bool consume_space(point_state& state, uint64_t units) noexcept {
  uint64_t left = state.space.load_relaxed();
  do {
    if (left <= units) return false;
  } while (!state.space.try_cmpxchg_relaxed(left, left - units));
  return true;
}

/// Uses up one of the failures that are left. Return: false if there is none.
bool consume_time(point_state& state) noexcept {
  uint32_t left = state.times.load_relaxed();
  do {
    if (left == unlimited) return true;
    if (left == 0) return false;
  } while (!state.times.try_cmpxchg_relaxed(left, left - 1));
  return true;
}

bool count_nth(task_context& task) noexcept {
  const uint32_t hits = ++task.fail_nth_hits;
  return hits == task.fail_nth || (task.fail_nth_persistent && hits > task.fail_nth);
}

/// Reads decimal digits up to `end`, moving `text` behind it. Return: false if there is no number, no `end`, or it exceeds `limit`.
bool parse_number(const char*& text, char end, uint64_t limit, uint64_t& value) noexcept {
  if (*text < '0' || *text > '9') return false;
  uint64_t result = 0;
  for (; *text >= '0' && *text <= '9'; ++text) {
    const auto digit = static_cast<uint64_t>(*text - '0');
    if (result > (limit - digit) / 10) return false;
    result = result * 10 + digit;
  }
  if (*text != end) return false;
  if (end != '\0') ++text;
  value = result;
  return true;
}

}  // namespace

const char* fail_point_name(fail_point point) noexcept { return point_names[static_cast<unsigned>(point)]; }

void set_fail_attributes(fail_point point, const fail_attributes& attributes) noexcept {
  point_state& state = state_of(point);
  base_detail::fail_armed.fetch_and_relaxed(~armed_bit(point));
  state.probability.store_relaxed(attributes.probability);
  state.interval.store_relaxed(attributes.interval);
  state.times.store_relaxed(attributes.times < 0 ? unlimited : static_cast<uint32_t>(attributes.times));
  state.space.store_relaxed(attributes.space);
  state.seed.store_relaxed(attributes.seed);
  state.draws.store_relaxed(0);
  state.candidates.store_relaxed(0);
  state.passed.store_relaxed(0);
  state.failed.store_relaxed(0);
  if (attributes.probability != 0) base_detail::fail_armed.fetch_or_release(armed_bit(point));  // pairs: fail_knobs
}

bool parse_fail_attributes(const char* text, fail_attributes& result) noexcept {
  uint64_t interval = 0, probability = 0, space = 0, times = 0;
  if (!parse_number(text, ',', ~uint32_t{0}, interval) || interval == 0) return false;
  if (!parse_number(text, ',', 100, probability)) return false;
  if (!parse_number(text, ',', ~uint64_t{0}, space)) return false;
  const bool no_limit = text[0] == '-' && text[1] == '1' && text[2] == '\0';
  if (!no_limit && !parse_number(text, '\0', 0x7fffffff, times)) return false;
  result.interval = static_cast<uint32_t>(interval);
  result.probability = static_cast<uint32_t>(probability);
  result.space = space;
  result.times = no_limit ? -1 : static_cast<int32_t>(times);
  return true;
}

fail_counts get_fail_counts(fail_point point) noexcept {
  const point_state& state = state_of(point);
  return {state.passed.load_relaxed(), state.failed.load_relaxed()};
}

namespace base_detail {

bool should_fail_slow(fail_point point, uint64_t units) noexcept {
  task_context& task = current();
  if (task.fail_nth != 0) return count_nth(task);
  if ((fail_armed.load_acquire() & armed_bit(point)) == 0) return false;  // pairs: fail_knobs
  point_state& state = state_of(point);
  state.passed.fetch_add_relaxed(1);
  if (state.times.load_relaxed() == 0) return false;
  if (consume_space(state, units)) return false;
  const uint32_t interval = state.interval.load_relaxed();
  if (interval > 1 && (state.candidates.fetch_add_relaxed(1) + 1) % interval != 0) return false;
  const uint64_t draw = random_number(state.seed.load_relaxed(), state.draws.fetch_add_relaxed(1));
  if (draw % 100 >= state.probability.load_relaxed()) return false;
  if (!consume_time(state)) return false;
  state.failed.fetch_add_relaxed(1);
  return true;
}

}  // namespace base_detail

fail_nth_scope::fail_nth_scope(uint32_t nth, bool persistent) noexcept {
  task_context& task = current();
  saved_nth_ = task.fail_nth;
  saved_hits_ = task.fail_nth_hits;
  saved_persistent_ = task.fail_nth_persistent;
  // A handler between these stores may pass a point: with fail_nth 0 it counts nothing.
  task.fail_nth = 0;
  arch::compiler_barrier();
  task.fail_nth_hits = 0;
  task.fail_nth_persistent = persistent;
  arch::compiler_barrier();
  task.fail_nth = nth;
  base_detail::fail_armed.fetch_add_relaxed(fail_nth_unit);
}

fail_nth_scope::~fail_nth_scope() {
  base_detail::fail_armed.fetch_sub_relaxed(fail_nth_unit);
  task_context& task = current();
  task.fail_nth = 0;
  arch::compiler_barrier();
  task.fail_nth_hits = saved_hits_;
  task.fail_nth_persistent = saved_persistent_;
  arch::compiler_barrier();
  task.fail_nth = saved_nth_;
}

bool fail_nth_scope::hit() const noexcept {
  const task_context& task = current();
  return task.fail_nth != 0 && task.fail_nth_hits >= task.fail_nth;
}

}  // inline namespace
}  // namespace kmem
