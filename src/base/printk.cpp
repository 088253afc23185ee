// The message ring and the rate limit.
//
// States.   A slot is empty, ready(n), writing(n) or reading(n), n being the number of the record in it. Numbers are given out by one
//           counter; record n lives in slot n mod ring size. Only ready(m) -> writing(n) with m < n, writing -> ready,
//           ready -> reading -> ready. A number whose writer found the slot busy stays a hole: marked in `skipped`,
//           so that a reader goes on instead of waiting for it, and counted in `dropped`.
// Locks.    None: a writer waits for nobody, so a signal handler may log while it interrupts a writer, a reader or anything else.
//           A reader waits a bounded while for another reader of the same record.
// Ordering. pairs: printk_slot - publishing a slot's state releases its contents, taking the slot acquires them.
// Kernel.   Its ring keeps variable-sized records and time stamps; here a record is a fixed slot, and a reader holds up one slot.
// Tests.    tests/unit/base/printk_test.cpp (against a model), tests/sim/sim_base_test.cpp
#include "base/printk.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

enum class slot_phase : uint64_t { empty, ready, writing, reading };

/// Number and phase in one word; 0 is "empty".
constexpr uint64_t slot_state(uint64_t number, slot_phase phase) noexcept { return number << 2 | static_cast<uint64_t>(phase); }
constexpr slot_phase phase_of(uint64_t state) noexcept { return static_cast<slot_phase>(state & 3); }
constexpr uint64_t number_of(uint64_t state) noexcept { return state >> 2; }

struct slot {
  atomic<uint64_t> state{0};
  atomic<uint64_t> skipped{0};  // 1 + the last number whose writer found the slot busy; 0: none
  // The rest belongs to whoever moved the state to writing or reading.
  log_level level = log_level::emerg;
  uint8_t nr_pcs = 0;
  uint16_t bytes = 0;
  const void* pcs[printk_max_pcs] = {};
  char text[printk_record_bytes] = {};
};

constinit slot ring[printk_ring_records];
constinit atomic<uint64_t> next_number{0};
constinit atomic<uint64_t> dropped{0};
constinit atomic<printk_sink> sink{&printk_to_stderr};

constexpr unsigned reader_spins = 1000;  // arbitrary: far more than copying a record takes

void copy(char* to, const char* from, size_t bytes) noexcept {
  for (size_t i = 0; i < bytes; ++i) to[i] = from[i];
}

void store_record(log_level level, const char* text, size_t bytes, const void* const* pcs, unsigned nr_pcs) noexcept {
  const uint64_t number = next_number.fetch_add_relaxed(1);
  slot& to = ring[number % printk_ring_records];
  uint64_t state = to.state.load_relaxed();
  const bool usable = phase_of(state) == slot_phase::empty || (phase_of(state) == slot_phase::ready && number_of(state) < number);
  if (!usable || !to.state.try_cmpxchg_acquire(state, slot_state(number, slot_phase::writing))) {  // pairs: printk_slot
    to.skipped.store_relaxed(number + 1);
    dropped.fetch_add_relaxed(1);
    return;
  }
  to.level = level;
  to.nr_pcs = static_cast<uint8_t>(nr_pcs);
  to.bytes = static_cast<uint16_t>(bytes);
  for (unsigned i = 0; i < nr_pcs; ++i) to.pcs[i] = pcs[i];
  copy(to.text, text, bytes);
  to.state.store_release(slot_state(number, slot_phase::ready));  // pairs: printk_slot
}

enum class read_result { copied, hole, not_yet };

/// Copies record `number` if its slot has it.
read_result read_slot(uint64_t number, printk_record& record, char* buffer, size_t capacity) noexcept {
  slot& from = ring[number % printk_ring_records];
  uint64_t state = from.state.load_relaxed();
  for (unsigned spins = 0;; ++spins) {
    if (number_of(state) > number || from.skipped.load_relaxed() == number + 1) return read_result::hole;
    if (number_of(state) < number || phase_of(state) == slot_phase::empty) return read_result::not_yet;  // its writer is on the way
    if (phase_of(state) == slot_phase::writing) return read_result::not_yet;
    if (phase_of(state) == slot_phase::ready &&
        from.state.try_cmpxchg_acquire(state, slot_state(number, slot_phase::reading))) {  // pairs: printk_slot
      break;
    }
    if (spins == reader_spins) return read_result::not_yet;
    plat::relax(spins);
    state = from.state.load_relaxed();
  }
  record.sequence = number;
  record.level = from.level;
  record.bytes = from.bytes;
  record.nr_pcs = from.nr_pcs;
  for (unsigned i = 0; i < from.nr_pcs; ++i) record.pcs[i] = from.pcs[i];
  if (capacity != 0) {
    const size_t bytes = from.bytes < capacity ? from.bytes : capacity - 1;
    copy(buffer, from.text, bytes);
    buffer[bytes] = '\0';
  }
  from.state.store_release(slot_state(number, slot_phase::ready));  // pairs: printk_slot
  return read_result::copied;
}

}  // namespace

void printk(log_level level, const char* text, size_t bytes, const void* const* pcs, unsigned nr_pcs) noexcept {
  if (bytes > printk_record_bytes) bytes = printk_record_bytes;
  if (nr_pcs > printk_max_pcs) nr_pcs = printk_max_pcs;
  store_record(level, text, bytes, pcs, nr_pcs);
  if (const printk_sink out = sink.load_relaxed(); out != nullptr) out(level, text, bytes, pcs, nr_pcs);
}

printk_sink set_printk_sink(printk_sink wanted) noexcept { return sink.exchange_relaxed(wanted); }
bool has_printk_sink() noexcept { return sink.load_relaxed() != nullptr; }

void printk_to_stderr(log_level level, const char* text, size_t bytes, const void* const* pcs, unsigned nr_pcs) noexcept {
  if (level > log_level::warning) return;
  constexpr int stderr_fd = 2;
  plat::write_all(stderr_fd, text, bytes);
  if (bytes != 0 && text[bytes - 1] != '\n') plat::write_all(stderr_fd, "\n", 1);
  for (unsigned i = 0; i < nr_pcs; ++i) {
    char line[32];
    text_writer writer(line, sizeof line);
    writer.str(" [<").hex(reinterpret_cast<uintptr_t>(pcs[i]), 16).str(">]\n");
    plat::write_all(stderr_fd, line, writer.length());
  }
}

uint64_t printk_read(uint64_t sequence, printk_record& record, char* buffer, size_t capacity) noexcept {
  const uint64_t end = next_number.load_relaxed();
  const uint64_t oldest = end > printk_ring_records ? end - printk_ring_records : 0;
  for (uint64_t number = sequence > oldest ? sequence : oldest; number < end; ++number) {
    switch (read_slot(number, record, buffer, capacity)) {
      case read_result::copied: return number + 1;
      case read_result::not_yet: return 0;  // a later record must not overtake it
      case read_result::hole: break;
    }
  }
  return 0;
}

uint64_t printk_read(uint64_t sequence, log_level& level, char* buffer, size_t capacity) noexcept {
  printk_record record;
  const uint64_t next = printk_read(sequence, record, buffer, capacity);
  if (next != 0) level = record.level;
  return next;
}

uint64_t printk_dropped() noexcept { return dropped.load_relaxed(); }

void reset_printk() noexcept {
  for (slot& each : ring) {
    each.state.store_relaxed(0);
    each.skipped.store_relaxed(0);
  }
  next_number.store_relaxed(0);
  dropped.store_relaxed(0);
}

bool rate_limit::allow(uint64_t now_ns, uint32_t& missed) noexcept {
  constexpr unsigned count_bits = 16, unit_shift = 10;
  constexpr uint64_t unit_mask = ~uint64_t{0} >> count_bits;  // time is compared modulo 2^48 units, nine years
  const uint64_t now = now_ns >> unit_shift & unit_mask;
  const uint64_t interval = (interval_ns_ + (1u << unit_shift) - 1) >> unit_shift;
  uint64_t window = window_.load_relaxed();
  for (;;) {
    const uint64_t age = (now - (window >> count_bits)) & unit_mask;
    const uint64_t used = window & ((1u << count_bits) - 1);
    // A clock reading from just before the window's start (another thread was faster) looks very old; it belongs to this window.
    const bool expired = age >= interval && age <= unit_mask / 2;
    if (!expired && used >= burst_) {
      missed_.fetch_add_relaxed(1);
      return false;
    }
    const uint64_t wanted = expired ? now << count_bits | 1 : window + 1;
    if (window_.try_cmpxchg_relaxed(window, wanted)) break;
  }
  missed = missed_.exchange_relaxed(0);
  return true;
}

void rate_limit::reset() noexcept {
  window_.store_relaxed(0);
  missed_.store_relaxed(0);
}

}  // inline namespace
}  // namespace kmem
