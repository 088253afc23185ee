#pragma once

// Which cache an object came from. Before a free tells (name= in kmem_cache_free), the trace only has call site and
// sizes, so the names are worked out at the end: from the object's own free, from other objects on the same slab page,
// from what was freed of the same call site and size, else the cache is called by its call site and size.

#include <cstdint>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ftrace.hpp"

namespace kmem::tool::trace {

struct request;
struct cache_info;

class cache_namer {
 public:
  explicit cache_namer(const event_list& from) : strings_(from.strings) {}

  // An object of a cache was allocated by this request, on this page block (flat_map::absent when not known) that was
  // allocated with these flags. `real_address`: the address tells the alignment.
  void add(std::uint32_t request, const event& allocation, std::uint32_t block, gfp_bits block_gfp, bool real_address);

  // The object of this request came from the cache of this name.
  void learn(std::uint32_t request, string_id name);

  // Fills in the caches, and the cache of each request that allocates from one.
  void assign(std::vector<request>& requests, std::vector<cache_info>& caches);

 private:
  struct object {
    std::uint32_t request;
    std::uint32_t block;
    string_id name;
    string_id call_site;
    std::uint64_t slot_size;
    std::uint64_t address;  // or one with the same alignment as all words; 0 of a failed allocation
    gfp_bits block_gfp;
    bool accounted;
  };
  using site_key = std::pair<string_id, std::uint64_t>;  // call site, slot size

  void spread_names();
  string_id name_of(const object& each);

  const string_table& strings_;
  std::vector<object> objects_;
  std::unordered_map<std::uint32_t, std::uint32_t> object_of_request_;
  std::unordered_map<std::uint32_t, string_id> name_of_block_;
  std::map<site_key, std::map<string_id, std::uint64_t>> names_of_site_;
};

}  // namespace kmem::tool::trace
