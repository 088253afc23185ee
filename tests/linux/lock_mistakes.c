/*
 * Mistakes with locks: reported with their place, and a wait for oneself ends the process.
 *
 * STATUS: -6
 * SAYS: BUG: spinlock already unlocked on CPU#\d+, lock_mistakes/\d+ at [^\n]*lock_mistakes\.c:@UNLOCK\n lock: 0x[0-9a-f]+
 * SAYS: BUG: spinlock wrong owner on [^\n]*lock_mistakes\.c:@OWNER\n
 * SAYS: BUG: mutex unlocked by a thread that does not hold it on [^\n]*lock_mistakes\.c:@MUTEX\n
 * SAYS: BUG: rwlock not held for reading on [^\n]*lock_mistakes\.c:@READ\n
 * SAYS: WARNING: CPU: \d+ PID: \d+ at [^\n]*lock_mistakes\.c:@HELD main\n
 * SAYS: BUG: spinlock recursion on [^\n]*lock_mistakes\.c:@RECURSION\n
 */
#include <linux/mutex.h>
#include <linux/spinlock.h>

#include "check.h"

static DEFINE_SPINLOCK(lock);
static DEFINE_MUTEX(mutex);
static DEFINE_RWLOCK(rw);

static void *hold(void *p) {
  spin_lock(&lock);
  return p;
}

int main(void) {
  unsigned long thread;
  spin_unlock(&lock); /* at UNLOCK */
  mutex_unlock(&mutex); /* at MUTEX */
  read_unlock(&rw); /* at READ */
  lockdep_assert_held(&lock); /* at HELD */
  pthread_create(&thread, NULL, hold, NULL);
  pthread_join(thread, NULL);
  preempt_disable();
  spin_unlock(&lock); /* at OWNER */
  spin_lock(&lock);
  spin_lock(&lock); /* at RECURSION */
  return 0;
}
