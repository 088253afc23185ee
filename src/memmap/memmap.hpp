// Front header of the layer `memmap`: the arena, page descriptors, conversions, the machine's configuration and its budget.
//
// The arena is one reservation of address space, PROT_NONE, opened forward in sections; pfn = (address - base) >> 12. Beside it
// lie flat arrays: page descriptors (64 bytes a page), page-block descriptors (256 bytes a block) and, directly below the arena, the
// class map (one byte a page: size class of the slab the page belongs to, 0 = no slab). All are touched lazily and given back with their
// block.
//
// Budget: charged + free present + metadata <= limit, always (pages; metadata includes the page tables that the arena causes).
#pragma once
#include <span>

#include "memmap/page.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

/// Who may use the last pages. spec: GFP_ATOMIC down to the last free page. linux6_1: the depths of Linux 6.1.
enum class reserve_policy : uint8_t { spec, linux6_1 };
/// Whether a thread of the library's own reclaims in the background. when_threaded: once the process has a second thread.
enum class kswapd_mode : uint8_t { off, on, when_threaded };
enum class checker_mode : uint8_t { off, on, in_debug_builds };

/// Everything that can be configured, with the kernel's parameter names where it has one. Sizes in bytes; 0 = "choose".
struct machine_config {
  uint64_t mem = 0;                              // mem=SIZE: the budget; 0 (mem=auto): cgroup limit less headroom, else physical memory
  uint32_t mem_percent = 0;                      // mem=N%: the budget as a share of the cgroup limit or physical memory; 0: none stated
  uint64_t span = 0;                             // span=: address space of NORMAL; 0: chosen from the budget
  backing kind = backing::anon;                  // backing=anon|memfd
  uint8_t max_order = 11;                        // max_order=10|11, exclusive as in kernels before 6.4
  reserve_policy policy = reserve_policy::spec;  // vm.reserve_policy=spec|linux6.1
  uint64_t zone_dma = 0;                         // zone_dma=: managed size of DMA; 0: 1/32 of the budget, at most 16 MiB
  uint64_t zone_dma32 = 0;                       // zone_dma32=; 0: none
  uint64_t zone_highmem = 0;                     // highmem=
  uint64_t zone_movable = 0;                     // movablecore=
  uint64_t min_free_kbytes = 0;                  // vm.min_free_kbytes; 0: by the kernel's formula
  uint32_t watermark_scale_factor = 10;          // vm.watermark_scale_factor, in 1/10000
  uint32_t lowmem_reserve_ratio[nr_zones] = {256, 256, 32, 0, 0};  // vm.lowmem_reserve_ratio
  uint64_t reserve_backed_kbytes = ~uint64_t{0};  // vm.reserve_backed_kbytes: pre-faulted part of the reserve; ~0: all of min
  uint64_t keep_free_kbytes = ~uint64_t{0};       // vm.keep_free_kbytes: free memory that stays backed; ~0: all of it
  uint64_t kmalloc_max = 0;                       // kmalloc_max=: largest kmalloc; 0: MAX_ORDER block
  uint32_t alloc_wait_ms = 0;                     // vm.alloc_wait_ms
  kswapd_mode kswapd = kswapd_mode::when_threaded;  // vm.kswapd=
  uint32_t sleep_record_ms = 100;                 // vm.sleep_record_ms
  checker_mode reclaim_checker = checker_mode::in_debug_builds;  // vm.reclaim_checker=
  context_policy on_broken_context = context_policy::report;     // context_policy=
  uint32_t cpus = 0;                              // possible CPUs; 0: the platform's
  bool stat = false;                              // stat=: publish figures in a segment
  uint32_t stat_keep = 0;                         // stat=keep:PID: the process whose last figures stay; 0: none's
  bool cgroup = true;                             // look for a container's limit when mem is 0
  const char* path_prefix = "";                   // in front of /proc and /sys, so that tests can play a container
  fail_attributes fail[nr_fail_points];
};

/// A message about a parameter: what is wrong with it and what would be right.
struct config_error {
  char text[200] = {};
};

/// One row of the table of parameters, from which help texts and docs/parameters.md are made.
struct parameter_info {
  const char* name;           // as in name=value
  const char* values;         // what may be given, with its unit
  const char* default_value;  // as it could be given, or in words
  const char* example;        // a value that is accepted
  const char* help;           // one line
};
/// All parameters that parse_config knows, in the order of the documentation. Context: any.
std::span<const parameter_info> parameters() noexcept;

/// Reads "name=value name=value" (KMEM_CMDLINE; nullptr: nothing) into `config`; `-` and `_` are the same in names and the last of equal
/// names counts, as in the kernel. Return: false, `config` unchanged and `error` set when a name is unknown, a value malformed or the
/// result contradicts itself. Context: any.
bool parse_config(const char* cmdline, machine_config& config, config_error& error) noexcept;
/// The parameter with that name, `-` and `_` being the same. Return: nullptr if there is none. Context: any.
const parameter_info* find_parameter_info(const char* name, size_t length) noexcept;
/// Writes the value of the parameter with exactly that name, as parse_config would read it. Return: false if there is none. Context: any.
bool write_parameter(const machine_config& config, const char* name, text_writer& out) noexcept;
/// Checks ranges and what must fit together (zones within mem=). Return: false with `error` set. Context: any.
bool config_is_valid(const machine_config& config, config_error& error) noexcept;
/// Reads one size: digits with K, M, G, T (1024) or nothing. Return: false if malformed or too large.
bool parse_size(const char* text, size_t length, uint64_t& bytes) noexcept;

/// The tightest memory limit (memory.max, memory.high, memory.limit_in_bytes) of the cgroups, v2 and v1, that the process is in, up the
/// hierarchy. Return: bytes, or 0 for none. `usage_bytes` receives what the group with that limit uses, inactive file cache left out.
/// Context: reads files; makes and drops a small mapping.
uint64_t cgroup_limit(const char* path_prefix, uint64_t& usage_bytes) noexcept;

/// Below this no machine is made: the smallest amount that one MAX_ORDER block fits in.
inline constexpr uint64_t min_budget_bytes = uint64_t{4} << 20;
/// Budgets are multiples of this when they are chosen rather than stated: the largest block.
inline constexpr uint64_t budget_step_bytes = uint64_t{4} << 20;
/// No machine is larger: half of what 32-bit page numbers reach, so that a span has room beyond its budget.
inline constexpr uint64_t max_budget_bytes = uint64_t{8} << 40;

enum class budget_source : uint8_t { stated, percent_of_cgroup, percent_of_physical, cgroup, physical };
const char* budget_source_name(budget_source source) noexcept;
/// A budget and where it comes from, for reports.
struct budget_choice {
  nr_pages_t pages;
  budget_source source = budget_source::physical;
  uint64_t cgroup_limit_bytes = 0;  // of the group that decided; 0: none was looked for or found
  uint64_t cgroup_usage_bytes = 0;  // of that group, ours included, inactive file cache left out
  uint64_t physical_bytes = 0;
};
/// The budget that `config` asks for: mem=, else what the tightest container leaves, else physical memory. May sleep (reads /proc and
/// /sys).
budget_choice choose_budget_explained(const machine_config& config) noexcept;
nr_pages_t choose_budget(const machine_config& config) noexcept;
/// What the tightest container leaves now to a machine that uses `own_bytes` of its usage. Return: pages; more than any machine has if no
/// container has a limit. May sleep (reads /proc and /sys).
nr_pages_t budget_left_by_groups(const machine_config& config, uint64_t own_bytes) noexcept;

/// A reservation that map_metadata fills from its start.
struct metadata_area {
  address_reservation home;
  size_t used_bytes = 0;  // opened and handed out; a multiple of the page size
};
inline constexpr unsigned nr_metadata_areas = 24;  // each twice the one before, from 4 MiB: more than any address space

/// The memory of one machine: arena, descriptor arrays, budget. Written at init; afterwards only what is marked.
struct memory_map {
  char* base = nullptr;          // address of pfn 0
  uint32_t span_pages = 0;       // pfns are below this
  page* pages = nullptr;         // [span_pages]
  page_block* blocks = nullptr;  // [span_pages / pages_per_block]
  uint8_t* class_map = nullptr;  // [span_pages]; directly below the arena when one reservation could hold both
  address_reservation arena, descriptors, block_descriptors;
  address_reservation class_map_area;  // the class map's own reservation when the arena is a memfd; else unused
  metadata_area metadata[nr_metadata_areas] KMEM_GUARDED_BY(section_lock);
  unsigned nr_metadata KMEM_GUARDED_BY(section_lock) = 0;  // areas in use; the last one is the one being filled
  machine_config config;
  nr_pages_t limit;                    // the budget in pages
  atomic<uint64_t> metadata_pages{0};  // counted metadata: descriptors, maps, page tables, per-CPU areas
  atomic<uint64_t> metadata_peak{0};
  ranked_lock section_lock{lock_rank::section};

  page& page_of(pfn_t pfn) noexcept { return pages[pfn.raw()]; }
  pfn_t pfn_of(const page* p) const noexcept { return pfn_t(static_cast<uint32_t>(p - pages)); }
  char* address_of(pfn_t pfn) const noexcept { return base + (size_t{pfn.raw()} << page_shift); }
  /// False for NULL and for every address outside the arena.
  bool contains(const void* address) const noexcept {
    return (reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(base)) >> page_shift < span_pages;
  }
  /// Is the page's block open, so that its descriptor can be looked at? For pointers that may be wild.
  bool is_open(pfn_t pfn) const noexcept { return blocks[pfn.raw() / pages_per_block].opened != 0; }
  pfn_t pfn_of(const void* address) const noexcept {
    return pfn_t(static_cast<uint32_t>((reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(base)) >> page_shift));
  }
  uint32_t nr_blocks() const noexcept { return span_pages / pages_per_block; }
};

/// Pages of metadata that opening one block costs: its descriptors (8), its page table (1), and its share of maps, rounded up per section.
inline constexpr uint32_t metadata_pages_per_block = 9;
/// Upper bound of what opening `n` neighbouring blocks can cost in all: descriptors and page tables, the pages of the class map (512 bytes
/// a block) and of the block descriptors (256 bytes) they share, and the page tables of those arrays.
constexpr nr_pages_t metadata_pages_for_blocks(uint64_t n) noexcept {
  if (n == 0) return nr_pages_t(0);
  const uint64_t array_pages =
      8 * n + (n * pages_per_block + page_size - 1) / page_size + 1 + (n * sizeof(page_block) + page_size - 1) / page_size + 1;
  return nr_pages_t(array_pages + n + array_pages / pages_per_block + 4);
}

/// Spans are multiples of this, and the arena's base too, so that blocks of every order are naturally aligned as addresses.
inline constexpr size_t span_step_bytes = size_t{4} << 20;

/// Reserves the arena for `span_pages` and its arrays for a budget of `limit` pages. When the system refuses, or would leave the rest of
/// the process no address space, smaller spans are tried down to `least_pages`; a limit above the span that was got is lowered to it, with
/// a message. Nothing is opened yet. Return: err::inval (reported) for a limit below min_budget_bytes or a config that is not valid;
/// err::nomem if even the smallest span is refused; `m` as before. May sleep.
err memmap_init(memory_map& m, const machine_config& config, nr_pages_t limit, nr_pages_t span_pages, nr_pages_t least_pages) noexcept;
/// Gives everything back to the system; `m` can be initialised again. Nobody may use the machine any more.
void memmap_destroy(memory_map& m) noexcept;

/// Blocks that are opened by one set of system calls: 64 MiB.
inline constexpr uint32_t section_blocks = 32;

/// Opens blocks [first, first + n), their descriptors and their part of the class map (readable and writable; nothing is touched, and no
/// field of a page_block is set), section by section. Any order of ranges, again and again, is fine. Passes fail_mmap four times a section.
/// Return: blocks opened from `first` on: fewer than n at the end of the span or where the system refuses. Of the refused section some
/// array pages may stay open, which later openings find as they are; fewer blocks may then be tried. Context: does system calls;
/// section_lock held.
uint32_t open_blocks(memory_map& m, uint32_t first, uint32_t n) noexcept KMEM_REQUIRES(m.section_lock);

/// Metadata (per-CPU arrays, page lists): whole pages that read as zero, page-aligned, untouched and never given back before
/// memmap_destroy. The caller charges them as he touches them. Passes fail_mmap. Return: nullptr when refused, for 0 bytes, or if a nested
/// slow path finds the section lock taken. Context: any that may do system calls.
char* map_metadata(memory_map& m, size_t bytes) noexcept KMEM_EXCLUDES(m.section_lock);

}  // inline namespace
}  // namespace kmem
