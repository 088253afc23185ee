// What the files of this layer share with each other.
#pragma once
#include "page_alloc/page_alloc.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
inline constexpr unsigned block_order = 9;  // of a page block: 512 pages
inline constexpr unsigned no_order = 0xff;

constexpr unsigned raw(zone_idx idx) noexcept { return static_cast<unsigned>(idx); }
constexpr unsigned raw(migratetype type) noexcept { return static_cast<unsigned>(type); }

/// The smallest order whose block holds n pages.
constexpr unsigned order_of(uint64_t n) noexcept {
  unsigned order = 0;
  while ((uint64_t{1} << order) < n) ++order;
  return order;
}

inline zone& zone_of(page_allocator& pa, const page& p) noexcept { return pa.zones[p.zone]; }
/// The zone whose span holds `pfn`.
inline zone& zone_of_pfn(page_allocator& pa, pfn_t pfn) noexcept {
  const uint32_t block = pfn.raw() / pages_per_block;
  for (zone& z : pa.zones)
    if (block - z.first_block < z.nr_blocks) return z;
  bug("a page outside every zone", __FILE__, __LINE__);
}

/// Is it the head of something that is handed out?
inline bool is_allocated_head(const page& p) noexcept { return p.kind == page_kind::allocated || p.kind == page_kind::slab; }
/// Pages of the block or run that p heads.
inline uint64_t pages_of_head(const page& p) noexcept { return p.kind == page_kind::allocated ? p.run.nr_pages : uint64_t{1} << p.order; }

/// Makes a page the head of n pages that are handed out, with one reference. Under the lock that took them, so that whoever looks under
/// the same lock (the walk, the child of a fork) sees nothing half done.
inline void mark_allocated(page& head, const zone& z, unsigned order, uint64_t n) noexcept {
  head.kind = page_kind::allocated;
  head.order = static_cast<uint8_t>(order);
  head.zone = static_cast<uint8_t>(z.idx);
  head.run = {static_cast<uint32_t>(n)};
  head.refcount.store_relaxed(1);
}

/// Free pages of a zone as watermarks see them.
inline uint64_t zone_free(const zone& z) noexcept {
  const uint64_t managed = z.managed.load_relaxed(), taken = z.taken.load_relaxed();
  return managed > taken ? managed - taken : 0;
}
/// Pages leave the free areas.
inline void add_taken_locked(zone& z, uint64_t n) noexcept KMEM_REQUIRES(z.lock) {
  const uint64_t taken = z.taken.fetch_add_relaxed(n) + n;
  if (taken > z.taken_peak.load_relaxed()) z.taken_peak.store_relaxed(taken);
  if (taken > z.taken_high.load_relaxed()) z.taken_high.store_relaxed(taken);
}
inline uint64_t zone_headroom(const zone& z) noexcept {
  const uint64_t managed = z.managed.load_relaxed(), committed = z.committed.load_relaxed();
  return managed > committed ? managed - committed : 0;
}
/// `n` pages of z were committed for this thread, by a claim or by giving pages back that stay committed; or are not any more. In the
/// child of a fork, which a handler may begin at any moment, they are this thread's and not taken. Context: with z's lock, so inside a
/// nest_guard.
inline void add_claimed(const zone& z, uint64_t n) noexcept { current().claimed[raw(z.idx)] += n; }
inline void drop_claimed(const zone& z, uint64_t n) noexcept { current().claimed[raw(z.idx)] -= n; }
uint64_t zone_in_cpu_lists(const page_allocator& pa, const zone& z) noexcept;
uint64_t zone_charged(const page_allocator& pa, const zone& z) noexcept;

// ---- free areas (free_area.cpp, run.cpp) ---------------------------------------------------------------------------------------

/// One search in a zone: what is wanted, and what was set aside for it beforehand.
struct take_request {
  uint64_t n = 1;      // contiguous pages
  unsigned order = 0;  // of the aligned slot that is searched for them
  migratetype type = migratetype::unmovable;
  uint64_t claim = 0;            // pages of headroom that are already committed for this request
  uint32_t metadata_credit = 0;  // pages of metadata that are already charged for it
  bool no_fresh = false;         // no block that needs metadata or opening (they were refused)
  uint64_t room = 0;             // pages behind it that should stay free for it
};

/// Pages that were taken.
struct taken_run {
  pfn_t first;
  bool zero = false;        // all of them are known to be zero
  block_bitmap dirty = {};  // n <= 512: bit i set: page i is not known to be zero. Longer runs: see zero_pages
};

enum class take_result : uint8_t {
  ok,
  none,            // no such run, whatever is committed
  no_headroom,     // only with more absent pages than may be committed
  needs_metadata,  // in a block whose descriptors are not paid for: charge needed_metadata pages and try again
  needs_open,      // in blocks that are not open
};
struct take_needs {
  uint32_t metadata = 0;  // pages
  uint32_t open_blocks = 0;
};

/// Takes a run out of the free areas. Context: any.
take_result take_locked(page_allocator& pa, zone& z, take_request& request, taken_run& run, take_needs& needs) noexcept
    KMEM_REQUIRES(z.lock);
/// The same for more than one block.
take_result take_blocks_locked(page_allocator& pa, zone& z, take_request& request, taken_run& run, take_needs& needs) noexcept
    KMEM_REQUIRES(z.lock);
/// Takes exactly these pages if all are free. Return: ok, none, no_headroom or needs_metadata.
take_result take_range_locked(page_allocator& pa, zone& z, pfn_t first, uint64_t n, take_request& request, take_needs& needs) noexcept
    KMEM_REQUIRES(z.lock);
/// No block is kept for anybody to grow into any more. Return: whether there was one.
bool give_up_room_locked(page_allocator& pa, zone& z) noexcept KMEM_REQUIRES(z.lock);
/// Gives pages back to the free areas.
void put_locked(page_allocator& pa, zone& z, pfn_t first, uint64_t n, bool zero) noexcept KMEM_REQUIRES(z.lock);
/// Takes pages of one block whose bits are set in free or absent; the counters follow. The caller has checked that it may. With `run`,
/// `first` begins an aligned slot that holds n pages.
void take_bits_locked(page_allocator& pa, zone& z, uint32_t block, unsigned first, unsigned n, take_request& request,
                      taken_run* run) noexcept KMEM_REQUIRES(z.lock);

/// Absent pages are taken while surplus was given back a moment ago: it was none.
void note_regret_locked(zone& z, uint64_t absent) noexcept KMEM_REQUIRES(z.lock);
/// Puts a block on the list that its counts say, at the front.
void relist_locked(page_allocator& pa, zone& z, uint32_t block) noexcept KMEM_REQUIRES(z.lock);
void unlist_locked(page_allocator& pa, zone& z, uint32_t block) noexcept KMEM_REQUIRES(z.lock);
/// Which list a block belongs on, plus one; 0: none.
unsigned list_for(const page_block& b) noexcept;

/// A naturally aligned run of 2^order set bits, in the tightest hole. Return: its first bit, or -1.
int find_run(const block_bitmap& bits, unsigned order) noexcept;
unsigned count_bits(const block_bitmap& bits, unsigned first, unsigned n) noexcept;

/// The bits [first, first + n) of word `w`.
constexpr uint64_t word_mask(unsigned w, unsigned first, unsigned n) noexcept {
  const unsigned begin = w * 64, end = begin + 64;
  const unsigned from = first > begin ? first : begin, to = first + n < end ? first + n : end;
  if (from >= to) return 0;
  const unsigned count = to - from;
  return (count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1) << (from - begin);
}

// ---- sections and metadata (open.cpp) -------------------------------------------------------------------------------------------

/// Pages that opening n neighbouring blocks costs at once: their part of the class map (512 bytes a block) and of the block descriptors
/// (256 bytes), and page tables of these arrays and the descriptors. 9 pages more a block follow when it is used first.
constexpr uint32_t section_metadata_pages(uint32_t n) noexcept { return (n * 3 + 15) / 16 + 1; }
/// Opens at least `n` more blocks of the zone. may_wait: for another opener. Return: false if the system or the budget refuses. Context:
/// does system calls, holds no zone lock.
bool open_more(page_allocator& pa, zone& z, uint32_t n, bool may_wait) noexcept KMEM_EXCLUDES(z.lock);
/// Counts a fresh block of a machine whose budget came from a cgroup; after every second one asks again what the groups leave, and
/// withholds from NORMAL what they do not leave any more. Context: may sleep; no lock held.
void follow_groups(page_allocator& pa) noexcept;
/// Makes blocks that open_blocks() has opened part of the zone.
void add_blocks_locked(page_allocator& pa, zone& z, uint32_t first, uint32_t n) noexcept KMEM_REQUIRES(z.lock);
/// Takes back what a request has charged. wakes: it was of use, so that those who wait may have what it has left.
void refund_metadata(page_allocator& pa, uint64_t n, bool wakes) noexcept;
/// Does what uncharge_metadata() could not for want of a lock.
void settle_managed(page_allocator& pa) noexcept;
/// Brings `managed` of NORMAL in line with the metadata.
void update_managed_locked(page_allocator& pa, zone& normal) noexcept KMEM_REQUIRES(normal.lock);

// ---- locks of nested slow paths ---------------------------------------------------------------------------------------------------

/// Takes a lock; in a nested slow path only for a bounded number of tries. Return: whether it is held now.
bool acquire(ranked_lock& lock) noexcept KMEM_TRY_ACQUIRE(true, lock);
/// The same; with may_wait false only for `tries` tries, nested or not.
bool acquire_or_try(ranked_lock& lock, bool may_wait, unsigned tries) noexcept KMEM_TRY_ACQUIRE(true, lock);

// ---- per-CPU lists (cpu_lists.cpp) ------------------------------------------------------------------------------------------------

/// A block of order <= 3 from this CPU's list, refilled from the zone down to `floor` free pages. Return: none when empty or busy.
pfn_t cpu_list_take(page_allocator& pa, zone& z, unsigned order, migratetype type, bool cold, uint64_t floor) noexcept;
/// Puts a freed block on this CPU's list. Return: false when the list is busy (nothing done).
bool cpu_list_put(page_allocator& pa, zone& z, page& p) noexcept;
/// Return: pages moved to the free areas.
uint64_t drain_cpu_list(page_allocator& pa, zone& z, unsigned cpu, bool may_wait) noexcept;

// ---- the reserve (reserve.cpp) -----------------------------------------------------------------------------------------------------

void stack_push(page_allocator& pa, page_stack& stack, pfn_t pfn) noexcept;
pfn_t stack_pop(page_allocator& pa, page_stack& stack) noexcept;
/// Everything at once, linked as it was. Return: the first page.
pfn_t stack_take_all(page_stack& stack) noexcept;
pfn_t stack_next(page_allocator& pa, pfn_t pfn) noexcept;

/// A page of the zone's reserve, charged. Context: any; takes no lock.
pfn_t reserve_take(page_allocator& pa, zone& z) noexcept;
/// Puts a freed single page into the reserve if that is not full. Return: whether it did. Context: any; takes no lock.
bool reserve_put(page_allocator& pa, zone& z, pfn_t pfn) noexcept;
/// Moves the whole reserve into the free areas, where it may form larger blocks. Return: pages.
uint64_t dissolve_reserve(page_allocator& pa, zone& z) noexcept;
bool reserve_is_low(const page_allocator& pa) noexcept;
/// A request that may not wait came to the reserve. If it is empty now, it was too small, and is to become larger. Context: any.
void note_reserve_use(page_allocator& pa, zone& z) noexcept;

// ---- freeing (free.cpp) --------------------------------------------------------------------------------------------------------------

/// Frees what p heads, whatever its reference count was: to the reserve, the CPU's list or the free areas, or to the deferred list.
void free_head(page_allocator& pa, page* p) noexcept;
/// Frees what was deferred. Return: pages.
uint64_t drain_deferred(page_allocator& pa) noexcept;
/// Called with a zone's or CPU's lock held (or after a deferred push): does somebody wait for memory?
inline bool somebody_waits(const page_allocator& pa) noexcept { return pa.waiters.load_relaxed() != 0; }
/// Pages have been freed: the first waiter has its turn.
void wake_waiters(page_allocator& pa) noexcept;
/// The same after something else.
void wake_waiters(page_allocator& pa, wake_cause cause) noexcept;
/// After a free that took no lock; paired with the waiter's own step on the fence: either he finds the pages, or this load finds him.
void wake_after_lockless_free(page_allocator& pa) noexcept;
KMEM_COLD void report_bad_page(page_allocator& pa, const page* p, const char* what) noexcept;

// ---- giving back (give_back.cpp)
// -------------------------------------------------------------------------------------------------------

/// Gives up to n backed free pages of the zone back; with single_pages those of partly used blocks as well, of the lists of the first
/// `nr_fills` occupancies. keep_committed: they stay committed, for the caller to use as a claim. Return: pages given back.
uint64_t give_back_zone(page_allocator& pa, zone& z, uint64_t n, bool single_pages, bool keep_committed,
                        unsigned nr_fills = nr_occupancy_lists) noexcept;
/// Above this many free backed pages of the zone there may be surplus.
inline uint64_t surplus_bound(const page_allocator& pa, const zone& z) noexcept { return pa.keep_free_pages + z.taken.load_relaxed() / 8; }
inline constexpr uint64_t surplus_step = pages_per_block;
void give_back_surplus_slow(page_allocator& pa, zone& z) noexcept;
/// Called after each free, without a lock: gives back what is free without need (surplus.cpp).
inline void give_back_surplus(page_allocator& pa, zone& z) noexcept {
  if (KMEM_UNLIKELY(z.present_free.load_relaxed() >= surplus_bound(pa, z) + surplus_step)) give_back_surplus_slow(pa, z);
}
/// In the child of a fork: pages that threads which are gone were giving back are nobody's to wait for. They stay lost, as charged.
void forget_leaving_of_others(zone& z) noexcept;

// ---- requests and the chain (alloc.cpp, chain.cpp, report.cpp)
// ---------------------------------------------------------------------------

enum class request_kind : uint8_t { block, run, charge };

/// One allocation on its way through the chain.
struct request {
  request_kind kind = request_kind::block;
  gfp_t gfp = gfp::none;    // scopes applied
  gfp_t asked = gfp::none;  // as the caller gave it
  uint64_t n = 1;           // pages
  unsigned order = 0;       // smallest with 2^order >= n
  zone_idx highest = zone_idx::normal;
  migratetype type = migratetype::unmovable;
  bool realtime = false;           // a SCHED_FIFO or SCHED_RR caller; looked up on the slow path
  bool reserve_step = false;       // the chain has come to the reserve: rights below min count
  bool from_reserve = false;       // what can be drained has been: pages that lie in the reserve may be taken, if the watermark permits
  uint64_t claims[nr_zones] = {};  // headroom committed for this request in each zone
  uint64_t bytes = 0;
  const char* cache = nullptr;
  bool quiet = false;
  uint64_t room = 0;  // pages behind a run that are to stay free for it
  // Waiting.
  bool behind = false;          // somebody else's turn comes first
  waiter* waiting = nullptr;    // while it is in the queue
  alternative* instead = nullptr;
  uint64_t give_back_at_ns = 0; // not to give back for it again before then
  wait_outcome outcome = wait_outcome::exhausted;  // why it gets NULL, if it does
  // Results.
  taken_run run;
  int zone = -1;
};

/// What would do as well as pages, if it is there now.
inline bool take_instead(const request& r) noexcept {
  if (r.instead == nullptr) return false;
  r.instead->taken = r.instead->take(*r.instead);
  return r.instead->taken;
}

request make_request(const page_allocator& pa, gfp_t gfp, uint64_t n, request_kind kind) noexcept;
/// Free pages of zone z that a request must leave: its floor plus what the zone keeps from requests whose highest zone is `highest`.
uint64_t floor_for(const page_allocator& pa, const zone& z, const watermark_request& wanted, zone_idx highest) noexcept;
inline uint64_t floor_for(const page_allocator& pa, const zone& z, const request& r) noexcept {
  return floor_for(pa, z, {r.gfp, r.realtime, r.reserve_step}, r.highest);
}
/// May `n` pages be taken from z under that floor?
inline bool above_floor(const zone& z, uint64_t n, uint64_t floor) noexcept {
  const uint64_t free = zone_free(z);
  return free >= n && free - n + 1 > floor;
}
/// Tries all zones once, without waiting. Return: whether it succeeded; r.run and r.zone are set.
bool attempt(page_allocator& pa, request& r) noexcept;
/// Clears the pages of the run that are not known to be zero.
void zero_pages(page_allocator& pa, const taken_run& run, uint64_t n) noexcept;
/// Wakes kswapd if the mask permits it and every zone that the request may use is below its low watermark. Return: whether one works.
bool wake_kswapd_if_low(page_allocator& pa, const request& r) noexcept;
/// The whole chain after the first attempt has failed. Return: whether it succeeded.
bool alloc_slow(page_allocator& pa, request& r) noexcept;
void release_claims(page_allocator& pa, request& r) noexcept;

// ---- waiting (wait.cpp) ------------------------------------------------------------------------------------------------------------

/// Must a request that may wait let others go first? Somebody waits whom every page would serve that serves this one.
bool goes_behind(page_allocator& pa, const request& r) noexcept;
/// In the child of a fork: those who waited are not in this process.
void forget_waiters(page_allocator& pa) noexcept;
/// Is nobody before it? True for who is not in the queue.
bool in_turn(page_allocator& pa, const request& r) noexcept;
/// Between these nobody waits for r's turn: it is inside callbacks, which may take as long as they like.
void step_aside(page_allocator& pa, const request& r, bool aside) noexcept;
/// Sleeps until somebody frees, again and again, as long as the request may. Return: whether it was served.
bool wait_for_memory(page_allocator& pa, request& r, chain_step& reached) noexcept;
/// Has one of the thread's scopes ended its waits? Return: how, or none.
wait_outcome ended_early(const request& r, uint64_t now_ns) noexcept;
/// Makes frees see a waiter from here on. The caller then tries once more before it sleeps.
void announce_waiter(page_allocator& pa) noexcept;
void retract_waiter(page_allocator& pa) noexcept;
/// Wakes whose turn it is, but not `except`.
void wake_waiters_but(page_allocator& pa, const waiter* except, wake_cause cause) noexcept;
/// Sleeps while free_sequence is `sequence`: for who waits for pages in transit, not for others' frees.
void sleep_in_transit(page_allocator& pa, uint32_t sequence, uint64_t timeout_ns) noexcept;

// ---- steps of the chain that waiting repeats (chain.cpp) --------------------------------------------------------------------------

/// Empties CPU lists and what caches hold without need into the free areas. Return: pages moved.
uint64_t drain(page_allocator& pa, bool may_wait) noexcept;
/// attempt(), and for who needs headroom or pages in one piece giving back, if it is the request's turn.
bool try_in_turn(page_allocator& pa, request& r) noexcept;
/// One pass over the blocking steps. Return: whether the request was served.
bool blocking_pass(page_allocator& pa, request& r, chain_step& reached, uint64_t& progress) noexcept;
bool permitted(chain_step step, const request& r) noexcept;
/// Counts a failure, keeps its record and reports it unless the flags say otherwise.
KMEM_COLD void fail_request(page_allocator& pa, const request& r, chain_step reached, bool injected) noexcept;
KMEM_COLD void report_deadlock(page_allocator& pa, const request& r, uint32_t threads) noexcept;
KMEM_COLD void report_hopeless(const request& r, uint64_t largest) noexcept;
void keep_sleep_record(page_allocator& pa, sleep_record& record) noexcept;
KMEM_COLD void report_stall(page_allocator& pa, const request& r, uint64_t waited_ns) noexcept;

void compute_watermarks(zone (&zones)[nr_zones], const machine_config& config) noexcept;
void compute_cpu_lists(zone& z, uint32_t nr_cpus) noexcept;

}  // inline namespace
}  // namespace kmem
