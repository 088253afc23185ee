// The Linux back end of the platform.
//
// Context: any, but for the calls whose names say that they wait, and start_thread; all others go through raw system calls that are no
// cancellation points and leave errno as it was, so that a signal handler may arrive in any of them or call them.
// Threads are made by the C library, since they run the program's callbacks, which need its thread-local storage; it may call malloc for
// that. They block every signal but the two that the C library itself sends to all threads.
// Reservations are PROT_NONE: an all-writable one would be populated by mlockall(MCL_FUTURE), refused under RLIMIT_DATA and
// charged under strict overcommit. munlock takes back a lock inherited from mlockall(MCL_FUTURE), or else opening a section would
// populate it whole.
// Tests: tests/unit/plat/.
#include "plat/plat.hpp"

#include <cerrno>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

extern "C" char __libc_single_threaded;  // glibc >= 2.32, <sys/single_threaded.h>

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

constexpr int madvise_dontneed_locked = 24;  // Linux 5.18; absent from glibc 2.36 headers
constexpr int madvise_populate_write = 23;   // Linux 5.14
constexpr unsigned spins_before_yield = 200;  // arbitrary: about 10 us of pause instructions
constexpr unsigned advise_attempts = 16;      // arbitrary
constexpr size_t service_stack_bytes = 256 * 1024;  // arbitrary: callbacks of the program run on it, and only what is used is backed

constinit unsigned service_threads = 0;  // changed and read atomically

/// What sequences use where nothing is registered: the CPU number -1 sends every call to the slow path.
constinit thread_local struct {
  alignas(32) uint32_t cpu_id_start = 0;
  uint32_t cpu_id = ~0u;
  uint64_t rseq_cs = 0;
  uint64_t rest[2] = {};
} no_rseq __attribute__((tls_model("initial-exec")));

bool membarrier(int command) noexcept { return syscall(SYS_membarrier, command, 0, 0) == 0; }

/// Restores errno at the end of the scope: callers are promised that it does not change.
class errno_guard {
 public:
  [[nodiscard]] errno_guard() noexcept : saved_(errno) {}
  ~errno_guard() { errno = saved_; }
  errno_guard(const errno_guard&) = delete;
  errno_guard& operator=(const errno_guard&) = delete;

 private:
  int saved_;
};

constexpr size_t round_up(size_t value, size_t align) { return (value + align - 1) & ~(align - 1); }

bool advise(void* begin, size_t bytes, int advice) noexcept {
  // EAGAIN is a shortage inside the kernel that often passes, and sometimes does not.
  for (unsigned attempt = 0; attempt < advise_attempts; ++attempt) {
    if (syscall(SYS_madvise, begin, bytes, advice) == 0) return true;
    if (errno != EAGAIN) return false;
  }
  return false;
}

/// Puts a new memfd in place of a mapping. The mapping keeps the file alive, so the descriptor is closed again.
bool map_new_file(void* at, size_t bytes) noexcept {
  const auto fd = static_cast<int>(syscall(SYS_memfd_create, "kmem arena", MFD_CLOEXEC));
  if (fd < 0) return false;
  const bool mapped = ftruncate(fd, static_cast<off_t>(bytes)) == 0 &&
                      mmap(at, bytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) != MAP_FAILED;
  syscall(SYS_close, fd);
  return mapped;
}

using signal_mask = uint64_t;
constexpr size_t signal_mask_bytes = 8;  // the kernel's
// All signals but SIGCANCEL (32) and SIGSETXID (33): setuid() of another thread waits until every thread has handled the latter.
constexpr signal_mask service_signals_blocked = ~(signal_mask{1} << 31 | signal_mask{1} << 32);

void* service_main(void* argument) noexcept {
  const auto& handle = *static_cast<const thread_handle*>(argument);
  syscall(SYS_prctl, PR_SET_NAME, handle.name, 0, 0, 0);
  handle.body(handle.argument);
  return nullptr;
}

/// pthread_create with a small stack, or with the usual one if the program's thread-local storage does not fit into that.
bool create_thread(pthread_t& thread, thread_handle& handle) noexcept {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  int error = pthread_attr_setstacksize(&attributes, service_stack_bytes);
  if (error == 0) error = pthread_create(&thread, &attributes, service_main, &handle);
  pthread_attr_destroy(&attributes);
  if (error == EINVAL) error = pthread_create(&thread, nullptr, service_main, &handle);
  return error == 0;
}

timespec to_timespec(uint64_t ns) noexcept {
  return {static_cast<time_t>(ns / 1'000'000'000u), static_cast<long>(ns % 1'000'000'000u)};
}

/// What a system call's result and errno say about a wait on a futex.
futex_end end_of_wait(long result) noexcept {
  if (result >= 0) return futex_end::woken;
  return errno == ETIMEDOUT ? futex_end::timed_out : errno == EINTR ? futex_end::interrupted : futex_end::woken;
}

constexpr long system_call_futex_waitv = 449;  // Linux 5.16
/// The kernel's struct futex_waitv, which older headers lack.
struct futex_wait_entry {
  uint64_t value = 0;
  uint64_t address = 0;
  uint32_t flags = 2 | FUTEX_PRIVATE_FLAG;  // 32 bits
  uint32_t reserved = 0;
};

int fold_cpu(int cpu) noexcept { return KMEM_LIKELY(cpu < max_cpus) ? cpu : cpu % max_cpus; }

}  // namespace

address_reservation plat_linux::reserve(size_t bytes, size_t align_bytes, backing kind) noexcept {
  const errno_guard keep_errno;
  address_reservation r;
  r.mapping_bytes = bytes + (align_bytes > page_size ? align_bytes : 0);
  void* raw = mmap(nullptr, r.mapping_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return {};
  r.mapping = static_cast<char*>(raw);
  r.base = reinterpret_cast<char*>(round_up(reinterpret_cast<size_t>(raw), align_bytes < page_size ? page_size : align_bytes));
  r.bytes = bytes;
  r.shared = kind == backing::memfd;
  if (r.shared && !map_new_file(r.base, bytes)) {
    release(r);
    return {};
  }
  advise(r.base, bytes, MADV_NOHUGEPAGE);
  syscall(SYS_munlock, r.base, bytes);
  return r;
}

void plat_linux::release(address_reservation& r) noexcept {
  const errno_guard keep_errno;
  if (r.mapping != nullptr) munmap(r.mapping, r.mapping_bytes);
  r = {};
}

bool plat_linux::open(void* begin, size_t bytes) noexcept {
  const errno_guard keep_errno;
  // mlockall(MCL_CURRENT) after the reservation was made has locked it, and a locked part would be populated whole.
  syscall(SYS_munlock, begin, bytes);
  return syscall(SYS_mprotect, begin, bytes, PROT_READ | PROT_WRITE) == 0;
}

bool plat_linux::open_for_reading(void* begin, size_t bytes) noexcept {
  const errno_guard keep_errno;
  return syscall(SYS_mprotect, begin, bytes, PROT_READ) == 0;
}

bool plat_linux::decommit(const address_reservation& r, void* begin, size_t bytes) noexcept {
  const errno_guard keep_errno;
  if (r.shared) return advise(begin, bytes, MADV_REMOVE);
  if (advise(begin, bytes, MADV_DONTNEED)) return true;
  if (advise(begin, bytes, madvise_dontneed_locked)) return true;
  // Locked by mlockall on a kernel before 5.18: unlock this part, then give it back.
  return syscall(SYS_munlock, begin, bytes) == 0 && advise(begin, bytes, MADV_DONTNEED);
}

bool plat_linux::populate(void* begin, size_t bytes) noexcept {
  const errno_guard keep_errno;
  if (advise(begin, bytes, madvise_populate_write)) return true;
  // EINVAL also means pages that may not be written; a kernel that knows the advice takes it for no bytes at all.
  if (errno != EINVAL || advise(begin, 0, madvise_populate_write)) return false;
  for (size_t offset = 0; offset < bytes; offset += page_size) {  // before 5.14: a write that keeps what is there
    auto* byte = static_cast<char*>(begin) + offset;
    __atomic_fetch_or(byte, 0, __ATOMIC_RELAXED);
  }
  return true;
}

void* plat_linux::map_guarded(size_t bytes) noexcept {
  const errno_guard keep_errno;
  void* area = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) return nullptr;
  advise(area, bytes, MADV_NOHUGEPAGE);
  syscall(SYS_munlock, area, bytes);
  return area;
}

bool plat_linux::map_frames(void* at, size_t offset_bytes, const address_reservation& r, size_t bytes) noexcept {
  const errno_guard keep_errno;
  if (!r.shared) return false;
  // Of a shared mapping, mremap of no bytes makes a second one. A descriptor might have been closed by the program, or be another file's.
  return syscall(SYS_mremap, r.base + offset_bytes, 0, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at) != -1;
}

void plat_linux::unmap(void* begin, size_t bytes) noexcept {
  const errno_guard keep_errno;
  munmap(begin, bytes);
}

int plat_linux::cpu() noexcept {
  if (KMEM_LIKELY(__rseq_size != 0)) {
    const auto* area = reinterpret_cast<const struct rseq*>(arch::thread_pointer() + __rseq_offset);
    const auto cpu = static_cast<int>(__atomic_load_n(&area->cpu_id, __ATOMIC_RELAXED));
    if (KMEM_LIKELY(cpu >= 0)) return fold_cpu(cpu);
  }
  unsigned cpu = 0;
  syscall(SYS_getcpu, &cpu, nullptr, nullptr);
  return fold_cpu(static_cast<int>(cpu));
}

namespace {

/// CPU numbers that can ever occur are below this.
int possible_cpus() noexcept {
  const errno_guard keep_errno;
  // From the kernel's own list ("0-3" or "0,2-7"): the last number of it plus one.
  char text[256];
  const long length = plat::read_file("/sys/devices/system/cpu/possible", text, sizeof text);
  int last = -1, number = 0;
  bool in_number = false;
  for (long i = 0; i < length; ++i) {
    if (text[i] >= '0' && text[i] <= '9') {
      number = in_number ? number * 10 + (text[i] - '0') : text[i] - '0';
      in_number = true;
      last = number;
    } else {
      in_number = false;
    }
  }
  if (last >= 0) return last + 1;
  // No /sys: as many as the system has bits for. Those outside of the mask cannot run us now, but somebody may widen it.
  unsigned long mask[8192 / 64] = {};  // the system refuses one that is smaller than its own
  const long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
  return bytes > 0 ? static_cast<int>(bytes * 8) : 1;
}

}  // namespace

int plat_linux::nr_cpus() noexcept {
  const int possible = possible_cpus();
  return possible < max_cpus ? possible : max_cpus;
}

constinit ptrdiff_t plat_linux::section_area = 0;

bool plat_linux::prepare_sections() noexcept {
  const errno_guard keep_errno;
  const bool usable = KMEM_HAS_SECTIONS && __rseq_size != 0 && possible_cpus() <= max_cpus &&
                      membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ) && membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ);
  section_area = usable ? __rseq_offset : reinterpret_cast<char*>(&no_rseq) - arch::thread_pointer();
  return usable;
}

bool plat_linux::fence_sections() noexcept {
  const errno_guard keep_errno;
  return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ);
}

int plat_linux::thread_id() noexcept { return static_cast<int>(syscall(SYS_gettid)); }
bool plat_linux::single_threaded() noexcept { return __libc_single_threaded != 0; }

int plat_linux::nr_threads() noexcept {
  // The 20th field; the second, the name in parentheses, may contain anything.
  char text[1024];
  const long length = read_file("/proc/self/stat", text, sizeof text);
  long at = length - 1;
  while (at >= 0 && text[at] != ')') --at;
  if (at < 0) return 0;
  unsigned field = 2;
  int threads = 0;
  for (; at < length && field <= 20; ++at) {
    if (text[at] == ' ') {
      ++field;
    } else if (field == 20 && text[at] >= '0' && text[at] <= '9') {
      threads = threads * 10 + (text[at] - '0');
    }
  }
  return threads;
}

bool plat_linux::realtime_thread() noexcept {
  const errno_guard keep_errno;
  const long policy = syscall(SYS_sched_getscheduler, 0) & ~static_cast<long>(SCHED_RESET_ON_FORK);
  return policy == SCHED_FIFO || policy == SCHED_RR;
}

uint64_t plat_linux::now_ns() noexcept {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

futex_end plat_linux::futex_wait(uint32_t* word, uint32_t expected, uint64_t timeout_ns) noexcept {
  const errno_guard keep_errno;
  const timespec t = to_timespec(timeout_ns);
  return end_of_wait(syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, &t, nullptr, 0));
}

futex_end plat_linux::futex_wait_interruptible(uint32_t* word, uint32_t expected, uint64_t timeout_ns) noexcept {
  const errno_guard keep_errno;
  // With a time-out FUTEX_WAIT ends with EINTR whatever the handler's SA_RESTART; futex_waitv has an absolute one and can go on.
  const uint64_t now = now_ns();
  const timespec until = to_timespec(timeout_ns < ~uint64_t{0} - now ? now + timeout_ns : ~uint64_t{0});
  futex_wait_entry entry;
  entry.value = expected;
  entry.address = reinterpret_cast<uintptr_t>(word);
  const long result = syscall(system_call_futex_waitv, &entry, 1, 0, &until, CLOCK_MONOTONIC);
  if (result < 0 && (errno == ENOSYS || errno == EPERM)) return futex_wait(word, expected, timeout_ns);
  return end_of_wait(result);
}

void plat_linux::futex_wake(uint32_t* word, int nr_waiters) noexcept {
  const errno_guard keep_errno;
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, nr_waiters, nullptr, nullptr, 0);
}

void plat_linux::relax(unsigned spins) noexcept {
  if (spins % spins_before_yield != spins_before_yield - 1) return arch::cpu_relax();
  const errno_guard keep_errno;
  syscall(SYS_sched_yield);
}

long plat_linux::read_file(const char* path, char* buffer, size_t capacity) noexcept {
  const errno_guard keep_errno;
  if (capacity == 0) return -EINVAL;
  buffer[0] = '\0';
  const long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return -errno;
  size_t filled = 0;
  long result = 0;
  while (filled + 1 < capacity) {
    result = syscall(SYS_read, fd, buffer + filled, capacity - 1 - filled);
    if (result < 0 && errno == EINTR) continue;
    if (result <= 0) break;
    filled += static_cast<size_t>(result);
  }
  const long error = result < 0 ? -errno : 0;
  syscall(SYS_close, fd);
  buffer[filled] = '\0';
  return error != 0 ? error : static_cast<long>(filled);
}

void plat_linux::write_all(int fd, const char* text, size_t bytes) noexcept {
  const errno_guard keep_errno;
  while (bytes != 0) {
    const long written = syscall(SYS_write, fd, text, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text += written;
    bytes -= static_cast<size_t>(written);
  }
}

uint64_t plat_linux::physical_bytes() noexcept {
  struct sysinfo info {};
  const errno_guard keep_errno;
  return syscall(SYS_sysinfo, &info) == 0 ? static_cast<uint64_t>(info.totalram) * info.mem_unit : 0;
}

void plat_linux::thread_name(char* buffer, size_t capacity) noexcept {
  const errno_guard keep_errno;
  char name[16] = {};
  syscall(SYS_prctl, PR_GET_NAME, name, 0, 0, 0);
  size_t i = 0;
  for (; i + 1 < capacity && i < sizeof name && name[i] != '\0'; ++i) buffer[i] = name[i];
  if (capacity != 0) buffer[i] = '\0';
}

bool plat_linux::is_readable(const void* address) noexcept {
  // A signal mask is read before the operation is looked at, and there is no operation of this number: EFAULT, or EINVAL.
  constexpr int no_operation = ~0;
  constexpr size_t mask_bytes = 8;
  const errno_guard keep_errno;
  return syscall(SYS_rt_sigprocmask, no_operation, address, nullptr, mask_bytes) != 0 && errno == EINVAL;
}

bool plat_linux::start_thread(thread_handle& handle, void (*body)(void*) noexcept, void* argument, const char* name) noexcept {
  const errno_guard keep_errno;
  handle = {};
  handle.body = body;
  handle.argument = argument;
  for (size_t i = 0; i + 1 < sizeof handle.name && name[i] != '\0'; ++i) handle.name[i] = name[i];
  signal_mask before = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &service_signals_blocked, &before, signal_mask_bytes);
  pthread_t thread{};
  const bool started = create_thread(thread, handle);
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, signal_mask_bytes);
  if (!started) {
    handle = {};
    return false;
  }
  static_assert(sizeof thread <= sizeof handle.thread);
  handle.thread = static_cast<uint64_t>(thread);
  __atomic_fetch_add(&service_threads, 1, __ATOMIC_RELAXED);
  return true;
}

void plat_linux::join_thread(thread_handle& handle) noexcept {
  if (handle.body == nullptr) return;
  const errno_guard keep_errno;
  int before = 0;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);  // pthread_join is a cancellation point
  pthread_join(static_cast<pthread_t>(handle.thread), nullptr);
  pthread_setcancelstate(before, nullptr);
  forget_thread(handle);
}

void plat_linux::forget_thread(thread_handle& handle) noexcept {
  if (handle.body == nullptr) return;
  handle = {};
  __atomic_fetch_sub(&service_threads, 1, __ATOMIC_RELAXED);
}

unsigned plat_linux::nr_service_threads() noexcept { return __atomic_load_n(&service_threads, __ATOMIC_RELAXED); }

namespace {

constinit irq_entry irq_handlers;

/// All of them are blocked while one is handled, or as many frames as signals wait would be stacked at once.
void on_irq_signal(int signal, siginfo_t*, void* interrupted) {
  const errno_guard keep_errno;
  if (!irq_handlers.interrupt(signal - SIGRTMIN)) return;
  signal_mask handling = 0;
  do {
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &static_cast<ucontext_t*>(interrupted)->uc_sigmask, &handling, signal_mask_bytes);
    irq_handlers.deferred();
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &handling, nullptr, signal_mask_bytes);
  } while (irq_handlers.deferred_again());
}

}  // namespace

int plat_linux::nr_irq_signals() noexcept { return SIGRTMAX - SIGRTMIN + 1; }
int plat_linux::irq_signal(int irq) noexcept { return SIGRTMIN + irq; }

bool plat_linux::take_irq_signal(int irq, const irq_entry& entry) noexcept {
  const errno_guard keep_errno;
  struct sigaction before {};
  if (sigaction(SIGRTMIN + irq, nullptr, &before) != 0) return false;
  if ((before.sa_flags & SA_SIGINFO) != 0 ? before.sa_sigaction != &on_irq_signal : before.sa_handler != SIG_DFL) return false;
  irq_handlers = entry;
  struct sigaction action {};
  action.sa_sigaction = &on_irq_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) sigaddset(&action.sa_mask, signal);
  return sigaction(SIGRTMIN + irq, &action, nullptr) == 0;
}

void plat_linux::die() noexcept {
  // abort() would take a lock; a default SIGABRT raised by hand does the same without one.
  struct sigaction by_default {};
  by_default.sa_handler = SIG_DFL;
  sigaction(SIGABRT, &by_default, nullptr);
  syscall(SYS_tgkill, syscall(SYS_getpid), syscall(SYS_gettid), SIGABRT);
  for (;;) syscall(SYS_exit_group, 134);
}

}  // inline namespace
}  // namespace kmem
