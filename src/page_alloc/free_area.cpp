// The free areas of a zone: bitmaps of page blocks, and the lists that say where to look first.
//
// What for. Finding, taking and giving back runs of up to one page block (512 pages).
// States.   A page of an open block has its bit in `free` (backed), in `absent` (not backed), or in neither (taken, in transit, unusable).
//           `zero` is a subset of `free`. nr_free and nr_absent count bits. A block is on the list that list_for() says; it gets the
//           mobility type of its first user and keeps it until it is wholly free.
// Choice.   Backed pages first: the fullest block, and in it the tightest hole, so that blocks empty and can be given back (measured: 129
//           of about 150 blocks come free after a churn where a LIFO buddy frees 5). Then a wholly free block with backed pages, since a
//           first touch costs a thousand times an allocation; zones with fixed pfns keep whole blocks longer and use partly backed runs
//           first. Then partly used blocks with absent pages, unused blocks, new blocks, and last the blocks of other types.
// Locks.    Everything here runs under the zone's lock. Context: any; no system call.
// Ordering. None of its own.
// Kernel.   No lists by order: a block's bits give its free orders, so nothing is merged or split. Blocks of another type are used but
//           never converted while somebody is in them.
// Tests.    tests/unit/page_alloc/free_area_test.cpp, tests/model/page_alloc_random_test.cpp
#include <bit>

#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr unsigned nr_words = pages_per_block / 64;

// First bits of the aligned groups of 2^order bits in a word.
constexpr uint64_t group_starts[] = {
    ~uint64_t{0}, 0x5555555555555555u, 0x1111111111111111u, 0x0101010101010101u, 0x0001000100010001u, 0x0000000100000001u, 1};

/// The free groups of 2^order bits in a word, each by its first bit.
constexpr uint64_t free_groups(uint64_t word, unsigned order) noexcept {
  for (unsigned k = 0; k < order; ++k) word &= word >> (1u << k);
  return word & group_starts[order];
}

/// Of the free groups of 2^order bits, one whose enclosing free group is the smallest. Return: the order of that one; `bit` is set.
unsigned tightest(uint64_t groups, unsigned order, unsigned& bit) noexcept {
  for (unsigned level = order; level < 6; ++level) {
    const uint64_t parents = groups & (groups >> (1u << level)) & group_starts[level + 1];
    const uint64_t singles = groups & ~(parents | parents << (1u << level));
    if (singles != 0) {
      bit = static_cast<unsigned>(std::countr_zero(singles));
      return level;
    }
    groups = parents;
  }
  bit = 0;
  return 6;
}

int find_words(const block_bitmap& bits, unsigned words) noexcept {
  int found = -1;
  for (unsigned w = 0; w < nr_words; w += words) {
    bool all = true;
    for (unsigned k = 0; k < words; ++k) all = all && bits.words[w + k] == ~uint64_t{0};
    if (!all) continue;
    bool buddy = words < nr_words;
    for (unsigned k = 0; buddy && k < words; ++k) buddy = bits.words[(w ^ words) + k] == ~uint64_t{0};
    if (!buddy) return static_cast<int>(w * 64);
    if (found < 0) found = static_cast<int>(w * 64);
  }
  return found;
}

block_bitmap usable_bits(const page_block& b) noexcept {
  block_bitmap usable;
  for (unsigned w = 0; w < nr_words; ++w) usable.words[w] = b.free.words[w] | b.absent.words[w];
  return usable;
}

uint8_t larger(uint8_t a, uint8_t b) noexcept { return a > b ? a : b; }

void link_front(page_allocator& pa, zone& z, uint32_t block, unsigned list) noexcept KMEM_REQUIRES(z.lock) {
  page_block& b = pa.blocks[block];
  b.list = static_cast<uint8_t>(list + 1);
  b.prev = 0;
  b.next = z.lists[list];
  if (b.next != 0) pa.blocks[b.next - 1].prev = block + 1;
  z.lists[list] = block + 1;
  z.list_present_order[list] = larger(z.list_present_order[list], b.longest_present_order);
  z.list_usable_order[list] = larger(z.list_usable_order[list], b.longest_order);
}

/// A slot of 2^order usable pages whose first n need no more than `room` pages to be backed. Return: its first bit, or -1.
int find_affordable(const page_block& b, const block_bitmap& usable, unsigned order, unsigned n, uint64_t room) noexcept {
  const unsigned size = 1u << order;
  for (unsigned first = 0; first < pages_per_block; first += size)
    if (count_bits(usable, first, size) == size && count_bits(b.absent, first, n) <= room) return static_cast<int>(first);
  return -1;
}

/// What a search looks at: backed pages only, or absent ones as well.
enum class look_for : uint8_t { backed, usable };

/// Takes a run out of the first block of a list that has one. Return: ok, none, or no_headroom when only headroom was missing.
take_result search_list(page_allocator& pa, zone& z, unsigned list, look_for what, take_request& request, taken_run& run) noexcept
    KMEM_REQUIRES(z.lock) {
  uint8_t& list_order = what == look_for::backed ? z.list_present_order[list] : z.list_usable_order[list];
  if (z.lists[list] == 0 || list_order < request.order) return take_result::none;
  const uint64_t room = zone_headroom(z) + request.claim;
  // Without room only backed pages will do, which were looked for before; but the slot of a run may be backed in part.
  if (what == look_for::usable && room == 0 && request.n == uint64_t{1} << request.order) return take_result::no_headroom;
  uint8_t best = 0;
  take_result result = take_result::none;
  for (uint32_t next = z.lists[list]; next != 0;) {
    const uint32_t block = next - 1;
    page_block& b = pa.blocks[block];
    next = b.next;
    uint8_t& longest = what == look_for::backed ? b.longest_present_order : b.longest_order;
    if (longest >= request.order) {
      const block_bitmap usable = what == look_for::backed ? b.free : usable_bits(b);
      int first = find_run(usable, request.order);
      if (first < 0) {
        longest = static_cast<uint8_t>(request.order == 0 ? 0 : request.order - 1);
      } else {
        const auto n = static_cast<unsigned>(request.n);
        if (what == look_for::usable && count_bits(b.absent, static_cast<unsigned>(first), n) > room)
          first = find_affordable(b, usable, request.order, n, room);
        if (first >= 0) {
          take_bits_locked(pa, z, block, static_cast<unsigned>(first), n, request, &run);
          return take_result::ok;
        }
        result = take_result::no_headroom;
      }
    }
    best = larger(best, longest);
  }
  list_order = best;
  return result;
}

/// Partly used blocks of one type, fullest first.
take_result search_type(page_allocator& pa, zone& z, unsigned type, look_for what, take_request& request, taken_run& run) noexcept
    KMEM_REQUIRES(z.lock) {
  take_result result = take_result::none;
  const uint8_t* const orders = what == look_for::backed ? z.list_present_order : z.list_usable_order;
  for (unsigned fill = nr_occupancy_lists; fill-- != 0;) {
    const unsigned list = present_lists + type * nr_occupancy_lists + fill;
    if (z.lists[list] == 0 || orders[list] < request.order) continue;  // most of them: asked here, not in a call
    const take_result r = search_list(pa, z, list, what, request, run);
    if (r == take_result::ok) return r;
    if (r == take_result::no_headroom) result = r;
  }
  if (what == look_for::backed) return result;
  const take_result r = search_list(pa, z, absent_lists + type, what, request, run);
  return r == take_result::none ? result : r;
}

/// Blocks whose descriptors are not paid for, and blocks that are not open.
take_result search_fresh(page_allocator& pa, zone& z, take_request& request, taken_run& run, take_needs& needs) noexcept
    KMEM_REQUIRES(z.lock) {
  if (request.n > zone_headroom(z) + request.claim) return take_result::no_headroom;
  const uint32_t first = z.lists[unused_bare_list];
  if (first != 0) {
    page_block& b = pa.blocks[first - 1];
    const uint32_t cost = metadata_pages_per_block - b.charged_metadata;
    if (request.metadata_credit < cost) {
      needs.metadata = cost;
      return take_result::needs_metadata;
    }
    request.metadata_credit -= cost;
    b.charged_metadata = metadata_pages_per_block;
    take_bits_locked(pa, z, first - 1, 0, static_cast<unsigned>(request.n), request, &run);
    return take_result::ok;
  }
  if (z.opened_blocks == z.nr_blocks) return take_result::none;
  needs.open_blocks = 1;
  return take_result::needs_open;
}

/// Notes a later result of a search over an earlier one: "no headroom" says more than "none".
void note(take_result& result, take_result later) noexcept {
  if (later != take_result::none) result = later;
}

}  // namespace

int find_run(const block_bitmap& bits, unsigned order) noexcept {
  if (order >= 6) return order > block_order ? -1 : find_words(bits, 1u << (order - 6));
  unsigned best_level = no_order;
  int best = -1;
  for (unsigned w = 0; w < nr_words; ++w) {
    const uint64_t groups = free_groups(bits.words[w], order);
    if (groups == 0) continue;
    unsigned bit = 0;
    const unsigned level = tightest(groups, order, bit);
    if (level >= best_level) continue;
    best_level = level;
    best = static_cast<int>(w * 64 + bit);
    if (level == order) break;
  }
  return best;
}

unsigned count_bits(const block_bitmap& bits, unsigned first, unsigned n) noexcept {
  unsigned count = 0;
  for (unsigned w = first / 64; w <= (first + n - 1) / 64; ++w)
    count += static_cast<unsigned>(std::popcount(bits.words[w] & word_mask(w, first, n)));
  return count;
}

unsigned list_for(const page_block& b) noexcept {
  const unsigned unused = b.nr_free + unsigned{b.nr_absent};
  if (unused == 0) return 0;
  if (b.room != 0) return room_list + 1;
  if (unused == pages_per_block) {
    if (b.nr_free != 0) return unused_present_list + 1;
    return (b.charged_metadata == metadata_pages_per_block ? unused_absent_list : unused_bare_list) + 1;
  }
  if (b.nr_free == 0) return absent_lists + b.type + 1;
  return present_lists + b.type * nr_occupancy_lists + (pages_per_block - unused) / (pages_per_block / nr_occupancy_lists) + 1;
}

void note_regret_locked(zone& z, uint64_t absent) noexcept {
  const uint64_t given = z.given_lately.load_relaxed(), n = absent < given ? absent : given;
  z.given_lately.store_relaxed(given - n);
  z.regretted.store_relaxed(z.regretted.load_relaxed() + n);
}

void unlist_locked(page_allocator& pa, zone& z, uint32_t block) noexcept {
  page_block& b = pa.blocks[block];
  if (b.list == 0) return;
  if (b.prev != 0)
    pa.blocks[b.prev - 1].next = b.next;
  else
    z.lists[b.list - 1] = b.next;
  if (b.next != 0) pa.blocks[b.next - 1].prev = b.prev;
  b.list = 0;
  b.next = b.prev = 0;
}

void relist_locked(page_allocator& pa, zone& z, uint32_t block) noexcept {
  page_block& b = pa.blocks[block];
  const unsigned list = list_for(b);
  if (b.list == list) {
    if (list == 0) return;
    z.list_present_order[list - 1] = larger(z.list_present_order[list - 1], b.longest_present_order);
    z.list_usable_order[list - 1] = larger(z.list_usable_order[list - 1], b.longest_order);
    return;
  }
  unlist_locked(pa, z, block);
  if (list != 0) link_front(pa, z, block, list - 1);
}

void take_bits_locked(page_allocator& pa, zone& z, uint32_t block, unsigned first, unsigned n, take_request& request,
                      taken_run* run) noexcept {
  page_block& b = pa.blocks[block];
  if (b.nr_free + unsigned{b.nr_absent} == pages_per_block) b.type = static_cast<uint8_t>(request.type);
  unsigned backed = 0;
  bool zero = true;
  for (unsigned w = first / 64; w <= (first + n - 1) / 64; ++w) {
    const uint64_t mask = word_mask(w, first, n);
    const uint64_t dirty = b.free.words[w] & mask & ~b.zero.words[w];
    KMEM_ASSERT(((b.free.words[w] ^ b.absent.words[w]) & mask) == mask);
    backed += static_cast<unsigned>(std::popcount(b.free.words[w] & mask));
    if (dirty != 0) zero = false;
    // Bit i of the result is page first + i. A run lies in an aligned slot, so it fills one word partly or several wholly.
    if (run != nullptr && dirty != 0) run->dirty.words[w - first / 64] = dirty >> (first % 64);
    b.free.words[w] &= ~mask;
    b.absent.words[w] &= ~mask;
    b.zero.words[w] &= ~mask;
  }
  const unsigned absent = n - backed;
  const uint64_t claimed = absent < request.claim ? absent : request.claim;
  request.claim -= claimed;
  drop_claimed(z, claimed);
  b.nr_free = static_cast<uint16_t>(b.nr_free - backed);
  b.nr_absent = static_cast<uint16_t>(b.nr_absent - absent);
  const uint64_t present = z.present_free.load_relaxed() - backed;
  z.present_free.store_relaxed(present);
  if (present < z.present_low.load_relaxed()) z.present_low.store_relaxed(present);
  if (KMEM_UNLIKELY(absent != 0 && z.given_lately.load_relaxed() != 0)) note_regret_locked(z, absent);
  z.committed.store_relaxed(z.committed.load_relaxed() + absent - claimed);
  add_taken_locked(z, n);
  if (run != nullptr) {
    run->first = pfn_t(block * pages_per_block + first);
    run->zero = zero;
  }
  relist_locked(pa, z, block);
}

take_result take_range_locked(page_allocator& pa, zone& z, pfn_t first, uint64_t n, take_request& request, take_needs& needs) noexcept {
  const uint64_t end = uint64_t{first.raw()} + n;
  if (first.raw() < z.first_block * pages_per_block || end > uint64_t{z.first_block + z.opened_blocks} * pages_per_block)
    return take_result::none;
  uint64_t absent = 0;
  uint32_t metadata = 0;
  for (uint64_t at = first.raw(); at < end;) {
    const auto block = static_cast<uint32_t>(at / pages_per_block);
    const auto from = static_cast<unsigned>(at % pages_per_block);
    const auto count = static_cast<unsigned>(end - at < pages_per_block - from ? end - at : pages_per_block - from);
    const page_block& b = pa.blocks[block];
    metadata += metadata_pages_per_block - b.charged_metadata;
    if (count_bits(usable_bits(b), from, count) != count) return take_result::none;
    absent += count_bits(b.absent, from, count);
    at += count;
  }
  if (absent > zone_headroom(z) + request.claim) return take_result::no_headroom;
  if (metadata > request.metadata_credit) {
    needs.metadata = metadata - request.metadata_credit;
    return take_result::needs_metadata;
  }
  request.metadata_credit -= metadata;
  for (uint64_t at = first.raw(); at < end;) {
    pa.blocks[at / pages_per_block].charged_metadata = metadata_pages_per_block;
    const auto from = static_cast<unsigned>(at % pages_per_block);
    const auto count = static_cast<unsigned>(end - at < pages_per_block - from ? end - at : pages_per_block - from);
    take_bits_locked(pa, z, static_cast<uint32_t>(at / pages_per_block), from, count, request, nullptr);
    at += count;
  }
  return take_result::ok;
}

bool give_up_room_locked(page_allocator& pa, zone& z) noexcept {
  const bool some = z.lists[room_list] != 0;
  while (z.lists[room_list] != 0) {
    const uint32_t block = z.lists[room_list] - 1;
    pa.blocks[block].room = 0;
    relist_locked(pa, z, block);
  }
  return some;
}

void put_locked(page_allocator& pa, zone& z, pfn_t first, uint64_t n, bool zero) noexcept {
  bool had_room = false;
  const uint64_t end = uint64_t{first.raw()} + n;
  for (uint64_t at = first.raw(); at < end;) {
    const auto block = static_cast<uint32_t>(at / pages_per_block);
    const auto from = static_cast<unsigned>(at % pages_per_block);
    const auto count = static_cast<unsigned>(end - at < pages_per_block - from ? end - at : pages_per_block - from);
    page_block& b = pa.blocks[block];
    for (unsigned w = from / 64; w <= (from + count - 1) / 64; ++w) {
      const uint64_t mask = word_mask(w, from, count);
      KMEM_CHECK(((b.free.words[w] | b.absent.words[w]) & mask) == 0);  // freed twice
      b.free.words[w] |= mask;
      if (zero) b.zero.words[w] |= mask;
    }
    b.nr_free = static_cast<uint16_t>(b.nr_free + count);
    b.longest_order = b.longest_present_order = block_order;
    had_room = b.room != 0;
    b.room = 0;
    relist_locked(pa, z, block);
    at += count;
  }
  // What was left to it to grow into is nobody's now.
  for (auto block = static_cast<uint32_t>(end / pages_per_block); had_room && block < z.first_block + z.opened_blocks; ++block) {
    page_block& b = pa.blocks[block];
    if (b.room == 0 || b.nr_free + unsigned{b.nr_absent} != pages_per_block) break;
    b.room = 0;
    relist_locked(pa, z, block);
  }
  z.present_free.store_relaxed(z.present_free.load_relaxed() + n);
  z.taken.fetch_sub_relaxed(n);
}

namespace {

/// A run of at most one page block.
take_result take_in_block_locked(page_allocator& pa, zone& z, take_request& request, taken_run& run, take_needs& needs) noexcept
    KMEM_REQUIRES(z.lock) {
  const unsigned type = raw(request.type);
  take_result result = search_type(pa, z, type, look_for::backed, request, run);
  if (result == take_result::ok) return result;
  result = take_result::none;
  for (int step = 0; step < 2; ++step) {
    const bool unused = (step == 0) != z.fixed_pfns;
    const take_result r = unused ? search_list(pa, z, unused_present_list, look_for::backed, request, run)
                                 : search_type(pa, z, type, look_for::usable, request, run);
    if (r == take_result::ok) return r;
    note(result, r);
  }
  for (const unsigned list : {unused_absent_list, unused_present_list}) {
    const take_result r = search_list(pa, z, list, look_for::usable, request, run);
    if (r == take_result::ok) return r;
    note(result, r);
  }
  if (!request.no_fresh) {
    const take_result r = search_fresh(pa, z, request, run, needs);
    if (r != take_result::none && r != take_result::no_headroom) return r;
    note(result, r);
  }
  for (const look_for what : {look_for::backed, look_for::usable}) {
    for (unsigned other = 0; other < nr_migratetypes; ++other) {
      if (other == type) continue;
      const take_result r = search_type(pa, z, other, what, request, run);
      if (r == take_result::ok) return r;
      note(result, r);
    }
  }
  return result;
}

}  // namespace

take_result take_locked(page_allocator& pa, zone& z, take_request& request, taken_run& run, take_needs& needs) noexcept {
  if (request.room != 0) {
    const take_result with_room = take_blocks_locked(pa, z, request, run, needs);
    if (with_room != take_result::none && with_room != take_result::no_headroom) return with_room;
    request.room = 0;
  }
  const auto take = [&]() KMEM_REQUIRES(z.lock) {
    return request.n > pages_per_block ? take_blocks_locked(pa, z, request, run, needs)
                                       : take_in_block_locked(pa, z, request, run, needs);
  };
  const take_result result = take();
  const bool failed = result == take_result::none || result == take_result::no_headroom;
  return failed && give_up_room_locked(pa, z) ? take() : result;
}

}  // inline namespace
}  // namespace kmem
