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

/// Receives each record at once, in the context of whoever logged it: it must not allocate, block or log.
using printk_sink = void (*)(log_level level, const char* text, size_t bytes, const void* const* pcs, unsigned nr_pcs) noexcept;

/// Appends a record. Context: any; a nested call that finds the ring locked drops the record and counts it.
void printk(log_level level, const char* text, size_t bytes, const void* const* pcs = nullptr, unsigned nr_pcs = 0) noexcept;
/// Sets the sink (nullptr: none; the ring keeps the records all the same). Return: the one before.
printk_sink set_printk_sink(printk_sink sink) noexcept;
/// The sink that writes level-filtered text to stderr: the default, for warnings and worse.
void printk_to_stderr(log_level level, const char* text, size_t bytes, const void* const* pcs, unsigned nr_pcs) noexcept;
/// Copies the oldest record with a sequence number >= `sequence`. Return: its number + 1, or 0 when there is none yet.
uint64_t printk_read(uint64_t sequence, log_level& level, char* buffer, size_t capacity) noexcept;
uint64_t printk_dropped() noexcept;

/// At most `burst` events in `interval_ns`; the rest are counted (the kernel's __ratelimit).
class rate_limit {
 public:
  constexpr rate_limit(uint64_t interval_ns, uint32_t burst) noexcept : interval_ns_(interval_ns), burst_(burst) {}
  /// May this event be reported? `missed`: events suppressed before this one. Context: any.
  [[nodiscard]] bool allow(uint64_t now_ns, uint32_t& missed) noexcept;

 private:
  const uint64_t interval_ns_;
  const uint32_t burst_;
  atomic<uint64_t> window_start_ns_{0};
  atomic<uint32_t> in_window_{0};
  atomic<uint32_t> missed_{0};
};

}  // inline namespace
}  // namespace kmem
