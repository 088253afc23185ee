// Front header of the layer `memmap`: the arena, page descriptors, conversions, the machine's configuration and its budget.
//
// The arena is one reservation of address space, PROT_NONE, opened forward in sections; pfn = (address - base) >> 12. Beside it
// lie flat arrays: page descriptors (64 bytes a page), page-block descriptors (256 bytes a block) and, directly below the arena, the
// class map (one byte a page: size class of the slab the page belongs to, 0 = no slab). All are touched lazily and given back with their block.
//
// Budget: charged + free present + metadata <= limit, always (pages; metadata includes the page tables that the arena causes).
#pragma once
#include "memmap/page.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

/// Who may use the last pages. spec: GFP_ATOMIC down to the last free page. linux6_1: the depths of Linux 6.1.
enum class reserve_policy : uint8_t { spec, linux6_1 };

/// Everything that can be configured, with the kernel's parameter names where it has one. Sizes in bytes; 0 = "choose".
struct machine_config {
  uint64_t mem = 0;                    // mem=: the budget; 0: cgroup limit (80 %), else physical memory
  uint64_t span = 0;                   // address space of NORMAL; 0: chosen from the budget
  backing kind = backing::anon;        // backing=anon|memfd
  uint8_t max_order = 11;              // max_order=10|11, exclusive as in kernels before 6.4
  reserve_policy policy = reserve_policy::spec;  // vm.reserve_policy=spec|linux6.1
  uint64_t zone_dma = 0;               // zone_dma=: managed size of DMA; 0: 1/32 of the budget, at most 16 MiB
  uint64_t zone_dma32 = 0;             // zone_dma32=; 0: none
  uint64_t zone_highmem = 0;           // highmem=
  uint64_t zone_movable = 0;           // movablecore=
  uint64_t min_free_kbytes = 0;        // vm.min_free_kbytes; 0: by the kernel's formula
  uint32_t watermark_scale_factor = 10;  // vm.watermark_scale_factor, in 1/10000
  uint32_t lowmem_reserve_ratio[nr_zones] = {256, 256, 32, 0, 0};  // vm.lowmem_reserve_ratio
  uint64_t reserve_backed_kbytes = ~uint64_t{0};  // vm.reserve_backed_kbytes: pre-faulted part of the reserve; ~0: all of min
  uint64_t kmalloc_max = 0;            // kmalloc_max=: largest kmalloc; 0: MAX_ORDER block
  uint32_t alloc_wait_ms = 0;          // vm.alloc_wait_ms
  uint32_t cpus = 0;                   // possible CPUs; 0: the platform's
  bool cgroup = true;                  // look for a container's limit when mem is 0
  const char* path_prefix = "";        // in front of /proc and /sys, so that tests can play a container
  fail_attributes fail[nr_fail_points];
};

/// A message about a parameter: what is wrong with it and what would be right.
struct config_error {
  char text[200] = {};
};

/// Reads "name=value name=value" (KMEM_CMDLINE) into `config`. Return: false, `config` unchanged and `error` set when a name is unknown or a
/// value malformed. Context: any.
bool parse_config(const char* cmdline, machine_config& config, config_error& error) noexcept;
/// Reads one size: digits with K, M, G, T (1024) or nothing. Return: false if malformed or too large.
bool parse_size(const char* text, size_t length, uint64_t& bytes) noexcept;

/// The tightest memory limit of the cgroups (v2 and v1) that the process is in, up the hierarchy. Return: bytes, or 0 for none.
/// `usage_bytes` receives the usage of the group with that limit.
uint64_t cgroup_limit(const char* path_prefix, uint64_t& usage_bytes) noexcept;

/// The memory of one machine: arena, descriptor arrays, budget. Written at init; afterwards only what is marked.
struct memory_map {
  char* base = nullptr;             // address of pfn 0
  uint32_t span_pages = 0;          // pfns are below this
  page* pages = nullptr;            // [span_pages]
  page_block* blocks = nullptr;     // [span_pages / pages_per_block]
  uint8_t* class_map = nullptr;     // [span_pages]; directly below the arena when one reservation could hold both
  reservation arena, descriptors, block_descriptors;
  machine_config config;
  nr_pages_t limit;                 // the budget in pages
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
  pfn_t pfn_of(const void* address) const noexcept {
    return pfn_t(static_cast<uint32_t>((reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(base)) >> page_shift));
  }
  uint32_t nr_blocks() const noexcept { return span_pages / pages_per_block; }
};

/// Pages of metadata that opening one block costs: its descriptors (8), its page table (1), and its share of maps, rounded up per section.
inline constexpr uint32_t metadata_pages_per_block = 9;

/// Chooses the budget (config.mem, cgroup, physical memory), reserves the arena for `span_pages` and its arrays; smaller spans are tried down
/// to `least_pages` when the system refuses. Nothing is opened yet. Return: err::nomem if even that is refused; `m` as before. May sleep.
err memmap_init(memory_map& m, const machine_config& config, nr_pages_t limit, nr_pages_t span_pages, nr_pages_t least_pages) noexcept;
/// The budget in pages that `config` asks for, by the rules above. May sleep (reads /proc and /sys).
nr_pages_t choose_budget(const machine_config& config) noexcept;
/// Gives everything back to the system. Nobody may use the machine any more.
void memmap_destroy(memory_map& m) noexcept;

/// Opens blocks [first, first + n) and their descriptors (readable and writable; nothing is touched). One mprotect a section. Passes
/// fail_mmap. Return: blocks opened from `first` on (0 when refused; may be fewer than n). Context: may do system calls; section_lock held.
uint32_t open_blocks(memory_map& m, uint32_t first, uint32_t n) noexcept KMEM_REQUIRES(m.section_lock);

/// A metadata area of its own (per-CPU arrays, sheaves), readable and writable, counted page by page as it is used. Return: nullptr when refused.
char* map_metadata(memory_map& m, size_t bytes) noexcept;

}  // inline namespace
}  // namespace kmem
