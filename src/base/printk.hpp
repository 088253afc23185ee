// The message ring: what the library has to say, by the kernel's levels, kept in memory and written where the user wants it.
//
// Messages are whole records of up to 1000 bytes; a full ring drops the oldest. Raw program counters are recorded with the message
// and turned into symbols by whoever prints them outside the allocator (debug/).
#pragma once
#include "base/lock.hpp"
#include "base/text.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

enum class log_level : uint8_t { emerg, alert, crit, err, warning, notice, info, debug };

inline constexpr size_t printk_record_bytes = 1000;
inline constexpr unsigned printk_max_pcs = 16;
/// Records the ring holds (arbitrary: enough for a failure report with its Mem-Info; untouched slots cost no memory).
inline constexpr unsigned printk_ring_records = 128;

/// Receives each record at once, in the context of whoever logged it: it must not allocate, block or log.
using printk_sink = void (*)(log_level level, const char* text, size_t bytes, const void* const* pcs, unsigned nr_pcs) noexcept;

/// Appends a record, cut to printk_record_bytes, and hands it to the sink. Context: any; waits for nothing. A record that finds its slot
/// in use (by a reader, or by a writer a whole ring behind) goes to the sink only and is counted as dropped.
void printk(log_level level, const char* text, size_t bytes, const void* const* pcs = nullptr, unsigned nr_pcs = 0) noexcept;
/// Sets the sink (nullptr: none; the ring keeps the records all the same). Return: the one before.
printk_sink set_printk_sink(printk_sink sink) noexcept;
bool has_printk_sink() noexcept;
/// The sink that writes level-filtered text to stderr: the default, for warnings and worse.
void printk_to_stderr(log_level level, const char* text, size_t bytes, const void* const* pcs, unsigned nr_pcs) noexcept;

/// One record as read back.
struct printk_record {
  uint64_t sequence = 0;
  log_level level = log_level::emerg;
  size_t bytes = 0;     // of the text, NUL excluded; the buffer may have held less
  unsigned nr_pcs = 0;  // entries of pcs
  const void* pcs[printk_max_pcs] = {};
};
/// Copies the oldest record with a sequence number >= `sequence`, its text NUL-terminated and cut to the buffer.
/// Return: its number + 1, or 0 when there is none yet.
uint64_t printk_read(uint64_t sequence, printk_record& record, char* buffer, size_t capacity) noexcept;
/// The same without the program counters.
uint64_t printk_read(uint64_t sequence, log_level& level, char* buffer, size_t capacity) noexcept;
uint64_t printk_dropped() noexcept;
/// Empties the ring and starts at number 0: for the child of a fork, where a slot's owner may be gone. Context: no other thread.
void reset_printk() noexcept;

/// At most `burst` events in `interval_ns` (up to 1 us more: the granularity of its clock); the rest are counted (the kernel's
/// __ratelimit). `burst` is at most 65535.
class rate_limit {
 public:
  constexpr rate_limit(uint64_t interval_ns, uint32_t burst) noexcept : interval_ns_(interval_ns), burst_(burst) {}
  /// May this event be reported? `missed`: events suppressed before this one. Context: any.
  [[nodiscard]] bool allow(uint64_t now_ns, uint32_t& missed) noexcept;
  /// As new.
  void reset() noexcept;

 private:
  const uint64_t interval_ns_;
  const uint32_t burst_;
  atomic<uint64_t> window_{0};  // start of the window in units of 1024 ns (48 bits), events allowed in it (16 bits)
  atomic<uint32_t> missed_{0};
};

}  // inline namespace
}  // namespace kmem
