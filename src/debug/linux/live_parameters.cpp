// Parameters of a machine that serves: shown, and those that can be changed while it does.
//
// What.     mem= can go down and up again to what it was at the start, for which zones were laid out; free memory is given back for it,
//           and if something that is in use is in the way, nothing changes. Waits, policies and fail points take effect with the next
//           request. Everything else was laid out when the machine started.
// Locks.    None of its own; one request at a time (stat.cpp).
// Contexts. May sleep; no lock held.
// Ordering. None: a value is one word, and a request that reads it at the same moment sees the old or the new one.
// Kernel.   There, watermarks can be changed, too, and what cannot is not writable in /proc/sys.
// Tests.    tests/unit/debug/live_parameters_test.cpp, tests/programs/kmem_stat.py
#include "debug/debug.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

bool same(const char* a, const char* b) noexcept {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}

text_writer& kib(text_writer& out, uint64_t pages) noexcept { return out.dec(pages << (page_shift - 10)).str("K"); }

/// Everything that is not in use, and what reclaim can free, becomes free memory.
void make_room(machine& m, uint64_t pages) noexcept {
  (void)drain_caches(m, true);
  (void)drain_cpu_pages(m, true);
  if (pages == 0) return;
  const uint64_t freed = run_callbacks(m, gfp::kernel, pages);
  if (freed < pages) (void)shrink_pages(m, gfp::kernel, pages - freed);
  (void)drain_cpu_pages(m, true);
}

stat::reply change_mem(machine& m, const machine_config& wanted, text_writer& error) noexcept {
  const nr_pages_t limit(wanted.mem >> page_shift);
  if (wanted.mem == 0) return error.str("mem: a running process needs a size, as in mem=256M"), stat::reply::invalid;
  if (limit > m.limit) {
    kib(error.str("mem: at most the budget at the start, "), m.limit.raw()).str(", for which its memory was laid out");
    return stat::reply::invalid;
  }
  uint64_t missing = set_budget(m, limit);
  for (unsigned attempt = 0; missing != 0 && attempt < 2; ++attempt) {  // first what is kept without need, then what reclaim frees
    make_room(m, attempt == 0 ? 0 : missing);
    missing = set_budget(m, limit);
  }
  if (missing == 0) return stat::reply::done;
  kib(kib(error.str("mem: "), missing).str(" of what is in use are in the way, and nothing could be reclaimed; at least "),
      (limit + nr_pages_t(missing)).raw()).str(" would do now");
  return stat::reply::refused;
}

void store(uint32_t& field, uint32_t value) noexcept { shared_word(field).store_relaxed(value); }

stat::reply change_alloc_wait(machine& m, const machine_config& wanted, text_writer&) noexcept {
  return store(m.config.alloc_wait_ms, wanted.alloc_wait_ms), stat::reply::done;
}
stat::reply change_sleep_record(machine& m, const machine_config& wanted, text_writer&) noexcept {
  return store(m.config.sleep_record_ms, wanted.sleep_record_ms), stat::reply::done;
}
stat::reply change_policy(machine& m, const machine_config& wanted, text_writer&) noexcept {
  m.config.policy = wanted.policy;
  return stat::reply::done;
}
stat::reply change_checker(machine& m, const machine_config& wanted, text_writer&) noexcept {
  m.config.reclaim_checker = wanted.reclaim_checker;
  apply_reclaim_checker(wanted);
  return stat::reply::done;
}
stat::reply change_context_policy(machine& m, const machine_config& wanted, text_writer&) noexcept {
  m.config.on_broken_context = wanted.on_broken_context;
  set_context_policy(wanted.on_broken_context);
  return stat::reply::done;
}
template <fail_point point>
stat::reply change_fail(machine& m, const machine_config& wanted, text_writer&) noexcept {
  const fail_attributes& attributes = wanted.fail[static_cast<unsigned>(point)];
  m.config.fail[static_cast<unsigned>(point)] = attributes;
  set_fail_attributes(point, attributes);
  return stat::reply::done;
}

using change_function = stat::reply (*)(machine& m, const machine_config& wanted, text_writer& error) noexcept;
constexpr struct {
  const char* name;
  change_function change;
} changeable[] = {{"mem", change_mem},
                  {"vm.alloc_wait_ms", change_alloc_wait},
                  {"vm.sleep_record_ms", change_sleep_record},
                  {"vm.reserve_policy", change_policy},
                  {"vm.reclaim_checker", change_checker},
                  {"context_policy", change_context_policy},
                  {"failslab", change_fail<fail_point::failslab>},
                  {"fail_page_alloc", change_fail<fail_point::fail_page_alloc>},
                  {"fail_mmap", change_fail<fail_point::fail_mmap>}};

/// What is in effect: mem= is a number once the machine has chosen one.
void write_now(machine& m, const char* name, text_writer& out) noexcept {
  out.str(name).ch('=');
  if (same(name, "mem"))
    kib(out, budget_now(m).raw());
  else
    write_parameter(m.config, name, out);
}

stat::reply unknown(const char* word, text_writer& out) noexcept {
  machine_config ignored;
  config_error error;
  (void)parse_config(word, ignored, error);
  out.str(error.text);
  return stat::reply::unknown;
}

change_function find_change(const char* name) noexcept {
  for (const auto& row : changeable)
    if (same(row.name, name)) return row.change;
  return nullptr;
}

stat::reply change(machine& m, const char* word, text_writer& text) noexcept {
  size_t name_length = 0;
  while (word[name_length] != '\0' && word[name_length] != '=') ++name_length;
  const parameter_info* const known = find_parameter_info(word, name_length);
  if (known == nullptr) return unknown(word, text);
  const change_function function = find_change(known->name);
  if (function == nullptr) {
    text.str(known->name).str(": can only be given at the start; at run time there are");
    for (const auto& row : changeable) text.ch(' ').str(row.name);
    return stat::reply::read_only;
  }
  for (const char* at = word; *at != '\0'; ++at)
    if (*at <= ' ') return text.str(known->name).str(": one word NAME=VALUE is expected"), stat::reply::invalid;
  machine_config wanted = m.config;
  config_error error;
  if (!parse_config(word, wanted, error)) return text.str(error.text), stat::reply::invalid;
  const stat::reply result = function(m, wanted, text);
  if (result == stat::reply::done) write_now(m, known->name, text);
  return result;
}

}  // namespace

stat::reply show_parameter(machine& m, const char* name, char* out, size_t capacity, size_t& length) noexcept {
  text_writer text(out, capacity);
  const parameter_info* const known = find_parameter_info(name, __builtin_strlen(name));
  stat::reply result = stat::reply::done;
  if (known != nullptr)
    write_now(m, known->name, text);
  else
    result = unknown(name, text);
  length = text.length();
  return result;
}

stat::reply change_parameter(machine& m, const char* word, char* out, size_t capacity, size_t& length) noexcept {
  text_writer text(out, capacity);
  const stat::reply result = change(m, word, text);
  length = text.length();
  return result;
}

}  // inline namespace
}  // namespace kmem
