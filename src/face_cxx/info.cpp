// Figures, failures, texts and messages of the C++ face, with symbols: this is outside the core, so the dynamic linker may be asked.
//
// Contexts. As declared in kmem/info.hpp. Tests. tests/unit/face_cxx/info_test.cpp
#include "face_cxx/face_cxx.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/mman.h>

namespace kmem {
namespace {

constinit real::atomic<message_sink> user_sink{nullptr};

/// Hands messages on, with the levels of the public header.
void forward_message(log_level level, const char* text, size_t size, const void* const* pcs, unsigned nr_pcs) noexcept {
  const message_sink sink = user_sink.load_acquire();  // pairs: user_sink
  if (sink != nullptr) sink(static_cast<message_level>(level), text, size, pcs, nr_pcs);
}

const char* base_name(const char* path) noexcept {
  const char* name = path;
  for (; *path != '\0'; ++path)
    if (*path == '/') name = path + 1;
  return name;
}

/// As the kernel's %pS: symbol+offset/size [object].
void write_symbol(text_writer& out, const void* pc) noexcept {
  Dl_info info{};
  const ElfW(Sym)* symbol = nullptr;
  const auto address = reinterpret_cast<uintptr_t>(pc);
  if (dladdr1(const_cast<void*>(pc), &info, reinterpret_cast<void**>(const_cast<ElfW(Sym)**>(&symbol)), RTLD_DL_SYMENT) == 0 ||
      info.dli_fname == nullptr) {
    write_raw_pc(out, pc);
    return;
  }
  if (info.dli_sname != nullptr) {
    out.str(info.dli_sname).str("+0x").hex(address - reinterpret_cast<uintptr_t>(info.dli_saddr));
    if (symbol != nullptr) out.str("/0x").hex(symbol->st_size);
    out.str(" [").str(base_name(info.dli_fname)).ch(']');
  } else {  // addr2line -e OBJECT OFFSET tells the rest
    out.str(base_name(info.dli_fname)).str("+0x").hex(address - reinterpret_cast<uintptr_t>(info.dli_fbase));
  }
}

uint64_t resident_in(const void* begin, size_t size) noexcept {
  constexpr size_t step_pages = 4096;  // arbitrary: 16 MiB a call, 4 KiB of stack
  unsigned char present[step_pages];
  uint64_t pages = 0;
  for (size_t offset = 0; offset < size; offset += step_pages * page_size) {
    const size_t part = size - offset < step_pages * page_size ? size - offset : step_pages * page_size;
    char* const at = static_cast<char*>(const_cast<void*>(begin)) + offset;
    if (mincore(at, part, present) != 0) continue;
    for (size_t i = 0; i < part / page_size; ++i) pages += present[i] & 1u;
  }
  return pages * page_size;
}

void fill_zone(machine& m, zone_idx idx, zone_info& zone) noexcept {
  zone_snapshot s;
  snapshot_zone(m, idx, s);
  zone.name = zone_name(idx);
  zone.spanned_pages = s.spanned;
  zone.managed_pages = s.managed;
  zone.charged_pages = s.charged;
  zone.free_pages = s.free;
  zone.present_free_pages = s.present_free;
  zone.cpu_list_pages = s.in_cpu_lists;
  zone.transit_pages = s.in_transit;
  zone.reserve_pages = s.reserve;
  zone.min_pages = s.min;
  zone.low_pages = s.low;
  zone.high_pages = s.high;
}

alloc_failure to_core(const allocation_failure& f) noexcept {
  alloc_failure record;
  record.sequence = f.sequence;
  record.time_ns = f.time_ns;
  record.gfp = f.gfp;
  record.order = f.order;
  record.bytes = f.bytes;
  for (unsigned step = 0; step <= nr_chain_steps; ++step)
    if (__builtin_strcmp(f.step, chain_step_name(static_cast<chain_step>(step))) == 0) record.reached = static_cast<chain_step>(step);
  for (unsigned zone = 0; zone < nr_zones; ++zone)
    if (__builtin_strcmp(f.zone, zone_name(static_cast<zone_idx>(zone))) == 0) record.zone = static_cast<uint8_t>(zone);
  record.managed = f.managed_pages;
  record.charged = f.charged_pages;
  record.free = f.free_pages;
  record.reserve = f.reserve_pages;
  record.in_cpu_lists = f.cpu_list_pages;
  record.in_transit = f.transit_pages;
  record.limit = f.limit_pages;
  record.metadata = f.metadata_pages;
  record.preempt_count = f.preempt_count;
  __builtin_memcpy(record.comm, f.thread, sizeof record.comm);
  text_writer(record.cache, sizeof record.cache).str(f.cache);
  static_assert(sizeof record.pcs == sizeof f.pcs);
  __builtin_memcpy(record.pcs, f.pcs, sizeof record.pcs);
  record.nr_pcs = f.nr_pcs < printk_max_pcs ? f.nr_pcs : printk_max_pcs;
  return record;
}

/// A text about the process's machine; empty when it did not start.
template <class Writer, class... More>
size_t text_of(Writer* write, char* buffer, size_t capacity, More... more) noexcept {
  machine* const m = serving();
  return m != nullptr ? write(*m, buffer, capacity, more...) : text_writer(buffer, capacity).length();
}

}  // namespace

bool read_memory_info(memory_info& result) noexcept {
  machine* const m = serving();
  if (m == nullptr) return false;
  result = {};
  result.limit_bytes = bytes(m->limit);
  result.metadata_bytes = m->metadata_pages.load_relaxed() << page_shift;
  result.metadata_peak_bytes = m->metadata_peak.load_relaxed() << page_shift;
  result.vmalloc_bytes = m->vmalloc_pages.load_relaxed() << page_shift;
  result.failures = m->failure_sequence.load_relaxed();
  for (const real::atomic<uint64_t>& of_zone : m->stats.allocstall) result.reclaim_rounds += of_zone.load_relaxed();
  result.reclaimed_pages = m->stats.pgreclaimed.load_relaxed();
  result.given_back_pages = m->stats.pages_given_back.load_relaxed();
  static_assert(zones_max == nr_zones);
  for (const zone& z : m->zones) {
    if (z.nr_blocks == 0) continue;
    zone_info& zone = result.zones[result.nr_zones++];
    fill_zone(*m, z.idx, zone);
    result.charged_peak_bytes += z.taken_peak.load_relaxed() << page_shift;
    result.charged_bytes += zone.charged_pages << page_shift;
    result.free_present_bytes += zone.present_free_pages << page_shift;
    result.cpu_list_bytes += zone.cpu_list_pages << page_shift;
    result.reserve_bytes += zone.reserve_pages << page_shift;
    result.transit_bytes += zone.transit_pages << page_shift;
  }
  return true;
}

uint64_t resident_bytes() noexcept {
  if (!is_serving()) return 0;
  machine& m = owner();
  uint64_t total = 0;
  for (zone& z : m.zones) {
    uint32_t opened = 0;
    {
      const lock_guard lock(z.lock);
      opened = z.opened_blocks;
    }
    total += resident_in(m.base + size_t{z.first_block} * block_bytes, size_t{opened} * block_bytes);
  }
  vmap_info area{};
  for (const char* from = nullptr; read_vmap_info(m, from, area);
       from = static_cast<const char*>(area.begin) + bytes(nr_pages_t(area.nr_pages)))
    if (!area.frames) total += resident_in(area.begin, bytes(nr_pages_t(area.nr_pages)));
  return total;
}

bool read_kmem_cache_info(unsigned index, kmem_cache_info& result) noexcept {
  machine* const m = serving();
  cache_info info{};
  if (m == nullptr || !read_cache_info(*m, index, info)) return false;
  result = {};
  __builtin_memcpy(result.name, info.name, sizeof result.name);
  result.object_size = info.object_size;
  result.size = info.size;
  result.align = info.align;
  result.objects_per_slab = info.objects_per_slab;
  result.pages_per_slab = info.pages_per_slab;
  result.active = info.active;
  result.total = info.total;
  result.slabs = info.slabs;
  result.partial_slabs = info.partial_slabs;
  result.in_cpu_arrays = info.in_arrays;
  result.in_sheaves = info.in_barn;
  return true;
}

void reset_alloc_path() noexcept { real::current().deepest_path = 0; }

alloc_path deepest_alloc_path() noexcept {
  static_assert(static_cast<uint8_t>(alloc_path::slab_refill) == path_slab_refill &&
                static_cast<uint8_t>(alloc_path::page_allocator) == path_page_allocator &&
                static_cast<uint8_t>(alloc_path::chain) == path_chain);
  return static_cast<alloc_path>(real::current().deepest_path);
}

uint64_t drain() noexcept {
  check_may_sleep(__FILE__, __LINE__);
  machine* const m = serving();
  if (m == nullptr) return 0;
  const uint64_t freed = drain_caches(*m, true);
  return freed + drain_cpu_pages(*m, true);
}

uint64_t failures_total() noexcept { return is_serving() ? owner().failure_sequence.load_relaxed() : 0; }

bool read_allocation_failure(uint64_t sequence, allocation_failure& result) noexcept {
  alloc_failure record;
  if (!is_serving() || !read_failure(owner(), sequence, record)) return false;
  result = {};
  result.sequence = record.sequence;
  result.time_ns = record.time_ns;
  result.gfp = record.gfp;
  result.order = record.order;
  result.bytes = record.bytes;
  result.step = chain_step_name(record.reached);
  result.zone = zone_name(static_cast<zone_idx>(record.zone));
  result.managed_pages = record.managed;
  result.charged_pages = record.charged;
  result.free_pages = record.free;
  result.reserve_pages = record.reserve;
  result.cpu_list_pages = record.in_cpu_lists;
  result.transit_pages = record.in_transit;
  result.limit_pages = record.limit;
  result.metadata_pages = record.metadata;
  result.preempt_count = record.preempt_count;
  __builtin_memcpy(result.thread, record.comm, sizeof result.thread);
  text_writer(result.cache, sizeof result.cache).str(record.cache);
  __builtin_memcpy(result.pcs, record.pcs, sizeof result.pcs);
  result.nr_pcs = record.nr_pcs;
  return true;
}

uint64_t long_sleeps_total() noexcept { return is_serving() ? owner().sleep_sequence.load_relaxed() : 0; }

bool read_long_sleep(uint64_t sequence, long_sleep& result) noexcept {
  static constexpr const char* ends[] = {"none", "served", "exhausted", "timed_out", "interrupted", "stopped"};
  sleep_record record;
  if (!is_serving() || !read_sleep(owner(), sequence, record)) return false;
  result = {};
  result.sequence = record.sequence;
  result.time_ns = record.time_ns;
  result.slept_ns = record.slept_ns;
  result.gfp = record.gfp;
  result.order = record.order;
  result.pages = record.pages;
  result.bytes = record.bytes;
  result.turns = record.wakes;
  result.thread_id = record.thread;
  __builtin_memcpy(result.thread, record.comm, sizeof result.thread);
  result.waker_id = record.waker;
  __builtin_memcpy(result.waker, record.waker_comm, sizeof result.waker);
  result.cause = wake_cause_name(record.cause);
  result.end = ends[static_cast<unsigned>(record.outcome)];
  return true;
}

size_t failure_text(const allocation_failure& failure, char* buffer, size_t capacity) noexcept {
  return write_failure(to_core(failure), buffer, capacity, write_symbol);
}

size_t symbol_text(const void* pc, char* buffer, size_t capacity) noexcept {
  text_writer out(buffer, capacity);
  write_symbol(out, pc);
  return out.length();
}

bool read_page_block(uint64_t from, page_block_info& result) noexcept {
  machine* const m = serving();
  block_use use;
  if (m == nullptr || from > ~uint32_t{0} || !read_block_use(*m, static_cast<uint32_t>(from), use)) return false;
  result = {};
  result.number = use.number;
  result.zone = zone_name(use.zone);
  result.mobility = migratetype_name(use.type);
  result.used_pages = use.used;
  result.free_present_pages = use.free_present;
  result.absent_pages = use.absent;
  result.transit_pages = use.transit;
  result.slab_pages = use.slab;
  if (use.used != 0) result.owner = use.slab * 2 >= use.used ? block_owner::slabs : block_owner::pages;
  __builtin_memcpy(result.cache, use.cache, sizeof result.cache);
  for (unsigned i = 0; i < pages_per_block; ++i) result.pages[i] = static_cast<uint8_t>(use.pages[i]);
  return true;
}

size_t slabinfo_text(char* buffer, size_t capacity) noexcept { return text_of(write_slabinfo, buffer, capacity); }
size_t buddyinfo_text(char* buffer, size_t capacity) noexcept { return text_of(write_buddyinfo, buffer, capacity); }
size_t zoneinfo_text(char* buffer, size_t capacity) noexcept { return text_of(write_zoneinfo, buffer, capacity); }
size_t vmstat_text(char* buffer, size_t capacity) noexcept { return text_of(write_vmstat, buffer, capacity); }
size_t meminfo_text(char* buffer, size_t capacity) noexcept { return text_of(write_meminfo, buffer, capacity); }
size_t vmallocinfo_text(char* buffer, size_t capacity) noexcept { return text_of(write_vmallocinfo, buffer, capacity, write_symbol); }

void set_message_sink(message_sink sink) noexcept {
  user_sink.store_release(sink);  // pairs: user_sink
  set_printk_sink(sink != nullptr ? forward_message : nullptr);
}

void reset_message_sink() noexcept { set_printk_sink(printk_to_stderr); }

uint64_t read_message(uint64_t sequence, message_level& level, char* buffer, size_t capacity) noexcept {
  log_level core_level{};
  const uint64_t next = printk_read(sequence, core_level, buffer, capacity);
  if (next != 0) level = static_cast<message_level>(core_level);
  return next;
}

const char* validate() noexcept {
  machine* const m = serving();
  if (m == nullptr) return "the allocator did not start";
  kswapd_stop(*m);  // the one thread that allocates and frees without the program's doing
  return machine_is_valid(*m);
}

}  // namespace kmem
