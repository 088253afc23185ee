// The map of page blocks: one cell for 2 MiB, coloured by who owns it, filled as far as its pages are in use.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "escape.hpp"
#include "html_parts.hpp"
#include "units.hpp"

namespace kmem::tool::report {

namespace {

constexpr std::size_t own_shade_caches = 3;   // slab caches with a colour of their own; more could not be told apart
constexpr std::size_t cell_budget = 150'000;  // cells of all snapshots together: about 2 MB of data
constexpr std::size_t few_blocks = 100;       // up to here cells are large
constexpr std::size_t some_blocks = 400;
constexpr std::size_t many_blocks = 1500;  // from here on they are small

struct group {
  std::string name;
  std::string shade;
};

// Groups of the legend: the named caches, other slabs, and one for each owner.
struct grouping {
  std::vector<group> groups;
  std::map<std::int32_t, std::size_t> by_cache;
  std::size_t other_slab = 0;
  std::map<block_owner, std::size_t> by_owner;

  [[nodiscard]] std::size_t of(const block_info& block) const {
    if (block.owner == block_owner::slab) {
      const auto found = by_cache.find(block.cache);
      return found == by_cache.end() ? other_slab : found->second;
    }
    const auto found = by_owner.find(block.owner);
    return found == by_owner.end() ? other_slab : found->second;
  }
};

[[nodiscard]] bool has_cache(const replay_result& result, std::int32_t cache) {
  return cache >= 0 && static_cast<std::size_t>(cache) < result.block_caches.size();
}

[[nodiscard]] grouping group_blocks(const replay_result& result) {
  static constexpr const char* cache_shades[] = {"c2", "c6", "c8"};
  std::map<std::int32_t, std::uint64_t> weight;
  for (const block_snapshot& snapshot : result.block_maps) {
    for (const block_info& block : snapshot.blocks) {
      if (block.owner == block_owner::slab && has_cache(result, block.cache)) {
        weight[block.cache] += 1;
      }
    }
  }
  std::vector<std::pair<std::uint64_t, std::int32_t>> order;
  for (const auto& [cache, blocks] : weight) {
    order.emplace_back(blocks, -cache);
  }
  std::sort(order.rbegin(), order.rend());
  grouping out;
  for (std::size_t place = 0; place < std::min(own_shade_caches, order.size()); ++place) {
    const std::int32_t cache = -order[place].second;
    out.by_cache[cache] = out.groups.size();
    out.groups.push_back({"slabs of " + result.block_caches[static_cast<std::size_t>(cache)], cache_shades[place]});
  }
  out.other_slab = out.groups.size();
  out.groups.push_back({order.empty() ? "slabs" : "other slabs", "c9"});
  const auto owner = [&out](block_owner which, const char* name, const char* shade) {
    out.by_owner[which] = out.groups.size();
    out.groups.push_back({name, shade});
  };
  owner(block_owner::mixed, "slabs and pages", "c4");
  owner(block_owner::pages, "pages", "c1");
  owner(block_owner::large, "large blocks", "c5");
  owner(block_owner::reserve, "reserve", "c3");
  owner(block_owner::free_present, "free, present", "c7");
  owner(block_owner::in_transit, "going back", "c7 transit");
  return out;
}

// Snapshots to show: all, or so many evenly spread ones that the cells fit the budget; the first, the last and those
// with a label stay.
[[nodiscard]] std::vector<const block_snapshot*> chosen(const replay_result& result) {
  std::size_t cells = 0;
  for (const block_snapshot& snapshot : result.block_maps) {
    cells += snapshot.blocks.size();
  }
  const std::size_t stride = cells / cell_budget + 1;
  std::vector<const block_snapshot*> out;
  for (std::size_t number = 0; number < result.block_maps.size(); ++number) {
    const block_snapshot& snapshot = result.block_maps[number];
    if (number % stride == 0 || number + 1 == result.block_maps.size() || !snapshot.label.empty()) {
      out.push_back(&snapshot);
    }
  }
  return out;
}

[[nodiscard]] std::vector<std::uint32_t> all_indices(const std::vector<const block_snapshot*>& maps) {
  std::set<std::uint32_t> indices;
  for (const block_snapshot* snapshot : maps) {
    for (const block_info& block : snapshot->blocks) {
      indices.insert(block.index);
    }
  }
  return {indices.begin(), indices.end()};
}

// The one to start with: the labelled one with most blocks in use, else the one with most blocks.
[[nodiscard]] std::size_t first_shown(const std::vector<const block_snapshot*>& maps) {
  std::size_t best = 0;
  for (std::size_t number = 1; number < maps.size(); ++number) {
    if (maps[number]->blocks.size() > maps[best]->blocks.size()) {
      best = number;
    }
  }
  return best;
}

[[nodiscard]] std::string cell_html(const replay_result& result, const grouping& groups, const block_info& block) {
  const std::size_t which = groups.of(block);
  const std::string cache =
      has_cache(result, block.cache) ? ", mostly " + result.block_caches[static_cast<std::size_t>(block.cache)] : std::string();
  const std::string tip =
      fmt::format("block {}\n{}{}\n{} of {} pages in use", block.index, to_string(block.owner), cache, block.used_pages, pages_per_block);
  return fmt::format("<i class=\"b {}\" data-g=\"{}\" style=\"--u:{:.1f}%\" data-tip=\"{}\"></i>", groups.groups[which].shade, which,
                     percent(std::min(block.used_pages, pages_per_block), pages_per_block), html_escape(tip));
}

[[nodiscard]] std::string grid_html(const replay_result& result, const grouping& groups, const std::vector<std::uint32_t>& indices,
                                    const block_snapshot& snapshot) {
  std::map<std::uint32_t, const block_info*> present;
  for (const block_info& block : snapshot.blocks) {
    present[block.index] = &block;
  }
  std::string cells;
  for (const std::uint32_t index : indices) {
    const auto found = present.find(index);
    cells += found == present.end() ? fmt::format("<i class=\"b absent\" data-tip=\"block {}\nnot backed\"></i>", index)
                                    : cell_html(result, groups, *found->second);
  }
  const std::size_t count = indices.size();
  const char* size = count <= few_blocks ? " few" : count <= some_blocks ? " some" : count <= many_blocks ? "" : " many";
  return fmt::format("<div class=\"blocks{}\" id=\"blocks\" role=\"img\" aria-label=\"Page blocks by owner\">{}</div>", size, cells);
}

[[nodiscard]] std::string legend_html(const grouping& groups, const std::vector<const block_snapshot*>& maps, std::size_t start) {
  std::vector<std::size_t> ever(groups.groups.size(), 0);
  std::vector<std::size_t> now(groups.groups.size(), 0);
  for (std::size_t number = 0; number < maps.size(); ++number) {
    for (const block_info& block : maps[number]->blocks) {
      ever[groups.of(block)] += 1;
      now[groups.of(block)] += number == start ? 1 : 0;
    }
  }
  std::string items;
  for (std::size_t number = 0; number < groups.groups.size(); ++number) {
    if (ever[number] != 0) {
      items += fmt::format("<li data-group=\"{}\" tabindex=\"0\"><i class=\"{}\"></i>{} <span>{}</span></li>", number,
                           groups.groups[number].shade == "c7 transit" ? "hatch" : groups.groups[number].shade,
                           html_escape(groups.groups[number].name), now[number]);
    }
  }
  return "<ul class=\"legend\">" + items + "</ul>";
}

[[nodiscard]] std::string block_data(const replay_result& result, const grouping& groups, const std::vector<std::uint32_t>& indices,
                                     const std::vector<const block_snapshot*>& maps) {
  using json = nlohmann::ordered_json;
  std::map<std::uint32_t, std::size_t> place;
  for (const std::uint32_t index : indices) {
    place.emplace(index, place.size());
  }
  json data;
  data["index"] = indices;
  data["caches"] = result.block_caches;
  data["owners"] = json::array();
  for (std::size_t owner = 0; owner < block_owner_count; ++owner) {
    data["owners"].push_back(to_string(static_cast<block_owner>(owner)));
  }
  data["groups"] = json::array();
  for (const group& one : groups.groups) {
    data["groups"].push_back({{"shade", one.shade}});
  }
  data["maps"] = json::array();
  for (const block_snapshot* snapshot : maps) {
    json blocks = json::array();
    for (const block_info& block : snapshot->blocks) {
      const std::int32_t cache = has_cache(result, block.cache) ? block.cache : -1;
      for (const std::int64_t value :
           {static_cast<std::int64_t>(place[block.index]), static_cast<std::int64_t>(block.owner), static_cast<std::int64_t>(cache),
            static_cast<std::int64_t>(block.used_pages), static_cast<std::int64_t>(groups.of(block))}) {
        blocks.push_back(value);
      }
    }
    data["maps"].push_back({{"t", snapshot->time_ns}, {"e", snapshot->events}, {"l", snapshot->label}, {"b", std::move(blocks)}});
  }
  return data_block("block-data", data.dump(-1, ' ', false, json::error_handler_t::replace));
}

}  // namespace

std::string block_section(const replay_result& result) {
  const std::string lead =
      "Each cell is a page block of 2 MiB, filled as far as its 512 pages are in use. Blocks that are wholly free can be given back.";
  const std::vector<const block_snapshot*> maps = chosen(result);
  const std::vector<std::uint32_t> indices = all_indices(maps);
  if (indices.empty()) {
    return section("blocks-section", "Page blocks", lead, "<p class=\"none\">No snapshot of the page blocks was taken.</p>");
  }
  const grouping groups = group_blocks(result);
  const std::size_t start = first_shown(maps);
  const block_snapshot& snapshot = *maps[start];
  const std::string when = fmt::format("{} \u00b7 {} events \u00b7 {} blocks{}", html_ns(snapshot.time_ns), human_count(snapshot.events),
                                       snapshot.blocks.size(), snapshot.label.empty() ? "" : " \u00b7 " + html_escape(snapshot.label));
  const std::string slider = fmt::format(
      "<div class=\"time\"><button id=\"block-play\" class=\"needs-js\" type=\"button\">Play</button><input id=\"block-range\" "
      "class=\"needs-js\" "
      "type=\"range\" min=\"0\" max=\"{}\" value=\"{}\" aria-label=\"Moment of the replay\"><output id=\"block-out\">{}</output></div>",
      maps.size() - 1, start, when);
  return section(
      "blocks-section", "Page blocks", lead,
      slider + legend_html(groups, maps, start) + grid_html(result, groups, indices, snapshot) + block_data(result, groups, indices, maps));
}

}  // namespace kmem::tool::report
