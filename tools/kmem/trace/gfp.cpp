#include "gfp.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace kmem::tool::trace {

namespace {

namespace bit = gfp_bit;

constexpr gfp_bits kernel_set = bit::reclaim | bit::io | bit::fs;
constexpr gfp_bits highuser_movable_set = kernel_set | bit::hardwall | bit::highmem | bit::movable;
constexpr gfp_bits transhuge_light_set = (highuser_movable_set | bit::comp | bit::nomemalloc | bit::nowarn) & ~bit::reclaim;

// The order of the written names is the order in which the kernel peels them off a set.
constexpr std::array names = std::to_array<gfp_name>({
    {"GFP_TRANSHUGE", transhuge_light_set | bit::direct_reclaim, true},
    {"GFP_TRANSHUGE_LIGHT", transhuge_light_set, true},
    {"GFP_HIGHUSER_MOVABLE", highuser_movable_set, true},
    {"GFP_HIGHUSER", kernel_set | bit::hardwall | bit::highmem, true},
    {"GFP_USER", kernel_set | bit::hardwall, true},
    {"GFP_KERNEL_ACCOUNT", kernel_set | bit::account, true},
    {"GFP_KERNEL", kernel_set, true},
    {"GFP_NOFS", bit::reclaim | bit::io, true},
    {"GFP_ATOMIC", bit::high | bit::atomic | bit::kswapd_reclaim, true},
    {"GFP_NOIO", bit::reclaim, true},
    {"GFP_NOWAIT", bit::kswapd_reclaim, true},
    {"GFP_DMA", bit::dma, true},
    {"__GFP_HIGHMEM", bit::highmem, true},
    {"GFP_DMA32", bit::dma32, true},
    {"__GFP_HIGH", bit::high, true},
    {"__GFP_ATOMIC", bit::atomic, true},
    {"__GFP_IO", bit::io, true},
    {"__GFP_FS", bit::fs, true},
    {"__GFP_NOWARN", bit::nowarn, true},
    {"__GFP_RETRY_MAYFAIL", bit::retry_mayfail, true},
    {"__GFP_NOFAIL", bit::nofail, true},
    {"__GFP_NORETRY", bit::noretry, true},
    {"__GFP_COMP", bit::comp, true},
    {"__GFP_ZERO", bit::zero, true},
    {"__GFP_NOMEMALLOC", bit::nomemalloc, true},
    {"__GFP_MEMALLOC", bit::memalloc, true},
    {"__GFP_HARDWALL", bit::hardwall, true},
    {"__GFP_THISNODE", bit::thisnode, true},
    {"__GFP_RECLAIMABLE", bit::reclaimable, true},
    {"__GFP_MOVABLE", bit::movable, true},
    {"__GFP_ACCOUNT", bit::account, true},
    {"__GFP_WRITE", bit::write, true},
    {"__GFP_RECLAIM", bit::reclaim, true},
    {"__GFP_DIRECT_RECLAIM", bit::direct_reclaim, true},
    {"__GFP_KSWAPD_RECLAIM", bit::kswapd_reclaim, true},
    {"__GFP_ZEROTAGS", bit::zerotags, true},
    {"__GFP_COLD", bit::cold, true},
    {"__GFP_SKIP_ZERO", bit::skip_zero, true},
    {"__GFP_SKIP_KASAN_UNPOISON", bit::skip_kasan_unpoison, true},
    {"__GFP_SKIP_KASAN_POISON", bit::skip_kasan_poison, true},
    {"__GFP_NOLOCKDEP", bit::nolockdep, true},
    {"__GFP_NO_OBJ_EXT", bit::no_obj_ext, true},
    {"__GFP_OTHER_NODE", bit::other_node, true},
    {"__GFP_NOTRACK", bit::notrack, true},
    {"__GFP_DMA", bit::dma, false},
    {"__GFP_DMA32", bit::dma32, false},
    {"__GFP_REPEAT", bit::retry_mayfail, false},
    {"__GFP_WAIT", bit::reclaim, false},
    {"__GFP_SKIP_KASAN", bit::skip_kasan_unpoison | bit::skip_kasan_poison, false},
    {"GFP_TEMPORARY", kernel_set | bit::reclaimable, false},
    {"none", 0, false},
});

constexpr std::size_t class_count = 11;  // GFP_TRANSHUGE to GFP_NOWAIT: the combinations

bool parse_number(std::string_view text, gfp_bits& bits) {
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    text.remove_prefix(2);
    base = 16;
  }
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, bits, base);
  return code == std::errc{} && stop == end && !text.empty();
}

bool parse_part(std::string_view part, gfp_bits& bits) {
  for (const gfp_name& each : names) {
    if (each.name == part) {
      bits = each.bits;
      return true;
    }
  }
  return !part.empty() && part.front() >= '0' && part.front() <= '9' && parse_number(part, bits);
}

// Levenshtein distance.
std::size_t distance(std::string_view left, std::string_view right) {
  std::vector<std::size_t> row(right.size() + 1);
  for (std::size_t column = 0; column <= right.size(); column++) row[column] = column;
  for (std::size_t line = 1; line <= left.size(); line++) {
    std::size_t diagonal = row[0];
    row[0] = line;
    for (std::size_t column = 1; column <= right.size(); column++) {
      const std::size_t substituted = diagonal + (left[line - 1] == right[column - 1] ? 0 : 1);
      diagonal = row[column];
      row[column] = std::min({substituted, row[column] + 1, row[column - 1] + 1});
    }
  }
  return row[right.size()];
}

}  // namespace

std::span<const gfp_name> gfp_names() { return names; }

gfp_result parse_gfp(std::string_view text) {
  gfp_result result;
  for (std::size_t begin = 0;;) {
    const std::size_t end = std::min(text.find('|', begin), text.size());
    gfp_bits bits = 0;
    if (!parse_part(text.substr(begin, end - begin), bits)) {
      result.bad_offset = begin;
      result.bad_part = text.substr(begin, end - begin);
      return result;
    }
    result.bits |= bits;
    if (end == text.size()) break;
    begin = end + 1;
  }
  result.ok = true;
  return result;
}

std::vector<std::string_view> near_gfp_names(std::string_view unknown) {
  static constexpr std::size_t longest = 64;  // a bound on the work for hostile input
  static constexpr std::size_t suggestions = 3;
  std::vector<std::pair<std::size_t, std::string_view>> ranked;
  if (unknown.size() <= longest) {
    std::string upper(unknown);
    for (char& each : upper) each = each >= 'a' && each <= 'z' ? static_cast<char>(each - 'a' + 'A') : each;
    for (const gfp_name& each : names) {
      const std::size_t apart = distance(upper, each.name);
      if (apart <= std::max<std::size_t>(2, unknown.size() / 4)) ranked.emplace_back(apart, each.name);
    }
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& left, const auto& right) { return left.first < right.first; });
  std::vector<std::string_view> result;
  for (const auto& each : ranked) {
    if (result.size() < suggestions) result.push_back(each.second);
  }
  return result;
}

std::string format_gfp(gfp_bits bits) {
  if (bits == 0) return "none";
  std::string out;
  for (const gfp_name& each : names) {
    if (!each.written || (bits & each.bits) != each.bits) continue;
    if (!out.empty()) out += '|';
    out += each.name;
    bits &= ~each.bits;
    if (bits == 0) break;
  }
  return out;
}

std::string_view gfp_class(gfp_bits bits) {
  if (bits == 0) return "none";
  for (std::size_t index = 0; index < class_count; index++) {
    if ((bits & names[index].bits) == names[index].bits) return names[index].name;
  }
  return "other";
}

}  // namespace kmem::tool::trace
