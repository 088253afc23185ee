#include "caches.hpp"

#include <algorithm>
#include <string>

#include "flat_map.hpp"
#include "requests.hpp"

namespace kmem::tool::trace {

namespace {

constexpr std::uint64_t cache_line = 64;
constexpr std::uint64_t word = 8;

// "getname_flags.part.0+0x2b/0x1c0" without the offset.
std::string_view symbol_of(std::string_view call_site) { return call_site.substr(0, call_site.find('+')); }

}  // namespace

void cache_namer::add(std::uint32_t request, const event& allocation, std::uint32_t block, gfp_bits block_gfp, bool real_address) {
  object made{};
  made.request = request;
  made.block = block;
  made.name = allocation.cache_name;
  made.call_site = allocation.call_site;
  made.slot_size = allocation.bytes_alloc;
  made.address = real_address ? allocation.address : word;
  made.block_gfp = block_gfp;
  made.accounted = allocation.accounted;
  object_of_request_[request] = static_cast<std::uint32_t>(objects_.size());
  objects_.push_back(made);
}

void cache_namer::learn(std::uint32_t request, string_id name) {
  const auto found = object_of_request_.find(request);
  if (found != object_of_request_.end()) objects_[found->second].name = name;
}

void cache_namer::spread_names() {
  for (const object& each : objects_) {
    if (each.name == no_string) continue;
    if (each.block != flat_map::absent) name_of_block_[each.block] = each.name;
    names_of_site_[{each.call_site, each.slot_size}][each.name]++;
  }
}

string_id cache_namer::name_of(const object& each) {
  if (each.name != no_string) return each.name;
  if (each.block != flat_map::absent) {
    const auto found = name_of_block_.find(each.block);
    if (found != name_of_block_.end()) return found->second;
  }
  const auto site = names_of_site_.find({each.call_site, each.slot_size});
  if (site == names_of_site_.end()) return no_string;
  const auto most = std::max_element(site->second.begin(), site->second.end(),
                                     [](const auto& left, const auto& right) { return left.second < right.second; });
  return most->first;
}

void cache_namer::assign(std::vector<request>& requests, std::vector<cache_info>& caches) {
  spread_names();
  std::map<std::pair<std::string, std::uint64_t>, std::uint32_t> index_of;
  std::vector<std::uint64_t> low_bits;  // of all addresses, or-ed, by cache
  for (const object& each : objects_) {
    const string_id name = name_of(each);
    const bool named = name != no_string;
    const std::string text(named ? strings_.view(name) : symbol_of(strings_.view(each.call_site)));
    const auto [place, is_new] = index_of.try_emplace({text, each.slot_size}, static_cast<std::uint32_t>(caches.size()));
    if (is_new) {
      cache_info made;
      made.name = named ? text : (text.empty() ? "size" : text) + "-" + std::to_string(each.slot_size);
      made.slot_size = each.slot_size;
      made.named = named;
      caches.push_back(std::move(made));
      low_bits.push_back(0);
    }
    cache_info& cache = caches[place->second];
    request& target = requests[each.request];
    target.cache = place->second;
    cache.object_size = std::max(cache.object_size, target.size);
    cache.allocs++;
    cache.account |= each.accounted && (target.gfp & gfp_bit::account) == 0;
    cache.reclaim_account |= (each.block_gfp & gfp_bit::reclaimable) != 0;
    cache.dma |= (each.block_gfp & gfp_bit::dma) != 0;
    low_bits[place->second] |= each.address;
  }
  for (std::size_t index = 0; index < caches.size(); index++) {
    const std::uint64_t bits = low_bits[index] | caches[index].slot_size | cache_line;
    caches[index].align = std::max(word, bits & (~bits + 1));
  }
}

}  // namespace kmem::tool::trace
