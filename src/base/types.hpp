// Kinds and units as types: a page number, a count of pages and an order cannot be mixed up.
#pragma once
#include <compare>
#include <cstddef>
#include <cstdint>

#include "plat/plat.hpp"

namespace kmem {

/// A count of pages.
class nr_pages_t {
 public:
  constexpr nr_pages_t() = default;
  constexpr explicit nr_pages_t(uint64_t raw) : raw_(raw) {}
  constexpr uint64_t raw() const { return raw_; }
  constexpr auto operator<=>(const nr_pages_t&) const = default;
  constexpr nr_pages_t operator+(nr_pages_t o) const { return nr_pages_t(raw_ + o.raw_); }
  constexpr nr_pages_t operator-(nr_pages_t o) const { return nr_pages_t(raw_ - o.raw_); }
  constexpr nr_pages_t& operator+=(nr_pages_t o) { return raw_ += o.raw_, *this; }
  constexpr nr_pages_t& operator-=(nr_pages_t o) { return raw_ -= o.raw_, *this; }

 private:
  uint64_t raw_ = 0;
};

/// A page frame number: (address - arena base) >> 12. Number 0 is never handed out and means "none".
class pfn_t {
 public:
  constexpr pfn_t() = default;
  constexpr explicit pfn_t(uint32_t raw) : raw_(raw) {}
  constexpr uint32_t raw() const { return raw_; }
  constexpr bool is_none() const { return raw_ == 0; }
  constexpr auto operator<=>(const pfn_t&) const = default;
  constexpr pfn_t operator+(nr_pages_t n) const { return pfn_t(raw_ + static_cast<uint32_t>(n.raw())); }
  constexpr nr_pages_t operator-(pfn_t o) const { return nr_pages_t(raw_ - o.raw_); }

 private:
  uint32_t raw_ = 0;  // 32 bits: a span of 16 TiB
};

/// The order of a block of 2^order pages.
class order_t {
 public:
  constexpr order_t() = default;
  constexpr explicit order_t(unsigned raw) : raw_(static_cast<uint8_t>(raw)) {}
  constexpr unsigned raw() const { return raw_; }
  constexpr auto operator<=>(const order_t&) const = default;

 private:
  uint8_t raw_ = 0;
};

constexpr nr_pages_t nr_pages(order_t order) { return nr_pages_t(uint64_t{1} << order.raw()); }
constexpr size_t bytes(nr_pages_t n) { return n.raw() << page_shift; }
/// Pages that `n` bytes need.
constexpr nr_pages_t pages_for(size_t n) { return nr_pages_t((n >> page_shift) + ((n & (page_size - 1)) != 0 ? 1 : 0)); }
/// The smallest order whose block holds `n` bytes (0 for n == 0).
constexpr order_t order_for(size_t n) {
  unsigned order = 0;
  while ((page_size << order) < n && order < 51) ++order;
  return order_t(order);
}

/// Results with several reasons: 0 or a negative errno value, as in the kernel.
enum class err : int { ok = 0, nomem = -12, busy = -16, exist = -17, inval = -22, range = -34 };

constexpr size_t round_up(size_t value, size_t align) { return (value + align - 1) & ~(align - 1); }
constexpr size_t round_down(size_t value, size_t align) { return value & ~(align - 1); }
constexpr bool is_power_of_two(size_t value) { return value != 0 && (value & (value - 1)) == 0; }

}  // namespace kmem
