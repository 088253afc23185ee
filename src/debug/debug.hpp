// Front header of the layer `debug`: texts in the kernel's formats, and what reports and pictures are made of.
//
// Everything is a snapshot. Texts return the characters that were wanted, as text_writer counts them.
#pragma once
#include "reclaim/reclaim.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
/// Writes a code address: by symbol where somebody outside the core can look it up, else as a number (write_raw_pc).
using pc_writer = void (*)(text_writer& out, const void* pc) noexcept;
void write_raw_pc(text_writer& out, const void* pc) noexcept;

/// "Unmovable", "Movable", "Reclaimable".
const char* migratetype_name(migratetype type) noexcept;

// /proc/slabinfo, buddyinfo, zoneinfo, vmstat, meminfo, vmallocinfo. Context: may wait for locks.
size_t write_slabinfo(machine& m, char* buffer, size_t capacity) noexcept;
size_t write_buddyinfo(machine& m, char* buffer, size_t capacity) noexcept;
size_t write_zoneinfo(machine& m, char* buffer, size_t capacity) noexcept;
size_t write_vmstat(machine& m, char* buffer, size_t capacity) noexcept;
size_t write_meminfo(machine& m, char* buffer, size_t capacity) noexcept;
size_t write_vmallocinfo(machine& m, char* buffer, size_t capacity, pc_writer write_pc) noexcept;

/// The counters of vmstat, in its order.
using counter_visitor = void (*)(void* context, const char* name, uint64_t value) noexcept;
void for_each_counter(machine& m, void* context, counter_visitor visit) noexcept;

/// A failure record in the form of the kernel's "page allocation failure".
size_t write_failure(const alloc_failure& failure, char* buffer, size_t capacity, pc_writer write_pc) noexcept;

/// Pages of all slabs, and of those of caches whose objects are reclaimable.
struct slab_totals {
  uint64_t pages = 0, reclaimable_pages = 0;
};
slab_totals count_slab_pages(machine& m) noexcept;

enum class page_use : uint8_t { absent, free, pages, slab };
/// What a page block is used for.
struct block_use {
  uint32_t number = 0;
  zone_idx zone = zone_idx::normal;
  migratetype type = migratetype::unmovable;
  uint16_t used = 0, free_present = 0, absent = 0, transit = 0, slab = 0;  // pages; slab is part of used
  char cache[32] = {};                                                     // the cache with most pages in it
  page_use pages[pages_per_block] = {};
};
/// The first opened block with a number of `from` or more. What a used page is used for is read without locks. Return: false if there is
/// none.
bool read_block_use(machine& m, uint32_t from, block_use& result) noexcept;

#if !defined(KMEM_SIM)

/// Makes the statistics segment, if the configuration wants one. That it cannot be made changes nothing else. Context: the machine starts.
void stat_start(machine& m) noexcept;
/// Gives the child of a fork a segment of its own, if its parent had one. Context: fork's child handler.
void stat_fork_child(machine& m) noexcept;
/// Writes all figures now. Context: process context, no lock held.
void stat_publish(machine& m) noexcept;
/// The same two for the process's machine, in whichever state it is.
void stat_process_child() noexcept;
void stat_process_exit() noexcept;

/// One parameter as `name=value`, or what is wrong with the name. Context: any.
stat::reply show_parameter(machine& m, const char* name, char* out, size_t capacity, size_t& length) noexcept;
/// Changes one that can be changed at run time, given as name=value. Return: done, with its new value in `out`; else nothing has changed,
/// and `out` says why. Context: may sleep; no lock held.
stat::reply change_parameter(machine& m, const char* word, char* out, size_t capacity, size_t& length) noexcept;

#endif

}  // inline namespace
}  // namespace kmem
