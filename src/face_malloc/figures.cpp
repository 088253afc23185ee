// mallinfo, malloc_info and malloc_stats: the figures of the process's machine under the names that the C library's have.
//
// What for. The C library counts chunks; here are objects of 83 classes and pages. What is what:
//           system  = backed pages, which are handed out, kept free or on their way back, and the library's own metadata
//           fast    = free objects in the CPUs' arrays
//           rest    = free objects in barns and slabs, and backed free pages, each counted as one
//           in use  = system - fast - rest, as there: overhead is counted as used
// Contexts. May wait for locks, holds none while text is written. The stream may allocate.
// Kernel.   None of these; its own texts are those of `debug`.
// Tests.    tests/unit/face_malloc/tuning_test.cpp, tests/programs/preload_interface.py
#include <malloc.h>

#include <climits>
#include <cstdio>

#include "face_malloc/face_malloc.hpp"

namespace kmem {
namespace {

struct free_objects {
  uint64_t fast = 0, rest = 0;
};

/// In bytes where nothing else is said. The parts are read one after another, so that sums may be off while others allocate.
struct heap_figures {
  uint64_t budget = 0, metadata = 0, system = 0, system_peak = 0;
  uint64_t fast = 0, fast_count = 0, rest = 0, rest_count = 0;
  uint64_t releasable = 0;  // what malloc_trim(0) gives back at least
  uint64_t reserved = 0, opened = 0;  // address space
  uint64_t failures = 0;    // NULLs
  free_objects classes[nr_size_classes];

  uint64_t in_use() const noexcept { return system > fast + rest ? system - fast - rest : 0; }
};

void add_pages(machine& m, heap_figures& f) noexcept {
  uint64_t committed = 0, free_pages = 0, peak = 0;
  for (const zone& z : m.zones) {
    if (z.nr_blocks == 0) continue;
    committed += z.committed.load_relaxed();
    free_pages += z.present_free.load_relaxed();
    peak += z.taken_peak.load_relaxed();
  }
  const uint64_t charged = charged_pages(m), unused = committed > charged ? committed - charged : 0;
  f.budget = bytes(m.limit);
  f.metadata = m.metadata_pages.load_relaxed() << page_shift;
  f.system = (committed << page_shift) + f.metadata;
  f.system_peak = (peak + m.metadata_peak.load_relaxed()) << page_shift;
  if (f.system_peak < f.system) f.system_peak = f.system;
  f.rest += unused << page_shift;
  f.rest_count += unused;
  f.releasable = free_pages << page_shift;
  f.reserved = uint64_t{m.span_pages} << page_shift;
  f.opened = m.stats.blocks_opened.load_relaxed() * block_bytes;
  f.failures = m.failure_sequence.load_relaxed();
}

void add_objects(machine& m, heap_figures& f) noexcept {
  cache_info info;
  for (unsigned i = 0; i < nr_size_classes && read_cache_info(m, i, info); ++i) {  // the classes are the first caches
    const uint64_t not_out = info.total - info.active;
    free_objects& of_class = f.classes[i];
    of_class.fast = info.in_arrays < not_out ? info.in_arrays : not_out;
    of_class.rest = not_out - of_class.fast;
    f.fast_count += of_class.fast;
    f.fast += of_class.fast * info.size;
    f.rest_count += of_class.rest;
    f.rest += of_class.rest * info.size;
  }
}

heap_figures read_figures() noexcept {
  heap_figures f;
  machine* const m = serving();
  if (m == nullptr) return f;
  add_objects(*m, f);
  add_pages(*m, f);
  return f;
}

int saturated(size_t value) noexcept { return value > INT_MAX ? INT_MAX : static_cast<int>(value); }

// size_t, which the formats below name.
size_t size_of(uint64_t value) noexcept { return value; }

void write_heap(std::FILE* stream, const heap_figures& f) noexcept {
  std::fprintf(stream, "<total type=\"fast\" count=\"%zu\" size=\"%zu\"/>\n", size_of(f.fast_count), size_of(f.fast));
  std::fprintf(stream, "<total type=\"rest\" count=\"%zu\" size=\"%zu\"/>\n", size_of(f.rest_count), size_of(f.rest));
}

void write_system(std::FILE* stream, const heap_figures& f) noexcept {
  std::fprintf(stream, "<system type=\"current\" size=\"%zu\"/>\n<system type=\"max\" size=\"%zu\"/>\n", size_of(f.system),
               size_of(f.system_peak));
  std::fprintf(stream, "<aspace type=\"total\" size=\"%zu\"/>\n<aspace type=\"mprotect\" size=\"%zu\"/>\n", size_of(f.reserved),
               size_of(f.opened));
}

}  // namespace
}  // namespace kmem

extern "C" {

KMEM_EXPORT struct mallinfo2 mallinfo2() noexcept {
  const kmem::heap_figures f = kmem::read_figures();
  struct mallinfo2 info {};
  info.arena = f.system;
  info.ordblks = f.rest_count;
  info.smblks = f.fast_count;
  info.fsmblks = f.fast;
  info.uordblks = f.in_use();
  info.fordblks = f.system - info.uordblks;
  info.keepcost = f.releasable;
  return info;
}

/// Figures that no int holds are INT_MAX.
KMEM_EXPORT struct mallinfo mallinfo() noexcept {
  const struct mallinfo2 wide = mallinfo2();
  struct mallinfo info {};
  info.arena = kmem::saturated(wide.arena);
  info.ordblks = kmem::saturated(wide.ordblks);
  info.smblks = kmem::saturated(wide.smblks);
  info.fsmblks = kmem::saturated(wide.fsmblks);
  info.uordblks = kmem::saturated(wide.uordblks);
  info.fordblks = kmem::saturated(wide.fordblks);
  info.keepcost = kmem::saturated(wide.keepcost);
  return info;
}

KMEM_EXPORT void malloc_stats() noexcept {
  const kmem::heap_figures f = kmem::read_figures();
  flockfile(stderr);
  const size_t system = f.system, in_use = f.in_use();
  std::fprintf(stderr, "Arena 0:\nsystem bytes     = %10zu\nin use bytes     = %10zu\n", system, in_use);
  std::fprintf(stderr, "Total (incl. mmap):\nsystem bytes     = %10zu\nin use bytes     = %10zu\n", system, in_use);
  std::fprintf(stderr, "max mmap regions = %10u\nmax mmap bytes   = %10lu\n", 0u, 0ul);
  std::fprintf(stderr, "kmem:\nbudget bytes     = %10zu\nmetadata bytes   = %10zu\nNULLs returned   = %10zu\n", kmem::size_of(f.budget),
               kmem::size_of(f.metadata), kmem::size_of(f.failures));
  funlockfile(stderr);
}

KMEM_EXPORT int malloc_info(int options, FILE* stream) noexcept {
  if (options != 0) return EINVAL;
  const kmem::heap_figures f = kmem::read_figures();
  flockfile(stream);
  std::fputs("<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n", stream);
  for (unsigned i = 0; i < kmem::nr_size_classes; ++i) {
    const size_t count = f.classes[i].fast + f.classes[i].rest, size = kmem::size_of_class(i + 1);
    const size_t from = i == 0 ? 1 : kmem::size_of_class(i) + 1;
    if (count == 0) continue;
    std::fprintf(stream, "  <size from=\"%zu\" to=\"%zu\" total=\"%zu\" count=\"%zu\"/>\n", from, size, count * size, count);
  }
  std::fputs("</sizes>\n", stream);
  kmem::write_heap(stream, f);
  kmem::write_system(stream, f);
  std::fputs("</heap>\n", stream);
  kmem::write_heap(stream, f);
  std::fputs("<total type=\"mmap\" count=\"0\" size=\"0\"/>\n", stream);
  kmem::write_system(stream, f);
  std::fputs("</malloc>\n", stream);
  funlockfile(stream);
  return 0;
}

}  // extern "C"
