#pragma once

// Human units, shared by the terminal and HTML writers.

#include <cstdint>
#include <string>

namespace kmem::tool::report {

[[nodiscard]] std::string human_bytes(std::uint64_t bytes);  // "0 B", "512 B", "1.50 KiB", "64 MiB"
[[nodiscard]] std::string human_ns(std::uint64_t ns);        // "87 ns", "1.34 us", "2.10 ms", "3.2 s"
[[nodiscard]] std::string human_count(std::uint64_t count);  // "906 966": digits in groups of three
[[nodiscard]] std::string short_count(std::uint64_t count);  // "907 k", "1.2 M": for narrow columns
[[nodiscard]] std::string human_percent(double value);       // "0 %", "< 0.1 %", "3.4 %", "87 %"; 0 for NaN

// Cut to what 64 bits hold, 0 for NaN: for rates and means that go through floating point.
[[nodiscard]] std::uint64_t whole_number(double value) noexcept;

// `count` in one second when there were so many in `elapsed_ns`; 0 when no time passed.
[[nodiscard]] std::uint64_t per_second(std::uint64_t count, std::uint64_t elapsed_ns) noexcept;

}  // namespace kmem::tool::report
