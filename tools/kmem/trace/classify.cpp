#include "classify.hpp"

#include <algorithm>
#include <unordered_map>

#include "flat_map.hpp"

namespace kmem::tool::trace {

namespace {

namespace bit = gfp_bit;

// How many events of its own context may lie between the pages and the object: the vectors that a charged slab needs
// (an object and possibly pages for it) come between.
constexpr std::uint32_t window = 6;

// A mapping is believed when at least this many candidates name it, and 3 in 4 do.
constexpr std::uint64_t votes_needed = 4;

// Events of one flow of control: a task, or the interrupts above it.
std::uint64_t flow_of(const event& each) {
  const std::uint64_t interrupt = each.context.bits & call_context::interrupts;
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(each.pid)) << 32 | std::uint64_t{each.cpu} << 8 | interrupt;
}

// The page allocations of one flow that no object has claimed yet.
struct flow {
  struct waiting {
    std::uint32_t index;
    std::uint32_t age;
  };
  std::vector<waiting> pages;
  std::uint32_t unmatched_large = no_event;  // a large kmalloc still without pages
  std::uint32_t large_age = 0;

  static constexpr std::uint32_t no_event = 0xffffffff;
};

class order_rule {
 public:
  explicit order_rule(std::span<const event> events) : events_(events) {}

  // Calls found(pages, object, use) for every pair that fits, by index.
  template <typename Found>
  void run(Found found) {
    for (std::uint32_t index = 0; index < events_.size(); index++) {
      const event& each = events_[index];
      if (each.kind != event_kind::page_alloc && !is_object_alloc(each.kind)) continue;
      flow& mine = flows_[flow_of(each)];
      age(mine);
      if (each.kind == event_kind::page_alloc) {
        take_pages(mine, index, found);
      } else {
        take_object(mine, index, found);
      }
    }
  }

 private:
  static void age(flow& mine) {
    for (flow::waiting& each : mine.pages) each.age++;
    std::erase_if(mine.pages, [](const flow::waiting& each) { return each.age > window; });
    if (mine.unmatched_large != flow::no_event && ++mine.large_age > window) mine.unmatched_large = flow::no_event;
  }

  template <typename Found>
  void take_pages(flow& mine, std::uint32_t index, Found found) {
    if (mine.unmatched_large != flow::no_event && fits_kmalloc_large(events_[index], events_[mine.unmatched_large])) {
      found(index, mine.unmatched_large, page_use::kmalloc_large);
      mine.unmatched_large = flow::no_event;
      return;
    }
    mine.pages.push_back({index, 0});
  }

  template <typename Found>
  void take_object(flow& mine, std::uint32_t index, Found found) {
    const event& object = events_[index];
    const bool large = is_kmalloc(object.kind) && object.bytes_alloc > kmalloc_max_cache_bytes;
    bool any = false;
    // Newest first: pages for a nested allocation come after those that wait for the outer one.
    for (std::size_t at = mine.pages.size(); at-- > 0;) {
      const event& pages = events_[mine.pages[at].index];
      if (large ? !any && fits_kmalloc_large(pages, object) : fits_slab(pages, object)) {
        found(mine.pages[at].index, index, large ? page_use::kmalloc_large : page_use::slab);
        mine.pages.erase(mine.pages.begin() + static_cast<std::ptrdiff_t>(at));
        any = true;
      }
    }
    if (large && !any) {
      mine.unmatched_large = index;
      mine.large_age = 0;
    }
  }

  std::span<const event> events_;
  std::unordered_map<std::uint64_t, flow> flows_;
};

// Marks pages on which objects were seen.
void mark_by_address(std::span<const event> events, std::uint64_t direct_map, std::vector<page_use>& use) {
  flat_map owner;  // frame number -> index of the mm_page_alloc that it belongs to
  for (std::uint32_t index = 0; index < events.size(); index++) {
    const event& each = events[index];
    const std::uint64_t pages = std::uint64_t{1} << each.order;
    switch (each.kind) {
      case event_kind::page_alloc:
        if (each.failed) break;
        for (std::uint64_t page = 0; page < pages; page++) owner.set(each.address + page, index);
        break;
      case event_kind::page_free:
      case event_kind::page_free_batched:
        for (std::uint64_t page = 0; page < pages; page++) owner.take(each.address + page);
        break;
      default: {
        if (each.address < direct_map || each.hidden) break;
        const std::uint32_t holder = owner.find((each.address - direct_map) >> page_shift);
        if (holder == flat_map::absent || use[holder] != page_use::direct) break;
        const bool large = is_kmalloc(each.kind) && each.bytes_alloc > kmalloc_max_cache_bytes;
        use[holder] = large ? page_use::kmalloc_large : page_use::slab;
      }
    }
  }
}

}  // namespace

bool fits_slab(const event& pages, const event& object) {
  constexpr gfp_bits added = bit::nowarn | bit::noretry;
  constexpr gfp_bits never = bit::zero | bit::account | bit::highmem | bit::movable | bit::write | bit::nofail;
  constexpr gfp_bits kept = bit::high | bit::atomic | bit::retry_mayfail | bit::memalloc | bit::hardwall | bit::thisnode;
  if (is_kmalloc(object.kind) && object.bytes_alloc > kmalloc_max_cache_bytes) return false;
  if ((pages.gfp & added) != added || (pages.gfp & never) != 0) return false;
  if (((pages.gfp & bit::comp) != 0) != (pages.order > 0)) return false;
  if ((page_size << pages.order) < object.bytes_alloc) return false;

  constexpr gfp_bits waiting = bit::reclaim | bit::io | bit::fs;
  // Early in boot the kernel strips everything that could wait, whatever was asked for.
  const bool early = (pages.gfp & (waiting | bit::high | bit::atomic)) == 0;
  if (early) return true;
  if ((pages.gfp & kept) != (object.gfp & kept)) return false;
  // A scope (memalloc_nofs, memalloc_noio) shows on pages and not on objects, so less is possible.
  if ((pages.gfp & ~object.gfp & (bit::io | bit::fs)) != 0) return false;
  if ((pages.gfp & bit::reclaim) == (object.gfp & bit::reclaim)) {
    return (pages.gfp & bit::nomemalloc) == (object.gfp & bit::nomemalloc);
  }
  const bool first_try = (pages.gfp & bit::reclaim) == 0 && (pages.gfp & bit::nomemalloc) != 0 && pages.order > 0;
  return first_try && (object.gfp & bit::direct_reclaim) != 0;
}

bool fits_kmalloc_large(const event& pages, const event& object) {
  constexpr gfp_bits waiting = bit::reclaim | bit::io | bit::fs;
  if (!is_kmalloc(object.kind) || object.bytes_alloc <= kmalloc_max_cache_bytes) return false;
  if ((page_size << pages.order) != object.bytes_alloc || (pages.gfp & bit::comp) == 0) return false;
  if (pages.failed != object.failed) return false;
  // Early boot and scopes take away from what can wait.
  const gfp_bits different = (pages.gfp ^ object.gfp) & ~(bit::comp | bit::account | waiting);
  return different == 0 && (pages.gfp & ~object.gfp & waiting) == 0;
}

page_classes classify_pages(std::span<const event> events, const classify_options& options) {
  page_classes result;
  result.use.assign(events.size(), page_use::direct);
  std::vector<page_use> by_order(events.size(), page_use::direct);
  std::unordered_map<std::uint64_t, std::uint64_t> votes;
  std::vector<std::uint32_t> after_their_object;  // which the address rule, going forward, cannot see
  order_rule(events).run([&](std::uint32_t pages, std::uint32_t object, page_use use) {
    by_order[pages] = use;
    if (pages > object) after_their_object.push_back(pages);
    const event& frame = events[pages];
    if (frame.failed || events[object].failed || events[object].hidden) return;
    const std::uint64_t block = page_size << frame.order;
    result.votes++;
    votes[(events[object].address & ~(block - 1)) - (frame.address << page_shift)]++;
  });
  for (const auto& [base, count] : votes) {
    if (count > result.votes_for) {
      result.votes_for = count;
      result.direct_map = base;
    }
  }
  if (!options.by_address || result.votes_for < votes_needed || result.votes_for * 4 < result.votes * 3) {
    result.direct_map.reset();
    result.use = std::move(by_order);
    return result;
  }
  mark_by_address(events, *result.direct_map, result.use);
  for (const std::uint32_t index : after_their_object) result.use[index] = by_order[index];
  for (std::size_t index = 0; index < events.size(); index++) {
    if (events[index].kind == event_kind::page_alloc && events[index].failed) result.use[index] = by_order[index];
  }
  return result;
}

}  // namespace kmem::tool::trace
