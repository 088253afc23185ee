// Memory of the simulation: real mappings, a book of what was reserved and opened, and failures by chance or by a test's hook.
//
// States.   An area is a reservation or a guarded mapping; its opened ranges are kept sorted, disjoint and not adjacent.
// Checks.   open, decommit, populate, map_frames, unmap and release must name what they may name; anything else fails the simulation
//           with a text that says what and where. A failed call changes nothing.
// Places.   Areas are asked for at fixed places in the order they are made, so that a run repeats even if code looks at its pointers.
// Tests.    tests/sim/sim_memory_test.cpp
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <span>

#include "plat/sim/world.hpp"

namespace kmem::simulation {
namespace {

struct range {
  uintptr_t begin;
  uintptr_t end;
};

constexpr unsigned max_areas = 2048;
constexpr unsigned max_ranges = 62;  // opened ranges of one area; the core opens forward, so a few would do

struct area {
  uintptr_t begin;  // 0: unused
  uintptr_t end;
  char* mapping;
  size_t mapping_bytes;
  int fd;
  bool guarded;
  unsigned nr_opened;
  range opened[max_ranges + 1];
};

constinit area areas[max_areas]{};
constinit unsigned nr_slots = 0;  // areas at and above this index are unused
constinit uintptr_t next_address = 0;

constexpr uintptr_t first_address = uintptr_t{1} << 44;  // where no Linux process has anything by itself
constexpr uintptr_t address_gap = uintptr_t{1} << 30;
constexpr int madvise_populate_write = 23;  // Linux 5.14; absent from glibc 2.36 headers

[[noreturn]] void misuse(const char* what, uintptr_t begin, size_t bytes) noexcept {
  append_failure("misuse of memory: ");
  append_failure_number(begin, 16);
  append_failure(" + ");
  append_failure_number(bytes, 16);
  append_failure(": ");
  fail(what);
}

area* find_area(uintptr_t begin, size_t bytes) noexcept {
  for (area& a : std::span(areas, nr_slots))
    if (a.begin != 0 && begin >= a.begin && begin < a.end && bytes <= a.end - begin) return &a;
  return nullptr;
}

area& checked_area(const char* what, const void* at, size_t bytes) noexcept {
  const auto begin = reinterpret_cast<uintptr_t>(at);
  if (begin % page_size != 0 || bytes % page_size != 0 || bytes == 0) misuse("not whole pages", begin, bytes);
  area* const found = find_area(begin, bytes);
  if (found == nullptr) misuse(what, begin, bytes);
  return *found;
}

/// Adds [begin, end) to the opened ranges, merging what touches.
void note_opened(area& a, uintptr_t begin, uintptr_t end) noexcept {
  unsigned kept = 0;
  for (unsigned i = 0; i < a.nr_opened; ++i) {
    const range r = a.opened[i];
    if (r.end < begin || r.begin > end) {
      a.opened[kept++] = r;
    } else {
      if (r.begin < begin) begin = r.begin;
      if (r.end > end) end = r.end;
    }
  }
  unsigned at = kept;
  while (at > 0 && a.opened[at - 1].begin > begin) {
    a.opened[at] = a.opened[at - 1];
    --at;
  }
  a.opened[at] = {begin, end};
  a.nr_opened = kept + 1;
  if (a.nr_opened > max_ranges) misuse("more separate opened ranges than the simulation keeps", begin, end - begin);
}

bool is_opened(const area& a, uintptr_t begin, uintptr_t end) noexcept {
  for (unsigned i = 0; i < a.nr_opened; ++i)
    if (begin >= a.opened[i].begin && end <= a.opened[i].end) return true;
  return false;
}

/// A mapping without rights at the next fixed place. Return: nullptr if the system refuses.
char* map_nothing(size_t bytes) noexcept {
  if (next_address == 0) next_address = first_address;
  void* const raw = mmap(reinterpret_cast<void*>(next_address), bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  next_address += (bytes + 2 * address_gap - 1) & ~(address_gap - 1);
  return static_cast<char*>(raw);
}

area& new_area(uintptr_t begin, size_t bytes) noexcept {
  for (area& a : areas) {
    if (a.begin != 0) continue;
    a = {};
    const auto slots = static_cast<unsigned>(&a - areas) + 1;
    if (slots > nr_slots) nr_slots = slots;
    a.begin = begin;
    a.end = begin + bytes;
    a.fd = -1;
    return a;
  }
  misuse("more areas than the simulation keeps", begin, bytes);
}

void drop_area(area& a) noexcept {
  munmap(a.mapping, a.mapping_bytes);
  if (a.fd >= 0) close(a.fd);
  a = {};
}

}  // namespace

unsigned nr_areas() noexcept {
  unsigned count = 0;
  for (const area& a : std::span(areas, nr_slots)) count += a.begin != 0 ? 1 : 0;
  return count;
}

void release_memory() noexcept {
  for (area& a : std::span(areas, nr_slots))
    if (a.begin != 0) drop_area(a);
  nr_slots = 0;
  next_address = 0;
}

}  // namespace kmem::simulation

namespace kmem {
KMEM_BUILD_NAMESPACE {

using namespace simulation;

address_reservation plat_sim::reserve(size_t bytes, size_t align_bytes, backing kind) noexcept {
  yield_point();
  if (bytes == 0 || bytes % page_size != 0) misuse("reserve: not whole pages", 0, bytes);
  if (call_fails(platform_call::reserve, bytes)) return {};
  const size_t align = align_bytes < page_size ? page_size : align_bytes;
  address_reservation r;
  r.mapping_bytes = bytes + (align > page_size ? align : 0);
  r.mapping = map_nothing(r.mapping_bytes);
  if (r.mapping == nullptr) return {};
  r.base = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(r.mapping) + align - 1) & ~(align - 1));
  r.bytes = bytes;
  r.shared = kind == backing::memfd;
  int fd = -1;
  if (r.shared) {
    fd = static_cast<int>(syscall(SYS_memfd_create, "kmem simulation", 1u));
    const bool backed = fd >= 0 && ftruncate(fd, static_cast<off_t>(bytes)) == 0 &&
                        mmap(r.base, bytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) != MAP_FAILED;
    if (!backed) fail("the system refuses a memfd");
  }
  area& a = new_area(reinterpret_cast<uintptr_t>(r.base), bytes);
  a.mapping = r.mapping;
  a.mapping_bytes = r.mapping_bytes;
  a.fd = fd;
  return r;
}

void plat_sim::release(address_reservation& r) noexcept {
  yield_point();
  if (r.base == nullptr) {
    r = {};
    return;
  }
  area& a = checked_area("release of what was never reserved", r.base, r.bytes);
  if (a.mapping != r.mapping || a.guarded) misuse("release of a part", a.begin, r.bytes);
  drop_area(a);
  r = {};
}

bool plat_sim::open(void* begin, size_t bytes) noexcept {
  yield_point();
  area& a = checked_area("open outside of any reservation", begin, bytes);
  if (call_fails(platform_call::open, bytes)) return false;
  if (mprotect(begin, bytes, PROT_READ | PROT_WRITE) != 0) return false;
  note_opened(a, reinterpret_cast<uintptr_t>(begin), reinterpret_cast<uintptr_t>(begin) + bytes);
  return true;
}

bool plat_sim::open_for_reading(void* begin, size_t bytes) noexcept {
  yield_point();
  const area& a = checked_area("open_for_reading outside of any reservation", begin, bytes);
  if (a.nr_opened != 0) misuse("open_for_reading would close what is open", a.begin, bytes);
  if (call_fails(platform_call::open, bytes)) return false;
  return mprotect(begin, bytes, PROT_READ) == 0;
}

bool plat_sim::decommit(const address_reservation& r, void* begin, size_t bytes) noexcept {
  yield_point();
  const area& a = checked_area("decommit outside of any reservation", begin, bytes);
  const auto first = reinterpret_cast<uintptr_t>(begin);
  if ((a.fd >= 0) != r.shared || reinterpret_cast<uintptr_t>(r.base) != a.begin)
    misuse("decommit of another reservation's pages", first, bytes);
  if (!is_opened(a, first, first + bytes)) misuse("decommit of pages that were never opened", first, bytes);
  if (call_fails(platform_call::decommit, bytes)) return false;
  return madvise(begin, bytes, r.shared ? MADV_REMOVE : MADV_DONTNEED) == 0;
}

bool plat_sim::populate(void* begin, size_t bytes) noexcept {
  yield_point();
  const area& a = checked_area("populate outside of any reservation", begin, bytes);
  const auto first = reinterpret_cast<uintptr_t>(begin);
  if (!is_opened(a, first, first + bytes)) misuse("populate of pages that were never opened", first, bytes);
  if (call_fails(platform_call::populate, bytes)) return false;
  if (madvise(begin, bytes, madvise_populate_write) == 0) return true;
  for (size_t offset = 0; offset < bytes; offset += page_size)
    __atomic_fetch_or(static_cast<char*>(begin) + offset, 0, __ATOMIC_RELAXED);
  return true;
}

void* plat_sim::map_guarded(size_t bytes) noexcept {
  yield_point();
  if (bytes == 0 || bytes % page_size != 0) misuse("map_guarded: not whole pages", 0, bytes);
  if (call_fails(platform_call::map_guarded, bytes)) return nullptr;
  char* const base = map_nothing(bytes);
  if (base == nullptr) return nullptr;
  area& a = new_area(reinterpret_cast<uintptr_t>(base), bytes);
  a.mapping = base;
  a.mapping_bytes = bytes;
  a.guarded = true;
  return base;
}

bool plat_sim::map_frames(void* at, size_t offset_bytes, const address_reservation& r, size_t bytes) noexcept {
  yield_point();
  area& a = checked_area("map_frames outside of any mapping", at, bytes);
  const auto first = reinterpret_cast<uintptr_t>(at);
  if (!a.guarded) misuse("map_frames over a reservation", first, bytes);
  if (!r.shared || offset_bytes % page_size != 0 || offset_bytes > r.bytes || bytes > r.bytes - offset_bytes)
    misuse("map_frames of what is no part of a memfd reservation", offset_bytes, bytes);
  if (call_fails(platform_call::map_frames, bytes)) return false;
  const int fd = checked_area("map_frames of no reservation", r.base, r.bytes).fd;
  if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, static_cast<off_t>(offset_bytes)) == MAP_FAILED) return false;
  note_opened(a, first, first + bytes);
  return true;
}

void plat_sim::unmap(void* begin, size_t bytes) noexcept {
  yield_point();
  area& a = checked_area("unmap of what was never mapped", begin, bytes);
  if (!a.guarded || a.mapping != begin || a.mapping_bytes != bytes) misuse("unmap of a part, or of a reservation", a.begin, bytes);
  drop_area(a);
}

}  // inline namespace
}  // namespace kmem
