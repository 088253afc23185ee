#include "strings.hpp"

#include <functional>

namespace kmem::tool::trace {

string_table::string_table() : texts_(1), hashes_(1), slots_(256, no_string) {}

string_id string_table::intern(std::string_view text) {
  if (text.empty()) return no_string;
  const std::uint64_t hash = std::hash<std::string_view>{}(text);
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = static_cast<std::size_t>(hash) & mask;
  while (slots_[at] != no_string) {
    const string_id id = slots_[at];
    if (hashes_[id] == hash && texts_[id] == text) return id;
    at = (at + 1) & mask;
  }
  const auto id = static_cast<string_id>(texts_.size());
  texts_.emplace_back(text);
  hashes_.push_back(hash);
  slots_[at] = id;
  if (texts_.size() * 2 > slots_.size()) grow();
  return id;
}

void string_table::grow() {
  slots_.assign(slots_.size() * 2, no_string);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t id = 1; id < texts_.size(); id++) {
    std::size_t at = static_cast<std::size_t>(hashes_[id]) & mask;
    while (slots_[at] != no_string) at = (at + 1) & mask;
    slots_[at] = static_cast<string_id>(id);
  }
}

}  // namespace kmem::tool::trace
