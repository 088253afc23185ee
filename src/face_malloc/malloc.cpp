// The preload face: malloc, free and their family over the process's machine, for programs that know nothing of it.
//
// Rights.   Every call allocates with GFP_KERNEL | __GFP_NOWARN: it may reclaim and wait, and says nothing when it returns NULL with
//           ENOMEM; the C library's callers know what that means. Two differences of the configuration: only 128 KiB of the reserve are
//           backed until atomic use proves a need, and KMEM_CMDLINE that is wrong ends the program with a message, since it would run
//           without its limit otherwise.
// States.   Requests above kmalloc's limit are runs of pages; what kind a pointer is, its page says.
// Contexts. Any thread, before constructors, inside ld.so's start-up, in destructors and after fork. free keeps errno.
// Limits.   Alignments above 4 MiB are refused with ENOMEM.
// Kernel.   malloc(0) is a unique pointer, as programs expect, not ZERO_SIZE_PTR.
// Tests.    tests/unit/face_malloc/, tests/programs/preload_*.sh
#include <pthread.h>
#include <unistd.h>
#include <cerrno>

#include "reclaim/reclaim.hpp"

namespace kmem {
namespace {

constexpr gfp_t malloc_gfp = gfp::kernel | gfp::nowarn;
constexpr size_t largest_request = static_cast<size_t>(PTRDIFF_MAX);

/// A program that never made a thread gets none, and one that did finds no thread that it did not make.
void malloc_defaults(machine_config& config) noexcept {
  config.reserve_backed_kbytes = 128;
  config.kswapd = kswapd_mode::off;
}

/// Without a machine there is no memory for the program, and no way on.
KMEM_COLD machine* give_up() noexcept {
  if (process.state.load_acquire() == machine_state::refused) {  // pairs: machine_state
    constexpr const char* text = "kmem: the preloaded allocator could not start; the program ends here\n";
    plat::write_all(2, text, __builtin_strlen(text));
    _exit(127);
  }
  return nullptr;
}

machine* serving() noexcept {
  machine* const m = serving_machine(malloc_defaults);
  return KMEM_LIKELY(m != nullptr) ? m : give_up();
}

KMEM_COLD void* out_of_memory() noexcept {
  errno = ENOMEM;
  return nullptr;
}

void* allocate(size_t size, size_t align, gfp_t gfp) noexcept {
  if (KMEM_UNLIKELY(size > largest_request)) return out_of_memory();
  machine* const m = serving();
  if (KMEM_UNLIKELY(m == nullptr)) return out_of_memory();
  if (KMEM_UNLIKELY(size == 0)) size = 1;
  // Classes are aligned to 16 bytes, but for the one of 8.
  const bool plain = size <= m->class_max_bytes && (align <= 8 || (align <= 16 && size > 8));
  void* const p = KMEM_LIKELY(plain) ? kmalloc(*m, size, gfp) : kmalloc_huge(*m, size, align, gfp);
  return KMEM_LIKELY(p != nullptr) ? p : out_of_memory();
}

void* reallocate(void* old, size_t size) noexcept {
  if (old == nullptr) return allocate(size, 1, malloc_gfp);
  machine* const m = serving();
  if (m == nullptr || size > largest_request) return out_of_memory();
  if (size == 0) {  // as the C library does: free, and no new memory
    kfree(*m, old);
    return nullptr;
  }
  void* const p = krealloc_huge(*m, old, size, malloc_gfp);
  return p != nullptr ? p : out_of_memory();
}

/// Before main: fork is not possible earlier, and registering may allocate.
__attribute__((constructor)) void install_fork_handlers() noexcept {
  if (pthread_atfork(process_fork_prepare, process_fork_parent, process_fork_child) != 0) {
    constexpr const char* text = "kmem: pthread_atfork failed: a forked child of a threaded program may hang in malloc\n";
    plat::write_all(2, text, __builtin_strlen(text));
  }
}

}  // namespace
}  // namespace kmem

extern "C" {

KMEM_EXPORT void* malloc(size_t size) noexcept { return kmem::allocate(size, 1, kmem::malloc_gfp); }

KMEM_EXPORT void free(void* p) noexcept {
  if (KMEM_UNLIKELY(p == nullptr)) return;
  kmem::machine* const m = kmem::serving();
  if (KMEM_LIKELY(m != nullptr)) kmem::kfree(*m, p);
}

KMEM_EXPORT void* calloc(size_t n, size_t size) noexcept {
  size_t total = 0;
  if (KMEM_UNLIKELY(__builtin_mul_overflow(n, size, &total))) return kmem::out_of_memory();
  return kmem::allocate(total, 1, kmem::malloc_gfp | kmem::gfp::zero);
}

KMEM_EXPORT void* realloc(void* old, size_t size) noexcept { return kmem::reallocate(old, size); }

KMEM_EXPORT void* reallocarray(void* old, size_t n, size_t size) noexcept {
  size_t total = 0;
  if (__builtin_mul_overflow(n, size, &total)) return kmem::out_of_memory();
  return kmem::reallocate(old, total);
}

KMEM_EXPORT int posix_memalign(void** result, size_t align, size_t size) noexcept {
  if (!kmem::is_power_of_two(align) || align % sizeof(void*) != 0) return EINVAL;
  const int before = errno;
  void* const p = kmem::allocate(size, align, kmem::malloc_gfp);
  errno = before;  // the result says it, not errno
  if (p == nullptr) return ENOMEM;
  *result = p;
  return 0;
}

KMEM_EXPORT void* aligned_alloc(size_t align, size_t size) noexcept {
  if (!kmem::is_power_of_two(align)) {
    errno = EINVAL;
    return nullptr;
  }
  return kmem::allocate(size, align, kmem::malloc_gfp);
}

KMEM_EXPORT void* memalign(size_t align, size_t size) noexcept {
  size_t power = 1;  // any alignment is accepted, as the C library does, and rounded up to a power of two
  while (power < align && power <= kmem::largest_request / 2) power *= 2;
  return power < align ? kmem::out_of_memory() : kmem::allocate(size, power, kmem::malloc_gfp);
}

KMEM_EXPORT void* valloc(size_t size) noexcept { return kmem::allocate(size, kmem::page_size, kmem::malloc_gfp); }

KMEM_EXPORT void* pvalloc(size_t size) noexcept {
  if (size > kmem::largest_request) return kmem::out_of_memory();
  return kmem::allocate(size == 0 ? kmem::page_size : kmem::round_up(size, kmem::page_size), kmem::page_size, kmem::malloc_gfp);
}

KMEM_EXPORT size_t malloc_usable_size(void* p) noexcept {
  if (p == nullptr) return 0;
  kmem::machine* const m = kmem::serving();
  return m != nullptr ? kmem::ksize(*m, p) : 0;
}

/// Gives what is free back to the system, all but `keep` bytes of it. Return: 1 if something was given back.
KMEM_EXPORT int malloc_trim(size_t keep) noexcept {
  kmem::machine* const m = kmem::serving();
  if (m == nullptr) return 0;
  const uint64_t free_pages = kmem::free_pages_total(*m), kept = keep >> kmem::page_shift;
  if (free_pages <= kept) return 0;
  (void)kmem::drain_caches(*m, true);
  (void)kmem::drain_cpu_pages(*m, true);
  return kmem::give_back(*m, free_pages - kept, true) != 0 ? 1 : 0;
}

}  // extern "C"
