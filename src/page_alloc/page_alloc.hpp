// Front header of the layer `page_alloc`: zones, free areas of page blocks, watermarks, the reserve, per-CPU page lists, the chain.
//
// Each zone has a *span* (pfns) and a *managed* size (its share of the budget).  For every zone, always, under its lock:
//     committed = taken + present_free + reserve + in_transit <= managed       pages that are backed, or may be touched at any time
//     taken     = charged + in per-CPU lists (+ the reclaimers' pool)          free (watermarks) = managed - taken
// and over all zones: sum of managed + metadata <= limit. Metadata that grows past its allowance shrinks NORMAL's managed size.
//
// Nesting. Functions that may be called from a signal handler mark themselves with a nest_guard while they hold locks. A layer above
//          must hold no nest_guard of its own when it calls them (it needs one only while it holds a lock): inside one, every lock here
//          would only be tried.
#pragma once
#include "page_alloc/waiting.hpp"
#include "page_alloc/watch.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

enum class watermark : uint8_t { min, low, high };
inline constexpr unsigned nr_occupancy_lists = 16;  // blocks by used/32, fullest searched first
inline constexpr unsigned nr_cpu_list_orders = 4;   // per-CPU lists hold orders 0..3, as in the kernel

/// One CPU's pages of one zone: a list per order and mobility, warm end first, cold end last.
struct alignas(arch::cache_line_bytes) cpu_pages {
  ranked_lock lock{lock_rank::cpu_pages};
  struct list {
    pfn_t warm, cold;  // ends; pages linked by next (towards cold) and prev
    uint32_t nr_blocks = 0;
  } lists[nr_migratetypes][nr_cpu_list_orders] KMEM_GUARDED_BY(lock);
  atomic<uint32_t> nr_pages{0};                   // over all lists; written by the lock's holder, as the following are
  atomic<uint64_t> nr_hits{0};                    // allocations served without asking the zone
  atomic<uint64_t> nr_allocated{0}, nr_freed{0};  // pages
};

/// A stack of single pages that can be popped without a lock: pfn and tag in one word, so that a recycled head is noticed. The link is the
/// page's reference count, the one word of a descriptor that is atomic: such a page has no users.
struct page_stack {
  atomic<uint64_t> head{0};  // pfn | tag << 32
  atomic<uint32_t> nr_pages{0};
};

// Lists of the blocks of a zone. A full block is on none.
inline constexpr unsigned present_lists = 0;                                     // partly used, with free backed pages: [type][used / 32]
inline constexpr unsigned absent_lists = nr_migratetypes * nr_occupancy_lists;   // partly used, with absent ones only: [type]
inline constexpr unsigned unused_present_list = absent_lists + nr_migratetypes;  // wholly free, some pages backed
inline constexpr unsigned unused_absent_list = unused_present_list + 1;          // wholly free, nothing backed, descriptors paid for
inline constexpr unsigned unused_bare_list = unused_absent_list + 1;             // the same, descriptors not paid for
inline constexpr unsigned room_list = unused_bare_list + 1;                      // blocks that are room for a run to grow into
inline constexpr unsigned nr_block_lists = room_list + 1;

struct leaving_batch;  // pages on their way back to the system: give_back.cpp

struct zone {
  ranked_lock lock{lock_rank::zone};
  zone_idx idx = zone_idx::normal;
  bool fixed_pfns = false;                  // DMA, DMA32: span == managed, no fresh blocks instead of scattered ones
  uint32_t first_block = 0, nr_blocks = 0;  // span, in page blocks
  uint32_t unusable = 0;                  // pages of the span that are never handed out (page 0, the end of a zone that is no whole blocks)
  uint64_t managed_most = 0;              // managed while metadata is within its allowance
  atomic<uint64_t> managed{0};            // pages; changed under `lock`
  atomic<uint64_t> committed{0};          // changed under `lock`
  atomic<uint64_t> taken_peak{0};      // the most that `taken` was when pages left the free areas; changed under `lock`
  atomic<uint64_t> taken{0};              // grows without the lock when the reserve is popped
  atomic<uint64_t> present_free{0};       // backed pages in the free areas; changed under `lock`
  atomic<uint64_t> in_transit{0};         // backed pages on their way back to the system; changed under `lock`
  atomic<uint64_t> deferred_uncharge{0};  // pages outside the arena uncharged where the lock could not be had
  uint32_t opened_blocks KMEM_GUARDED_BY(lock) = 0;           // blocks [first_block, first_block + opened_blocks) are open
  uint32_t lists[nr_block_lists] KMEM_GUARDED_BY(lock) = {};  // first block of each, plus one; 0: empty
  leaving_batch* leaving KMEM_GUARDED_BY(lock) = nullptr;  // what in_transit counts, each batch on the stack of who gives it back
  // No block of a list has a larger aligned run of backed (of usable) pages: upper bounds, so that a search passes hopeless lists over.
  uint8_t list_present_order[nr_block_lists] KMEM_GUARDED_BY(lock) = {};
  uint8_t list_usable_order[nr_block_lists] KMEM_GUARDED_BY(lock) = {};
  uint64_t watermarks[3] = {};             // pages; min, low, high
  uint64_t lowmem_reserve[nr_zones] = {};  // pages kept from requests whose highest zone is [i]
  page_stack reserve;                      // backed, pre-faulted; part of free
  uint64_t reserve_base = 0;               // pages that are backed from the start, and again when more are not needed
  atomic<uint64_t> reserve_target{0};      // pages, from reserve_base to min: as many as atomic requests have shown a need for
  atomic<uint64_t> reserve_uses{0};        // pages that requests which may not wait took out of the reserve
  atomic<uint64_t> reserve_uses_seen{0};   // as of the last look whether it can shrink
  atomic<uint64_t> reserve_decay_ns{0};    // when to look next
  // Of surplus.cpp.
  atomic<uint64_t> taken_high{0};          // the most that `taken` was since caches were last drained; changed under `lock` but there
  atomic<uint32_t> drains_left{0};         // in this window
  atomic<uint64_t> present_low{0};         // the least present_free since the window began; changed under `lock`
  atomic<uint64_t> given_lately{0};        // surplus given back of which absent pages taken now would be regret
  atomic<uint64_t> regretted{0};           // pages kept more than the parameters say
  atomic<uint64_t> surplus_seen{0};        // present_free after the last look
  atomic<uint64_t> surplus_window_ns{0};   // when the window began
  atomic<uint32_t> surplus_looks{0};
  cpu_pages* per_cpu = nullptr;            // [nr_cpus]
  uint32_t cpu_batch = 0, cpu_high = 0;
};

/// Why an allocation returned NULL, or would have: one record each, the last ones kept.
struct alloc_failure {
  uint64_t sequence = 0, time_ns = 0;
  gfp_t gfp = gfp::none;
  uint32_t order = 0;
  uint64_t bytes = 0;  // of the request, as far as known
  chain_step reached = chain_step::lists;
  uint8_t zone = 0;                                                                            // highest zone allowed
  uint64_t managed = 0, charged = 0, free = 0, reserve = 0, in_cpu_lists = 0, in_transit = 0;  // pages, of that zone
  uint64_t limit = 0, metadata = 0;
  uint32_t preempt_count = 0;
  char comm[16] = {};
  const void* pcs[printk_max_pcs] = {};
  unsigned nr_pcs = 0;
  char cache[32] = {};  // the name of the kmem_cache that asked, cut; empty: none did
};

/// What reclaim above this layer offers; slow paths only. Every entry may be null. Filled once at start.
struct reclaim_ops {
  void* context = nullptr;
  /// Frees what object caches hold without need: arrays, sheaves, empty slabs. `may_wait` false: only what is not locked. Return: pages
  /// freed.
  uint64_t (*drain_caches)(void* context, bool may_wait) noexcept = nullptr;
  /// From hold to release, which nest, no free keeps an object where a waiter is not told of it. Context: any.
  void (*hold_caches)(void* context, bool hold) noexcept = nullptr;
  /// Runs registered reclaim callbacks for `gfp`. Return: pages freed.
  uint64_t (*reclaim)(void* context, gfp_t gfp, uint64_t nr_pages) noexcept = nullptr;
  /// Asked last, when reclaim has found nothing and before a request waits or fails: OOM notifiers. Return: pages freed.
  uint64_t (*out_of_memory)(void* context, gfp_t gfp, unsigned order) noexcept = nullptr;
  /// The zones that a request may use are below their low watermarks: wakes kswapd. Called often while memory is short, from any context.
  /// Return: whether a kswapd is at work, or will be: then it is worth waiting for it.
  bool (*wake_kswapd)(void* context, gfp_t gfp, unsigned order, zone_idx highest) noexcept = nullptr;
  /// Lines for the failure report (slabs and what holds the memory).
  void (*report)(void* context, gfp_t gfp) noexcept = nullptr;
};
inline constexpr unsigned nr_reclaim_ops = 8;

inline constexpr unsigned nr_failure_records = 64;

/// Events outside the per-CPU lists; page_alloc_read_totals() adds those inside. Named as the kernel's /proc/vmstat counters where they
/// mean the same.
struct page_alloc_stats {
  atomic<uint64_t> pgalloc{0}, pgfree{0}, pgalloc_fail{0}, pages_given_back{0}, blocks_given_back{0}, blocks_opened{0},
      cpu_list_drains{0}, reserve_used{0}, pgreclaimed{0}, waits{0}, deferred_frees{0}, bad_pages{0};
  atomic<uint64_t> allocstall[nr_zones];  // requests that came to reclaim themselves, by the highest zone that they may use
  // By requests, not by kswapd. scan: pages that shrinkers and callbacks were asked for; steal: pages that they freed.
  atomic<uint64_t> pgscan_direct{0}, pgsteal_direct{0}, pgscan_direct_throttle{0};
  atomic<uint64_t> slabs_scanned{0};  // objects that shrinkers were asked to scan
  atomic<uint64_t> oom_notified{0};   // times that OOM notifiers were asked
  atomic<uint64_t> wait_turns{0};     // times that a waiter was told that it is its turn
  atomic<uint64_t> long_sleeps{0};    // of vm.sleep_record_ms or more
  atomic<uint64_t> deadlocks{0};      // times that every thread was seen to wait
};
struct page_alloc_totals {
  uint64_t pgalloc, pgfree, pgalloc_fail, allocstall, pages_given_back, blocks_given_back, blocks_opened, cpu_list_hits, cpu_list_drains,
      reserve_used, pgreclaimed, waits, deferred_frees, bad_pages;
};

struct page_allocator : memory_map {
  zone zones[nr_zones];
  uint32_t nr_cpus = 1;
  unsigned max_order = 11;            // exclusive
  uint64_t metadata_allowance = 0;    // pages set aside from the limit at init
  bool follows_groups = false;        // the budget came from a cgroup: read again as the machine grows
  atomic<uint32_t> fresh_blocks{0};   // page blocks begun since the last reading
  atomic<uint32_t> managed_due{0};    // NORMAL can be larger: metadata has gone where its lock could not be had
  atomic<uint64_t> withheld{0};       // pages of the limit that the groups, or `lowered`, do not leave; changed under NORMAL's lock
  atomic<uint64_t> lowered{0};        // pages of the limit that set_budget() has taken away
  page_stack memalloc_pool;           // for __GFP_MEMALLOC and reclaimers; pages of NORMAL, neither free nor charged
  uint64_t memalloc_pool_target = 0;  // pages
  uint64_t keep_free_pages = 0;       // of each zone, stay backed though free
  atomic<uint32_t> refilling{0};      // somebody fills the reserves and the pool
  atomic<uint32_t> reserve_grown{0};  // some reserve may be larger than at the start, and shrink again
  reclaim_ops ops[nr_reclaim_ops];
  bool has_kswapd = false;            // one of ops wakes it
  page_stack deferred;                // pages freed where no lock could be taken
  atomic<uint32_t> free_sequence{0};  // raised by frees while somebody waits; futex word of who waits for pages in transit
  atomic<uint32_t> waiters{0};
  atomic<uint32_t> waiter_fence{0};  // orders frees that take no lock against waiters that announce themselves; the value means nothing
  atomic<uint32_t> throttle{0};      // futex word of requests that kswapd is given time for
  wait_queue queue;
  record_slot<alloc_failure> failures[nr_failure_records];
  atomic<uint64_t> failure_sequence{0};
  record_slot<sleep_record> sleeps[nr_sleep_records];
  atomic<uint64_t> sleep_sequence{0};
  ranked_lock machine_lock{lock_rank::machine};
  page_alloc_stats stats;
  rate_limit page_failure_reports{5'000'000'000, 10};  // the kernel's: 10 in 5 s
  rate_limit page_order_reports{5'000'000'000, 1};     // the kernel's is one for good
  rate_limit group_reports{60'000'000'000, 1};         // arbitrary
  rate_limit bad_page_reports{60'000'000'000, 60};     // the kernel's: 60 a minute
  rate_limit deadlock_reports{60'000'000'000, 1};      // arbitrary
  atomic<stat_watch*> watch{nullptr};  // set while the machine starts; nullptr: nobody watches
  uint64_t fork_locks[(size_t{max_cpus} * nr_zones + nr_zones + 3 + 63) / 64] = {};  // which locks fork's prepare handler has taken
};

/// Sets up zones, watermarks, per-CPU lists and the reserve from `config`. Return: err::nomem when the system refuses. May sleep.
err page_alloc_init(page_allocator& pa, const machine_config& config) noexcept;
void page_alloc_destroy(page_allocator& pa) noexcept;
/// Adds an entry of reclaim operations. Return: err::nomem when the table is full.
err register_reclaim_ops(page_allocator& pa, const reclaim_ops& ops) noexcept;

/// Keeps the record of a NULL for which no page was asked for: a limit, a mapping that the system refused, an injected failure.
KMEM_COLD void keep_failure(page_allocator& pa, gfp_t gfp, uint64_t bytes, const char* cache = nullptr) noexcept;

/// 2^order contiguous, naturally aligned pages; runs the whole permitted chain. Context: any, if `gfp` does not block. Return: the head
/// page with reference count 1, or nullptr (order >= max_order, or exhausted; reported unless NOWARN).
page* alloc_pages(page_allocator& pa, gfp_t gfp, order_t order) noexcept;
/// The same for a cache or kmalloc: `bytes` and `cache` go into the failure record. `nr_exact` pages are kept, the tail is freed at once.
struct alternative;
struct alloc_request {
  gfp_t gfp;
  order_t order;
  uint64_t bytes = 0;
  const char* cache = nullptr;
  bool quiet = false;  // the caller has something else to try: failing is no failure yet, and leaves no record and no report
  alternative* instead = nullptr;  // what ends the request's waiting besides pages
};
/// What serves a request besides pages: an object of its cache that somebody frees. Asked whenever the request has its turn while it waits,
/// and before it fails.
struct alternative {
  const void* what = nullptr;  // those who free one say so to wake_waiters_for()
  bool (*take)(alternative& self) noexcept = nullptr;  // Return: whether there was one; the request is over then, without pages or report
  bool taken = false;
};
/// Something has come free that waiting requests have named as their alternative; nullptr: things of several kinds. To be called after
/// `waiters` was found raised under the lock that the thing was freed under. Context: any.
void wake_waiters_for(page_allocator& pa, const void* what) noexcept;
/// The same where it was freed without a lock, whether somebody waits or not.
void wake_after_lockless_free_of(page_allocator& pa, const void* what) noexcept;
page* alloc_pages_for(page_allocator& pa, const alloc_request& request) noexcept;
/// Drops one reference; the last one frees the block. `order` must be the one it was allocated with. Context: any.
void free_pages(page_allocator& pa, page* p, order_t order) noexcept;
void get_page(page* p) noexcept;
/// Drops a reference and frees the block with the last one. Context: any.
void put_page(page_allocator& pa, page* p) noexcept;
/// Turns an allocated block of order > 0, not compound, into 2^order single pages with one reference each.
void split_page(page_allocator& pa, page* p, order_t order) noexcept;
page* compound_head(page_allocator& pa, page* p) noexcept;
/// The zone whose span holds the page, a head or not.
zone_idx page_zone_idx(page_allocator& pa, const page* p) noexcept;

/// `n` contiguous pages for `bytes`, no more than needed; any number: above MAX_ORDER too (naturally aligned if n is a power of two).
/// `quiet`: as in alloc_request. `room`: it will grow: of the pages behind it so many are left to it as long as there are others.
page* alloc_run(page_allocator& pa, gfp_t gfp, nr_pages_t n, bool quiet = false, nr_pages_t room = nr_pages_t(0)) noexcept;
/// What the first page of such a run is aligned to at least, in pages: the next power of two, but no more than a page block unless `n` is
/// one.
constexpr uint64_t run_alignment(uint64_t n) noexcept {
  uint64_t whole = 1;
  while (whole < n) whole *= 2;
  return whole == n || whole < pages_per_block ? whole : pages_per_block;
}
void free_run(page_allocator& pa, page* p) noexcept;
/// Shrinks a run in place to its first `n` pages. Grows it in place if the pages behind it are free. Return: false if it cannot.
bool resize_run(page_allocator& pa, page* p, nr_pages_t n, gfp_t gfp) noexcept;
nr_pages_t run_pages(const page* p) noexcept;

/// Single pages in bulk (alloc_pages_bulk_array): fills the null entries. Return: entries that are filled now.
unsigned alloc_pages_bulk(page_allocator& pa, gfp_t gfp, unsigned n, page** array) noexcept;

// Addresses, as the kernel has them. get_zeroed_page and __GFP_ZERO write nothing to pages that are known to be zero.
void* get_free_pages(page_allocator& pa, gfp_t gfp, order_t order) noexcept;
void* get_zeroed_page(page_allocator& pa, gfp_t gfp) noexcept;
void free_pages_at(page_allocator& pa, void* address, order_t order) noexcept;
void* alloc_pages_exact(page_allocator& pa, size_t size, gfp_t gfp) noexcept;
void free_pages_exact(page_allocator& pa, void* address, size_t size) noexcept;

/// Charges pages that live outside the arena (vmalloc of an anonymous machine) to the zone of `gfp`, by the same chain. Return: the zone,
/// or -1.
int charge_pages(page_allocator& pa, gfp_t gfp, nr_pages_t n) noexcept;
void uncharge_pages(page_allocator& pa, int zone, nr_pages_t n) noexcept;

/// Counts metadata in the budget, shrinking NORMAL past the allowance. Return: false if the budget has no room. Context: any.
bool charge_metadata(page_allocator& pa, uint64_t n) noexcept;
/// The same; if `gfp` may block, free pages of NORMAL are given back to the system to make room.
bool charge_metadata_for(page_allocator& pa, gfp_t gfp, uint64_t n) noexcept;
/// Makes pages that charge_pages() has charged metadata, with nobody who could take them in between. Return: false, and they are charged as
/// before, unless their zone is NORMAL, from which metadata is taken; also in a handler that cannot have the lock.
bool charge_becomes_metadata(page_allocator& pa, int zone, nr_pages_t n) noexcept;
void uncharge_metadata(page_allocator& pa, uint64_t n) noexcept;

/// Empties the CPU lists into the free areas. may_wait false: only those whose lock is free. Return: pages moved.
uint64_t drain_cpu_pages(page_allocator& pa, bool may_wait) noexcept;
/// Gives free page blocks (and, if asked, single free pages) back to the system until `n` pages are or nothing is left. Return: pages given
/// back. Context: may do system calls; holds no lock over them.
uint64_t give_back(page_allocator& pa, uint64_t n, bool single_pages) noexcept;
/// Fills the reserve and the reclaimers' pool up to their targets, unless another thread does just now. May sleep.
void refill_reserve(page_allocator& pa) noexcept;
/// Halves what a reserve has grown by if nobody needed it for a while (reserve_decay_after_ns), and gives the memory back.
/// Return: whether a reserve is still larger than at the start: then come again. Context: may sleep; no lock held.
bool decay_reserves(page_allocator& pa, uint64_t now_ns) noexcept;
inline constexpr uint64_t reserve_decay_after_ns = 10'000'000'000;  // arbitrary

/// Tells the watch that a slow path ends. Context: any; no lock held.
inline void watch_slow_path(page_allocator& pa) noexcept {
  stat_watch* const watch = pa.watch.load_relaxed();
  if (KMEM_UNLIKELY(watch != nullptr)) watch_event(pa, *watch);
}
/// Sleeps while *word is 0, at most timeout_ns; a request in the watch's mailbox is served, and ends it, too. Context: may sleep; no lock
/// held.
void wait_or_serve(page_allocator& pa, uint32_t* word, uint64_t timeout_ns) noexcept;

/// Changes the budget, to no more than it was at the start. Free memory is given back for it, and nothing else. Return: pages that are in
/// the way: then nothing has changed. Context: may sleep; no lock held.
uint64_t set_budget(page_allocator& pa, nr_pages_t limit) noexcept;
/// What the budget is now. Context: any.
nr_pages_t budget_now(const page_allocator& pa) noexcept;

// For background reclaim. Zones up to `highest` count, with what they keep from requests for `highest`; but DMA and DMA32 only for who
// asks for them: being small, they would hide that NORMAL is empty.
constexpr unsigned lowest_counted(zone_idx highest) noexcept {
  return static_cast<unsigned>(highest < zone_idx::normal ? highest : zone_idx::normal);
}
/// Is one of them above its watermark with n pages taken?
bool some_zone_above(const page_allocator& pa, watermark mark, uint64_t n, zone_idx highest) noexcept;
/// Pages that are missing until that is so with one page; 0 if it is.
uint64_t pages_missing(const page_allocator& pa, watermark mark, zone_idx highest) noexcept;
/// Pages by which all zones up to `highest` together are below their watermarks: if so many come free, one of them is there, whichever
/// they belong to.
uint64_t pages_below(const page_allocator& pa, watermark mark, zone_idx highest) noexcept;
/// Pages that were ever freed: moves whenever somebody frees. Context: any; looks at every CPU's lists.
uint64_t nr_freed_pages(const page_allocator& pa) noexcept;
/// Gives scattered pages back until a block of 2^order can be backed in one piece, for requests that cannot do that themselves. Context:
/// may sleep; no lock held.
void make_room_for_block(page_allocator& pa, order_t order, zone_idx highest) noexcept;

/// The watermark test: may a request with these rights take pages of zone z now? (The rule alone, for tests and reports.)
struct watermark_request {
  gfp_t gfp;
  bool realtime = false;
  bool reserve_step = false;  // the chain has come to the reserve
};
uint64_t watermark_floor(const page_allocator& pa, const zone& z, const watermark_request& request) noexcept;

/// A consistent snapshot for texts and tests. Free blocks are counted as maximal aligned runs of usable pages, present and absent.
struct zone_snapshot {
  uint64_t managed, spanned, charged, free, present_free, in_cpu_lists, in_transit, reserve;
  // managed = charged + free + in_cpu_lists + pool
  uint64_t pool;  // the reclaimers' pages (NORMAL)
  uint64_t committed;
  uint64_t min, low, high;
  uint64_t nr_free_runs[11][nr_migratetypes];  // by order; order 10: two blocks
};
void snapshot_zone(page_allocator& pa, zone_idx idx, zone_snapshot& result) noexcept;
void page_alloc_read_totals(const page_allocator& pa, page_alloc_totals& totals) noexcept;
/// Total pages: charged (all zones), and what the budget still has.
uint64_t charged_pages(const page_allocator& pa) noexcept;
uint64_t free_pages_total(const page_allocator& pa) noexcept;
/// "DMA", "DMA32", "Normal", "HighMem", "Movable": the kernel's names.
const char* zone_name(zone_idx idx) noexcept;
/// Copies failure record number `sequence` (1-based). Return: false if it is not kept any more or not there yet.
bool read_failure(page_allocator& pa, uint64_t sequence, alloc_failure& result) noexcept;

/// The same for the record of a long sleep.
bool read_sleep(page_allocator& pa, uint64_t sequence, sleep_record& result) noexcept;

/// Lets requests go on that wait for kswapd: free memory is back above half of min, or kswapd does not get on. Context: any.
void end_throttling(page_allocator& pa) noexcept;

/// Walks every structure under its locks and compares descriptors, bitmaps, lists and counters. Return: nullptr, or what is wrong.
const char* page_alloc_is_valid(page_allocator& pa) noexcept;

/// fork: takes every lock of the layer in rank order; gives them back in the parent; makes them free in the child.
void page_alloc_fork_prepare(page_allocator& pa) noexcept;
void page_alloc_fork_parent(page_allocator& pa) noexcept;
void page_alloc_fork_child(page_allocator& pa) noexcept;

}  // inline namespace
}  // namespace kmem
