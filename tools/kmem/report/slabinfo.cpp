#include "slabinfo.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <string_view>
#include <utility>

namespace kmem::tool::report {

namespace {

// Bytes that the cache of a line holds; 0 for a heading or a line of another form.
[[nodiscard]] double bytes_of(const std::string& line) {
  std::istringstream words(line);
  std::string name;
  std::uint64_t active = 0;
  std::uint64_t total = 0;
  std::uint64_t object = 0;
  if (!(words >> name >> active >> total >> object)) {
    return 0.0;
  }
  return static_cast<double>(total) * static_cast<double>(object);
}

[[nodiscard]] bool is_heading(const std::string& line) { return line.starts_with('#') || line.starts_with("slabinfo"); }

[[nodiscard]] std::string without_tunables(const std::string& line, std::size_t width) {
  std::string text = line;
  const std::size_t from = text.find(" : tunables");
  const std::size_t to = text.find(" : slabdata");
  if (from != std::string::npos && to != std::string::npos && from < to) {
    text.erase(from, to - from);
  }
  if (text.size() > width) {
    const std::size_t blank = text.find_last_of(' ', width);
    text.resize(blank == std::string::npos || blank == 0 ? width : blank);
  }
  return text;
}

}  // namespace

std::vector<std::string> short_slabinfo(const std::vector<std::string>& lines, std::size_t limit, std::size_t width) {
  std::vector<std::pair<double, std::size_t>> sizes;
  for (std::size_t number = 0; number < lines.size(); ++number) {
    if (!is_heading(lines[number])) {
      sizes.emplace_back(bytes_of(lines[number]), number);
    }
  }
  std::stable_sort(sizes.begin(), sizes.end(), [](const auto& left, const auto& right) { return left.first > right.first; });
  std::vector<bool> shown(lines.size(), false);
  for (std::size_t place = 0; place < std::min(limit, sizes.size()); ++place) {
    shown[sizes[place].second] = true;
  }
  std::vector<std::string> out;
  for (std::size_t number = 0; number < lines.size(); ++number) {
    if (shown[number] || is_heading(lines[number])) {
      out.push_back(without_tunables(lines[number], width));
    }
  }
  if (sizes.size() > limit) {
    out.push_back(fmt::format("... and {} smaller caches, in the JSON and HTML reports", sizes.size() - limit));
  }
  return out;
}

}  // namespace kmem::tool::report
