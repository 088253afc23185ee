// Locks of the linux headers: spin locks, readers' and writers' locks, mutexes, semaphores.
//
// States.   Spin lock: the word of kmem::spinlock, and the thread that holds it. Readers and writers: the number of readers, or ~0. Mutex:
//           0 free, 1 held, 2 held and somebody may wait; and the thread. Semaphore: how often down() goes through.
// Contexts. Spin locks and readers' and writers' locks: any; who holds one is in atomic context. Mutexes and down(): process context.
// Ordering. pairs: linux_rwlock, linux_mutex, linux_semaphore - giving back releases, taking acquires.
// Kernel.   A thread that takes a lock that it holds would wait for itself for ever: reported, and the end of the process. Waiters of a
//           readers' and writers' lock spin and yield; readers go before a writer that waits.
// Tests.    tests/linux/
#include "face_linux/face_linux.hpp"

using namespace kmem;

namespace {

constexpr uint32_t written = ~uint32_t{0};
constexpr uint64_t recheck_ns = 1'000'000'000;

spinlock& cxx(kmem_linux_spinlock* lock) noexcept {
  static_assert(sizeof(spinlock) == sizeof lock->word);
  return reinterpret_cast<spinlock&>(lock->word);
}

const void* owner_of(const kmem_linux_spinlock* lock) noexcept { return __atomic_load_n(&lock->owner, __ATOMIC_RELAXED); }
void set_owner(kmem_linux_spinlock* lock, const void* owner) noexcept { __atomic_store_n(&lock->owner, owner, __ATOMIC_RELAXED); }
const void* owner_of(const kmem_linux_mutex* mutex) noexcept { return __atomic_load_n(&mutex->owner, __ATOMIC_RELAXED); }
void set_owner(kmem_linux_mutex* mutex, const void* owner) noexcept { __atomic_store_n(&mutex->owner, owner, __ATOMIC_RELAXED); }

KMEM_COLD void report_lock(const char* what, const void* lock, const char* file, int line) noexcept {
  char buffer[300], name[16];
  plat::thread_name(name, sizeof name);
  text_writer text(buffer, sizeof buffer);
  text.str("BUG: ").str(what).str(" on CPU#").dec(static_cast<uint64_t>(plat::cpu())).str(", ").str(name).ch('/');
  text.dec(static_cast<uint64_t>(plat::thread_id())).str(" at ").str(file).ch(':').sdec(line);
  text.str("\n lock: 0x").hex(reinterpret_cast<uintptr_t>(lock));
  report_at(log_level::err, buffer, text.length());
}

[[noreturn]] KMEM_COLD void end_deadlock(const char* what, const void* lock, const char* file, int line) noexcept {
  report_lock(what, lock, file, line);
  plat::die();
}

template <class May, class Next>
bool try_change(kmem_linux_rwlock* lock, May may, Next next) noexcept {
  atomic<uint32_t>& word = as_atomic(lock->word);
  uint32_t seen = word.load_relaxed();
  while (may(seen))
    if (word.try_cmpxchg_acquire(seen, next(seen))) return true;  // pairs: linux_rwlock
  return false;
}
bool try_read(kmem_linux_rwlock* lock) noexcept {
  return try_change(lock, [](uint32_t w) { return w < written - 1; }, [](uint32_t w) { return w + 1; });
}
bool try_write(kmem_linux_rwlock* lock) noexcept {
  return try_change(lock, [](uint32_t w) { return w == 0; }, [](uint32_t) { return written; });
}

bool take_one(kmem_linux_semaphore* semaphore) noexcept {
  atomic<uint32_t>& count = as_atomic(semaphore->count);
  uint32_t seen = count.load_relaxed();
  while (seen != 0)
    if (count.try_cmpxchg_acquire(seen, seen - 1)) return true;  // pairs: linux_semaphore
  return false;
}

}  // namespace

// The count of spinlock::lock() and the clang analysis' view of it are the C program's affair.
extern "C" {

void kmem_linux_spin_lock(kmem_linux_spinlock* lock, const char* file, int line) KMEM_NO_ANALYSIS {
  if (owner_of(lock) == &current()) end_deadlock("spinlock recursion", lock, file, line);
  cxx(lock).lock();
  set_owner(lock, &current());
}

bool kmem_linux_spin_trylock(kmem_linux_spinlock* lock) KMEM_NO_ANALYSIS {
  if (!cxx(lock).try_lock()) return false;
  set_owner(lock, &current());
  return true;
}

void kmem_linux_spin_unlock(kmem_linux_spinlock* lock, const char* file, int line) KMEM_NO_ANALYSIS {
  if (as_atomic(lock->word).load_relaxed() == 0) return report_lock("spinlock already unlocked", lock, file, line);
  if (owner_of(lock) != &current()) report_lock("spinlock wrong owner", lock, file, line);
  set_owner(lock, nullptr);
  cxx(lock).unlock();
}

bool kmem_linux_spin_is_locked(const kmem_linux_spinlock* lock) { return __atomic_load_n(&lock->word, __ATOMIC_RELAXED) != 0; }
bool kmem_linux_spin_is_mine(const kmem_linux_spinlock* lock) { return owner_of(lock) == &current(); }

void kmem_linux_read_lock(kmem_linux_rwlock* lock) {
  preempt_count_add(preempt_unit);
  for (unsigned spins = 0; !try_read(lock); ++spins) plat::relax(spins);
}
bool kmem_linux_read_trylock(kmem_linux_rwlock* lock) {
  preempt_count_add(preempt_unit);
  if (try_read(lock)) return true;
  preempt_count_sub(preempt_unit);
  return false;
}
void kmem_linux_read_unlock(kmem_linux_rwlock* lock, const char* file, int line) {
  const uint32_t word = as_atomic(lock->word).load_relaxed();
  if (word == 0 || word == written) return report_lock("rwlock not held for reading", lock, file, line);
  as_atomic(lock->word).fetch_add_release(~uint32_t{0});  // pairs: linux_rwlock
  preempt_count_sub(preempt_unit);
}
void kmem_linux_write_lock(kmem_linux_rwlock* lock) {
  preempt_count_add(preempt_unit);
  for (unsigned spins = 0; !try_write(lock); ++spins) plat::relax(spins);
}
bool kmem_linux_write_trylock(kmem_linux_rwlock* lock) {
  preempt_count_add(preempt_unit);
  if (try_write(lock)) return true;
  preempt_count_sub(preempt_unit);
  return false;
}
void kmem_linux_write_unlock(kmem_linux_rwlock* lock, const char* file, int line) {
  if (as_atomic(lock->word).load_relaxed() != written) return report_lock("rwlock not held for writing", lock, file, line);
  as_atomic(lock->word).store_release(0);  // pairs: linux_rwlock
  preempt_count_sub(preempt_unit);
}

void kmem_linux_mutex_lock(kmem_linux_mutex* mutex, const char* file, int line) {
  kmem_linux_might_sleep(file, line);
  if (owner_of(mutex) == &current()) end_deadlock("mutex recursion", mutex, file, line);
  atomic<uint32_t>& word = as_atomic(mutex->word);
  uint32_t seen = 0;
  if (!word.try_cmpxchg_acquire(seen, 1))  // pairs: linux_mutex
    while (word.exchange_acquire(2) != 0) plat::futex_wait(word.word(), 2, recheck_ns);  // pairs: linux_mutex
  set_owner(mutex, &current());
}
bool kmem_linux_mutex_trylock(kmem_linux_mutex* mutex) {
  uint32_t seen = 0;
  if (!as_atomic(mutex->word).try_cmpxchg_acquire(seen, 1)) return false;  // pairs: linux_mutex
  set_owner(mutex, &current());
  return true;
}
void kmem_linux_mutex_unlock(kmem_linux_mutex* mutex, const char* file, int line) {
  if (owner_of(mutex) != &current()) return report_lock("mutex unlocked by a thread that does not hold it", mutex, file, line);
  set_owner(mutex, nullptr);
  atomic<uint32_t>& word = as_atomic(mutex->word);
  if (word.exchange_release(0) == 2) plat::futex_wake(word.word(), 1);  // pairs: linux_mutex
}
bool kmem_linux_mutex_is_locked(const kmem_linux_mutex* mutex) { return __atomic_load_n(&mutex->word, __ATOMIC_RELAXED) != 0; }

void kmem_linux_down(kmem_linux_semaphore* semaphore, const char* file, int line) {
  kmem_linux_might_sleep(file, line);
  while (!take_one(semaphore)) plat::futex_wait(as_atomic(semaphore->count).word(), 0, recheck_ns);
}
bool kmem_linux_down_trylock(kmem_linux_semaphore* semaphore) { return take_one(semaphore); }
int kmem_linux_down_interruptible(kmem_linux_semaphore* semaphore, const char* file, int line) {
  constexpr int interrupted = -4;  // -EINTR
  kmem_linux_might_sleep(file, line);
  while (!take_one(semaphore))
    if (plat::futex_wait_interruptible(as_atomic(semaphore->count).word(), 0, recheck_ns) == futex_end::interrupted) return interrupted;
  return 0;
}
void kmem_linux_up(kmem_linux_semaphore* semaphore) {
  atomic<uint32_t>& count = as_atomic(semaphore->count);
  count.fetch_add_release(1);  // pairs: linux_semaphore
  plat::futex_wake(count.word(), 1);
}

}  // extern "C"
