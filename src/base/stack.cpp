// Who called: return addresses found by following frame pointers, from any context and on any stack.
//
// A frame is believed only if it lies above the one before it, at most one window away, aligned, and on pages that can be read: the
// page of the first frame is being used, every other one is asked for (plat::is_readable: a system call that reads and writes
// nothing). So code that uses the frame pointer register for something else ends the walk early and can never crash it. An
// alternate signal stack needs no special case: the walk ends where the handler's stack does, since the interrupted frame lies outside
// of the window or below.
// Context: any; no lock, no allocation, errno untouched. Kernel: its unwinder knows the bounds of each stack; a process cannot learn
// them without reading /proc. Tests: tests/unit/base/stack_test.cpp
#include "base/bug.hpp"

#if defined(__GNUC__)
#define KMEM_UNSANITIZED __attribute__((no_sanitize_address, no_sanitize_thread, noinline))
#endif

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

// Farther than this from one frame to the next is taken for a stray register (arbitrary: an eighth of the usual stack).
constexpr uintptr_t frame_window = uintptr_t{1} << 20;
// Program counters below this are no code (the first page is never mapped).
constexpr uintptr_t lowest_pc = page_size;

/// A frame record as both x86-64 and aarch64 lay it out.
struct frame_record {
  uintptr_t caller;
  uintptr_t return_address;
};

/// Not instrumented: it reads words of other functions' frames, which a sanitizer may have fenced off.
KMEM_UNSANITIZED frame_record read_frame(uintptr_t frame) noexcept {
  const auto* words = reinterpret_cast<const uintptr_t*>(frame);
  return {words[0], words[1]};
}

/// Remembers the last page that could be read: neighbouring frames share pages.
class readable_pages {
 public:
  explicit readable_pages(uintptr_t known) noexcept : known_page_(known / page_size) {}
  bool contain(uintptr_t address) noexcept {
    const uintptr_t page = address / page_size;
    if (page == known_page_) return true;
    if (!plat::is_readable(reinterpret_cast<const void*>(address))) return false;
    known_page_ = page;
    return true;
  }

 private:
  uintptr_t known_page_;
};

}  // namespace

KMEM_UNSANITIZED unsigned capture_stack(const void** pcs, unsigned capacity) noexcept {
  auto frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  readable_pages readable(frame);
  unsigned count = 0;
  while (count < capacity) {
    if (!readable.contain(frame + sizeof(uintptr_t))) break;
    const frame_record record = read_frame(frame);
    if (record.return_address < lowest_pc) break;
    pcs[count++] = reinterpret_cast<const void*>(record.return_address);
    const bool believable = record.caller > frame && record.caller - frame <= frame_window && record.caller % sizeof(uintptr_t) == 0;
    if (!believable || !readable.contain(record.caller)) break;
    frame = record.caller;
  }
  return count;
}

}  // inline namespace
}  // namespace kmem
