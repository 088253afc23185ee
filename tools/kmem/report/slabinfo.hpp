#pragma once

// Shortening of slabinfo text for a terminal.

#include <cstddef>
#include <string>
#include <vector>

namespace kmem::tool::report {

// Return: the heading and the `limit` caches that hold most memory, in their order, without the "tunables" part
// (always zero here) so that a line fits `width`; a last line says how many were left out. Lines that are not in
// slabinfo's form stay as they are, cut at `width`.
[[nodiscard]] std::vector<std::string> short_slabinfo(const std::vector<std::string>& lines, std::size_t limit, std::size_t width);

}  // namespace kmem::tool::report
