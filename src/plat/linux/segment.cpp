// The part of the Linux back end that the statistics segment stands on: shared memory, and who this process is.
//
// What for. Figures that other processes of the user can read, and that go with the process. System V segments need no file system, no
//           descriptor, no clean-up and no trust: the system says who made one, nobody can make one shorter, and one that is marked for
//           removal can be attached to by its number as long as somebody has it.
// Context.  Any: raw system calls, errno is kept. Made while the machine starts, and in the child of a fork: before a program can have
//           forbidden itself such calls.
// Tests.    tests/unit/plat/segment_test.cpp
#include "plat/plat.hpp"

#include <cerrno>
#include <linux/futex.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr int most_segments = 2048;  // half of what systems allow in all by default (kernel.shmmni): the rest is for others
constexpr uint64_t look_again_ns = 250'000'000;
constexpr long system_call_futex_waitv = 449;  // Linux 5.16

/// The kernel's struct futex_waitv, which older headers lack.
struct wait_entry {
  uint64_t value = 0;
  uint64_t address = 0;
  uint32_t flags = 0;
  uint32_t reserved = 0;
};
constexpr uint32_t futex_size_32 = 2;

bool segments_are_short() noexcept {
  struct shm_info info {};
  return syscall(SYS_shmctl, 0, SHM_INFO, &info) >= 0 && info.used_ids >= most_segments;
}

}  // namespace

void* plat_linux::make_segment(size_t bytes, void* at, bool keep) noexcept {
  const int saved = errno;
  void* result = nullptr;
  const long id = segments_are_short() ? -1 : syscall(SYS_shmget, IPC_PRIVATE, bytes, IPC_CREAT | 0600);
  if (id >= 0) {
    const long where = syscall(SYS_shmat, id, at, at != nullptr ? SHM_REMAP : 0);
    if (where != -1) result = reinterpret_cast<void*>(where);
    if (!keep || result == nullptr) syscall(SYS_shmctl, id, IPC_RMID, nullptr);
  }
  errno = saved;
  return result;
}

void plat_linux::drop_segment(void* segment) noexcept {
  const int saved = errno;
  syscall(SYS_shmdt, segment);
  errno = saved;
}

void* plat_linux::map_wiped_on_fork() noexcept {
  const int saved = errno;
  void* page = mmap(nullptr, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page != MAP_FAILED && syscall(SYS_madvise, page, page_size, MADV_WIPEONFORK) != 0) {
    munmap(page, page_size);
    page = MAP_FAILED;
  }
  errno = saved;
  return page != MAP_FAILED ? page : nullptr;
}

uint32_t plat_linux::process_id() noexcept { return static_cast<uint32_t>(syscall(SYS_getpid)); }

uint64_t plat_linux::since_boot_ns() noexcept {
  timespec t{};
  clock_gettime(CLOCK_BOOTTIME, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

void plat_linux::futex_wait_either(uint32_t* word, uint32_t expected, uint32_t* shared_word, uint32_t shared_expected,
                                   uint64_t timeout_ns) noexcept {
  const int saved = errno;
  const uint64_t now = now_ns();
  const uint64_t until = timeout_ns < ~uint64_t{0} - now ? now + timeout_ns : ~uint64_t{0};
  const timespec end{static_cast<time_t>(until / 1'000'000'000u), static_cast<long>(until % 1'000'000'000u)};
  wait_entry entries[2];
  entries[0] = {expected, reinterpret_cast<uintptr_t>(word), futex_size_32 | FUTEX_PRIVATE_FLAG, 0};
  entries[1] = {shared_expected, reinterpret_cast<uintptr_t>(shared_word), futex_size_32, 0};
  const bool refused = syscall(system_call_futex_waitv, entries, 2, 0, &end, CLOCK_MONOTONIC) < 0 && (errno == ENOSYS || errno == EPERM);
  errno = saved;
  if (refused && __atomic_load_n(shared_word, __ATOMIC_RELAXED) == shared_expected)
    futex_wait(word, expected, timeout_ns < look_again_ns ? timeout_ns : look_again_ns);
}

}  // inline namespace
}  // namespace kmem
