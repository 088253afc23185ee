// Reserves the memory of a machine, opens it section by section and gives it back.
//
// What for. One machine's "physical memory" is a range of addresses that cost nothing until they are opened and touched.
// Layout.  anon:   [ slack | class map | arena ]   one reservation, so that a pointer's class is one load relative to the arena
//          memfd:  [ arena ] = the file, offset pfn << 12; the class map has a reservation of its own
//          and a reservation each for the page descriptors and the block descriptors.
// Reading. The class map and the block descriptors can be read from the start, as zeroes, so that any address in the arena can be looked
//          up: a wild pointer is no object of a closed block, and no fault.
// States.  A block is closed (PROT_NONE) or open (readable and writable for good). Opening asks for four ranges; each is idempotent, so
//          that a refusal halfway leaves open pages that nobody counts on and that the next try finds as they are.
// Equations. base % 4 MiB == 0, span_pages % 1024 == 0, limit <= span_pages.
// Locks.   open_blocks and the metadata areas: section_lock, which is held over mprotect; nothing below it is ever waited for.
//          Init and destroy: nobody else uses the machine.
// Ordering. None of its own: whoever opens a block publishes it under his zone's lock.
// Kernel.  There the memory map is laid out at boot from what the firmware says. Here address space is what must be found, and a
//          refusal (ulimit -v) is answered with a smaller span, as long as the budget still fits.
// Tests.   tests/unit/memmap/memmap_test.cpp, tests/unit/memmap/limits_test.cpp
#include "memmap/memmap.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr uint64_t span_step_pages = span_step_bytes >> page_shift;
constexpr uint64_t max_span_pages = (uint64_t{1} << 32) - span_step_pages;  // pfns have 32 bits
constexpr size_t first_metadata_area_bytes = size_t{4} << 20;               // arbitrary: 256 CPUs' first arrays

/// A span that was refused once is taken at a smaller size only if a further quarter of it could be had as well: threads' stacks and
/// the program's own mappings live in the same address space. The share is arbitrary.
constexpr size_t spare_divisor = 4;

struct parts {
  address_reservation arena, class_map_area, descriptors, block_descriptors;
  size_t class_map_room = 0;  // bytes in front of the base inside `arena`
};

constexpr size_t class_map_bytes(uint64_t span_pages) noexcept { return round_up(span_pages, page_size); }

address_reservation reserve_part(size_t bytes, size_t align_bytes, backing kind) noexcept {
  if (should_fail(fail_point::fail_mmap, bytes)) return {};
  return plat::reserve(bytes, align_bytes, kind);
}

void release_part(address_reservation& r) noexcept {
  if (r.base != nullptr) plat::release(r);
  r = {};
}

void release_parts(parts& p) noexcept {
  release_part(p.block_descriptors);
  release_part(p.descriptors);
  release_part(p.class_map_area);
  release_part(p.arena);
}

/// The class map of a span that was reserved.
char* class_map_of(const parts& p, backing kind, uint64_t span_pages) noexcept {
  return kind == backing::memfd ? p.class_map_area.base : p.arena.base + p.class_map_room - class_map_bytes(span_pages);
}

/// All reservations of one span, or none of them.
bool reserve_parts(parts& p, backing kind, uint64_t span_pages) noexcept {
  p = {};
  const size_t span_bytes = span_pages << page_shift;
  bool got = true;
  if (kind == backing::memfd) {
    p.class_map_area = reserve_part(class_map_bytes(span_pages), page_size, backing::anon);
    got = p.class_map_area.base != nullptr;
  } else {
    p.class_map_room = round_up(class_map_bytes(span_pages), span_step_bytes);
  }
  if (got) p.arena = reserve_part(p.class_map_room + span_bytes, span_step_bytes, kind);
  if (p.arena.base != nullptr) p.descriptors = reserve_part(span_pages * sizeof(page), page_size, backing::anon);
  if (p.descriptors.base != nullptr)
    p.block_descriptors = reserve_part(round_up(span_pages / pages_per_block * sizeof(page_block), page_size), page_size, backing::anon);
  if (p.block_descriptors.base != nullptr && plat::open_for_reading(p.block_descriptors.base, p.block_descriptors.bytes) &&
      plat::open_for_reading(class_map_of(p, kind, span_pages), class_map_bytes(span_pages)))
    return true;
  release_parts(p);
  return false;
}

/// Would the system still give the rest of the process a fair part of what this span takes?
bool leaves_address_space(uint64_t span_pages) noexcept {
  address_reservation spare = reserve_part((span_pages << page_shift) / spare_divisor, page_size, backing::anon);
  if (spare.base == nullptr) return false;
  plat::release(spare);
  return true;
}

/// The largest span that is granted: `span_pages` halved as often as needed, never below `least_pages`. Return: 0 for none.
uint64_t reserve_some_span(parts& p, backing kind, uint64_t span_pages, uint64_t least_pages) noexcept {
  for (bool refused = false;; refused = true) {
    if (reserve_parts(p, kind, span_pages)) {
      if (!refused || span_pages == least_pages || leaves_address_space(span_pages)) return span_pages;
      release_parts(p);
    }
    if (span_pages == least_pages) return 0;
    const uint64_t half = round_down(span_pages / 2, span_step_pages);
    span_pages = half > least_pages ? half : least_pages;
  }
}

void report(log_level level, text_writer& text, const char* buffer, size_t capacity) noexcept {
  printk(level, buffer, text.length() < capacity ? text.length() : capacity - 1);
}

/// Says what is wrong with what memmap_init was given. Return: true if nothing is.
bool check_arguments(const machine_config& config, nr_pages_t limit) noexcept {
  char line[300];
  text_writer text(line, sizeof line);
  config_error error;
  if (!config_is_valid(config, error)) {
    text.str("kmem: ").str(error.text);
  } else if (limit.raw() < min_budget_bytes >> page_shift) {
    text.str("kmem: a budget of ")
        .dec(bytes(limit) >> 10)
        .str(" KiB is too small: at least ")
        .dec(min_budget_bytes >> 10)
        .str(" KiB are needed");
  } else {
    return true;
  }
  report(log_level::err, text, line, sizeof line);
  return false;
}

KMEM_COLD void report_lowered_limit(nr_pages_t wanted, uint64_t span_pages) noexcept {
  char line[200];
  text_writer text(line, sizeof line);
  text.str("kmem: budget lowered from ").dec(bytes(wanted) >> 20).str(" to ").dec(span_pages >> (20 - page_shift));
  text.str(" MiB: no more address space could be reserved");
  report(log_level::warning, text, line, sizeof line);
}

bool open_part(void* begin, size_t bytes) noexcept {
  if (should_fail(fail_point::fail_mmap, bytes)) return false;
  return plat::open(begin, bytes);
}

/// Opens the pages that hold bytes [first, first + count) of an array.
bool open_array_part(void* array, size_t first, size_t count) noexcept {
  const size_t begin = round_down(first, page_size);
  return open_part(static_cast<char*>(array) + begin, round_up(first + count, page_size) - begin);
}

}  // namespace

err memmap_init(memory_map& m, const machine_config& config, nr_pages_t limit, nr_pages_t span_pages, nr_pages_t least_pages) noexcept {
  if (!check_arguments(config, limit)) return err::inval;
  if (least_pages.raw() > max_span_pages) return err::nomem;
  const uint64_t least = round_up(least_pages.raw() != 0 ? least_pages.raw() : 1, span_step_pages);
  uint64_t span = span_pages.raw() < max_span_pages ? round_up(span_pages.raw(), span_step_pages) : max_span_pages;
  if (span < least) span = least;

  parts p;
  span = reserve_some_span(p, config.kind, span, least);
  if (span == 0) return err::nomem;
  m.arena = p.arena;
  m.class_map_area = p.class_map_area;
  m.descriptors = p.descriptors;
  m.block_descriptors = p.block_descriptors;
  m.base = p.arena.base + p.class_map_room;
  m.class_map = reinterpret_cast<uint8_t*>(class_map_of(p, config.kind, span));
  m.pages = reinterpret_cast<page*>(p.descriptors.base);
  m.blocks = reinterpret_cast<page_block*>(p.block_descriptors.base);
  m.span_pages = static_cast<uint32_t>(span);
  m.config = config;
  m.limit = limit.raw() <= span ? limit : nr_pages_t(span);
  if (m.limit < limit) report_lowered_limit(limit, span);
  m.metadata_pages.store_relaxed(0);
  m.metadata_peak.store_relaxed(0);
  return err::ok;
}

void memmap_destroy(memory_map& m) noexcept {
  {
    lock_guard guard(m.section_lock);
    while (m.nr_metadata != 0) {
      metadata_area& area = m.metadata[--m.nr_metadata];
      release_part(area.home);
      area.used_bytes = 0;
    }
  }
  release_part(m.block_descriptors);
  release_part(m.descriptors);
  release_part(m.class_map_area);
  release_part(m.arena);
  m.base = nullptr;
  m.span_pages = 0;
  m.pages = nullptr;
  m.blocks = nullptr;
  m.class_map = nullptr;
  m.config = {};
  m.limit = {};
  m.metadata_pages.store_relaxed(0);
  m.metadata_peak.store_relaxed(0);
}

namespace {

/// Opens blocks [first, first + n) with their arrays.
bool open_section(memory_map& m, uint32_t first, uint32_t n) noexcept {
  const size_t first_page = size_t{first} * pages_per_block, count = size_t{n} * pages_per_block;
  // The arena last. It is 62 times as large as its arrays: what a refusal leaves open is little, and counts little against RLIMIT_DATA.
  return open_array_part(m.blocks, first * sizeof(page_block), n * sizeof(page_block)) &&
         open_array_part(m.pages, first_page * sizeof(page), count * sizeof(page)) && open_array_part(m.class_map, first_page, count) &&
         open_part(m.base + (first_page << page_shift), count << page_shift);
}

}  // namespace

uint32_t open_blocks(memory_map& m, uint32_t first, uint32_t n) noexcept {
  KMEM_ASSERT(m.section_lock.is_locked());
  if (first >= m.nr_blocks()) return 0;
  if (n > m.nr_blocks() - first) n = m.nr_blocks() - first;
  uint32_t opened = 0;
  while (opened < n) {
    const uint32_t step = n - opened < section_blocks ? n - opened : section_blocks;
    if (!open_section(m, first + opened, step)) break;
    opened += step;
  }
  return opened;
}

namespace {

/// A new area with room for `bytes`, twice the size of the last one, or just as large as needed if that is refused.
metadata_area* add_metadata_area(memory_map& m, size_t bytes) noexcept KMEM_REQUIRES(m.section_lock) {
  if (m.nr_metadata == nr_metadata_areas) return nullptr;
  const size_t usual = first_metadata_area_bytes << m.nr_metadata;
  address_reservation home = reserve_part(bytes > usual ? bytes : usual, page_size, backing::anon);
  if (home.base == nullptr && bytes < usual) home = reserve_part(bytes, page_size, backing::anon);
  if (home.base == nullptr) return nullptr;
  metadata_area& area = m.metadata[m.nr_metadata++];
  area.home = home;
  area.used_bytes = 0;
  return &area;
}

char* map_metadata_locked(memory_map& m, size_t bytes) noexcept KMEM_REQUIRES(m.section_lock) {
  metadata_area* area = m.nr_metadata != 0 ? &m.metadata[m.nr_metadata - 1] : nullptr;
  if (area == nullptr || area->home.bytes - area->used_bytes < bytes) area = add_metadata_area(m, bytes);
  if (area == nullptr) return nullptr;
  char* const begin = area->home.base + area->used_bytes;
  if (!open_part(begin, bytes)) return nullptr;
  area->used_bytes += bytes;
  return begin;
}

}  // namespace

char* map_metadata(memory_map& m, size_t bytes) noexcept {
  if (bytes == 0 || bytes > max_span_pages << page_shift) return nullptr;
  if (!m.section_lock.lock_unless_nested()) return nullptr;
  char* const result = map_metadata_locked(m, round_up(bytes, page_size));
  m.section_lock.unlock();
  return result;
}

}  // inline namespace
}  // namespace kmem
