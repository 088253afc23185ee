#include "cache_rows.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <kmem/info.hpp>
#include <string_view>

namespace kmem::tool::replay {

namespace {

constexpr std::size_t name_max = sizeof(kmem_cache_info::name) - 1;
constexpr unsigned create_attempts = 20;
constexpr const char* large_name = "kmalloc, whole pages";

// The name that the library has room for; a number keeps those apart that are cut.
std::string library_name(const std::string& name, std::size_t row) {
  if (name.size() <= name_max) return name.empty() ? fmt::format("cache-{}", row) : name;
  const std::string number = fmt::format("~{}", row);
  return name.substr(0, name_max - number.size()) + number;
}

// Which of the library's three sorts of size classes serves a mask.
gfp_t class_sort(trace::gfp_bits mask) {
  if ((mask & trace::gfp_bit::dma) != 0) return gfp::dma;
  return (mask & trace::gfp_bit::reclaimable) != 0 ? gfp::reclaimable : gfp::none;
}

// As the library names them.
std::string class_name(gfp_t sort, std::uint64_t bytes) {
  const std::string_view prefix = sort == gfp::dma ? "dma-kmalloc-" : sort == gfp::reclaimable ? "kmalloc-rcl-" : "kmalloc-";
  return bytes >= 1024 && std::has_single_bit(bytes) ? fmt::format("{}{}k", prefix, bytes / 1024) : fmt::format("{}{}", prefix, bytes);
}

}  // namespace

cache_rows::cache_rows(const plan& work) : work_(work) {
  for (const planned_cache& each : work.caches) {
    rows_.push_back({each.name, library_name(each.name, rows_.size()), each.object_bytes, false, gfp::none});
  }
  row_of_.reserve(work.requests.size());
  for (const trace::request& each : work.requests) {
    row_of_.push_back(each.kind == trace::request_kind::cache_alloc ? each.cache
                      : each.kind == trace::request_kind::kmalloc   ? class_row(each)
                                                                    : no_row);
  }
}

std::uint32_t cache_rows::class_row(const trace::request& request) {
  const std::uint64_t bytes = kmalloc_size_roundup(request.size);
  if (bytes == 0) return no_row;
  // Above the classes there is a step at every page, and no two classes of several pages are that close.
  const bool large = bytes > page_bytes && bytes % page_bytes == 0 && kmalloc_size_roundup(bytes - page_bytes + 1) == bytes;
  const gfp_t sort = large ? gfp::none : class_sort(request.gfp);
  const std::string name = large ? large_name : class_name(sort, bytes);
  const auto begin = rows_.begin() + static_cast<std::ptrdiff_t>(work_.caches.size());
  const auto found = std::find_if(begin, rows_.end(), [&](const row& each) { return each.name == name; });
  const auto index = static_cast<std::uint32_t>(found - rows_.begin());
  if (found == rows_.end()) rows_.push_back({name, large ? std::string() : name, large ? 0 : bytes, true, sort});
  return index;
}

void cache_rows::make_class_caches() const {
  for (const row& each : rows_) {
    if (each.sort != gfp::none) kfree(kmalloc(each.object_bytes, gfp::kernel | gfp::noretry | gfp::nowarn | each.sort));
  }
}

bool cache_rows::create(std::vector<kmem_cache*>& caches, std::string& problem) {
  caches.clear();
  for (std::size_t index = 0; index < work_.caches.size(); index++) {
    const planned_cache& each = work_.caches[index];
    cache_flags flags = each.named ? cache_flags::no_merge : cache_flags::none;
    if (each.reclaim_account) flags = flags | cache_flags::reclaim_account;
    if (each.dma) flags = flags | cache_flags::cache_dma;
    // Injected failures (failslab=) are meant for the requests of the trace, not for what has to be there before them.
    kmem_cache* made = nullptr;
    for (unsigned attempt = 0; made == nullptr && attempt < create_attempts; attempt++) {
      made = kmem_cache_create(rows_[index].library_name.c_str(), each.object_bytes, each.align, flags);
    }
    caches.push_back(made);
    if (made != nullptr) continue;
    problem = fmt::format("cache {} of {} ('{}', {} bytes an object) cannot be made", index + 1, work_.caches.size(), each.name,
                          each.object_bytes);
    caches.pop_back();
    destroy(caches);
    return false;
  }
  return true;
}

void cache_rows::destroy(std::vector<kmem_cache*>& caches) {
  for (kmem_cache* const each : caches) kmem_cache_destroy(each);
  caches.clear();
}

std::uint64_t cache_rows::taken_bytes(std::size_t row, std::uint64_t bytes) const {
  return rows_[row].object_bytes != 0 ? rows_[row].object_bytes : (bytes + page_bytes - 1) / page_bytes * page_bytes;
}

std::vector<report::cache_row> cache_rows::snapshot() {
  std::vector<report::cache_row> out(rows_.size());
  for (std::size_t index = 0; index < rows_.size(); index++) {
    out[index].name = rows_[index].name;
    out[index].size_class = rows_[index].size_class;
    out[index].object_bytes = rows_[index].object_bytes;
  }
  kmem_cache_info info;
  for (unsigned number = 0; read_kmem_cache_info(number, info); number++) {
    const std::string_view name(info.name);
    const auto found = std::find_if(rows_.begin(), rows_.end(), [&](const row& each) { return each.library_name == name; });
    if (found == rows_.end()) continue;
    report::cache_row& to = out[static_cast<std::size_t>(found - rows_.begin())];
    found->object_bytes = info.size;
    to.object_bytes = info.size;
    to.active_objects = info.active;
    to.total_objects = info.total;
    to.slabs = info.slabs;
    to.pages_per_slab = info.pages_per_slab;
  }
  return out;
}

}  // namespace kmem::tool::replay
